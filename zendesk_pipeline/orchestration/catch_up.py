"""Self-healing: which windows are missing, and which of them to ask for now.

Dagster's schedules do not catch up on hours in which the daemon was down, and a failed window stays failed. The sensor
looks for both and requests them, oldest first, in as few runs as it can. The decision is a pure function.

What a run failed of decides what is tried again. An outage, or a page that cannot be read, is a matter of windows: each
has pauses of its own. A refusal that stays until a person fixes something (a credential, a setting, a right) is one of
the stream: one run now and then finds out whether it is fixed, and everything else waits.
"""

from bisect import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zendesk_pipeline.model.windows import HOUR, Span, Window, ranges

GRACE = 15 * 60
"""Seconds after its end in which a window is left to the hourly schedule."""
FIRST_PAUSE = 5 * 60
LONGEST_PAUSE = 6 * HOUR
"""A window that fails is tried again after five minutes, then after ten, and so on up to this."""
LONGEST_REFUSED_PAUSE = HOUR
"""A stream that is refused is tried by one run after five minutes, then after ten, and so on up to this."""
SUSPICIOUS = 3
"""A window at which so many runs broke off is asked for by itself: it must not hold up those behind it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run over some windows of one stream."""

    span: Span
    failed_at: float | None
    """Seconds since the epoch; None while it is queued or under way."""
    stays: bool = False
    """Whether it failed of what stays until a person fixes it."""
    cancelled: bool = False
    """Whether a person ended it."""
    redeliver: bool = False
    """Whether it was to send again what had been delivered."""
    begun: float = 0.0
    """When it was asked for, seconds since the epoch."""
    took_back: str = ""
    """Its run's id where windows that it has reported turned out not to be finished."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A window at which runs broke off."""

    window: Window
    failures: int
    next_try: float
    """Seconds since the epoch."""
    since: float
    """Of the first failure."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A stream whose runs are refused until a person fixes something."""

    failures: int
    since: float
    """Of the first failure, seconds since the epoch."""
    next_try: float


def troubles(
    missing: Collection[Window],
    attempts: Iterable[Attempt],
    successes: Collection[float] = (),
    delivered_at: Mapping[Window, float] | None = None,
) -> dict[Window, Trouble]:
    """The windows at which failed runs broke off: of each run the first that is still missing.

    Args:
        missing: Windows that have to be collected.
        attempts: Runs; those that a person cancelled are no trouble.
        successes: Times at which the stream delivered something: a window that failed only while nothing was delivered
            is due as soon as something is. An outage is over then, and the pauses of it are of no more use.
        delivered_at: Of windows that were delivered and have failed again since, when: what was before does not count.
    """
    missed, known, done = sorted(missing), delivered_at or {}, sorted(successes)
    failed: dict[Window, list[float]] = {}
    refused: dict[tuple[Window, int], float] = {}
    for attempt in attempts:
        at = attempt.failed_at
        if at is None or attempt.cancelled:
            continue
        broken = next((each for each in missed if each in attempt.span and at > known.get(each, 0.0)), None)
        if broken is not None and not attempt.stays:
            failed.setdefault(broken, []).append(at)
        elif broken is not None and (before := bisect(done, at)) < len(done):
            # refusals between two successes count once, and those after the last not at all: the stream is refused
            refused[broken, before] = max(at, refused.get((broken, before), at))
    for (window, _), at in refused.items():
        failed.setdefault(window, []).append(at)
    return {window: _trouble(window, times, successes) for window, times in failed.items()}


def _trouble(window: Window, times: Collection[float], successes: Collection[float]) -> Trouble:
    return Trouble(window, len(times), max(times) + _pause(times, successes), min(times))


def _pause(failed: Collection[float], successes: Collection[float]) -> float:
    first, latest = min(failed), max(failed)
    over = any(at > latest for at in successes) and not any(first < at < latest for at in successes)
    return 0 if over else min(FIRST_PAUSE * 2 ** (len(failed) - 1), LONGEST_PAUSE)


