"""The walk over Zendesk's pages for a range of windows, and what its pages prove (ADR 17)."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from threading import Lock
from typing import Self

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    GoneError,
    MaybeTooHeavyError,
    PageLimitError,
    PageTooHeavyError,
    ProtocolError,
    TooEarlyError,
)
from zendesk_pipeline.model.records import PAGES_OF_PROOF, Page, PageBody, page_reader
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, TimeRange, Window
from zendesk_pipeline.zendesk.client import LONGEST_WAIT, ZendeskClient
from zendesk_pipeline.zendesk.rate_limits import moment_of

LONGEST_EARLINESS = 900.0
"""Seconds that a run waits for its range to settle; a range that ends later than that is asked for too early."""
LONGEST_CURSOR = 10_000
"""Characters; those seen have a hundred, and a request has to hold one."""
CLOCK_SKEW = 300.0
"""Seconds that a record may be ahead of the clocks; what is further ahead is of the future."""
TRIES_OF_AN_OLD_PAGE = 3
"""How often a page is asked for while the `Date` of its answer is too early."""
PAUSE_OF_AN_OLD_PAGE = 5.0
"""Seconds before a later page is asked for again: a memory on the way may have let go of it by then."""
PAGES_OF_AN_END = 2
"""So many in a row lie behind a range's end, each in its turn, before an export is left; the first may cross it."""
PAGES_OF_A_DOUBTFUL_END = 8
"""So many do where a page has come out of its turn before."""
RECORDS_OF_AN_END = 10
"""So many records behind a range's end they have to hold, since pages that were too heavy may be of one record."""
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
    """How many records a page are asked for, by all cursors of a range: fewer where pages are too heavy."""

    size: int | None = None
    """None: as many as the stream allows."""
    good: int = 0
    """Pages of that size since it changed."""
    is_new: bool = False
    """Whether no page of that size has come since it changed: then it may be too heavy still."""
    lock: Lock = field(default_factory=Lock, repr=False)

    def now(self, full: int) -> int:
        """Where `full` is the most that is good to ask for."""
        return full if self.size is None else self.size

    def is_too_heavy(self, fewer: int) -> None:
        """Ask for `fewer` from now on; another cursor may have seen to that."""
        with self.lock:
            if self.size is None or self.size > fewer:
                self.size, self.good, self.is_new = fewer, 0, True

    def is_good(self, size: int, full: int) -> None:
        """After good pages, ask for twice as many."""
        with self.lock:
            if size != self.now(full):
                return
            self.good, self.is_new = self.good + 1, False
            if size < full and self.good >= PAGES_BEFORE_GROWING:
                self.size, self.good, self.is_new = min(full, size * 2), 0, True
                if self.size == full:
                    self.size = None


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
    """Whether a walk that has too many pages is to finish something all the same, though all of it costs more then."""
    part: TimeRange | None = None
    """The part of the range to ask for; all of it with the look-back, if None."""
    pages_before: int = 0
    """Of the run, read before this walk."""
    size: PageSize = field(default_factory=PageSize)
    """Shared by all parts of the range."""
    largest: Callable[[int], int | None] = lambda _: None
    """The most bytes that a page of so many records may have; LARGEST_BODY of the client, if None."""

    @property
    def asked(self) -> TimeRange:
        """The time that is asked for."""
        return self.part or TimeRange(self.span.start - self.lookback, self.span.end)

    def pages(self) -> Iterator[Page]:
        """Every page from the range's start to its end by one cursor, in the order Zendesk gives them.

        Raises TooEarlyError, ProtocolError for a cursor that repeats or lacks or for pages out of an old memory,
        PageLimitError, GoneError for windows that Zendesk does not keep any more, or what the client does.
        """
        self._wait_until_settled(self.clock.now(), "this machine's clock")
        self._refuse_what_is_gone(self.clock.now())
        read, turn = page_reader(self.stream), Turn.of(self.stream, self.asked.start, self.span.end)
        cursor: str | None = None
        seen: set[str] = set()
        for number in count(self.pages_before + 1):
            if self.max_pages is not None and number > self.max_pages:
                raise PageLimitError(
                    f"{self.stream.name} {self.span}: MAX_PAGES={self.max_pages} pages were read and there is more."
                    " Finished windows stay; run the others again, in shorter ranges or with a larger MAX_PAGES."
                )
            requests, waited = self.client.spent.requests, self.client.spent.waited
            body, ahead = self._in_a_size(read, cursor)
            older = turn.takes([record.time for record in body.records])
            more = body.has_more and (self.stream.paging.bounded or not turn.ended)
            yield Page(
                number=number,
                records=body.records,
                requests=self.client.spent.requests - requests,
                waited=self.client.spent.waited - waited,
                more=more,
                passed=self.asked.start - self.stream.paging.late if self.stream.paging.bounded else turn.passed,
                older=older,
                ahead=ahead,
                malformed=body.malformed,
                size=body.size,
            )
            if not more:
                return
            cursor = self._checked(body.cursor, seen)

    def _in_a_size(self, read: Callable[[bytes], PageBody], cursor: str | None) -> tuple[PageBody, int]:
        """A page in a size that Zendesk can build: it halves, down to 1, where a page is too heavy.

        So it is told at once (504), and so it may be where no answer comes in time, a proxy gives up, or the answer
        breaks off: there the same is tried again first, if pages of that size have come.
        """
        full, began = self.stream.page_size, self._working()
        for pause in (min(2.0**tries, LONGEST_PAUSE) for tries in count()):
            size = self.size.now(full)
            try:
                answer = self._ask(read, cursor, size, patient=size == 1 or not self.size.is_new)
            except (PageTooHeavyError, MaybeTooHeavyError) as problem:
                if size == 1 or (problem.retry_after or 0.0) > LONGEST_WAIT:
                    tried = f"{full:,}" + ("" if size == full else f" and fewer, {size:,} at last")
                    raise type(problem)(f"{problem} Records a page that were asked for: {tried}.") from None
                is_silent = isinstance(problem, MaybeTooHeavyError) and self._working() - began > LONGEST_SILENCE
                self.size.is_too_heavy(1 if is_silent else size // 2)
                self.clock.sleep(max(pause, problem.retry_after or 0.0))
                continue
            self.size.is_good(size, full)
            return answer
        raise AssertionError("the pauses never end")

    def _working(self) -> float:
        """Seconds on a clock that stands still while the rate limit is waited for."""
        return self.clock.monotonic() - self.client.spent.waited

    def _ask(
        self, read: Callable[[bytes], PageBody], cursor: str | None, size: int, *, patient: bool
    ) -> tuple[PageBody, int]:
        """A page whose answer is of a time at which Zendesk showed all of the range, and how many are of the future."""
        params = self.stream.paging.params(self.asked, cursor, size)
        is_settled = self._settled_at_source if cursor is None else self._still_settled
        for _ in range(TRIES_OF_AN_OLD_PAGE):
            largest = self.largest(size)
            body, headers = self.client.page(self.stream, params, read, patient=patient, largest=largest)
            if is_settled(headers):
                return self._up_to_now(body, headers)
        if cursor is None:
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

    def _up_to_now(self, body: PageBody, headers: Mapping[str, str]) -> tuple[PageBody, int]:
        """The page without records of the future, and their number.

        None of them belongs to a window that can be read now; each is left to its own.
        """
        latest = max(self.clock.now(), moment_of(headers.get("Date", "")) or 0.0) + CLOCK_SKEW
        records = [record for record in body.records if record.time <= latest]
        return replace(body, records=records), len(body.records) - len(records)

    def _settled_at_source(self, headers: Mapping[str, str]) -> bool:
        """Zendesk's clock decides what it shows; where it is behind ours the first page is asked for again."""
        date = moment_of(headers.get("Date", ""))
        return date is None or not self._wait_until_settled(date, "Zendesk's clock")

    def _still_settled(self, headers: Mapping[str, str]) -> bool:
        """Whether a later page is no older than the first may be; time has gone on, so there is nothing to wait for."""
        date = moment_of(headers.get("Date", ""))
        settled = date is None or date >= self.span.end + self.settle
        if not settled:
            self.clock.sleep(PAUSE_OF_AN_OLD_PAGE)
        return settled

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

    def _refuse_what_is_gone(self, now: float) -> None:
        """A window that Zendesk no longer keeps shows nothing, or a part: that is never taken for the whole."""
        kept, begin = self.stream.kept, max(self.span.start, self.asked.start)
        if kept is not None and begin <= now - kept:
            first = Window.of(int(now) - kept + HOUR)
            raise GoneError(
                f"{self.stream.name} {self.span}: Zendesk keeps these records for {kept // (24 * HOUR)} days, and of"
                f" windows before {first} it shows a part or nothing. Nothing was read. Collect from {first} on; what"
                " was before is nowhere."
            )

    def _checked(self, cursor: str | None, seen: set[str]) -> str:
        if cursor is None:
            raise ProtocolError(f"{self.stream.name} {self.span}: Zendesk says there is more, but not where.")
        if len(cursor) > LONGEST_CURSOR:
            raise ProtocolError(f"{self.stream.name} {self.span}: Zendesk gave a cursor that no request can hold.")
        if cursor in seen:
            raise ProtocolError(f"{self.stream.name} {self.span}: {self.stream.paging.repeated(cursor)}")
        seen.add(cursor)
        return cursor


@dataclass(slots=True)
class Turn:
    """Whether the pages of a walk come in their turn, which is all that an export without an end can prove.

    A page begins with its earliest record, wherever that stands. The last record of a page proves nothing: one that
    stands early may be it.
    """

    start: int
    """Of the time that is asked for."""
    end: int
    """Of the range."""
    spread: int
    """Seconds before the start in which a record is no odd one."""
    kept: bool
    """Whether each page has begun no earlier than the one before it; never where the list has another order."""
    full: int
    """Records of a full page."""
    pages: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    """Where each of the last pages begins, and its records: as few pages as are a proof, or all there were."""
    held: int = 0
    """The records of those."""
    behind: int = 0
    """Pages in a row that lie behind the range's end; the first of them may cross it."""
    beyond: int = 0
    """The records behind the end that these pages hold."""

    @classmethod
    def of(cls, stream: Stream, start: int, end: int) -> Self:
        """Before the first page."""
        return cls(start, end, stream.paging.spread, kept=stream.lists_by_event_time, full=stream.page_size)

    def takes(self, times: Sequence[int]) -> int:
        """Look at the next page; how many of its records are older than what was asked for.

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
        if self.pages and begin < self.pages[-1][0]:
            self.kept = False
        self.pages.append((begin, len(times)))
        self.held += len(times)
        while len(self.pages) > PAGES_OF_PROOF and self.held - self.pages[0][1] > self.full:
            self.held -= self.pages.popleft()[1]
        if begin >= self.end:
            self.behind, self.beyond = self.behind + 1, self.beyond + len(times)
        else:
            self.beyond = sum(time >= self.end for time in times)
            self.behind = int(self.beyond > 0)
        return older

    @property
    def passed(self) -> int:
        """The time before which everything has been shown; where the list begins, if nothing is proven."""
        proven = self.kept and len(self.pages) >= PAGES_OF_PROOF and self.held > self.full
        return self.pages[0][0] if proven else self.start

    @property
    def ended(self) -> bool:
        """Whether an export without an end of its own has left the range."""
        pages = PAGES_OF_AN_END if self.kept else PAGES_OF_A_DOUBTFUL_END
        return self.behind >= pages and self.beyond >= RECORDS_OF_AN_END
