"""The walk over Zendesk's pages for a range of windows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

from zendesk_pipeline.client import ZendeskClient
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.errors import PageLimitError, PageTooHeavyError, ProtocolError, TooEarlyError
from zendesk_pipeline.limits import moment_of
from zendesk_pipeline.records import PageBody, Record, page_reader
from zendesk_pipeline.streams import Stream
from zendesk_pipeline.windows import Span

LONGEST_EARLINESS = 900.0
"""Seconds that a run waits for its range to settle; a range that ends later than that is asked for too early."""
LONGEST_CURSOR = 10_000
"""Characters; those seen have a hundred, and a request has to hold one."""
CLOCK_SKEW = 300.0
"""Seconds that a record may be ahead of the clocks; what is further ahead is of the future."""
FIRST_PAGES = 3
"""How often the first page is asked for while Zendesk's clock is behind ours."""
LONGEST_PAUSE = 60.0
"""Seconds before a page that was too heavy is asked for in a smaller size; one second at first, then twice as long."""
PAGES_BEFORE_GROWING = 10
"""After a 504 halved the page size, so many good pages double it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One HTTP answer of a walk."""

    number: int
    """1 for the first."""
    records: list[Record]
    requests: int
    """HTTP requests it took, retries included."""
    waited: float
    """Seconds of them spent waiting for the rate limit."""
    more: bool = False
    """Whether Zendesk says that there is another one behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """How a range of one stream is read."""

    stream: Stream
    client: ZendeskClient
    span: Span
    """The windows to read; records outside of it can turn up as well."""
    lookback: int
    """Seconds before them that are read again, for records that have shown up since."""
    settle: float
    """Seconds after the end of a window before Zendesk is trusted to show all of it."""
    max_pages: int | None
    clock: Clock
    part: Span | None = None
    """What of the range to ask for, in seconds; all of it with the look-back, if None."""

    @property
    def asked(self) -> Span:
        """The time that is asked for."""
        if self.part is None:
            return Span(self.span.start - self.lookback, self.span.end)
        return self.part  # less than an hour of it has a length of 0 windows: it is never asked for its truth

    def pages(self) -> Iterator[Page]:
        """Every page from the range's start to its end by one cursor, in ascending order of event time.

        Raises TooEarlyError, ProtocolError for a cursor that repeats or lacks, PageLimitError, or what the client does.
        """
        self._wait_until_settled(self.clock.now(), "this machine's clock")
        read = page_reader(self.stream)
        ask = _shrinking(self.stream.page_size, lambda cursor, size: self._ask(read, cursor, size), self.clock.sleep)
        cursor: str | None = None
        seen: set[str] = set()
        for number in count(1):
            if self.max_pages is not None and number > self.max_pages:
                raise PageLimitError(
                    f"{self.stream.name} {self.span}: MAX_PAGES={self.max_pages} pages were read and there is more."
                    " Finished windows stay; run the others again, in shorter ranges or with a larger MAX_PAGES."
                )
            requests, waited = self.client.spent.requests, self.client.spent.waited
            body = ask(cursor)
            yield Page(
                number=number,
                records=body.records,
                requests=self.client.spent.requests - requests,
                waited=self.client.spent.waited - waited,
                more=body.has_more and not self._passed(body),
            )
            if not body.has_more or self._passed(body):
                return
            cursor = self._checked(body.cursor, seen)

    def _ask(self, read: Callable[[bytes], PageBody], cursor: str | None, size: int) -> PageBody:
        params = self.stream.paging.params(self.asked, cursor, size)
        for _ in range(FIRST_PAGES):
            body, headers = self.client.page(self.stream, params, read)
            if cursor is not None or self._settled_at_source(headers):
                return self._up_to_now(body, headers)
        raise TooEarlyError(
            f"{self.stream.name} {self.span}: Zendesk's clock does not go on, as behind a proxy that answers from its"
            " memory. Nothing was delivered."
        )

    def _passed(self, body: PageBody) -> bool:
        """Whether a walk without an end of its own has left the range behind."""
        return not self.stream.paging.bounded and bool(body.records) and body.records[-1].time >= self.span.end

    def _up_to_now(self, body: PageBody, headers: Mapping[str, str]) -> PageBody:
        """The page without records of the future: at its end one would end the walk before its time.

        None of them belongs to a window that can be read now; each is left to its own.
        """
        latest = max(self.clock.now(), moment_of(headers.get("Date", "")) or 0.0) + CLOCK_SKEW
        return replace(body, records=[record for record in body.records if record.time <= latest])

    def _settled_at_source(self, headers: Mapping[str, str]) -> bool:
        """Zendesk's clock decides what it shows; where it is behind ours the first page is asked for again."""
        date = moment_of(headers.get("Date", ""))
        return date is None or not self._wait_until_settled(date, "Zendesk's clock")

    def _wait_until_settled(self, now: float, whose: str) -> bool:
        """Whether it had to wait; never is a part of a window read as the whole."""
        early = self.span.end + self.settle - now
        if early > LONGEST_EARLINESS:
            raise TooEarlyError(
                f"{self.stream.name} {self.span}: by {whose} the range is complete only in {early / 60:.0f} minutes."
                " Nothing was delivered; run it again then."
            )
        if early > 0:
            self.clock.sleep(early)
        return early > 0

    def _checked(self, cursor: str | None, seen: set[str]) -> str:
        if cursor is None:
            raise ProtocolError(f"{self.stream.name} {self.span}: Zendesk says there is more, but not where.")
        if len(cursor) > LONGEST_CURSOR:
            raise ProtocolError(f"{self.stream.name} {self.span}: Zendesk gave a cursor that no request can hold.")
        if cursor in seen:
            raise ProtocolError(f"{self.stream.name} {self.span}: {self.stream.paging.repeated(cursor)}")
        seen.add(cursor)
        return cursor


def _shrinking(
    full: int, ask: Callable[[str | None, int], PageBody], sleep: Callable[[float], None]
) -> Callable[[str | None], PageBody]:
    """`ask` with a page size that halves where a page is too heavy, down to 1, and grows back after good pages."""
    size, good = full, 0

    def asked(cursor: str | None) -> PageBody:
        nonlocal size, good
        for pause in (min(2.0**tries, LONGEST_PAUSE) for tries in count()):
            try:
                body = ask(cursor, size)
            except PageTooHeavyError:
                if size == 1:
                    raise
                size, good = size // 2, 0
                sleep(pause)
                continue
            good += 1
            if good >= PAGES_BEFORE_GROWING and size < full:
                size, good = min(full, size * 2), 0
            return body
        raise AssertionError("the pauses never end")

    return asked
