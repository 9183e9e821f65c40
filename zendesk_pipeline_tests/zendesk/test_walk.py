"""The walk over pages, against the simulated Zendesk wherever it can be made to behave so."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from zendesk_pipeline.commands.source_windows import Shown, by_window
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    PageLimitError,
    PageTooHeavyError,
    ProtocolError,
    TooEarlyError,
    TransientError,
)
from zendesk_pipeline.model.paging import Params
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS, INCREMENTAL_USERS, STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span, TimeRange, Window, timestamp
from zendesk_pipeline.zendesk import transport as transport_module
from zendesk_pipeline.zendesk.credentials import ClientCredentials
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline.zendesk.page_order import PAGES_OF_A_DOUBTFUL_END, RECORDS_OF_AN_END
from zendesk_pipeline.zendesk.settled_range import PAUSE_OF_AN_OLD_PAGE, TRIES_OF_AN_OLD_PAGE
from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline_tests.asking import DAY, NOW, client_for, first_page, machine_in, walk_with
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering, audit_logs_page, tickets_page
from zendesk_pipeline_tests.ports import lasting_port

Clocks = Callable[[float], FakeClock]
each_stream = pytest.mark.parametrize("stream", [pytest.param(stream, id=name) for name, stream in COLLECTED.items()])
PAGE_OF = {"audit_logs": audit_logs_page, "incremental_tickets": tickets_page}
QUIET = Span(NOW - HOUR, NOW)
"""The hour before the frozen clock's: the export's end of stream lies in it."""


def _lines(pages: Sequence[Page], span: Span) -> list[bytes]:
    """The records that belong into the span, in the order they came."""
    return [record.line for page in pages for record in page.records if span.start <= record.time < span.end]


def _queries(zendesk: SimulatedZendesk) -> list[Params]:
    return [seen.pairs for seen in zendesk.control.requests()]


def _sizes(zendesk: SimulatedZendesk) -> list[int]:
    """How many records a page each request asked for."""
    return [int(dict(query).get("per_page") or dict(query)["page[size]"]) for query in _queries(zendesk)]


# On the wire


@each_stream
def test_every_record_of_the_range_comes_once_in_order(
    stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """The pages hold what Zendesk has, byte for byte, ascending by time, in as few requests as its page size allows."""
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream).pages())
    times = [record.time for page in pages for record in page.records]

    assert _lines(pages, DAY) == zendesk.control.source(stream.name, DAY.start, DAY.end)
    assert times == sorted(times)
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert len(zendesk.control.requests()) == len(pages) > 5
    assert {len(page.records) for page in pages[:-1]} == {stream.page_size}


@pytest.mark.parametrize("ends", ["inclusive", "exclusive"])
def test_the_ends_of_the_range_are_whole_whatever_zendesk_means_by_them(
    ends: str, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """Whether or not the ends of filter[created_at] belong to it, the first and last second are there."""
    zendesk.control.set(filter_ends=ends)
    at_the_ends = [
        b'{"id":1,"created_at":"2026-11-13T00:00:00Z"}',
        b'{"id":2,"created_at":"2026-11-13T23:59:59Z"}',
    ]
    zendesk.control.add_records("audit_logs", at_the_ends)
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), AUDIT_LOGS).pages())
    assert _lines(pages, DAY) == zendesk.control.source("audit_logs", DAY.start, DAY.end)
    assert set(at_the_ends) <= set(_lines(pages, DAY))


def test_audit_logs_are_asked_for_as_zendesk_wants_it(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """The filter twice and a second wider at both ends, ascending, by cursor, and the same on every page."""
    list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), AUDIT_LOGS).pages())
    query = [
        ("filter[created_at][]", "2026-11-12T23:59:59Z"),
        ("filter[created_at][]", "2026-11-14T00:00:01Z"),
        ("sort", "created_at"),
        ("page[size]", "100"),
    ]
    first, *later = _queries(zendesk)
    assert first == query
    assert all(each[:-1] == query and each[-1][0] == "page[after]" for each in later)
    assert len({each[-1] for each in later}) == len(later)


def test_a_part_shorter_than_an_hour_is_asked_for_alone(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Half an hour of a day: the filter names its two ends, not those of the day."""
    whole = walk_with(client_for(zendesk.url, fake_clock(NOW).clock), AUDIT_LOGS)
    list(dataclasses.replace(whole, part=TimeRange(DAY.start + 600, DAY.start + 2400)).pages())
    ends = [value for name, value in _queries(zendesk)[0] if name == "filter[created_at][]"]
    assert ends == ["2026-11-13T00:09:59Z", "2026-11-13T00:40:01Z"]


