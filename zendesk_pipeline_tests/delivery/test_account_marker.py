"""Whose records the prefixes hold: noted once, and another account is refused before anything is read or written."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from click.testing import CliRunner

from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery import account_marker
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.errors import DeliveryError, SettingsError
from zendesk_pipeline.orchestration.run_history import stays
from zendesk_pipeline.settings.addresses import wire_host
from zendesk_pipeline.settings.environment import checked_base_url
from zendesk_pipeline_tests.by_hand import audit_logs, hours
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, said, verdict_of
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, Fate, S3Proxy, S3Request, s3_proxy
from zendesk_pipeline_tests.runs import QUIET, description, project

pytestmark = QUIET
HERE, ELSEWHERE = "127.0.0.1", "localhost"
"""Two names of the simulated Zendesk, which are two accounts to whoever goes by the host."""
RANGE = ("--from", "2026-11-12T05:00Z", "--to", "2026-11-12T07:00Z")


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


@pytest.fixture
def proxy(s3: LocalS3) -> Iterator[S3Proxy]:
    with s3_proxy(s3.endpoint) as running:
        yield running


@pytest.fixture
def settings(environment: dict[str, str], proxy: S3Proxy) -> dict[str, str]:
    """Those of the account, S3 by the proxy."""
    return {**environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint}


@pytest.fixture
def other(settings: dict[str, str]) -> dict[str, str]:
    """The settings of another account that were given the same prefixes."""
    return {**settings, "ZENDESK_BASE_URL": settings["ZENDESK_BASE_URL"].replace(HERE, ELSEWHERE)}


def _collect(environment: dict[str, str], stream: str = "audit_logs") -> tuple[bool, str, list[str]]:
    """One run over two windows: whether it succeeded, what it failed of, and its warnings."""
    with pytest.MonkeyPatch.context() as patch, project(environment, patch) as made:
        done = made.run(stream, hours(2))
        logged = made.instance.all_logs(done.run_id)
        warned = [entry.user_message for entry in logged if entry.level == logging.WARNING]
        run = made.instance.get_run_by_id(done.run_id)
        assert run is not None
        assert stays(run) is not done.success
        return done.success, "" if done.success else description(done), warned


def _marker(bucket: Bucket) -> str:
    return json.loads(bucket.body(bucket.layout.account))["account"]


def _everything(bucket: Bucket) -> dict[str, bytes]:
    return {key: bucket.body(key) for key in bucket.stored(bucket.layout.feed.removesuffix("crm/"))}


def test_the_first_run_says_whose_the_prefixes_are(settings: dict[str, str], bucket: Bucket, proxy: S3Proxy) -> None:
    """It writes the host, on condition that nobody has; each later run costs one request for it, of either stream."""
    assert _collect(settings)[0]
    assert _marker(bucket) == HERE
    asked = [
        (seen.method, seen.headers.get("if-none-match")) for seen in proxy.seen if seen.key == bucket.layout.account
    ]
    assert asked == [("GET", None), ("PUT", "*")]
    for stream in ("audit_logs", "incremental_tickets"):
        proxy.reset()
        assert _collect(settings, stream)[0]
        assert [seen.method for seen in proxy.seen if seen.key == bucket.layout.account] == ["GET"]


@pytest.mark.parametrize("stream", ["audit_logs", "incremental_tickets"])
def test_another_account_is_refused(
    settings: dict[str, str], other: dict[str, str], bucket: Bucket, zendesk: SimulatedZendesk, stream: str
) -> None:
    """Before Zendesk is asked or anything is written, with both hosts and the settings that keep them apart."""
    _collect(settings, stream)
    before = _everything(bucket)
    zendesk.control.forget_requests()
    done, why, _ = _collect(other, stream)
    assert not done
    assert f"leads to {ELSEWHERE}, and these prefixes hold records of {HERE}" in why
    assert all(name in why for name in ("S3_PREFIX", "STATE_PREFIX", "QUARANTINE_PREFIX", bucket.layout.account))
    assert zendesk.control.requests() == []
    assert _everything(bucket) == before


@pytest.mark.parametrize("stream", ["audit_logs", "incremental_tickets"])
def test_a_run_that_zendesk_does_not_answer_claims_nothing(
    settings: dict[str, str], other: dict[str, str], bucket: Bucket, stream: str
) -> None:
    """An address that was mistyped at first does not keep the right one out."""
    assert not _collect({**other, "ZENDESK_API_TOKEN": "wrong"}, stream)[0]
    assert bucket.stored(bucket.layout.state) == []
    assert _collect(settings, stream)[0]
    assert _marker(bucket) == HERE


def test_prefixes_of_earlier_releases_get_their_marker(settings: dict[str, str], bucket: Bucket) -> None:
    """Ledgers without a marker are the account's that comes first; nothing is said about it."""
    Deliveries(bucket=bucket).records(hours(2), audit_logs(hours(2)))
    done, _, warned = _collect(settings)
    assert (done, warned) == (True, [])
    assert _marker(bucket) == HERE


