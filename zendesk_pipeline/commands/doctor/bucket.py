"""The bucket: there, in the client's region, closed, encrypted, versioned, and without a rule that deletes ledgers."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from zendesk_pipeline.commands.doctor import s3_answers
from zendesk_pipeline.commands.doctor.clock_skew import clock_verdict
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.s3_answers import S3Answer
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, not_visible, ok, together, warning
from zendesk_pipeline.delivery import account_marker
from zendesk_pipeline.model.errors import DeniedError
from zendesk_pipeline.settings.addresses import wire_host
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.programs import ours

ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
"""Storage classes whose objects cannot be read at once."""
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

Configured = Mapping[str, Any]
"""boto3's form of a part of the bucket's configuration; empty where nothing is set."""


# What the writer sees


def exists(context: Context) -> Verdict:
    """S3 can be reached, takes the AWS credentials, and has the bucket."""
    name, prefix = context.settings.s3_bucket, context.settings.state_prefix
    answer = s3_answers.ask(context.s3.list_objects_v2, Bucket=name, Prefix=prefix, MaxKeys=1)
    if answer.denied and context.head.status == HTTPStatus.NOT_FOUND:
        answer = S3Answer(status=context.head.status, code="NoSuchBucket")
    return exists_verdict(name, answer)


def exists_verdict(name: str, answer: S3Answer) -> Verdict:
    """`answer` is that to a listing of the state prefix."""
    if not answer.code:
        return ok(f"s3://{name} is there.")
    if answer.denied:
        return not_visible(
            f"S3 answers AccessDenied: s3://{name} is there and closed to this credential, or somebody else's.",
            "The checks of rights below say which; S3_BUCKET may have a typing error.",
        )
    if answer.code == "NoSuchBucket":
        return failed(f"s3://{name} does not exist.", "Create it (docs/aws.md#the-bucket), or correct S3_BUCKET.")
    return failed(
        f"S3 answers {answer.code} to a listing of s3://{name}: {answer.remedy}.",
        "Check S3_BUCKET and AWS_ENDPOINT_URL_S3.",
    )


def region(context: Context) -> Verdict:
    """The client's region is the bucket's."""
    return region_verdict(context.head.headers.get("x-amz-bucket-region"), context.s3.meta.region_name)


def region_verdict(theirs: str | None, ours: str) -> Verdict:
    """`theirs` is what S3 names, `ours` the client's."""
    if theirs is None:
        return not_visible("This store does not say which region the bucket is in.", "")
    if theirs != ours:
        return warning(
            f"The bucket is in {theirs}, and the client asks in {ours}.",
            f"Set AWS_DEFAULT_REGION={theirs}: otherwise each run is redirected, where that is possible at all.",
        )
    return ok(f"The bucket is in {theirs}, as the client expects.")


def clock(context: Context) -> Verdict:
    """S3's clock against this machine's: S3 refuses signatures that are a quarter of an hour off."""
    answer = s3_answers.ask(context.s3.head_bucket, Bucket=context.settings.s3_bucket)
    return clock_verdict("S3's", answer.headers.get("date"), context.clock.now())


def account(context: Context) -> Verdict:
    """The prefixes hold records of no other account; raises what a run would."""
    ours = wire_host(context.settings.zendesk_base_url)
    try:
        marked = account_marker.check(context.store, context.layout, ours)
    except DeniedError:
        return not_visible(f"S3 does not say whether there is {context.layout.account}.", "See s3_read and s3_list.")
    if marked:
        return ok(f"The prefixes hold records of {ours} alone.")
    return ok(f"The prefixes are nobody's yet: the first run notes {ours}.")


# What an administrator sees


@dataclass(frozen=True, slots=True)
class Configuration:
    """The check of one part of the bucket's configuration."""

    operation: str
    """boto3's method; with dashes, that of the AWS command line."""
    unset: str
    """The error's name where it was never set; empty where S3 then answers without an error."""
    judge: Callable[[Configured, Context], Verdict]

    def __call__(self, context: Context) -> Verdict:
        """The verdict on what S3 shows, or why it shows nothing."""
        name = context.settings.s3_bucket
        answer = s3_answers.ask(getattr(context.admin, self.operation), Bucket=name)
        if not answer.code or answer.code == self.unset:
            return self.judge(answer.content if not answer.code else {}, context)
        if answer.code in s3_answers.NOT_SUPPORTED:
            return not_visible(f"This store has no such configuration ({answer.code}).", "Ask whoever runs it.")
        if not answer.denied:
            return failed(f"S3 answers {answer.code} to {self.operation}.", "Look at the bucket in the AWS console.")
        asked = f"aws s3api {self.operation.replace('_', '-')} --bucket {shlex.quote(name)}"
        if context.admin_profile:
            return not_visible(
                f"The profile {context.admin_profile} may not see it either.", f"Try `{asked}` with another."
            )
        return not_visible(
            "It is not visible with the writer's rights.",
            f"As an administrator: `{ours('doctor --admin-profile NAME')}`, or `{asked}`.",
        )


def public_access_verdict(found: Configured) -> Verdict:
    """Nothing can make the bucket public."""
    open_to = [name for name in BLOCKS if not found.get("PublicAccessBlockConfiguration", {}).get(name)]
    if open_to:
        return warning(
            f"The bucket itself does not block public access ({', '.join(open_to)} off).",
            "Block all four, unless the AWS account does it for every bucket.",
        )
    return ok("Public access is blocked.")


