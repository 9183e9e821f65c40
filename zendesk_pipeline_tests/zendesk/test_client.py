"""One request to Zendesk: what is waited out, tried again, refused, and what never leaves for another host."""

import re
import tracemalloc
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import requests
from msgspec.structs import replace
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline.local.simulator.faults import Kind, Rule
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    ForbiddenError,
    PageTooHeavyError,
    PipelineError,
    RefusedError,
    SettingsError,
    StarvedError,
    TooEarlyError,
    TransientError,
)
from zendesk_pipeline.model.streams import AUDIT_LOGS, Stream
from zendesk_pipeline.zendesk import transport as transport_module
from zendesk_pipeline.zendesk.credentials import BearerToken, ClientCredentials
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline.zendesk.rate_limits import RateLimiter
from zendesk_pipeline_tests.asking import NOW, client_for, first_page
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering, tickets_page
from zendesk_pipeline_tests.ports import lasting_port

Clocks = Callable[[float], FakeClock]
PAGE = Reply(tickets_page())
EXPORT = "incremental"
SOON = 2.0
"""A first pause without an order to wait is shorter than this."""

each_stream = pytest.mark.parametrize("stream", [pytest.param(stream, id=name) for name, stream in COLLECTED.items()])


# Rate limits


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        pytest.param({"Retry-After": "93"}, 93, id="seconds"),
        pytest.param({"Retry-After": "1.5"}, 1.5, id="float"),
        pytest.param({"Retry-After": "50, 53"}, 53, id="list"),
        pytest.param({"Retry-After": formatdate(NOW + 40, usegmt=True)}, 40, id="http-date"),
        pytest.param({"ratelimit-reset": "2026-11-14T12:00:30Z"}, 30, id="reset-date-time"),
        pytest.param({"Retry-After": "0"}, 1, id="never-in-a-spin"),
        pytest.param({"Retry-After": formatdate(NOW - 40, usegmt=True)}, 1, id="date-gone-by"),
        pytest.param({"Retry-After": "soon"}, 60, id="unreadable"),
        pytest.param({}, 60, id="absent"),
    ],
)
def test_a_429_is_waited_out_as_told(headers: dict[str, str], pause: float, fake_clock: Clocks) -> None:
    """In every form that Zendesk says it, a minute where it says nothing; then the same is asked again."""
    fake = fake_clock(NOW)
    with answering(Reply(b"Too many", 429, headers), PAGE) as server:
        client = client_for(server.url, fake.clock, retries=0)
        first_page(client)
    assert fake.slept == [pause]
    assert (client.stats.requests, client.stats.waited) == (2, pause)
    assert server.received[0].query == server.received[1].query


