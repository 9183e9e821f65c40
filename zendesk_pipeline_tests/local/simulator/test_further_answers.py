"""The simulated answers of the further streams over HTTP, quirk by quirk, as a plain client sees them."""

from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, EMAIL
from zendesk_pipeline.local.simulator.further_records import ulid, ulid_parts
from zendesk_pipeline.model.windows import timestamp
from zendesk_pipeline_tests.asking import DAY

EVENTS, ORGANIZATIONS = "incremental/ticket_events", "incremental/organizations"
METRICS, ACCESS = "incremental/ticket_metric_events", "access_logs"
AT = DAY.start + 100


def _get(zendesk: SimulatedZendesk, path: str, **query: Any) -> requests.Response:
    return requests.get(f"{zendesk.url}/api/v2/{path}", params=query, auth=(f"{EMAIL}/token", API_TOKEN), timeout=30)


def _crowd(zendesk: SimulatedZendesk, count: int) -> None:
    events = [b'{"id":%d,"timestamp":%d}' % (number, AT) for number in range(count)]
    zendesk.control.add_records("incremental_ticket_events", events)


def test_a_small_page_by_time_goes_on_to_the_end_of_its_second(zendesk: SimulatedZendesk) -> None:
    """And its end_time is the next record's."""
    _crowd(zendesk, 7)
    page = _get(zendesk, EVENTS, start_time=AT, per_page=2).json()
    assert [event["timestamp"] for event in page["ticket_events"]] == [AT] * 7
    assert page["end_time"] > AT
    assert page["count"] == 7
    following = _get(zendesk, EVENTS, start_time=page["end_time"], per_page=1).json()
    assert following["ticket_events"][0]["timestamp"] == page["end_time"]


def test_a_second_that_is_too_full_repeats_for_ever(zendesk: SimulatedZendesk) -> None:
    """Its page leads to itself, in every size."""
    _crowd(zendesk, 1300)
    for size in (1000, 999, 1):
        page = _get(zendesk, EVENTS, start_time=AT, per_page=size).json()
        assert (len(page["ticket_events"]), page["end_time"], page["end_of_stream"]) == (1000, AT, False)


@pytest.mark.parametrize(("path", "items"), [(EVENTS, "ticket_events"), (ORGANIZATIONS, "organizations")])
def test_an_export_by_time_names_a_next_page_at_its_end_too(zendesk: SimulatedZendesk, path: str, items: str) -> None:
    """Only end_of_stream tells, and following next_page brings the last second again."""
    page = _get(zendesk, path, start_time=DAY.end + 11 * 3600).json()
    again = _get(zendesk, path, start_time=page["end_time"]).json()
    assert page["end_of_stream"]
    assert page["next_page"]
    assert again[items][-1] == page[items][-1]


def test_metric_events_are_paged_in_two_ways(zendesk: SimulatedZendesk) -> None:
    """By cursor with page[size], at most a hundred; by time without; the same records."""
    by_cursor = _get(zendesk, METRICS, start_time=DAY.start, **{"page[size]": 500}).json()
    by_time = _get(zendesk, METRICS, start_time=DAY.start).json()
    assert len(by_cursor["ticket_metric_events"]) == 100
    assert by_cursor["meta"]["has_more"]
    assert by_time["ticket_metric_events"][:100] == by_cursor["ticket_metric_events"]
    assert {"end_time", "next_page", "count"} <= by_time.keys()
    assert _get(zendesk, METRICS, start_time=1, **{"page[size]": 1, "page[after]": "x"}).status_code == 400


@pytest.mark.parametrize("path", [EVENTS, ORGANIZATIONS, METRICS, "incremental/users/cursor"])
def test_the_last_minute_is_refused(zendesk: SimulatedZendesk, path: str) -> None:
    """422, as of every export."""
    answer = _get(zendesk, path, start_time=int(zendesk.control.now()) - 30, **{"page[size]": 1})
    assert (answer.status_code, "Too recent" in answer.text) == (422, True)


def test_access_logs_leave_both_ends_out(zendesk: SimulatedZendesk) -> None:
    """`after` and `before` in the documentation are taken by their word."""
    ends = {"filter[start]": timestamp(AT), "filter[end]": timestamp(AT + 10)}
    for at in (AT, AT + 1, AT + 9, AT + 10):
        record = b'{"id":"%b","timestamp":"%b"}' % (ulid(at * 1000, at).encode(), timestamp(at).encode())
        zendesk.control.add_records("access_logs", [record])
    times = {log["timestamp"] for log in _get(zendesk, ACCESS, **ends).json()["access_logs"]}
    assert {timestamp(AT + 1), timestamp(AT + 9)} <= times
    assert not times & {timestamp(AT), timestamp(AT + 10)}


