"""Whether SecOps reads what is delivered, by what it says of its feeds. Pure.

States and failures: https://docs.cloud.google.com/chronicle/docs/reference/rest/v1/projects.locations.instances.feeds
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from zendesk_pipeline.model.windows import DAY, HOUR
from zendesk_pipeline.secops.feed_model import Feed, bucket_of, overlapping, prefix_of
from zendesk_pipeline.secops.instance import LOG_TYPE
from zendesk_pipeline.settings.programs import ours
from zendesk_pipeline.zendesk.error_answers import quote

QUEUE_ALONE = "AMAZON_SQS"
"""A feed of this type names a queue and no bucket."""
FIRST_VERSION = {"AMAZON_S3": "Amazon S3", QUEUE_ALONE: "Amazon SQS"}
"""Types of feeds that Google ends: https://docs.cloud.google.com/chronicle/docs/deprecations."""
FIRST_VERSION_ENDS = date(2027, 3, 15)
DENIED = frozenset({"ACCESS_DENIED", "PERMISSION_DENIED"})
AGES_SOON = 12 * HOUR
"""Seconds before an object that waits is too old for the feed."""
LONG_LINE = "MaxLogLineSize4MBExceeded"
"""The feed's own word for a log line of more than 4 MB; none of ours is so long."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a feed."""

    what: str
    remedy: str
    stops: bool = False
    """Whether records do not get into SecOps because of it."""

    @property
    def text(self) -> str:
        return f"{self.what}: {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Objects under the feed prefix that were written after the feed's last transfer."""

    objects: int
    oldest: float | None
    """Since when the oldest of them waits, seconds since the epoch."""


