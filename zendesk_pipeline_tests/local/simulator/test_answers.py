"""The simulated Zendesk over HTTP, quirk by quirk, as a plain client sees it."""

import json
import os
import signal
import socket
import subprocess
import sys
from base64 import b64decode
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from zendesk_pipeline.local.services import SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.local.simulator.accounts import (
    API_TOKEN,
    BEARER_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    EMAIL,
    REFRESH_TOKEN,
)
from zendesk_pipeline.local.simulator.control import FiredRule, SimulatorControl
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.local.simulator.history import AUDIT_LOGS, HOUR, TICKETS, HistoryOptions, bulk_second
from zendesk_pipeline.local.simulator.source import Source
from zendesk_pipeline_tests.root import ROOT

SINCE, NOW = 1_790_002_800, 1_790_002_800 + 12 * HOUR
TICKETS_PATH = "/api/v2/incremental/tickets/cursor"
AUDIT_PATH = "/api/v2/audit_logs"
BASIC = (f"{EMAIL}/token", API_TOKEN)
RECORDED = Path(os.environ.get("ZENDESK_RECORDED", ROOT.parent / "shared" / "recorded"))
RECORDED_PAGES = sorted(RECORDED.glob("tickets_*.json"))
OPTIONS = ("--since", "2026-09-21T15:00", "--now", "2026-09-22T03:00", "--bulk-update", "1500")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[SimulatedZendesk]:
    with simulated_zendesk(tmp_path_factory.mktemp("zendesk"), *OPTIONS) as zendesk:
        assert zendesk.control.now() == NOW
        yield zendesk


@pytest.fixture
def control(running: SimulatedZendesk) -> SimulatorControl:
    running.control.reset()
    return running.control


@pytest.fixture
def client(control: SimulatorControl) -> Generator["Client"]:
    with requests.Session() as session:
        session.auth = BASIC
        yield Client(session, control.url)


class Client:
    """A plain client: what any collector could see."""

    def __init__(self, session: requests.Session, url: str) -> None:
        self.session = session
        self.url = url

    def get(self, path: str, query: str = "", **arguments: Any) -> requests.Response:
        arguments.setdefault("timeout", 10)
        return self.session.get(f"{self.url}{path}?{query}", **arguments)

    def tickets(self, query: str = "") -> Iterator[dict[str, Any]]:
        """Every page of the export."""
        page = self.get(TICKETS_PATH, f"start_time=0&{query}").json()
        yield page
        while not page["end_of_stream"]:
            cursor = page["after_cursor"].replace("=", "%3D")
            page = self.get(TICKETS_PATH, f"cursor={cursor}&{query}").json()
            yield page

    def audit_logs(self, query: str = "") -> Iterator[dict[str, Any]]:
        """Every page of the list."""
        page = self.get(AUDIT_PATH, f"page[size]=100&{query}").json()
        yield page
        while page["meta"]["has_more"]:
            page = self.get(AUDIT_PATH, f"page[size]=100&{query}&page[after]={page['meta']['after_cursor']}").json()
            yield page


class _RawPage(msgspec.Struct):
    """A page whose records stay bytes."""

    tickets: list[msgspec.Raw] = []
    audit_logs: list[msgspec.Raw] = []


class _RecordedFile(msgspec.Struct):
    body: _RawPage
    headers: dict[str, list[str]]


def raw_records(answer: requests.Response) -> list[bytes]:
    page = msgspec.json.decode(answer.content, type=_RawPage)
    return [bytes(one) for one in page.tickets + page.audit_logs]


def ids(pages: Iterator[dict[str, Any]], name: str) -> list[int]:
    return [record["id"] for page in pages for record in page[name]]


# ---- the ticket export


def test_the_export_gives_every_current_ticket_once_in_order(client: Client, control: SimulatorControl) -> None:
    """Full pages of 1000, sorted by time and id, add up to exactly the tickets that the account has now."""
    pages = list(client.tickets("support_type_scope=all"))
    records = [record for page in pages for record in page["tickets"]]
    places = [(record["generated_timestamp"], record["id"]) for record in records]
    assert places == sorted(set(places))
    assert len(records) == len(control.source(TICKETS)) > 1000
    assert [len(page["tickets"]) for page in pages[:-1]] == [1000] * (len(pages) - 1)


def test_page_bytes_are_the_bytes_of_the_source(client: Client, control: SimulatorControl) -> None:
    """Records stand in a page of the export unaltered and without spaces around them."""
    answer = client.get(TICKETS_PATH, "start_time=0&support_type_scope=all&per_page=200")
    assert raw_records(answer) == control.source(TICKETS)[:200]
    assert b", " not in answer.content[:11]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_answers_are_packed_where_that_is_switched_on_and_asked_for(
    client: Client, control: SimulatorControl, encoding: str
) -> None:
    """With `encoding` a client that accepts it gets the same body in less bytes; any other gets it as it is."""
    control.set(encoding=encoding)
    query = "start_time=0&per_page=200"
    packed, plain = (
        client.get(TICKETS_PATH, query, headers={"Accept-Encoding": accepted}) for accepted in (encoding, "identity")
    )
    assert packed.content == plain.content
    assert (packed.headers["Content-Encoding"], plain.headers.get("Content-Encoding")) == (encoding, None)
    assert int(packed.headers["Content-Length"]) < len(plain.content) == int(plain.headers["Content-Length"])


