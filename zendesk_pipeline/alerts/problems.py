"""What is wrong with the collection right now, as data: read from the Dagster instance, worded for people.

One cause is one problem, however many windows and runs it has hit. Nothing here remembers: what was told, has grown or
is solved is the business of `alerts`. Texts hold sentences of ours and of Dagster's, never an exception's own words:
those could quote a record.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal
from urllib.parse import quote

import dagster as dg

from zendesk_pipeline.alerts.messages import some_words
from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window, ranges, some, timestamp
from zendesk_pipeline.orchestration.backfill_commands import backfills
from zendesk_pipeline.orchestration.catch_up import SUSPICIOUS, Attempt, settled, troubles
from zendesk_pipeline.orchestration.instance import SerializableErrorInfo
from zendesk_pipeline.orchestration.run_history import UNDER_WAY, Ours, redelivers, stays, took_back, windows_of

Severity = Literal["info", "warning", "error"]

MINUTE = 60

LOOK_BACK = 30 * DAY
"""Failed runs older than this are no longer looked at."""
MOST_RUNS = 200
"""Of a kind, the newest: what a look costs has a bound."""
MOST_OF_AN_ASSET = 5
"""Runs, where there are many assets."""
MOST_PAGES = 5
"""Of failures: other people's must not push ours out of sight."""
MOST_UNDER_WAY = 2000
"""Runs, other people's too."""
MOST_WINDOWS = 2000
"""Asked for one by one; of more, all are asked for."""
MOST_MATERIALIZATIONS = 50
LEAST_HOURS = 24
"""Missing windows are looked for this far back, or as far as the catch-up sensor looks."""
MOST_COMMANDS = 3
"""Of ranges to collect; more are one command from the first window to the last."""
LONGEST_SENTENCE = 500

STARVED = "Zendesk's rate limit let no request"
"""How the sentence of a StarvedError begins."""
STARVING = 45 * MINUTE
"""Of an hour, spent waiting for the rate limit."""
RECENT = 6 * HOUR
"""A window that ended so short a time ago belongs to the hourly collection, not to a backfill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that a person should know."""

    cause: str
    """The same for the same problem, tick after tick."""
    title: str
    text: str
    since: float
    """Seconds since the epoch, as everywhere here."""
    link_path: str
    """Below the UI's address."""
    severity: Severity
    size: int = 1
    """How much of it there is; growth is worth telling."""
    asset: str = ""
    windows: tuple[Span, ...] = ()
    """Of the asset: it is solved when they are delivered."""
    once: bool = False
    """Whether it is told once, without reminders."""
    over: str = ""
    """What is well again when it has ended, as a title; for windows it is that they are delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Which windows are looked after, and by which bounds."""

    start: int
    """Of the first window."""
    hours: int
    """The catch-up sensor asks for windows this far back; 0 if there is none."""
    stale_after: int
    """Hours that a window may stay missing while nothing is under way."""
    delay: float = 0
    """Seconds by which the collection begins later than the earliest may: all that is late counts from then."""

    def caught_up(self, now: float) -> Span:
        """The windows that the catch-up sensor looks after."""
        return settled(self.start, now - self.delay, self.hours)

    def asked_again_from(self, now: float) -> float:
        """Windows that start before are not asked for again by themselves."""
        return self.caught_up(now).start if self.hours else math.inf

    def expected(self, now: float) -> Span:
        """The windows that have to be there."""
        return settled(self.start, now - self.delay, max(self.hours, LEAST_HOURS))

    def is_late(self, window: Window, now: float) -> bool:
        """Whether it may not be missing any more."""
        return window.end + self.stale_after * HOUR + self.delay <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A run that failed, with the reason in words for people."""

    run_id: str
    assets: Collection[str]
    span: Span
    at: float
    event: int
    """The number of its failure in the event log."""
    sentence: str
    stays: bool = False
    """Whether trying again does not help: a person has to fix something first."""
    redeliver: bool = False
    """Whether it was to send again what had been delivered."""
    took_back: bool = False
    """Whether windows that it has reported turned out not to be finished."""


@dataclass(frozen=True, slots=True)
class Held:
    """Of one asset, the event numbers of each window's newest materialization and of the newest plan for one."""

    delivered: Mapping[str, int]
    planned: Mapping[str, int]

    def missing(self, run: FailedRun) -> list[Window]:
        """What neither the run itself, before it failed, nor a later one has delivered."""
        return [window for window in run.span if self._is_missing(window.partition_key, run)]

    def _is_missing(self, key: str, run: FailedRun) -> bool:
        before = run.event if run.took_back else min(self.planned.get(key, -1), run.event)
        return self.delivered.get(key, -1) <= before


