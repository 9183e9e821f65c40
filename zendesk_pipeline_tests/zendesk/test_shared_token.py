"""The shared pair of OAuth tokens: real processes, a Zendesk that rotates, and moto's Secrets Manager.

Whatever happens to a process, the next one gets in. The one exception is said in a sentence.
"""

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError, RefusedError, SecretStoreError, SettingsError, TransientError
from zendesk_pipeline.settings.secret_references import Reference, reference
from zendesk_pipeline.zendesk.shared_token import (
    ACCESS_SECONDS,
    REFRESH_SECONDS,
    STORE_SECONDS,
    SharedToken,
    shared_token,
)
from zendesk_pipeline.zendesk.token_pair_store import CLAIM, NEXT, claim_id, next_id
from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline_tests.asking import NOW, client_for, first_page
from zendesk_pipeline_tests.by_hand import hours
from zendesk_pipeline_tests.conftest import SINCE, FakeClock
from zendesk_pipeline_tests.fakes.aws_secrets import as_text, aws, environment_of, new_secret
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering, tickets_page
from zendesk_pipeline_tests.fakes.secrets_proxy import AwsRequest, Fate, SecretsProxy, secrets_proxy
from zendesk_pipeline_tests.promise.collector_process import KILLED, Collection, collect, collecting
from zendesk_pipeline_tests.runs import QUIET, description, project

pytestmark = QUIET

FIRST_PAIR: dict[str, Any] = {"access_token": "none-yet", "refresh_token": REFRESH_TOKEN, "expires_in": 1800}
HALF_A_DAY = ACCESS_SECONDS + 1.0
CLAIMS_END = 3600.0
"""Every claim has ended so long after it was made."""


@pytest.fixture(scope="module")
def proxies(moto: LocalS3) -> Iterator[SecretsProxy]:
    with secrets_proxy(moto.endpoint) as running:
        yield running


@pytest.fixture
def proxy(proxies: SecretsProxy) -> SecretsProxy:
    """What stands between the collector and Secrets Manager."""
    proxies.reset()
    return proxies


class Account:
    """A pair in a secret, and whoever uses it."""

    def __init__(self, zendesk: SimulatedZendesk, moto: LocalS3, proxy: SecretsProxy, layout: Layout) -> None:
        self.zendesk, self.moto, self.proxy = zendesk, moto, proxy
        self.name = new_secret(moto.endpoint, FIRST_PAIR)
        self.environment = {
            **moto.environment,
            **environment_of(proxy.endpoint),
            "ZENDESK_BASE_URL": zendesk.url,
            "AUTH_MODE": "oauth_refresh",
            "ZENDESK_CLIENT_ID": CLIENT_ID,
            "ZENDESK_CLIENT_SECRET": CLIENT_SECRET,
            "ZENDESK_TOKEN_PAIR": f"aws-sm:{self.name}",
            "S3_PREFIX": layout.feed,
            "STATE_PREFIX": layout.state,
            "QUARANTINE_PREFIX": layout.quarantine,
            "START_DATE": SINCE,
            "ZENDESK_EXPORT_RATE": "100000",
        }

    @property
    def reference(self) -> Reference:
        found = reference("ZENDESK_TOKEN_PAIR", f"aws-sm:{self.name}")
        assert found
        return found

    def collection(self, stream: str = "audit_logs", **others: str) -> Collection:
        return Collection(stream=stream, span=hours(1), environment={**self.environment, **others})

    def versions(self) -> dict[str, tuple[str, ...]]:
        """The labels of each version that has any."""
        listed = self._secrets().list_secret_version_ids(SecretId=self.name)["Versions"]
        return {each["VersionId"]: tuple(sorted(each["VersionStages"])) for each in listed}

    def current(self) -> tuple[str, dict[str, Any]]:
        """The current version's id and what it holds."""
        held = self._secrets().get_secret_value(SecretId=self.name, VersionStage="AWSCURRENT")
        return held["VersionId"], json.loads(held["SecretString"])

    def put(self, text: Any) -> None:
        """A pair as a person puts one there."""
        self._secrets().put_secret_value(SecretId=self.name, SecretString=as_text(text))

    def grants(self) -> list[int | None]:
        """How Zendesk answered each request for tokens."""
        return [seen.status for seen in self.zendesk.control.requests() if seen.path == "/oauth/tokens"]

    def _secrets(self) -> Any:
        return aws("secretsmanager", self.moto.endpoint)


