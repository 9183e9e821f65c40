"""Rights that cannot be tried without using them: IAM is asked whether the writer has them, where that is allowed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from zendesk_pipeline.commands.doctor import replies
from zendesk_pipeline.commands.doctor.patient import Patient
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
"""Nothing of this is ever done by a run. https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html"""
ASSUMED = "They are assumed to be missing; the writer's policy does not have them."


def bucket_rights(patient: Patient) -> Verdict:
    """The writer has no say in the bucket."""
    if not _amazon(patient.s3.meta.endpoint_url):
        return not_visible("This is another S3 than Amazon's: rights over the bucket cannot be asked for.", ASSUMED)
    sts = replies.service_client("sts", None, patient.seconds)
    iam = replies.service_client("iam", patient.admin_profile, patient.seconds)
    who = replies.ask(sts.get_caller_identity)
    if who.code:
        return not_visible(f"AWS does not say who the writer is ({who.code}).", ASSUMED)
    reply = replies.ask(
        iam.simulate_principal_policy,
        PolicySourceArn=principal(who.content["Arn"]),
        ActionNames=list(ON_BUCKET),
        ResourceArns=[f"arn:aws:s3:::{patient.settings.s3_bucket}"],
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
    """Whom IAM can be asked about: the role, without its path, of a session; others as they are."""
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
    return ok("IAM says that the writer has no say in the bucket's policy, rules and versions.")
