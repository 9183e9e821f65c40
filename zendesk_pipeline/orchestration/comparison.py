"""The comparison: each delivered window is read again at Zendesk when it is a day old (ADR 18).

An export can lag behind and say that it has come to its end, and a record can show later than the look-back reaches.
Neither can be seen when a window is collected. What a stream's comparison has done stands in the verdict of its check.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Self

import dagster as dg
import msgspec

from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window, ranges
from zendesk_pipeline.orchestration.run_history import ours

BEGINS = 3 * HOUR
"""Seconds of the day, UTC, from which on the windows that are a day old by then are due."""
REACH = 30 * DAY
"""Seconds before those in which windows are compared that have not been: what a backfill brings later is not."""
NEARLY_LOST = 3 * DAY
"""A window that is out of reach in so many seconds is told of."""
NOT_COMPARED = "windows are not compared yet, and soon will not be any more"
"""What is said of them."""
NONE_FINISHED = "pages finished no window"
"""What is said where a day's pages are too few for anything."""
UNSEEN = "it could not be looked at"
"""How a finding begins where a check could not be carried out."""
LEDGER_LOST = "windows were not compared, since they have no ledger that can be read"
"""What is said of delivered windows of which nobody knows what was delivered: the feed would get all of it again."""
COMPARED = "compared"
"""The metadata in which a verdict keeps what the next comparison has to know."""
COMPARES = "zendesk_pipeline/compares"
"""The tag of its runs."""
MOST_QUEUED = 100
"""The newest runs of the queue that are looked at."""


class ComparedWindows(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison leaves to the next one. Times are seconds since the epoch."""

    until: int
    """The end of the windows that were due."""
    spans: list[tuple[int, int]] = []
    """The windows that have been compared, as ranges, as far back as the reach."""
    pages: int = 0
    """Read since those windows are due."""
    left: int = 0
    """Windows that are still to be compared."""


def due_until(now: float) -> int:
    """The end of the windows that are to be compared by now: a day old when the day of comparisons began."""
    return Window.of(int(now - (now - BEGINS) % DAY) - DAY).start


def compared_windows(verdict: dg.AssetCheckEvaluation | None) -> ComparedWindows | None:
    """What a verdict says of the comparisons up to it; None where it says nothing, as one of an older release."""
    entry = verdict.metadata.get(COMPARED) if verdict else None
    try:
        return msgspec.convert(entry.value, ComparedWindows) if entry else None
    except msgspec.ValidationError:
        return None


def is_due(before: ComparedWindows | None, now: float, most: int, *, failed: bool = False) -> bool:
    """Whether there is something to compare for a stream that may read `most` pages a day, or to take back.

    Where the comparison has been switched off, what `failed` before would stay a problem without end.
    """
    if not most:
        return failed
    if before is None or before.until < due_until(now):
        return True
    return before.left > 0 and before.pages < most


@dataclass(slots=True, kw_only=True)
class Work:
    """What is to be compared of a stream, and what has been."""

    until: int
    due: list[Window]
    compared: set[Window] = field(default_factory=set[Window])
    pages: int = 0

    @classmethod
    def of(cls, before: ComparedWindows | None, delivered: Iterable[Window], until: int) -> Self:
        """What there is to do, by what was done before and the windows that have been delivered."""
        known = {window for start, end in (before.spans if before else ()) for window in Span(start, end)}
        compared = {window for window in known if window in reach(until)}
        due = sorted(window for window in delivered if window in reach(until) and window not in compared)
        pages = before.pages if before and before.until == until else 0
        return cls(until=until, due=due, compared=compared, pages=pages)

    def spans(self) -> list[Span]:
        """What is due, in walks of a day at most, the newest first: what cannot be read holds up no day behind it."""
        days = groupby(self.due, key=lambda window: (window.start - BEGINS) // DAY)
        return [span for _, windows in days for span in ranges(windows)][::-1]

    def takes(self, windows: Sequence[Window], pages: int) -> None:
        """Some windows have been compared, and so many pages were read."""
        self.compared.update(windows)
        self.due = [window for window in self.due if window not in self.compared]
        self.pages += pages

    def leaves(self, windows: Collection[Window]) -> None:
        """Some windows cannot be compared; they are looked at again with the next ones that are due."""
        self.due = [window for window in self.due if window not in windows]

    @property
    def nearly_lost(self) -> list[Window]:
        """What is left and will soon be out of reach."""
        return [window for window in self.due if window.start < reach(self.until).start + NEARLY_LOST]

    @property
    def for_the_next(self) -> ComparedWindows:
        """What the next comparison has to know."""
        spans = [(span.start, span.end) for span in ranges(self.compared)]
        return ComparedWindows(until=self.until, spans=spans, pages=self.pages, left=len(self.due))


def reach(until: int) -> Span:
    """The windows that can be due."""
    return Span(until - REACH, until)


def is_waited_for(instance: dg.DagsterInstance, pool: str, assets: Collection[dg.AssetKey]) -> bool:
    """Whether a run other than a comparison waits: for the pool, or, with one of its assets, for its turn to start."""
    storage = instance.event_log_storage
    limited = storage.supports_global_concurrency_limits
    waiting = storage.get_concurrency_info(pool).pending_run_ids if limited else set[str]()
    at_the_pool = filter(None, map(instance.get_run_by_id, waiting))
    queued = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), limit=MOST_QUEUED)
    mine = ours(assets)
    waits = [*at_the_pool, *(run for run in queued if mine.among(instance, run))]
    return any(COMPARES not in run.tags for run in waits)