@pytest.mark.parametrize("retries", [0, 3])
def test_429s_never_count_as_retries(retries: int, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """However many there are in a row, and with other faults between them, HTTP_RETRIES is not touched by them."""
    limit = Rule(path=EXPORT, kind="status", code=429, retry_after="seconds:7", times=6, body="text")
    fault = Rule(path=EXPORT, kind="status", code=503, times=retries)
    zendesk.control.add_faults(limit, *[fault] * bool(retries))
    fake = fake_clock(NOW)
    assert first_page(client_for(zendesk.url, fake.clock, retries=retries)).records
    assert fake.slept[:6] == [7] * 6
    assert len(zendesk.control.requests()) == 6 + retries + 1


@pytest.mark.parametrize(
    ("told", "waits"),
    [
        pytest.param("3601", 0, id="at-once"),
        pytest.param("1800", 2, id="after-an-hour-in-all"),
        pytest.param("3600", 1, id="an-hour-is-waited"),
    ],
)
def test_nobody_waits_longer_than_an_hour(told: str, waits: int, fake_clock: Clocks) -> None:
    """A request that the rate limit holds up for more raises StarvedError instead of waiting on."""
    fake, limits = fake_clock(NOW), [Reply(b"", 429, {"Retry-After": told})] * 5
    with answering(*limits, PAGE) as server, pytest.raises(StarvedError, match="rate limit"):
        first_page(client_for(server.url, fake.clock))
    assert fake.slept == [float(told)] * waits
    assert len(server.received) == waits + 1


def test_each_request_may_wait_anew(fake_clock: Clocks) -> None:
    """The hour is a request's, not a run's: a long run may wait for every page."""
    fake, limit = fake_clock(NOW), Reply(b"", 429, {"Retry-After": "3000"})
    with answering(limit, PAGE, limit, PAGE) as server:
        client = client_for(server.url, fake.clock)
        first_page(client)
        first_page(client)
    assert client.stats.waited == sum(fake.slept) == 6000


@pytest.mark.parametrize("family", ["ratelimit", "rate-limit", "both"])
def test_the_share_of_the_account_follows_its_headers(
    family: str, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """Half of the forty a minute that the answers tell of: the twenty-first request waits out the minute."""
    zendesk.control.set(account_limit=40, header_family=family)
    fake = fake_clock(NOW)
    limiter = RateLimiter(clock=fake.clock, share=0.5)
    client = client_for(zendesk.url, fake.clock, limiters={"account": limiter})
    for _ in range(20):
        first_page(client, AUDIT_LOGS)
    assert fake.slept == []
    first_page(client, AUDIT_LOGS)
    assert sum(fake.slept) == client.stats.waited == 60


def test_the_client_stands_back_where_others_use_the_account_up(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """With less than a tenth of the account's budget left it waits for the reset that the answer names."""
    zendesk.control.set(account_limit=20)
    fake = fake_clock(NOW)
    client = client_for(zendesk.url, fake.clock, limiters={"account": RateLimiter(clock=fake.clock, share=1)})
    for _ in range(19):
        first_page(client, AUDIT_LOGS)
    assert fake.slept == []
    first_page(client, AUDIT_LOGS)
    assert fake.slept == [42]


def test_the_export_keeps_to_its_own_rate(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """The account's numbers, which the export's answers carry, neither slow it down nor speed it up."""
    zendesk.control.set(account_limit=1)
    fake = fake_clock(NOW)
    client = client_for(zendesk.url, fake.clock, limiters={"export": RateLimiter(clock=fake.clock, per_minute=10)})
    for _ in range(10):
        first_page(client)
    assert fake.slept == []
    first_page(client)
    assert fake.slept == [60]


def test_a_refused_connection_counts_against_the_rate(fake_clock: Clocks) -> None:
    """What was tried may have arrived: tries are spaced as requests are."""
    fake = fake_clock(NOW)
    client = client_for(
        f"http://127.0.0.1:{lasting_port()}",
        fake.clock,
        retries=2,
        limiters={"export": RateLimiter(clock=fake.clock, per_minute=1)},
    )
    with pytest.raises(TransientError):
        first_page(client)
    assert fake.time == pytest.approx(NOW + 120)


# Retries


FAULTS = [
    pytest.param(Rule(path=EXPORT, kind="reset"), id="reset-before-the-body"),
    pytest.param(Rule(path=EXPORT, kind="reset_mid_body"), id="reset-in-the-body"),
    pytest.param(Rule(path=EXPORT, kind="hang", seconds=3), id="hangs"),
    pytest.param(Rule(path=EXPORT, kind="truncate"), id="cut-json"),
    pytest.param(Rule(path=EXPORT, kind="html"), id="html-with-200"),
    pytest.param(Rule(path=EXPORT, kind="empty_object"), id="empty-object-with-200"),
    pytest.param(Rule(path=EXPORT, kind="status", code=200), id="error-object-with-200"),
    pytest.param(Rule(path=EXPORT, kind="status", code=500), id="500"),
    pytest.param(Rule(path=EXPORT, kind="status", code=500, body="html"), id="500-html"),
    pytest.param(Rule(path=EXPORT, kind="status", code=502, body="text"), id="502-text"),
    pytest.param(Rule(path=EXPORT, kind="status", code=503), id="503"),
    pytest.param(Rule(path=EXPORT, kind="status", code=503, retry_after="seconds:30"), id="503-retry-after"),
    pytest.param(Rule(path=EXPORT, kind="status", code=409), id="409"),
]


def _patience(fault: Rule) -> float:
    """HTTP_TIMEOUT: short only where it has to run out, since a busy machine takes its time for an answer."""
    return 1 if fault.kind == "hang" else 60


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_tried_again_until_it_is_over(fault: Rule, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """As often as HTTP_RETRIES allows; then the page is there as if nothing had been."""
    zendesk.control.add_faults(replace(fault, times=2))
    client = client_for(zendesk.url, fake_clock(NOW).clock, retries=2, timeout=_patience(fault))
    assert len(first_page(client).records) == 1000
    assert [seen.fault for seen in zendesk.control.requests()] == [fault.kind, fault.kind, None]
    assert client.stats.requests == 3


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("retries", [0, 1])
def test_a_fault_that_stays_is_an_error(
    retries: int, fault: Rule, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """After HTTP_RETRIES tries beyond the first TransientError is raised, and nothing more is asked."""
    zendesk.control.add_faults(replace(fault, times=0))
    fake = fake_clock(NOW)
    with pytest.raises(TransientError):
        first_page(client_for(zendesk.url, fake.clock, retries=retries, timeout=_patience(fault)))
    assert len(zendesk.control.requests()) == 1 + retries
    assert len(fake.slept) == retries


def test_a_refused_connection_is_tried_again(fake_clock: Clocks) -> None:
    """The error names the address and the kind of trouble, and nothing of the request's parameters."""
    fake, url = fake_clock(NOW), f"http://127.0.0.1:{lasting_port()}"
    with pytest.raises(TransientError, match="NewConnectionError") as raised:
        first_page(client_for(url, fake.clock))
    assert len(fake.slept) == 3
    assert f"{url}/api/v2/incremental/tickets/cursor " in str(raised.value)
    assert "start_time" not in str(raised.value)
    assert "ZENDESK_BASE_URL" in str(raised.value)


def test_pauses_grow(fake_clock: Clocks) -> None:
    """Each pause is about double the one before, up to a minute."""
    fake = fake_clock(NOW)
    with answering(Reply(b"", 500)) as server, pytest.raises(TransientError):
        first_page(client_for(server.url, fake.clock, retries=9))
    expected = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(least <= pause <= least + 1 for pause, least in zip(fake.slept, expected, strict=True))


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        pytest.param({"Retry-After": "30"}, 30, 30, id="told"),
        pytest.param({"Retry-After": "50, 53"}, 53, 53, id="list"),
        pytest.param({"Retry-After": formatdate(NOW + 40, usegmt=True)}, 40, 40, id="date"),
        pytest.param({"Retry-After": "0"}, 1, SOON, id="told-less-than-our-own-pause"),
        pytest.param({}, 1, SOON, id="not-told"),
    ],
)
def test_a_5xx_is_waited_out_as_told(headers: dict[str, str], least: float, most: float, fake_clock: Clocks) -> None:
    """Retry-After is obeyed in full; our own pause is the least."""
    fake = fake_clock(NOW)
    with answering(Reply(b"", 503, headers), PAGE) as server:
        first_page(client_for(server.url, fake.clock))
    assert least <= fake.slept[0] <= most


def test_a_5xx_that_asks_for_more_than_an_hour_is_an_error_at_once(fake_clock: Clocks) -> None:
    """A run does not sleep through a maintenance day: it fails and says why, and runs again later."""
    fake = fake_clock(NOW)
    with answering(Reply(b"", 503, {"Retry-After": "86400"})) as server, pytest.raises(TransientError, match="503"):
        first_page(client_for(server.url, fake.clock))
    assert (len(server.received), fake.slept) == (1, [])


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        pytest.param(Reply(b'{"error":"TooManyValues"}', 400), RefusedError, id="400"),
        pytest.param(Reply(b"", 401), RefusedError, id="401"),
        pytest.param(Reply(b'{"description":"Too recent start_time."}', 422), TooEarlyError, id="422-too-recent"),
        pytest.param(Reply(b"", 504), PageTooHeavyError, id="504"),
    ],
)
def test_what_would_be_the_same_again_is_not_tried_again(
    reply: Reply, kind: type[PipelineError], fake_clock: Clocks
) -> None:
    """One request, no pause: a person, a smaller page or a later run has to mend it."""
    fake = fake_clock(NOW)
    with answering(reply) as server, pytest.raises(kind):
        first_page(client_for(server.url, fake.clock))
    assert (len(server.received), fake.slept) == (1, [])


def test_a_404_is_not_tried_again(fake_clock: Clocks) -> None:
    """Nor paused for; users/me alone is asked, to find out what is not there."""
    fake = fake_clock(NOW)
    with answering(Reply(b"<html>", 404)) as server, pytest.raises(RefusedError):
        first_page(client_for(server.url, fake.clock))
    assert ([each.path for each in server.received][1:], fake.slept) == (["/api/v2/users/me"], [])


# Bounds


@pytest.mark.parametrize("kind", ["endless_body", "gzip_bomb", "zstd_bomb"])
def test_a_body_is_bounded(
    kind: Kind, zendesk: SimulatedZendesk, fake_clock: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body without end, or one that unpacks to no end, is given up at LARGEST_BODY; memory holds no more of it."""
    monkeypatch.setattr(transport_module, "LARGEST_BODY", 4_000_000)
    zendesk.control.add_faults(Rule(path=EXPORT, kind=kind, size=1 << 28))
    tracemalloc.start()
    with pytest.raises(PageTooHeavyError, match="more than 4,000,000 bytes"):
        first_page(client_for(zendesk.url, Clock(now=fake_clock(NOW).clock.now), timeout=0.5))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16_000_000


@pytest.mark.parametrize(
    "dripping",
    [
        pytest.param(Reply(b" " * 1000, pause=0.01), id="length"),
        pytest.param(Reply(b"3e8\r\n" + b" " * 1000, 200, {"Transfer-Encoding": "chunked"}, pause=0.01), id="chunked"),
    ],
)
def test_a_body_that_drips_is_given_up(dripping: Reply, fake_clock: Clocks) -> None:
    """Each byte comes within HTTP_TIMEOUT, the whole does not come within five times that: it is not waited for."""
    clock = Clock(now=fake_clock(NOW).clock.now)
    began = clock.monotonic()
    with answering(dripping) as server, pytest.raises(PageTooHeavyError, match="still sending"):
        first_page(client_for(server.url, clock, timeout=0.1))
    assert clock.monotonic() - began < 6  # the whole takes ten seconds


def test_pages_come_over_one_connection(fake_clock: Clocks) -> None:
    """Connections are kept: no handshake for every page, nor after an error that was read to its end."""
    with answering(PAGE, PAGE, Reply(b"Sorry", 503), PAGE) as server:
        client = client_for(server.url, fake_clock(NOW).clock)
        for _ in range(3):
            first_page(client)
    assert len(server.received) == 4
    assert len({seen.connection for seen in server.received}) == 1


def test_a_connection_that_zendesk_closed_meanwhile_is_opened_again(fake_clock: Clocks) -> None:
    """Between two pages a server may close: the next page comes over a new connection."""
    with answering(Reply(tickets_page(), 200, {"Connection": "close"}), PAGE) as server:
        client = client_for(server.url, fake_clock(NOW).clock)
        first_page(client)
        first_page(client)
    assert len({seen.connection for seen in server.received}) == 2


# Where credentials go


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(code: int, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """The other host hears nothing, and the error says which setting to mend."""
    with answering(PAGE) as elsewhere:
        zendesk.control.add_faults(Rule(kind="redirect", code=code, location=f"{elsewhere.url}/login", times=0))
        with pytest.raises(RefusedError, match=r"redirects.*ZENDESK_BASE_URL"):
            first_page(client_for(zendesk.url, fake_clock(NOW).clock))
    assert elsewhere.received == []
    assert len(zendesk.control.requests()) == 1


def test_no_redirect_takes_the_client_secret_along(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """The same for the request that carries OAuth's secret in its body, also by 307, which would repeat the body."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    request = token_endpoint(client.transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope="read")
    client.credential = ClientCredentials(request, client.clock)
    with answering(PAGE) as elsewhere:
        zendesk.control.add_faults(Rule(path="oauth", kind="redirect", code=307, location=elsewhere.url))
        with pytest.raises(RefusedError, match="ZENDESK_BASE_URL"):
            first_page(client)
    assert elsewhere.received == []


class Sent(HTTPAdapter):
    """In the place of the network: keeps what would have been sent to a host that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[PreparedRequest] = []

    def send(self, request: PreparedRequest, *_: object, **__: object) -> Response:
        self.requests.append(request)
        raise requests.ConnectionError


def test_netrc_is_not_used(fake_clock: Clocks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What ~/.netrc says of the host reaches neither a page's request nor the one for a token."""
    netrc, sent = tmp_path / "netrc", Sent()
    netrc.write_text("machine acme.zendesk.com login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    client = client_for("https://acme.zendesk.com", fake_clock(NOW).clock, retries=0)
    client.transport.session.mount("https://", sent)
    request = token_endpoint(client.transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope="read")
    for send in (lambda: first_page(client), request):
        with pytest.raises(TransientError):
            send()
    basic = "Basic YWRtaW5AZXhhbXBsZS5jb20vdG9rZW46c2ltdWxhdGVkLWFwaS10b2tlbg=="
    assert [each.headers.get("Authorization") for each in sent.requests] == [basic, None]


def test_without_tls_no_proxy_is_used(
    zendesk: SimulatedZendesk, fake_clock: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """http is for this machine alone: a proxy of the environment would take credentials off it in the clear."""
    with answering(PAGE) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert first_page(client_for(zendesk.url, fake_clock(NOW).clock)).records
    assert proxy.received == []


def test_certificates_that_cannot_be_read_are_named(
    fake_clock: Clocks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A setting that names no file is a setting's error, and no trouble of the network to be tried again."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    fake = fake_clock(NOW)
    with pytest.raises(SettingsError, match="REQUESTS_CA_BUNDLE"):
        first_page(client_for(f"https://127.0.0.1:{lasting_port()}", fake.clock))
    assert fake.slept == []


def test_a_host_that_cannot_prove_itself_is_refused(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Where TLS fails nothing is sent and nothing tried again: a person has to look."""
    fake = fake_clock(NOW)
    with pytest.raises(RefusedError, match=r"ZENDESK_BASE_URL.*REQUESTS_CA_BUNDLE"):
        first_page(client_for(zendesk.url.replace("http://", "https://"), fake.clock))
    assert (fake.slept, zendesk.control.requests()) == ([], [])


def test_requests_say_who_asks(fake_clock: Clocks) -> None:
    """Zendesk asks integrations to name themselves."""
    with answering(PAGE) as server:
        first_page(client_for(server.url, fake_clock(NOW).clock))
    assert server.received[0].headers["user-agent"].startswith("zendesk-pipeline/")
    assert server.received[0].headers["accept"] == "application/json"


# 403


def test_a_403_for_the_plan_is_explained(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """An admin whom audit logs are refused has no Enterprise plan."""
    zendesk.control.set(plan="professional")
    with pytest.raises(ForbiddenError, match=r"do not have access.*Enterprise plan.*RESOURCES"):
        first_page(client_for(zendesk.url, fake_clock(NOW).clock), AUDIT_LOGS)
    assert list(zendesk.control.counts().path) == [AUDIT_LOGS.path, "/api/v2/users/me"]


@each_stream
def test_a_403_for_the_role_is_explained(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Whoever is no admin is told so."""
    zendesk.control.set(role="agent")
    with pytest.raises(ForbiddenError, match="user of role agent, an admin's is needed"):
        first_page(client_for(zendesk.url, fake_clock(NOW).clock), stream)


@each_stream
def test_a_403_for_nobody_is_explained(stream: Stream, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A credential that Zendesk does not know is named by its settings."""
    zendesk.control.add_faults(Rule(path=stream.path, kind="status", code=403))
    client = client_for(zendesk.url, fake_clock(NOW).clock, credential=BearerToken("unknown"))
    with pytest.raises(ForbiddenError, match=r"does not know the credential.*ZENDESK_BEARER_TOKEN"):
        first_page(client, stream)


def test_a_403_for_the_scope_is_explained(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Zendesk issues a token for any scope and refuses it later: the setting to mend is named, without asking on."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    request = token_endpoint(client.transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope="users:read")
    client.credential = ClientCredentials(request, client.clock)
    with pytest.raises(RefusedError, match=r"required scopes: read.*ZENDESK_OAUTH_SCOPE"):
        first_page(client)
    assert "/api/v2/users/me" not in zendesk.control.counts().path


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            Reply(b'{"error":"Forbidden","description":"Missing the following required scopes"}', 403), id="403"
        ),
        pytest.param(Reply(b"", 401), id="401"),
        pytest.param(Reply(b"", 503), id="503"),
        pytest.param(Reply(b"<html>", 200), id="html"),
    ],
)
def test_a_403_that_nobody_explains_stays_a_403(fault: Reply, fake_clock: Clocks) -> None:
    """Where Zendesk does not say who we are, the error is still the stream's 403, with both things it can mean."""
    closed = Reply(b'{"error":"Forbidden","description":"No access"}', 403)
    with answering(closed, fault) as server, pytest.raises(ForbiddenError) as raised:
        first_page(client_for(server.url, fake_clock(NOW).clock, retries=1), AUDIT_LOGS)
    assert all(words in str(raised.value) for words in ("No access", "admin's", "Enterprise plan"))


EVERYWHERE = ""
"""The path of a fault that every address meets."""
NOT_THE_PLAN = re.compile("RESOURCES|Enterprise plan|OAuth client|ZENDESK_EMAIL|ZENDESK_OAUTH_SCOPE")


@each_stream
@pytest.mark.parametrize("body", ["html", "json"])
def test_a_403_to_everything_is_the_network_or_the_account(
    stream: Stream, body: Any, zendesk: SimulatedZendesk, fake_clock: Clocks
) -> None:
    """IP restrictions, a firewall, a suspended account: it has nothing to do with the stream, and says so."""
    zendesk.control.add_faults(Rule(path=EVERYWHERE, kind="status", code=403, body=body, times=0))
    says = r"users/me too\. What is in front of Zendesk .* account is suspended"
    with pytest.raises(RefusedError, match=says) as raised:
        first_page(client_for(zendesk.url, fake_clock(NOW).clock), stream)
    assert not NOT_THE_PLAN.search(str(raised.value))
    assert list(zendesk.control.counts().path) == [stream.path, "/api/v2/users/me"]


def test_a_403_page_to_one_address_is_a_firewalls_rule(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Where the same credential is answered elsewhere, nobody looks at IP restrictions or the plan."""
    zendesk.control.add_faults(Rule(path=AUDIT_LOGS.path, kind="status", code=403, body="html"))
    with pytest.raises(RefusedError, match="a firewall or proxy refuses this address alone: have it let") as raised:
        first_page(client_for(zendesk.url, fake_clock(NOW).clock), AUDIT_LOGS)
    assert not NOT_THE_PLAN.search(str(raised.value))


@pytest.mark.parametrize("text", [b"RBAC: access denied", b"Access denied", b"Your microscope is not in scope"])
def test_a_403_in_plain_text_is_a_firewalls_as_well(text: bytes, fake_clock: Clocks) -> None:
    """The API refuses in JSON: nobody is sent to the plan, the scope or the admin's role."""
    known = Reply(b'{"user":{"id":7,"role":"admin"}}')
    says = (
        r"answered 403 \(.*\), which is no answer of Zendesk's API\. .*a firewall or proxy refuses this address alone"
    )
    with answering(Reply(text, 403), known) as server, pytest.raises(RefusedError, match=says) as raised:
        first_page(client_for(server.url, fake_clock(NOW).clock, retries=0), AUDIT_LOGS)
    assert not NOT_THE_PLAN.search(str(raised.value))


@pytest.mark.parametrize("fault", [Reply(b"", 503), Reply(b"<html>", 401), Reply(b"<html>", 200)], ids=str)
def test_a_403_page_that_nobody_explains_is_the_networks(fault: Reply, fake_clock: Clocks) -> None:
    """What else users/me says, a web page was no word of the API's."""
    blocked, says = Reply(b"<html><title>Blocked</title>", 403), "titled Blocked.*IP restrictions"
    with answering(blocked, fault) as server, pytest.raises(RefusedError, match=says) as raised:
        first_page(client_for(server.url, fake_clock(NOW).clock, retries=0), AUDIT_LOGS)
    assert not NOT_THE_PLAN.search(str(raised.value))


@pytest.mark.parametrize("body", ["html", "json"])
def test_a_404_is_the_account_or_the_stream(body: Any, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Where users/me is answered the address of the account is right, and the stream is what is not there."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    zendesk.control.add_faults(Rule(path=AUDIT_LOGS.path, kind="status", code=404, body=body))
    with pytest.raises(RefusedError, match=r"The account is there.*does not offer audit_logs\. Take it out") as raised:
        first_page(client, AUDIT_LOGS)
    assert "ZENDESK_BASE_URL" not in str(raised.value)
    zendesk.control.clear_faults()
    zendesk.control.add_faults(Rule(path=EVERYWHERE, kind="status", code=404, body=body, times=0))
    with pytest.raises(RefusedError, match=r"Check ZENDESK_BASE_URL\.$") as raised:
        first_page(client, AUDIT_LOGS)
    assert "RESOURCES" not in str(raised.value)


def test_a_proxys_401_leaves_the_token_as_it_is(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """It wants a credential of its own: ours is neither renewed nor called wrong."""
    client = client_for(zendesk.url, fake_clock(NOW).clock)
    request = token_endpoint(client.transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope="read")
    client.credential = ClientCredentials(request, client.clock)
    first_page(client)
    zendesk.control.add_faults(Rule(path=EXPORT, kind="status", code=401, body="html"))
    with pytest.raises(RefusedError, match="A proxy or gateway on the way wants a credential of its own") as raised:
        first_page(client)
    assert not NOT_THE_PLAN.search(str(raised.value))
    assert zendesk.control.counts().path["/oauth/tokens"] == 1


def test_a_firewalls_429_is_waited_out_and_told_as_its_own(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A while, as any 429; after an hour of it nobody looks for who uses up Zendesk's budget."""
    fake = fake_clock(NOW)
    blocked = Rule(path=EXPORT, kind="status", code=429, body="html", retry_after="seconds:90")
    zendesk.control.add_faults(blocked)
    first_page(client_for(zendesk.url, fake.clock))
    assert fake.slept == [90]
    zendesk.control.add_faults(replace(blocked, times=0))
    with pytest.raises(StarvedError, match=r"429 with a web page .*A firewall or proxy on the way limits this machine"):
        first_page(client_for(zendesk.url, fake.clock))


def test_who_is_no_guess(fake_clock: Clocks) -> None:
    """An answer that names no user at all is a fault, not an anonymous user."""
    fake = fake_clock(NOW)
    with answering(Reply(b"<html>Maintenance</html>"), Reply(b'{"user":{"id":7,"role":"admin"}}')) as server:
        assert client_for(server.url, fake.clock).who() == (7, "admin")
    with answering(Reply(b"{}")) as server, pytest.raises(TransientError):
        client_for(server.url, fake.clock, retries=0).who()
