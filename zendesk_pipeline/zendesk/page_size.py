"""How many records a page are asked for: half as many where pages are too heavy, twice as many after good ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import TypeVar

from zendesk_pipeline.model.errors import MaybeTooHeavyError, PageTooHeavyError
from zendesk_pipeline.zendesk.client import LONGEST_WAIT, ZendeskClient

T = TypeVar("T")

LONGEST_PAUSE = 60.0
"""Seconds before a page that was too heavy is asked for in a smaller size; one second at first, then twice as long."""
LONGEST_SILENCE = 300.0
"""Seconds without an answer in any size, waits for the rate limit aside; then a page of one record is the last try.

Answers that do not come in time are a minute each: a way down to it in halves would take an outage for a heavy page.
"""
PAGES_BEFORE_GROWING = 10
"""After a page that was too heavy halved the page size, so many good pages double it again."""


@dataclass(slots=True)
class PageSize:
    """The page size of a range, shared by its cursors."""

    size: int | None = None
    """None: as many as the stream allows."""
    good: int = 0
    """Pages of that size since it changed."""
    is_new: bool = False
    """Whether no page of that size has come since it changed: then it may be too heavy still."""
    lock: Lock = field(default_factory=Lock, repr=False)

    def fitting(self, full: int, client: ZendeskClient, ask: Callable[[int, bool], T]) -> T:
        """What `ask` gives for the largest size that Zendesk can build; a size that is too heavy is halved, down to 1.

        `full` is the most records of a page. `ask` takes a size, and whether a smaller one is tried where no answer
        comes in time: so it is for a new size, while one that has worked is asked for again first. Raises what `ask`
        does, PageTooHeavyError and MaybeTooHeavyError only for a page of one record.
        """
        began = _working_time(client)
        for pause in (min(2.0**tries, LONGEST_PAUSE) for tries in count()):
            size = self.now(full)
            try:
                page = ask(size, size > 1 and self.is_new)
            except (PageTooHeavyError, MaybeTooHeavyError) as problem:
                if size == 1 or (problem.retry_after or 0.0) > LONGEST_WAIT:
                    tried = f"{full:,}" + ("" if size == full else f" and fewer, {size:,} at last")
                    raise type(problem)(f"{problem} Records a page that were asked for: {tried}.") from None
                is_silent = isinstance(problem, MaybeTooHeavyError) and _working_time(client) - began > LONGEST_SILENCE
                self.is_too_heavy(1 if is_silent else size // 2)
                client.clock.sleep(max(pause, problem.retry_after or 0.0))
                continue
            self.is_good(size, full)
            return page
        raise AssertionError("the pauses never end")

    def now(self, full: int) -> int:
        """The size to ask for, where `full` is the most records of a page."""
        return full if self.size is None else self.size

    def is_too_heavy(self, fewer: int) -> None:
        """Ask for `fewer` from now on, unless another cursor has seen to that."""
        with self.lock:
            if self.size is None or self.size > fewer:
                self.size, self.good, self.is_new = fewer, 0, True

    def is_good(self, size: int, full: int) -> None:
        """Count a good page; after PAGES_BEFORE_GROWING of them ask for twice as many."""
        with self.lock:
            if size != self.now(full):
                return
            self.good, self.is_new = self.good + 1, False
            if size < full and self.good >= PAGES_BEFORE_GROWING:
                self.size, self.good, self.is_new = min(full, size * 2), 0, True
                if self.size == full:
                    self.size = None


def _working_time(client: ZendeskClient) -> float:
    """Seconds on a clock that stands still while the rate limit is waited for."""
    return client.clock.monotonic() - client.stats.waited
