"""The check of the comparison: windows that are a day old are read again at Zendesk, and what is missing delivered."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import dagster as dg
import msgspec

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    DeniedError,
    PageLimitError,
    PipelineError,
    RefusedError,
    SecretStoreError,
    SettingsError,
    StarvedError,
)
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up_sensor import delivered_windows
from zendesk_pipeline.orchestration.comparison import (
    COMPARED,
    LEDGER_LOST,
    NONE_FINISHED,
    NOT_COMPARED,
    UNSEEN,
    ComparedWindows,
    Work,
    compared_windows,
    due_until,
    is_due,
    is_waited_for,
    reach,
)
from zendesk_pipeline.orchestration.io_manager import PageStream, S3IOManager, delivered, note_unruled, rarely_collected
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of, zendesk_key, zendesk_of
from zendesk_pipeline.orchestration.verdicts import is_planned, latest_records, latest_verdict, verdict
from zendesk_pipeline.orchestration.window_metadata import Metadata

if TYPE_CHECKING:
    from zendesk_pipeline.model.records import Page

DELIVERED = "delivered_by_this_run"
"""The metadata that says how many records of a window a run delivered."""
MOST_PROBLEMS = 5
"""Ranges that one comparison cannot read before it stops: so many are an outage."""
LASTING = SettingsError, RefusedError, StarvedError, SecretStoreError, DeniedError
"""Errors that the next range would have as well."""
NOT_A_WINDOW = "No window was compared: a run waited, or the pages of the day are used up."


def comparison_check(account: Account, stream: Stream, clock: Clock) -> dg.AssetChecksDefinition:
    """The check that compares windows of a stream, as many as it may read pages of a day."""
    key, asset = dg.AssetCheckKey(account.feed_key, source_check(stream)), account.stream_key(stream)
    pool, most = account.called(stream.pool), account.settings.comparison_pages
    sharing = [account.stream_key(each) for each in account.streams if each.pool == stream.pool]

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="Each delivered window is read again at Zendesk when it is a day old: what was missing in it is"
        " delivered, and said here.",
        pool=pool,
        required_resource_keys={bucket_key(account), zendesk_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before = compared_windows(latest_verdict(context.instance, key))
        if not most:
            kept = {COMPARED: _json(before)} if before else {}
            return verdict(key, dg.AssetCheckSeverity.WARN, [], kept, otherwise="Switched off: COMPARISON_PAGES=0.")
        bucket, zendesk = bucket_of(context, account), zendesk_of(context, account)
        until = due_until(clock.now())
        work = Work.of(before, delivered_windows(context.instance, asset, among=reach(until)), until)
        sums = _Sums()
        try:
            sums.unknown = bucket.without_ledger(stream, work.due)
        except PipelineError as problem:
            sums.problems.append(problem)
            return _verdict(key, work, sums, most)
        work.leaves(sums.unknown)
        spans = work.spans()
        while spans and work.pages < most and not sums.stops:
            span = spans.pop(0)
            pages = PageStream(
                stream=stream,
                span=span,
                lookback=lambda _: 0,
                redeliver=False,
                pages=partial(zendesk.spare_pages, stream, most=most - work.pages),
                describe=lambda _: None,
            )
            walked = compare(
                bucket,
                pages,
                gives_way=lambda: is_waited_for(context.instance, pool, sharing),
                warn=context.log.warning,
            )
            work.takes(walked.windows, walked.pages)
            sums.takes(walked)
            if walked.problem and len(span) > 1:  # one window of it may be to blame: each by itself
                spans[:0] = [Span(window.start, window.end) for window in span if window not in work.compared]
            for window, metadata in walked.missing.items():
                context.op_execution_context.log_event(
                    dg.AssetObservation(asset, partition=window.partition_key, metadata=metadata)
                )
        return _verdict(key, work, sums, most)

    return check


def source_check(stream: Stream) -> str:
    """The name of a stream's comparison."""
    return f"{stream.name}_match_source"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonWalk:
    """What one walk over delivered windows has found."""

    windows: Sequence[Window]
    """Those proven to hold now what Zendesk shows."""
    missing: Mapping[Window, Metadata]
    """Those that records were missing in, and their metadata."""
    records: int
    """Records that Zendesk has shown."""
    pages: int
    whole: bool
    """Whether it came to its end."""
    problem: PipelineError | None
    """The error that ended it early."""


class _GivesWayError(Exception):
    """Another run waits: the comparison stops for it."""


