"""What is wrong with runs and windows. One cause is one problem, however many windows and runs it has hit."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import blake2b

import dagster as dg

from zendesk_pipeline.alerts.problem import MINUTE, Problem, asset_path, count, duration, listed, moment
from zendesk_pipeline.alerts.snapshot import AssetFacts, FailedRun, Snapshot
from zendesk_pipeline.model.windows import Span, Window, ranges, some, timestamp
from zendesk_pipeline.orchestration.catch_up import SUSPICIOUS, Attempt, troubles
from zendesk_pipeline.settings.programs import backfills

MOST_COMMANDS = 3
"""Of ranges to collect; more are one command from the first window to the last."""
STARVED = "Zendesk's rate limit let no request"
"""How the sentence of a StarvedError begins."""
STARVING = 45 * MINUTE
"""Of an hour, spent waiting for the rate limit."""


def windows_and_runs(snapshot: Snapshot) -> Iterator[Problem]:
    """Everything of each asset; one that cannot be judged is noted in `snapshot.unreadable`."""
    for facts in snapshot.assets:
        try:
            for detector in DETECTORS if facts.whole else OF_RUNS:
                yield from detector(facts)
        except Exception as error:  # noqa: BLE001  # one failing asset must not stop the others
            snapshot.unreadable[facts.name] = error


# Runs that failed


def run_failures(facts: AssetFacts) -> Iterator[Problem]:
    """Failed runs whose windows are still missing, grouped by what their sentences have in common."""
    groups: dict[str, list[FailedRun]] = {}
    missing: dict[str, set[Window]] = {}
    for run in facts.failed:
        if windows := facts.held.missing(run):
            cause = _cause(facts.name, run.sentence)
            groups.setdefault(cause, []).append(run)
            missing.setdefault(cause, set()).update(windows)
    for cause, failed in groups.items():
        yield _run_failure(cause, facts, sorted(failed, key=lambda run: run.at), missing[cause])


def _cause(asset: str, sentence: str) -> str:
    """Sentences are of one kind if they differ in words with digits and in what others said (in parentheses)."""
    if sentence.startswith(STARVED):
        return f"starved {asset}"
    kind = re.sub(r"\([^()]*\)|\S*\d\S*", "", sentence)
    return f"run-failure {asset} {blake2b(kind.encode(), digest_size=4).hexdigest()}"


def _run_failure(cause: str, facts: AssetFacts, runs: Sequence[FailedRun], missing: Collection[Window]) -> Problem:
    latest, asset = runs[-1], facts.name
    starved = latest.sentence.startswith(STARVED)
    often = f"{len(runs)} runs failed, the latest at {moment(latest.at)}" if len(runs) > 1 else "One run failed"
    return Problem(
        cause=cause,
        title=f"{asset} starves for Zendesk's rate limit" if starved else f"{asset}: {count(missing, 'window')} failed",
        text=f"{latest.sentence}\nWindows: {listed(missing)}.\n{often}. {_what_next(latest, facts, missing)}",
        since=runs[0].at,
        link_path=f"/runs/{latest.run_id}",
        severity="error" if len(runs) >= SUSPICIOUS else "warning",
        size=len(missing),
        asset=asset,
        windows=tuple(ranges(missing)),
    )


def _what_next(latest: FailedRun, facts: AssetFacts, missing: Collection[Window]) -> str:
    """What becomes of the missing windows by itself, and what a person has to do."""
    if latest.redeliver:
        return "It was to send records again: re-execute it, which goes on with that. The catch-up sensor does not."
    asked_for = {window for window in missing if facts.hours and window.start >= facts.asked_for.start}
    of, seen_to = len(missing), len(asked_for)
    if latest.stays and seen_to:
        others = "" if seen_to == of else f" Of the windows, {of - seen_to:,} need a backfill then."
        return (
            "Fix that first: until then one run tries it now and then, at most an hour apart. Once one comes through,"
            f" the catch-up sensor asks for what is missing.{others}"
        )
    left = [window for window in missing if not any(window in span for span in facts.under_way)]
    under_way, asked_again = of - len(left), len(asked_for.intersection(left))
    if under_way == of:
        return f"{'It is' if of == 1 else 'They are'} under way again."
    if not under_way + asked_again:
        they, themselves = ("It is", "itself") if of == 1 else ("They are", "themselves")
        return f"{they} not asked for again by {themselves}: launch a backfill."
    some_of_them = "it" if of == 1 else "them" if asked_again == of else f"{asked_again:,} of them"
    said = [
        *([f"Under way again: {under_way:,} of them."] if under_way else []),
        *([f"The catch-up sensor asks for {some_of_them} again."] if asked_again else []),
        *(["For the others, launch a backfill."] if under_way + asked_again < of else []),
    ]
    return " ".join(said)


def repeated_failures(facts: AssetFacts) -> Iterator[Problem]:
    """Windows at which so many runs broke off that the catch-up sensor takes each by itself."""
    missing = [window for window in facts.asked_for if window.partition_key not in facts.held.delivered]
    found = troubles(missing, [Attempt(run.span, run.at, stays=run.stays) for run in facts.failed])
    again = sorted((each for each in found.values() if each.failures >= SUSPICIOUS), key=lambda each: each.window)
    if not again:
        return
    windows = [trouble.window for trouble in again]
    next_try = max(facts.now, min(trouble.next_try for trouble in again))
    yield Problem(
        cause=f"window {facts.name}",
        title=f"{facts.name}: {count(windows, 'window')} failed again and again",
        text=f"Runs break off at {some([f'{each.window} ({each.failures} runs)' for each in again])}. The windows"
        f" behind go on without, and the catch-up sensor tries again, next at {moment(next_try)}. Fix what the runs"
        " say.",
        since=min(run.at for run in facts.failed if any(window in run.span for window in windows)),
        link_path=asset_path(facts.name, windows[0]),
        size=len(windows),
        asset=facts.name,
        windows=tuple(ranges(windows)),
    )


# Missing windows


def stale(facts: AssetFacts) -> Iterator[Problem]:
    """Windows that ended longer than `stale_after` ago, are missing, and no run is at work on."""
    if not facts.caught_up:
        return
    delivered = facts.held.delivered
    recent = [
        window
        for window in facts.expected
        if facts.is_late(window)
        and window.partition_key not in delivered
        and not any(window in span for span in facts.under_way)
    ]
    lost = [window for span in facts.lost for window in span]
    missing = [*lost, *recent]
    if not missing:
        return
    newest = max(filter(None, [facts.newest, *map(Window.if_hour, delivered)]), default=None)
    cancelled = _cancelled(facts)
    reason = (
        " No run is at work on what is missing: see whether runs fail or wait in the queue, and whether the schedule"
        " and the catch-up sensor are switched on."
    )
    stale_after = facts.account.settings.alert_stale_hours
    by_a_person = [window for window in missing if window in cancelled]
    apart = [
        reason if any(window not in cancelled for window in recent) else "",
        f" {_of_them(by_a_person, 'was', 'were')} cancelled by a person: launch again what is wanted."
        if by_a_person
        else "",
        f" {_nobody_asks(lost, facts.hours)}\n{collect(facts.key, facts.lost)}" if lost else "",
    ]
    yield Problem(
        cause=f"stale {facts.name}",
        title=f"{facts.name} is behind: {count(missing, 'window')} missing for more than {stale_after} h",
        text=f"Missing: {listed(missing)}.\nThe newest window that is delivered: {newest or 'none'}.{''.join(apart)}",
        since=missing[0].end,
        link_path=asset_path(facts.name, missing[0]),
        size=len(missing),
        asset=facts.name,
        windows=tuple(ranges(missing)),
    )


def _of_them(windows: Collection[Window], one: str, more: str) -> str:
    return f"{len(windows):,} of them {one if len(windows) == 1 else more}"


def _nobody_asks(windows: Collection[Window], hours: int) -> str:
    old = f"older than CATCH_UP_HOURS ({hours})" if hours else "left, with the catch-up sensor off"
    return f"{_of_them(windows, 'is', 'are')} {old}: nothing asks for them. Collect them:"


def _cancelled(facts: AssetFacts) -> set[Window]:
    """The windows of runs that a person cancelled, and that no later run has tried."""
    return {
        window
        for span, ended in facts.cancelled
        for window in span
        if not any(run.at > ended and window in run.span for run in facts.failed)
    }


def never_asked_for(facts: AssetFacts) -> Iterator[Problem]:
    """Windows since START_DATE from before the collection was switched on: a choice to make, and not an outage."""
    if not facts.never:
        return
    windows = [window for span in facts.never for window in span]
    yield Problem(
        cause=f"never-asked {facts.name}",
        title=f"{facts.name}: {count(windows, 'window')} since START_DATE not collected yet",
        text=f"Not asked for since the collection was switched on: {listed(windows)}. Nothing asks for them by itself."
        f" Collect them:\n{collect(facts.key, facts.never)}\nIf they are not wanted, set START_DATE to"
        f" {timestamp(facts.never[-1].end)}.",
        link_path=asset_path(facts.name, windows[0]),
        severity="warning",
        once=True,
        asset=facts.name,
    )


def collect(key: dg.AssetKey, spans: Sequence[Span]) -> str:
    """The command that collects ranges; of many it is one over all, which repeats nothing that is delivered between."""
    wanted = spans if len(spans) <= MOST_COMMANDS else [Span(spans[0].start, spans[-1].end)]
    account = key.path[0] if len(key.path) > 1 else ""
    return "\n".join(command for span in wanted for command in backfills(key.path[-1], span, account))


# The rate limit


def starving(facts: AssetFacts) -> Iterator[Problem]:
    """An asset that spent most of the last hour waiting for the rate limit."""
    if facts.waited >= STARVING:
        yield Problem(
            cause=f"rate-limit {facts.name}",
            title=f"{facts.name} waits for Zendesk's rate limit most of the time",
            text=f"It waited {duration(facts.waited)} of the last hour; with more it falls behind. Something else uses"
            " up the account's budget: find it, or raise ZENDESK_RATE_SHARE or ZENDESK_EXPORT_RATE if the plan allows"
            " more.",
            link_path=asset_path(facts.name),
            severity="warning",
            asset=facts.name,
        )


OF_RUNS: tuple[Callable[[AssetFacts], Iterator[Problem]], ...] = (run_failures, repeated_failures)
"""What is asked of each asset, also of one whose windows cannot all be read."""
DETECTORS = (
    *OF_RUNS,
    starving,
    never_asked_for,
    stale,
)
"""What is asked of each asset."""