def reading(uri: str, feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds that read all under `uri` as logs of Zendesk, enabled or not."""
    return [feed for feed in of_the_type(feeds) if _reads_all(feed, uri)]


def of_the_type(feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds that read logs of Zendesk, wherever from."""
    return [feed for feed in feeds if _log_type(feed) == LOG_TYPE]


def _reads_all(feed: Feed, uri: str) -> bool:
    prefix, its_prefix = prefix_of(uri), prefix_of(feed.uri)
    if bucket_of(feed.uri) != bucket_of(uri) or not prefix.startswith(its_prefix):
        return False
    included: list[str] = feed.source.get("includePrefixes") or [""]
    # whether they begin at the bucket or at the feed's prefix is not documented
    return any(prefix.startswith(each) or prefix[len(its_prefix) :].startswith(each) for each in included)


def chosen(uri: str, feeds: Sequence[Feed]) -> Feed | None:
    """The feed that counts where several read all of it: one that works before one that does not."""
    stopped = {"FAILED": 1, "INACTIVE": 2}

    def works(feed: Feed) -> tuple[bool, int, str]:
        return feed.read_only, stopped.get(feed.state, 0), feed.name

    return min(reading(uri, feeds), key=works, default=None)


def failed(feed: Feed) -> bool:
    """Whether SecOps says that it has failed."""
    return feed.state == "FAILED"


def last_transfer(feed: Feed) -> float | None:
    """Seconds since the epoch of the last successful transfer, as far as SecOps says."""
    try:
        moment = datetime.fromisoformat(feed.last_feed_initiation_time)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def maximum_age(feed: Feed) -> float | None:
    """Seconds: it reads no older objects. None where it does not say, and where a queue tells it of them."""
    days = feed.source.get("maxLookbackDays")
    return None if _is_told(feed) or not isinstance(days, int) or days < 1 else days * DAY


def passed_over(feed: Feed, waited_since: float | None) -> tuple[float, float] | None:
    """Between which times objects were written that its last transfer has left out, because they were too old.

    `waited_since` is when the oldest object was written that waited for it when it was looked at before.
    """
    at, age = last_transfer(feed), maximum_age(feed)
    if waited_since is None or at is None or age is None or waited_since >= at - age:
        return None
    return waited_since, at - age


def left_out(feed: Feed, between: tuple[float, float]) -> Finding:
    """That objects were passed over."""
    first, last = map(_moment, between)
    return Finding(
        f"{_named(feed)} has not read what was delivered from {first} to {last}, because it stood still for longer than"
        f" its maximum file age, {feed.source.get('maxLookbackDays')} days",
        "send the windows delivered then again (docs/operations.md, Send records again)",
    )


def findings(
    uri: str, feeds: Sequence[Feed], since: Mapping[str, float], delivered: Delivered, *, patience: float, now: float
) -> Iterator[Finding]:
    """What is wrong with the feeds of a prefix.

    Args:
        uri: Where objects are delivered.
        feeds: All of the instance.
        since: By the feed's id, when it was first seen to have failed.
        delivered: What waits for the feed that counts (`chosen`).
        patience: Seconds that an object may wait.
        now: Seconds since the epoch.
    """
    feed = chosen(uri, feeds)
    if feed is None:
        yield from _unread(uri, feeds)
        return
    problem = _state(feed, since)
    if problem is not None:
        yield problem
    elif delivered.oldest is not None and now - delivered.oldest > patience and not _is_told(feed):
        many = f"{delivered.objects:,} object{' waits' if delivered.objects == 1 else 's wait'}"
        yield Finding(  # no error: whether that time moves on with each transfer is not documented
            f"{_named(feed)} has transferred nothing since {_moment(last_transfer(feed))}, and {many}, the oldest for"
            f" {round((now - delivered.oldest) / HOUR)} hours",
            f"look at it with {ours('feed show')}, and at its page in SecOps",
        )
    yield from _ages(feed, delivered, now)
    yield from _old_type(feed)
    yield from _second(uri, feed, feeds)


def _ages(feed: Feed, delivered: Delivered, now: float) -> Iterator[Finding]:
    """What waits becomes too old for the feed: it would pass it over as if nothing were wrong."""
    age = maximum_age(feed)
    if age is None or delivered.oldest is None or (left := delivered.oldest + age - now) > AGES_SOON:
        return
    when = f"will be in {round(left / HOUR)} hours" if left > 0 else "is already"
    yield Finding(
        f"What waits for {_named(feed)} {when} older than its maximum file age, {feed.source['maxLookbackDays']} days,"
        " and older objects it never reads",
        "raise that age in SecOps before the feed works again (docs/feed.md, When your instance moves)",
    )


def _unread(uri: str, feeds: Sequence[Feed]) -> Iterator[Finding]:
    by_queue = [feed for feed in feeds if _type(feed) == QUEUE_ALONE and _log_type(feed) == LOG_TYPE]
    for feed in by_queue:
        yield Finding(
            f"whether {_named(feed)} reads {uri} cannot be seen, because it names a queue alone",
            f"look at its page in SecOps; Google ends its type on {FIRST_VERSION_ENDS}",
        )
    if not by_queue:
        parts = overlapping(uri, feeds)
        beside = f" as a whole, and as {LOG_TYPE}; beside it are {', '.join(map(_named, parts))}" if parts else ""
        yield Finding(f"No feed reads {uri}{beside}", f"make one with {ours('feed create')}", stops=True)


def _state(feed: Feed, since: Mapping[str, float]) -> Finding | None:
    if feed.read_only:
        return Finding(
            f"{_named(feed)} is read-only and reads no more, because the instance has moved to another Google project",
            "make the feed anew (docs/feed.md, When your instance moves)",
            stops=True,
        )
    if feed.state == "INACTIVE":
        return Finding(f"{_named(feed)} is disabled", f"{ours(f'feed enable {feed.feed_id}')} enables it", stops=True)
    if failed(feed):
        said = quote((feed.failure_details.error_cause or feed.failure_msg).encode())
        seen = f"seen since {_moment(since[feed.feed_id])}" if feed.feed_id in since else ""
        more = "; ".join(filter(None, (said.rstrip("."), seen)))
        state = f"FAILED {feed.failure_details.error_code}".strip()
        return Finding(f"{_named(feed)} is {state}{f' ({more})' if more else ''}", _remedy(feed), stops=True)
    return None


def _remedy(feed: Feed) -> str:
    code = feed.failure_details.error_code
    if code in DENIED:
        return f"give the reader s3:GetObject and s3:ListBucket ({ours('iam-policy reader')} prints its policy)"
    if code == LONG_LINE:
        return "something else than the pipeline has written a line of over 4 MB. Find it under the prefix and move it"
    return quote(feed.failure_details.error_action.encode()) or f"look at it with {ours('feed show')}"


def _is_told(feed: Feed) -> bool:
    """Whether a queue tells it of objects: what its last transfer means then is documented nowhere."""
    return "SQS" in _type(feed)


def _old_type(feed: Feed) -> Iterator[Finding]:
    kind = FIRST_VERSION.get(_type(feed))
    if kind:
        yield Finding(
            f"{_named(feed)} is of the type {kind}, which Google ends on {FIRST_VERSION_ENDS}",
            "replace it by one of V2 before (docs/feed.md, What makes SecOps read again)",
        )


def _second(uri: str, feed: Feed, feeds: Sequence[Feed]) -> Iterator[Finding]:
    for other in overlapping(uri, feeds):
        if other.name != feed.name and other.state != "INACTIVE" and not other.read_only:
            yield Finding(
                f"{_named(other)} reads {other.uri} as well as {_named(feed)}, and what both read is in SecOps twice",
                f"disable one with {ours('feed disable')} and its id",
            )


def _type(feed: Feed) -> str:
    return str(feed.details.get("feedSourceType", ""))


def _log_type(feed: Feed) -> str:
    return str(feed.details.get("logType", "")).rpartition("/")[2]


def _named(feed: Feed) -> str:
    return f"the feed {quote(feed.display_name.encode())!r} ({feed.feed_id})"


def _moment(at: float | None) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC" if at is not None else "it was made"