def test_tickets_are_asked_for_as_zendesk_wants_it(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A start for the first page and a cursor after it, a thousand a page, AI agents' tickets with the others."""
    list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock)).pages())
    first, *later = _queries(zendesk)
    assert first == [("start_time", str(DAY.start)), ("per_page", "1000"), ("support_type_scope", "all")]
    assert all([name for name, _ in each] == ["cursor", "per_page", "support_type_scope"] for each in later)
    assert all(each[1:] == first[1:] for each in later)
    assert all(seen.path == "/api/v2/incremental/tickets/cursor" for seen in zendesk.control.requests())


@pytest.mark.parametrize(
    ("stream", "parameter", "value"),
    [
        pytest.param(AUDIT_LOGS, "filter[created_at][]", "2026-11-12T22:59:59Z", id="audit_logs"),
        pytest.param(INCREMENTAL_TICKETS, "start_time", str(DAY.start - HOUR), id="tickets"),
    ],
)
def test_a_walk_reads_back(
    stream: Stream, parameter: str, value: str, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """With a lookback of an hour the hour before the range is read as well."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    pages = list(walk_with(client, stream, lookback=HOUR).pages())
    wider = Span(DAY.start - HOUR, DAY.end)
    assert _queries(zendesk)[0][0] == (parameter, value)
    assert _lines(pages, wider) == zendesk.control.source(stream.name, wider.start, wider.end)


@each_stream
def test_a_page_tells_what_it_took(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Requests with tries that failed, and the seconds that the rate limit cost."""
    zendesk.control.add_faults(
        Rule(path="cursor=|after", kind="status", code=503),
        Rule(path="cursor=|after", kind="status", code=429, retry_after="seconds:7"),
    )
    first, second, third, *_ = walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream).pages()
    costs = [(page.number, page.requests, page.waited) for page in (first, second, third)]
    assert costs == [(1, 1, 0), (2, 3, 7), (3, 1, 0)]


@each_stream
def test_no_address_from_an_answer_is_followed(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """`after_url` and `links.next` name another host, as real answers do: it receives nothing, and nothing lacks."""
    with answering(Reply(PAGE_OF[stream.name]())) as elsewhere:
        zendesk.control.set(canonical_host=elsewhere.url)
        pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream).pages())
    assert _lines(pages, DAY) == zendesk.control.source(stream.name, DAY.start, DAY.end)
    assert elsewhere.received == []


# Where a walk ends


@each_stream
def test_an_empty_page_is_not_the_end(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A page without records that says there is more is followed."""
    zendesk.control.add_faults(Rule(path=stream.path, kind="empty_page", skip=1))
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream).pages())
    assert [len(page.records) for page in pages[:3]] == [stream.page_size, 0, stream.page_size]
    assert _lines(pages, DAY) == zendesk.control.source(stream.name, DAY.start, DAY.end)


def test_more_that_turns_out_empty_is_fine(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Where the records fill their last page Zendesk says there is more, and an empty page says there is not."""
    before = Span(DAY.start - 48 * HOUR, DAY.start - 47 * HOUR)  # the account has no history there
    added = [b'{"id":%d,"created_at":"2026-11-11T00:30:00Z"}' % number for number in range(100, 300)]
    zendesk.control.add_records("audit_logs", added)
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), AUDIT_LOGS, before).pages())
    assert [len(page.records) for page in pages] == [100, 100, 0]
    assert _lines(pages, before) == added


@each_stream
def test_the_last_page_ends_the_walk_though_a_cursor_is_set(
    stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """`end_of_stream` and `has_more` decide; the cursor and links that are still set lead nowhere."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    body = first_page(client, stream, QUIET)
    assert (body.has_more, body.cursor is None) == (False, False)

    pages = list(walk_with(client, stream, QUIET, settle=0).pages())
    assert len(pages) == 1
    assert len(zendesk.control.requests()) == 2


@pytest.mark.parametrize("hours", [1, 6, 20])
def test_the_export_is_left_at_the_ranges_end(hours: int, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """It has no end of its own: a page that crosses the range's end, and a whole one behind it, are the last asked."""
    span = Span(DAY.start, DAY.start + hours * HOUR)
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), span=span).pages())
    assert all(record.time < span.end for page in pages[:-2] for record in page.records)
    assert pages[-2].records[-1].time >= span.end
    assert all(record.time >= span.end for record in pages[-1].records)
    assert len(zendesk.control.requests()) == len(pages)
    assert _lines(pages, span) == zendesk.control.source("incremental_tickets", span.start, span.end)


def _tickets(time: int, count: int = 1, first: int = 1) -> list[bytes]:
    return [b'{"id":%d,"generated_timestamp":%d}' % (first + number, time) for number in range(count)]


