"""What S3's access log says of the objects of a past range: read by SecOps, never seen to be read, or read twice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from zendesk_pipeline.commands.verify.comparison import Difference, WindowReport
from zendesk_pipeline.delivery.bucket import Listed, Store
from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.delivery.object_keys import is_batch, is_ours
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.secops.access_log_store import AccessLogs
from zendesk_pipeline.secops.receipts import (
    LATE,
    LogSums,
    Read,
    Reader,
    missing_settings,
    read_again,
    reads_in,
    taken,
    whole_reads,
)
from zendesk_pipeline.settings.environment import Settings

_HOUR = "%Y/%m/%d/%H"
"""How the name of a batch begins, behind the feed prefix."""


@dataclass(slots=True, kw_only=True)
class SecopsReads:
    """The reader's reads of a range's objects."""

    store: Store
    patience: float
    """Seconds that an object may wait to be read; the log's line may be `LATE` beside."""
    now: float
    """Seconds since the epoch."""
    sums: LogSums = field(default_factory=LogSums)
    _reads: dict[str, list[Read]] = field(default_factory=dict[str, list[Read]])

    def keep(self, key: str, read: Read) -> None:
        """Note a read of an object."""
        self._reads[key] = taken(self._reads.get(key, []), read)

    def added(self, report: WindowReport, objects: Iterable[Delivered], listed: Mapping[str, Listed]) -> WindowReport:
        """The report of a window with what the log says of the objects that its ledger names."""
        found: list[Difference] = []
        read = unknown = 0
        for each in objects:
            if not is_ours(each.key):
                continue
            times = whole_reads(self._reads.get(each.key, ()), each.bytes)
            written = listed[each.key].modified if each.key in listed else float(report.window.end)
            if times:
                read += 1
                found += self._read_twice(each.key, times)
            elif self._says_nothing(written):
                unknown += 1
            else:
                found.append(Difference(kind="not_read", text=f"{self.store.uri(each.key)}: no read by SecOps seen"))
        differences = (*report.differences, *found)
        return replace(report, differences=differences, objects_read=read, not_in_log=unknown)

    def _read_twice(self, key: str, times: list[float]) -> list[Difference]:
        again = read_again(times)
        if not again:
            return []
        text = f"{self.store.uri(key)} was read by SecOps at {_moment(times[0])}, and again at "
        return [Difference(kind="read_twice", text=text + ", ".join(map(_moment, again)), count=len(again))]

    def _says_nothing(self, written: float) -> bool:
        """Whether the log does not reach to an object, at either end, or its line may yet come."""
        due = written + self.patience
        return written < (self.sums.first or 0.0) or (self.sums.last or 0.0) < due or self.now < due + LATE


def secops_reads(chosen: Settings, store: Store, span: Span, now: float) -> SecopsReads:
    """Read the access log, from the range's begin on to its end.

    Raises SettingsError where it is not set up or has nothing of the bucket, and what the store does.
    """
    if missing := missing_settings(chosen):
        raise SettingsError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set (docs/feed.md).")
    logs = AccessLogs.at(chosen.secops_access_logs, store)
    found = SecopsReads(store=store, patience=chosen.alert_stale_hours * HOUR, now=now)
    first, end = (f"{datetime.fromtimestamp(at, UTC):{_HOUR}}" for at in (span.start, span.end))
    reader = Reader(chosen.secops_reader)
    for entry in logs.listed(span.start, now):
        lines = logs.lines(entry.key)
        for key, read in reads_in(lines, found.sums, bucket=store.bucket, feed=chosen.s3_prefix, reader=reader):
            hour = key.removeprefix(chosen.s3_prefix)[: len(first)]
            if first <= hour < end and is_batch(key, chosen.s3_prefix):
                found.keep(key, read)
    if found.sums.last is None:
        raise SettingsError(
            f"There is no log of requests to {store.bucket} under {logs.uri} since {_moment(span.start)}: see that the"
            " bucket's server access logging is on and goes there (docs/aws.md, The access log)."
        )
    return found


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
