"""The bucket: there, in the client's region, closed, encrypted, versioned, and with no rule that forgets ledgers."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from zendesk_pipeline.commands.doctor import replies
from zendesk_pipeline.commands.doctor.clocks import clock_verdict
from zendesk_pipeline.commands.doctor.patient import Patient
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, not_visible, ok, together, warning
from zendesk_pipeline.delivery import account_marker
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.settings.environment import Settings, wire_host
from zendesk_pipeline.settings.programs import ours

ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
"""Storage classes whose objects cannot be read at once."""
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

Rule = Mapping[str, Any]


# What the writer sees


def exists(patient: Patient) -> Verdict:
    """S3 can be reached, takes the AWS credentials, and has the bucket."""
    name, place = patient.settings.s3_bucket, patient.settings.state_prefix
    reply = replies.ask(patient.s3.list_objects_v2, Bucket=name, Prefix=place, MaxKeys=1)
    if reply.denied and patient.head.status == HTTPStatus.NOT_FOUND:
        reply = replies.Reply(status=patient.head.status, code="NoSuchBucket")
    return exists_verdict(name, reply)


def exists_verdict(name: str, reply: replies.Reply) -> Verdict:
    """`reply` is the answer to a listing of the state prefix."""
    if not reply.code:
        return ok(f"s3://{name} is there.")
    if reply.denied:
        return not_visible(
            f"S3 answers AccessDenied: s3://{name} is there and closed to this credential, or somebody else's.",
            "The rights below tell; S3_BUCKET may have a slip.",
        )
    if reply.code == "NoSuchBucket":
        return failed(f"s3://{name} does not exist.", "Create it (docs/aws.md#the-bucket), or mend S3_BUCKET.")
    return failed(
        f"S3 answers {reply.code} to a listing of s3://{name}: {reply.remedy}.",
        "Check S3_BUCKET and AWS_ENDPOINT_URL_S3.",
    )


def region(patient: Patient) -> Verdict:
    """The client's region is the bucket's."""
    return region_verdict(patient.head.headers.get("x-amz-bucket-region"), patient.s3.meta.region_name)


def region_verdict(theirs: str | None, ours: str) -> Verdict:
    """`theirs` is what S3 names, `ours` the client's."""
    if theirs is None:
        return not_visible("This store does not say which region the bucket is in.", "")
    if theirs != ours:
        return warning(
            f"The bucket is in {theirs}, and the client asks in {ours}.",
            f"Set AWS_DEFAULT_REGION={theirs}: each run would find out by being sent on, where that is possible at"
            " all.",
        )
    return ok(f"The bucket is in {theirs}, as the client expects.")


def clock(patient: Patient) -> Verdict:
    """S3's clock against this machine's: S3 refuses signatures that are a quarter of an hour off."""
    reply = replies.ask(patient.s3.head_bucket, Bucket=patient.settings.s3_bucket)
    return clock_verdict("S3's", reply.headers.get("date"), patient.clock.now())


def account(patient: Patient) -> Verdict:
    """The prefixes hold records of no other account."""
    chosen = patient.settings
    layout = Layout(feed=chosen.s3_prefix, state=chosen.state_prefix, quarantine=chosen.quarantine_prefix)
    reply = replies.ask(patient.s3.get_object, Bucket=chosen.s3_bucket, Key=layout.account)
    if reply.denied:
        return not_visible(f"S3 does not say whether there is {layout.account}.", "The rights below tell why.")
    if reply.code and reply.code != "NoSuchKey":
        return failed(f"S3 answers {reply.code} to a look at {layout.account}: {reply.remedy}.", "")
    body = None if reply.code else reply.content["Body"]
    return account_verdict(f"s3://{chosen.s3_bucket}/{layout.account}", body, wire_host(chosen.zendesk_base_url))


def account_verdict(place: str, body: bytes | None, ours: str) -> Verdict:
    """`body` is what the marker holds, None where there is none; `ours` the host of this account."""
    if body is None:
        return ok(f"The prefixes are nobody's yet: the first run notes {ours}.")
    try:
        theirs = account_marker.decode(body)
    except ValueError:
        return failed(f"{place} does not say whose records these prefixes hold.", "Delete it: a run writes it anew.")
    if theirs != ours:
        return failed(account_marker.refusal(place, theirs, ours), "")
    return ok(f"The prefixes hold records of {ours} alone.")


# What an administrator sees


