"""The streams that are off by default: each against a simulated Zendesk that behaves as its documentation says."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.verify.command import NOT_COMPARABLE
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.inspection import Inspector
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.local.simulator.further_records import ulid
from zendesk_pipeline.model.errors import ForbiddenError, GoneError, ProtocolError, TransientError
from zendesk_pipeline.model.paging import CursorExport, Paging, TimeExport
from zendesk_pipeline.model.rate_budgets import Rates
from zendesk_pipeline.model.records import Page, Record, record_reader
from zendesk_pipeline.model.streams import (
    ACCESS_LOGS,
    COLLECTED_BY_DEFAULT,
    INCREMENTAL_ORGANIZATIONS,
    INCREMENTAL_TICKET_EVENTS,
    INCREMENTAL_TICKETS,
    INCREMENTAL_USERS,
    STREAMS,
    TICKET_METRIC_EVENTS,
    Stream,
)
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.orchestration.run_history import stays
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline.settings.environment import load
from zendesk_pipeline_tests.asking import NOW, client_for, first_page, walk_with
from zendesk_pipeline_tests.commands.doctor.contexts import context_maker, verdict_of
from zendesk_pipeline_tests.conftest import NOW as FROZEN
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.reconcile import delivered, reconcile
from zendesk_pipeline_tests.runs import QUIET, Project, description, project

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
        "incremental_ticket_events": {"start_time": start, "per_page": "999", "support_type_scope": "all"},
        "incremental_users": {"start_time": start, "per_page": "1000"},
        "incremental_organizations": {"start_time": start, "per_page": "999"},
        "ticket_metric_events": {"start_time": start, "page[size]": "100"},
    }
    scoped = {"start_time", "per_page", "support_type_scope"}
    assert all(query == scoped for query in later["incremental_ticket_events"])
    assert all(query == {"start_time", "per_page"} for query in later["incremental_organizations"])
    assert all(query == {"cursor", "per_page"} for query in later["incremental_users"])
    assert all(query == {"start_time", "page[size]", "page[after]"} for query in later["ticket_metric_events"])


# What Zendesk leaves out unless it is asked


@pytest.mark.parametrize(
    ("stream", "paging"),
    [
        pytest.param(INCREMENTAL_TICKETS, CursorExport(), id="tickets"),
        pytest.param(INCREMENTAL_TICKET_EVENTS, TimeExport(), id="ticket-events"),
    ],
)
def test_a_stream_that_forgets_a_default_of_the_api_loses_records(
    stream: Stream, paging: Paging, busy: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """Without `support_type_scope=all` what belongs to AI agents' tickets is missing, and nothing says so."""
    client = client_for(busy.url, fake_clock(NOW).clock)
    forgetful, ours = (
        set(_inside(list(walk_with(client, each, RANGE).pages()), RANGE))
        for each in (replace(stream, paging=paging), stream)
    )
    assert ours == set(busy.control.source(stream.name, RANGE.start, RANGE.end))
    assert forgetful < ours


