"""How fast a query gets on, in seconds of event time a page: by that the rest of it is cut into parts."""

from collections import deque
from dataclasses import dataclass, field

from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.windows import LAST_TIME, TimeRange

PAGES_LOOKED_AT = 24
"""The last pages of a query, which tell its pace: what is to come can be far more crowded than what was before."""


@dataclass(slots=True)
class QueryPace:
    """How a query gets on, in whichever direction."""

    asked: TimeRange
    pages: int = 0
    earliest: int = LAST_TIME
    latest: int = 0
    """Of all times that were shown."""
    ends: deque[tuple[int, int]] = field(default_factory=lambda: deque[tuple[int, int]](maxlen=PAGES_LOOKED_AT + 1))
    """Both, as each of the last pages left them."""

    def add(self, page: Page) -> None:
        """Take the next page."""
        times = [record.time for record in page.records]
        self.pages += 1
        self.earliest, self.latest = min([self.earliest, *times]), max([self.latest, *times])
        self.ends.append((self.earliest, self.latest))

    @property
    def of_a_page(self) -> float:
        """Seconds of event time that a page covers; 0 where nothing tells."""
        earliest, latest = self.ends[0]
        return max(self.latest - latest, earliest - self.earliest) / max(1, len(self.ends) - 1)

    @property
    def goes_up(self) -> bool:
        """Whether later records come later."""
        earliest, latest = self.ends[0]
        return self.latest - latest >= earliest - self.earliest

    @property
    def pages_left(self) -> float:
        """About how many are to come, if they are like the last ones."""
        seconds = self.asked.end - self.latest if self.goes_up else self.earliest - self.asked.start
        return seconds / self.of_a_page if self.of_a_page else 0

    @property
    def cut(self) -> int | None:
        """The time that parts what was read, up to where the last pages begin, from the rest; None where none does."""
        earliest, latest = self.ends[0]
        time = latest if self.goes_up else earliest
        return time if self.asked.start < time < self.asked.end else None


def latest_of(page: Page) -> int:
    """The latest time of a page; 0 where it is empty."""
    return max((record.time for record in page.records), default=0)


def of_a_first_page(asked: TimeRange, page: Page) -> float:
    """Seconds that a page covers: not from the start asked for, where nothing may have happened for long."""
    latest = latest_of(page)
    covered = latest - min(record.time for record in page.records)
    return covered or (latest - asked.start) / page.number


def pages_behind(asked: TimeRange, page: Page) -> float:
    """About how many pages are behind one of the first; 0 where nothing tells."""
    latest = latest_of(page)
    if not page.more or not asked.start < latest < asked.end:
        return 0
    return (asked.end - latest) / of_a_first_page(asked, page)
