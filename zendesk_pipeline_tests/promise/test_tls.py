"""Zendesk has to prove who it is before it is told anything, and no setting of ours lets it off."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

import zendesk_pipeline
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import RefusedError, SettingsError
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import ClientCredentials
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline_tests.asking import client_for, first_page
from zendesk_pipeline_tests.by_hand import hours
from zendesk_pipeline_tests.conftest import SINCE
from zendesk_pipeline_tests.fakes import certificates
from zendesk_pipeline_tests.fakes.certificates import Identity
from zendesk_pipeline_tests.fakes.tunnels import Endpoint, tls_front
from zendesk_pipeline_tests.promise.collector_process import Collection, collect
from zendesk_pipeline_tests.reconcile import reconcile

TRUST = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _trust_of_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine that runs the tests trusts does not matter."""
    for name in (*TRUST, "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Identity:
    """The authority that the tests trust."""
    return certificates.authority(folder)


def _client(front: Endpoint, host: str = "localhost") -> ZendeskClient:
    return client_for(f"https://{host}:{front.port}", Clock(sleep=lambda _: None))


def _with_oauth(client: ZendeskClient) -> ZendeskClient:
    request = token_endpoint(client.transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope="read")
    client.credential = ClientCredentials(request, client.clock)
    return client


def test_a_host_that_a_trusted_authority_vouches_for_is_read(
    zendesk: SimulatedZendesk, folder: Path, ours: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE adds an authority of one's own, as behind a proxy that opens TLS."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle(folder, [ours])))
    with tls_front(zendesk.url, certificates.server(folder, ours).path) as front:
        assert first_page(_client(front)).records
        assert first_page(_with_oauth(_client(front))).records
    assert front.refused.empty()


def _untrusted(folder: Path, _: Identity) -> Identity:
    return certificates.server(folder, certificates.authority(folder, "stranger"))


UNPROVED: dict[str, Callable[[Path, Identity], Identity]] = {
    "an authority that nobody trusts": _untrusted,
    "no authority at all": lambda folder, _: certificates.server(folder, None),
    "another host": lambda folder, ours: certificates.server(folder, ours, name="other.example"),
    "a past certificate": lambda folder, ours: certificates.server(folder, ours, from_day=-2, to_day=-1),
    "a certificate to come": lambda folder, ours: certificates.server(folder, ours, from_day=1, to_day=2),
}


@pytest.mark.parametrize("kind", UNPROVED)
def test_a_host_that_proves_something_else_is_told_nothing(
    zendesk: SimulatedZendesk, folder: Path, ours: Identity, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a byte of a request leaves, at once and for good; the error says what to check, OAuth's secret included."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates.bundle(folder, [ours])))
    with tls_front(zendesk.url, UNPROVED[kind](folder, ours).path) as front:
        for client in (_client(front), _with_oauth(_client(front))):
            with pytest.raises(RefusedError, match=r"ZENDESK_BASE_URL.*REQUESTS_CA_BUNDLE"):
                first_page(client)
        assert [len(front.refused.get(timeout=10)) > 0 for _ in range(2)] == [True] * 2
    assert front.connections == 2
    assert (bytes(front.received), zendesk.control.requests()) == (b"", [])


def test_only_public_authorities_are_trusted_by_default(
    zendesk: SimulatedZendesk, folder: Path, ours: Identity
) -> None:
    """Without REQUESTS_CA_BUNDLE the same host is refused, and the error names that variable."""
    with (
        tls_front(zendesk.url, certificates.server(folder, ours).path) as front,
        pytest.raises(RefusedError, match="REQUESTS_CA_BUNDLE"),
    ):
        first_page(_client(front))
    assert bytes(front.received) == b""


@pytest.mark.parametrize("value", ["", "0", "false", "none"])
def test_no_variable_switches_the_check_off(
    zendesk: SimulatedZendesk, folder: Path, ours: Identity, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the variables say that one finds for this in forums, the host is told nothing."""
    for name in (*TRUST, "PYTHONHTTPSVERIFY", "SSL_VERIFY", "VERIFY_SSL", "ZENDESK_VERIFY", "REQUESTS_VERIFY"):
        monkeypatch.setenv(name, value)
    with (
        tls_front(zendesk.url, certificates.server(folder, ours).path) as front,
        pytest.raises((RefusedError, SettingsError), match="REQUESTS_CA_BUNDLE"),
    ):
        first_page(_client(front))
    assert bytes(front.received) == b""


def test_a_missing_bundle_is_named(zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Certificates that are not where REQUESTS_CA_BUNDLE says, or are none, are an error that names the variable."""
    scrap = tmp_path / "scrap.pem"
    scrap.write_text("no certificate")
    for path in (tmp_path / "missing.pem", scrap):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
        with pytest.raises((RefusedError, SettingsError), match="REQUESTS_CA_BUNDLE"):
            first_page(client_for(zendesk.url.replace("http:", "https:"), Clock(sleep=lambda _: None)))


def test_the_code_never_asks_for_less() -> None:
    """No module of the pipeline says `verify`, `cert_reqs` or `check_hostname`, or touches a TLS context.

    But for the address of an alert, which may say `verify=no` to Apprise, and so to the one request beside Apprise.
    """
    words = {"verify", "cert_reqs", "check_hostname", "CERT_NONE", "_create_unverified_context", "use_ssl"}
    found = [
        f"{path.name}: {name}"
        for path in Path(zendesk_pipeline.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (getattr(node, "arg", None), getattr(node, "attr", None), getattr(node, "id", None))
        if name in words
    ]
    assert found == ["services.py: verify"]


def test_a_collection_over_tls_is_exact(
    zendesk: SimulatedZendesk, moto: LocalS3, folder: Path, ours: Identity, layout: Layout
) -> None:
    """A whole run against a host with a certificate of our authority: every record once, nothing refused."""
    trusted = certificates.bundle(folder, [ours])
    with tls_front(zendesk.url, certificates.server(folder, ours).path) as front:
        environment = {
            **zendesk.environment,
            **moto.environment,
            "ZENDESK_BASE_URL": f"https://localhost:{front.port}",
            "REQUESTS_CA_BUNDLE": str(trusted),
            "S3_PREFIX": layout.feed,
            "STATE_PREFIX": layout.state,
            "QUARANTINE_PREFIX": layout.quarantine,
            "START_DATE": SINCE,
        }
        assert collect(Collection(stream="audit_logs", span=hours(2), environment=environment)) == 0
    verdict = reconcile(zendesk.control, moto, layout, "audit_logs", hours(2))
    assert verdict.exact, verdict
    assert (verdict.source > 0, front.refused.empty()) == (True, True)
