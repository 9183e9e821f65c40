"""A range of a list whose query names both ends, read in parts: at once, or one after another (ADR 16 and 17).

One cursor gets one page a round trip: at 200 ms no more than 300 a minute, whatever the limit allows. So a range is cut
into consecutive parts, each asked for with a filter of its own, and as many of them are read at the same time as it
takes to use up the rate. Pages come out in the order of the parts: whoever takes them sees what one cursor would have
shown, each record once.

A part that has come to its end is proof that all of it was shown, in whatever order. Nothing else is: no part begins
where another one has merely come by, and what a part does not finish is read again.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from math import ceil
from queue import SimpleQueue
from statistics import median

from zendesk_pipeline.model.errors import TransientError, ZendeskError
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.windows import LAST_TIME, TimeRange, Window
from zendesk_pipeline.zendesk.client import LARGEST_BODY
from zendesk_pipeline.zendesk.rate_limits import MINUTE
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
"""Times its size is what a page takes while it is taken apart."""
EDGE = 3
"""Seconds around the end of a part in which its neighbour can show the same records: each is asked for wider."""
MOST_SHOWN = 1024
"""Pages whose identities are remembered; where more of them share a second, records come twice, which is no harm."""
LATENCIES = 32
"""So many answers say how long one takes."""


def cursors_for(latency: float, per_minute: float | None) -> int:
    """How many cursors use up the rate where an answer takes `latency` seconds; one where no rate is known."""
    if per_minute is None:
        return 1
    return min(MOST_CURSORS, max(1, ceil(latency * min(per_minute, FASTEST) / MINUTE)))


def pages(walk: Walk) -> Iterator[Page]:
    """Every page of the walk's range; raises what `Walk.pages` does, in its place.

    One cursor begins. Where a good deal is left, parts follow; several are read at once where the stream allows it and
    latency asks for it. An export, which has no end to ask for, is one walk.
    """
    if not walk.stream.paging.bounded:
        yield from walk.pages()
        return
    reading, shown, advance = _Reading(walk), _Shown(), _Advance(walk.asked)
    try:
        for page in walk.pages():
            reading.latencies.append(walk.client.spent.latest)
            reading.sizes.append(page.size)
            advance.takes(page)
            shown.add(page)
            in_parts = reading.begins_after(page, advance)  # whoever takes the page empties it
            yield page
            if in_parts:
                break
        else:
            return
    except TransientError:
        yield from _before_its_hour(walk, advance.latest)
        raise
    numbers = count(page.number + 1)
    yield from (replace(other, number=next(numbers)) for other in _each_once(reading, shown))


def _before_its_hour(walk: Walk, latest: int) -> Iterator[Page]:
    """Of a walk that has come so far and cannot go on, the pages before that hour, asked for by themselves.

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


@dataclass(slots=True)
class _Shown:
    """The identities that can be shown once more, because what has them is not proven to be passed."""

    pages: deque[tuple[int, list[str]]] = field(default_factory=deque[tuple[int, list[str]]])
    """The latest time of each page, and its identities."""

    def add(self, page: Page) -> None:
        if page.records:
            latest = max(record.time for record in page.records)
            self.pages.append((latest, [record.identity for record in page.records]))
        while self.pages and (self.pages[0][0] < page.passed - EDGE or len(self.pages) > MOST_SHOWN):
            self.pages.popleft()

    def identities(self) -> set[str]:
        return {identity for _, identities in self.pages for identity in identities}


@dataclass(slots=True)
class _Advance:
    """How a query gets on, in whichever direction.

    By its last pages: what is to come can be far more crowded than what lies behind.
    """

    asked: TimeRange
    pages: int = 0
    earliest: int = LAST_TIME
    latest: int = 0
    """Of all times that were shown."""
    ends: deque[tuple[int, int]] = field(default_factory=lambda: deque[tuple[int, int]](maxlen=PAGES_OF_A_PART + 1))
    """Both, as each of the last pages left them."""

    def takes(self, page: Page) -> None:
        times = [record.time for record in page.records]
        self.pages += 1
        self.earliest, self.latest = min([self.earliest, *times]), max([self.latest, *times])
        self.ends.append((self.earliest, self.latest))

    @property
    def pace(self) -> float:
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
        return seconds / self.pace if self.pace else 0

    def is_too_long(self) -> bool:
        """Whether one cursor is to read this in smaller parts, although it has read so much of it."""
        length = self.asked.seconds
        enough = self.pages >= TOO_LONG_ALONE * PAGES_OF_A_PART_ALONE and length > 2 * SHORTEST_TIME
        return enough and self.pages_left >= self.pages


