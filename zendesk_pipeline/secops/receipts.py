"""Who has read which object, by S3's server access log. Pure.

The log is kept as well as S3 can, and no better: a line may come hours late, twice, or never. So what it does not show
was not necessarily missed: https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from zendesk_pipeline.secops.access_log import Entry, parsed
from zendesk_pipeline.settings.environment import Settings

READS = "REST.GET.OBJECT"
WHOLE, PART = 200, 206
APART = 300.0
"""Seconds between two whole reads of an object, from which on the second is no repeated try of the first."""
MOST_PARTS = 100
"""Requests for parts of an object that are kept."""
LATE = 6 * 3600.0
"""Seconds by which most lines have come: AWS says within a few hours."""
_ROLE = re.compile(r"arn:(?P<partition>[a-z-]+):iam::(?P<account>\d{12}):role/(?:.+/)?(?P<name>[^/]+)")


def missing_settings(chosen: Settings) -> list[str]:
    """The variables that are not set, of those without which nothing can be said of reads."""
    return [name.upper() for name in ("secops_access_logs", "secops_reader") if not getattr(chosen, name)]


@dataclass(frozen=True, slots=True)
class Reader:
    """The identity that SecOps has at AWS: the ARN of a role or a user, or an account's canonical id."""

    name: str

    def asked(self, entry: Entry) -> bool:
        """Whether a request is of it.

        A role's sessions are called `arn:aws:sts::123456789012:assumed-role/NAME/SESSION`, without the role's path.
        """
        if role := _ROLE.fullmatch(self.name):
            of_role = f"arn:{role['partition']}:sts::{role['account']}:assumed-role/{role['name']}/"
            return entry.requester.startswith(of_role)
        return entry.requester == self.name


class Read(msgspec.Struct, frozen=True, array_like=True):
    """A request that got an object, or a part of it."""

    request_id: str
    at: float
    sent: int
    from_the_start: bool
    """Whether the whole object was asked for; the answer may have ended early."""


def read_of(entry: Entry) -> Read | None:
    """What a request got of an object; None where it got nothing, or was no request for one."""
    if entry.operation != READS or entry.status not in {WHOLE, PART} or not entry.sent:
        return None
    return Read(entry.request_id, entry.at, entry.sent, entry.status == WHOLE)


def taken(reads: list[Read], read: Read) -> list[Read]:
    """The reads with one more; a line that comes twice counts once, and of many the newest are kept."""
    if any(each.request_id == read.request_id for each in reads):
        return reads
    return sorted([*reads, read], key=lambda each: each.at)[-MOST_PARTS:]


def whole_reads(reads: Iterable[Read], size: int) -> list[float]:
    """When an object of `size` bytes had been read to its end, each time, in order.

    Parts count together once they are as long as the object. Where each begins is in no log: of several answers that
    began at the start and ended early, only the longest counts as one of them.
    """
    ordered = sorted(reads, key=lambda each: each.at)
    whole = [each.at for each in ordered if each.sent >= size]
    parts = [each for each in ordered if each.sent < size]
    broken = max((each for each in parts if each.from_the_start), key=lambda each: each.sent, default=None)
    got = 0
    for part in parts:
        if part.from_the_start and part is not broken:
            continue
        got += part.sent
        if got >= size:
            whole.append(part.at)
            got = 0
    return sorted(whole)


def read_again(times: Iterable[float]) -> list[float]:
    """Of whole reads in order, those that are no repeated try of the one before."""
    again: list[float] = []
    before: float | None = None
    for at in times:
        if before is not None and at - before >= APART:
            again.append(at)
        before = at
    return again


@dataclass(slots=True, kw_only=True)
class LogSums:
    """What lines of the log have shown, beside the reads."""

    lines: int = 0
    malformed: int = 0
    first: float | None = None
    """When the earliest request was received, seconds since the epoch; `last` the latest."""
    last: float | None = None
    of_reader: int = 0
    """Requests of the reader for objects of the feed that were answered with one."""
    refused: int = 0
    """Requests of the reader for objects of the feed that S3 refused (403)."""
    others: set[str] = field(default_factory=set[str])
    """Who else got objects of the feed."""


def reads_in(
    lines: Iterable[str], sums: LogSums, *, bucket: str, feed: str, reader: Reader
) -> Iterator[tuple[str, Read]]:
    """The reader's reads of objects under the feed prefix, by key; counts all lines in `sums`.

    A line that is none of the format is counted and left out, and so is one of another bucket that has its log in the
    same place.
    """
    for line in lines:
        if not line.strip():
            continue
        sums.lines += 1
        try:
            entry = parsed(line)
        except ValueError:
            sums.malformed += 1
            continue
        if entry.bucket != bucket:
            continue
        sums.first = entry.at if sums.first is None else min(sums.first, entry.at)
        sums.last = entry.at if sums.last is None else max(sums.last, entry.at)
        if entry.operation != READS or not entry.key.startswith(feed):
            continue
        read = read_of(entry)
        if not reader.asked(entry):
            if read and len(sums.others) < MOST_PARTS:
                sums.others.add(_without_session(entry.requester))
        elif read:
            sums.of_reader += 1
            yield entry.key, read
        elif entry.status == 403:  # noqa: PLR2004  # Forbidden
            sums.refused += 1


def _without_session(requester: str) -> str:
    """A role's sessions are many."""
    return requester.rpartition("/")[0] if ":assumed-role/" in requester else requester