# What the instance knows


def held_windows(
    instance: dg.DagsterInstance, key: dg.AssetKey, *, plans: bool, among: Collection[Window] | None = None
) -> Held:
    """Which windows of an asset were delivered and, if asked for, planned; of all, or of a few."""
    wanted = {window.partition_key for window in among} if among and len(among) <= MOST_WINDOWS else None
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    return Held(
        delivered=instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION, wanted),
        planned=instance.get_latest_storage_id_by_partition(key, planned, wanted) if plans else {},
    )


def failed_runs(instance: dg.DagsterInstance, mine: Ours, *, since: float) -> list[FailedRun]:
    """The newest of our failed runs over windows, whoever launched them: schedule, sensor, UI or command line."""
    wanted = dg.RunStatusChangeRecordsFilter(event_type=dg.DagsterEventType.RUN_FAILURE, after_timestamp=float(since))
    found: list[FailedRun] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = instance.fetch_run_status_changes(wanted, limit=_most_runs(mine.assets), cursor=cursor)
        found += _of_failures(instance, mine, page.records)
        cursor = page.cursor
        if not page.has_more or len(found) >= _most_runs(mine.assets):
            break
    return found


def _of_failures(
    instance: dg.DagsterInstance, mine: Ours, failures: Iterable[dg.EventLogRecord]
) -> Iterator[FailedRun]:
    events = {event.run_id: event for event in failures}
    if not events:
        return
    for record in instance.get_run_records(dg.RunsFilter(run_ids=list(events))):
        run, span = record.dagster_run, windows_of(record.dagster_run)
        assets = mine.among(instance, run) if span else ()
        if span and assets:
            event = events[run.run_id]
            yield FailedRun(
                run_id=run.run_id,
                assets={key.to_user_string() for key in assets},
                span=span,
                at=event.timestamp,
                event=event.storage_id,
                sentence=_reason(event.event_log_entry),
                stays=stays(run),
                redeliver=redelivers(run),
                took_back=took_back(run),
            )


def by_asset(runs: Iterable[FailedRun]) -> dict[str, list[FailedRun]]:
    """Each asset's runs, in their order."""
    found: dict[str, list[FailedRun]] = {}
    for run in runs:
        for asset in run.assets:
            found.setdefault(asset, []).append(run)
    return found


def spans_under_way(instance: dg.DagsterInstance, mine: Ours, *, created_after: float) -> dict[str, list[Span]]:
    """What our runs are at work on, by asset; one that has waited in the queue since before then counts for nothing."""
    found: dict[str, list[Span]] = {}
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(UNDER_WAY)), limit=MOST_UNDER_WAY):
        run, span = record.dagster_run, windows_of(record.dagster_run)
        queued = run.status in {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}
        if span and not (queued and record.create_timestamp.timestamp() < created_after):
            for key in mine.among(instance, run):
                found.setdefault(key.to_user_string(), []).append(span)
    return found


def _most_runs(assets: Collection[dg.AssetKey]) -> int:
    """One account's runs must not push another's out of sight."""
    return max(MOST_RUNS, MOST_OF_AN_ASSET * len(assets))


def _reason(entry: dg.EventLogEntry) -> str:
    """Our own sentence where there is one; else Dagster's message, and of an exception its kind alone."""
    event = entry.get_dagster_event()
    data = event.job_failure_data if event.event_specific_data else None  # none where a launcher reports the failure
    step = data and data.first_step_failure_event
    failure = step and step.step_failure_data.user_failure_data
    if failure and failure.description:
        said = re.sub(r" \[[^\[\]]*\]$", "", failure.description.strip().split("\n", 1)[0])
        return some_words(said, LONGEST_SENTENCE)
    said = re.sub(r'^Execution of run for "[^"]*" failed\. ', "", first_line(event.message or "The run failed."))
    causes = error_chain(data and data.error)
    return f"{said} ({causes[-1].cls_name}; the run's log says more.)" if causes else said