def test_a_page_has_six_keys_and_the_last_one_a_cursor_too(client: Client) -> None:
    """The final cursor names the last ticket; asking with it gives an empty page and the same cursor again."""
    *_, last = client.tickets()
    assert set(last) == {"tickets", "after_url", "before_url", "after_cursor", "before_cursor", "end_of_stream"}
    assert last["end_of_stream"] is True
    final = last["tickets"][-1]
    assert b64decode(last["after_cursor"]).decode() == f"{final['generated_timestamp']}.0||{final['id']}|"
    again = client.get(TICKETS_PATH, f"cursor={last['after_cursor'].replace('=', '%3D')}").json()
    assert (again["tickets"], again["end_of_stream"], again["after_cursor"]) == ([], True, last["after_cursor"])


def test_after_url_names_another_host(client: Client) -> None:
    """The link to the next page leaves the host that was asked, but keeps the page size and an escaped cursor."""
    page = client.get(TICKETS_PATH, "start_time=0&per_page=3").json()
    assert not page["after_url"].startswith(client.url)
    assert "per_page=3" in page["after_url"]
    assert "%3D" in page["after_url"] or "=" not in page["after_cursor"]


def test_the_start_time_is_inclusive(client: Client, control: SimulatorControl) -> None:
    """A ticket changed in the very second that is asked from comes first."""
    start = json.loads(control.source(TICKETS)[40])["generated_timestamp"]
    page = client.get(TICKETS_PATH, f"start_time={start}&support_type_scope=all").json()
    assert page["tickets"][0]["generated_timestamp"] == start


