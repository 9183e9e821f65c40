"""Credentials go to ZENDESK_BASE_URL and nowhere else, whatever an answer, a file or a proxy would like."""

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, BEARER_TOKEN, CLIENT_ID, CLIENT_SECRET, EMAIL
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import RefusedError
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import ApiToken, BearerToken, ClientCredentials
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline_tests.asking import client_for, first_page
from zendesk_pipeline_tests.by_hand import hours
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.conftest import SINCE
from zendesk_pipeline_tests.fakes import certificates
from zendesk_pipeline_tests.fakes.tunnels import Endpoint, connect_proxy, silent_host, tls_front
from zendesk_pipeline_tests.promise.collector_process import Collection, collect
from zendesk_pipeline_tests.reconcile import reconcile

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
MODES = ("token", "bearer", "oauth")
each_mode = pytest.mark.parametrize("mode", MODES)
each_stream = pytest.mark.parametrize("stream", [pytest.param(stream, id=name) for name, stream in COLLECTED.items()])


@pytest.fixture(autouse=True)
def _no_proxies_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def elsewhere() -> Iterator[Endpoint]:
    """A host that must never be spoken to."""
    with silent_host() as endpoint:
        yield endpoint


def _client(url: str, mode: str = "token") -> ZendeskClient:
    client = client_for(url, Clock(sleep=lambda _: None))
    match mode:
        case "oauth":
            secrets = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
            client.credential = ClientCredentials(token_endpoint(client.transport, **secrets, scope="read"), Clock())
        case "bearer":
            client.credential = BearerToken(BEARER_TOKEN)
        case _:
            client.credential = ApiToken(EMAIL, API_TOKEN)
    return client


SECRETS = [
    text.encode()
    for text in (
        API_TOKEN,
        BEARER_TOKEN,
        CLIENT_SECRET,
        base64.b64encode(f"{EMAIL}/token:{API_TOKEN}".encode()).decode(),
    )
]


# What answers would like


@each_mode
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/oauth/tokens", "audit_logs|incremental"])
def test_a_redirect_to_another_host_reaches_nobody(
    zendesk: SimulatedZendesk, elsewhere: Endpoint, mode: str, code: int, path: str
) -> None:
    """Neither a page's credential nor OAuth's secret goes along: the other host is not even connected to."""
    zendesk.control.add_faults(Rule(path=path, kind="redirect", code=code, location=f"{elsewhere.url}/login", times=0))
    client = _client(zendesk.url, mode)
    if path == "/oauth/tokens" and mode != "oauth":
        assert first_page(client).records
    else:
        with pytest.raises(RefusedError, match="credentials follow no redirect"):
            first_page(client)
    assert (elsewhere.connections, bytes(elsewhere.received)) == (0, b"")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/api/v2/elsewhere", "{host}/api/v2/elsewhere", "//{netloc}/api/v2/elsewhere"])
def test_a_redirect_within_the_host_is_not_followed_either(zendesk: SimulatedZendesk, code: int, location: str) -> None:
    """One request, one error: whoever can redirect does not choose which address gets a signed request."""
    target = location.format(host=zendesk.url, netloc=zendesk.url.removeprefix("http://"))
    zendesk.control.add_faults(Rule(path="incremental", kind="redirect", code=code, location=target, times=0))
    with pytest.raises(RefusedError, match="ZENDESK_BASE_URL"):
        first_page(_client(zendesk.url))
    assert [seen.path for seen in zendesk.control.requests()] == ["/api/v2/incremental/tickets/cursor"]


@each_stream
def test_a_whole_run_speaks_to_the_configured_host_alone(
    zendesk: SimulatedZendesk, elsewhere: Endpoint, moto: LocalS3, layout: Layout, stream: Stream
) -> None:
    """`after_url` and `links.next` lead to another host on every page: it hears nothing, and every record comes."""
    zendesk.control.set(canonical_host=elsewhere.url)
    environment = _environment(zendesk, moto, layout, zendesk.url)
    assert collect(Collection(stream=stream.name, span=hours(12), environment=environment)) == 0
    verdict = reconcile(zendesk.control, moto, layout, stream.name, hours(12))
    assert verdict.exact, verdict
    assert len(zendesk.control.requests()) > 1
    assert (elsewhere.connections, bytes(elsewhere.received)) == (0, b"")


