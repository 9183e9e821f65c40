"""A range read by several cursors at once, so that Zendesk's latency costs no time (ADR 16).

One cursor gets one page a round trip: at 200 ms no more than 300 a minute, whatever the limit allows. So the rest of a
range is cut into consecutive parts, each asked for with a filter of its own, and as many of them are read at the same
time as it takes to use up the rate. Pages come out in the order of the parts: whoever takes them sees what one cursor
would have shown, each record once and ascending.
"""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from math import ceil
from queue import SimpleQueue
from statistics import median

from zendesk_pipeline.limits import MINUTE
from zendesk_pipeline.pages import Page, Walk
from zendesk_pipeline.records import Record
from zendesk_pipeline.windows import Span

MOST_CURSORS = 8
FASTEST = 2500.0
"""Requests a minute of the largest plan; what allows more is no limit, and then latency is not what a walk waits for.

https://developer.zendesk.com/api-reference/introduction/rate-limits/
"""
PAGES_OF_A_PART = 24
"""What a part is cut for. It costs half a page, as its last one is not full."""
LONGEST_PART = 32
"""Pages; a part that has more than was thought gives back its rest."""
SHORTEST_PART = 2
"""Pages; a shorter one would not be worth its half page."""
SHORTEST_TIME = 60
"""Seconds of event time."""
PARTS_PER_CURSOR = 2
"""Those under way and those that wait to be used; one more may be under way, the one that is wanted next."""
MOST_PAGES_WAITING = (PARTS_PER_CURSOR * MOST_CURSORS + 1) * LONGEST_PART
"""The bound of what is read ahead, and of its memory."""
EDGE = 3
"""Seconds before the last record in which neighbouring parts can show the same ones: each is asked for wider."""
LATENCIES = 32
"""So many answers say how long one takes."""


def cursors_for(latency: float, per_minute: float | None) -> int:
    """How many cursors use up the rate where an answer takes `latency` seconds; one where no rate is known."""
    if per_minute is None:
        return 1
    return min(MOST_CURSORS, max(1, ceil(latency * min(per_minute, FASTEST) / MINUTE)))


def pages(walk: Walk) -> Iterator[Page]:
    """Every page of the walk's range in ascending order of event time; raises what `Walk.pages` does, in its place.

    One cursor begins. The others join in where the stream allows them, latency asks for them and there is enough left.
    A walk with MAX_PAGES keeps to one: parts would count differently.
    """
    reading, recent = _Reading(walk), list[Record]()
    for page in walk.pages():
        reading.latencies.append(walk.client.spent.latest)
        recent = _edge([*recent, *page.records])
        yield page
        if reading.begins_after(page):
            numbers = count(page.number + 1)
            yield from (replace(other, number=next(numbers)) for other in _each_once(reading, recent))
            return


def _each_once(reading: "_Reading", recent: list[Record]) -> Iterator[Page]:
    """The pages of the parts, without the records at a part's start that the part before it has shown."""
    for part in reading.in_order():
        shown = {record.identity for record in recent}
        for page in reading.pages_of(part):
            records = [record for record in page.records if record.identity not in shown]
            recent = _edge([*recent, *records])
            yield replace(page, records=records)


def _edge(records: list[Record]) -> list[Record]:
    return [record for record in records if record.time >= records[-1].time - EDGE]


