"""The streams that are off by default: each against a simulated Zendesk that behaves as its documentation says."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.errors import ForbiddenError, ProtocolError, TransientError
from zendesk_pipeline.keys import Layout
from zendesk_pipeline.local_services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.pages import Page
from zendesk_pipeline.records import Record, record_reader
from zendesk_pipeline.resources import ZendeskResource
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
from zendesk_pipeline.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline_tests.asking import NOW, client_for, first_page, walk_with
from zendesk_pipeline_tests.conftest import NOW as FROZEN
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.patients import admitting, look
from zendesk_pipeline_tests.reconcile import delivered, reconcile
from zendesk_pipeline_tests.runs import QUIET, description, project
from zendesk_pipeline_tests.scripted_server import Reply, answering

pytestmark = QUIET

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
    options = ("--since", "2026-11-13T10:00:00Z", "--now", FROZEN, "--further-per-hour", "800")
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
    """Byte for byte and in the order of time; only a second that a page by time cuts comes twice."""
    pages = list(walk_with(client_for(busy.url, fake_clock(NOW).clock), stream, HALF_A_DAY).pages())
    given = _inside(pages, HALF_A_DAY)
    times = [record.time for page in pages for record in page.records]
    assert list(dict.fromkeys(given)) == busy.control.source(stream.name, HALF_A_DAY.start, HALF_A_DAY.end)
    assert times == sorted(times)
    assert stream in BY_TIME or len(given) == len(set(given))
    assert len(pages) == len(busy.control.requests()) >= 4


@each_further
@pytest.mark.parametrize("size", [1, 7, 333])
def test_smaller_pages_hold_the_same(stream: Stream, size: int, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """As after a 504: whatever the size of the pages, the same records come."""
    span = Span(RANGE.start, RANGE.start + HOUR)
    walk = walk_with(client_for(zendesk.url, fake_clock(NOW).clock), replace(stream, page_size=size), span)
    given = dict.fromkeys(_inside(list(walk.pages()), span))
    assert list(given) == zendesk.control.source(stream.name, span.start, span.end)


@each_further
def test_a_page_is_the_most_zendesk_gives(stream: Stream, busy: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Exports by time are asked for one less, and go on to the end of the second."""
    client = client_for(busy.url, fake_clock(NOW).clock)
    records = first_page(client, stream, HALF_A_DAY).records
    assert len(records) in ({999, 1000} if stream in BY_TIME else {stream.page_size})


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
        "incremental_ticket_events": {"start_time": start, "per_page": "999"},
        "incremental_users": {"start_time": start, "per_page": "1000"},
        "incremental_organizations": {"start_time": start, "per_page": "999"},
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


def test_access_logs_without_a_link_get_the_name_in_zendesks_table(fake_clock: Clocks) -> None:
    """Nothing but the two documented names is ever sent: what a link makes up is not."""
    made_up = b'"links":{"next":"https://elsewhere.example/?password=1&x[after]=2"}'
    pages = [
        b'{"access_logs":[],"meta":{"has_more":true,"after_cursor":"01A"},%b}' % made_up,
        b'{"access_logs":[],"meta":{"has_more":true,"after_cursor":"01B"},"links":{"next":"http://[::1/"}}',
        b'{"access_logs":[],"meta":{"has_more":false,"after_cursor":"01C"}}',
    ]
    with answering(*map(Reply, pages)) as server:
        list(walk_with(client_for(server.url, fake_clock(NOW).clock), ACCESS_LOGS).pages())
    later = [dict(received.query) for received in server.received[1:]]
    names = {"filter[start]", "filter[end]", "page[size]", "filter[after]"}
    assert [query.get("filter[after]") for query in later] == ["01A", "01B"]
    assert {name for query in later for name in query} == names


