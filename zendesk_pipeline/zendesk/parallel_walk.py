"""A range of a list whose query names both ends, read in parts: at once, or one after another (ADR 16 and 17).

One cursor gets one page a round trip: at 200 ms no more than 300 a minute, whatever the limit allows. So a range is cut
into consecutive parts, each asked for with a filter of its own, and as many of them are read at the same time as it
takes to use up the rate. Pages come out in the order of the parts: whoever takes them sees what one cursor would have
shown, each record once.

A part that has come to its end is proof that all of it was shown, in whatever order. Nothing else is: no part begins
where another one has merely come by, and what a part does not finish is read again.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from zendesk_pipeline.model.errors import TransientError
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.zendesk.query_pace import QueryPace
from zendesk_pipeline.zendesk.range_parts import PartReader, pages_before_the_hour
from zendesk_pipeline.zendesk.walk import Walk

EDGE = 3
"""Seconds around the end of a part in which its neighbour can show the same records: each is asked for wider."""
MOST_REMEMBERED = 1024
"""Pages whose identities are remembered; where more of them share a second, records come twice, which is no harm."""


def pages(walk: Walk) -> Iterator[Page]:
    """Every page of the walk's range; raises what `Walk.pages` does, in its place.

    One cursor begins. Where a good deal is left, parts follow; several are read at once where the stream allows it and
    latency asks for it. An export, which has no end to ask for, is one walk.
    """
    if not walk.stream.paging.bounded:
        yield from walk.pages()
        return
    reader, shown, pace = PartReader(walk), _ShownRecords(), QueryPace(walk.asked)
    try:
        for page in walk.pages():
            reader.measure(walk, page)
            pace.add(page)
            shown.add(page)
            in_parts = reader.begins_after(page, pace)  # whoever takes the page empties it
            yield page
            if in_parts:
                break
        else:
            return
    except TransientError:
        yield from pages_before_the_hour(walk, pace.latest)
        raise
    numbers = count(page.number + 1)
    yield from (replace(other, number=next(numbers)) for other in _each_record_once(reader, shown))


@dataclass(slots=True)
class _ShownRecords:
    """The identities that can be shown once more, because it is not proven that their time is passed."""

    pages: deque[tuple[int, list[str]]] = field(default_factory=deque[tuple[int, list[str]]])
    """The latest time of each page, and its identities."""

    def add(self, page: Page) -> None:
        if page.records:
            latest = max(record.time for record in page.records)
            self.pages.append((latest, [record.identity for record in page.records]))
        while self.pages and (self.pages[0][0] < page.passed - EDGE or len(self.pages) > MOST_REMEMBERED):
            self.pages.popleft()

    def identities(self) -> set[str]:
        return {identity for _, identities in self.pages for identity in identities}


def _each_record_once(reader: PartReader, shown: _ShownRecords) -> Iterator[Page]:
    """The pages of the parts without what was shown before them: by the first cursor, or by the part before."""
    late = reader.walk.stream.paging.late
    for part, pages in reader.in_order():
        before = shown.identities()
        for page in pages:
            page.records[:] = [record for record in page.records if record.identity not in before]
            passed = page.passed if page.more else max(page.passed, part.asked.end - late)
            new = replace(page, passed=passed)
            shown.add(new)
            yield new