@pytest.fixture
def account(zendesk: SimulatedZendesk, moto: LocalS3, proxy: SecretsProxy, layout: Layout) -> Account:
    return Account(zendesk, moto, proxy, layout)


@pytest.fixture
def token(account: Account, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SharedToken]:
    """Makes the credential of one process, in this one; its clock moves by sleeping alone."""
    for name, value in environment_of(account.proxy.endpoint).items():
        monkeypatch.setenv(name, value)

    def make(url: str = "", clock: Clock | None = None) -> SharedToken:
        transport = Transport(base_url=url or account.zendesk.url, timeout=5, clock=clock or FakeClock(NOW).clock)
        return shared_token(account.reference, transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)

    return make


def read(account: Account, credential: SharedToken) -> None:
    """One page of Zendesk's."""
    assert first_page(client_for(account.zendesk.url, FakeClock(NOW).clock, credential=credential, retries=0)).records


# One process


def test_a_run_gets_in_and_leaves_the_new_pair_for_the_next(account: Account) -> None:
    """The first run replaces the pair it was given; the second one uses what is stored and asks for nothing."""
    assert collect(account.collection()) == 0
    version, pair = account.current()
    assert pair["refresh_token"] != REFRESH_TOKEN
    assert pair["expires_in"] == ACCESS_SECONDS
    assert collect(account.collection("incremental_tickets")) == 0
    assert account.current() == (version, pair)
    assert account.grants() == [201]


def test_what_is_asked_for(account: Account, token: Callable[..., SharedToken]) -> None:
    """A refresh sends the stored token and asks for long lives; the answer's token signs the page."""
    grant = {"access_token": "a-1", "refresh_token": "r-1", "expires_in": ACCESS_SECONDS}
    account.proxy.later = HALF_A_DAY
    with answering(Reply(json.dumps(grant).encode(), 201), Reply(tickets_page())) as server:
        first_page(client_for(server.url, FakeClock(NOW).clock, credential=token(server.url)))
    request, page = server.received
    assert json.loads(request.body) == {
        "grant_type": "refresh_token",
        "refresh_token": REFRESH_TOKEN,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "expires_in": 43_200,
        "refresh_token_expires_in": REFRESH_SECONDS,
    }
    assert page.headers["authorization"] == "Bearer a-1"
    assert account.current()[1] == grant


@pytest.mark.parametrize(
    ("later", "grants"),
    [pytest.param(ACCESS_SECONDS - 70.0, 0, id="in-time"), pytest.param(ACCESS_SECONDS - 50.0, 1, id="near-its-end")],
)
def test_a_token_near_its_end_is_replaced_in_time(
    later: float, grants: int, account: Account, token: Callable[..., SharedToken]
) -> None:
    """A minute before its end by Secrets Manager's clock, and without a 401; the clock of this machine is not asked."""
    read(account, token())
    account.zendesk.control.forget_requests()
    account.proxy.later = later
    read(account, token(clock=FakeClock(0).clock))
    assert account.grants() == [201] * grants
    assert "401" not in account.zendesk.control.counts().status


def test_a_long_walk_replaces_the_pair_by_itself(account: Account, token: Callable[..., SharedToken]) -> None:
    """A process that outlives its token gets the next one, by its own clock's count of seconds."""
    fake = FakeClock(NOW)
    credential = token(clock=fake.clock)
    read(account, credential)
    fake.time += HALF_A_DAY
    account.proxy.later = HALF_A_DAY
    read(account, credential)
    assert account.grants() == [201, 201]


def test_a_token_that_ends_early_is_replaced_once(account: Account, token: Callable[..., SharedToken]) -> None:
    """A 401 on a token that is not at its end leads to one refresh."""
    credential = token()
    read(account, credential)
    account.zendesk.control.add_faults(Rule(path="incremental", kind="expire_token"))
    read(account, credential)
    assert account.grants() == [201, 201]


