"""No secret and nothing of a record gets into logs, metadata, databases, errors or what is printed."""

import base64
import json
import os
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.errors import PipelineError, SettingsError
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import ApiToken, BearerToken, ClientCredentials
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline_tests.asking import client_for, first_page
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, hours, ticket
from zendesk_pipeline_tests.conftest import SINCE, FakeClock
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.aws_secrets import environment_of, new_secret
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering, tickets_page
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.promise.collector_process import Collection
from zendesk_pipeline_tests.promise.kept_runs import collect_and_keep, findings, home, traces
from zendesk_pipeline_tests.runs import QUIET, description, project

pytestmark = QUIET

ODD = "/+=&%?#'\"\\<>{}~"
"""What is spelt otherwise in an address, in JSON, in SQL or in base64."""
EMAIL = "ada@example.com"
SECRETS = {
    "ZENDESK_API_TOKEN": f"api{ODD}token-4711",
    "ZENDESK_BEARER_TOKEN": f"bearer{ODD}token-4711",
    "ZENDESK_CLIENT_SECRET": f"client{ODD}secret-4711",
    "AWS_SECRET_ACCESS_KEY": f"aws{ODD}secret-4711",
    "AWS_SESSION_TOKEN": "aws/+=session-token-4711",
}
GRANTED = f"granted{ODD}token-4711"
PROXY_PASSWORD = "proxy-password-4711"
ALERT_PASSWORD = "alert-password-4711"
MODES = {
    "token": {"ZENDESK_EMAIL": EMAIL, "ZENDESK_API_TOKEN": SECRETS["ZENDESK_API_TOKEN"]},
    "bearer": {"ZENDESK_BEARER_TOKEN": SECRETS["ZENDESK_BEARER_TOKEN"]},
    "oauth": {"ZENDESK_CLIENT_ID": "the-client", "ZENDESK_CLIENT_SECRET": SECRETS["ZENDESK_CLIENT_SECRET"]},
}
each_mode = pytest.mark.parametrize("mode", MODES)

GRANT = Reply(json.dumps({"access_token": GRANTED, "expires_in": 7200}).encode(), 201)
PAGE = Reply(tickets_page([ticket(1, FIRST.start).line]))
REFUSED = Reply(b'{"error":"invalid_token"}', 401)