def test_an_account_with_a_new_address_goes_on_when_the_marker_is_deleted(
    settings: dict[str, str], other: dict[str, str], bucket: Bucket
) -> None:
    """As the refusal says: then the next run writes it anew, and repeats nothing."""
    _collect(settings)
    before = bucket.lines()
    bucket.delete([bucket.layout.account])
    assert _collect(other)[0]
    assert _marker(bucket) == ELSEWHERE
    assert bucket.lines() == before


def test_without_the_right_to_list_the_marker_is_written_all_the_same(
    settings: dict[str, str], bucket: Bucket, proxy: S3Proxy
) -> None:
    """S3 then says 403 of what is not there; where it is there and may not be read, that is an error."""

    def hides(request: S3Request) -> Fate:
        return Answer(status=403, code="AccessDenied") if (request.method, request.key) == denied else "pass"

    denied = ("GET", bucket.layout.account)
    proxy.decide = hides
    assert _collect(settings)[0]
    assert _marker(bucket) == HERE
    done, why, _ = _collect(settings)
    assert not done
    assert "s3:GetObject" in why


def test_of_two_first_runs_of_two_accounts_one_is_refused(bucket: Bucket, proxy: S3Proxy, s3: LocalS3) -> None:
    """Whoever comes second by a moment reads what the other wrote meanwhile."""
    through = replace(bucket.store, client=replace(s3, endpoint=proxy.endpoint).client())
    writes = iter([account_marker.encode("first.zendesk.com")])

    def meanwhile(request: S3Request) -> Fate:
        if request.method == "PUT" and (body := next(writes, None)):
            bucket.put(bucket.layout.account, body)
        return "pass"

    proxy.decide = meanwhile
    with pytest.raises(SettingsError, match=r"leads to second.zendesk.com, .* hold records of first.zendesk.com"):
        account_marker.claim(through, bucket.layout, "second.zendesk.com")
    account_marker.claim(through, bucket.layout, "first.zendesk.com")


@pytest.mark.parametrize("content", [b"", b"{}", b"no marker", b"[1]"])
def test_a_marker_that_cannot_be_read_is_an_error(bucket: Bucket, content: bytes) -> None:
    """It says what to do; which account it was is not guessed."""
    bucket.put(bucket.layout.account, content)
    with pytest.raises(DeliveryError, match=r"account\.json.* cannot be read .*Delete it"):
        account_marker.claim(bucket.store, bucket.layout, HERE)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Acme.Zendesk.com", "acme.zendesk.com"),
        ("http://127.0.0.1:8000", "127.0.0.1"),
        ("https://Hilfe.Müller.de", "hilfe.xn--mller-kva.de"),
        ("", ""),
    ],
)
def test_accounts_are_told_apart_by_their_hosts(url: str, host: str) -> None:
    """However it is written, and whatever the port is."""
    assert wire_host(url) == host