def error_chain(error: SerializableErrorInfo | None) -> list[SerializableErrorInfo]:
    """An error and what it was caused by."""
    return [error, *error_chain(error.cause)] if error else []


# What is wrong with windows


def run_failures(
    asset: str, runs: Iterable[FailedRun], held: Held, asked_again_from: float, under_way: Sequence[Span] = ()
) -> Iterator[Problem]:
    """Failed runs whose windows are still missing, grouped by what their sentences have in common.

    Args:
        asset: Of whose windows.
        runs: Failed ones.
        held: What is delivered and planned of it.
        asked_again_from: The start of the first window that is asked for again by itself.
        under_way: What runs are at work on by now, such as the retry of a run whose process has died.
    """
    groups: dict[str, list[FailedRun]] = {}
    missing: dict[str, set[Window]] = {}
    for run in runs:
        if asset in run.assets and (windows := held.missing(run)):
            cause = _cause(asset, run.sentence)
            groups.setdefault(cause, []).append(run)
            missing.setdefault(cause, set()).update(windows)
    for cause, failed in groups.items():
        latest = max(failed, key=lambda run: run.at)
        left = {window for window in missing[cause] if not any(window in span for span in under_way)}
        what_next = _what_next(latest, missing[cause], left, asked_again_from)
        yield _run_failure(cause, asset, sorted(failed, key=lambda run: run.at), missing[cause], what_next)


def _what_next(
    latest: FailedRun, missing: Collection[Window], left: Collection[Window], asked_again_from: float
) -> str:
    """What becomes of the missing windows; no run is at work on those that are left."""
    if latest.redeliver:
        return "It was to send records again: re-execute it, which goes on with that. The catch-up sensor does not."
    seen_to = sum(window.start >= asked_again_from for window in missing)
    if latest.stays and seen_to:
        return _after_the_fix(seen_to, len(missing))
    of, one = len(missing), len(missing) == 1
    under_way, asked_again = of - len(left), sum(window.start >= asked_again_from for window in left)
    if under_way == of:
        return f"{'It is' if one else 'They are'} under way again."
    if not under_way + asked_again:
        they, themselves = ("It is", "itself") if one else ("They are", "themselves")
        return f"{they} not asked for again by {themselves}: launch a backfill."
    some_of_them = "it" if one else "them" if asked_again == of else f"{asked_again:,} of them"
    said = [
        *([f"Under way again: {under_way:,} of them."] if under_way else []),
        *([f"The catch-up sensor asks for {some_of_them} again."] if asked_again else []),
        *(["For the others, launch a backfill."] if under_way + asked_again < of else []),
    ]
    return " ".join(said)


def _after_the_fix(asked_again: int, of: int) -> str:
    others = "" if asked_again == of else f" Of the windows, {of - asked_again:,} need a backfill then."
    return (
        "Fix that first: until then one run tries it now and then, at most an hour apart. Once one comes through, the"
        f" catch-up sensor asks for what is missing.{others}"
    )


def _cause(asset: str, sentence: str) -> str:
    """Sentences are of one kind if they differ in words with digits and in what others said (in parentheses)."""
    if sentence.startswith(STARVED):
        return f"starved {asset}"
    kind = re.sub(r"\([^()]*\)|\S*\d\S*", "", sentence)
    return f"run-failure {asset} {blake2b(kind.encode(), digest_size=4).hexdigest()}"


def _run_failure(
    cause: str, asset: str, runs: Sequence[FailedRun], missing: Collection[Window], what_next: str
) -> Problem:
    latest = runs[-1]
    starved = latest.sentence.startswith(STARVED)
    often = f"{len(runs)} runs failed, the latest at {moment(latest.at)}" if len(runs) > 1 else "One run failed"
    return Problem(
        cause=cause,
        title=f"{asset} starves for Zendesk's rate limit" if starved else f"{asset}: {count(missing, 'window')} failed",
        text=f"{latest.sentence}\nWindows: {listed(missing)}.\n{often}. {what_next}",
        since=runs[0].at,
        link_path=f"/runs/{latest.run_id}",
        severity="error" if len(runs) >= SUSPICIOUS else "warning",
        size=len(missing),
        asset=asset,
        windows=tuple(ranges(missing)),
    )