@dataclass(frozen=True, slots=True)
class Configuration:
    """A part of the bucket's configuration: how it is asked for, and what S3 says where it was never set."""

    operation: str
    """boto3's method; with dashes, that of the AWS command line."""
    unset: str
    """The error's name; empty where S3 answers even so."""


PUBLIC_ACCESS = Configuration("get_public_access_block", "NoSuchPublicAccessBlockConfiguration")
ENCRYPTION = Configuration("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError")
VERSIONING = Configuration("get_bucket_versioning", "")
OBJECT_LOCK = Configuration("get_object_lock_configuration", "ObjectLockConfigurationNotFoundError")
LIFECYCLE = Configuration("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration")


def _configuration(patient: Patient, part: Configuration) -> Mapping[str, Any] | Verdict:
    """What S3 says, empty where nothing is set; or why it cannot be seen."""
    name = patient.settings.s3_bucket
    reply = replies.ask(getattr(patient.admin, part.operation), Bucket=name)
    if not reply.code or reply.code == part.unset:
        return reply.content if not reply.code else {}
    if reply.code in replies.NOT_THERE:
        return not_visible(f"This store has no such configuration ({reply.code}).", "Ask whoever runs it.")
    if not reply.denied:
        return failed(f"S3 answers {reply.code} to {part.operation}.", "Look at the bucket in the AWS console.")
    asked = f"aws s3api {part.operation.replace('_', '-')} --bucket {shlex.quote(name)}"
    if patient.admin_profile:
        return not_visible(f"The profile {patient.admin_profile} may not see it either.", f"Try `{asked}` by another.")
    return not_visible(
        "It is not visible with the writer's rights.",
        f"As an administrator: `{ours('doctor --admin-profile NAME')}`, or `{asked}`.",
    )


def public_access(patient: Patient) -> Verdict:
    """Nothing can make the bucket public."""
    found = _configuration(patient, PUBLIC_ACCESS)
    return found if isinstance(found, Verdict) else public_access_verdict(found)


def public_access_verdict(found: Mapping[str, Any]) -> Verdict:
    """`found` is the answer of GetPublicAccessBlock, empty where nothing is set."""
    open_to = [name for name in BLOCKS if not found.get("PublicAccessBlockConfiguration", {}).get(name)]
    if open_to:
        return warning(
            f"The bucket itself does not block public access ({', '.join(open_to)} off).",
            "Block all four, unless the AWS account does it for every bucket.",
        )
    return ok("Public access is blocked.")


def encryption(patient: Patient) -> Verdict:
    """How the bucket encrypts by itself, and whether S3_SSE fits."""
    found = _configuration(patient, ENCRYPTION)
    return found if isinstance(found, Verdict) else encryption_verdict(found, patient.settings)


def encryption_verdict(found: Mapping[str, Any], chosen: Settings) -> Verdict:
    """`found` is the answer of GetBucketEncryption, empty where nothing is set."""
    rules = found.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    default: dict[str, str] = rules[0].get("ApplyServerSideEncryptionByDefault", {}) if rules else {}
    kind, key = default.get("SSEAlgorithm"), default.get("KMSMasterKeyID")
    if kind is None and chosen.s3_sse is None:
        return warning("The bucket names no default encryption, and S3_SSE is not set.", "Set one of them.")
    if kind == "aws:kms" and chosen.s3_sse == "AES256":
        return warning(
            "The bucket encrypts with a KMS key, and S3_SSE=AES256 keeps our objects from it.",
            "Take S3_SSE away, so that the bucket's default counts.",
        )
    if kind == "aws:kms" and key and chosen.s3_kms_key_id and not _same_key(key, chosen.s3_kms_key_id):
        return warning(
            "S3_KMS_KEY_ID names another key than the bucket's default.",
            "If that is meant, the reader needs kms:Decrypt on that one; else take S3_KMS_KEY_ID and S3_SSE away.",
        )
    ours = f"; each write asks for {chosen.s3_sse}" if chosen.s3_sse else ""
    return ok(f"The bucket's default is {kind or 'not set'}{ours}.")


def _same_key(one: str, other: str) -> bool:
    """By the id, where one of them is an ARN."""
    return one.rpartition("/")[2] == other.rpartition("/")[2]


def versioning(patient: Patient) -> Verdict:
    """A damaged ledger can be restored."""
    found = _configuration(patient, VERSIONING)
    return found if isinstance(found, Verdict) else versioning_verdict(found)