def test_an_address_with_an_umlaut_can_be_delivered_from(bucket: Bucket) -> None:
    """S3 takes ASCII alone beside an object: the host is written as it is asked, in marker and batches alike."""
    host = wire_host(checked_base_url("https://hilfe.müller.de"))
    account_marker.claim(bucket.store, bucket.layout, host)
    Deliveries(bucket=bucket, account=host).records(hours(2), audit_logs(hours(2)))
    noted = {stored.notes["account"] for key in bucket.stored() if (stored := bucket.store.get(key))}
    assert noted == {_marker(bucket)} == {"hilfe.xn--mller-kva.de"}


@pytest.mark.parametrize("arguments", [["verify", *RANGE], ["takeover"], ["takeover", "--yes"]])
def test_commands_refuse_another_account(
    settings: dict[str, str],
    other: dict[str, str],
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    """They would compare one account's ledgers with the other's records, or note them there; nothing is written."""
    _collect(settings)
    before = _everything(bucket)
    for name, value in other.items():
        monkeypatch.setenv(name, value)
    told = CliRunner().invoke(main, arguments)
    assert told.exit_code == (3 if arguments[0] == "verify" else 1)
    assert f"leads to {ELSEWHERE}, and these prefixes hold records of {HERE}" in told.output
    assert _everything(bucket) == before


@pytest.fixture
def make_context(
    zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> MakeContext:
    """Contexts with prefixes of the test's own."""
    prefixes = {"S3_PREFIX": layout.feed, "STATE_PREFIX": layout.state, "QUARANTINE_PREFIX": layout.quarantine}
    return context_maker(monkeypatch, zendesk.environment, s3.environment, prefixes)


def test_doctor_knows_whose_the_prefixes_are(make_context: MakeContext, bucket: Bucket) -> None:
    """Nobody's, this account's, another's, and markers that say nothing; it writes none."""
    told = [said(verdict_of(make_context(), "s3_account"))]
    assert bucket.stored(bucket.layout.state) == []
    for body in (account_marker.encode(HERE), account_marker.encode("sandbox.zendesk.com"), b"{}", b""):
        bucket.put(bucket.layout.account, body)
        told.append(said(verdict_of(make_context(), "s3_account")))
    assert told[0].startswith(f"ok: The prefixes are nobody's yet: the first run notes {HERE}.")
    assert told[1].startswith(f"ok: The prefixes hold records of {HERE} alone.")
    assert told[2].startswith(f"failed: ZENDESK_BASE_URL leads to {HERE}, and these prefixes hold records of sandbox.")
    for each in told[3:]:
        assert each.startswith("failed: ")
        assert "Delete it" in each


def test_doctor_reads_the_whole_marker(make_context: MakeContext, bucket: Bucket, proxy: S3Proxy) -> None:
    """A body that breaks off is read again; one that always does, or whose refusal does, is no fault of ours."""
    fates: list[Fate] = ["cut"]
    proxy.decide = lambda request: fates.pop() if fates and request.method == "GET" else "pass"
    bucket.put(bucket.layout.account, account_marker.encode(HERE))
    assert verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_account").status == "ok"
    proxy.decide = lambda _: "cut"
    for _ in ("there", "not there"):
        told = said(verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_account"))
        assert told.startswith("failed: S3 gave no answer to GetObject")
        bucket.delete([bucket.layout.account])


def test_what_doctor_may_not_see_is_no_fault(make_context: MakeContext, proxy: S3Proxy) -> None:
    """A writer that may not list hears 403 of a missing object; other refusals are faults."""
    proxy.decide = lambda _: Answer(status=403, code="AccessDenied")
    assert verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_account").status == "not visible"
    proxy.decide = lambda _: Answer(status=403, code="InvalidObjectState")
    assert "Restore it" in said(verdict_of(make_context(AWS_ENDPOINT_URL_S3=proxy.endpoint), "s3_account"))
