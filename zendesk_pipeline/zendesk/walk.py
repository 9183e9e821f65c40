"""The walk over Zendesk's pages for a range of windows: one cursor, page after page, and what each page proves.

Three questions have modules of their own: `settled_range` (does an answer show all of the range?), `page_size` (is a
page too heavy?) and `page_order` (before which time was everything shown?).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PageLimitError, ProtocolError
from zendesk_pipeline.model.records import Page, PageBody, page_reader
from zendesk_pipeline.model.stream import Stream
from zendesk_pipeline.model.windows import Span, TimeRange
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.page_order import PageOrder
from zendesk_pipeline.zendesk.page_size import PageSize
from zendesk_pipeline.zendesk.settled_range import SettledRange

LONGEST_CURSOR = 10_000
"""Characters; those seen have a hundred, and a request has to hold one."""


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
    gets_on: bool = False
    """Whether parts are read early, so that a walk that MAX_PAGES ends has finished some windows; they cost pages."""
    part: TimeRange | None = None
    """The part of the range to ask for; all of it with the look-back, if None."""
    pages_before: int = 0
    """Of the run, read before this walk."""
    size: PageSize = field(default_factory=PageSize)
    """Shared by all parts of the range."""
    largest: Callable[[int], int | None] = lambda _: None
    """The most bytes that a page of so many records may have; LARGEST_BODY, if None."""

    @property
    def asked(self) -> TimeRange:
        """The time that is asked for."""
        return self.part or TimeRange(self.span.start - self.lookback, self.span.end)

    def pages(self) -> Iterator[Page]:
        """Every page from the range's start to its end by one cursor, in the order Zendesk gives them.

        A list with both ends in its query is read until Zendesk says that there is no more, an export until it has
        left the range. Raises TooEarlyError, GoneError for windows that Zendesk no longer keeps, PageLimitError,
        ProtocolError for a cursor that repeats or is missing and for pages out of a proxy's cache, or what the client
        does.
        """
        bounded, stats = self.stream.paging.bounded, self.client.stats
        settled = SettledRange(self.stream, self.span, self.settle, self.clock)
        settled.wait_until_settled()
        settled.refuse_what_is_gone(max(self.span.start, self.asked.start))
        read, order = page_reader(self.stream), PageOrder.of(self.stream, self.asked.start, self.span.end)
        cursor: str | None = None
        seen: set[str] = set()
        for number in count(self.pages_before + 1):
            if self.max_pages is not None and number > self.max_pages:
                raise PageLimitError(
                    f"{self.stream.name} {self.span}: MAX_PAGES={self.max_pages} pages were read and there is more."
                    " Finished windows stay; run the others again, in shorter ranges or with a larger MAX_PAGES."
                )
            requests, waited = stats.requests, stats.waited
            body, ahead = self._page_after(cursor, read, settled)
            older = order.add([record.time for record in body.records])
            more = body.has_more and (bounded or not order.ended)
            yield Page(
                number=number,
                records=body.records,
                requests=stats.requests - requests,
                waited=stats.waited - waited,
                more=more,
                passed=self.asked.start - self.stream.paging.late if bounded else order.passed,
                older=older,
                ahead=ahead,
                malformed=body.malformed,
                size=body.size,
            )
            if not more:
                return
            cursor = self._next_cursor(body.cursor, seen)

    def _page_after(
        self, cursor: str | None, read: Callable[[bytes], PageBody], settled: SettledRange
    ) -> tuple[PageBody, int]:
        """A page that is not too heavy, from an answer that is not too old, and how many records are of the future."""

        def ask(size: int, smaller_may_help: bool) -> tuple[PageBody, int]:  # noqa: FBT001  # called by PageSize alone
            params = self.stream.paging.params(self.asked, cursor, size)

            def answer() -> tuple[PageBody, Mapping[str, str]]:
                largest = self.largest(size)
                return self.client.page(self.stream, params, read, smaller_may_help=smaller_may_help, largest=largest)

            return settled.answer(answer, first=cursor is None)

        return self.size.fitting(self.stream.page_size, self.client, ask)

    def _next_cursor(self, cursor: str | None, seen: set[str]) -> str:
        if cursor is None:
            raise ProtocolError(f"{self.stream.name} {self.span}: Zendesk says there is more, but not where.")
        if len(cursor) > LONGEST_CURSOR:
            raise ProtocolError(f"{self.stream.name} {self.span}: Zendesk gave a cursor that no request can hold.")
        if cursor in seen:
            raise ProtocolError(f"{self.stream.name} {self.span}: {self.stream.paging.repeated(cursor)}")
        seen.add(cursor)
        return cursor