def test_a_pair_that_another_process_has_replaced_is_taken_over(
    account: Account, token: Callable[..., SharedToken]
) -> None:
    """The refresh of one ends the other's token at once: after its 401 the other reads the store, and asks nothing."""
    one, other = token(), token()
    read(account, one)
    read(account, other)
    account.proxy.later = HALF_A_DAY
    read(account, token())
    read(account, other)
    read(account, one)
    assert account.grants() == [201, 201]


def test_many_refreshes_one_after_the_other(account: Account, token: Callable[..., SharedToken]) -> None:
    """Each replaces the pair before it; one version is current, and old ones lose their labels."""
    for number in range(5):
        account.proxy.later = number * HALF_A_DAY
        read(account, token())
    labels = [label for stages in account.versions().values() for label in stages]
    assert account.grants() == [201] * 5
    assert sorted(labels) == ["AWSCURRENT", "AWSPREVIOUS", CLAIM, NEXT]


def test_a_refresh_answer_without_a_refresh_token_keeps_the_old_one(
    account: Account, token: Callable[..., SharedToken]
) -> None:
    """Nothing that may still work is thrown away."""
    account.proxy.later = HALF_A_DAY
    with answering(Reply(b'{"access_token":"a-1"}', 201), Reply(tickets_page())) as server:
        first_page(client_for(server.url, FakeClock(NOW).clock, credential=token(server.url)))
    assert account.current()[1] == {"access_token": "a-1", "refresh_token": REFRESH_TOKEN, "expires_in": 1800}


# Two at once


@pytest.mark.parametrize("turn", range(4))
def test_two_processes_at_the_same_moment_refresh_once(account: Account, turn: int) -> None:
    """Both find the pair at its end, one replaces it, both deliver; Zendesk sees one refresh and refuses none."""
    account.zendesk.control.set(latency_ms=20 * turn)
    account.proxy.later = HALF_A_DAY if turn % 2 else 0
    with ExitStack() as running:
        streams = ("audit_logs", "incremental_tickets")
        processes = [running.enter_context(collecting(account.collection(stream))) for stream in streams]
        for process in processes:
            process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert account.grants() == [201]


def test_many_threads_at_the_same_moment_refresh_once(account: Account, token: Callable[..., SharedToken]) -> None:
    """However many find the same pair at its end: one refresh, and everybody has the same new token."""
    together = threading.Barrier(8)
    credentials = [token(clock=Clock(sleep=lambda _: time.sleep(0.01))) for _ in range(together.parties)]

    def sign(credential: SharedToken) -> str:
        credential._refused = FIRST_PAIR["access_token"]
        together.wait()
        return credential(requests.Request("GET", account.zendesk.url).prepare()).headers["Authorization"]

    with ThreadPoolExecutor(together.parties) as pool:
        signed = set(pool.map(sign, credentials))
    assert signed == {f"Bearer {account.current()[1]['access_token']}"}
    assert account.grants() == [201]


def test_another_ones_claim_is_waited_for(account: Account, token: Callable[..., SharedToken]) -> None:
    """Who finds a refresh under way asks nothing of Zendesk, and uses what the other has stored."""
    version, _ = account.current()
    secrets = aws("secretsmanager", account.moto.endpoint)
    secrets.put_secret_value(
        SecretId=account.name,
        ClientRequestToken=claim_id(version, 0),
        SecretString='{"claimed_by":"another"}',
        VersionStages=[CLAIM],
    )
    theirs = _grant(account)
    fake = FakeClock(NOW)

    def store(_: AwsRequest) -> None:
        if len(fake.slept) == 3:
            secrets.put_secret_value(
                SecretId=account.name,
                ClientRequestToken=next_id(version),
                SecretString=json.dumps(theirs),
                VersionStages=[NEXT],
            )

    account.proxy.after = store
    account.zendesk.control.forget_requests()
    credential = token(clock=fake.clock)
    credential._refused = FIRST_PAIR["access_token"]
    read(account, credential)
    assert account.grants() == []
    assert len(fake.slept) == 3
    assert account.current() == (next_id(version), theirs)


def _grant(account: Account, spent: str = REFRESH_TOKEN) -> dict[str, Any]:
    asked = {"grant_type": "refresh_token", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "expires_in": 7200}
    answer = requests.post(
        f"{account.zendesk.url}/oauth/tokens", json={**asked, "refresh_token": spent}, timeout=10
    ).json()
    return {name: answer[name] for name in ("access_token", "refresh_token", "expires_in")}


