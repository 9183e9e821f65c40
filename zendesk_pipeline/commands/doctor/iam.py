"""Rights that cannot be tried without using them: IAM says whether the writer has them, if it may be asked."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from zendesk_pipeline.commands.doctor import s3_answers
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.verdicts import Verdict, not_visible, ok, warning
from zendesk_pipeline.settings.programs import ours

ON_BUCKET = (
    "s3:PutBucketPolicy",
    "s3:DeleteBucketPolicy",
    "s3:PutBucketAcl",
    "s3:PutLifecycleConfiguration",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutBucketPublicAccessBlock",
    "s3:DeleteBucket",
)
"""No run does any of these. https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html"""
ASSUMED = "They are assumed to be missing; the writer's policy does not have them."


def bucket_rights(context: Context) -> Verdict:
    """The writer cannot change the bucket itself."""
    if not _amazon(context.s3.meta.endpoint_url):
        return not_visible("This is another S3 than Amazon's: rights over the bucket cannot be asked for.", ASSUMED)
    sts = s3_answers.client("sts", None, context.seconds)
    iam = s3_answers.client("iam", context.admin_profile, context.seconds)
    who = s3_answers.ask(sts.get_caller_identity)
    if who.code:
        return not_visible(f"AWS does not say who the writer is ({who.code}).", ASSUMED)
    reply = s3_answers.ask(
        iam.simulate_principal_policy,
        PolicySourceArn=principal(who.content["Arn"]),
        ActionNames=list(ON_BUCKET),
        ResourceArns=[f"arn:aws:s3:::{context.settings.s3_bucket}"],
    )
    if reply.code:
        return not_visible(
            f"The writer may not ask IAM about its rights ({reply.code}), and need not.",
            f"{ASSUMED} `--admin-profile NAME` asks with an administrator's.",
        )
    return simulated_verdict(reply.content.get("EvaluationResults", []))


def _amazon(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def principal(arn: str) -> str:
    """Who IAM can be asked about: for a session its role, without the path; others as they are."""
    session = re.fullmatch(r"arn:([^:]+):sts::(\d+):assumed-role/([^/]+)/.+", arn)
    return f"arn:{session[1]}:iam::{session[2]}:role/{session[3]}" if session else arn


def simulated_verdict(results: Sequence[Mapping[str, Any]]) -> Verdict:
    """`results` are the answers of SimulatePrincipalPolicy, one for each action."""
    wide = [str(each["EvalActionName"]) for each in results if each.get("EvalDecision") == "allowed"]
    if wide:
        return warning(
            f"IAM says that the writer may do more than it needs: {', '.join(wide)}.",
            f"Give it its policy and no other (`{ours('iam-policy writer')}` prints it).",
        )
    return ok("IAM says that the writer cannot change the bucket's policy, rules and versions.")