def _page_of(stream: Stream, times: Sequence[int], number: int, *, more: bool) -> bytes:
    """A page of an export with records of these event times, whatever its paging needs to tell the next one."""
    as_seconds = stream.event_time in {"generated_timestamp", "timestamp"}
    records = [
        {"id": 100 * number + n, stream.event_time: at if as_seconds else timestamp(at)} for n, at in enumerate(times)
    ]
    tail = {"end_of_stream": not more, "after_cursor": f"{number}", "end_time": times[0]}
    return msgspec.json.encode({stream.items: records, **tail, "meta": {"has_more": more, "after_cursor": f"{number}"}})


def _asked(
    stream: Stream, clock: Clock, *pages: bytes, dates: Sequence[str] = (), **arguments: Any
) -> tuple[list[Page], int]:
    """The pages of a walk over prepared answers, and how many requests it made."""
    headers = [{"Date": date} for date in dates] or [dict[str, str]()] * len(pages)
    with answering(*(Reply(body, 200, head) for body, head in zip(pages, headers, strict=True))) as server:
        found = list(walk_with(client_for(server.url, clock), stream, **arguments).pages())
        return found, len(server.received)


def test_a_record_that_stands_early_is_no_end(fake_clock: Clocks) -> None:
    """A ticket stamped beyond the range at the end of the first page: the pages behind it are read."""
    early = _tickets(DAY.end + HOUR, 1, 99)
    pages = [
        tickets_page([*_tickets(DAY.start, 5), *early], cursor="a", more=True),
        tickets_page(_tickets(DAY.start + HOUR, 5), cursor="b", more=True),
        tickets_page(_tickets(DAY.start + 2 * HOUR, 5), cursor="c"),
    ]
    found, requests = _asked(INCREMENTAL_TICKETS, fake_clock(NOW).clock, *pages)
    assert requests == 3
    assert len(_lines(found, DAY)) == 15


@pytest.mark.parametrize("early", [1, 2])
def test_a_page_that_stands_early_is_no_end(early: int, fake_clock: Clocks) -> None:
    """A whole page from behind the range, as the first or the second: the export is in disorder, and read on."""
    beyond = tickets_page(_tickets(DAY.end + HOUR, 50, 99), cursor="e", more=True)
    pages = [tickets_page(_tickets(DAY.start + n * HOUR, 5), cursor=f"{n}", more=True) for n in range(4)]
    pages.insert(early - 1, beyond)
    found, requests = _asked(INCREMENTAL_TICKETS, fake_clock(NOW).clock, *pages, tickets_page([]))
    assert requests == 6
    assert len(_lines(found, DAY)) == 20


def test_in_disorder_an_export_is_left_only_after_many_pages(fake_clock: Clocks) -> None:
    """Where a page has come out of its turn, two pages behind the end do not end the walk; eight do."""
    mixed = [DAY.start + 2 * HOUR, DAY.start + HOUR, *range(DAY.end, DAY.end + 20 * HOUR, HOUR)]
    pages = [tickets_page(_tickets(at, 5), cursor=f"{at}", more=True) for at in mixed]
    _, requests = _asked(INCREMENTAL_TICKETS, fake_clock(NOW + 20 * HOUR).clock, *pages)
    assert requests == 2 + PAGES_OF_A_DOUBTFUL_END


def test_few_records_are_no_end(fake_clock: Clocks) -> None:
    """Pages of one record, as after a 504: two of them behind the range prove nothing, ten records do."""
    pages = [tickets_page(_tickets(DAY.end + at), cursor=f"{at}", more=True) for at in range(20)]
    _, requests = _asked(INCREMENTAL_TICKETS, fake_clock(NOW).clock, *pages)
    assert requests == RECORDS_OF_AN_END


def test_an_old_record_says_nothing_of_the_order(fake_clock: Clocks) -> None:
    """Users are listed by another time than `updated_at`: one from before the range is counted, and ends nothing."""
    users = [(DAY.start + 5, DAY.start - 90 * HOUR), (DAY.end + 5, DAY.end + 9), (DAY.end + 10, DAY.end + 11)]
    lists = [
        [b'{"id":%d,"updated_at":"%b"}' % (n, timestamp(at).encode()) for n, at in enumerate(each * 5)]
        for each in users
    ]
    lists += lists[-1:] * (PAGES_OF_A_DOUBTFUL_END - 2)
    pages = [tickets_page(each, cursor=f"{n}", more=True).replace(b"tickets", b"users") for n, each in enumerate(lists)]
    found, requests = _asked(INCREMENTAL_USERS, fake_clock(NOW).clock, *pages)
    assert requests == 1 + PAGES_OF_A_DOUBTFUL_END
    assert [page.older for page in found] == [5] + [0] * PAGES_OF_A_DOUBTFUL_END