def test_a_bulk_update_fills_more_than_a_page_in_one_second(client: Client, control: SimulatorControl) -> None:
    """A thousand tickets of one page share a second and more follow: a time alone cannot say where to go on."""
    options = HistoryOptions(since=SINCE, bulk_update=1500)
    second = bulk_second(options, SINCE // 86400)
    if second < SINCE:
        second = bulk_second(options, SINCE // 86400 + 1)
    control.set_clock(second + HOUR)
    page = client.get(TICKETS_PATH, f"start_time={second}").json()
    assert {record["generated_timestamp"] for record in page["tickets"]} == {second}
    assert len(page["tickets"]) == 1000
    assert page["end_of_stream"] is False


def test_the_json_suffix_is_the_same_endpoint(client: Client) -> None:
    """Old clients that add .json to the path get the same bytes."""
    query = "start_time=0&per_page=5"
    assert client.get(TICKETS_PATH + ".json", query).content == client.get(TICKETS_PATH, query).content


def test_ai_agent_tickets_are_left_out_unless_asked_for(client: Client) -> None:
    """The default scope and ai_agent have no ticket in common, and only scope all gives both."""
    agent = set(ids(client.tickets(), "tickets"))
    ai_agent = set(ids(client.tickets("support_type_scope=ai_agent"), "tickets"))
    assert ai_agent
    assert not agent & ai_agent
    assert set(ids(client.tickets("support_type_scope=all"), "tickets")) == agent | ai_agent


def test_deleted_tickets_are_in_the_stream_unless_excluded(client: Client) -> None:
    """Deletion is a status like others; exclude_deleted takes away that one status and no other."""
    statuses = {record["status"] for page in client.tickets() for record in page["tickets"]}
    kept = {record["status"] for page in client.tickets("exclude_deleted=true") for record in page["tickets"]}
    assert statuses - kept == {"deleted"}


@pytest.mark.parametrize(
    ("query", "status"), [(f"start_time={NOW - 59}", 422), ("", 400), ("cursor=nonsense", 400), ("start_time=x", 400)]
)
def test_a_start_that_cannot_be_is_refused(client: Client, query: str, status: int) -> None:
    """Less than a minute ago is 422, no start or an unreadable one is 400; a minute ago is just old enough."""
    answer = client.get(TICKETS_PATH, query)
    assert (answer.status_code, answer.json()["error"]) == (status, "InvalidValue")
    assert client.get(TICKETS_PATH, f"start_time={NOW - 60}").status_code == 200


def test_a_newer_state_replaces_the_older_one(client: Client, control: SimulatorControl) -> None:
    """The old state is gone from pages but not from the record, and turning the clock back shows it once more."""
    record = b'{"id":%d,"generated_timestamp":%d,"note":1.0}'
    control.add_records(TICKETS, [record % (77, NOW - 5000), record % (77, NOW - 1000), record % (78, NOW - 900)])
    page = client.get(TICKETS_PATH, f"start_time={NOW - 5000}")
    assert record % (77, NOW - 5000) not in raw_records(page)
    assert record % (77, NOW - 1000) in raw_records(page)
    assert record % (77, NOW - 5000) in control.source(TICKETS, NOW - 5000, ever=True)
    control.set_clock(NOW - 1001)
    assert record % (77, NOW - 5000) in control.source(TICKETS, NOW - 5000)
    control.reset()
    assert not [one for one in control.source(TICKETS, ever=True) if b'"note"' in one]


def test_a_generated_ticket_is_replaced_too(control: SimulatorControl) -> None:
    """A record put in by hand ousts the generated state of the ticket with its id."""
    old = control.source(TICKETS)[10]
    known = json.loads(old)["id"]
    new = b'{"id":%d,"generated_timestamp":%d}' % (known, NOW - 100)
    control.add_records(TICKETS, [new])
    now = control.source(TICKETS)
    assert old not in now
    assert new in now


def test_as_the_clock_goes_on_there_is_more(control: SimulatorControl) -> None:
    """Three hours later everything shown before is still on the record, with new tickets besides."""
    before = control.source(TICKETS, ever=True)
    control.set_clock(NOW + 3 * HOUR)
    after = control.source(TICKETS, ever=True)
    assert set(before) < set(after)


# ---- the audit log list


def test_audit_logs_come_newest_first_unless_sorted(client: Client) -> None:
    """Sorting by created_at reverses the default order; either way each audit log comes once."""
    newest_first = ids(client.audit_logs(), "audit_logs")
    oldest_first = ids(client.audit_logs("sort=created_at"), "audit_logs")
    assert newest_first == oldest_first[::-1]
    assert len(set(newest_first)) == len(newest_first) > 300


def test_audit_log_bytes_are_the_bytes_of_the_source(client: Client, control: SimulatorControl) -> None:
    """A page of the list carries its hundred records exactly as the account holds them."""
    answer = client.get(AUDIT_PATH, "page[size]=100&sort=created_at")
    assert raw_records(answer) == control.source(AUDIT_LOGS)[:100]


def test_the_last_page_of_a_list_still_links_on(client: Client) -> None:
    """Only has_more tells the end: links.next is set all the same, and on another host than the one asked."""
    *_, last = client.audit_logs("sort=created_at")
    assert last["meta"]["has_more"] is False
    assert last["links"]["next"]
    assert "page%5Bafter%5D=" in last["links"]["next"]
    assert not last["links"]["next"].startswith(client.url)


def test_a_full_last_page_is_followed_by_an_empty_one(client: Client, control: SimulatorControl) -> None:
    """With exactly a hundred records page one claims there are more; page two has neither records nor cursors."""
    control.set_clock(SINCE - HOUR)
    record = b'{"id":%d,"created_at":"2026-09-21T12:00:00Z"}'
    control.add_records(AUDIT_LOGS, [record % number for number in range(100)])
    first, second = client.audit_logs()
    assert (len(first["audit_logs"]), first["meta"]["has_more"]) == (100, True)
    assert second == {
        "audit_logs": [],
        "meta": {"has_more": False, "after_cursor": None, "before_cursor": None},
        "links": {"prev": None, "next": None},
    }


def test_the_time_filter_needs_both_ends(client: Client) -> None:
    """A single created_at is refused with a sentence on the format, and a pair of them is accepted."""
    times = ["filter[created_at][]=2026-09-21T16:00:00Z", "filter[created_at][]=2026-09-21T17:00:00Z"]
    one = client.get(AUDIT_PATH, f"page[size]=100&{times[0]}")
    assert (one.status_code, one.json()["error"]) == (400, "InvalidValue")
    assert one.json()["description"].startswith("Invalid filter[created_at] specified; format is ?filter")
    assert client.get(AUDIT_PATH, f"page[size]=100&{'&'.join(times)}").ok


@pytest.mark.parametrize(("ends", "expected"), [("inclusive", [1, 2, 3]), ("exclusive", [2])])
def test_the_ends_of_the_time_filter_can_be_switched(
    client: Client, control: SimulatorControl, ends: str, expected: list[int]
) -> None:
    """Records at both ends of the range are in or out by a setting, as Zendesk documents neither."""
    control.set(filter_ends=ends)
    control.set_clock(SINCE - HOUR)
    records = [b'{"id":%d,"created_at":"2026-09-21T12:00:0%dZ"}' % (number, number) for number in range(5)]
    control.add_records(AUDIT_LOGS, records)
    query = "sort=created_at&filter[created_at][]=2026-09-21T12:00:01Z&filter[created_at][]=2026-09-21T12:00:03Z"
    assert ids(client.audit_logs(query), "audit_logs") == expected


@pytest.mark.parametrize("stream", [AUDIT_LOGS, TICKETS])
def test_an_hour_can_be_made_unreadable(client: Client, control: SimulatorControl, stream: str) -> None:
    """Pages that would hold a record of it are 500, those before and behind it are shown, and it can be undone."""
    start = SINCE + 2 * HOUR
    poisoned = sorted(control.source(stream, start, start + HOUR))
    assert poisoned
    control.set(unreadable={stream: (start, start + HOUR)})

    def statuses() -> list[int]:
        asked = [
            client.get(TICKETS_PATH, f"per_page=1&start_time={at}")
            if stream == TICKETS
            else client.get(AUDIT_PATH, f"page[size]=1&sort=created_at&{_filter(at, at + HOUR - 1)}")
            for at in (start - HOUR, start, start + HOUR)
        ]
        return [answer.status_code for answer in asked]

    assert statuses() == [200, 500, 200]
    control.set(unreadable={})
    assert statuses() == [200, 200, 200]


def _filter(*ends: int) -> str:
    times = (datetime.fromtimestamp(end, UTC) for end in ends)
    return "&".join(f"filter[created_at][]={time:%Y-%m-%dT%H:%M:%SZ}" for time in times)


def test_a_cursor_is_refused_under_another_sort(client: Client) -> None:
    """A cursor is bound to the order it was made for: changing the sort halfway is 400."""
    cursor = client.get(AUDIT_PATH, "page[size]=2").json()["meta"]["after_cursor"]
    assert client.get(AUDIT_PATH, f"page[size]=2&sort=created_at&page[after]={cursor}").status_code == 400
    assert client.get(AUDIT_PATH, f"page[size]=2&page[after]={cursor}").ok


def test_without_a_page_size_paging_is_by_offset_up_to_a_wall(client: Client) -> None:
    """Old-style pages have other keys and a count, and page 101 is refused instead of shown."""
    page = client.get(AUDIT_PATH, "page=2&per_page=50").json()
    assert set(page) == {"audit_logs", "next_page", "previous_page", "count"}
    assert len(page["audit_logs"]) == 50
    assert client.get(AUDIT_PATH, "page=101").status_code == 400


def test_audit_log_pages_hold_at_most_a_hundred(client: Client) -> None:
    """Asking for 500 is no error, it just gives 100."""
    assert len(client.get(AUDIT_PATH, "page[size]=500").json()["audit_logs"]) == 100


def test_a_record_can_be_made_to_show_late(control: SimulatorControl) -> None:
    """An audit log with a time long past is invisible until the moment it was told to appear."""
    record = b'{"id":5,"created_at":"2026-09-21T16:00:00Z"}'
    control.add_records(AUDIT_LOGS, [record], visible_at=NOW + 100)
    assert record not in control.source(AUDIT_LOGS)
    control.set_clock(NOW + 100)
    assert record in control.source(AUDIT_LOGS)


# ---- who may call


def test_wrong_credentials_are_answered_as_their_kind_is(client: Client) -> None:
    """Basic and bearer get 401s with different bodies, Basic with a challenge; a good bearer token passes."""
    client.session.auth = ("someone/token", "wrong")
    basic = client.get(AUDIT_PATH)
    assert (basic.status_code, basic.json()) == (401, {"error": "Couldn't authenticate you"})
    assert basic.headers["WWW-Authenticate"] == 'Basic realm="Web Password"'
    client.session.auth = None
    bearer = client.get(AUDIT_PATH, headers={"Authorization": "Bearer wrong"})
    assert (bearer.status_code, bearer.json()["error"]) == (401, "invalid_token")
    assert client.get(AUDIT_PATH, headers={"Authorization": f"Bearer {BEARER_TOKEN}"}).ok


def test_users_me_is_200_for_anyone(client: Client, control: SimulatorControl) -> None:
    """A stranger is a user without an id, not a 401: only the body tells whether a credential works."""
    assert client.get("/api/v2/users/me").json()["user"]["role"] == "admin"
    client.session.auth = None
    stranger = client.get("/api/v2/users/me.json")
    assert (stranger.status_code, stranger.json()["user"]["id"]) == (200, None)
    control.set(role="agent")
    assert client.get("/api/v2/users/me", auth=BASIC).json()["user"]["role"] == "agent"


@pytest.mark.parametrize(
    ("setting", "path"), [({"role": "agent"}, TICKETS_PATH), ({"plan": "professional"}, AUDIT_PATH)]
)
def test_a_missing_right_is_403_with_an_object_as_error(
    client: Client, control: SimulatorControl, setting: dict[str, str], path: str
) -> None:
    """An agent at the export and a small plan at the audit logs are refused with a titled error object."""
    control.set(**setting)
    answer = client.get(path, "start_time=0")
    assert answer.status_code == 403
    assert answer.json()["error"]["title"] == "Forbidden"


def issue(client: Client, **body: object) -> requests.Response:
    asked = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, **body}
    client.session.auth = None
    return client.session.post(f"{client.url}/oauth/tokens", json=asked, timeout=10)


def bearer(answer: requests.Response, name: str = "access_token") -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.json()[name]}"}