def test_events_of_every_ticket_are_delivered_and_verified(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Thirty updates in an hour, ten of them on tickets that AI agents handle: thirty, as `verify` finds too."""
    window = Span(RANGE.start, RANGE.start + HOUR)
    before = zendesk.control.source("incremental_ticket_events", window.start, window.end)
    kinds = {True: b'"ai_agent"', False: b"null"}
    events = [
        b'{"id":%d,"ticket_id":%d,"timestamp":%d,"support_type":%b}'
        % (number, 100 + number, window.start + number, kinds[number % 3 == 0])
        for number in range(1, 31)
    ]
    zendesk.control.add_records("incremental_ticket_events", events)
    chosen = {**environment, "RESOURCES": "incremental_ticket_events"}
    with project(chosen, monkeypatch) as running:
        assert running.run("incremental_ticket_events", window).success
    lines = [line for lines in delivered(s3, layout, "incremental_ticket_events", window).values() for line in lines]
    assert sorted(lines) == sorted([*before, *events])
    ends = [f"--from={timestamp(window.start)}", f"--to={timestamp(window.end)}", "--json"]
    verified = CliRunner().invoke(main, ["verify", *ends])
    report = json.loads(verified.stdout.splitlines()[0])
    assert (verified.exit_code, report["at_source"], report["delivered"]) == (0, len(lines), len(lines))


# Access logs


def test_access_logs_that_are_an_hour_late_come_whatever_lookback_says(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The look-back of this stream covers the hour in which Zendesk says that records can show up."""
    window, following = Span(RANGE.start, RANGE.start + HOUR), Span(RANGE.start + HOUR, RANGE.start + 2 * HOUR)
    at = window.start + 400
    late = b'{"id":"%b","timestamp":"%b"}' % (ulid(at * 1000, 5).encode(), timestamp(at).encode())
    zendesk.control.add_records("access_logs", [late], visible_at=at + HOUR)
    with project({**environment, "RESOURCES": "access_logs", "LOOKBACK_SECONDS": "0"}, monkeypatch) as running:
        for span in (window, following):
            zendesk.control.set_clock(span.end + 300)
            assert running.run("access_logs", span).success
            lines = [line for lines in delivered(s3, layout, "access_logs", window).values() for line in lines]
            assert lines.count(late) == (span == following)


def test_the_oldest_windows_that_zendesk_keeps_are_read(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Ninety days and not a second more: all of it is shown."""
    now = RANGE.start + 90 * 24 * HOUR - 1
    zendesk.control.set_clock(now)
    walk = walk_with(client_for(zendesk.url, fake_clock(now).clock), ACCESS_LOGS, RANGE)
    assert _inside(list(walk.pages()), RANGE) == zendesk.control.source("access_logs", RANGE.start, RANGE.end)


@pytest.mark.parametrize("older", [0, HOUR - 1])
def test_windows_that_zendesk_keeps_no_more_are_refused(
    older: int, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """An empty answer of a time before is no empty window. The first whole one is named."""
    now = RANGE.start + 90 * 24 * HOUR + older
    zendesk.control.set_clock(now)
    walk = walk_with(client_for(zendesk.url, fake_clock(now).clock), ACCESS_LOGS, RANGE)
    first = Window(RANGE.start + HOUR)
    with pytest.raises(GoneError, match=f"for 90 days, .* Nothing was read. Collect from {first} on"):
        list(walk.pages())
    assert zendesk.control.requests() == []


def test_a_run_over_windows_that_are_gone_is_not_green(
    environment: dict[str, str], zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No window of it is materialized, nothing is asked, and `verify` does not call it well either."""
    old = Window.of(int(time.time()) - 100 * 24 * HOUR)
    span = Span(old.start, old.start + 2 * HOUR)
    chosen = {**environment, "RESOURCES": "access_logs", "START_DATE": timestamp(span.start)}
    with project(chosen, monkeypatch) as running:
        failed = running.run("access_logs", span)
        assert not failed.success
        assert "Zendesk keeps these records for 90 days" in description(failed)
        assert running.materialized("access_logs") == []
        run = running.instance.get_run_by_id(failed.run_id)
        assert run
        assert not stays(run)  # the hours that are still there are not held up
    verified = CliRunner().invoke(main, ["verify", f"--from={timestamp(span.start)}", f"--to={timestamp(span.end)}"])
    assert verified.exit_code == NOT_COMPARABLE
    assert zendesk.control.requests() == []


def _own_requests(running: Project, span: Span) -> dg.AssetCheckEvaluation:
    evaluations = running.run("access_logs", span).get_asset_check_evaluations()
    (verdict,) = [each for each in evaluations if each.check_name == "own_requests_show"]
    return verdict


def test_an_empty_hour_in_which_the_collector_asked_says_that_access_logs_are_off(
    environment: dict[str, str], zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request makes a record: none of an hour with a request, an hour later, is proof; without one it is not."""
    first = Window(RANGE.start)
    hours = [Span(first.start + number * HOUR, first.end + number * HOUR) for number in range(4)]
    asked = dg.AssetMaterialization(
        "audit_logs",
        partition=Window(first.start - HOUR).partition_key,
        metadata={"requests": 1, "lag_seconds": 305.0},  # the hour before was collected five minutes into this one
    )
    with project({**environment, "RESOURCES": "audit_logs,access_logs"}, monkeypatch) as running:
        running.instance.report_runless_asset_event(asked)
        zendesk.control.set(access_log=False)
        assert running.run("access_logs", hours[0]).success
        verdict = _own_requests(running, hours[1])
        assert (verdict.passed, verdict.severity) == (False, dg.AssetCheckSeverity.ERROR)
        assert str(verdict.description).startswith(f"{first}: no record, although the collector itself asked")
        assert _own_requests(running, hours[3]).passed  # nobody asked in hours[2] or hours[3], as far as is known
        zendesk.control.set(access_log=True)
        running.run("access_logs", hours[0])
        assert _own_requests(running, hours[1]).passed


def test_an_hour_whose_records_may_still_come_proves_nothing(store: Store, layout: Layout) -> None:
    """Zendesk says that they can be an hour late: before that, an empty hour with a request in it is no finding."""
    window = Window(RANGE.start)
    bucket = Bucket(store=store, layout=layout)
    Deliveries(bucket=bucket, stream=ACCESS_LOGS).records(Span(window.start, window.end), [])
    early, asked = window.end + HOUR - 1, [window.start + 310]
    inspector = Inspector(stream=ACCESS_LOGS, store=store, layout=layout, now=early, asked=asked)
    assert list(inspector.own_requests([window])) == []
    (found,) = replace(inspector, now=window.end + HOUR).own_requests([window])
    assert found.window == window
    for at in (window.start + 10, window.end - 10, window.start - HOUR):  # the request may have been in the next hour
        assert list(replace(inspector, now=window.end + HOUR, asked=[at]).own_requests([window])) == []


def test_doctor_tells_of_access_logs_that_are_off(zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without a record of a whole day is a warning that says where they are switched on."""
    make_context = context_maker(monkeypatch, zendesk.environment, {"S3_BUCKET": "any", "RESOURCES": "access_logs"})
    assert verdict_of(make_context(), "zendesk_streams").status == "ok"
    zendesk.control.set(access_log=False)
    verdict = verdict_of(make_context(), "zendesk_streams")
    assert (verdict.status, "not one record of a whole day" in verdict.found) == ("warning", True)
    assert "Admin Center > Account > Logs > Access log > Manage settings" in verdict.remedy


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


def test_users_do_not_take_the_tickets_requests(
    environment: dict[str, str], zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zendesk counts them apart, and so do limiter and pool: where the exports' limit is used up, users still come."""
    zendesk.control.set(export_limit=1, user_export_limit=20)  # two requests to the other exports would be one too many
    span = Span(RANGE.start, RANGE.start + HOUR)
    with project({**environment, "RESOURCES": "incremental_tickets,incremental_users"}, monkeypatch) as running:
        assert running.run("incremental_users", span).success
        assert "429" not in zendesk.control.counts().status
        streams = ("incremental_tickets", "incremental_users")
        pools = {name: running.definitions.resolve_assets_def(name).op.pool for name in streams}
    assert pools == {"incremental_tickets": "zendesk_incremental_export", "incremental_users": "zendesk_user_export"}
    assert list(zendesk.control.counts().path) == [INCREMENTAL_USERS.path]
    limits = {stream: Rates(export=10).ours(STREAMS[stream].budget) for stream in pools}
    assert limits == {"incremental_tickets": 10, "incremental_users": 20}


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
    """Those around it are delivered by runs of their own, the one after it by a run that does not look back."""
    at = RANGE.start + HOUR + 1800
    busy.control.add_records("incremental_ticket_events", _ticket_events(1500, at))
    chosen = {**environment, **busy.environment, "RESOURCES": "incremental_ticket_events"}
    before, after = Span(RANGE.start, RANGE.start + HOUR), Span(RANGE.start + 2 * HOUR, RANGE.end)
    with project(chosen, monkeypatch) as running:
        failed = running.run("incremental_ticket_events", Span(RANGE.start, RANGE.start + 3 * HOUR))
        assert not failed.success
        assert timestamp(at) in description(failed)
        assert running.run("incremental_ticket_events", before).success
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
    make_context = context_maker(monkeypatch, zendesk.environment, {"S3_BUCKET": "any", "RESOURCES": ",".join(STREAMS)})
    verdict = verdict_of(make_context(), "zendesk_streams")
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
