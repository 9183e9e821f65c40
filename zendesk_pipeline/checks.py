"""Asset checks: of each collection, of the feed once an hour, and of Zendesk against the bucket once a day.

They read, and write nothing but their verdicts. A failed one is an alert. What a check of windows has found wrong it
looks at again the next time, so that its verdict stays until the cause is gone, and no longer.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from zendesk_pipeline.accounts import Account
from zendesk_pipeline.bindings import bucket_key, bucket_of, zendesk_key, zendesk_of
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.errors import DeniedError, PipelineError
from zendesk_pipeline.inspection import Finding, Inspector
from zendesk_pipeline.sensors import delivered_windows
from zendesk_pipeline.streams import Stream
from zendesk_pipeline.windows import HOUR, Span, Window

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
SAMPLED_HOURS = 30 * 24
"""The reconciliation takes a window of so many last ones,"""
LATE_HOURS = 24
"""but of none of these, where records that show up late may be missing until the next windows are collected."""
MOST_READ_AGAIN = 3
"""Windows, the oldest in which the reconciliation has missed records."""
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
    """The check that asks Zendesk once more for a window of the last month."""
    key, asset = dg.AssetCheckKey(account.feed_key, source_check(stream)), account.stream_key(stream)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description=f"A delivered window of the last {SAMPLED_HOURS // 24} days, another one each day, is read again at"
        " Zendesk: everything it shows of that hour is delivered. A window that is not whole is read each day until"
        " it is.",
        pool=account.called(stream.pool),
        required_resource_keys={bucket_key(account), zendesk_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        s3_io_manager = bucket_of(context, account)
        zendesk = zendesk_of(context, account)
        error = dg.AssetCheckSeverity.ERROR
        known = _found_before(context.instance, key)
        sampled = sample(delivered_windows(context.instance, asset), clock.now())
        windows = [window for window in known[:MOST_READ_AGAIN] if window != sampled] + ([sampled] if sampled else [])
        if not windows:
            return _result(key, error, [], {}, otherwise="No window of that time has been delivered.")
        findings: dict[Window, str] = {}
        shown: set[str] = set()
        try:
            inspector = s3_io_manager.inspector(stream)
            for window in windows:
                pages = zendesk.pages(stream, Span(window.start, window.end), lookback=0)
                shown = {each.identity for page in pages for each in page.records if Window.of(each.time) == window}
                findings.update({each.window: each.text for each in inspector.undelivered(window, shown)})
        except (PipelineError, ValueError) as problem:
            return _unseen(key, error, problem, sorted({*known, *findings}))
        later = [window for window in known if window not in windows]
        texts = [f"{window}: {text}" for window, text in findings.items()] + _later(later)
        looked_at = {"window": str(windows[-1]), "records_at_zendesk": len(shown), **_remembered({*findings, *later})}
        return _result(key, error, texts, looked_at, otherwise=f"{windows[-1]}: {len(shown)} records, all delivered.")

    return check


def source_check(stream: Stream) -> str:
    """The name of a stream's reconciliation."""
    return f"{stream.name}_match_source"


def sample(delivered: Iterable[Window], now: float) -> Window | None:
    """One of the windows of the last days before this one, another one each day; none where there is none."""
    oldest, newest = now - SAMPLED_HOURS * HOUR, now - LATE_HOURS * HOUR
    recent = sorted(window for window in delivered if oldest <= window.start and window.end <= newest)
    of_today = random.Random(int(now) // (24 * HOUR))  # noqa: S311  # no secret: a sample
    return of_today.choice(recent) if recent else None


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
    return _result(key, severity, [f"it could not be looked at: {problem}"], _remembered(before))


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