def test_what_pages_prove(fake_clock: Clocks) -> None:
    """An export has passed where the page before the last one begins but one, if each began no earlier than the other.

    A list that is asked for both its ends proves nothing before its end: whatever the order is, it need not be known.
    """
    starts = [DAY.start + n * HOUR for n in range(5)]
    tickets = [tickets_page(_tickets(at, 3), cursor=f"{at}", more=True) for at in starts]
    full_of_three = dataclasses.replace(INCREMENTAL_TICKETS, page_size=3)
    found, _ = _asked(full_of_three, fake_clock(NOW).clock, *tickets, tickets_page([]))
    assert [page.passed for page in found] == [DAY.start, DAY.start, *starts[:3], starts[2]]

    logs = [b'{"id":%d,"created_at":"%b"}' % (at, timestamp(at).encode()) for at in starts]
    listed = [audit_logs_page([log], cursor=f"{n}", more=n < 4) for n, log in enumerate(logs)]
    found, _ = _asked(AUDIT_LOGS, fake_clock(NOW).clock, *listed)
    assert [page.passed for page in found] == [DAY.start] * 5


def test_pages_of_a_record_prove_as_little_as_its_number(fake_clock: Clocks) -> None:
    """Where pages were too heavy, three records that stand early are three pages: a full page's records prove it."""
    early = [DAY.start + 2 * HOUR + n for n in range(3)]
    times = [DAY.start + 10, *early, *(DAY.start + 11 + n for n in range(8))]
    pages = [tickets_page(_tickets(at, 1, n), cursor=f"{n}", more=True) for n, at in enumerate(times)]
    stream = dataclasses.replace(INCREMENTAL_TICKETS, page_size=4)
    found, _ = _asked(stream, fake_clock(NOW).clock, *pages, tickets_page([]))
    assert {page.passed for page in found} == {DAY.start}

    in_order = [DAY.start + n for n in range(12)]
    pages = [tickets_page(_tickets(at), cursor=f"{at}", more=True) for at in in_order]
    found, _ = _asked(stream, fake_clock(NOW).clock, *pages, tickets_page([]))
    assert [page.passed for page in found[4:-1]] == in_order[:8]


BY_EVENT_TIME = {"incremental_tickets", "incremental_ticket_events", "ticket_metric_events"}


@pytest.mark.parametrize(
    "stream", [pytest.param(each, id=each.name) for each in STREAMS.values() if not each.paging.bounded]
)
def test_only_the_order_of_the_event_time_proves_something(stream: Stream, fake_clock: Clocks) -> None:
    """Users and organizations are listed by a time of the export's own: before the end no page proves anything.

    The fifth page has a record of the first hour, which would be of a window that was finished.
    """
    span, hour = Span(DAY.start, DAY.start + 5 * HOUR), Window(DAY.start)
    times = [[span.start + n * HOUR + 60 + i for i in range(3)] for n in range(5)]
    times[-1].append(span.start + 61)
    pages = [_page_of(stream, each, n, more=n < 4) for n, each in enumerate(times)]
    stream = dataclasses.replace(stream, page_size=4)
    found, _ = _asked(stream, fake_clock(NOW).clock, *pages, span=span)
    assert [page.passed >= hour.end for page in found] == [stream.name in BY_EVENT_TIME and n == 3 for n in range(5)]

    def again() -> Iterator[tuple[Window, Shown]]:
        with answering(*(Reply(body) for body in pages)) as server:
            yield from by_window(walk_with(client_for(server.url, fake_clock(NOW).clock), stream, span).pages(), span)

    if stream.name in BY_EVENT_TIME:
        with pytest.raises(ProtocolError, match="behind later ones"):
            list(again())
    else:
        assert [len(shown.identities) for _, shown in again()] == [4, 3, 3, 3, 3]


FRESH, OLD = "Sat, 14 Nov 2026 12:00:00 GMT", "Fri, 13 Nov 2026 23:00:00 GMT"


@each_stream
def test_a_later_page_out_of_an_old_memory_is_not_believed(stream: Stream, fake_clock: Clocks) -> None:
    """Its `Date` is an hour before the range's end, so that it is the last one says nothing: it is asked for again."""
    page, fake = PAGE_OF[stream.name], fake_clock(NOW)
    first, old, rest = page(cursor="a", more=True), page(cursor="b"), page(cursor="c", more=True)
    pages, requests = _asked(stream, fake.clock, first, old, rest, page(), dates=[FRESH, OLD, FRESH, FRESH])
    assert (len(pages), requests) == (3, 4)
    assert fake.slept == [PAUSE_OF_AN_OLD_PAGE]


@each_stream
def test_a_memory_that_stays_old_is_an_error(stream: Stream, fake_clock: Clocks) -> None:
    """Pages before it were fresh: the sentence names the proxy, and no page of it is given."""
    page = PAGE_OF[stream.name]
    first, old = page(cursor="a", more=True), page(cursor="b")
    with answering(Reply(first, 200, {"Date": FRESH}), Reply(old, 200, {"Date": OLD})) as server:
        pages = walk_with(client_for(server.url, fake_clock(NOW).clock), stream).pages()
        next(pages)
        with pytest.raises(ProtocolError, match="proxy that answers from its memory"):
            next(pages)
        assert len(server.received) == 1 + TRIES_OF_AN_OLD_PAGE


