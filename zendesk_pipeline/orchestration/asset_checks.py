"""Asset checks: of each collection, of the feed once an hour, and of Zendesk against the bucket once a day.

They read, and write nothing but their verdicts; the comparison with Zendesk alone delivers what it finds missing. A
failed one is an alert. What a check of windows has found wrong it looks at again the next time, so that its verdict
stays until the cause is gone, and no longer.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import dagster as dg
import msgspec

from zendesk_pipeline.delivery.inspection import Finding, Inspector
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    DeniedError,
    PipelineError,
    RefusedError,
    SecretStoreError,
    SettingsError,
    StarvedError,
)
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up_sensor import delivered_windows
from zendesk_pipeline.orchestration.comparison import (
    LEDGER_LOST,
    MEMORY,
    NONE_FINISHED,
    NOT_COMPARED,
    UNSEEN,
    Memory,
    Work,
    due_until,
    is_due,
    is_waited_for,
    reach,
    remembered,
)
from zendesk_pipeline.orchestration.instance import AssetCheckExecutionRecord, AssetCheckExecutionRecordStatus
from zendesk_pipeline.orchestration.io_manager import Comparison, PageStream
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of, zendesk_key, zendesk_of

FEED_CHECK = "holds_nothing_else"
MOST_WINDOWS = 24
"""Of a long range the newest are looked at, and of earlier findings the oldest."""
MOST_REMEMBERED = 500
"""Windows with findings that a verdict names for the next look."""
MOST_BYTES = 8 * 1024 * 1024
"""How much of the objects is read again, which takes a fraction of a second."""
MOST_SHOWN = 10
"""Findings in a verdict."""
MOST_OBJECTS = 10_000
"""Of the feed, ten requests."""
DELIVERED = "delivered_by_this_run"
"""The metadata of a window that says how many records were."""
MOST_PROBLEMS = 5
"""Ranges that cannot be read, in one comparison: so many are an outage."""
LASTING = SettingsError, RefusedError, StarvedError, SecretStoreError, DeniedError
"""What would meet the next range as well."""
NOT_A_WINDOW = "No window was compared: a run waited, or the pages of the day are used up."
MOST_REPORTS = 4
"""Materializations of a window, of which the newest counts."""
ASKED_HOURS = 4
"""A window is usually finished in the hour after it: of so many hours, runs are asked when they asked Zendesk."""
WINDOWS = "windows_with_findings"
"""The metadata that a verdict remembers them by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCheck:
    """A check of windows that were delivered."""

    name: str
    description: str
    severity: dg.AssetCheckSeverity
    look: Callable[[Inspector, Sequence[Window]], Iterator[Finding]]
    again: Callable[[Inspector, Sequence[Window]], Iterator[Finding]] | None
    """How windows with findings are looked at until they are right; None where nothing can be fixed."""


WINDOW_CHECKS = (
    WindowCheck(
        name="objects_match_ledgers",
        description="The bucket holds what the ledgers say: no object of another size, none that no ledger names.",
        severity=dg.AssetCheckSeverity.ERROR,
        look=Inspector.objects,
        again=Inspector.objects,
    ),
    WindowCheck(
        name="lines_are_readable",
        description="Every line is one record that SecOps can read: JSON, short enough, the one its ledger says.",
        severity=dg.AssetCheckSeverity.ERROR,
        look=lambda inspector, windows: inspector.lines(windows, most_bytes=MOST_BYTES),
        again=lambda inspector, windows: inspector.lines(windows, most_bytes=math.inf),
    ),
    WindowCheck(
        name="volume_is_usual",
        description="No silence in an hour of the week that usually has records, and none since the first day: a"
        " source that stops, or never began, is an alarm.",
        severity=dg.AssetCheckSeverity.WARN,
        look=Inspector.volume,
        again=None,
    ),
    WindowCheck(
        name="times_are_usual",
        description="Hardly a record that Zendesk showed was left out, since by its time it is of no window asked for.",
        severity=dg.AssetCheckSeverity.WARN,
        look=Inspector.left_out,
        again=None,
    ),
    WindowCheck(
        name="records_are_well_formed",
        description="Every record that Zendesk showed has an id, a time and a line that SecOps can read.",
        severity=dg.AssetCheckSeverity.ERROR,
        look=Inspector.malformed,
        again=None,
    ),
)


REQUEST_CHECK = WindowCheck(
    name="own_requests_show",
    description="Every request to the account makes a record here, the collector's own too: an hour without any, in"
    " which it asked, says that the log is switched off.",
    severity=dg.AssetCheckSeverity.ERROR,
    look=Inspector.own_requests,
    again=None,
)
"""Of streams that are off until an admin switches them on."""


