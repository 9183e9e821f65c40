"""`zendesk-pipeline authorize`: once by hand, and the runs after it need nobody."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline_tests.by_hand import hours
from zendesk_pipeline_tests.conftest import SINCE
from zendesk_pipeline_tests.fakes.aws_secrets import aws, environment_of, new_name, new_secret
from zendesk_pipeline_tests.promise.collector_process import Collection, _context, collect

Browser = Callable[[str], str]
"""What is pasted for the address that was shown."""


@pytest.fixture
def environment(zendesk: SimulatedZendesk, moto: LocalS3, layout: Layout) -> dict[str, str]:
    """Everything set but the pair itself: the secret holds nothing yet."""
    return {
        **moto.environment,
        **environment_of(moto.endpoint),
        "ZENDESK_BASE_URL": zendesk.url,
        "AUTH_MODE": "oauth_refresh",
        "ZENDESK_CLIENT_ID": CLIENT_ID,
        "ZENDESK_CLIENT_SECRET": CLIENT_SECRET,
        "ZENDESK_TOKEN_PAIR": f"aws-sm:{new_secret(moto.endpoint, '{}')}",
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": SINCE,
    }


def agrees(address: str) -> str:
    """An admin who opens the address and agrees; where the browser ends."""
    answer = requests.get(address, allow_redirects=False, timeout=10)
    assert answer.status_code == 302
    return answer.headers["location"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How the command ended."""

    exit_code: int
    output: str


def run(environment: dict[str, str], browser: Browser, *options: str) -> Done:
    """The command in a process, and a person who opens the address and pastes where the browser ends."""
    reading, printing = Pipe(duplex=False)
    typed, typing = Pipe(duplex=False)
    process = _context.Process(target=_typed, args=(environment, options, typed, printing))
    process.start()
    printing.close()
    output = ""
    with reading, typing, os.fdopen(os.dup(reading.fileno())) as lines:
        for line in lines:
            output += line
            if "/oauth/authorizations/new?" in line:
                os.write(typing.fileno(), f"{browser(line.strip())}\n".encode())
    process.join(60)
    assert process.exitcode is not None
    return Done(exit_code=process.exitcode, output=output)


def _typed(environment: dict[str, str], options: list[str], typed: Connection, printing: Connection) -> None:
    for number, end in enumerate((typed, printing, printing)):
        os.dup2(end.fileno(), number)
    sys.stdin = os.fdopen(0)
    os.environ.clear()
    os.environ.update(environment)
    main(["authorize", *options])


def stored(environment: dict[str, str], moto: LocalS3) -> str:
    name = environment["ZENDESK_TOKEN_PAIR"].removeprefix("aws-sm:")
    return aws("secretsmanager", moto.endpoint).get_secret_value(SecretId=name, VersionStage="AWSCURRENT")[
        "SecretString"
    ]


def test_an_admin_agrees_once_and_runs_get_in(
    environment: dict[str, str], moto: LocalS3, zendesk: SimulatedZendesk
) -> None:
    """The pair is stored, nothing of it or of the client's secret is printed, and a run uses it as it is."""
    done = run(environment, agrees)
    assert done.exit_code == 0, done.output
    assert f"Stored in {environment['ZENDESK_TOKEN_PAIR']}" in done.output
    tokens = re.findall(r"[0-9a-f]{64}", stored(environment, moto))
    assert len(tokens) == 2
    assert not [each for each in (*tokens, CLIENT_SECRET) if each in done.output]
    collection = Collection(stream="audit_logs", span=hours(1), environment=environment)
    assert collect(collection) == 0
    assert zendesk.control.counts().path["/oauth/tokens"] == 1


def test_what_the_admin_is_asked(environment: dict[str, str]) -> None:
    """The scope of ZENDESK_OAUTH_SCOPE, the redirect URL that was chosen, a state and a challenge of this once."""
    asked: list[dict[str, list[str]]] = []

    def look(address: str) -> str:
        asked.append(parse_qs(urlsplit(address).query))
        return agrees(address)

    narrow = {**environment, "ZENDESK_OAUTH_SCOPE": "auditlogs:read"}
    for _ in range(2):
        assert run(narrow, look, "--redirect", "https://acme.example/done").exit_code == 0
    first, second = asked
    assert first["scope"] == ["auditlogs:read"]
    assert first["redirect_uri"] == ["https://acme.example/done"]
    assert first["code_challenge_method"] == ["S256"]
    assert first["client_id"] == [CLIENT_ID]
    assert not [name for name in ("state", "code_challenge") if first[name] == second[name]]


def test_an_authorization_replaces_a_pair_that_is_dead(
    environment: dict[str, str], moto: LocalS3, zendesk: SimulatedZendesk
) -> None:
    """It may be done again at any time; after refreshes as well."""
    assert run(environment, agrees).exit_code == 0
    before = stored(environment, moto)
    collection = Collection(stream="audit_logs", span=hours(1), environment=environment)
    zendesk.control.reset()
    assert collect(collection) == 1
    assert run(environment, agrees).exit_code == 0
    assert stored(environment, moto) != before
    assert collect(collection) == 0


ANSWERS: dict[str, tuple[Browser, str]] = {
    "another-state": (lambda _: "http://localhost:8000/?code=Sesame&state=other", "begin again"),
    "the-code-alone": (lambda _: "Sesame", "begin again"),
    "no": (lambda at: agrees(at).replace("code=", "error="), "has not agreed"),
    "another-code": (lambda at: agrees(at).replace("code=", "code=Sesame"), "does not accept the code"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_goes_wrong_is_said(answer: str, environment: dict[str, str], moto: LocalS3) -> None:
    """Nothing is stored then, and what was pasted is not repeated."""
    browser, says = ANSWERS[answer]
    done = run(environment, browser)
    assert done.exit_code == 1
    assert says in done.output
    assert "Sesame" not in done.output
    assert stored(environment, moto) == "{}"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        pytest.param({"ZENDESK_BASE_URL": ""}, "ZENDESK_BASE_URL is not set", id="address"),
        pytest.param({"ZENDESK_CLIENT_ID": ""}, "ZENDESK_CLIENT_ID is not set", id="client"),
        pytest.param({"ZENDESK_TOKEN_PAIR": ""}, "ZENDESK_TOKEN_PAIR is not set", id="pair"),
        pytest.param({"ZENDESK_TOKEN_PAIR": "aws-ssm:/x"}, "a secret of AWS Secrets Manager", id="parameter-store"),
        pytest.param({"ZENDESK_TOKEN_PAIR": f"aws-sm:{new_name()}-none"}, "does not exist", id="no-secret"),
        pytest.param({"ZENDESK_CLIENT_SECRET": "aws-sm:nowhere"}, "does not exist", id="reference"),
    ],
)
def test_what_lacks_is_said_before_anybody_is_asked(
    changed: dict[str, str], says: str, environment: dict[str, str]
) -> None:
    """No address is shown, so no consent is spent."""
    done = run({**environment, **changed}, agrees)
    assert done.exit_code == 1
    assert says in done.output
    assert "/oauth/" not in done.output