def test_records_at_the_very_end_end_the_walk(fake_clock: Clocks) -> None:
    """The range's end belongs to the next range; a second before it does not end the walk."""
    inside, at_end = (_tickets(time, 6) for time in (DAY.end - 1, DAY.end))
    with answering(
        *(Reply(tickets_page(each, cursor=f"{n}", more=True)) for n, each in enumerate([inside, at_end, at_end]))
    ) as server:
        pages = list(walk_with(client_for(server.url, fake_clock(NOW).clock)).pages())
    assert [record.line for page in pages for record in page.records] == [*inside, *at_end, *at_end]
    assert len(server.received) == 3


def test_a_record_of_the_future_is_no_end(fake_clock: Clocks) -> None:
    """One with a time that has not come yet belongs to no window that can be read, and does not end the walk."""
    early, future, late = (b'{"id":1,"generated_timestamp":%d}' % time for time in (DAY.start, NOW + 3600, DAY.end - 1))
    date = {"Date": "Sat, 14 Nov 2026 12:00:00 GMT"}
    with answering(
        Reply(tickets_page([early, future], cursor="a", more=True), 200, date), Reply(tickets_page([late]), 200, date)
    ) as server:
        pages = list(walk_with(client_for(server.url, fake_clock(NOW).clock)).pages())
    assert [record.line for page in pages for record in page.records] == [early, late]


# What contradicts Zendesk's promises


