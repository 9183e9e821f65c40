"""Asset checks: of each collection, and of the feed once an hour.

They read, and write nothing but their verdicts. A failed one is an alert. What a check of windows has found wrong it
checks again the next time, so that its verdict stays until the cause is gone, and no longer.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from zendesk_pipeline.delivery.inspection import Finding, Inspector
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeniedError, PipelineError
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.orchestration import verdicts
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up_sensor import delivered_windows
from zendesk_pipeline.orchestration.comparison import UNSEEN
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of
from zendesk_pipeline.orchestration.verdicts import latest_verdict, verdict

FEED_CHECK = "holds_nothing_else"
MOST_WINDOWS = 24
"""Windows of one check: the newest of a long range, and the oldest with earlier findings."""
MOST_REMEMBERED = 500
"""Windows with findings that a verdict names for the next check."""
MOST_BYTES = 8 * 1024 * 1024
"""Bytes of objects that are read again, which takes a fraction of a second."""
MOST_OBJECTS = 10_000
"""Objects of the feed that are listed, in ten requests."""
MOST_REPORTS = 4
"""Materializations read for each window, of which the newest counts."""
ASKED_HOURS = 4
"""Hours whose runs are looked at for times of requests: a window is usually finished in the hour after it."""
WINDOWS = "windows_with_findings"
"""The metadata of a verdict that names the windows with findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowCheck:
    """A check of windows that were delivered."""

    name: str
    description: str
    severity: dg.AssetCheckSeverity
    check: Callable[[Inspector, Sequence[Window]], Iterator[Finding]]
    again: Callable[[Inspector, Sequence[Window]], Iterator[Finding]] | None
    """How windows with findings are checked until they are right; None where nothing can be fixed."""


WINDOW_CHECKS = (
    WindowCheck(
        name="objects_match_ledgers",
        description="The bucket holds what the ledgers say: no object of another size, none that no ledger names.",
        severity=dg.AssetCheckSeverity.ERROR,
        check=Inspector.objects,
        again=Inspector.objects,
    ),
    WindowCheck(
        name="lines_are_readable",
        description="Every line is one record that SecOps can read: JSON, short enough, the one its ledger says.",
        severity=dg.AssetCheckSeverity.ERROR,
        check=lambda inspector, windows: inspector.lines(windows, most_bytes=MOST_BYTES),
        again=lambda inspector, windows: inspector.lines(windows, most_bytes=math.inf),
    ),
    WindowCheck(
        name="volume_is_usual",
        description="No silence in an hour of the week that usually has records, and none since the first day: a"
        " source that stops, or never began, is an alarm.",
        severity=dg.AssetCheckSeverity.WARN,
        check=Inspector.volume,
        again=None,
    ),
    WindowCheck(
        name="times_are_usual",
        description="Hardly a record that Zendesk showed was left out, since by its time it is of no window asked for.",
        severity=dg.AssetCheckSeverity.WARN,
        check=Inspector.left_out,
        again=None,
    ),
    WindowCheck(
        name="records_are_well_formed",
        description="Every record that Zendesk showed has an id, a time and a line that SecOps can read.",
        severity=dg.AssetCheckSeverity.ERROR,
        check=Inspector.malformed,
        again=None,
    ),
    WindowCheck(
        name="fields_are_known",
        description="No field, event source or action that Zendesk never showed before, and none that goes past the"
        " redaction rules.",
        severity=dg.AssetCheckSeverity.WARN,
        check=Inspector.new_fields,
        again=None,
    ),
)


REQUEST_CHECK = WindowCheck(
    name="own_requests_show",
    description="Every request to the account makes a record here, the collector's own too: an hour without any, in"
    " which it asked, says that the log is switched off.",
    severity=dg.AssetCheckSeverity.ERROR,
    check=Inspector.own_requests,
    again=None,
)
"""Of streams that are off until an admin switches them on."""


def checks_of(stream: Stream) -> tuple[WindowCheck, ...]:
    """What is checked after each run of a stream."""
    return (*WINDOW_CHECKS, REQUEST_CHECK) if stream.switch else WINDOW_CHECKS