def versioning_verdict(found: Mapping[str, Any]) -> Verdict:
    """`found` is the answer of GetBucketVersioning."""
    if found.get("Status") == "Enabled":
        return ok("Versioning is on.")
    return warning(
        f"Versioning is {'suspended' if found.get('Status') else 'off'}: a damaged ledger could not be restored.",
        "Switch it on; the collector replaces nothing but ledgers, so it costs little.",
    )


def object_lock(patient: Patient) -> Verdict:
    """What is locked in the bucket by itself."""
    found = _configuration(patient, OBJECT_LOCK)
    return found if isinstance(found, Verdict) else object_lock_verdict(found)


def object_lock_verdict(found: Mapping[str, Any]) -> Verdict:
    """`found` is the answer of GetObjectLockConfiguration, empty where nothing is set."""
    kept: Mapping[str, Any] = found.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
    if not kept:
        return ok("Nothing is locked by itself.")
    period = f"{kept['Days']} days" if kept.get("Days") else f"{kept.get('Years')} years"
    return ok(
        f"Object Lock keeps each object, and each version of a ledger, for {period} ({kept.get('Mode')}). The collector"
        " writes as that wants; a feed that deletes and lifecycle rules only hide what they take away until then."
    )


def lifecycle(patient: Patient) -> Verdict:
    """No rule forgets ledgers, and none takes objects of the feed from under SecOps."""
    found = _configuration(patient, LIFECYCLE)
    if isinstance(found, Verdict):
        return found
    return lifecycle_verdict(found.get("Rules", []), patient.settings, patient.feed_days)


def lifecycle_verdict(rules: Sequence[Rule], chosen: Settings, feed_days: int) -> Verdict:
    """`feed_days` is the feed's maximum file age."""
    verdicts = [
        verdict
        for rule in rules
        if rule.get("Status") == "Enabled" and not _by_tag(rule)
        for verdict in (_on_state(rule, chosen), _on_feed(rule, chosen, feed_days))
        if verdict
    ]
    return together(verdicts) if verdicts else ok(f"{len(rules)} rules, none of which forgets what is needed.")


def _on_state(rule: Rule, chosen: Settings) -> Verdict | None:
    if not _touches(rule, chosen.state_prefix):
        return None
    if _expires(rule):
        return failed(
            f"Rule {_name(rule)} makes ledgers expire (STATE_PREFIX={chosen.state_prefix}): what they forget is"
            " delivered again.",
            "Narrow the rule to another prefix, or delete it.",
        )
    if _archives(rule):
        return failed(
            f"Rule {_name(rule)} moves ledgers into an archive, where they cannot be read.",
            "Narrow the rule to another prefix, or delete it.",
        )
    return None


def _on_feed(rule: Rule, chosen: Settings, feed_days: int) -> Verdict | None:
    if not _touches(rule, chosen.s3_prefix):
        return None
    expiration = rule.get("Expiration", {})
    days = expiration.get("Days")
    if "Date" in expiration or (days is not None and days < feed_days):
        when = f"after {days} days" if days is not None else "by a date"
        return warning(
            f"Rule {_name(rule)} makes objects of the feed expire {when}; the feed's maximum file age is"
            f" {feed_days} days.",
            "A feed that stands still for longer than the rule waits loses what it has not read. If that is meant, set"
            " the feed's maximum file age to the rule's, and say so here with --feed-max-age.",
        )
    if _archives(rule):
        return warning(
            f"Rule {_name(rule)} moves objects of the feed into an archive, where SecOps cannot read them.",
            "Let them expire instead.",
        )
    return None


def _touches(rule: Rule, prefix: str) -> bool:
    """Whether it concerns anything under the prefix."""
    under = _prefix(rule)
    return under.startswith(prefix) or prefix.startswith(under)


def _prefix(rule: Rule) -> str:
    chosen = rule.get("Filter", {})
    return str(chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or rule.get("Prefix") or "")


def _by_tag(rule: Rule) -> bool:
    """Objects of ours have no tags."""
    chosen = rule.get("Filter", {})
    return bool(chosen.get("Tag") or chosen.get("And", {}).get("Tags"))


def _expires(rule: Rule) -> bool:
    """Markers of deletion and old versions may go."""
    return bool({"Days", "Date"} & rule.get("Expiration", {}).keys())


def _archives(rule: Rule) -> bool:
    return any(each.get("StorageClass") in ARCHIVES for each in rule.get("Transitions", []))


def _name(rule: Rule) -> str:
    return str(rule.get("ID") or "without a name")