def test_a_token_expires_though_the_answer_does_not_say_so(client: Client, control: SimulatorControl) -> None:
    """It ends after half an hour unannounced; only a lifetime that was asked for is named in the answer."""
    answer = issue(client)
    assert answer.status_code == 201
    assert "expires_in" not in answer.json()
    assert client.get(AUDIT_PATH, headers=bearer(answer)).ok
    control.set_clock(NOW + 1800)
    assert client.get(AUDIT_PATH, headers=bearer(answer)).status_code == 401
    assert issue(client, expires_in=300).json()["expires_in"] == 300


def test_token_requests_that_are_refused(client: Client) -> None:
    """A wrong secret is 401; a lifetime too short, an unknown grant and a form instead of JSON are 400."""
    wrong = issue(client, client_secret="wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert issue(client, expires_in=299).status_code == 400
    assert issue(client, grant_type="password").status_code == 400
    form = client.session.post(f"{client.url}/oauth/tokens", data={"grant_type": "client_credentials"}, timeout=10)
    assert form.status_code == 400


def test_a_scope_without_reading_is_issued_and_of_no_use(client: Client) -> None:
    """A write-only token shows its flaw at the first use, with 403; the stream's own scope is enough."""
    answer = issue(client, scope="write")
    assert answer.status_code == 201
    refused = client.get(AUDIT_PATH, headers=bearer(answer))
    assert (refused.status_code, refused.json()["description"]) == (403, "Missing the following required scopes: read")
    assert client.get(AUDIT_PATH, headers=bearer(issue(client, scope="auditlogs:read"))).ok


def test_a_refresh_token_works_once_and_ends_the_pair_before(client: Client) -> None:
    """Refreshing stops the earlier access token at once, and a spent refresh token is refused."""
    first = issue(client, grant_type="refresh_token", refresh_token=REFRESH_TOKEN)
    assert client.get(AUDIT_PATH, headers=bearer(first)).ok
    second = issue(client, grant_type="refresh_token", refresh_token=first.json()["refresh_token"])
    assert client.get(AUDIT_PATH, headers=bearer(first)).status_code == 401
    assert client.get(AUDIT_PATH, headers=bearer(second)).ok
    assert issue(client, grant_type="refresh_token", refresh_token=REFRESH_TOKEN).status_code == 400


@pytest.mark.parametrize(
    ("path", "name"), [("/api/v2/tickets/9", "RecordNotFound"), ("/api/v2/nope", "InvalidEndpoint")]
)
def test_what_is_not_there_is_404(client: Client, path: str, name: str) -> None:
    """An unknown ticket and an unknown path are told apart by the name of the error."""
    assert client.get(path).json() == {"error": name, "description": "Not found"}


# ---- headers and limits


def test_headers_tell_the_simulated_time_and_the_account_budget(client: Client) -> None:
    """Date follows the simulated clock, and every spelling of the rate limit headers counts the request."""
    headers = client.get(TICKETS_PATH, "start_time=0&per_page=1").headers
    assert parsedate_to_datetime(headers["Date"]).timestamp() == NOW
    assert (headers["x-rate-limit"], headers["x-rate-limit-remaining"]) == ("700", "699")
    assert headers["ratelimit-remaining"] == headers["rate-limit-remaining"] == "699"


def test_the_export_limit_is_not_in_the_headers_and_counts_all_exports(
    client: Client, control: SimulatorControl
) -> None:
    """Export calls past their limit get 429 with a wait, while headers show plenty left and audit logs go on."""
    control.set(export_limit=2)
    answers = [client.get(TICKETS_PATH, "start_time=0&per_page=1") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[1].headers["x-rate-limit-remaining"]) > 600
    assert answers[2].json() == {
        "error": "APIRateLimitExceeded",
        "description": "Number of allowed incremental export API requests per minute exceeded",
    }
    assert 0 < int(answers[2].headers["Retry-After"]) <= 60
    assert client.get(AUDIT_PATH).ok


def test_the_account_limit_is_enforced_on_request_only(client: Client, control: SimulatorControl) -> None:
    """The named limit has no effect until it is switched on; its 429 can be plain text without Retry-After."""
    control.set(account_limit=1, retry_after="absent", limit_body="text")
    assert [client.get(AUDIT_PATH).status_code for _ in range(2)] == [200, 200]
    control.set(enforce_account_limit=True)
    answer = client.get(AUDIT_PATH)
    assert answer.status_code == 429
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "Retry-After" not in answer.headers


# ---- faults


def test_a_fault_skips_fires_and_is_over(client: Client, control: SimulatorControl) -> None:
    """A rule lets one request by, hits two and rests, and the log says which requests it hit."""
    control.add_faults(Rule(path="audit_logs", kind="status", code=503, skip=1, times=2, retry_after="seconds:1"))
    answers = [client.get(AUDIT_PATH) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert answers[1].headers["Retry-After"] == "1"
    assert control.faults() == [FiredRule(path="audit_logs", kind="status", fired=2)]
    assert [one.fault for one in control.requests()] == [None, "status", "status", None]
    assert control.counts().status == {"200": 2, "503": 2}


def test_a_fault_can_be_drawn_the_same_way_each_time(client: Client, control: SimulatorControl) -> None:
    """A rule with a probability and a seed hits the same requests of a series whenever it is set anew."""

    def drawn() -> list[int]:
        control.clear_faults()
        control.add_faults(Rule(kind="status", times=0, probability=0.5, seed=3))
        return [client.get(AUDIT_PATH).status_code for _ in range(12)]

    assert drawn() == drawn()
    assert set(drawn()) == {200, 503}


@pytest.mark.parametrize("form", ["json", "text", "html"])
def test_an_error_status_comes_in_any_form(client: Client, control: SimulatorControl, form: Any) -> None:
    """A 429 can be JSON, text or HTML, and its Retry-After two values joined as a proxy joins them."""
    control.add_faults(Rule(kind="status", code=429, body=form, retry_after="list"))
    answer = client.get(AUDIT_PATH)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "50, 53")
    assert form in answer.headers["Content-Type"].replace("plain", "text")


def test_retry_after_as_a_date_is_relative_to_the_real_clock(client: Client, control: SimulatorControl) -> None:
    """A client waits in real time: the date is at most two seconds ahead, whatever the simulated clock shows."""
    control.add_faults(Rule(kind="status", retry_after="date:2"))
    named = parsedate_to_datetime(client.get(AUDIT_PATH).headers["Retry-After"]).timestamp()
    assert 0 <= named - control.requests()[-1].time <= 2


@pytest.mark.parametrize("kind", ["reset", "reset_mid_body"])
def test_a_connection_is_reset(client: Client, control: SimulatorControl, kind: Any) -> None:
    """Before the answer or in the middle of it, the client gets a reset; the next request is answered."""
    control.add_faults(Rule(kind=kind))
    with pytest.raises(requests.RequestException, match="reset by peer"):
        client.get(TICKETS_PATH, "start_time=0")
    assert client.get(TICKETS_PATH, "start_time=0").ok


def test_a_server_that_hangs_is_left_after_the_read_timeout(client: Client, control: SimulatorControl) -> None:
    """No byte arrives, so nothing but the client's own read timeout ends the wait."""
    control.add_faults(Rule(kind="hang"))
    with pytest.raises(requests.ReadTimeout):
        client.get(AUDIT_PATH, timeout=0.2)


def test_a_truncated_answer_has_a_right_length_and_no_json(client: Client, control: SimulatorControl) -> None:
    """Half a page under a Content-Length that fits it: only parsing shows that something is missing."""
    control.add_faults(Rule(kind="truncate"))
    answer = client.get(TICKETS_PATH, "start_time=0")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize(("kind", "start"), [("html", b"<!DOCTYPE html>"), ("empty_object", b"{}")])
def test_a_200_need_not_be_a_page(client: Client, control: SimulatorControl, kind: Any, start: bytes) -> None:
    """An HTML error page and an empty object both come with a status that promises success."""
    control.add_faults(Rule(kind=kind))
    answer = client.get(AUDIT_PATH)
    assert answer.status_code == 200
    assert answer.content.startswith(start)


def test_an_empty_page_in_the_middle_leads_on(client: Client, control: SimulatorControl) -> None:
    """Two pages without records, in both streams, cost nothing: following the cursors still gives every record."""
    query, sort = "support_type_scope=all", "sort=created_at"
    tickets, audit_logs = ids(client.tickets(query), "tickets"), ids(client.audit_logs(sort), "audit_logs")
    control.add_faults(*(Rule(path=path, kind="empty_page", skip=1, times=2) for path in ("cursor", "audit_logs")))
    pages = list(client.tickets(query))
    assert [bool(page["tickets"]) for page in pages[:4]] == [True, False, False, True]
    assert len({page["after_cursor"] for page in pages[:3]}) > 1
    assert ids(iter(pages), "tickets") == tickets
    assert ids(client.audit_logs(sort), "audit_logs") == audit_logs


def test_a_cursor_can_be_given_back_unchanged(client: Client, control: SimulatorControl) -> None:
    """A page that claims more to come answers with the cursor it was asked with: a loop for whoever follows it."""
    cursor = client.get(TICKETS_PATH, "start_time=0&per_page=5").json()["after_cursor"]
    control.add_faults(Rule(kind="repeat_cursor", times=2))
    page = client.get(TICKETS_PATH, "per_page=5&cursor=" + cursor.replace("=", "%3D")).json()
    assert (page["after_cursor"], page["end_of_stream"]) == (cursor, False)


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
def test_a_page_can_begin_with_the_last_record_of_the_one_before(
    client: Client, control: SimulatorControl, sort: str
) -> None:
    """Pages overlap by one record, in the export and in the list whichever way it is sorted."""
    control.add_faults(Rule(kind="repeat_record", times=0))
    first, second, *_ = client.tickets()
    assert second["tickets"][0] == first["tickets"][-1]
    first, second, *_ = client.audit_logs(f"sort={sort}")
    assert second["audit_logs"][0] == first["audit_logs"][-1]


def test_a_record_can_stand_early(client: Client, control: SimulatorControl) -> None:
    """The newest one at the end of the first page, and in its own place as well."""
    control.add_faults(Rule(path=TICKETS_PATH, kind="early_record"), Rule(path=AUDIT_PATH, kind="early_record"))
    first, *_, last = client.tickets("support_type_scope=all")
    assert first["tickets"][-1] == last["tickets"][-1] != first["tickets"][-2]
    pages = [page["audit_logs"] for page in client.audit_logs("sort=created_at")]
    assert pages[0][-1] == [log for page in pages for log in page][-1]


def test_a_page_can_stand_early(client: Client, control: SimulatorControl) -> None:
    """A page of the newest records amidst the others, which are as if it had not been there."""
    tickets, logs = [*client.tickets("support_type_scope=all")], [*client.audit_logs("sort=created_at")]
    control.add_faults(*(Rule(path=path, kind="early_page", skip=1) for path in (TICKETS_PATH, AUDIT_PATH)))
    first, early, *others = client.tickets("support_type_scope=all")
    assert [page["tickets"] for page in (first, *others)] == [page["tickets"] for page in tickets]
    assert early["tickets"][-1] == tickets[-1]["tickets"][-1]
    first, early, *others = client.audit_logs("sort=created_at")
    assert [page["audit_logs"] for page in (first, *others)] == [page["audit_logs"] for page in logs]
    assert early["audit_logs"][0]["created_at"] > logs[1]["audit_logs"][-1]["created_at"]


def test_an_answer_can_be_out_of_an_old_memory(client: Client, control: SimulatorControl) -> None:
    """It has the `Date` of then, and says that the stream ends there."""
    control.add_faults(Rule(path=TICKETS_PATH, kind="stale", seconds=10 * HOUR))
    answer = client.get(TICKETS_PATH, f"start_time={NOW - 10 * HOUR - 600}&per_page=1000")
    assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == NOW - 10 * HOUR
    assert answer.json()["end_of_stream"]
    assert all(ticket["generated_timestamp"] <= NOW - 10 * HOUR for ticket in answer.json()["tickets"])


def test_an_export_can_lag(client: Client, control: SimulatorControl) -> None:
    """It shows what there was some time ago and says that this is the end, at the time of now."""
    control.set(lag={TICKETS: 1200})
    answer = client.get(TICKETS_PATH, f"start_time={NOW - HOUR}&support_type_scope=all&per_page=1000")
    shown = [ticket["generated_timestamp"] for ticket in answer.json()["tickets"]]
    assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == NOW
    assert answer.json()["end_of_stream"]
    assert NOW - HOUR <= shown[-1] <= NOW - 1200
    assert len(control.source(TICKETS, NOW - 1200, NOW)) > 0


@pytest.mark.parametrize("order", ["newest_first", "hours_mixed"])
def test_audit_logs_can_be_in_another_order_than_asked_for(
    client: Client, control: SimulatorControl, order: str
) -> None:
    """Every record once, and not ascending."""
    asked = [log for page in client.audit_logs("sort=created_at") for log in page["audit_logs"]]
    control.set(audit_log_order=order)
    found = [log for page in client.audit_logs("sort=created_at") for log in page["audit_logs"]]
    assert sorted(found, key=lambda log: log["id"]) == sorted(asked, key=lambda log: log["id"])
    times = [log["created_at"] for log in found]
    assert times != sorted(times)
    assert (times == sorted(times, reverse=True)) == (order == "newest_first")


@pytest.mark.parametrize("kind", ["endless_body", "gzip_bomb", "zstd_bomb"])
def test_a_body_can_be_more_than_memory(client: Client, control: SimulatorControl, kind: Any) -> None:
    """A client that reads on gets past 16 MiB, be it from a body without end or from a small packed one."""
    control.add_faults(Rule(kind=kind))
    with client.get(AUDIT_PATH, stream=True) as answer:
        read = 0
        for piece in answer.iter_content(1 << 16):
            read += len(piece)
            if read > 1 << 24:
                break
    assert read > 1 << 24


def test_a_redirect_leads_elsewhere(client: Client, control: SimulatorControl) -> None:
    """A page request is answered with 302 and a foreign host, which must never see the credential."""
    control.add_faults(Rule(kind="redirect", location="https://elsewhere.example/"))
    answer = client.get(AUDIT_PATH, allow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (302, "https://elsewhere.example/")


def test_credentials_can_be_revoked_and_tokens_ended(client: Client, control: SimulatorControl) -> None:
    """A revoked credential stays refused, a token made to expire too, and a token issued later works."""
    control.add_faults(Rule(kind="revoke", skip=1))
    assert [client.get(AUDIT_PATH).status_code for _ in range(3)] == [200, 401, 401]
    token = bearer(issue(client))
    control.add_faults(Rule(kind="expire_token"))
    assert [client.get(AUDIT_PATH, headers=token).status_code for _ in range(2)] == [401, 401]
    assert client.get(AUDIT_PATH, headers=bearer(issue(client))).ok


# ---- the simulator's own side


def test_requests_are_written_down_as_they_came(client: Client, control: SimulatorControl) -> None:
    """The log keeps the raw query, repeated parameters in order and the credential, until it is emptied."""
    name = "filter%5Bcreated_at%5D%5B%5D"
    query = f"page%5Bsize%5D=2&{name}=2026-09-21T15:00:00Z&{name}=2026-09-21T16:00:00Z"
    client.get(AUDIT_PATH, query)
    (seen,) = control.requests()
    assert (seen.method, seen.path, seen.query, seen.status) == ("GET", AUDIT_PATH, query, 200)
    assert [value for name, value in seen.pairs if name == "filter[created_at][]"] == [
        "2026-09-21T15:00:00Z",
        "2026-09-21T16:00:00Z",
    ]
    assert seen.authorization.startswith("Basic ")
    control.forget_requests()
    assert control.requests() == []


def test_mistakes_in_the_control_are_told(control: SimulatorControl) -> None:
    """A misspelt setting, a value that is none and an unknown stream raise, so no test runs without its setup."""
    with pytest.raises(ValueError, match="no such setting: rolle"):
        control.set(rolle="agent")
    with pytest.raises(ValueError, match="Invalid enum value"):
        control.set(role="owner")
    with pytest.raises(ValueError, match="stream must be one of"):
        control.source("tickets")


def test_a_kept_connection_serves_many_requests_without_delay(control: SimulatorControl) -> None:
    """Three requests over one socket get a full answer each, with nothing closed in between."""
    address = control.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(b"GET /api/v2/users/me HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_server_gives_the_bytes_that_the_history_gives(control: SimulatorControl) -> None:
    """The running server and a history made here from the same options agree on every byte of both streams."""
    source = Source(HistoryOptions(since=SINCE, bulk_update=1500))
    for stream in (TICKETS, AUDIT_LOGS):
        assert control.source(stream) == list(source.visible(stream, 0, NOW, NOW, ever=False))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C both end it within seconds and with exit status 0."""
    command = [sys.executable, "-m", "zendesk_pipeline.local.simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline().endswith(":00Z gives the same again.\n")
        assert process.stdout.readline().startswith("Simulated Zendesk on http://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(10) == 0


# ---- held against recorded answers, where they are at hand


@pytest.mark.parametrize("file", RECORDED_PAGES, ids=lambda file: file.stem)
def test_pages_have_recorded_keys(client: Client, file: Path) -> None:
    """Page keys in order, ticket fields (and one newer) and rate limit headers are as in the recorded answer."""
    recorded = json.loads(file.read_bytes())
    answer = client.get(TICKETS_PATH, "start_time=0&per_page=2")
    page = answer.json()
    assert list(page) == list(recorded["body"])
    for ticket in recorded["body"]["tickets"]:
        assert set(page["tickets"][0]) == set(ticket) | {"support_type"}  # a field newer than the recording
    limits = {name for name in recorded["headers"] if "rate-limit" in name} | {"x-zendesk-api-version", "date"}
    assert limits <= {name.lower() for name in answer.headers}


@pytest.mark.parametrize("file", [page for page in RECORDED_PAGES if "_1000_" in page.name], ids=lambda file: file.stem)
def test_a_replay_is_byte_for_byte(file: Path, tmp_path: Path) -> None:
    """A recorded page served again has the same record bytes and the same cursor at its end."""
    recorded = msgspec.json.decode(file.read_bytes(), type=_RecordedFile).body.tickets
    with simulated_zendesk(tmp_path, "--replay", str(file)) as zendesk:
        page = requests.get(zendesk.url + TICKETS_PATH, "start_time=0", auth=BASIC, timeout=10)
    assert raw_records(page) == [bytes(one) for one in recorded]
    assert page.json()["after_cursor"] == json.loads(file.read_bytes())["body"]["after_cursor"]
