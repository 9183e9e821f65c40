"""The feed that reads the feed prefix, Amazon S3 V2 or SQS V2: its description, and what to know before it is made.

Fields: https://docs.cloud.google.com/chronicle/docs/reference/rest/v1beta/projects.locations.instances.feeds
What they mean: https://docs.cloud.google.com/chronicle/docs/administration/feed-management
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from zendesk_pipeline.secops.instance import Instance
from zendesk_pipeline.settings.environment import Settings, not_set
from zendesk_pipeline.settings.programs import ours

SOURCE_TYPE, QUEUE_SOURCE_TYPE = "AMAZON_S3_V2", "AMAZON_SQS_V2"
SETTINGS = {SOURCE_TYPE: "amazonS3V2Settings", QUEUE_SOURCE_TYPE: "amazonSqsV2Settings"}
"""The field of a feed's description that has the settings of its source."""
KEY_FIELDS = {SOURCE_TYPE: "accessKeySecretAuth", QUEUE_SOURCE_TYPE: "sqsV2AccessKeySecretAuth"}
"""The field of an access key in them."""
LONGEST_AGE = 180
"""Days: the default of a feed's maximum file age, and the most."""
SECRET_FIELD = "secretAccessKey"  # noqa: S105  # the name of a field, no secret

Deletion = Literal["NEVER", "ON_SUCCESS"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """The reader's key."""

    key_id: str
    secret: str = field(repr=False)

    def body(self, source_type: str) -> dict[str, Any]:
        """As the settings of a feed's source take it."""
        return {KEY_FIELDS[source_type]: {"accessKeyId": self.key_id, SECRET_FIELD: self.secret}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role that SecOps takes by web identity, as `subject_id`."""

    arn: str
    subject_id: str

    def body(self, _source_type: str) -> dict[str, Any]:
        """As the settings of a feed's source take it, of either type."""
        return {"awsIamRoleAuth": {"awsIamRoleArn": self.arn, "subjectId": self.subject_id}}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPlan:
    """A feed that is to be made."""

    display_name: str
    uri: str
    deletion: Deletion
    max_age_days: int
    namespace: str
    labels: Mapping[str, str]
    reader: AccessKey | Role
    queue: str = ""
    """The ARN of the queue that is told of new objects; empty for a feed that looks by itself."""

    @property
    def source_type(self) -> str:
        return QUEUE_SOURCE_TYPE if self.queue else SOURCE_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyThere:
    """Objects under the feed prefix before a feed is made that are young enough for it."""

    objects: int
    whole: bool
    """Whether all were looked at."""


class Failure(msgspec.Struct, frozen=True, rename="camel"):
    """Why a feed turned to FAILED."""

    error_code: str = ""
    http_error_code: int = 0
    error_cause: str = ""
    error_action: str = ""


class Feed(msgspec.Struct, frozen=True, rename="camel"):
    """A feed of any kind, as SecOps describes it."""

    name: str
    display_name: str = ""
    details: dict[str, Any] = {}
    state: str = "STATE_UNSPECIFIED"
    read_only: bool = False
    """Whether it reads no more: the instance has moved to another project of Google's."""
    failure_msg: str = ""
    failure_details: Failure = Failure()
    last_feed_initiation_time: str = ""

    @property
    def feed_id(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def source(self) -> dict[str, Any]:
        """The settings of a source in S3, whichever of its types; empty for any other source."""
        found: list[dict[str, Any]] = [
            settings for settings in self.details.values() if isinstance(settings, dict) and "s3Uri" in settings
        ]
        return found[0] if found else {}

    @property
    def uri(self) -> str:
        return str(self.source.get("s3Uri", ""))


def uri_of(chosen: Settings) -> str:
    """What the feed reads; raises SettingsError while there is no bucket."""
    if not chosen.s3_bucket:
        raise not_set("S3_BUCKET", "the bucket that the feed reads")
    return f"s3://{chosen.s3_bucket}/{chosen.s3_prefix}"


def body_of(plan: FeedPlan, instance: Instance) -> dict[str, Any]:
    """What is sent to make the feed. It holds the secret access key, if there is one: see `hidden`."""
    return {
        "displayName": plan.display_name,
        "details": {
            "feedSourceType": plan.source_type,
            "logType": instance.log_type,
            "assetNamespace": plan.namespace,
            "labels": dict(plan.labels),
            SETTINGS[plan.source_type]: {
                **({"queue": plan.queue} if plan.queue else {}),
                "s3Uri": plan.uri,
                "sourceDeletionOption": plan.deletion,
                "maxLookbackDays": plan.max_age_days,
                "authentication": plan.reader.body(plan.source_type),
            },
        },
    }


def hidden(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the secret access key."""
    return {
        key: "***" if key == SECRET_FIELD else hidden(value) if isinstance(value, Mapping) else value  # pyright: ignore[reportUnknownArgumentType]  # JSON
        for key, value in body.items()
    }


def bucket_of(uri: str) -> str:
    """The bucket of `s3://bucket/prefix`; empty for anything else."""
    return uri.removeprefix("s3://").partition("/")[0] if uri.startswith("s3://") else ""


def overlapping(uri: str, feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds that read an object below `uri`, or would if they were enabled.

    S3 takes a prefix as text, so that `s3://bucket/zen` reads `zendesk/` as well.
    """
    bucket, prefix = bucket_of(uri), prefix_of(uri)
    there = [feed for feed in feeds if bucket_of(feed.uri) == bucket]
    return [feed for feed in there if prefix_of(feed.uri).startswith(prefix) or prefix.startswith(prefix_of(feed.uri))]


def prefix_of(uri: str) -> str:
    """The prefix of `s3://bucket/prefix`."""
    return uri.removeprefix("s3://").partition("/")[2]


def choices_to_confirm(plan: FeedPlan, retention_days: int | None) -> Iterator[str]:
    """What somebody should have read about the plan itself before the feed is made, a sentence or two each."""
    if plan.deletion == "ON_SUCCESS":
        yield (
            "The feed deletes what it has read. Ledgers remember what was delivered, so nothing comes a second time"
            " because of that, with one exception: a batch that a crash left without its ledger, and that the feed"
            " deletes before its window is collected again, is delivered again. The reader needs s3:DeleteObject"
            f" ({ours('iam-policy reader --delete-after-transfer')})."
        )
    if plan.max_age_days < min(retention_days or LONGEST_AGE, LONGEST_AGE):
        kept = (
            f"for {retention_days} days" if retention_days else "for ever, as far as is known here (--retention-days)"
        )
        yield (
            f"Objects are kept {kept} and read for {plan.max_age_days} days: what the feed has not read"
            f" {plan.max_age_days} days after its delivery, because it was disabled or failed, is never read, although"
            " it is still stored."
        )


def already_read(plan: FeedPlan, there: AlreadyThere) -> Iterator[str]:
    """What the new feed makes of the objects that are there already."""
    if not there.objects:
        return
    many = f"{'' if there.whole else 'More than '}{there.objects:,} object{'' if there.objects == 1 else 's'}"
    if plan.queue:
        yield (
            f"{many} under {plan.uri} of the last {plan.max_age_days} days: the queue may never have told of them, and"
            " the new feed then never reads them. Let a feed without a queue read them first (docs/feed.md)."
        )
    else:
        yield (
            f"{many} under {plan.uri} of the last {plan.max_age_days} days: the new feed reads them. Whatever a feed"
            " has read of them before arrives in SecOps twice, also where that feed is deleted, or stayed behind when"
            " the instance moved."
        )


def second_feed_to_confirm(plan: FeedPlan, feeds: Sequence[Feed]) -> Iterator[str]:
    """What a new feed does beside those that are there."""
    for feed in overlapping(plan.uri, feeds):
        if plan.queue:
            yield (
                f"{_reading(feed, plan.uri)} Whether an object that both are told of arrives in SecOps a second time is"
                " documented nowhere: assume that it does, and disable that feed once it has read what is there."
            )
            continue
        yield (
            f"{_reading(feed, plan.uri)} A feed does not know what another one has read: the new one reads all that"
            f" is stored under {plan.uri} and is younger than {plan.max_age_days} days, and what was read before"
            " arrives in SecOps a second time."
        )


def both_feeds_to_confirm(chosen: Feed, feeds: Sequence[Feed]) -> Iterator[str]:
    """What enabling a feed does beside others that are enabled."""
    others = [feed for feed in feeds if feed.name != chosen.name and feed.state != "INACTIVE"]
    for feed in overlapping(chosen.uri, others):
        yield f"{_reading(feed, chosen.uri)} With both enabled, what both read arrives in SecOps twice."


def _reading(feed: Feed, uri: str) -> str:
    place = "the same place" if feed.uri == uri else f"{feed.uri}, which overlaps"
    return f"The feed {feed.display_name!r} ({feed.feed_id}, {feed.state}) reads {place}."