def _each_once(reading: "_Reading", shown: _Shown) -> Iterator[Page]:
    """The pages of the parts without what was shown before them: by the first cursor, or by the part before."""
    late = reading.walk.stream.paging.late
    for part in reading.in_order():
        before = shown.identities()
        for page in reading.pages_of(part):
            page.records[:] = [record for record in page.records if record.identity not in before]
            passed = page.passed if page.more else max(page.passed, part.asked.end - late)
            new = replace(page, passed=passed)
            shown.add(new)
            yield new


@dataclass(slots=True, eq=False)
class _Part:
    """A part of the range, and its pages as they come: a page, what went wrong, or None at the end."""

    asked: TimeRange
    begun: bool = False
    """Whether a cursor reads it, or has."""
    here: bool = False
    """Whether that is done by who takes the pages."""
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
class _Reading:
    """Parts in their order, and the threads that read them; `changed` guards all of it."""

    walk: Walk
    parts: deque[_Part] = field(default_factory=deque[_Part])
    """Those that are not used up: being read, read, or unread."""
    pace: float = 1.0
    """Seconds of event time a full page covers, by the part that ended last."""
    latencies: deque[float] = field(default_factory=lambda: deque[float](maxlen=LATENCIES))
    sizes: deque[int] = field(default_factory=lambda: deque[int](maxlen=LATENCIES))
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

    def begins_after(self, page: Page, advance: _Advance) -> bool:
        """Whether the range is read in parts from here on: all of it, for the first cursor has proven nothing."""
        asked, left = self.walk.asked, _pages_left(self.walk.asked, page)
        if page.older:
            return False
        if page.number > LATEST_BEGIN:
            worth_it = page.more and self._is_too_long(advance)
        elif self._cursors() > 1:
            worth_it = left >= SHORTEST_PART + 2 * page.number
        elif self.walk.max_pages is not None:
            bound = self.walk.max_pages * (ENOUGH_TO_CUT if self.walk.gets_on else SURELY_TOO_MANY)
            worth_it = page.number + left > bound
        else:
            worth_it = left >= 2 * PAGES_OF_A_PART_ALONE
        if worth_it:
            self.pace = advance.pace if page.number > LATEST_BEGIN else _pace(asked, page)
            self.read = page.number
            self.parts.extend(_in_two(advance) if page.number > LATEST_BEGIN else [_Part(asked)])
        return worth_it

    def in_order(self) -> Iterator[_Part]:
        """The parts from first to last, each as soon as a cursor has begun it; while one is enough, none is begun."""
        while self.parts and self._cursors() == 1:
            with self.changed:
                part = self._cut(0)
            part.here = True
            yield part
            self.parts.popleft()
        if self.parts:
            self.at_once = True
            yield from self._begun_parts()

    def _begun_parts(self) -> Iterator[_Part]:
        try:
            for _ in range(MOST_CURSORS):
                walk = replace(self.walk, client=self.walk.client.another())
                threading.Thread(target=self._cursor, args=(walk,), name="cursor", daemon=True).start()
            while self.parts:
                with self.changed:
                    self.changed.wait_for(lambda: self.parts[0].begun)
                yield self.parts[0]
                with self.changed:
                    self.parts.popleft()
                    self.changed.notify_all()
        finally:
            with self.changed:
                self.stopped = True
                self.changed.notify_all()

    def pages_of(self, part: _Part) -> Iterator[Page]:
        """A part's pages as they come; raises what broke it, in its place."""
        if part.here:
            yield from self._read_here(part)
            return
        while (page := part.pages.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            with self.changed:
                part.waiting -= page.size
                self.changed.notify_all()
            yield page

    def _read_here(self, part: _Part) -> Iterator[Page]:
        """A part's pages, asked for as they are wanted."""
        walk, records = replace(self.walk, part=part.asked, pages_before=self.read), 0
        advance = _Advance(part.asked)
        try:
            for page in walk.pages():
                self.latencies.append(walk.client.spent.latest)
                self.read = page.number
                advance.takes(page)
                records += len(page.records)
                ignores_ends = self._ignores_ends(part, page)  # whoever takes the page empties it
                yield page
                if ignores_ends:
                    with self.changed:
                        self._leave_to_one(part)
                    return
                if page.more and not part.whole and self._is_too_long(advance):
                    with self.changed:
                        self._cut_anew(part, _in_two(advance), advance.pace)
                    return
        except TransientError:
            yield from _before_its_hour(walk, advance.latest)
            raise
        if not part.whole:
            self._measure(part, records)

    # In the cursors' threads

    def _cursor(self, walk: Walk) -> None:
        while (part := self._next()) is not None:
            walk = replace(walk, part=part.asked, largest=partial(self._largest, part))
            try:
                self._read(part, walk)
            except BaseException as problem:  # noqa: BLE001  # it is raised again where the pages are used
                self._ends_at(part)
                if isinstance(problem, TransientError):
                    self._read_before_its_hour(part, walk)
                part.pages.put(problem)
            with self.changed:
                self.asking, part.expected = self.asking - 1, 0
                self.changed.notify_all()

    def _largest(self, part: _Part, size: int) -> int:
        """The most bytes of a page: what has to be read at once, record by record, waits until it is wanted next."""
        if size > 1:
            return LARGEST_OF_SEVERAL
        with self.changed:
            self.changed.wait_for(lambda: self._is_left(part) or self.parts[0] is part)
        return LARGEST_BODY

    def _ends_at(self, part: _Part) -> None:
        """Nothing behind a part that broke will be used: who reads it stops, and nobody begins with more of it."""
        with self.changed:
            while part in self.parts and self.parts[-1] is not part:
                self.parts.pop()

    def _is_left(self, part: _Part) -> bool:
        """Whether nobody wants a part's pages any more."""
        return self.stopped or part not in self.parts

    def _next(self) -> _Part | None:
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

    def _has_room(self, unread: int) -> bool:
        cursors = self._cursors()
        waiting = sum(part.begun for part in self.parts)
        if unread == 0:
            return True
        can = not self.alone and self.asking < cursors and waiting < PARTS_PER_CURSOR * cursors
        return can and self._has_bytes()

    def _has_bytes(self) -> bool:
        """Whether another page can be read without holding more than is good."""
        held = sum(part.waiting + part.expected for part in self.parts)
        return held + self._expected() <= MOST_BYTES

    def _expected(self) -> int:
        """Bytes that the next page takes while it is read: as much as the largest of the last ones."""
        return READING * max(self.sizes, default=0)

    def _may_ask(self, part: _Part) -> bool:
        """Whether a part's next page may be read: there is room, or who takes the pages waits for just this one."""
        is_wanted = self.parts[0] is part and part.pages.empty()
        return part.pages.qsize() < LONGEST_PART and (is_wanted or self._has_bytes())

    def _cut(self, number: int) -> _Part:
        """The first piece of an unread part; towards the end of a range pieces get smaller, to end together."""
        part = self.parts[number]
        left = sum(each.asked.seconds for each in self.parts if not each.begun) / self.pace
        length = max(SHORTEST_TIME, self._pages_wanted(left) * self.pace)
        pieces = 1 if self.alone or part.whole else max(1, round(part.asked.seconds / length))
        end = part.asked.start + ceil(part.asked.seconds / pieces)
        if pieces > 1:
            self.parts.insert(number + 1, _Part(TimeRange(end, part.asked.end)))
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

    def _read(self, part: _Part, walk: Walk) -> None:
        records = 0
        for page in walk.pages():
            records += len(page.records)
            latest, ignores_ends = _latest(page), self._ignores_ends(part, page)  # whoever takes the page empties it
            part.latest = max(part.latest, latest)
            if not self._is_wanted(part, page, walk):
                return
            with self.changed:
                if ignores_ends:
                    self._leave_to_one(part)
                    break
                if self._is_longer(part, page.number, latest):
                    self._cut_anew(part, [_Part(part.asked)], (latest - part.asked.start) / page.number)
                    break
        else:
            with self.changed:
                self._measure(part, records)
        part.pages.put(None)

    def _read_before_its_hour(self, part: _Part, walk: Walk) -> None:
        for page in _before_its_hour(walk, part.latest):
            if not self._is_wanted(part, page, walk):
                return

    def _is_wanted(self, part: _Part, page: Page, walk: Walk) -> bool:
        """Hand over a page; whether there is room for more, and anybody who wants it."""
        with self.changed:
            self.latencies.append(walk.client.spent.latest)
            self.sizes.append(page.size)
            part.waiting, part.expected = part.waiting + page.size, 0
            part.pages.put(page)
            self.changed.wait_for(lambda: self._is_left(part) or not page.more or self._may_ask(part))
            part.expected = self._expected() if page.more else 0
            return not self._is_left(part)

    def _is_longer(self, part: _Part, pages: int, latest: int) -> bool:
        """Whether a part has so many more pages than was thought that smaller ones are better."""
        length, covered = part.asked.seconds, latest - part.asked.start
        if self.alone or pages < LONGEST_PART or length <= 2 * SHORTEST_TIME or covered <= 0:
            return False
        return (length - covered) / covered * pages > LONGEST_PART

    def _is_too_long(self, advance: _Advance) -> bool:
        """The same where one cursor reads parts in turn; MAX_PAGES leaves no pages to read again."""
        return not self.alone and self.walk.max_pages is None and advance.is_too_long()

    def _cut_anew(self, part: _Part, again: Sequence[_Part], pace: float) -> None:
        """All of a part is read again in smaller ones, of so many seconds a page: nothing of it is proven."""
        self.pace = pace
        for number, each in enumerate(again, self.parts.index(part) + 1):
            self.parts.insert(number, each)
        self.changed.notify_all()

    def _measure(self, part: _Part, records: int) -> None:
        self.pace = part.asked.seconds / max(records / self.walk.stream.page_size, 0.5)

    def _ignores_ends(self, part: _Part, page: Page) -> bool:
        """Whether a page shows records that its part was not asked for."""
        spread = self.walk.stream.paging.spread
        return not part.rest and (page.older > 0 or _latest(page) > part.asked.end + spread)

    def _leave_to_one(self, part: _Part) -> None:
        """Zendesk does not keep to a part's ends: others would show the same, so one cursor reads all that is left.

        That is everything from the first part on, or behind it where it is about to end as it should.
        """
        first = self.parts[0]
        start = first.asked.start if part is first else first.asked.end
        self.alone, self.parts = True, deque([first])
        if start < self.walk.asked.end:
            self.parts.append(_Part(TimeRange(start, self.walk.asked.end), rest=True))
        self.changed.notify_all()

    def _cursors(self) -> int:
        if not self.latencies or not self.walk.stream.in_parts or self.walk.max_pages is not None:
            return 1
        per_minute = self.walk.client.limiters[self.walk.stream.budget].per_minute
        return cursors_for(median(self.latencies), per_minute)


def _in_two(advance: _Advance) -> list[_Part]:
    """What a query has read, whole up to where its last pages begin, and the rest of what it was asked for."""
    asked, (earliest, latest) = advance.asked, advance.ends[0]
    place = latest if advance.goes_up else earliest
    if not asked.start < place < asked.end:
        return [_Part(asked)]
    return [
        _Part(TimeRange(asked.start, place), whole=advance.goes_up),
        _Part(TimeRange(place, asked.end), whole=not advance.goes_up),
    ]


def _latest(page: Page) -> int:
    return max((record.time for record in page.records), default=0)


def _pace(asked: TimeRange, page: Page) -> float:
    """Seconds that a page covers: not from the start asked for, where nothing may have happened for long."""
    latest = _latest(page)
    covered = latest - min(record.time for record in page.records)
    return covered or (latest - asked.start) / page.number


def _pages_left(asked: TimeRange, page: Page) -> float:
    """About how many pages are behind one; 0 where nothing tells."""
    latest = _latest(page)
    if not page.more or not asked.start < latest < asked.end:
        return 0
    return (asked.end - latest) / _pace(asked, page)
