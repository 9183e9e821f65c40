"""The check that looks in S3's access log for SecOps' reads: a receipt for each window. It writes nothing in S3."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import msgspec

from zendesk_pipeline.delivery.ledger import Ledger
from zendesk_pipeline.delivery.object_keys import is_batch, is_ours
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeniedError, PipelineError
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.bucket_resource import BucketResource
from zendesk_pipeline.orchestration.comparison import UNSEEN
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of
from zendesk_pipeline.orchestration.secops_verdicts import MEMORY, left_by
from zendesk_pipeline.orchestration.verdicts import verdict
from zendesk_pipeline.secops.access_log_store import AccessLogs
from zendesk_pipeline.secops.receipt_watch import (
    MOST_WINDOWS,
    Receipt,
    Watch,
    awaits,
    findings,
    notes,
    sees,
    settled,
)
from zendesk_pipeline.secops.receipts import LogSums, Reader, missing_settings, reads_in

CHECK = "secops_receipts"
READ_OBJECTS = "secops_read_objects"
"""The metadata of a receipt that says when each object was read."""
DELIVERED = "delivered_by_this_run"
"""The metadata that says how many records of a window a run delivered."""
MOST_REPORTS = 100
"""Events of Dagster's that are read at a time."""
MOST_RECEIPTS = 20
"""Observations of a window among which its latest receipt is looked for."""
MOST_LOG_OBJECTS = 2000
"""Log objects of one look; what is left is read by the next."""
OVERLAP = 600
"""Seconds by which two looks at the log overlap: an object may show late in a listing."""
CLOCKS_APART = 300
"""Seconds by which the clocks of S3 and of this machine may differ."""