def test_access_logs_that_are_out_of_order_do_not_end_the_walk(fake_clock: Clocks) -> None:
    """They are listed by when they were written down: a time past the range's end says nothing of what follows."""
    late, early = (
        b'{"id":"%b","timestamp":"%b"}' % (ulid(at * 1000, 1).encode(), timestamp(at).encode())
        for at in (RANGE.end + 5, RANGE.end - 5)
    )
    first = b'{"access_logs":[%b],"meta":{"has_more":true,"after_cursor":"01A"}}' % late
    last = b'{"access_logs":[%b],"meta":{"has_more":false,"after_cursor":"01B"}}' % early
    with answering(Reply(first), Reply(last)) as server:
        pages = list(walk_with(client_for(server.url, fake_clock(NOW).clock), ACCESS_LOGS, RANGE).pages())
    assert [record.line for page in pages for record in page.records] == [late, early]


def test_a_429_of_the_access_logs_is_waited_out_until_the_moment_it_names(fake_clock: Clocks) -> None:
    """There is no Retry-After: `ratelimit-reset` holds a date and time."""
    body = b'{"errors":[{"detail":"Use RateLimit-Reset header to backoff on retries","title":"Too many requests"}]}'
    page = Reply(b'{"access_logs":[],"meta":{"has_more":false}}')
    fake = fake_clock(NOW)
    with answering(Reply(body, 429, {"ratelimit-reset": timestamp(NOW + 17)}), page) as server:
        first_page(client_for(server.url, fake.clock), ACCESS_LOGS)
    assert fake.slept == [17]