# Killed


def _steps() -> list[AwsRequest]:
    """The requests of the first run in their order, as `test_the_steps_are_as_listed` holds them to be."""
    get, put, move = "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"
    first = [(get, ("AWSCURRENT",)), (get, ())]  # the current pair; whether it has a next one
    claim = [(get, ()), (put, (CLAIM,))]
    replace = [(put, (NEXT,)), (move, ("AWSCURRENT",))]
    listed = [*first, *first, *claim, *replace]  # twice the first, because Zendesk refuses the first token
    return [AwsRequest(action=action, labels=labels, number=at) for at, (action, labels) in enumerate(listed, 1)]


STEPS = _steps()
STORING = next(step.number for step in STEPS if step.labels == (NEXT,))


def test_the_steps_are_as_listed(account: Account) -> None:
    """The crashes below are at every request to Secrets Manager that a refresh makes."""
    assert collect(account.collection()) == 0
    assert account.proxy.seen == STEPS


@pytest.mark.parametrize(("number", "moment"), list(itertools.product(range(1, len(STEPS) + 1), ("before", "after"))))
def test_killed_at_any_step_the_next_run_gets_in_or_says_what_to_do(
    account: Account, number: int, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 before or after each request: the next run delivers, but where an answer of Zendesk's was not stored."""
    with collecting(account.collection()) as process:

        def before(request: AwsRequest) -> Fate:
            if (request.number, moment) == (number, "before"):
                process.kill()
                return "lose_request"
            return "pass"

        def after(request: AwsRequest) -> None:
            if (request.number, moment) == (number, "after"):
                process.kill()
                process.join()

        account.proxy.decide, account.proxy.after = before, after
        process.join(60)
    assert process.exitcode in KILLED

    account.proxy.reset()
    account.proxy.later = CLAIMS_END
    lost = (number, moment) == (STORING, "before")
    assert account.grants().count(201) == (1 if lost or number >= STORING else 0)
    if not lost:
        assert collect(account.collection()) == 0
        return
    with project({**account.environment, "AWS_ENDPOINT_URL_S3": account.moto.endpoint}, monkeypatch) as running:
        said = description(running.run("audit_logs", hours(1)))
    assert re.search(r"Run `\S*zendesk-pipeline authorize` once", said)
    assert f"aws-sm:{account.name}" in said
    account.put(_authorized(account))
    assert collect(account.collection()) == 0


def _authorized(account: Account) -> dict[str, Any]:
    """A pair as `authorize` gets one."""
    asked = {"response_type": "code", "client_id": CLIENT_ID, "redirect_uri": "http://localhost", "scope": "read"}
    allowed = requests.get(
        f"{account.zendesk.url}/oauth/authorizations/new", params=asked, allow_redirects=False, timeout=10
    )
    code = allowed.headers["location"].partition("code=")[2].partition("&")[0]
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://localhost"}
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "expires_in": 7200}
    answer = requests.post(f"{account.zendesk.url}/oauth/tokens", json={**body, **client}, timeout=10).json()
    return {name: answer[name] for name in ("access_token", "refresh_token", "expires_in")}


def test_a_claim_of_the_dead_holds_nobody_for_ever(account: Account, token: Callable[..., SharedToken]) -> None:
    """It is waited for until its end, and then the next process has its turn."""
    version, _ = account.current()
    aws("secretsmanager", account.moto.endpoint).put_secret_value(
        SecretId=account.name,
        ClientRequestToken=claim_id(version, 0),
        SecretString='{"claimed_by":"the dead"}',
        VersionStages=[CLAIM],
    )
    fake, ends_after = FakeClock(NOW), 2 * 370 + STORE_SECONDS
    account.proxy.later = ends_after - 100
    moving = Clock(now=fake.clock.now, monotonic=fake.clock.monotonic, sleep=_moving(fake, account.proxy))
    read(account, token(clock=moving))
    assert account.grants() == [201]
    assert 60 <= fake.time - NOW <= 110