def receipt_check(account: Account, clock: Clock) -> dg.AssetChecksDefinition:
    """The check of what SecOps has read; where no log is named it says that nobody looks."""
    key = dg.AssetCheckKey(account.feed_key, CHECK)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="S3's access log shows that SecOps has read each object that was delivered, to its end.",
        required_resource_keys={bucket_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before, missing = left_by(context.instance, key, Watch), missing_settings(account.settings)
        if missing:
            why = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set."
            gone = [f"Receipts were looked for until an hour ago, and are not any more: {why}"] if before else []
            return verdict(key, dg.AssetCheckSeverity.WARN, gone, {}, f"Receipts are not looked for: {why}")
        watch = before or Watch(since=clock.now())
        look = _Look(context=context, account=account, watch=watch, now=clock.now())
        try:
            return look.judged(key)
        except PipelineError as problem:
            kept = left_by(context.instance, key, Watch) or Watch(since=watch.since)  # not what a look broke off in
            return verdict(key, dg.AssetCheckSeverity.WARN, [*kept.texts, f"{UNSEEN}: {problem}"], _memory(kept))

    return check


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One look: what was delivered since the last one is taken up, and what has come of the log is read."""

    context: dg.AssetCheckExecutionContext
    account: Account
    watch: Watch
    now: float
    sums: LogSums = field(default_factory=LogSums)
    days: dict[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """When the objects of a day were written, by the day's prefix."""

    def judged(self, key: dg.AssetCheckKey) -> dg.AssetCheckResult:
        chosen, bucket = self.account.settings, bucket_of(self.context, self.account)
        logs = AccessLogs.at(chosen.secops_access_logs, bucket.store())
        for stream in self.account.streams:
            self._takes_up(bucket, stream)
        came = self._reads(logs, bucket.feed_prefix)
        receipts = settled(self.watch, self.now)
        found = findings(
            self.watch,
            self.sums,
            reader=chosen.secops_reader,
            uri=logs.uri,
            patience=chosen.alert_stale_hours * HOUR,
            now=self.now,
        )
        self.watch.texts = [finding.text for finding in found]
        for receipt in receipts:
            self.context.op_execution_context.log_event(self._observation(receipt))
        shown: dict[str, Any] = {
            "secops_windows_read": len(receipts),
            "secops_windows_awaited": self.watch.count,
            "access_log_objects": came,
            "access_log_lines": self.sums.lines,
            "access_log_malformed": self.sums.malformed,
        }
        if self.watch.log_reaches:
            shown["access_log_reaches"] = dg.MetadataValue.timestamp(self.watch.log_reaches)
        self.context.op_execution_context.log_event(dg.AssetObservation(self.account.feed_key, metadata=shown))
        waits = f" {self.watch.count:,} are awaited; the log comes hours later." if self.watch.count else ""
        return verdict(
            key,
            dg.AssetCheckSeverity.WARN,  # no error: the log is no proof that something was not read
            self.watch.texts,
            {**shown, **_memory(self.watch)},
            f"SecOps has read {len(receipts):,} more {'window' if len(receipts) == 1 else 'windows'}.{waits}",
        )

    # What was delivered

    def _takes_up(self, bucket: BucketResource, stream: Stream) -> None:
        """Await the windows of what Dagster was told since the last look, as long as there is room for them."""
        instance = self.context.instance
        kinds: Mapping[str, Callable[..., dg.EventRecordsResult]] = {
            "materialized": instance.fetch_materializations,
            "observed": instance.fetch_observations,
        }
        for kind, fetch in kinds.items():
            name = f"{stream.name} {kind}"
            for record in self._events(fetch, stream, name):
                event = record.asset_materialization or record.asset_observation
                window = Window.if_hour(event.partition) if event else None
                if event and window and DELIVERED in event.metadata:
                    self._awaits(bucket, stream, window, record.timestamp, now=bool(event.metadata[DELIVERED].value))
                self.watch.reported[name] = record.storage_id

    def _events(
        self, fetch: Callable[..., dg.EventRecordsResult], stream: Stream, name: str
    ) -> Iterator[dg.EventLogRecord]:
        asset = self.account.stream_key(stream)
        more = True
        while more:
            after = self.watch.reported.get(name, 0)
            wanted = dg.AssetRecordsFilter(asset_key=asset, after_storage_id=after, after_timestamp=self.watch.since)
            records = fetch(wanted, limit=MOST_REPORTS, ascending=True).records
            for record in records:
                if self.watch.count >= MOST_WINDOWS:
                    return
                yield record
            more = len(records) == MOST_REPORTS

    def _awaits(self, bucket: BucketResource, stream: Stream, window: Window, at: float, *, now: bool) -> None:
        """Await what a window's ledger names and was written since all this began; `now` says whether by this run."""
        ledger = bucket.ledgers(stream).readable(window)
        if ledger is None or not ledger.objects:
            return
        awaited = self.watch.windows.get(stream.name, {}).get(window.partition_key)
        read = {**self._read_before(stream, window), **(awaited.read if awaited else {})}
        left = {
            each.key: each.bytes
            for each in self._since(bucket, ledger, window, gone=now and window.end > self.watch.since - HOUR)
            if each.key not in read
        }
        awaits(self.watch, stream.name, window, delivered=at, left=left, read=read)

    def _since(self, bucket: BucketResource, ledger: Ledger, window: Window, *, gone: bool) -> Iterator[Any]:
        """The objects of a ledger that are newer than the watch; of those that the feed has deleted, all or none."""
        written = self._written(bucket, window)
        for each in ledger.objects:
            if is_ours(each.key):
                at = written.get(each.key)
                if gone if at is None else at >= self.watch.since - CLOCKS_APART:
                    yield each

    def _written(self, bucket: BucketResource, window: Window) -> Mapping[str, float]:
        day = bucket.layout.day(window)
        if day not in self.days:
            try:
                self.days[day] = {entry.key: entry.modified for entry in bucket.store().listing(day)}
            except DeniedError:  # a writer may be without the right to list the feed
                self.days[day] = {}
        return self.days[day]

    def _read_before(self, stream: Stream, window: Window) -> Mapping[str, float]:
        """When objects of a window were read, by its latest receipt."""
        wanted = dg.AssetRecordsFilter(
            asset_key=self.account.stream_key(stream), asset_partitions=[window.partition_key]
        )
        for record in self.context.instance.fetch_observations(wanted, limit=MOST_RECEIPTS).records:
            entry = record.asset_observation.metadata.get(READ_OBJECTS) if record.asset_observation else None
            if entry:
                return msgspec.convert(entry.value, dict[str, float])
        return {}

    # What has come of the log

    def _reads(self, logs: AccessLogs, feed: str) -> int:
        """Read the log objects that have come since the last look; how many."""
        watch, reader = self.watch, Reader(self.account.settings.secops_reader)
        since = (watch.log_until or watch.since) - OVERLAP
        new = [each for each in logs.listed(since, self.now) if each.key not in watch.log_seen][:MOST_LOG_OBJECTS]
        latest: float | None = None
        for each in new:
            for key, read in reads_in(logs.lines(each.key), self.sums, bucket=logs.bucket, feed=feed, reader=reader):
                latest = max(latest or 0.0, read.at)
                if is_batch(key, feed):
                    notes(watch, key, read)
            watch.log_until = max(watch.log_until, each.modified)
        seen = {**watch.log_seen, **{each.key: each.modified for each in new}}
        watch.log_seen = {key: at for key, at in seen.items() if at >= watch.log_until - OVERLAP}
        sees(watch, self.sums, latest)
        return len(new)

    def _observation(self, receipt: Receipt) -> dg.AssetObservation:
        moment = f"{datetime.fromtimestamp(receipt.at, UTC):%Y-%m-%d %H:%M} UTC"
        key = self.account.key(receipt.stream)
        metadata = {
            "secops_read": f"read by SecOps at {moment}",
            "secops_read_at": dg.MetadataValue.timestamp(receipt.at),
            READ_OBJECTS: dg.MetadataValue.json(dict(receipt.read)),
        }
        return dg.AssetObservation(key, partition=receipt.window.partition_key, metadata=metadata)


def _memory(watch: Watch) -> Mapping[str, Any]:
    return {MEMORY: dg.MetadataValue.json(msgspec.to_builtins(watch))}
