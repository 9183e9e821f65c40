"""Whether SecOps reads what is delivered, by what it says of its feeds. Pure.

States and failures: https://docs.cloud.google.com/chronicle/docs/reference/rest/v1/projects.locations.instances.feeds
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import NamedTuple

from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline.secops.feed_model import Feed, overlapping
from zendesk_pipeline.settings.programs import ours
from zendesk_pipeline.zendesk.error_answers import quote

FIRST_VERSION = {"AMAZON_S3": "Amazon S3", "AMAZON_SQS": "Amazon SQS"}
"""Types of feeds that Google ends: https://docs.cloud.google.com/chronicle/docs/deprecations."""
FIRST_VERSION_ENDS = date(2027, 3, 15)
DENIED = frozenset({"ACCESS_DENIED", "PERMISSION_DENIED"})
LONG_LINE = "MaxLogLineSize4MBExceeded"
"""Of a log line; of our lines none is so long."""


class Finding(NamedTuple):
    """What is wrong with a feed, as a sentence with its remedy."""

    text: str
    stops: bool
    """Whether records do not get into SecOps by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Objects under the feed prefix that were written after the feed's last transfer."""

    objects: int
    oldest: float | None
    """When the oldest of them was written, seconds since the epoch."""


def reading(uri: str, feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds that read all under `uri`, enabled or not."""
    return [feed for feed in feeds if feed.uri and uri.startswith(feed.uri)]


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
        yield _unread(uri, feeds)
        return
    problem = _state(feed, since)
    if problem is not None:
        yield problem
    elif delivered.oldest is not None and now - delivered.oldest > patience and not _is_told(feed):
        yield Finding(
            f"{_named(feed)} has transferred nothing since {_moment(last_transfer(feed))}, and"
            f" {delivered.objects:,} objects wait, the oldest for {round((now - delivered.oldest) / HOUR)} hours: look"
            f" at it with {ours('feed show')}, and at its page in SecOps",
            stops=False,  # whether that time moves on with each transfer is not documented
        )
    yield from _old_type(feed)
    yield from _second(uri, feed, feeds)


def _unread(uri: str, feeds: Sequence[Feed]) -> Finding:
    parts = overlapping(uri, feeds)
    beside = f" (only a part of it is read, by {', '.join(map(_named, parts))})" if parts else ""
    return Finding(f"No feed reads {uri}{beside}: make one with {ours('feed create')}", stops=True)


def _state(feed: Feed, since: Mapping[str, float]) -> Finding | None:
    if feed.read_only:
        return Finding(
            f"{_named(feed)} is read-only and reads no more, because the instance has moved to another Google project:"
            " make the feed anew (docs/feed.md, When your instance moves)",
            stops=True,
        )
    if feed.state == "INACTIVE":
        return Finding(f"{_named(feed)} is disabled: {ours(f'feed enable {feed.feed_id}')} has it read on", stops=True)
    if failed(feed):
        code = feed.failure_details.error_code
        said = quote((feed.failure_details.error_cause or feed.failure_msg).encode())
        what = ", ".join(filter(None, (f"FAILED {code}".strip(), said)))
        seen = f", seen since {_moment(since[feed.feed_id])}" if feed.feed_id in since else ""
        return Finding(f"{_named(feed)} is {what}{seen}: {_remedy(feed)}", stops=True)
    return None


def _remedy(feed: Feed) -> str:
    code = feed.failure_details.error_code
    if code in DENIED:
        return f"give the reader s3:GetObject and s3:ListBucket ({ours('iam-policy reader')} prints its policy)"
    if code == LONG_LINE:
        return "something else than the pipeline has written a line of over 4 MB: find it under the prefix and move it"
    return quote(feed.failure_details.error_action.encode()) or f"look at it with {ours('feed show')}"


def _is_told(feed: Feed) -> bool:
    """Whether a queue tells it of objects: what its last transfer means then is documented nowhere."""
    return "SQS" in str(feed.details.get("feedSourceType", ""))


def _old_type(feed: Feed) -> Iterator[Finding]:
    kind = FIRST_VERSION.get(str(feed.details.get("feedSourceType", "")))
    if kind:
        yield Finding(
            f"{_named(feed)} is of the type {kind}, which Google ends on {FIRST_VERSION_ENDS}: make one of V2 in its"
            " place (docs/feed.md)",
            stops=False,
        )


def _second(uri: str, feed: Feed, feeds: Sequence[Feed]) -> Iterator[Finding]:
    for other in overlapping(uri, feeds):
        if other.name != feed.name and other.state != "INACTIVE" and not other.read_only:
            yield Finding(
                f"{_named(other)} reads {other.uri} as well as {_named(feed)}: what both read is in SecOps twice."
                f" Disable one with {ours('feed disable')} and its id",
                stops=False,
            )


def _named(feed: Feed) -> str:
    return f"the feed {quote(feed.display_name.encode())!r} ({feed.feed_id})"


def _moment(at: float | None) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC" if at is not None else "it was made"