def compare(
    bucket: S3IOManager, pages: PageStream, *, gives_way: Callable[[], bool], warn: Callable[..., object]
) -> ComparisonWalk:
    """Read windows that were delivered once more, and deliver what they are missing.

    Ends where the pages end, at their bound, or, with a window finished, after a page where `gives_way` says so: a
    walk that came to no end of a window would be in vain.
    """
    read, whole, problem, delivery, watch = 0, False, None, None, None
    try:
        delivery = bucket.delivery(pages, pages.span, warn)
        store = delivery.store_for(Window(pages.span.start))
        claim, watch = bucket.claims(store), bucket.watch(pages.stream, store)
        watch.begin()
        look: Callable[[Page], object] = watch.look if watch.redaction else lambda _: None
        with delivery, rarely_collected():
            for page in delivered(delivery, pages.pages(pages.span), claim, look=look):
                read += 1
                if page.more and delivery.finished and gives_way():
                    raise _GivesWayError  # noqa: TRY301  # out of the `with` block: the range is not finished
        whole = True
    except (_GivesWayError, PageLimitError):
        pass
    except PipelineError as broken:
        problem = broken
    if watch:
        note_unruled(watch, warn)
    found = delivery.tallies if delivery else {}
    tallies = {window: found[window] for window in pages.span if window in found}
    return ComparisonWalk(
        windows=delivery.finished if delivery else [],
        missing={
            window: bucket.metadata(pages.stream, window, tally) for window, tally in tallies.items() if tally.records
        },
        records=sum(tally.records + tally.duplicates for tally in tallies.values()),
        pages=read,
        whole=whole,
        problem=problem,
    )


@dataclass(slots=True)
class _Sums:
    """What the walks of a comparison have found."""

    windows: int = 0
    records: int = 0
    pages: int = 0
    missing: Counter[Window] = field(default_factory=Counter[Window])
    """Records that were missing, and are delivered now; a window may be walked again after a walk that broke off."""
    unknown: Sequence[Window] = ()
    """Windows that were delivered and have no ledger."""
    gave_way: bool = False
    """Whether a run waited, or the pages of the day are used up."""
    problems: list[PipelineError] = field(default_factory=list[PipelineError])
    """Of ranges that could not be read to their ends."""

    @property
    def stops(self) -> bool:
        """Whether to leave the ranges behind for another time; one that cannot be read does not hold them up."""
        lasting = any(isinstance(each, LASTING) for each in self.problems)
        return self.gave_way or lasting or len(self.problems) >= MOST_PROBLEMS

    def takes(self, walked: ComparisonWalk) -> None:
        self.windows += len(walked.windows)
        self.records += walked.records
        self.pages += walked.pages
        self.missing.update({window: metadata[DELIVERED] for window, metadata in walked.missing.items()})
        self.gave_way = not walked.whole and walked.problem is None
        self.problems += [walked.problem] if walked.problem else []


def _verdict(key: dg.AssetCheckKey, work: Work, sums: _Sums, most: int) -> dg.AssetCheckResult:
    """What broke the comparison, what was missing, and what will not be compared at this rate."""
    texts = [f"{UNSEEN}: {each}" for each in sums.problems]
    texts += [
        f"{window}: {count:,} records were missing, and are delivered now" for window, count in sums.missing.items()
    ]
    if lost := sums.unknown:
        texts.append(f"{lost[0]}: {len(lost):,} {LEDGER_LOST}: nothing is delivered into them")
    if late := work.nearly_lost:
        texts.append(f"{late[0]}: {len(late):,} {NOT_COMPARED}: a larger COMPARISON_PAGES reads more a day")
    if work.due and not sums.windows and sums.pages >= most:
        texts.append(f"{work.due[-1]}: {most:,} {NONE_FINISHED}: a larger COMPARISON_PAGES does")
    severity = dg.AssetCheckSeverity.ERROR if sums.problems or sums.unknown else dg.AssetCheckSeverity.WARN
    metadata = {
        "windows": sums.windows,
        "records_at_zendesk": sums.records,
        "records_delivered": sum(sums.missing.values()),
        "pages": work.pages,
        "windows_left": len(work.due),
        COMPARED: _json(work.for_the_next),
    }
    left = f" {len(work.due):,} windows are left for another time." if work.due else ""
    seen = f"{sums.windows:,} windows with {sums.records:,} records: all are delivered."
    return verdict(key, severity, texts, metadata, f"{seen if sums.windows or not work.due else NOT_A_WINDOW}{left}")


def _json(compared: ComparedWindows) -> dg.JsonMetadataValue:
    return dg.MetadataValue.json(msgspec.to_builtins(compared))


def comparisons_due(
    instance: dg.DagsterInstance, accounts: Iterable[Account], now: float
) -> Iterator[tuple[Account, dg.AssetCheckKey]]:
    """The checks of the comparison that have something to do, and are not at it."""
    checks = {
        dg.AssetCheckKey(account.feed_key, source_check(stream)): account
        for account in accounts
        for stream in account.streams
    }
    latest = latest_records(instance, list(checks))
    for key, account in checks.items():
        record = latest.get(key)
        planned = record is not None and is_planned(record)
        run = instance.get_run_by_id(record.run_id) if record and planned else None
        done = latest_verdict(instance, key) if planned else record.evaluation if record else None
        failed, most = done is not None and not done.passed, account.settings.comparison_pages
        if (run is None or run.is_finished) and is_due(compared_windows(done), now, most, failed=failed):
            yield account, key
