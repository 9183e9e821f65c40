"""The streams that are off by default: each against a simulated Zendesk that behaves as its documentation says."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from zendesk_pipeline import settings
from zendesk_pipeline.errors import ForbiddenError, ProtocolError
from zendesk_pipeline.keys import Layout
from zendesk_pipeline.local_services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.pages import Page
from zendesk_pipeline.records import record_reader
from zendesk_pipeline.settings import load
from zendesk_pipeline.simulator.faults import Rule
from zendesk_pipeline.simulator.further_records import ulid
from zendesk_pipeline.streams import (
    ACCESS_LOGS,
    COLLECTED_BY_DEFAULT,
    INCREMENTAL_ORGANIZATIONS,
    INCREMENTAL_TICKET_EVENTS,
    INCREMENTAL_USERS,
    STREAMS,
    TICKET_METRIC_EVENTS,
    Stream,
)
from zendesk_pipeline.windows import HOUR, Span, timestamp
from zendesk_pipeline_tests.asking import NOW, client_for, first_page, walk_with
from zendesk_pipeline_tests.conftest import SINCE, FakeClock
from zendesk_pipeline_tests.conftest import NOW as FROZEN
from zendesk_pipeline_tests.reconcile import reconcile
from zendesk_pipeline_tests.runs import QUIET, description, project
from zendesk_pipeline_tests.scripted_server import Reply, answering

Clocks = Callable[[float], FakeClock]
FURTHER = [stream for name, stream in STREAMS.items() if name not in COLLECTED_BY_DEFAULT]
BY_TIME = [INCREMENTAL_TICKET_EVENTS, INCREMENTAL_ORGANIZATIONS]
each_further = pytest.mark.parametrize("stream", [pytest.param(stream, id=stream.name) for stream in FURTHER])
each_by_time = pytest.mark.parametrize("stream", [pytest.param(stream, id=stream.name) for stream in BY_TIME])
HALF_A_DAY = Span(NOW - 24 * HOUR, NOW - 12 * HOUR)
"""Long over; some 9,000 records of each stream."""
RANGE = Span(NOW - 24 * HOUR, NOW - 20 * HOUR)


@pytest.fixture(scope="module")
def _busy_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedZendesk]:
    options = ("--since", SINCE, "--now", FROZEN, "--further-per-hour", "800")
    with simulated_zendesk(tmp_path_factory.mktemp("busy"), *options) as running:
        yield running


@pytest.fixture
def busy(_busy_process: SimulatedZendesk) -> SimulatedZendesk:
    """A simulated Zendesk with several pages of an hour of each stream."""
    _busy_process.control.reset()
    return _busy_process


def _inside(pages: list[Page], span: Span) -> list[bytes]:
    return [record.line for page in pages for record in page.records if span.start <= record.time < span.end]


def _asked(zendesk: SimulatedZendesk) -> list[dict[str, str]]:
    return [dict(seen.pairs) for seen in zendesk.control.requests()]


# Walks


@each_further
def test_a_walk_gives_every_record_of_the_range(stream: Stream, busy: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Byte for byte and in the order of time; in exports by time the second at a page's end comes twice."""
    pages = list(walk_with(client_for(busy.url, fake_clock(NOW).clock), stream, HALF_A_DAY).pages())
    given = _inside(pages, HALF_A_DAY)
    times = [record.time for page in pages for record in page.records]
    assert list(dict.fromkeys(given)) == busy.control.source(stream.name, HALF_A_DAY.start, HALF_A_DAY.end)
    assert len(pages) == len(busy.control.requests()) >= 4
    assert (len(given) > len(set(given))) == (stream in BY_TIME)
    if stream not in BY_TIME:
        assert times == sorted(times)


@each_further
@pytest.mark.parametrize("size", [1, 7, 333])
def test_smaller_pages_hold_the_same(
    stream: Stream, size: int, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """As after a 504: whatever the size of the pages, the same records come."""
    span = Span(RANGE.start, RANGE.start + HOUR)
    walk = walk_with(client_for(zendesk.url, fake_clock(NOW).clock), replace(stream, page_size=size), span)
    given = dict.fromkeys(_inside(list(walk.pages()), span))
    assert list(given) == zendesk.control.source(stream.name, span.start, span.end)


@each_further
def test_a_page_is_the_most_zendesk_gives(stream: Stream, busy: SimulatedZendesk, fake_clock: Clocks) -> None:
    """The page size of the stream is the largest there is."""
    client = client_for(busy.url, fake_clock(NOW).clock)
    assert len(first_page(client, stream, HALF_A_DAY).records) == stream.page_size


def test_how_each_is_asked_for(busy: SimulatedZendesk, fake_clock: Clocks) -> None:
    """What documentation wants on the first page and on later ones."""
    asked = dict[str, list[dict[str, str]]]()
    for stream in FURTHER:
        busy.control.forget_requests()
        list(walk_with(client_for(busy.url, fake_clock(NOW).clock), stream, HALF_A_DAY).pages())
        asked[stream.name] = _asked(busy)
    start = str(HALF_A_DAY.start)
    first = {name: queries[0] for name, queries in asked.items()}
    later = {name: [set(query) for query in queries[1:]] for name, queries in asked.items()}
    assert first == {
        "access_logs": {
            "filter[start]": timestamp(HALF_A_DAY.start - 1),
            "filter[end]": timestamp(HALF_A_DAY.end + 60),
            "page[size]": "2500",
        },
        "incremental_ticket_events": {"start_time": start, "per_page": "1000"},
        "incremental_users": {"start_time": start, "per_page": "1000"},
        "incremental_organizations": {"start_time": start, "per_page": "1000"},
        "ticket_metric_events": {"start_time": start, "page[size]": "100"},
    }
    assert all(query == {"start_time", "per_page"} for name in BY_TIME for query in later[name.name])
    assert all(query == {"cursor", "per_page"} for query in later["incremental_users"])
    assert all(query == {"start_time", "page[size]", "page[after]"} for query in later["ticket_metric_events"])


# Access logs


@pytest.mark.parametrize("name", ["filter[after]", "page[after]"])
def test_access_logs_take_their_cursor_under_the_name_that_their_link_has(
    name: str, busy: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """Zendesk documents two; whichever the account's answers name is sent, and every record comes."""
    busy.control.set(access_log_cursor=name)
    pages = list(walk_with(client_for(busy.url, fake_clock(NOW).clock), ACCESS_LOGS, HALF_A_DAY).pages())
    later = _asked(busy)[1:]
    assert _inside(pages, HALF_A_DAY) == busy.control.source("access_logs", HALF_A_DAY.start, HALF_A_DAY.end)
    assert [{key for key in query if "after" in key} for query in later] == [{name}] * len(later)
    assert len(later) >= 3
