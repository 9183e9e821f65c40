"""What the order of a walk's pages proves: before which time all was shown, and where an export has ended (ADR 17)."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from zendesk_pipeline.model.records import PAGES_OF_PROOF
from zendesk_pipeline.model.stream import Stream

PAGES_OF_AN_END = 2
"""So many pages in a row, in order, are later than a range's end before an export is left; the first may cross it."""
PAGES_OF_A_DOUBTFUL_END = 8
"""So many are, where a page has come out of order before; and one of them begins later than the one before it.

A list of the newest records first begins with pages that are later, each earlier than the one before.
"""
RECORDS_OF_AN_END = 10
"""So many records after the end these have to hold, since pages that were too heavy may be of one record."""


@dataclass(slots=True)
class PageOrder:
    """Whether the pages of a walk come in order, which is all that an export without an end can prove.

    A page begins with its earliest record, wherever that is. The last record of a page proves nothing, since it may be
    one that is shown early.
    """

    start: int
    """The start of the time that is asked for."""
    end: int
    """The end of the range."""
    spread: int
    """Seconds before the start in which Zendesk may show a record."""
    in_order: bool
    """Whether each page has begun no earlier than the one before it; never where the list has another order."""
    full: int
    """Records of a full page."""
    pages: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    """Where each of the last pages begins, and its records: as few pages as are a proof, or all there were."""
    held: int = 0
    """Records of these pages."""
    behind: int = 0
    """Pages in a row that are later than the range's end; the first of them may cross it."""
    beyond: int = 0
    """The records after the end that these pages hold."""
    rises: bool = False
    """Whether one of these pages begins later than the one before it."""

    @classmethod
    def of(cls, stream: Stream, start: int, end: int) -> Self:
        """Before the first page."""
        return cls(start, end, stream.paging.spread, in_order=stream.lists_by_event_time, full=stream.page_size)

    def add(self, times: Sequence[int]) -> int:
        """Take the times of the next page; returns how many of its records are older than what was asked for.

        Those say nothing about the place in the list, and a page without others proves nothing.
        """
        begin = min(times, default=self.start)
        older = 0
        if begin < self.start:
            older = sum(time < self.start - self.spread for time in times)
            times = [time for time in times if time >= self.start]
            begin = min(times, default=self.start)
        if not times:
            return older
        before = self.pages[-1][0] if self.pages else begin
        if begin < before:
            self.in_order = False
        self.pages.append((begin, len(times)))
        self.held += len(times)
        while len(self.pages) > PAGES_OF_PROOF and self.held - self.pages[0][1] > self.full:
            self.held -= self.pages.popleft()[1]
        if begin >= self.end:
            self.behind, self.beyond = self.behind + 1, self.beyond + len(times)
            self.rises = (self.rises and self.behind > 1) or begin > before
        else:
            self.beyond = sum(time >= self.end for time in times)
            self.behind = int(self.beyond > 0)
        return older

    @property
    def passed(self) -> int:
        """The time before which everything has been shown; where the list begins, if nothing is proven."""
        proven = self.in_order and len(self.pages) >= PAGES_OF_PROOF and self.held > self.full
        return self.pages[0][0] if proven else self.start

    @property
    def ended(self) -> bool:
        """Whether an export without an end of its own has left the range."""
        pages = PAGES_OF_AN_END if self.in_order else PAGES_OF_A_DOUBTFUL_END
        return (self.in_order or self.rises) and self.behind >= pages and self.beyond >= RECORDS_OF_AN_END