def repeated_failures(
    asset: str, runs: Sequence[FailedRun], held: Held, caught_up: Span, now: float
) -> Iterator[Problem]:
    """Windows at which so many runs broke off that the catch-up sensor takes each by itself."""
    missing = [window for window in caught_up if window.partition_key not in held.delivered]
    tried = [run for run in runs if asset in run.assets]
    found = troubles(missing, [Attempt(run.span, run.at, stays=run.stays) for run in tried])
    again = sorted((each for each in found.values() if each.failures >= SUSPICIOUS), key=lambda each: each.window)
    if not again:
        return
    windows = [trouble.window for trouble in again]
    next_try = max(now, min(trouble.next_try for trouble in again))
    yield Problem(
        cause=f"window {asset}",
        title=f"{asset}: {count(windows, 'window')} failed again and again",
        text=f"Runs break off at {some([f'{each.window} ({each.failures} runs)' for each in again])}. The windows"
        f" behind go on without, and the catch-up sensor tries again, next at {moment(next_try)}. What the runs say has"
        " to be mended.",
        since=min(run.at for run in tried if any(window in run.span for window in windows)),
        link_path=_partition_path(asset, windows[0]),
        severity="error",
        size=len(windows),
        asset=asset,
        windows=tuple(ranges(windows)),
    )


def stale(  # what is known of an asset
    key: dg.AssetKey,
    delivered: Collection[str],
    under_way: Sequence[Span],
    watch: Watch,
    now: float,
    *,
    lost: Sequence[Span] = (),
    cancelled: Collection[Window] = (),
) -> Iterator[Problem]:
    """Windows that ended longer than `stale_after` ago, are missing, and no run is at work on.

    Args:
        key: The asset.
        delivered: Partition keys of the windows that may be looked for.
        under_way: What runs are at work on.
        watch: By which bounds.
        now: Seconds since the epoch.
        lost: Missing windows of before: the collection was on when they were due, and nothing asks for them any more.
        cancelled: Windows whose latest run a person cancelled.
    """
    recent = [
        window
        for window in watch.expected(now)
        if watch.is_late(window, now)
        and window.partition_key not in delivered
        and not any(window in span for span in under_way)
    ]
    missing = [*(window for span in lost for window in span), *recent]
    if not missing:
        return
    asset = key.to_user_string()
    newest = max(filter(None, map(Window.if_hour, delivered)), default=None)
    apart = [
        *([_by_a_person([window for window in missing if window in cancelled])] if cancelled else []),
        *([_nobody_asks([window for span in lost for window in span], watch)] if lost else []),
    ]
    seen = [window for window in recent if window not in cancelled]
    reason = (
        " No run is at work on what is missing: see whether runs fail or wait in the queue, and whether the schedule"
        " and the catch-up sensor are switched on."
    )
    command = f"\n{collect(key, lost)}" if lost else ""
    yield Problem(
        cause=f"stale {asset}",
        title=f"{asset} is behind: {count(missing, 'window')} missing for more than {watch.stale_after} h",
        text=f"Missing: {listed(missing)}.\nThe newest window that is delivered: {newest or 'none'}."
        f"{reason if seen else ''}{''.join(f' {each}' for each in apart if each)}{command}",
        since=missing[0].end,
        link_path=_partition_path(asset, missing[0]),
        severity="error",
        size=len(missing),
        asset=asset,
        windows=tuple(ranges(missing)),
    )


def _by_a_person(windows: Collection[Window]) -> str:
    if not windows:
        return ""
    were = "was" if len(windows) == 1 else "were"
    return f"{len(windows):,} of them {were} cancelled by a person: launch again what is wanted."


def _nobody_asks(windows: Collection[Window], watch: Watch) -> str:
    old = f"older than CATCH_UP_HOURS ({watch.hours})" if watch.hours else "left, with the catch-up sensor off"
    return (
        f"{len(windows):,} of them {'is' if len(windows) == 1 else 'are'} {old}: nothing asks for them. Collect them:"
    )