def encryption_verdict(found: Configured, chosen: Settings) -> Verdict:
    """How the bucket encrypts by default, and whether S3_SSE and S3_KMS_KEY_ID fit."""
    rules = found.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    default: dict[str, str] = rules[0].get("ApplyServerSideEncryptionByDefault", {}) if rules else {}
    kind, key = default.get("SSEAlgorithm"), default.get("KMSMasterKeyID")
    if kind is None and chosen.s3_sse is None:
        return warning("The bucket names no default encryption, and S3_SSE is not set.", "Set one of them.")
    if kind == "aws:kms" and chosen.s3_sse == "AES256":
        return warning(
            "The bucket encrypts with a KMS key, and S3_SSE=AES256 overrides it for our objects.",
            "Remove S3_SSE, so that the bucket's default counts.",
        )
    if kind == "aws:kms" and key and chosen.s3_kms_key_id and not _same_key(key, chosen.s3_kms_key_id):
        return warning(
            "S3_KMS_KEY_ID names another key than the bucket's default.",
            "If that is meant, the reader needs kms:Decrypt on that one; else remove S3_KMS_KEY_ID and S3_SSE.",
        )
    asked = f"; each write asks for {chosen.s3_sse}" if chosen.s3_sse else ""
    return ok(f"The bucket's default is {kind or 'not set'}{asked}.")


def _same_key(one: str, other: str) -> bool:
    """By the id, where one of them is an ARN."""
    return one.rpartition("/")[2] == other.rpartition("/")[2]


def versioning_verdict(found: Configured) -> Verdict:
    """A damaged ledger can be restored."""
    if found.get("Status") == "Enabled":
        return ok("Versioning is on.")
    return warning(
        f"Versioning is {'suspended' if found.get('Status') else 'off'}: a damaged ledger could not be restored.",
        "Switch it on; the collector replaces nothing but ledgers, so it costs little.",
    )


def object_lock_verdict(found: Configured) -> Verdict:
    """What the bucket locks by default."""
    kept: Configured = found.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    if not kept:
        return ok("Nothing is locked by itself.")
    period = f"{kept['Days']} days" if kept.get("Days") else f"{kept.get('Years')} years"
    return ok(
        f"Object Lock keeps each object, and each version of a ledger, for {period} ({kept.get('Mode')}). The collector"
        " writes as that requires; a feed that deletes and lifecycle rules only hide what they delete until then."
    )


def lifecycle_verdict(rules: Sequence[Configured], chosen: Settings, feed_days: int) -> Verdict:
    """No rule deletes ledgers, or objects before the feed has read them; `feed_days` is its maximum file age."""
    verdicts = [each for rule in rules if rule.get("Status") == "Enabled" for each in _of_rule(rule, chosen, feed_days)]
    return together(verdicts) if verdicts else ok(f"{len(rules)} rules, none of which deletes what is needed.")


def _of_rule(rule: Configured, chosen: Settings, feed_days: int) -> Iterator[Verdict]:
    """What is wrong with one rule."""
    where = {**rule.get("Filter", {}), **rule.get("Filter", {}).get("And", {})}
    if where.get("Tag") or where.get("Tags"):
        return  # no object of ours has tags
    prefix = str(where.get("Prefix") or rule.get("Prefix") or "")
    name, expiration = str(rule.get("ID") or "without a name"), rule.get("Expiration", {})
    days = expiration.get("Days")
    by_date = "Date" in expiration
    archives = any(each.get("StorageClass") in ARCHIVES for each in rule.get("Transitions", []))
    narrow = "Narrow the rule to another prefix, or delete it."
    if _overlap(prefix, chosen.state_prefix):
        if by_date or days is not None:
            yield failed(
                f"Rule {name} makes ledgers expire (STATE_PREFIX={chosen.state_prefix}): records of deleted ledgers are"
                " delivered again.",
                narrow,
            )
        elif archives:
            yield failed(f"Rule {name} moves ledgers into an archive, where they cannot be read.", narrow)
    if _overlap(prefix, chosen.s3_prefix):
        if by_date or (days is not None and days < feed_days):
            when = f"after {days} days" if days is not None else "by a date"
            yield warning(
                f"Rule {name} makes objects of the feed expire {when}; the feed's maximum file age is"
                f" {feed_days} days.",
                "If the feed stops for longer than the rule waits, what it has not read is lost. If that is meant, set"
                " the feed's maximum file age to the rule's, and say so here with --feed-max-age.",
            )
        elif archives:
            yield warning(
                f"Rule {name} moves objects of the feed into an archive, where SecOps cannot read them.",
                "Let them expire instead.",
            )


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


public_access = Configuration(
    "get_public_access_block",
    "NoSuchPublicAccessBlockConfiguration",
    lambda found, _: public_access_verdict(found),
)
encryption = Configuration(
    "get_bucket_encryption",
    "ServerSideEncryptionConfigurationNotFoundError",
    lambda found, context: encryption_verdict(found, context.settings),
)
versioning = Configuration("get_bucket_versioning", "", lambda found, _: versioning_verdict(found))
object_lock = Configuration(
    "get_object_lock_configuration",
    "ObjectLockConfigurationNotFoundError",
    lambda found, _: object_lock_verdict(found),
)
lifecycle = Configuration(
    "get_bucket_lifecycle_configuration",
    "NoSuchLifecycleConfiguration",
    lambda found, context: lifecycle_verdict(found.get("Rules", []), context.settings, context.feed_days),
)
