"""Proving who we are: three ways, each against a Zendesk that really checks."""

import json
import threading
import traceback
from collections.abc import Callable, Mapping

import pytest
from requests import PreparedRequest, Request

from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, BEARER_TOKEN, CLIENT_ID, CLIENT_SECRET, EMAIL
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import RefusedError, TransientError
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import (
    AccessToken,
    ApiToken,
    BearerToken,
    ClientCredentials,
    Credential,
    OneAtATime,
)
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline_tests.asking import NOW, client_for, first_page, walk_with
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.fakes.scripted_server import Received, Reply, answering, tickets_page

MODES = ("oauth", "token", "bearer")
each_mode = pytest.mark.parametrize("mode", MODES)
Clocks = Callable[[float], FakeClock]

SETTINGS = {
    "oauth": ("ZENDESK_CLIENT_ID", "ZENDESK_CLIENT_SECRET"),
    "token": ("ZENDESK_EMAIL", "ZENDESK_API_TOKEN"),
    "bearer": ("ZENDESK_BEARER_TOKEN",),
}
COPIED_WITH_DOTS = "Sesame…"


def _client(url: str, fake: FakeClock, mode: str, *, secret: str | None = None) -> ZendeskClient:
    """A client in one of the modes, with the simulated account's credential or a wrong one."""
    client = client_for(url, fake.clock)
    match mode:
        case "oauth":
            request = token_endpoint(
                client.transport, client_id=CLIENT_ID, client_secret=secret or CLIENT_SECRET, scope="read"
            )
            client.credential = ClientCredentials(request, fake.clock)
        case "token":
            client.credential = ApiToken(EMAIL, secret or API_TOKEN)
        case _:
            client.credential = BearerToken(secret or BEARER_TOKEN)
    return client


def _tokens(*grants: Mapping[str, object]) -> list[Reply]:
    return [Reply(json.dumps(grant).encode(), 201) for grant in grants]


def _asked(received: list[Received]) -> list[str]:
    """What was asked for, and with which token."""
    return [seen.headers.get("authorization", "for a token") for seen in received]