def checks_of(stream: Stream) -> tuple[WindowCheck, ...]:
    """What is looked at after each run of a stream."""
    return (*WINDOW_CHECKS, REQUEST_CHECK) if stream.switch else WINDOW_CHECKS


def window_checks(account: Account, stream: Stream) -> dg.AssetChecksDefinition:
    """The checks that follow each run of a stream's asset; by themselves they look at its newest windows."""
    asset = account.stream_key(stream)

    @dg.multi_asset_check(
        name=account.called(f"{stream.name}_checks"),
        specs=[dg.AssetCheckSpec(each.name, asset=asset, description=each.description) for each in checks_of(stream)],
        can_subset=True,
        required_resource_keys={bucket_key(account)},
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        s3_io_manager = bucket_of(context, account)
        windows = _windows(context, asset)[-MOST_WINDOWS:]
        told = _told(context.instance, asset, windows)
        asked = _asked(context.instance, account, windows) if stream.switch else ()
        inspector = replace(s3_io_manager.inspector(stream), told=told, asked=asked)
        for each in checks_of(stream):
            key = dg.AssetCheckKey(asset, each.name)
            if key in context.selected_asset_check_keys:
                yield _verdict(key, each, inspector, windows, _found_before(context.instance, key))

    return checks


def keep_verdicts(instance: dg.DagsterInstance, accounts: Iterable[Account]) -> list[dg.AssetCheckKey]:
    """Report latest verdicts again where a collection ended before its checks began; those of the checks.

    Dagster (1.13.29) notes at the start of a run that its checks are planned. Where the run fails before them, the UI
    shows them as failed, "0 / 5 passed", although nothing was looked at. What was true before is true still.
    """
    keys = [
        dg.AssetCheckKey(account.stream_key(stream), each.name)
        for account in accounts
        for stream in account.streams
        for each in checks_of(stream)
    ]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    kept = [key for key, record in latest.items() if _never_began(instance, record)]
    for key in kept:
        instance.report_runless_asset_event(_latest_verdict(instance, key) or _no_verdict(key))
    return kept


def _never_began(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> bool:
    """Whether the run was to collect, and is over, and the check in it did not even begin."""
    if record.status is not AssetCheckExecutionRecordStatus.PLANNED:
        return False
    run = instance.get_run_by_id(record.run_id)
    if run is None:
        return True
    step = record.event.step_key if record.event else None
    if not run.is_finished or step is None or (run.asset_check_selection and not run.asset_selection):
        return False
    return not any(stats.start_time for stats in instance.get_run_step_stats(run.run_id, [step]))


def _latest_verdict(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    done = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=done)
    return records[0].evaluation if records else None


def _no_verdict(key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation:
    told = "Not looked at yet: nothing was collected."
    return dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, passed=True, description=told)


def _told(
    instance: dg.DagsterInstance, asset: dg.AssetKey, windows: Sequence[Window]
) -> Mapping[Window, Mapping[str, object]]:
    """What the newest materialization of each window says."""
    if not windows:
        return {}
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[window.partition_key for window in windows])
    told: dict[Window, Mapping[str, object]] = {}
    for record in instance.fetch_materializations(wanted, limit=MOST_REPORTS * len(windows)).records:
        materialization = record.asset_materialization
        if materialization and materialization.partition:
            metadata = {name: entry.value for name, entry in materialization.metadata.items()}
            told.setdefault(Window.of_partition(materialization.partition), metadata)
    return told


def _asked(instance: dg.DagsterInstance, account: Account, windows: Sequence[Window]) -> list[float]:
    """When runs of the account's streams finished windows that they had to ask Zendesk for, as they have told."""
    hours = sorted({Window(window.start - back * HOUR) for window in windows for back in range(ASKED_HOURS)})
    found: list[float] = []
    for stream in account.streams:
        for window, told in _told(instance, account.stream_key(stream), hours).items():
            lag, requests = told.get("lag_seconds"), told.get("requests")
            if isinstance(lag, float) and isinstance(requests, int) and requests:
                found.append(window.end + lag)
    return found


def feed_check(account: Account, clock: Clock) -> dg.AssetChecksDefinition:
    """The check that looks under the feed prefix, and notes what waits there."""
    key = dg.AssetCheckKey(account.feed_key, FEED_CHECK)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="Nothing foreign lies under the feed prefix: SecOps would read it as logs. Notes what waits there.",
        required_resource_keys={bucket_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        s3_io_manager = bucket_of(context, account)
        now = clock.now()
        newest = [Window.of(int(now) - 24 * HOUR), Window.of(int(now))]
        try:
            waiting = s3_io_manager.feed(newest=newest, most=MOST_OBJECTS)
        except PipelineError as problem:
            return _unseen(key, dg.AssetCheckSeverity.WARN, problem)
        observed: dict[str, Any] = {
            "waiting_objects": waiting.objects,
            "waiting_bytes": waiting.bytes,
            "oldest_waits_hours": round((now - waiting.oldest) / HOUR, 2) if waiting.oldest else 0.0,
            "counted": "all" if waiting.whole else f"the first {MOST_OBJECTS:,}",
        }
        context.op_execution_context.log_event(dg.AssetObservation(account.feed_key, metadata=observed))
        foreign = [f"{name} is not ours" for name in waiting.foreign]
        return _result(key, dg.AssetCheckSeverity.WARN, foreign, observed)

    return check


def reconciliation(account: Account, stream: Stream, clock: Clock) -> dg.AssetChecksDefinition:
    """The check that asks Zendesk once more for windows that are a day old, and delivers what is missing."""
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
        before = remembered(_latest_verdict(context.instance, key))
        if not most:
            kept = {MEMORY: _memory(before)} if before else {}
            return _result(key, dg.AssetCheckSeverity.WARN, [], kept, otherwise="Switched off: COMPARISON_PAGES=0.")
        s3_io_manager, zendesk = bucket_of(context, account), zendesk_of(context, account)
        until = due_until(clock.now())
        delivered = delivered_windows(context.instance, asset, among=reach(until))
        work, looked = Work.of(before, delivered, until), _Looked()
        try:
            looked.unknown = s3_io_manager.without_ledger(stream, work.due)
        except PipelineError as problem:
            looked.problems.append(problem)
            return _compared(key, work, looked, most)
        work.leaves(looked.unknown)
        spans = work.spans()
        while spans and work.pages < most and not looked.stops:
            span = spans.pop(0)
            pages = PageStream(
                stream=stream,
                span=span,
                lookback=lambda _: 0,
                redeliver=False,
                pages=partial(zendesk.spare_pages, stream, most=most - work.pages),
                describe=lambda _: None,
            )
            found = s3_io_manager.compare(
                pages, gives_way=lambda: is_waited_for(context.instance, pool, sharing), warn=context.log.warning
            )
            work.takes(found.windows, found.pages)
            looked.takes(found)
            if found.problem and len(span) > 1:  # one window of it may be to blame: each by itself
                spans[:0] = [Span(window.start, window.end) for window in span if window not in work.compared]
            for window, metadata in found.missing.items():
                context.op_execution_context.log_event(
                    dg.AssetObservation(asset, partition=window.partition_key, metadata=metadata)
                )
        return _compared(key, work, looked, most)

    return check


def source_check(stream: Stream) -> str:
    """The name of a stream's reconciliation."""
    return f"{stream.name}_match_source"


@dataclass(slots=True)
class _Looked:
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

    def takes(self, found: Comparison) -> None:
        self.windows += len(found.windows)
        self.records += found.records
        self.pages += found.pages
        self.missing.update({window: metadata[DELIVERED] for window, metadata in found.missing.items()})
        self.gave_way = not found.whole and found.problem is None
        self.problems += [found.problem] if found.problem else []


def _compared(key: dg.AssetCheckKey, work: Work, looked: _Looked, most: int) -> dg.AssetCheckResult:
    """The verdict: what broke the comparison, what was missing, and what will not be compared at this rate."""
    texts = [f"{UNSEEN}: {each}" for each in looked.problems]
    texts += [
        f"{window}: {count:,} records were missing, and are delivered now" for window, count in looked.missing.items()
    ]
    if lost := looked.unknown:
        texts.append(f"{lost[0]}: {len(lost):,} {LEDGER_LOST}: nothing is delivered into them")
    if late := work.nearly_lost:
        texts.append(f"{late[0]}: {len(late):,} {NOT_COMPARED}: a larger COMPARISON_PAGES reads more a day")
    if work.due and not looked.windows and looked.pages >= most:
        texts.append(f"{work.due[-1]}: {most:,} {NONE_FINISHED}: a larger COMPARISON_PAGES does")
    severity = dg.AssetCheckSeverity.ERROR if looked.problems or looked.unknown else dg.AssetCheckSeverity.WARN
    told = {
        "windows": looked.windows,
        "records_at_zendesk": looked.records,
        "records_delivered": sum(looked.missing.values()),
        "pages": work.pages,
        "windows_left": len(work.due),
        MEMORY: _memory(work.memory),
    }
    left = f" {len(work.due):,} windows are left for another time." if work.due else ""
    seen = f"{looked.windows:,} windows with {looked.records:,} records: all are delivered."
    otherwise = f"{seen if looked.windows or not work.due else NOT_A_WINDOW}{left}"
    return _result(key, severity, texts, told, otherwise)


def _memory(memory: Memory) -> dg.JsonMetadataValue:
    return dg.MetadataValue.json(msgspec.to_builtins(memory))


def comparisons_due(
    instance: dg.DagsterInstance, accounts: Iterable[Account], now: float
) -> Iterator[tuple[Account, dg.AssetCheckKey]]:
    """The checks of the comparison that have something to do, and are not at it."""
    checks = {
        dg.AssetCheckKey(account.feed_key, source_check(stream)): account
        for account in accounts
        for stream in account.streams
    }
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks))
    for key, account in checks.items():
        record = latest.get(key)
        planned = record is not None and record.status is AssetCheckExecutionRecordStatus.PLANNED
        run = instance.get_run_by_id(record.run_id) if record and planned else None
        verdict = _latest_verdict(instance, key) if planned else record.evaluation if record else None
        failed, most = verdict is not None and not verdict.passed, account.settings.comparison_pages
        if (run is None or run.is_finished) and is_due(remembered(verdict), now, most, failed=failed):
            yield account, key