def test_access_logs_have_a_rate_limit_of_their_own(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZENDESK_RATE_SHARE of fifty a minute, whatever the account's limit is."""
    for name, value in {**environment, "ZENDESK_RATE_SHARE": "0.2"}.items():
        monkeypatch.setenv(name, value)
    resources = build(load()).resources or {}
    limiter = (
        ZendeskResource(
            base_url=resources["zendesk"].base_url,
            auth_mode="bearer",
            bearer_token="t" * 8,
            rate_share=resources["zendesk"].rate_share,
        )
        .client()
        .limiters["access_logs"]
    )
    assert limiter.per_minute == 10


# Exports by time


def _ticket_events(count: int, at: int) -> list[bytes]:
    return [b'{"id":%d,"timestamp":%d,"child_events":[{"id":%d}]}' % (900 + n, at, n) for n in range(count)]


@each_by_time
def test_a_second_that_is_cut_comes_again(stream: Stream, busy: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Pages of the full thousand end within a second, and the next begins with all of it: nothing is left out."""
    walk = walk_with(client_for(busy.url, fake_clock(NOW).clock), replace(stream, page_size=1000), HALF_A_DAY)
    given = _inside(list(walk.pages()), HALF_A_DAY)
    assert len(given) > len(set(given))
    assert list(dict.fromkeys(given)) == busy.control.source(stream.name, HALF_A_DAY.start, HALF_A_DAY.end)


def test_a_second_as_full_as_a_page_is_passed(busy: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A thousand events in one second fit onto a page that goes on to the end of it."""
    at = RANGE.start + 1800
    room = 1000 - len(busy.control.source("incremental_ticket_events", at, at + 1))
    busy.control.add_records("incremental_ticket_events", _ticket_events(room, at))
    pages = list(walk_with(client_for(busy.url, fake_clock(NOW).clock), INCREMENTAL_TICKET_EVENTS, RANGE).pages())
    expected = busy.control.source("incremental_ticket_events", RANGE.start, RANGE.end)
    assert set(_inside(pages, RANGE)) == set(expected)


@pytest.mark.parametrize("offset", [0, 1800])
def test_a_second_that_cannot_be_passed_is_an_error_that_names_it(
    offset: int, busy: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """More events than a page in one second: no loop, nothing left out in silence, and what to do."""
    at = RANGE.start + offset
    busy.control.add_records("incremental_ticket_events", _ticket_events(1500, at))
    walk = walk_with(client_for(busy.url, fake_clock(NOW).clock), INCREMENTAL_TICKET_EVENTS, RANGE)
    with pytest.raises(ProtocolError, match=rf"does not get past the second {timestamp(at)}: .* Ask Zendesk's support"):
        list(walk.pages())
    assert len(busy.control.requests()) <= 4


def test_a_crowded_second_costs_its_own_window_only(
    environment: dict[str, str], busy: SimulatedZendesk, s3: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window before it is delivered by the same run, the one after it by a run that does not look back."""
    at = RANGE.start + HOUR + 1800
    busy.control.add_records("incremental_ticket_events", _ticket_events(1500, at))
    chosen = {**environment, **busy.environment, "RESOURCES": "incremental_ticket_events"}
    before, after = Span(RANGE.start, RANGE.start + HOUR), Span(RANGE.start + 2 * HOUR, RANGE.end)
    with project(chosen, monkeypatch) as running:
        failed = running.run("incremental_ticket_events", Span(RANGE.start, RANGE.start + 3 * HOUR))
        assert not failed.success
        assert timestamp(at) in description(failed)
        assert [each.partition for each in running.materialized("incremental_ticket_events")] == [
            Window(RANGE.start).partition_key
        ]
        assert running.run("incremental_ticket_events", after, look_back_at_most=0).success
    for span in (before, after):
        verdict = reconcile(busy.control, s3, layout, "incremental_ticket_events", span)
        assert verdict.exact
        assert verdict.source


@pytest.mark.parametrize("end_time", [b"null", b"-1", b"1e30", b'"x"'])
def test_an_end_that_is_no_second_is_never_followed(end_time: bytes, fake_clock: Clocks) -> None:
    """More without a place to go on from is an error, and so is a time that none can mean."""
    body = b'{"ticket_events":[],"end_of_stream":false,"end_time":%b}' % end_time
    with answering(Reply(body)) as server:
        client = client_for(server.url, fake_clock(NOW).clock, retries=0)
        with pytest.raises((ProtocolError, TransientError)):
            list(walk_with(client, INCREMENTAL_TICKET_EVENTS).pages())
    assert len(server.received) == 1


def test_an_export_without_a_record_ends(fake_clock: Clocks) -> None:
    """Then there is no end_time either."""
    body = b'{"ticket_events":[],"count":0,"end_of_stream":true,"end_time":null,"next_page":null}'
    with answering(Reply(body)) as server:
        pages = list(walk_with(client_for(server.url, fake_clock(NOW).clock), INCREMENTAL_TICKET_EVENTS).pages())
    assert [page.records for page in pages] == [[]]


# Runs


@each_further
def test_runs_deliver_each_record_once(
    stream: Stream,
    environment: dict[str, str],
    busy: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With RESOURCES it is an asset; a range, the same range again and the hours after it, byte for byte and once."""
    chosen = {**environment, **busy.environment, "RESOURCES": stream.name, "BATCH_BYTES": "65536"}
    with project(chosen, monkeypatch) as running:
        keys = running.definitions.resolve_asset_graph().materializable_asset_keys
        assert {key.to_user_string() for key in keys} == {stream.name}
        for span in (Span(RANGE.start, RANGE.end - HOUR), Span(RANGE.start, RANGE.end - HOUR), RANGE):
            assert running.run(stream.name, span).success
    verdict = reconcile(busy.control, s3, layout, stream.name, RANGE)
    assert verdict.exact
    assert verdict.source == verdict.delivered > 2000


@each_further
@pytest.mark.parametrize("kind", ["repeat_record", "empty_page", "truncate"])
def test_faults_between_pages_change_nothing(
    stream: Stream,
    kind: Any,
    environment: dict[str, str],
    busy: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A record on two pages, a page without records, half a body: each record is delivered once all the same."""
    busy.control.add_faults(Rule(path=stream.path, kind=kind, skip=1))
    with project({**environment, **busy.environment, "RESOURCES": stream.name}, monkeypatch) as running:
        assert running.run(stream.name, RANGE).success
    assert [rule.fired for rule in busy.control.faults()] == [1]
    assert reconcile(busy.control, s3, layout, stream.name, RANGE).exact


@each_further
def test_what_shows_late_is_delivered_by_a_later_run(
    stream: Stream,
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Into the window it belongs to: every one of these streams is looked back on."""
    zendesk.control.set_clock(RANGE.start + HOUR + 600)
    at = RANGE.start + HOUR - 60
    moment = timestamp(at).encode()
    late = {
        "access_logs": b'{"id":"%b","timestamp":"%b"}' % (ulid(at * 1000, 5).encode(), moment),
        "incremental_ticket_events": b'{"id":5,"timestamp":%d}' % at,
        "ticket_metric_events": b'{"id":5,"time":"%b"}' % moment,
    }.get(stream.name, b'{"id":5,"updated_at":"%b"}' % moment)
    zendesk.control.add_records(stream.name, [late], visible_at=RANGE.start + HOUR + 1200)
    with project({**environment, "RESOURCES": stream.name}, monkeypatch) as running:
        assert running.run(stream.name, Span(RANGE.start, RANGE.start + HOUR)).success
        zendesk.control.set_clock(NOW)
        assert running.run(stream.name, Span(RANGE.start + HOUR, RANGE.end)).success
    window = Span(RANGE.start, RANGE.start + HOUR)
    lines = [line for lines in delivered(s3, layout, stream.name, window).values() for line in lines]
    assert lines.count(late) == 1


@each_further
def test_a_403_says_what_it_means(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """For an agent that an admin is needed, for an admin what the plan lacks."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    zendesk.control.set(role="agent")
    with pytest.raises(ForbiddenError, match="role agent, an admin's is needed"):
        first_page(client, stream)
    zendesk.control.set(role="admin")
    zendesk.control.add_faults(Rule(path=stream.path, kind="status", code=403))
    with pytest.raises(ForbiddenError) as raised:
        first_page(client, stream)
    assert stream.forbidden in str(raised.value)


def test_access_logs_without_the_add_on_say_so(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """An admin of an account that lacks it is told its name, and to take the stream out."""
    zendesk.control.set(adpp=False)
    with pytest.raises(ForbiddenError, match=r"Privacy and Protection: take access_logs out of RESOURCES"):
        first_page(client_for(zendesk.url, fake_clock(NOW).clock), ACCESS_LOGS)


def test_doctor_looks_at_whatever_resources_names(zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stream is asked for, one record of it."""
    admit = admitting(monkeypatch, zendesk.environment, {"S3_BUCKET": "any", "RESOURCES": ",".join(STREAMS)})
    verdict = look(admit(), "zendesk_streams")
    assert verdict.status == "ok"
    assert all(f"{name} can be read." in verdict.found for name in STREAMS)


@each_further
def test_identities_are_unique_and_bytes_would_not_survive_a_decoder(stream: Stream, busy: SimulatedZendesk) -> None:
    """No two records that ever showed are the same one; most would change if they were decoded and encoded again."""
    lines = busy.control.source(stream.name, RANGE.start, RANGE.end, ever=True)
    read = record_reader(stream)
    assert len({read(line).identity for line in lines}) == len(lines) > 2000
    changed = [line for line in lines if json.dumps(json.loads(line), separators=(",", ":")).encode() != line]
    assert len(changed) > len(lines) / 5


@pytest.mark.parametrize(
    ("stream", "line", "identity"),
    [
        pytest.param(
            ACCESS_LOGS,
            b'{"id":"01H6PWD1WQFC6EYJCJWFJ59EVE","timestamp":"2026-11-12T05:00:00Z"}',
            "01H6PWD1WQFC6EYJCJWFJ59EVE",
            id="access_logs",
        ),
        pytest.param(
            INCREMENTAL_TICKET_EVENTS, b'{"id":7,"timestamp":1794459600,"child_events":[]}', "7", id="ticket_events"
        ),
        pytest.param(INCREMENTAL_USERS, b'{"id":7,"updated_at":"2026-11-12T05:00:00Z"}', "7:1794459600", id="users"),
        pytest.param(
            INCREMENTAL_ORGANIZATIONS, b'{"id":7,"updated_at":"2026-11-12T06:00:00+01:00"}', "7:1794459600", id="zone"
        ),
        pytest.param(TICKET_METRIC_EVENTS, b'{"id":7,"time":"2026-11-12T05:00:00Z"}', "7", id="metric_events"),
    ],
)
def test_identity_and_time_are_pinned(stream: Stream, line: bytes, identity: str) -> None:
    """Identities stand in ledgers: they never change their form."""
    assert record_reader(stream)(line) == Record(line, identity, 1_794_459_600)
