"""Whether an answer shows all of a range: it must be later than the range's end, and the range not too old (ADR 17)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import GoneError, ProtocolError, TooEarlyError
from zendesk_pipeline.model.records import PageBody
from zendesk_pipeline.model.stream import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.zendesk.rate_limits import moment_of

Headers = Mapping[str, str]

LONGEST_EARLINESS = 900.0
"""Seconds that a run waits for its range to settle; a range that ends later than that is asked for too early."""
CLOCK_SKEW = 300.0
"""Seconds that a record may be ahead of the clocks; what is further ahead is of the future."""
TRIES_OF_AN_OLD_PAGE = 3
"""How often a page is asked for while the `Date` of its answer is too early."""
PAUSE_OF_AN_OLD_PAGE = 5.0
"""Seconds before a later page is asked for again: the cache of a proxy may have dropped it by then."""


@dataclass(frozen=True, slots=True)
class SettledRange:
    """A range that Zendesk is trusted to show as a whole `settle` seconds after its end, by both clocks."""

    stream: Stream
    span: Span
    settle: float
    clock: Clock

    def wait_until_settled(self) -> None:
        """By this machine's clock; raises TooEarlyError where that takes longer than LONGEST_EARLINESS."""
        self._wait(self.clock.now(), "this machine's clock")

    def answer(self, ask: Callable[[], tuple[PageBody, Headers]], *, first: bool) -> tuple[PageBody, int]:
        """A page whose answer is later than the range has settled, and how many of its records are of the future.

        Zendesk's `Date` decides what it shows. The `first` page waits for that time; a later page with an earlier time
        is out of a proxy's cache. Such an answer is asked for again, and then raises TooEarlyError or ProtocolError.
        """
        for _ in range(TRIES_OF_AN_OLD_PAGE):
            body, headers = ask()
            if self._is_settled_at_source(headers) if first else self._is_still_settled(headers):
                return _without_future(body, headers, self.clock.now())
        if first:
            raise TooEarlyError(
                f"{self.stream.name} {self.span}: Zendesk's clock does not go on, as behind a proxy that answers from"
                " its memory. Nothing was delivered."
            )
        raise ProtocolError(
            f"{self.stream.name} {self.span}: a page was answered with a `Date` before the range was complete, and the"
            " pages before it with a later one, as by a proxy that answers from its memory. What such a page shows, and"
            " that it is the last one, is not believed. Finished windows stay. Have the proxy pass requests to Zendesk"
            " through, and run the range again."
        )

    def refuse_what_is_gone(self, begin: int) -> None:
        """Raises GoneError where Zendesk no longer keeps all from `begin` on: a part is never taken for the whole."""
        kept, now = self.stream.kept, self.clock.now()
        if kept is not None and begin <= now - kept:
            first = Window.of(int(now) - kept + HOUR)
            raise GoneError(
                f"{self.stream.name} {self.span}: Zendesk keeps these records for {kept // (24 * HOUR)} days, and of"
                f" windows before {first} it shows a part or nothing. Nothing was read. Collect from {first} on; what"
                " was before is nowhere."
            )

    def _is_settled_at_source(self, headers: Headers) -> bool:
        date = moment_of(headers.get("Date", ""))
        return date is None or not self._wait(date, "Zendesk's clock")

    def _is_still_settled(self, headers: Headers) -> bool:
        date = moment_of(headers.get("Date", ""))
        settled = date is None or date >= self.span.end + self.settle
        if not settled:
            self.clock.sleep(PAUSE_OF_AN_OLD_PAGE)
        return settled

    def _wait(self, now: float, whose: str) -> bool:
        """Whether it had to wait, where a clock shows `now`."""
        early = self.span.end + self.settle - now
        if early > LONGEST_EARLINESS:
            raise TooEarlyError(
                f"{self.stream.name} {self.span}: by {whose} the range is complete only in {early / 60:.0f} minutes."
                " Nothing was delivered; run it again then."
            )
        if early > 0:
            self.clock.sleep(early)
        return early > 0


def _without_future(body: PageBody, headers: Headers, now: float) -> tuple[PageBody, int]:
    """The page without records of the future, and their number: none belongs to a window that can be read now."""
    latest = max(now, moment_of(headers.get("Date", "")) or 0.0) + CLOCK_SKEW
    records = [record for record in body.records if record.time <= latest]
    return replace(body, records=records), len(body.records) - len(records)