@each_mode
def test_each_mode_is_accepted(mode: str, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """With each of the three, both streams are read, and Zendesk knows an admin."""
    client = _client(zendesk.url, fake_clock(NOW), mode)
    assert all(first_page(client, stream).records for stream in STREAMS.values())
    assert client.who() == (6130907993114, "admin")


@each_mode
def test_a_wrong_secret_is_named_by_its_setting(mode: str, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A 401 is an error at once, and says which settings to look at."""
    with pytest.raises(RefusedError) as raised:
        first_page(_client(zendesk.url, fake_clock(NOW), mode, secret="wrong"))
    assert all(name in str(raised.value) for name in SETTINGS[mode])
    assert len(zendesk.control.requests()) == 1


@each_mode
def test_an_unknown_credential_is_nobody(mode: str, zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Zendesk answers 200 to whoever asks who it is: an anonymous user has no id."""
    client = _client(zendesk.url, fake_clock(NOW), mode)
    zendesk.control.add_faults(Rule(path="users/me", kind="expire_token" if mode == "oauth" else "revoke"))
    assert client.who() == (None, "end-user")


@each_mode
def test_no_secret_is_ever_shown(
    mode: str, zendesk: SimulatedZendesk, fake_clock: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a client nor what it raises nor any log, the HTTP library's included, holds a secret or a token."""
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", "urllib3.connectionpool")  # Kubernetes' client sets the one above to WARNING
    fake = fake_clock(NOW)
    client, wrong = _client(zendesk.url, fake, mode), _client(zendesk.url, fake, mode, secret="Sesame-4711")
    first_page(client)
    used = {seen.authorization.split()[-1] for seen in zendesk.control.requests() if seen.authorization}
    with pytest.raises(RefusedError) as refused:
        first_page(wrong)
    zendesk.control.add_faults(Rule(kind="reset", times=0))
    with pytest.raises(TransientError) as broken:
        first_page(client)

    errors = (refused.value, broken.value)
    shown = [caplog.text, *(repr(each) for each in (client, wrong, client.credential, wrong.credential))]
    shown += [str(client.credential), *map(repr, errors), *("".join(traceback.format_exception(e)) for e in errors)]
    assert "GET /api/v2/incremental/tickets/cursor" in caplog.text
    for secret in {"Sesame-4711", CLIENT_SECRET, API_TOKEN, BEARER_TOKEN, *used}:
        assert not [text for text in shown if secret in text]


def test_a_token_beyond_ascii_is_refused_by_zendesk(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A token that was copied with its dots does not end in an error of the HTTP library that shows it."""
    with pytest.raises(RefusedError, match="ZENDESK_BEARER_TOKEN") as raised:
        first_page(_client(zendesk.url, fake_clock(NOW), "bearer", secret=COPIED_WITH_DOTS))
    assert "Sesame" not in "".join(traceback.format_exception(raised.value))
    assert len(zendesk.control.requests()) == 1


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(ApiToken("ada@example.com", "Sesame"), id="token"),
        pytest.param(BearerToken("Sesame"), id="bearer"),
        pytest.param(ClientCredentials(lambda: AccessToken("Sesame", NOW), FakeClock(NOW).clock), id="oauth"),
        pytest.param(AccessToken("Sesame", NOW), id="access-token"),
    ],
)
def test_a_credential_does_not_show_itself(credential: object) -> None:
    """Also once it has signed a request."""
    if callable(credential):
        credential(Request("GET", "https://acme.zendesk.com/").prepare())
    assert "Sesame" not in repr(credential) + str(credential)


@pytest.mark.parametrize(
    ("credential", "header"),
    [
        pytest.param(ApiToken("ada@example.com", "s"), "Basic YWRhQGV4YW1wbGUuY29tL3Rva2VuOnM=", id="token"),
        pytest.param(ApiToken("åda@example.com", "s"), "Basic w6VkYUBleGFtcGxlLmNvbS90b2tlbjpz", id="token-utf-8"),
        pytest.param(BearerToken("s"), "Bearer s", id="bearer"),
        pytest.param(BearerToken("s…"), "Bearer s\xe2\x80\xa6", id="bearer-utf-8"),
    ],
)
def test_how_requests_are_signed(credential: Credential, header: str) -> None:
    """E-mail, `/token` and API token as Basic authentication in UTF-8; anything else as a bearer token."""
    request: PreparedRequest = credential(Request("GET", "https://acme.zendesk.com/").prepare())
    assert request.headers["Authorization"] == header


def test_oauth_asks_in_json_for_a_token_that_tells_its_end(fake_clock: Clocks) -> None:
    """The body is JSON and holds `expires_in`, without which Zendesk does not say when a token ends."""
    grant = {"access_token": "first", "expires_in": 7200}
    with answering(*_tokens(grant), Reply(tickets_page())) as server:
        first_page(_client(server.url, fake_clock(NOW), "oauth"))
    request, page = server.received
    assert (request.method, request.path) == ("POST", "/oauth/tokens")
    assert request.headers["content-type"] == "application/json"
    assert "authorization" not in request.headers
    assert json.loads(request.body) == {
        "grant_type": "client_credentials",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "scope": "read",
        "expires_in": 7200,
    }
    assert page.headers["authorization"] == "Bearer first"


@pytest.mark.parametrize(
    ("grant", "life"),
    [
        pytest.param({"expires_in": 7200}, 7200, id="as-asked"),
        pytest.param({"expires_in": 300}, 300, id="shorter-than-asked"),
        pytest.param({}, 1800, id="not-told"),
        pytest.param({"expires_in": None}, 1800, id="null"),
    ],
)
def test_oauth_renews_before_the_end(grant: dict[str, object], life: int, fake_clock: Clocks) -> None:
    """One token serves until a minute before its end; an end that is not told is half an hour ahead, not never."""
    page, fake = Reply(tickets_page()), fake_clock(NOW)
    first, second = _tokens({"access_token": "first", **grant}, {"access_token": "second", **grant})
    with answering(first, page, page, second, page) as server:
        client = _client(server.url, fake, "oauth")
        first_page(client)
        fake.time = NOW + life - 61
        first_page(client)
        fake.time = NOW + life - 60
        first_page(client)
    assert _asked(server.received) == ["for a token", "Bearer first", "Bearer first", "for a token", "Bearer second"]


def test_a_long_walk_never_uses_a_dead_token(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """Where every page takes twenty minutes, tokens are renewed in time: no 401 is ever seen."""
    fake = fake_clock(NOW)
    client = _client(zendesk.url, fake, "oauth")
    for _ in walk_with(client).pages():
        fake.time += 1200
        zendesk.control.set_clock(fake.time)
    assert fake.time - NOW > 7200
    assert set(zendesk.control.counts().status) == {"200", "201"}
    assert zendesk.control.counts().path["/oauth/tokens"] == 2


def test_oauth_renews_once_on_a_401(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A token that ends early, in the middle of a walk, is replaced, and no record is lost or repeated."""
    client = _client(zendesk.url, fake_clock(NOW), "oauth")
    undisturbed = [page.records for page in walk_with(client).pages()]
    zendesk.control.forget_requests()
    zendesk.control.add_faults(Rule(path="cursor=", kind="expire_token"))

    assert [page.records for page in walk_with(client).pages()] == undisturbed
    statuses = [(seen.path, seen.status) for seen in zendesk.control.requests()]
    assert statuses.count(("/api/v2/incremental/tickets/cursor", 401)) == 1
    assert statuses.count(("/oauth/tokens", 201)) == 1


def test_a_second_401_is_an_error(zendesk: SimulatedZendesk, fake_clock: Clocks) -> None:
    """A fresh token that is refused as well is not replaced for ever; the error names the settings."""
    zendesk.control.add_faults(Rule(path="incremental", kind="status", code=401, times=5))
    with pytest.raises(RefusedError, match="ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET"):
        first_page(_client(zendesk.url, fake_clock(NOW), "oauth"))
    assert [seen.method for seen in zendesk.control.requests()] == ["POST", "GET", "POST", "GET"]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        pytest.param(
            Reply(b'{"error":"invalid_client"}', 401), "ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET", id="401"
        ),
        pytest.param(Reply(b'{"error":"invalid_request"}', 400), "ZENDESK_CLIENT_ID", id="400"),
        pytest.param(Reply(b"<html>", 404), "ZENDESK_BASE_URL", id="404"),
        pytest.param(Reply(b"", 302, {"Location": "http://127.0.0.1:9/"}), "ZENDESK_BASE_URL", id="redirect"),
    ],
)
def test_a_refused_token_request_is_an_error_at_once(reply: Reply, says: str, fake_clock: Clocks) -> None:
    """The error names the setting, and the request is not made again."""
    with answering(reply) as server, pytest.raises(RefusedError, match=says):
        first_page(_client(server.url, fake_clock(NOW), "oauth"))
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        pytest.param(Reply(b"<html><title>Blocked</title>", 403), "titled Blocked.*IP restrictions", id="403-page"),
        pytest.param(Reply(b'{"error":"Forbidden"}', 403), "IP restrictions.*or the account is suspended", id="403"),
        pytest.param(Reply(b"<html>", 401), "A proxy or gateway on the way wants a credential of its own", id="401"),
        pytest.param(Reply(b"<html>", 400), "IP restrictions", id="400"),
    ],
)
def test_who_refuses_a_token_without_a_word_of_the_client_is_told(reply: Reply, says: str, fake_clock: Clocks) -> None:
    """A firewall, a proxy or Zendesk's IP restrictions: nobody makes a new client secret for that."""
    with answering(reply) as server, pytest.raises(RefusedError, match=says) as raised:
        first_page(_client(server.url, fake_clock(NOW), "oauth"))
    assert "OAuth client is not accepted" not in str(raised.value)
    assert "ZENDESK_CLIENT" not in str(raised.value)
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("reply", "pause"),
    [
        pytest.param(Reply(b"", 503), 1, id="503"),
        pytest.param(Reply(b"", 503, {"Retry-After": "17"}), 17, id="503-told"),
        pytest.param(Reply(b"", 504), 1, id="504"),
        pytest.param(Reply(b"", 429, {"Retry-After": "17"}), 17, id="429"),
        pytest.param(Reply(b"", 429), 60, id="429-silent"),
        pytest.param(Reply(b"<html>", 200), 1, id="html"),
        pytest.param(Reply(b"{}", 201), 1, id="no-token"),
        pytest.param(Reply(b'{"access_token":"\xff"}', 201), 1, id="not-utf-8"),
        pytest.param(Reply(b'{"access_token":"a\\nb"}', 201), 1, id="nothing-a-header-holds"),
        pytest.param(Reply(b'{"access_token":', 201, {"Content-Length": "99"}), 1, id="cut-off"),
    ],
)
def test_a_failed_token_request_is_made_again(reply: Reply, pause: int, fake_clock: Clocks) -> None:
    """After the pause that was asked for, or a short one; the page is still asked for whole."""
    fake = fake_clock(NOW)
    good = Reply(b'{"access_token":"first","expires_in":7200}', 201)
    cut_off = {"Connection": "close"} if "Content-Length" in reply.headers else {}
    reply = Reply(reply.body, reply.status, {**reply.headers, **cut_off})
    with answering(reply, good, Reply(tickets_page())) as server:
        first_page(_client(server.url, fake, "oauth"))
    assert _asked(server.received) == ["for a token", "for a token", "Bearer first"]
    assert ("per_page", "1000") in server.received[-1].query
    assert fake.slept == [pytest.approx(pause, abs=2)]
    assert fake.slept[0] >= pause


def test_cursors_that_are_refused_at_once_renew_a_token_once() -> None:
    """Eight threads sign with one token and are all refused: one more token is made, and all go on with it."""
    made: list[AccessToken] = []

    def request_token() -> AccessToken:
        made.append(AccessToken(f"token-{len(made)}", NOW + 7200))
        return made[-1]

    credential = OneAtATime(ClientCredentials(request_token, Clock(now=lambda: NOW)))
    signed, together = list[str | None](), threading.Barrier(8, timeout=30)

    def cursor() -> None:
        credential(Request("GET", "http://127.0.0.1").prepare())
        together.wait()
        assert credential.renew()
        signed.append(credential(Request("GET", "http://127.0.0.1").prepare()).headers["Authorization"])

    threads = [threading.Thread(target=cursor) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert signed == ["Bearer token-1"] * 8
    assert len(made) == 2
