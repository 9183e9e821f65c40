"""What a long run logs of its progress."""

from collections.abc import Callable
from dataclasses import dataclass, field

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.windows import HOUR, Span, Window

PROGRESS_SECONDS = 10.0
WORTH_A_WORD = 0.1
"""Of the time, spent waiting for the rate limit."""


@dataclass(slots=True, kw_only=True)
class ProgressLog:
    """One line in the run's log every ten seconds at most."""

    name: str
    span: Span
    clock: Clock
    log: Callable[[str], object]
    began: float = field(init=False)
    logged: float = field(init=False)
    records: int = 0
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.began = self.logged = self.clock.monotonic()

    def count(self, page: Page) -> None:
        """Count a page that was delivered, and log a line where one is due."""
        self.records += len(page.records)
        self.waited += page.waited
        now = self.clock.monotonic()
        if not page.records or now - self.logged < PROGRESS_SECONDS:
            return
        self.logged = now
        reached = Window.of(min(page.records[-1].time, self.span.end - 1))
        share = max(0.0, (reached.start - self.span.start) / (self.span.end - self.span.start))
        left = f", about {(now - self.began) * (1 - share) / share / 60:.0f} min left" if share else ""
        waiting = self.waited / (now - self.began)
        limit = f", {waiting:.0%} of the time waiting for the rate limit" if waiting >= WORTH_A_WORD else ""
        done = max(0, (reached.start - self.span.start) // HOUR)
        self.log(
            f"{self.name}: {done} of {len(self.span)} windows, at {reached}; {self.records:,} records in"
            f" {page.number:,} pages, {self.records / (now - self.began):,.0f} records/s{limit}{left}"
        )