def _windows(context: dg.AssetCheckExecutionContext, asset: dg.AssetKey) -> list[Window]:
    """The windows of the run that the checks follow; else the newest of the asset."""
    run = context.op_execution_context
    if run.has_partition_key or run.has_partition_key_range:
        return sorted(filter(None, map(Window.if_hour, run.partition_keys)))
    return sorted(delivered_windows(context.instance, asset))


def _found_before(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> list[Window]:
    """The windows with findings in the latest verdict, in order."""
    verdict = _latest_verdict(instance, key)
    entry = verdict.metadata.get(WINDOWS) if verdict else None
    if isinstance(entry, dg.JsonMetadataValue) and isinstance(entry.data, list):
        return sorted(window for name in entry.data if (window := Window.if_hour(str(name))))
    return []


def _verdict(
    key: dg.AssetCheckKey, check: WindowCheck, inspector: Inspector, windows: Sequence[Window], before: Sequence[Window]
) -> dg.AssetCheckResult:
    """A look at windows, and again at those with findings `before`; what is not looked at again stays found."""
    known = list(before) if check.again else list[Window]()
    again, later = known[:MOST_WINDOWS], known[MOST_WINDOWS:]
    try:
        findings = list(check.again(inspector, again)) if check.again else []
        findings += check.look(inspector, [window for window in windows if window not in again])
    except (PipelineError, ValueError) as problem:
        return _unseen(key, check.severity, problem, known)
    texts = [f"{finding.window}: {finding.text}" for finding in findings]
    texts += _later(later)
    found = {finding.window for finding in findings}.union(later)
    return _result(key, check.severity, texts, {"windows": len({*windows, *again}), **_remembered(found)})


def _later(windows: Iterable[Window]) -> list[str]:
    return [f"{window}: found before, and looked at again after the others" for window in windows]


def _remembered(found: Iterable[Window]) -> Mapping[str, Any]:
    """Windows with findings, for the next look."""
    names = [window.partition_key for window in sorted(found)[:MOST_REMEMBERED]]
    return {WINDOWS: dg.MetadataValue.json(names)} if names else {}


def _unseen(
    key: dg.AssetCheckKey, severity: dg.AssetCheckSeverity, problem: Exception, before: Sequence[Window] = ()
) -> dg.AssetCheckResult:
    """A writer may be without the right to read the feed; anything else that hinders a look is wrong.

    So is a look that does not come about at windows with findings `before`.
    """
    if isinstance(problem, DeniedError) and not before:
        return _result(key, severity, [], {}, otherwise=f"Not looked at: {problem}")
    return _result(key, severity, [f"{UNSEEN}: {problem}"], _remembered(before))


def _result(
    key: dg.AssetCheckKey,
    severity: dg.AssetCheckSeverity,
    findings: Sequence[str],
    metadata: Mapping[str, Any],
    otherwise: str = "All is well.",
) -> dg.AssetCheckResult:
    more = f"; and {len(findings) - MOST_SHOWN:,} more" if len(findings) > MOST_SHOWN else ""
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not findings,
        severity=severity,
        description="; ".join(findings[:MOST_SHOWN]) + more if findings else otherwise,
        metadata={"findings": len(findings), **metadata},
    )