@dataclass(slots=True, eq=False)
class _Part:
    """A part of the range, and its pages as they come: a page, what went wrong, or None at the end."""

    span: Span
    begun: bool = False
    """Whether a cursor reads it, or has."""
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
    asking: int = 0
    """Parts being read."""
    stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def begins_after(self, page: Page) -> bool:
        """Whether the rest behind a page of the first cursor is left to several; then it is the first part."""
        asked = self.walk.asked
        if not self.walk.stream.in_parts or self.walk.max_pages is not None or self._cursors() == 1:
            return False
        rest = _rest(asked, page)
        if rest is None or _pages_in(rest, asked, page.number) < SHORTEST_PART:
            return False
        self.pace = (rest.start - asked.start) / page.number
        self.parts.append(_Part(rest))
        return True

    def in_order(self) -> Iterator[_Part]:
        """The parts from first to last, each as soon as a cursor has begun it."""
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
        while (page := part.pages.get()) is not None:
            if isinstance(page, BaseException):
                raise page
            yield page
            with self.changed:
                self.changed.notify_all()

    # In the cursors' threads

    def _cursor(self, walk: Walk) -> None:
        while (part := self._next()) is not None:
            try:
                self._read(part, replace(walk, part=part.span))
            except BaseException as problem:  # noqa: BLE001  # it is raised again where the pages are used
                self._ends_at(part)
                part.pages.put(problem)
            with self.changed:
                self.asking -= 1
                self.changed.notify_all()

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
        return unread == 0 or (self.asking < cursors and waiting < PARTS_PER_CURSOR * cursors)

    def _cut(self, number: int) -> _Part:
        """The first piece of an unread part; towards the end of a range pieces get smaller, to end together."""
        part = self.parts[number]
        left = sum(each.span.end - each.span.start for each in self.parts if not each.begun) / self.pace
        pages_wanted = min(PAGES_OF_A_PART, max(SHORTEST_PART, left / self._cursors()))
        length = max(SHORTEST_TIME, pages_wanted * self.pace)
        pieces = max(1, round((part.span.end - part.span.start) / length))
        end = part.span.start + ceil((part.span.end - part.span.start) / pieces)
        if pieces > 1:
            self.parts.insert(number + 1, _Part(Span(end, part.span.end)))
            part.span = Span(part.span.start, end)
        part.begun = True
        self.changed.notify_all()
        return part

    def _read(self, part: _Part, walk: Walk) -> None:
        records, rest, latest = 0, None, 0
        for page in walk.pages():
            records += len(page.records)
            part.pages.put(page)
            with self.changed:
                self.latencies.append(walk.client.spent.latest)
                self.changed.wait_for(lambda: self._is_left(part) or part.pages.qsize() < LONGEST_PART)
                if self._is_left(part):
                    return
                ascending = not page.records or page.records[0].time >= latest
                rest = _rest(part.span, page) if ascending and self._is_long(part, page) else None
            if rest is not None:
                break
            latest = page.records[-1].time if page.records else latest
        with self.changed:
            ended = part.span.end if rest is None else rest.start
            self.pace = (ended - part.span.start) / max(records / walk.stream.page_size, 0.5)
            if rest is not None and not self._is_left(part):
                self.parts.insert(self.parts.index(part) + 1, _Part(rest))
        part.pages.put(None)

    def _is_long(self, part: _Part, page: Page) -> bool:
        """Whether the rest of a part is better cut again: it has too many pages, or other cursors have nothing."""
        if page.number >= LONGEST_PART:
            return True
        idle = self.asking < self._cursors() and all(each.begun for each in self.parts)
        rest = _rest(part.span, page)
        return idle and rest is not None and _pages_in(rest, part.span, page.number) > SHORTEST_PART + 1

    def _cursors(self) -> int:
        if not self.latencies:
            return 1
        per_minute = self.walk.client.limiters[self.walk.stream.budget].per_minute
        return cursors_for(median(self.latencies), per_minute)


def _rest(span: Span, page: Page) -> Span | None:
    """What of a span is behind a page; None where there is nothing, or where the page does not ascend."""
    times = [record.time for record in page.records]
    if not page.more or not times or not span.start < times[-1] < span.end:
        return None
    if any(later < earlier for earlier, later in pairwise(times)):
        return None
    return Span(times[-1], span.end)


def _pages_in(rest: Span, span: Span, read: int) -> float:
    """About how many pages the rest of a span has, of which so many are read."""
    return (rest.end - rest.start) / (rest.start - span.start) * read