def refusal(attempts: Iterable[Attempt], successes: Collection[float] = (), loaded_at: float = 0.0) -> Refusal | None:
    """Whether the stream is refused: its latest failure stays until a person fixes it, and nothing was delivered since.

    `loaded_at` is when the code location was loaded: the settings may be other ones since, and a try is due at once.
    """
    after = max(successes, default=0.0)
    failed = [each for each in attempts if each.failed_at is not None and not each.cancelled]
    times = [at for each in failed if each.stays and (at := each.failed_at or 0.0) > after]
    latest = max((each.failed_at or 0.0 for each in failed), default=0.0)
    if not times or max(times) < latest:
        return None
    pause = min(FIRST_PAUSE * 2 ** (len(times) - 1), LONGEST_REFUSED_PAUSE) if latest >= loaded_at else 0
    return Refusal(len(times), min(times), latest + pause)


def latest_attempts(windows: Iterable[Window], attempts: Iterable[Attempt]) -> dict[Window, Attempt]:
    """Of each window, the run that was asked for last."""
    found: dict[Window, Attempt] = {}
    wanted = list(windows)
    for attempt in sorted(attempts, key=lambda each: each.begun):
        found.update((window, attempt) for window in wanted if window in attempt.span)
    return found


def set_aside(missing: Iterable[Window], attempts: Iterable[Attempt]) -> list[Window]:
    """The windows whose latest run a person cancelled: they are left alone until somebody launches them again."""
    latest = latest_attempts(missing, attempts)
    return sorted(window for window, attempt in latest.items() if attempt.cancelled)


def due(
    expected: Iterable[Window],
    delivered: Collection[Window],
    attempts: Sequence[Attempt],
    now: float,
    successes: Collection[float] = (),
    *,
    delivered_at: Mapping[Window, float] | None = None,
    loaded_at: float = 0.0,
) -> list[Span]:
    """The ranges to request now: missing, under way in no run, not cancelled, and not tried too short a time ago.

    Of a stream that is refused it is one range, now and then, while no run is under way.
    """
    missing = [window for window in expected if window not in delivered]
    trouble = troubles(missing, attempts, successes, delivered_at)
    under_way = [attempt.span for attempt in attempts if attempt.failed_at is None]
    left_alone = {*set_aside(missing, attempts)}
    open_windows = [
        window for window in missing if window not in left_alone and not any(window in span for span in under_way)
    ]
    apart = alone(trouble)
    together = ranges(window for window in open_windows if window not in apart)
    by_themselves = [Span(window.start, window.end) for window in open_windows if window in apart]
    spans = [
        span
        for span in sorted([*together, *by_themselves], key=lambda span: span.start)
        if (first := trouble.get(Window(span.start))) is None or first.next_try <= now
    ]
    refused = refusal(attempts, successes, loaded_at)
    if refused is None:
        return spans
    return spans[:1] if refused.next_try <= now and not under_way else []


def look_back_at_most(span: Span, trouble: Mapping[Window, Trouble]) -> int | None:
    """Seconds from the range back to the nearest window before it that is asked for by itself; None if there is none.

    A run that looked back into that window would break off there as well. What shows late in it is not lost for that:
    its own run, when it succeeds, reads all of it, and what its look-back covers.
    """
    ends = [window.end for window in alone(trouble) if window.end <= span.start]
    return span.start - max(ends) if ends else None


def alone(trouble: Mapping[Window, Trouble]) -> set[Window]:
    """The windows that are asked for by themselves."""
    return {window for window, each in trouble.items() if each.failures >= SUSPICIOUS}


def settled(start: int, now: float, hours: int) -> Span:
    """The windows of the last `hours` that the schedule has had its time for, none before `start` (on the hour)."""
    end = Window.of(int(now) - GRACE).start
    return Span(min(max(start, end - hours * HOUR), end), end)
