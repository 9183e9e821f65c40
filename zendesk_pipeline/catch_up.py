"""Self-healing: which windows are missing, and which of them to ask for now.

Dagster's schedules do not catch up on hours in which the daemon was down, and a failed window stays failed. The sensor
looks for both and requests them, oldest first, in as few runs as it can. The decision is a pure function.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from zendesk_pipeline.windows import HOUR, Span, Window

GRACE = 15 * 60
"""Seconds after its end in which a window is left to the hourly schedule."""
FIRST_PAUSE = 5 * 60
LONGEST_PAUSE = 6 * HOUR
"""A window that fails is tried again after five minutes, then after ten, and so on up to this."""
SUSPICIOUS = 3
"""A window at which so many runs broke off is asked for by itself: it must not hold up those behind it."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A run over some windows of one stream."""

    span: Span
    failed_at: float | None
    """Seconds since the epoch; None while it is queued or under way."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A window at which runs broke off."""

    window: Window
    failures: int
    next_try: float
    """Seconds since the epoch."""
    since: float
    """Of the first failure."""


def troubles(
    missing: Collection[Window], attempts: Iterable[Attempt], successes: Collection[float] = ()
) -> dict[Window, Trouble]:
    """The windows at which failed runs broke off: of each run the first that is still missing.

    `successes` are times at which the stream delivered something: a window that failed only while nothing was
    delivered is due as soon as something is. An outage is over then, and the pauses of it are of no more use.
    """
    missed = sorted(missing)
    failed: dict[Window, list[float]] = {}
    for attempt in attempts:
        broken = next((window for window in missed if window in attempt.span), None)
        if attempt.failed_at is not None and broken is not None:
            failed.setdefault(broken, []).append(attempt.failed_at)
    return {
        window: Trouble(window, len(times), max(times) + _pause(times, successes), min(times))
        for window, times in failed.items()
    }


def _pause(failed: Collection[float], successes: Collection[float]) -> float:
    first, latest = min(failed), max(failed)
    over = any(at > latest for at in successes) and not any(first < at < latest for at in successes)
    return 0 if over else min(FIRST_PAUSE * 2 ** (len(failed) - 1), LONGEST_PAUSE)


def due(
    expected: Iterable[Window],
    delivered: Collection[Window],
    attempts: Sequence[Attempt],
    now: float,
    successes: Collection[float] = (),
) -> list[Span]:
    """The ranges to request now: missing, under way in no run, and not tried too short a time ago."""
    missing = [window for window in expected if window not in delivered]
    trouble = troubles(missing, attempts, successes)
    under_way = [attempt.span for attempt in attempts if attempt.failed_at is None]
    open_windows = [window for window in missing if not any(window in span for span in under_way)]
    return [
        span
        for span in _ranges(open_windows, apart=alone(trouble))
        if (first := trouble.get(Window(span.start))) is None or first.next_try <= now
    ]


def _ranges(windows: Iterable[Window], *, apart: Collection[Window]) -> Iterator[Span]:
    """Contiguous windows as ranges; those of `apart` each by itself."""
    numbered = enumerate(windows)

    def run_of(item: tuple[int, Window]) -> tuple[int, Window | None]:
        position, window = item
        return window.start - position * HOUR, window if window in apart else None

    for _, group in groupby(numbered, run_of):
        members = [window for _, window in group]
        yield Span(members[0].start, members[-1].end)


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