def _spellings(secret: str) -> set[bytes]:
    """A secret as logs, addresses, JSON, SQL, headers and traces would have it."""
    plain = secret.encode()
    signed = f"{EMAIL}/token:{secret}".encode()
    texts = {quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    coded = {base64.b64encode(each) for each in (plain, signed)} | {base64.urlsafe_b64encode(plain)}
    return {plain, plain.hex().encode(), secret.replace("'", "''").encode(), *coded, *(text.encode() for text in texts)}


SPELLINGS = {
    name: _spellings(secret)
    for name, secret in {
        **SECRETS,
        "the granted token": GRANTED,
        "the proxy's password": PROXY_PASSWORD,
        "ALERT_URLS": ALERT_PASSWORD,
    }.items()
}


def _environment(url: str, s3: LocalS3, layout: Layout, mode: str) -> dict[str, str]:
    return {
        **s3.environment,
        **{name: SECRETS[name] for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")},
        **MODES[mode],
        "ALERT_URLS": f"json://ada:{ALERT_PASSWORD}@127.0.0.1:{lasting_port()}/",
        "ZENDESK_BASE_URL": url,
        "AUTH_MODE": mode,
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": SINCE,
        "ZENDESK_EXPORT_RATE": "100000",
        "HTTP_RETRIES": "1",
    }


def _answers(mode: str, *replies: Reply) -> list[Reply]:
    """The replies, each after a grant where the mode asks for one."""
    return [each for reply in replies for each in ([GRANT] if mode == "oauth" else []) + [reply]]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of these tests leave their traces, one after the other as on a real machine."""
    return home(tmp_path_factory.mktemp("kept") / "home")


# Secrets


@each_mode
def test_runs_leave_no_secret_behind(moto: LocalS3, layout: Layout, kept: Path, mode: str) -> None:
    """After a run that succeeds and one that is refused no file has a secret, though both were sent it."""
    run = Collection(stream="incremental_tickets", span=hours(1), environment={})
    with answering(*_answers(mode, PAGE)) as server, answering(*_answers(mode, REFUSED, REFUSED)) as refusing:
        environment = _environment(server.url, moto, layout, mode)
        assert collect_and_keep(replace(run, environment=environment), kept) == 0
        refused = {**environment, "ZENDESK_BASE_URL": refusing.url}
        assert collect_and_keep(replace(run, environment=refused), kept) == 1
        sent = [seen.headers.get("authorization", "") + seen.body.decode() for seen in server.received]

    secret = next(value for name, value in MODES[mode].items() if name in SECRETS)
    assert any(spelling.decode() in text for text in sent for spelling in _spellings(secret))
    assert b"the credential is not accepted" in b"".join(content for _, content in traces(kept))
    assert findings(kept, SPELLINGS) == []


@pytest.mark.parametrize("mode", [*MODES, "oauth_refresh"])
def test_what_is_behind_a_reference_is_not_left_behind(moto: LocalS3, layout: Layout, kept: Path, mode: str) -> None:
    """Secrets by reference, and the pair that replaces itself: after a run, a refused one and a lock-out, no trace."""
    pair = {"access_token": f"access{ODD}-4711", "refresh_token": f"refresh{ODD}-4711", "expires_in": -1}
    names = {name: new_secret(moto.endpoint, value) for name, value in MODES.get(mode, MODES["oauth"]).items()}
    environment = {
        **_environment("", moto, layout, mode if mode in MODES else "oauth"),
        **environment_of(moto.endpoint),
        **{name: f"aws-sm:{secret}" for name, secret in names.items()},
        "AUTH_MODE": mode,
        "ZENDESK_TOKEN_PAIR": f"aws-sm:{new_secret(moto.endpoint, pair)}",
    }
    run = Collection(stream="incremental_tickets", span=hours(1), environment={})
    granted = Reply(json.dumps({"access_token": GRANTED, "refresh_token": f"next{ODD}-4711"}).encode(), 201)
    ended = Reply(json.dumps({"error": "invalid_grant", "error_description": pair["refresh_token"]}).encode(), 400)
    asking = mode not in {"token", "bearer"}
    with (
        answering(*([granted] if asking else []), PAGE) as server,
        answering(REFUSED, *([ended] if asking else [REFUSED])) as refusing,
    ):
        assert collect_and_keep(replace(run, environment={**environment, "ZENDESK_BASE_URL": server.url}), kept) == 0
        assert collect_and_keep(replace(run, environment={**environment, "ZENDESK_BASE_URL": refusing.url}), kept) == 1
    pairs = {text: _spellings(text) for text in (f"access{ODD}-4711", f"refresh{ODD}-4711", f"next{ODD}-4711")}
    assert server.received
    assert refusing.received
    assert findings(kept, {**SPELLINGS, **pairs}) == []


def test_a_proxys_password_is_not_left_behind(moto: LocalS3, layout: Layout, kept: Path) -> None:
    """A run that reaches nobody says so without the address of the proxy it tried."""
    unreachable = {
        "ZENDESK_BASE_URL": f"https://localhost:{lasting_port()}",
        "HTTPS_PROXY": f"http://ada:{PROXY_PASSWORD}@127.0.0.1:{lasting_port()}",
    }
    environment = {**_environment("", moto, layout, "token"), **unreachable}
    run = Collection(stream="incremental_tickets", span=hours(1), environment=environment)
    assert collect_and_keep(run, kept) == 1
    assert b"gave no complete answer" in b"".join(content for _, content in traces(kept))
    assert findings(kept, SPELLINGS) == []


def test_what_is_looked_through_is_all_there_is(tmp_path: Path) -> None:
    """The search finds a secret in a file, and in the middle of a long value of a database, where files have gaps."""
    secret = SECRETS["ZENDESK_API_TOKEN"]
    with closing(sqlite3.connect(tmp_path / "some.db")) as database, database:
        database.execute("create table events (body text)")
        for length in range(4000, 4100):
            database.execute("insert into events values (?)", ["x" * length + secret + "y" * 10_000])
    (tmp_path / "some.log").write_text(f"GET /?q={quote_plus(secret)}")
    found = findings(tmp_path, {"a secret": _spellings(secret)})
    assert found.count("a secret in some.db: events") == 100
    assert "a secret in some.log" in found


def test_what_dagster_itself_runs_leaves_no_secret_behind(
    moto: LocalS3, layout: Layout, kept: Path, tmp_path: Path
) -> None:
    """`dagster asset materialize` as somebody types it: nothing of a secret in its databases, logs or output."""
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "zendesk_pipeline.definitions"]
    chosen = ["--select", "incremental_tickets", "--partition", FIRST.partition_key]
    with answering(*_answers("oauth", REFUSED, REFUSED)) as server:
        environment = {**_environment(server.url, moto, layout, "oauth"), "DAGSTER_HOME": str(kept), "HOME": os.devnull}
        done = subprocess.run([*command, *chosen], env=environment, cwd=tmp_path, capture_output=True, check=False)
    (kept / "typed.log").write_bytes(done.stdout + done.stderr)

    assert done.returncode == 1
    assert b"ZENDESK_CLIENT_SECRET" in done.stderr
    assert any("compute_logs" in name for name, _ in traces(kept))
    assert findings(kept, SPELLINGS) == []


@pytest.mark.parametrize(("mode", "name"), [(mode, name) for mode, held in MODES.items() for name in held])
def test_a_secret_that_was_copied_badly_is_not_repeated(
    mode: str, name: str, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line end after a token is what files and pipes leave: the error names the variable, and HTTP never sees it."""
    value = MODES[mode][name]
    with answering(PAGE) as server:
        made = {**_environment(server.url, moto, layout, mode), name: f"{value}\n"}
        with project(made, monkeypatch) as running:
            failed = running.run("incremental_tickets", hours(1))
        assert name in description(failed)
        assert [each for each in _spellings(value) if each.decode() in _all_text(failed)] == []
        for blemish in ("\r\nX-Header: x", "\x00", " ", "\t"):
            fields = {each.removeprefix("ZENDESK_").lower(): held for each, held in MODES[mode].items()}
            fields[name.removeprefix("ZENDESK_").lower()] += blemish
            resource = ZendeskResource(base_url=server.url, auth_mode=mode, **fields)  # pyright: ignore[reportArgumentType]  # all are str
            with pytest.raises(SettingsError, match=name) as raised:
                resource.client()
            assert [each for each in _spellings(value) if each.decode() in _shown(raised.value)] == []
    assert server.received == []


def _all_text(result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(f"{event.message} {event.event_specific_data!r}" for event in result.all_events)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("granted-4711\n", id="line-end"),
        pytest.param("granted-4711\r\nHost: evil.example", id="header-injection"),
        pytest.param("granted-4711-\N{SNOWMAN}", id="beyond-latin-1"),
        pytest.param("granted-4711 x", id="blank"),
        pytest.param("", id="nothing"),
        pytest.param("granted-4711\x00", id="nul"),
    ],
)
def test_a_token_that_no_header_can_hold_is_an_error_that_does_not_show_it(token: str) -> None:
    """No request is made with what the token endpoint granted, and nobody sees the library's error, which quotes it."""
    grant = Reply(json.dumps({"access_token": token, "expires_in": 7200}).encode(), 201)
    with answering(grant) as server, pytest.raises(PipelineError) as raised:
        first_page(_oauth_client(server))
    assert "without an access token" in str(raised.value)
    assert {seen.path for seen in server.received} == {"/oauth/tokens"}
    assert "granted" not in _shown(raised.value)


def _oauth_client(server: ScriptedServer) -> ZendeskClient:
    client = client_for(server.url, FakeClock(FIRST.end).clock)
    secrets = {"client_id": "the-client", "client_secret": SECRETS["ZENDESK_CLIENT_SECRET"]}
    client.credential = ClientCredentials(token_endpoint(client.transport, **secrets, scope="read"), client.clock)
    return client


def _shown(problem: BaseException) -> str:
    """All that any handler could make of an error, with what it came from and what that came from."""
    chain: list[BaseException] = []
    while problem not in chain:
        chain.append(problem)
        problem = problem.__cause__ or problem.__context__ or problem
    texts = [text for each in chain for text in (str(each), repr(each), repr(each.args))]
    return "\n".join([*texts, "".join(traceback.format_exception(chain[0], chain=True))])


@contextmanager
def _nobody() -> Generator[ScriptedServer]:
    yield ScriptedServer(f"http://127.0.0.1:{lasting_port()}")


PROBLEMS: dict[str, list[Reply] | None] = {
    **{str(status): [Reply(b'{"error":"x"}', status)] for status in (301, 400, 401, 403, 404, 409, 418, 422, 429, 500)},
    "504": [Reply(b"", 504)],
    "too recent": [Reply(b'{"error":"InvalidValue","description":"Too recent start_time"}', 422)],
    "scope": [Reply(b'{"description":"Missing the following required scopes: read"}', 403)],
    "no page": [Reply(b"{}")],
    "not UTF-8": [Reply(b'{"tickets":[{"id":"\xff"}]}')],
    "cut off": [Reply(b"{", 200, {"Content-Length": "99", "Connection": "close"})],
    "bad gzip": [Reply(b"not gzip", 200, {"Content-Encoding": "gzip"})],
    "long wait": [Reply(b"", 429, {"Retry-After": "7200"})],
    "nobody there": None,
}


@each_mode
@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_error_shows_a_secret(mode: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way in which Zendesk can fail, in every mode: neither the error nor what it came from holds a secret."""
    replies = PROBLEMS[problem]
    for name, value in {**MODES[mode], "AUTH_MODE": mode}.items():
        monkeypatch.setenv(name, value)
    # a grant for each request of the mode that needs one; a failing endpoint is asked again and again
    listening = _nobody() if replies is None else answering(*_answers(mode, *replies * 6))
    with listening as server:
        client = _client(server.url, mode)
        with pytest.raises(PipelineError) as raised:
            first_page(client)
    shown = _shown(raised.value) + repr(client) + repr(client.credential) + repr(client.transport)
    assert [name for name, spellings in SPELLINGS.items() if any(each.decode() in shown for each in spellings)] == []


def _client(url: str, mode: str) -> ZendeskClient:
    fake = FakeClock(FIRST.end)
    client = client_for(url, fake.clock, retries=1)
    if mode == "oauth":
        return _oauth_client(ScriptedServer(url))
    client.credential = (
        ApiToken(EMAIL, SECRETS["ZENDESK_API_TOKEN"])
        if mode == "token"
        else BearerToken(SECRETS["ZENDESK_BEARER_TOKEN"])
    )
    return client


@each_mode
def test_definitions_hold_names_of_variables_and_no_values(
    mode: str, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Dagster loads, shows and stores of the resources names the variables that hold the secrets."""
    for name, value in _environment("https://acme.zendesk.com", moto, layout, mode).items():
        monkeypatch.setenv(name, value)
    definitions = build(settings.load())
    job = definitions.resolve_implicit_global_asset_job_def()
    resources: list[Any] = list((definitions.resources or {}).values())
    shown = repr(definitions) + repr(resources) + repr(job.run_config_schema.config_type) + str(job)
    dumped = json.dumps([each.model_dump() for each in resources], default=repr)
    for text in (shown, dumped):
        assert [name for name, each in SPELLINGS.items() if any(one.decode() in text for one in each)] == []


# Whoever may start a run


RUN_CONFIGS: dict[str, Callable[[str], Any]] = {
    "another host": lambda url: {"zendesk": {"base_url": url}},
    "another host, with the secret by name": lambda url: {
        "zendesk": {"base_url": url, "auth_mode": "bearer", "bearer_token": {"env": "ZENDESK_BEARER_TOKEN"}}
    },
    "any variable as a token": lambda url: {
        "zendesk": {"base_url": url, "auth_mode": "bearer", "bearer_token": {"env": "AWS_SECRET_ACCESS_KEY"}}
    },
    "a variable as a number, which the error would quote": lambda _: {
        "zendesk": {"http_retries": {"env": "AWS_SECRET_ACCESS_KEY"}}
    },
    "another bucket": lambda _: {"s3_io_manager": {"bucket": "elsewhere"}},
    "ledgers in the feed": lambda _: {"s3_io_manager": {"state_prefix": "zendesk/crm/"}},
}


@pytest.mark.parametrize("attempt", RUN_CONFIGS)
def test_whoever_may_start_a_run_cannot_redirect_it(
    attempt: str, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's configuration reaches no resource: no other host, no other bucket, no variable of the environment."""
    with answering(PAGE) as elsewhere, answering(PAGE) as server:
        environment = _environment(server.url, moto, layout, "bearer")
        config = {name: {"config": values} for name, values in RUN_CONFIGS[attempt](elsewhere.url).items()}
        with project(environment, monkeypatch) as made, pytest.raises(dg.DagsterInvalidConfigError) as raised:
            made.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                asset_selection=[dg.AssetKey("incremental_tickets")],
                partition_key=FIRST.partition_key,
                instance=made.instance,
                run_config={"resources": config},
            )
    assert (elsewhere.received, server.received) == ([], [])
    assert [name for name, each in SPELLINGS.items() if any(one.decode() in _shown(raised.value) for one in each)] == []


def test_no_resource_of_any_job_takes_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is added to the definitions opens that door again; Dagster's own io_manager is used by nobody."""
    with project({}, monkeypatch) as made:
        repository = made.definitions.get_repository_def()
    jobs = [repository.get_job(name) for name in repository.job_names]
    assert len(jobs) > 1
    for job in jobs:
        offered: Any = job.run_config_schema.config_type
        resources = offered.fields["resources"].config_type.fields
        assert resources.keys() >= ({"zendesk", "s3_io_manager"} if job.name != "run_log_pruning" else {"io_manager"})
        config = {name: each.config_type.fields["config"].config_type for name, each in resources.items()}
        assert [name for name, each in config.items() if name != "io_manager" and each.fields] == []


def test_a_variable_in_a_runs_own_config_is_not_shown(
    moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`redeliver` is the one thing to be configured, and takes a variable's name as well: its value is not told."""
    with answering(PAGE) as server:
        environment = _environment(server.url, moto, layout, "bearer")
        with project(environment, monkeypatch) as made:
            done = made.run("incremental_tickets", hours(1), redeliver={"env": "AWS_SECRET_ACCESS_KEY"})
    assert done.success
    shown = _all_text(done) + json.dumps(done.dagster_run.run_config)
    assert [name for name, each in SPELLINGS.items() if any(one.decode() in shown for one in each)] == []


# Records


MARK = "Marker-of-a-record-4711"
MARKED = {"a record": {MARK.encode(), base64.b64encode(MARK.encode()), quote(MARK).encode()}}


def test_runs_leave_nothing_of_a_record_behind(
    zendesk: SimulatedZendesk, moto: LocalS3, layout: Layout, kept: Path
) -> None:
    """Marked records, one of them too long for a line; a run that succeeds, one that breaks, one without rights."""
    zendesk.control.add_records(
        "incremental_tickets", [ticket(1, FIRST.start, MARK).line, ticket(2, FIRST.start + 5, MARK * 200_000).line]
    )
    zendesk.control.add_records("audit_logs", [audit_log(1, FIRST.start, MARK).line])
    environment = {
        **zendesk.environment,
        **moto.environment,
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": SINCE,
        "ZENDESK_EXPORT_RATE": "100000",
        "HTTP_RETRIES": "0",
    }
    for stream in ("incremental_tickets", "audit_logs"):
        assert collect_and_keep(Collection(stream=stream, span=hours(1), environment=environment), kept) == 0
    zendesk.control.add_faults(Rule(path="incremental", kind="truncate"), Rule(path="audit_logs", kind="truncate"))
    for stream in ("incremental_tickets", "audit_logs"):
        assert collect_and_keep(Collection(stream=stream, span=hours(1), environment=environment), kept) == 1

    bucket = Bucket(store=Store(client=moto.client(), bucket=moto.bucket, encryption={}), layout=layout)
    assert b"".join(bucket.lines()).count(MARK.encode()) > 1000
    assert MARK.encode() in bucket.body(bucket.stored(layout.quarantine)[0])
    assert any(b"too long for a line" in content for _, content in traces(kept))
    assert findings(kept, MARKED) == []


MALFORMED: dict[str, bytes] = {
    "a time that is none": b'{"id":1,"generated_timestamp":"%b"}' % MARK.encode(),
    "an id that is none": b'{"id":{"%b":1},"generated_timestamp":5}' % MARK.encode(),
    "an id without end": b'{"id":"%b","generated_timestamp":5}' % (MARK.encode() * 10),
    "not UTF-8": b'{"id":1,"generated_timestamp":5,"x":"%b\xff"}' % MARK.encode(),
    "half a letter": b'{"id":1,"generated_timestamp":5,"x":"%b\\ud800 "}' % MARK.encode(),
}
BROKEN: dict[str, bytes] = {
    **{kind: tickets_page([line, line]) for kind, line in MALFORMED.items() if kind != "half a letter"},
    "cut off": tickets_page([ticket(1, FIRST.start, MARK).line])[:-40],
    "a cursor that is none": tickets_page([ticket(1, FIRST.start, MARK).line], cursor=MARK * 1000, more=True),
    "lists in lists": tickets_page([b'{"id":1,"generated_timestamp":5,"%b":%b}' % (MARK.encode(), b"[" * 5000)]),
    "twice the same cursor": tickets_page([ticket(1, FIRST.start, MARK).line], cursor=MARK, more=True),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_said_of_a_malformed_record_holds_nothing_of_it(
    kind: str, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One odd record costs at most itself: the run, its checks and what it prints never repeat it."""
    good = ticket(1, FIRST.start).line
    with answering(Reply(tickets_page([good, MALFORMED[kind]]))) as server:
        environment = {**_environment(server.url, moto, layout, "bearer"), "HTTP_RETRIES": "0"}
        with project(environment, monkeypatch) as made:
            done = made.run("incremental_tickets", hours(1))
    bucket = Bucket(store=Store(client=moto.client(), bucket=moto.bucket, encryption={}), layout=layout)
    assert done.success
    assert good in bucket.lines()
    assert MARK not in _all_text(done) + "".join(capfd.readouterr())


@pytest.mark.parametrize("kind", BROKEN)
def test_an_error_about_a_page_holds_nothing_of_it(
    kind: str, moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run over a page that cannot be used says so in its own words."""
    with answering(Reply(BROKEN[kind])) as server:
        environment = {**_environment(server.url, moto, layout, "bearer"), "HTTP_RETRIES": "0"}
        with project(environment, monkeypatch) as made:
            failed = made.run("incremental_tickets", hours(1))
    assert not failed.success
    assert "incremental_tickets" in description(failed) or "/api/v2/incremental" in description(failed)
    assert MARK not in _all_text(failed) + "".join(capfd.readouterr())
