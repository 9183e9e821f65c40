"""Which delivered windows SecOps has read, by the access log's lines as they come. Pure.

What is awaited, and what is known of it so far, is in one value that a verdict can remember.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.secops.feed_watch import Finding
from zendesk_pipeline.secops.receipts import LATE, LogSums, Read, taken, whole_reads
from zendesk_pipeline.settings.programs import ours

MOST_WINDOWS = 500
"""Windows that are awaited at a time; further ones are taken up when there is room."""
MOST_UNCLAIMED = 1000
"""Objects whose reads are kept before a window says that it delivered them."""
UNCLAIMED_FOR = 3 * DAY
"""Seconds for which they are kept: a run over a long range reports its windows at its end."""
GIVEN_UP = 7 * DAY
"""Seconds after its delivery from which on a window is awaited no longer: S3 need not write a line for each request."""
MALFORMED_SHARE = 0.1
"""Above this share of malformed lines the log is not what this release can read."""
MOST_NAMED = 3


class Awaited(msgspec.Struct, kw_only=True):
    """A delivered window, some of whose objects SecOps has not been seen to read."""

    delivered: float
    """When it was reported, seconds since the epoch."""
    left: dict[str, int]
    """Bytes of the objects that no read was seen of, by key."""
    read: dict[str, float] = {}
    """When the others were read."""


class Watch(msgspec.Struct, kw_only=True):
    """What is known when a look ends."""

    since: float
    """When it began, seconds since the epoch: what was delivered before is not awaited."""
    reported: dict[str, int] = {}
    """The last event of Dagster's that was taken up, by stream and kind."""
    log_until: float = 0.0
    """When the newest log object that was read had come, seconds since the epoch; 0 before the first."""
    log_seen: dict[str, float] = {}
    """The log objects that came shortly before that and were read, and when each came."""
    log_reaches: float | None = None
    """When the latest request was that is in the log."""
    reader_seen: float | None = None
    """When the reader last read an object of the feed."""
    others: list[str] = []
    """Who else did, as long as the reader did not."""
    windows: dict[str, dict[str, Awaited]] = {}
    """What is awaited, by stream and partition."""
    reads: dict[str, list[Read]] = {}
    """Reads of objects that are awaited and not yet read to their ends, or of no known window, by key."""
    texts: list[str] = []
    """What the look has found."""

    @property
    def count(self) -> int:
        """Windows that are awaited."""
        return sum(map(len, self.windows.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A window that SecOps has read."""

    stream: str
    window: Window
    read: Mapping[str, float]
    """When each object was read to its end, by key, seconds since the epoch."""

    @property
    def at(self) -> float:
        """When the last of them was."""
        return max(self.read.values())


def awaits(
    watch: Watch, stream: str, window: Window, *, delivered: float, left: Mapping[str, int], read: Mapping[str, float]
) -> None:
    """Take up a window: what is left of it to be read, and what was read before."""
    if left:
        awaited = Awaited(delivered=delivered, left=dict(left), read=dict(read))
        watch.windows.setdefault(stream, {})[window.partition_key] = awaited


def notes(watch: Watch, key: str, read: Read) -> None:
    """Keep a read of an object."""
    watch.reads[key] = taken(watch.reads.get(key, []), read)


def sees(watch: Watch, sums: LogSums, latest: float | None) -> None:
    """Note how far the log reaches and who has read the feed; `latest` is when the reader last did."""
    if sums.last is not None:
        watch.log_reaches = max(watch.log_reaches or 0.0, sums.last)
    if latest is not None:
        watch.reader_seen = max(watch.reader_seen or 0.0, latest)
    watch.others = [] if watch.reader_seen else sorted({*watch.others, *sums.others})[:MOST_NAMED]


def settled(watch: Watch, now: float) -> list[Receipt]:
    """The windows whose objects are all read now; they are awaited no longer."""
    receipts: list[Receipt] = []
    for stream, windows in watch.windows.items():
        for partition, awaited in list(windows.items()):
            for key, size in list(awaited.left.items()):
                if times := whole_reads(watch.reads.get(key, ()), size):
                    awaited.read[key] = times[0]
                    del awaited.left[key], watch.reads[key]
            if not awaited.left:
                window = Window.of_partition(partition)
                receipts.append(Receipt(stream=stream, window=window, read=awaited.read))
            if not awaited.left or now - awaited.delivered > GIVEN_UP:
                del windows[partition]
    _forget(watch, now)
    return receipts


def _forget(watch: Watch, now: float) -> None:
    """Reads that no window has claimed for some days are of objects that are read already, or of no window of ours."""
    wanted = {key for windows in watch.windows.values() for each in windows.values() for key in each.left}
    unclaimed = [
        (reads[-1].at, key)
        for key, reads in watch.reads.items()
        if key not in wanted and reads[-1].at > now - UNCLAIMED_FOR
    ]
    kept = {key for _, key in sorted(unclaimed)[-MOST_UNCLAIMED:]}
    watch.reads = {key: reads for key, reads in watch.reads.items() if key in wanted or key in kept}


def findings(watch: Watch, sums: LogSums, *, reader: str, uri: str, patience: float, now: float) -> Iterator[Finding]:
    """What is wrong, by all that has come of the log.

    Args:
        watch: What is known.
        sums: What the lines of this look have shown.
        reader: Who reads for SecOps.
        uri: Where the log is.
        patience: Seconds that an object may wait to be read; the log's line may be `LATE` beside.
        now: Seconds since the epoch.
    """
    if sums.malformed > MALFORMED_SHARE * sums.lines:
        yield Finding(
            f"{sums.malformed:,} of {sums.lines:,} lines under {uri} are none of an S3 access log",
            "see what else is written there, and that the log is delivered to S3 as text",
        )
    if sums.refused:
        yield Finding(
            f"S3 refused {sums.refused:,} request{'' if sums.refused == 1 else 's'} of the reader",
            f"give it s3:GetObject, and kms:Decrypt where there is a key ({ours('iam-policy reader')} prints both)",
        )
    late = patience + LATE
    overdue = sorted(
        (awaited.delivered, stream, partition, len(awaited.left))
        for stream, windows in watch.windows.items()
        for partition, awaited in windows.items()
        if now - awaited.delivered > late
    )
    if not overdue:
        return
    reaches = watch.log_reaches or watch.since
    if now - reaches > late:
        yield Finding(
            f"The access log under {uri} has no request since {_moment(reaches)}",
            "see that the bucket's server access logging is on and goes there (docs/aws.md, The access log)",
        )
    else:
        yield Finding(_unread(overdue, now), _remedy(watch, reader))


def _unread(overdue: Sequence[tuple[float, str, str, int]], now: float) -> str:
    objects = sum(count for *_, count in overdue)
    named = ", ".join(f"{stream} {Window.of_partition(partition)}" for _, stream, partition, _ in overdue[:MOST_NAMED])
    more = f" and {len(overdue) - MOST_NAMED:,} more" if len(overdue) > MOST_NAMED else ""
    return (
        f"No read seen of {objects:,} object{'' if objects == 1 else 's'} of {named}{more}, delivered"
        f" {round((now - overdue[0][0]) / HOUR)} hours ago or less"
    )


def _remedy(watch: Watch, reader: str) -> str:
    if watch.reader_seen is None:
        others = f", while {' and '.join(watch.others)} did" if watch.others else ""
        return f"{reader} has read nothing at all{others}. See whether SECOPS_READER is right, and {ours('feed show')}"
    return (
        f"S3 need not log every request, so look for the window in SecOps, and at {ours('feed show')}; what is missing"
        " there, send again (docs/operations.md, Send records again)"
    )


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