def _environment(zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout, url: str) -> dict[str, str]:
    return {
        **zendesk.environment,
        **s3.environment,
        "ZENDESK_BASE_URL": url,
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": SINCE,
        "ZENDESK_EXPORT_RATE": "100000",
    }


def test_a_cursor_is_a_parameter_and_no_address(zendesk: SimulatedZendesk, elsewhere: Endpoint) -> None:
    """A cursor that looks like an address, a path or more parameters is sent as the text it is."""
    client = _client(zendesk.url)
    tickets = COLLECTED["incremental_tickets"]
    for cursor in (f"{elsewhere.url}/x", "//evil.example/", "../../oauth/tokens", "a&start_time=0#b", "a\r\nHost: b"):
        zendesk.control.forget_requests()
        params = tickets.paging.params(hours(1).time_range, cursor, 1)
        with pytest.raises(RefusedError, match="400"):
            client.page(tickets, params, lambda _: None)
        (seen,) = zendesk.control.requests()
        assert (seen.path, dict(seen.pairs)["cursor"]) == ("/api/v2/incremental/tickets/cursor", cursor)
    assert elsewhere.connections == 0


@pytest.fixture
def secured(
    zendesk: SimulatedZendesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], tuple[str, Endpoint]]]:
    """The simulated Zendesk behind TLS that is trusted: its address, and what came in there."""
    authority = certificates.authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle(tmp_path, [authority])))
    with tls_front(zendesk.url, certificates.server(tmp_path, authority).path) as front:
        yield lambda: (f"https://localhost:{front.port}", front)


Secured = Callable[[], tuple[str, Endpoint]]


# What files would like


def test_a_netrc_file_is_never_used(
    zendesk: SimulatedZendesk, secured: Secured, moto: LocalS3, layout: Layout, tmp_path: Path
) -> None:
    """A whole run with a ~/.netrc for the host signs with the credential of the settings, OAuth's request with none."""
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine localhost login somebody password else\ndefault login somebody password else\n")
    netrc.chmod(0o600)
    oauth = {"AUTH_MODE": "oauth", "ZENDESK_CLIENT_ID": CLIENT_ID, "ZENDESK_CLIENT_SECRET": CLIENT_SECRET}
    trust = {"REQUESTS_CA_BUNDLE": os.environ["REQUESTS_CA_BUNDLE"]}
    chosen = {**_environment(zendesk, moto, layout, secured()[0]), **oauth, **trust}
    for home in ({"HOME": str(tmp_path)}, {"NETRC": str(netrc)}):
        zendesk.control.forget_requests()
        assert collect(Collection(stream="audit_logs", span=hours(1), environment={**chosen, **home})) == 0
        kinds = [seen.authorization.split(" ")[0] for seen in zendesk.control.requests()]
        assert kinds == ["", "Bearer"]


# What proxies are for


@each_mode
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_carries_what_it_cannot_read(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, mode: str, variable: str
) -> None:
    """The proxy is asked to CONNECT to the host; no credential passes it in clear, in any spelling."""
    url, front = secured()
    with connect_proxy() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        assert first_page(_client(url, mode)).records
    carried = bytes(proxy.received)
    assert carried.startswith(f"CONNECT localhost:{front.port} HTTP/1.".encode())
    assert [secret for secret in SECRETS if secret in carried] == []
    assert b"authorization" not in carried.lower()
    assert b"/api/v2" not in carried
    assert [secret for secret in SECRETS if secret in bytes(front.received)] != []


def test_no_proxy_is_honoured(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that NO_PROXY names is reached directly."""
    url, _ = secured()
    with connect_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert first_page(_client(url)).records
    assert proxy.connections == 0


@each_mode
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_what_is_not_encrypted_leaves_this_machine_by_no_proxy(
    zendesk: SimulatedZendesk, elsewhere: Endpoint, monkeypatch: pytest.MonkeyPatch, mode: str, variable: str
) -> None:
    """A simulated Zendesk on http:// is spoken to directly, though a proxy is set for the rest of the world."""
    monkeypatch.setenv(variable, elsewhere.url)
    assert first_page(_client(zendesk.url, mode)).records
    assert (elsewhere.connections, bytes(elsewhere.received)) == (0, b"")