def set_aside(cancelled: Iterable[tuple[Span, float]], failed: Sequence[FailedRun]) -> set[Window]:
    """The windows of runs that a person cancelled (what, and when it ended), and that no later run has tried."""
    return {
        window
        for span, ended in cancelled
        for window in span
        if not any(run.at > ended and window in run.span for run in failed)
    }


def never_asked_for(key: dg.AssetKey, spans: Sequence[Span], now: float) -> Iterator[Problem]:
    """Windows since START_DATE from before the collection was switched on: a choice to make, and not an outage."""
    if not spans:
        return
    asset, windows = key.to_user_string(), [window for span in spans for window in span]
    yield Problem(
        cause=f"never-asked {asset}",
        title=f"{asset}: {count(windows, 'window')} since START_DATE not collected yet",
        text=f"Not asked for since the collection was switched on: {listed(windows)}. Nothing asks for them by itself."
        f" Collect them:\n{collect(key, spans)}\nIf they are not wanted, set START_DATE to"
        f" {timestamp(spans[-1].end)}.",
        since=now,
        link_path=_partition_path(asset, windows[0]),
        severity="warning",
        once=True,
        asset=asset,
    )


def collect(key: dg.AssetKey, spans: Sequence[Span]) -> str:
    """The command that collects ranges; of many it is one over all, which repeats nothing that is delivered between."""
    wanted = spans if len(spans) <= MOST_COMMANDS else [Span(spans[0].start, spans[-1].end)]
    account = key.path[0] if len(key.path) > 1 else ""
    return "\n".join(command for span in wanted for command in backfills(key.path[-1], span, account))


def starving(instance: dg.DagsterInstance, key: dg.AssetKey, now: float) -> Iterator[Problem]:
    """An asset that spent most of the last hour waiting for the rate limit, backfills of old windows aside."""
    wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=now - HOUR)
    records = instance.fetch_materializations(wanted, limit=MOST_MATERIALIZATIONS).records
    newest_last = [event for record in reversed(records) if (event := record.asset_materialization)]
    events = {event.partition: event for event in newest_last}  # a long run reports a window early and at its end
    waited = sum(
        _waited(event)
        for partition, event in events.items()
        if (window := Window.if_hour(partition)) and window.end > now - RECENT
    )
    if waited < STARVING:
        return
    asset = key.to_user_string()
    yield Problem(
        cause=f"rate-limit {asset}",
        title=f"{asset} waits for Zendesk's rate limit most of the time",
        text=f"It waited {duration(waited)} of the last hour; with more it falls behind. Something else uses up the"
        " account's budget: find it, or raise ZENDESK_RATE_SHARE or ZENDESK_EXPORT_RATE if the plan allows more.",
        since=now,
        link_path=f"/assets/{quote(asset)}",
        severity="warning",
        asset=asset,
    )


def _waited(event: dg.AssetMaterialization) -> float:
    entry = event.metadata.get("rate_limit_wait_seconds")
    return float(entry.value or 0) if isinstance(entry, dg.FloatMetadataValue | dg.IntMetadataValue) else 0.0


def _partition_path(asset: str, window: Window) -> str:
    return f"/assets/{quote(asset)}?view=partitions&partition={quote(window.partition_key, safe='')}"


# Words


def moment(at: float) -> str:
    """`2026-11-12 05:00 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """`2 h 10 min`."""
    minutes = round(seconds / MINUTE)
    hours, days = minutes // 60, minutes // (24 * 60)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def listed(windows: Collection[Window]) -> str:
    """Windows for people: the first few ranges, and how many windows there are."""
    return f"{some([str(span) for span in ranges(windows)])} ({count(windows, 'window')}, UTC)"


def count(items: Collection[object], name: str) -> str:
    """`1 window`, `1,200 windows`."""
    return f"{len(items)} {name}" if len(items) == 1 else f"{len(items):,} {name}s"


def first_line(text: str) -> str:
    """What of a longer text goes into a message."""
    return some_words(text.strip().split("\n", 1)[0], LONGEST_SENTENCE)