def test_an_access_log_that_is_off_shows_nothing(zendesk: SimulatedZendesk) -> None:
    """As it is until an admin switches it on: an empty page, and no error."""
    ends = {"filter[start]": timestamp(DAY.start), "filter[end]": timestamp(DAY.end)}
    assert _get(zendesk, ACCESS, **ends).json()["access_logs"]
    zendesk.control.set(access_log=False)
    answer = _get(zendesk, ACCESS, **ends)
    assert (answer.status_code, answer.json()["access_logs"], answer.json()["meta"]["has_more"]) == (200, [], False)


def _ids(zendesk: SimulatedZendesk, path: str, **query: Any) -> set[Any]:
    """Of all that a page shows."""
    return {record["id"] for record in _get(zendesk, path, **query).json()[path.removeprefix("incremental/")]}


def test_parameters_that_leave_records_out_do_so(zendesk: SimulatedZendesk) -> None:
    """And are off unless they are sent, but for the scope of the tickets, which leaves AI agents' out by itself."""
    since = {"start_time": DAY.end}  # half a day: less than a page
    ends = {"filter[start]": timestamp(DAY.end), "filter[end]": timestamp(DAY.end + 11 * 3600)}
    assert _ids(zendesk, ACCESS, **ends, **{"filter[graphql]": "true"}) < _ids(zendesk, ACCESS, **ends)
    undeleted = _ids(zendesk, METRICS, **since, exclude_deleted="true")
    assert undeleted < _ids(zendesk, METRICS, **since)
    by_cursor = {**since, "page[size]": 100}
    assert _ids(zendesk, METRICS, **by_cursor, exclude_deleted="true") < undeleted
    assert not _ids(zendesk, METRICS, **by_cursor) <= undeleted
    everything, agents, ai_agents = (
        _ids(zendesk, EVENTS, **since, support_type_scope=scope) for scope in ("all", "agent", "ai_agent")
    )
    assert _ids(zendesk, EVENTS, **since) == agents == everything - ai_agents
    assert ai_agents < everything


def test_users_by_cursor_have_a_limit_of_their_own(zendesk: SimulatedZendesk) -> None:
    """It takes nothing from the other exports', nor they from it."""
    zendesk.control.set(export_limit=1, user_export_limit=2)
    paths = ("incremental/users/cursor", EVENTS, "incremental/users/cursor", ORGANIZATIONS, "incremental/users/cursor")
    statuses = [_get(zendesk, path, start_time=DAY.start).status_code for path in paths]
    assert statuses == [200, 200, 200, 429, 429]


def test_access_logs_end_ninety_days_ago(zendesk: SimulatedZendesk) -> None:
    """What is older is not shown, and no error says so."""
    zendesk.control.set_clock(DAY.end + 91 * 86_400)
    ends = {"filter[start]": timestamp(DAY.start), "filter[end]": timestamp(DAY.end)}
    assert _get(zendesk, ACCESS, **ends).json()["access_logs"] == []


def test_a_429_of_the_access_logs_names_a_moment_and_nothing_else(zendesk: SimulatedZendesk) -> None:
    """No Retry-After, no header of the account's limit on any answer, and errors of their own form."""
    zendesk.control.set(access_log_limit=1)
    first, second = _get(zendesk, ACCESS), _get(zendesk, ACCESS)
    assert [first.status_code, second.status_code] == [200, 429]
    assert not any("rate" in name.lower() for name in first.headers)
    assert "Retry-After" not in second.headers
    assert datetime.fromisoformat(second.headers["ratelimit-reset"]) > datetime.now(UTC)
    assert second.json()["errors"][0]["title"] == "Too many requests"
    assert _get(zendesk, EVENTS, start_time=DAY.start).status_code == 200


@pytest.mark.parametrize(
    "query",
    [{"page[size]": "2501"}, {"page[size]": "x"}, {"filter[start]": "2026-11-12"}, {"page[after]": "no-ulid"}],
    ids=str,
)
def test_access_logs_refuse_what_they_cannot_read(zendesk: SimulatedZendesk, query: dict[str, str]) -> None:
    """400, with a title and a detail."""
    answer = _get(zendesk, ACCESS, **query)
    assert answer.status_code == 400
    assert answer.json()["errors"][0].keys() == {"title", "detail"}


def test_ulids_sort_by_time_and_can_be_read_back() -> None:
    """As the access logs' ids and cursors are."""
    early, late = ulid(AT * 1000, (1 << 80) - 1), ulid(AT * 1000 + 1, 0)
    assert early < late
    assert ulid_parts(early) == (AT * 1000, (1 << 80) - 1)
    assert len(early) == len(late) == 26