@each_stream
def test_a_cursor_that_repeats_is_an_error(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Following it would never end, and to stop there could lose records."""
    zendesk.control.add_faults(Rule(path="cursor=|after", kind="repeat_cursor", times=5))
    walk = walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream)
    with pytest.raises(ProtocolError, match="same cursor twice"):
        list(walk.pages())
    assert len(zendesk.control.requests()) == 2


@each_stream
def test_cursors_that_alternate_are_an_error(stream: Stream, fake_clock: Clocks) -> None:
    """A, B, A: every cursor of the walk is remembered, not the last one alone."""
    page = PAGE_OF[stream.name]
    replies = [Reply(page(cursor=cursor, more=True)) for cursor in ("A", "B", "A", "B")]
    with answering(*replies, Reply(page())) as server:
        walk = walk_with(client_for(server.url, fake_clock(NOW).clock), stream)
        with pytest.raises(ProtocolError, match="same cursor twice"):
            list(walk.pages())
    assert len(server.received) == 3


@each_stream
def test_more_without_a_cursor_is_an_error(stream: Stream, fake_clock: Clocks) -> None:
    """Zendesk says there is more, but not where: the page is given, and then the error."""
    with answering(Reply(PAGE_OF[stream.name](more=True))) as server:
        pages = walk_with(client_for(server.url, fake_clock(NOW).clock), stream).pages()
        assert next(pages).records == []
        with pytest.raises(ProtocolError, match="not where"):
            next(pages)


@each_stream
def test_a_cursor_that_no_request_can_hold_is_an_error(stream: Stream, fake_clock: Clocks) -> None:
    """It is not sent: a server would refuse the address for its length, and nobody would know why."""
    with answering(Reply(PAGE_OF[stream.name](cursor="x" * 100_000, more=True))) as server:
        walk = walk_with(client_for(server.url, fake_clock(NOW).clock), stream)
        with pytest.raises(ProtocolError, match="no request can hold"):
            list(walk.pages())
    assert len(server.received) == 1


@each_stream
def test_max_pages_bounds_a_walk(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """As many pages as allowed are read and given, then the error names the setting; enough is no error."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    needed = len(list(walk_with(client, stream).pages()))
    assert len(list(walk_with(client, stream, max_pages=needed).pages())) == needed

    zendesk.control.forget_requests()
    given: list[Page] = []
    with pytest.raises(PageLimitError, match=f"MAX_PAGES={needed - 1}"):
        given.extend(walk_with(client, stream, max_pages=needed - 1).pages())
    assert len(given) == len(zendesk.control.requests()) == needed - 1


def test_a_body_that_is_no_page_is_never_the_end(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """`{}` in the middle of a walk, for longer than HTTP_RETRIES: an error, not the end of the data."""
    zendesk.control.add_faults(Rule(path="cursor=", kind="empty_object", times=0))
    pages = walk_with(client_for(zendesk.url, fake_clock(NOW).clock)).pages()
    assert len(next(pages).records) == 1000
    with pytest.raises(TransientError, match="is not a page of tickets"):
        next(pages)


# When a range may be read


@pytest.mark.parametrize(
    ("after_the_end", "waits"),
    [
        pytest.param(300, [], id="settled"),
        pytest.param(299.5, [0.5], id="nearly"),
        pytest.param(0, [300], id="just-over"),
        pytest.param(-600, [900], id="not-over"),
    ],
)
def test_a_range_that_is_nearly_settled_is_waited_for(
    after_the_end: float, waits: list[float], zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """SETTLE_SECONDS after the range's end it is read, not before; up to a quarter of an hour is waited."""
    fake = fake_clock(DAY.end + after_the_end)
    first = next(walk_with(client_for(zendesk.url, fake.clock), AUDIT_LOGS, settle=300).pages())
    assert fake.slept == waits
    assert first.records


def test_a_range_that_is_far_from_settled_is_too_early(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """More than a quarter of an hour is not waited: nothing is asked, and the error says when."""
    fake = fake_clock(DAY.end + 300 - 1800)
    with pytest.raises(TooEarlyError, match=r"this machine's clock .* 30 minutes"):
        next(walk_with(client_for(zendesk.url, fake.clock), settle=300).pages())
    assert (fake.slept, zendesk.control.requests()) == ([], [])


def _together(zendesk: SimulatedZendesk, fake: FakeClock, behind: float) -> Clock:
    """A clock whose sleep is Zendesk's too; Zendesk's shows less."""
    zendesk.control.set_clock(fake.time - behind)

    def sleep(seconds: float) -> None:
        fake.clock.sleep(seconds)
        zendesk.control.set_clock(fake.time - behind)

    return Clock(now=fake.clock.now, monotonic=fake.clock.monotonic, sleep=sleep)


@each_stream
def test_zendesks_clock_decides_what_it_shows(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Where it is behind ours the first page is asked for again once its clock has come so far: nothing lacks."""
    span = Span(DAY.end - HOUR, DAY.end)
    late = {
        "audit_logs": b'{"id":1,"created_at":"2026-11-13T23:59:59Z"}',
        "incremental_tickets": b'{"id":1,"generated_timestamp":%d}' % (span.end - 1),
    }[stream.name]
    zendesk.control.add_records(stream.name, [late], visible_at=span.end + 290)
    fake = fake_clock(span.end + 300)
    client = client_for(zendesk.url, _together(zendesk, fake, behind=240))

    pages = list(walk_with(client, stream, span, settle=300).pages())
    assert fake.slept == [240]
    assert late in _lines(pages, span)
    assert _lines(pages, span) == zendesk.control.source(stream.name, span.start, span.end)
    first, second, *later = _queries(zendesk)
    assert first == second
    assert all(query != first for query in later)
    assert (pages[0].number, pages[0].requests) == (1, 2)


def test_a_zendesk_far_behind_is_too_early(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """By its clock the range settles in more than a quarter of an hour: an error, and nothing is given."""
    fake = fake_clock(DAY.end + 300)
    zendesk.control.set_clock(DAY.end - 900)
    with pytest.raises(TooEarlyError, match=r"Zendesk's clock .* 20 minutes"):
        next(walk_with(client_for(zendesk.url, fake.clock), settle=300).pages())
    assert fake.slept == []


def test_a_clock_of_zendesks_that_stands_still_is_too_early(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """As behind a proxy that answers from its memory: an error after a few looks, not a run without end."""
    fake = fake_clock(DAY.end + 300)
    zendesk.control.set_clock(DAY.end + 240)
    with pytest.raises(TooEarlyError, match="does not go on"):
        next(walk_with(client_for(zendesk.url, fake.clock), settle=300).pages())
    assert fake.slept == [60, 60, 60]


@pytest.mark.parametrize(
    ("date", "asked"),
    [
        pytest.param(None, 1, id="no-date"),
        pytest.param("Sat, 14 Nov 2026 00:05:00 GMT", 1, id="settled"),
        pytest.param("Sat, 14 Nov 2026 00:04:00 GMT", 2, id="a-minute-behind"),
        pytest.param("Sat, 14 Nov 2026 00:04:00 -0000", 2, id="without-a-zone-is-utc"),
        pytest.param("a while ago", 1, id="unreadable"),
    ],
)
def test_the_date_of_the_answer_is_zendesks_clock(date: str | None, asked: int, fake_clock: Clocks) -> None:
    """Whatever the zone of this machine; an answer that does not tell its time is taken as it is."""
    settled = Reply(tickets_page(), 200, {"Date": "Sat, 14 Nov 2026 00:05:00 GMT"})
    with answering(Reply(tickets_page(), 200, {"Date": date} if date else {}), settled) as server:
        walk = walk_with(client_for(server.url, fake_clock(DAY.end + 300).clock), settle=300)
        with machine_in("America/Los_Angeles"):
            list(walk.pages())
    assert len(server.received) == asked


def test_a_start_too_recent_for_zendesk_is_too_early(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Its 422 means not yet: no retry, and no other error."""
    zendesk.control.set_clock(DAY.start + 30)
    with pytest.raises(TooEarlyError, match="422"):
        next(walk_with(client_for(zendesk.url, fake_clock(NOW).clock)).pages())
    assert len(zendesk.control.requests()) == 1


# Pages that are too heavy


@each_stream
def test_a_504_halves_the_page_down_to_one(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """From the same place each time, until Zendesk can build it."""
    sizes = {
        "audit_logs": [100, 50, 25, 12, 6, 3, 1],
        "incremental_tickets": [1000, 500, 250, 125, 62, 31, 15, 7, 3, 1],
    }
    expected = sizes[stream.name]
    zendesk.control.add_faults(Rule(path=stream.path, kind="status", code=504, times=len(expected) - 1))
    first = next(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream).pages())
    assert _sizes(zendesk) == expected
    assert (len(first.records), first.requests) == (1, len(expected))


def test_a_504_is_given_time_to_pass(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Each smaller page waits twice as long as the last, a minute at most: an outage does not end a run in seconds."""
    fake = fake_clock(NOW)
    zendesk.control.add_faults(Rule(path="cursor", kind="status", code=504, times=8))
    next(walk_with(client_for(zendesk.url, fake.clock)).pages())
    assert fake.slept == [1, 2, 4, 8, 16, 32, 60, 60]


@each_stream
def test_a_504_on_a_page_of_one_is_an_error(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Nothing smaller can be asked for."""
    zendesk.control.add_faults(Rule(path=stream.path, kind="status", code=504, times=20))
    with pytest.raises(PageTooHeavyError, match="504"):
        next(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream).pages())
    assert _sizes(zendesk)[-2:] == [3, 1]


def test_pages_grow_back(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """After ten good pages the size doubles, until it is what it was; no record is lost or repeated on the way."""
    zendesk.control.add_faults(Rule(path="cursor=", kind="status", code=504, times=2))
    span = Span(DAY.start - 24 * HOUR, DAY.end)
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), span=span).pages())
    assert [len(list(group)) for _, group in itertools.groupby(_sizes(zendesk))][:4] == [2, 1, 10, 10]
    assert [size for size, _ in itertools.groupby(_sizes(zendesk))][:5] == [1000, 500, 250, 500, 1000]
    assert _lines(pages, span) == zendesk.control.source("incremental_tickets", span.start, span.end)


def test_a_fault_between_does_not_hinder_growing(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """What counts are good pages; a 503 that was tried again made none bad."""
    zendesk.control.add_faults(
        Rule(path="cursor=", kind="status", code=504), Rule(path="cursor=", kind="status", code=503, skip=5)
    )
    list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), span=Span(DAY.start - 24 * HOUR, DAY.end)).pages())
    groups = [(size, len(list(group))) for size, group in itertools.groupby(_sizes(zendesk))]
    assert groups[:2] == [(1000, 2), (500, 11)]
    assert groups[2][0] == 1000


SIGNS = [
    pytest.param(Rule(kind="hang", seconds=3), id="no-answer-in-time"),
    pytest.param(Rule(kind="status", code=503, body="upstream"), id="503-of-a-proxy"),
    pytest.param(Rule(kind="status", code=502, body="html"), id="502"),
    pytest.param(Rule(kind="status", code=524), id="524"),
    pytest.param(Rule(kind="status", code=408, body="text"), id="408"),
    pytest.param(Rule(kind="reset"), id="reset-before-the-body"),
    pytest.param(Rule(kind="reset_mid_body"), id="reset-in-the-body"),
]
"""What a page that is too heavy looks like, beside 504; an outage looks like it as well."""


@pytest.mark.parametrize("sign", SIGNS)
def test_a_page_that_stays_too_heavy_is_asked_for_in_parts(
    sign: Rule, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """The same is tried again first; then the size halves until answers come, and grows back after ten good pages.

    What was too heavy once is not asked for four times more: a size that grew too large halves at once.
    """
    zendesk.control.add_faults(replace(sign, path="incremental", times=0, larger_than=300))
    span = Span(DAY.start, DAY.start + 16 * HOUR)
    client = client_for(zendesk.url, fake_clock(NOW).clock, timeout=0.4)
    pages = list(walk_with(client, span=span).pages())
    groups = [(size, len(list(group))) for size, group in itertools.groupby(_sizes(zendesk))]
    assert groups[:5] == [(1000, 4), (500, 1), (250, 10), (500, 1), (250, 10)]
    assert _lines(pages, span) == zendesk.control.source("incremental_tickets", span.start, span.end)


def test_ordinary_faults_do_not_keep_pages_small(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """After a page that was too heavy, one in seven requests is a 502: pages grow back to full ones and stay so."""
    zendesk.control.add_faults(
        Rule(path="incremental", kind="status", code=504, skip=1),
        Rule(path="incremental", kind="status", code=502, times=0, skip=1, probability=0.15, seed=1),
    )
    stream, span = dataclasses.replace(INCREMENTAL_TICKETS, page_size=100), Span(DAY.start - 24 * HOUR, DAY.end)
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream, span).pages())
    sizes = _sizes(zendesk)
    assert len(sizes) > 100
    assert median(sizes[len(sizes) // 2 :]) == 100
    assert min(sizes) >= 12
    assert _lines(pages, span) == zendesk.control.source("incremental_tickets", span.start, span.end)


def test_an_outage_is_not_taken_for_a_heavy_page_for_long(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Each answer that does not come costs a minute: after five of them one record is asked for, and that is all."""
    zendesk.control.add_faults(Rule(path="incremental", kind="hang", seconds=1, times=0, skip=1))
    fake = fake_clock(NOW)

    def monotonic() -> float:
        return fake.time + 60 * len(zendesk.control.requests())

    clock = Clock(now=fake.clock.now, monotonic=monotonic, sleep=fake.clock.sleep)
    pages = walk_with(client_for(zendesk.url, clock, timeout=0.3)).pages()
    next(pages)
    began = monotonic()
    with pytest.raises(TransientError, match="asked for: 1,000 and fewer, 1 at last"):
        next(pages)
    assert _sizes(zendesk)[1:] == [1000] * 4 + [500] + [1] * 4
    assert monotonic() - began < 600


@each_stream
@pytest.mark.parametrize("sign", SIGNS[1:4])
def test_a_sign_that_stays_is_an_error_that_names_the_sizes(
    stream: Stream, sign: Rule, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """Down to one record, which is tried again as well; the sentence says which sizes were asked for."""
    zendesk.control.add_faults(replace(sign, path=stream.path, times=0))
    with pytest.raises(TransientError, match=f"asked for: {stream.page_size:,} and fewer, 1 at last") as raised:
        next(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), stream).pages())
    assert f"Zendesk answered {sign.code}" in str(raised.value)
    sizes = _sizes(zendesk)
    assert sizes[:5] == [stream.page_size] * 4 + [stream.page_size // 2]
    assert sizes[-5:] == [3, 1, 1, 1, 1]


@pytest.mark.parametrize("code", [500, 503])
def test_what_says_nothing_of_weight_halves_nothing(code: int, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A plain fault of Zendesk's ends a walk after its retries, as ever."""
    zendesk.control.add_faults(Rule(path="incremental", kind="status", code=code, times=0))
    with pytest.raises(TransientError, match=f"{code}"):
        next(walk_with(client_for(zendesk.url, fake_clock(NOW).clock)).pages())
    assert _sizes(zendesk) == [1000] * 4


def test_a_refused_connection_halves_nothing(fake_clock: Clocks) -> None:
    """Where nobody listens no page is too heavy."""
    fake = fake_clock(NOW)
    with pytest.raises(TransientError, match="NewConnectionError") as raised:
        next(walk_with(client_for(f"http://127.0.0.1:{lasting_port()}", fake.clock)).pages())
    assert "Records a page" not in str(raised.value)
    assert len(fake.slept) == 3


@pytest.mark.parametrize("code", [502, 504])
def test_a_token_is_no_page(code: int, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A token endpoint that gives up is tried again and then an error: no page is asked for in a smaller size."""
    zendesk.control.add_faults(Rule(path="oauth", kind="status", code=code, times=0))
    fake = fake_clock(NOW)
    transport = Transport(base_url=zendesk.url, timeout=5, clock=fake.clock)
    endpoint = token_endpoint(transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope="read")
    client = client_for(zendesk.url, fake.clock, credential=ClientCredentials(endpoint, fake.clock))
    with pytest.raises(TransientError, match=f"{code} to /oauth/tokens") as raised:
        next(walk_with(client).pages())
    assert "Records a page" not in str(raised.value)
    assert [seen.path for seen in zendesk.control.requests()] == ["/oauth/tokens"] * 4


def test_a_page_larger_than_we_take_is_asked_for_in_parts(
    zendesk: SimulatedZendesk, fake_clock: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body beyond LARGEST_BODY is halved like one that Zendesk cannot build, and every record comes."""
    monkeypatch.setattr(transport_module, "LARGEST_BODY", 600_000)
    span = Span(DAY.start, DAY.start + 6 * HOUR)
    pages = list(walk_with(client_for(zendesk.url, fake_clock(NOW).clock), span=span).pages())
    assert _sizes(zendesk)[:3] == [1000, 500, 250]
    assert _lines(pages, span) == zendesk.control.source("incremental_tickets", span.start, span.end)