def window_checks(account: Account, stream: Stream) -> dg.AssetChecksDefinition:
    """The checks that follow each run of a stream's asset; by themselves they check its newest windows."""
    asset = account.stream_key(stream)

    @dg.multi_asset_check(
        name=account.called(f"{stream.name}_checks"),
        specs=[dg.AssetCheckSpec(each.name, asset=asset, description=each.description) for each in checks_of(stream)],
        can_subset=True,
        required_resource_keys={bucket_key(account)},
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        windows = _windows(context, asset)[-MOST_WINDOWS:]
        inspector = bucket_of(context, account).inspector(stream)
        inspector.reported = _reported(context.instance, asset, windows)
        inspector.asked = _asked(context.instance, account, windows) if stream.switch else ()
        for each in checks_of(stream):
            key = dg.AssetCheckKey(asset, each.name)
            if key in context.selected_asset_check_keys:
                yield _verdict(key, each, inspector, windows, _found_before(context.instance, key))

    return checks


def keep_verdicts(instance: dg.DagsterInstance, accounts: Iterable[Account]) -> list[dg.AssetCheckKey]:
    """Report latest verdicts again where a collection ended before its checks began; those of the checks."""
    keys = [
        dg.AssetCheckKey(account.stream_key(stream), each.name)
        for account in accounts
        for stream in account.streams
        for each in checks_of(stream)
    ]
    return verdicts.keep(instance, keys)


def _reported(
    instance: dg.DagsterInstance, asset: dg.AssetKey, windows: Sequence[Window]
) -> Mapping[Window, Mapping[str, object]]:
    """The metadata of the newest materialization of each window."""
    if not windows:
        return {}
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[window.partition_key for window in windows])
    found: dict[Window, Mapping[str, object]] = {}
    for record in instance.fetch_materializations(wanted, limit=MOST_REPORTS * len(windows)).records:
        materialization = record.asset_materialization
        if materialization and materialization.partition:
            metadata = {name: entry.value for name, entry in materialization.metadata.items()}
            found.setdefault(Window.of_partition(materialization.partition), metadata)
    return found


def _asked(instance: dg.DagsterInstance, account: Account, windows: Sequence[Window]) -> list[float]:
    """When runs of the account's streams finished windows that they had to ask Zendesk for, by their metadata."""
    hours = sorted({Window(window.start - back * HOUR) for window in windows for back in range(ASKED_HOURS)})
    found: list[float] = []
    for stream in account.streams:
        for window, metadata in _reported(instance, account.stream_key(stream), hours).items():
            lag, requests = metadata.get("lag_seconds"), metadata.get("requests")
            if isinstance(lag, float) and isinstance(requests, int) and requests:
                found.append(window.end + lag)
    return found


def feed_check(account: Account, clock: Clock) -> dg.AssetChecksDefinition:
    """The check of what is under the feed prefix, which notes what waits there."""
    key = dg.AssetCheckKey(account.feed_key, FEED_CHECK)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="Nothing foreign is under the feed prefix: SecOps would read it as logs. Notes what waits there.",
        required_resource_keys={bucket_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        now = clock.now()
        newest = [Window.of(int(now) - 24 * HOUR), Window.of(int(now))]
        try:
            waiting = bucket_of(context, account).feed(newest=newest, most=MOST_OBJECTS)
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
        return verdict(key, dg.AssetCheckSeverity.WARN, foreign, observed)

    return check


def _windows(context: dg.AssetCheckExecutionContext, asset: dg.AssetKey) -> list[Window]:
    """The windows of the run that the checks follow; else the newest of the asset."""
    run = context.op_execution_context
    if run.has_partition_key or run.has_partition_key_range:
        return sorted(filter(None, map(Window.if_hour, run.partition_keys)))
    return sorted(delivered_windows(context.instance, asset))


def _found_before(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> list[Window]:
    """The windows with findings in the latest verdict, in order."""
    latest = latest_verdict(instance, key)
    entry = latest.metadata.get(WINDOWS) if latest else None
    if isinstance(entry, dg.JsonMetadataValue) and isinstance(entry.data, list):
        return sorted(window for name in entry.data if (window := Window.if_hour(str(name))))
    return []


def _verdict(
    key: dg.AssetCheckKey, check: WindowCheck, inspector: Inspector, windows: Sequence[Window], before: Sequence[Window]
) -> dg.AssetCheckResult:
    """A check of windows, and again of those with findings `before`; what is not checked again stays found."""
    known = list(before) if check.again else list[Window]()
    again, later = known[:MOST_WINDOWS], known[MOST_WINDOWS:]
    try:
        findings = list(check.again(inspector, again)) if check.again else []
        findings += check.check(inspector, [window for window in windows if window not in again])
    except PipelineError as problem:
        return _unseen(key, check.severity, problem, known)
    texts = [f"{finding.window}: {finding.text}" for finding in findings]
    texts += [f"{window}: found before, and looked at again after the others" for window in later]
    found = {finding.window for finding in findings}.union(later)
    return verdict(key, check.severity, texts, {"windows": len({*windows, *again}), **_remembered(found)})


def _remembered(found: Iterable[Window]) -> Mapping[str, Any]:
    """Windows with findings, for the next check."""
    names = [window.partition_key for window in sorted(found)[:MOST_REMEMBERED]]
    return {WINDOWS: dg.MetadataValue.json(names)} if names else {}


def _unseen(
    key: dg.AssetCheckKey, severity: dg.AssetCheckSeverity, problem: Exception, before: Sequence[Window] = ()
) -> dg.AssetCheckResult:
    """A writer may be without the right to read the feed; anything else that hinders a check is wrong.

    So is a check of windows with findings `before` that does not come about.
    """
    if isinstance(problem, DeniedError) and not before:
        return verdict(key, severity, [], {}, otherwise=f"Not looked at: {problem}")
    return verdict(key, severity, [f"{UNSEEN}: {problem}"], _remembered(before))