def _moving(fake: FakeClock, proxy: SecretsProxy) -> Callable[[float], None]:
    """Sleeping that moves Secrets Manager's clock as well."""

    def sleep(seconds: float) -> None:
        fake.clock.sleep(seconds)
        proxy.later += seconds

    return sleep


CANCELLED = """
import sys, time
from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.zendesk.prefetch import prefetched
from zendesk_pipeline.settings.secret_references import reference
from zendesk_pipeline.zendesk.shared_token import shared_token
from requests import Request

transport = Transport(base_url=sys.argv[1], timeout=5, clock=Clock())
client = {"client_id": sys.argv[3], "client_secret": sys.argv[4]}
token = shared_token(reference("ZENDESK_TOKEN_PAIR", sys.argv[2]), transport, **client)
token._refused = "none-yet"

def pages():
    print("reading", flush=True)
    yield token(Request("GET", sys.argv[1]).prepare())

for _ in prefetched(pages()):
    print("read", flush=True)
"""


def test_a_run_that_is_cancelled_stores_what_it_was_given(account: Account, tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM once Zendesk is asked ends the process when the pair is stored; before, nothing is spent."""
    account.zendesk.control.set(latency_ms=1500)
    arguments = [account.zendesk.url, f"aws-sm:{account.name}", CLIENT_ID, CLIENT_SECRET]
    environment = {**environment_of(account.proxy.endpoint), "HOME": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", CANCELLED, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:

        def after(request: AwsRequest) -> None:
            if request.labels == (CLAIM,):
                process.send_signal(2)

        account.proxy.after = after
        output, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert output == "reading\n"
    spent = account.grants()
    assert spent in ([], [201])
    assert (account.current()[1]["refresh_token"] != REFRESH_TOKEN) is bool(spent)
    account.zendesk.control.set(latency_ms=0)
    if spent:  # else the claim has to end first
        assert collect(account.collection()) == 0
        assert account.grants() == [201]


# Lost answers, and a store that fails


@pytest.mark.parametrize("kind", ["reset", "reset_mid_body", "truncate"])
def test_a_lost_answer_of_zendesk_is_said_with_its_remedy(account: Account, kind: Any) -> None:
    """The old refresh token is spent and nobody has the new one: the run that asks again is told so, and what to do."""
    account.zendesk.control.add_faults(Rule(path="oauth/tokens", kind=kind))
    assert collect(account.collection()) == 1
    assert [status for status in account.grants() if status == 400]
    assert account.current()[1] == FIRST_PAIR
    account.put(_authorized(account))
    assert collect(account.collection()) == 0


@pytest.mark.parametrize("code", [500, 503, 429])
def test_a_fault_before_zendesk_has_done_anything_is_tried_again(account: Account, code: int) -> None:
    """The same token is shown again under the same claim, and the run delivers."""
    account.zendesk.control.add_faults(Rule(path="oauth/tokens", kind="status", code=code, times=2))
    assert collect(account.collection()) == 0
    assert account.grants() == [code, code, 201]
    claims = [request for request in account.proxy.seen if request.labels == (CLAIM,)]
    assert len(claims) == 1


def _fails_at(label: str, fate: Fate, times: int) -> Callable[[AwsRequest], Fate]:
    left = [times]

    def decide(request: AwsRequest) -> Fate:
        if request.action == "PutSecretValue" and request.labels == (label,) and left[0]:
            left[0] -= 1
            return fate
        return "pass"

    return decide


@pytest.mark.parametrize("fate", ["lose_request", "lose_answer", "InternalServiceError", "AccessDeniedException"])
def test_storing_is_tried_again_until_it_is_done(
    fate: str, account: Account, token: Callable[..., SharedToken]
) -> None:
    """A new pair is not given up because the store fails for a while, whatever it says; a lost answer stores once."""
    account.proxy.decide = _fails_at(NEXT, fate, 12)
    read(account, token())
    assert account.grants() == [201]
    assert account.current()[1]["refresh_token"] != REFRESH_TOKEN


def test_a_store_that_fails_for_too_long_is_said_with_its_remedy(
    account: Account, token: Callable[..., SharedToken]
) -> None:
    """After five minutes of trying the pair is given up, in a sentence with the reason and the remedy."""
    account.proxy.decide = _fails_at(NEXT, "AccessDeniedException", 10_000)
    fake = FakeClock(NOW)
    with pytest.raises(SecretStoreError, match=r"could not be stored.*PutSecretValue.*zendesk-pipeline authorize"):
        read(account, token(clock=fake.clock))
    assert STORE_SECONDS <= fake.time - NOW <= STORE_SECONDS + 5


def test_a_store_that_cannot_be_written_is_noticed_before_the_old_pair_is_spent(
    account: Account, token: Callable[..., SharedToken]
) -> None:
    """The claim needs the same right as the pair: without it Zendesk is not asked, and the old pair goes on working."""
    account.proxy.decide = _fails_at(CLAIM, "AccessDeniedException", 100)
    with pytest.raises(SettingsError, match="secretsmanager:PutSecretValue"):
        read(account, token())
    assert account.grants() == []


def test_a_late_process_does_not_undo_a_new_authorization(account: Account, token: Callable[..., SharedToken]) -> None:
    """A pair that was refreshed from one that is no longer current is kept, and does not become current."""
    mine = _authorized(account)

    def authorize(request: AwsRequest) -> None:
        if request.labels == (CLAIM,):
            account.put(mine)

    account.proxy.after = authorize
    read(account, token())
    assert account.current()[1] == mine


# What lacks or is wrong


@pytest.mark.parametrize(
    ("reply", "says", "kind"),
    [
        pytest.param(Reply(b'{"error":"invalid_client"}', 401), "ZENDESK_CLIENT_SECRET", RefusedError, id="client"),
        pytest.param(Reply(b'{"error":"invalid_grant"}', 400), "zendesk-pipeline authorize", RefusedError, id="grant"),
        pytest.param(Reply(b'{"error":"invalid_grant"}', 401), "zendesk-pipeline authorize", RefusedError, id="401"),
        pytest.param(Reply(b"<html>", 404), "ZENDESK_BASE_URL", RefusedError, id="404"),
        pytest.param(Reply(b'{"access_token":"a\\nb"}', 201), "without an access token", TransientError, id="broken"),
    ],
)
def test_a_refused_refresh_says_what_to_look_at(
    reply: Reply, says: str, kind: type[PipelineError], account: Account, token: Callable[..., SharedToken]
) -> None:
    """A client that is unknown and a token that is spent are different things to mend."""
    account.proxy.later = HALF_A_DAY
    with answering(reply) as server, pytest.raises(kind, match=says) as raised:
        first_page(client_for(server.url, FakeClock(NOW).clock, credential=token(server.url), retries=0))
    assert not [each for each in (REFRESH_TOKEN, CLIENT_SECRET) if each in repr(raised.value)]


@pytest.mark.parametrize("text", ["Sesame-4711", '{"access_token":"Sesame-4711"}', '["Sesame-4711"]', '"\\ud800"'])
def test_a_secret_without_a_pair_is_said_without_showing_it(
    text: str, account: Account, token: Callable[..., SharedToken]
) -> None:
    """An API token that somebody has put there, half a pair, no JSON."""
    account.put(text)
    with pytest.raises(SettingsError, match=r"does not hold a pair of tokens.*authorize") as raised:
        read(account, token())
    assert "Sesame" not in repr(raised.value)


@pytest.mark.parametrize("value", ["aws-sm:name#key", "aws-ssm:/name", "r-4711", "aws-sm:two names"])
def test_a_pair_has_to_lie_in_secrets_manager(value: str, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a field, in Parameter Store, which has no conditional writes, or in the variable itself."""
    with project({**account.environment, "ZENDESK_TOKEN_PAIR": value}, monkeypatch) as running:
        said = description(running.run("audit_logs", hours(1)))
    assert "ZENDESK_TOKEN_PAIR" in said
    assert value not in said


def test_a_credential_does_not_show_its_tokens(account: Account, token: Callable[..., SharedToken]) -> None:
    """Neither before nor after it has signed something."""
    credential = token()
    read(account, credential)
    pair = account.current()[1]
    shown = repr(credential) + str(credential) + repr(vars(credential)["_store"]) + credential.remedy
    assert not [each for each in (pair["access_token"], pair["refresh_token"]) if each in shown]
