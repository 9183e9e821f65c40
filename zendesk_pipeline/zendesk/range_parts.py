"""The parts of a range: how long each is, and who reads it, one cursor in turn or several in threads of their own."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from queue import SimpleQueue
from statistics import median

from zendesk_pipeline.model.errors import TransientError, ZendeskError
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.windows import TimeRange, Window
from zendesk_pipeline.zendesk.query_pace import QueryPace, latest_of, of_a_first_page, pages_behind
from zendesk_pipeline.zendesk.rate_limits import MINUTE
from zendesk_pipeline.zendesk.transport import LARGEST_BODY
from zendesk_pipeline.zendesk.walk import Walk

MOST_CURSORS = 8
FASTEST = 2500.0
"""Requests a minute of the largest plan; what allows more is no limit, and then latency is not what a walk waits for.

https://developer.zendesk.com/api-reference/introduction/rate-limits/
"""
PAGES_OF_A_PART = 24
"""What a part is cut for. It costs half a page, as its last one is not full."""
PAGES_OF_A_PART_ALONE = 100
"""What a part is cut for where one cursor reads them in turn: about so much is read again after a failure."""
TOO_LONG_ALONE = 2
"""Times that: what has read so many pages in one query, and has as many to come, is read again in smaller parts."""
LONGEST_PART = 32
"""Pages; one of several parts that has as many still to come is cut anew, into smaller ones."""
SURELY_TOO_MANY = 1.25
"""Times MAX_PAGES: parts, which cost some pages more, must not be what reaches it."""
ENOUGH_TO_CUT = 0.5
"""Times MAX_PAGES, where each walk has to finish something: what parts cost is better than a walk for nothing."""
LATEST_BEGIN = 8
"""Pages of the first cursor that are read once more, at most, when parts begin."""
SHORTEST_PART = 2
"""Pages; a shorter one would not be worth its half page."""
SHORTEST_TIME = 60
"""Seconds of event time."""
PARTS_PER_CURSOR = 2
"""Those under way and those that wait to be used; one more may be under way, the one that is wanted next."""
MOST_PAGES_WAITING = (PARTS_PER_CURSOR * MOST_CURSORS + 1) * LONGEST_PART
"""The bound of what is read ahead."""
MOST_BYTES = 40 * 1024 * 1024
"""Of the pages that wait and of those being read; the page that is wanted next comes on top, or nothing would move."""
LARGEST_OF_SEVERAL = 8 * 1024 * 1024
"""Bytes of a page that one of several cursors takes; a larger one is asked for again, with fewer records."""
READING = 2
"""Times its size is what a page takes while it is split."""
MEASURED = 32
"""So many answers say how long one takes, and how large it is."""


def cursors_for(latency: float, per_minute: float | None) -> int:
    """How many cursors use up the rate where an answer takes `latency` seconds; one where no rate is known."""
    if per_minute is None:
        return 1
    return min(MOST_CURSORS, max(1, ceil(latency * min(per_minute, FASTEST) / MINUTE)))


def pages_before_the_hour(walk: Walk, latest: int) -> Iterator[Page]:
    """Of a walk that has come up to `latest` and cannot go on, the pages before that hour, asked for by themselves.

    They prove that the windows before it are read, so one that cannot be read holds up itself alone. Where Zendesk does
    not answer at all, this costs one request. What belongs before the hour can be written down behind it (`late`).
    """
    late = walk.stream.paging.late
    hour = Window.of(min(latest, walk.asked.end) - late).start
    if hour > walk.asked.start:
        head = replace(walk, part=TimeRange(walk.asked.start, hour + late), client=replace(walk.client, retries=0))
        with suppress(ZendeskError):
            for page in head.pages():
                yield replace(page, more=True, passed=page.passed if page.more else hour)


@dataclass(slots=True, eq=False)
class RangePart:
    """A part of the range, and its pages as they come: a page, what went wrong, or None at the end."""

    asked: TimeRange
    begun: bool = False
    """Whether a cursor reads it, or has."""
    whole: bool = False
    """Whether it is not cut, since its pages were read before and are not too many."""
    rest: bool = False
    """Whether it is all that is left, for one cursor."""
    latest: int = 0
    """The latest time that its pages have shown, where a cursor of its own reads it."""
    waiting: int = 0
    """Bytes of its pages that are read and not used."""
    expected: int = 0
    """Bytes that the page under way is thought to take."""
    pages: SimpleQueue[Page | BaseException | None] = field(default_factory=SimpleQueue[Page | BaseException | None])


@dataclass(slots=True)
class PartReader:
    """Parts in their order, and the threads that read them; `changed` guards all of it."""

    walk: Walk
    parts: deque[RangePart] = field(default_factory=deque[RangePart])
    """Those that are not used up: being read, read, or unread."""
    pace: float = 1.0
    """Seconds of event time a full page covers, by the part that ended last."""
    latencies: deque[float] = field(default_factory=lambda: deque[float](maxlen=MEASURED))
    sizes: deque[int] = field(default_factory=lambda: deque[int](maxlen=MEASURED))
    """Bytes of the last pages."""
    asking: int = 0
    """Parts being read by cursors of their own."""
    read: int = 0
    """Pages, while one cursor reads them in turn."""
    at_once: bool = False
    """Whether several do, each in a thread of its own."""
    alone: bool = False
    """Whether the rest is left to one cursor, because Zendesk does not keep to the ends that it is asked for."""
    stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def measure(self, walk: Walk, page: Page) -> None:
        """Take note of how long a page took, and of its size."""
        self.latencies.append(walk.client.stats.latency)
        self.sizes.append(page.size)

    def begins_after(self, page: Page, pace: QueryPace) -> bool:
        """Whether the range is read in parts from here on: all of it, for the first cursor has proven nothing."""
        asked, left = self.walk.asked, pages_behind(self.walk.asked, page)
        is_late = page.number > LATEST_BEGIN
        if page.older:
            return False
        if is_late:
            worth_it = page.more and self._is_too_long(pace)
        elif self._cursors() > 1:
            worth_it = left >= SHORTEST_PART + 2 * page.number
        elif self.walk.max_pages is not None:
            bound = self.walk.max_pages * (ENOUGH_TO_CUT if self.walk.gets_on else SURELY_TOO_MANY)
            worth_it = page.number + left > bound
        else:
            worth_it = left >= 2 * PAGES_OF_A_PART_ALONE
        if worth_it:
            self.pace = pace.of_a_page if is_late else of_a_first_page(asked, page)
            self.read = page.number
            self.parts.extend(_in_two(pace) if is_late else [RangePart(asked)])
        return worth_it

    def in_order(self) -> Iterator[tuple[RangePart, Iterator[Page]]]:
        """The parts from first to last, each with its pages as they come; raises what broke one, in its place.

        Cursors of their own begin only as soon as one is not enough.
        """
        while self.parts and self._cursors() == 1:
            with self.changed:
                part = self._cut(0)
            yield part, self._read_here(part)
            self.parts.popleft()
        if self.parts:
            self.at_once = True
            yield from self._begun_parts()

    def _read_here(self, part: RangePart) -> Iterator[Page]:
        """A part's pages, asked for as they are wanted."""
        walk, records = replace(self.walk, part=part.asked, pages_before=self.read), 0
        pace = QueryPace(part.asked)
        try:
            for page in walk.pages():
                self.latencies.append(walk.client.stats.latency)
                self.read = page.number
                pace.add(page)
                records += len(page.records)
                ignores_ends = self._ignores_ends(part, page)  # whoever takes the page empties it
                yield page
                if ignores_ends:
                    with self.changed:
                        self._leave_to_one(part)
                    return
                if page.more and not part.whole and self._is_too_long(pace):
                    with self.changed:
                        self._cut_anew(part, _in_two(pace), pace.of_a_page)
                    return
        except TransientError:
            yield from pages_before_the_hour(walk, pace.latest)
            raise
        if not part.whole:
            self._set_pace(part, records)

    def _begun_parts(self) -> Iterator[tuple[RangePart, Iterator[Page]]]:
        try:
            for _ in range(MOST_CURSORS):
                walk = replace(self.walk, client=self.walk.client.another())
                threading.Thread(target=self._cursor, args=(walk,), name="cursor", daemon=True).start()
            while self.parts:
                with self.changed:
                    self.changed.wait_for(lambda: self.parts[0].begun)
                yield self.parts[0], self._read_elsewhere(self.parts[0])
                with self.changed:
                    self.parts.popleft()
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.stopped = True
                self.changed.notify_all()

    def _read_elsewhere(self, part: RangePart) -> Iterator[Page]:
        """The pages of a part that a cursor of its own reads."""
        while (page := part.pages.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            with self.changed:
                part.waiting -= page.size
                self.changed.notify_all()
            yield page

    # In the cursors' threads

    def _cursor(self, walk: Walk) -> None:
        while (part := self._next()) is not None:
            walk = replace(walk, part=part.asked, largest=partial(self._largest, part))
            try:
                self._read(part, walk)
            except BaseException as problem:  # noqa: BLE001  # it is raised again where the pages are used
                self._ends_at(part)
                if isinstance(problem, TransientError):
                    self._hand_over_before_the_hour(part, walk)
                part.pages.put(problem)
            with self.changed:
                self.asking, part.expected = self.asking - 1, 0
                self.changed.notify_all()

    def _next(self) -> RangePart | None:
        """The next part to read, as soon as there is one and room for it; None where nothing is left."""
        with self.changed:
            while not self.stopped:
                unread = next((number for number, part in enumerate(self.parts) if not part.begun), None)
                if unread is None and not self.asking:
                    return None
                if unread is not None and self._has_room(unread):
                    self.asking += 1
                    return self._cut(unread)
                self.changed.wait()
            return None

    def _read(self, part: RangePart, walk: Walk) -> None:
        records = 0
        for page in walk.pages():
            records += len(page.records)
            latest, ignores_ends = latest_of(page), self._ignores_ends(part, page)  # whoever takes the page empties it
            part.latest = max(part.latest, latest)
            if not self._hand_over(part, page, walk):
                return
            with self.changed:
                if ignores_ends:
                    self._leave_to_one(part)
                    break
                if self._is_longer(part, page.number, latest):
                    self._cut_anew(part, [RangePart(part.asked)], (latest - part.asked.start) / page.number)
                    break
        else:
            with self.changed:
                self._set_pace(part, records)
        part.pages.put(None)

    def _hand_over(self, part: RangePart, page: Page, walk: Walk) -> bool:
        """Hand over a page and wait for room; False where nobody wants more of the part."""
        with self.changed:
            self.measure(walk, page)
            part.waiting, part.expected = part.waiting + page.size, 0
            part.pages.put(page)
            self.changed.wait_for(lambda: self._is_left(part) or not page.more or self._may_ask(part))
            part.expected = self._expected() if page.more else 0
            return not self._is_left(part)

    def _hand_over_before_the_hour(self, part: RangePart, walk: Walk) -> None:
        for page in pages_before_the_hour(walk, part.latest):
            if not self._hand_over(part, page, walk):
                return

    def _largest(self, part: RangePart, size: int) -> int:
        """The most bytes of a page: what has to be read at once, record by record, waits until it is wanted next."""
        if size > 1:
            return LARGEST_OF_SEVERAL
        with self.changed:
            self.changed.wait_for(lambda: self._is_left(part) or self.parts[0] is part)
        return LARGEST_BODY

    def _ends_at(self, part: RangePart) -> None:
        """Nothing behind a part that broke will be used: who reads it stops, and nobody begins with more of it."""
        with self.changed:
            while part in self.parts and self.parts[-1] is not part:
                self.parts.pop()

    def _is_left(self, part: RangePart) -> bool:
        """Whether nobody wants a part's pages any more."""
        return self.stopped or part not in self.parts

    # How much is read ahead

    def _cursors(self) -> int:
        if not self.latencies or not self.walk.stream.in_parts or self.walk.max_pages is not None:
            return 1
        per_minute = self.walk.client.limiters[self.walk.stream.budget].per_minute
        return cursors_for(median(self.latencies), per_minute)

    def _has_room(self, unread: int) -> bool:
        """Whether a part may be begun: the one that is wanted next always may."""
        if unread == 0:
            return True
        cursors, begun = self._cursors(), sum(part.begun for part in self.parts)
        few = self.asking < cursors and begun < PARTS_PER_CURSOR * cursors
        return few and not self.alone and self._has_bytes()

    def _may_ask(self, part: RangePart) -> bool:
        """Whether a part's next page may be read: there is room, or who takes the pages waits for just this one."""
        is_wanted = self.parts[0] is part and part.pages.empty()
        return part.pages.qsize() < LONGEST_PART and (is_wanted or self._has_bytes())

    def _has_bytes(self) -> bool:
        """Whether another page can be read without holding more than MOST_BYTES."""
        held = sum(part.waiting + part.expected for part in self.parts)
        return held + self._expected() <= MOST_BYTES

    def _expected(self) -> int:
        """Bytes that the next page takes while it is read: as much as the largest of the last ones."""
        return READING * max(self.sizes, default=0)

    # How long a part is

    def _cut(self, number: int) -> RangePart:
        """The first piece of an unread part; towards the end of a range pieces get smaller, to end together."""
        part = self.parts[number]
        left = sum(each.asked.seconds for each in self.parts if not each.begun) / self.pace
        length = max(SHORTEST_TIME, self._pages_wanted(left) * self.pace)
        pieces = 1 if self.alone or part.whole else max(1, round(part.asked.seconds / length))
        end = part.asked.start + ceil(part.asked.seconds / pieces)
        if pieces > 1:
            self.parts.insert(number + 1, RangePart(TimeRange(end, part.asked.end)))
            part.asked = TimeRange(part.asked.start, end)
        part.begun, part.expected = True, self._expected()
        self.changed.notify_all()
        return part

    def _pages_wanted(self, left: float) -> float:
        if self.at_once:
            return min(PAGES_OF_A_PART, max(SHORTEST_PART, left / self._cursors()))
        if self.walk.max_pages is not None:
            return max(1, min(PAGES_OF_A_PART_ALONE, self.walk.max_pages // 4))
        return PAGES_OF_A_PART_ALONE

    def _is_too_long(self, pace: QueryPace) -> bool:
        """Whether one cursor is to read a query again in smaller parts, although it has read so much of it.

        Not where MAX_PAGES leaves no pages to read again.
        """
        if self.alone or self.walk.max_pages is not None or pace.asked.seconds <= 2 * SHORTEST_TIME:
            return False
        return pace.pages >= TOO_LONG_ALONE * PAGES_OF_A_PART_ALONE and pace.pages_left >= pace.pages

    def _is_longer(self, part: RangePart, pages: int, latest: int) -> bool:
        """Whether one of several parts has so many more pages than was thought that smaller ones are better."""
        length, covered = part.asked.seconds, latest - part.asked.start
        if self.alone or pages < LONGEST_PART or length <= 2 * SHORTEST_TIME or covered <= 0:
            return False
        return (length - covered) / covered * pages > LONGEST_PART

    def _cut_anew(self, part: RangePart, again: Sequence[RangePart], pace: float) -> None:
        """All of a part is read again in smaller ones, of so many seconds a page: nothing of it is proven."""
        self.pace = pace
        for number, each in enumerate(again, self.parts.index(part) + 1):
            self.parts.insert(number, each)
        self.changed.notify_all()

    def _set_pace(self, part: RangePart, records: int) -> None:
        self.pace = part.asked.seconds / max(records / self.walk.stream.page_size, 0.5)

    # Where Zendesk does not keep to the ends of a part

    def _ignores_ends(self, part: RangePart, page: Page) -> bool:
        """Whether a page shows records that its part was not asked for."""
        spread = self.walk.stream.paging.spread
        return not part.rest and (page.older > 0 or latest_of(page) > part.asked.end + spread)

    def _leave_to_one(self, part: RangePart) -> None:
        """Other cursors would show the same, so one reads all that is left.

        That is everything from the first part on, or behind it where it is about to end as it should.
        """
        first = self.parts[0]
        start = first.asked.start if part is first else first.asked.end
        self.alone, self.parts = True, deque([first])
        if start < self.walk.asked.end:
            self.parts.append(RangePart(TimeRange(start, self.walk.asked.end), rest=True))
        self.changed.notify_all()


def _in_two(pace: QueryPace) -> list[RangePart]:
    """What a query has read, whole, and the rest of what it was asked for."""
    asked, cut = pace.asked, pace.cut
    if cut is None:
        return [RangePart(asked)]
    return [
        RangePart(TimeRange(asked.start, cut), whole=pace.goes_up),
        RangePart(TimeRange(cut, asked.end), whole=not pace.goes_up),
    ]
