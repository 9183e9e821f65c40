"""The wiring: from the environment to what is stored, and what must never come out of it."""

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import CREDENTIALS
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, hours
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.runs import QUIET, Project, description, project

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]
PARTITION = FIRST.partition_key

ALONE = """
import sys

def watch(event, arguments):
    written = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in {"socket.connect", "socket.getaddrinfo"} or written:
        raise SystemExit(f"not alone: {event} {arguments}")

sys.dont_write_bytecode = True
sys.addaudithook(watch)
from zendesk_pipeline.definitions import defs
print(*sorted(key.to_user_string() for key in defs.resolve_asset_graph().materializable_asset_keys))
"""


def test_definitions_load_alone() -> None:
    """An empty environment, no network, no file written: loading needs nothing but the code."""
    loaded = subprocess.run([sys.executable, "-c", ALONE], env={}, capture_output=True, text=True, check=False)
    assert loaded.stderr.splitlines()[-1:] == []
    assert loaded.stdout == "audit_logs incremental_tickets\n"


def test_everything_resolves() -> None:
    """Assets, schedule, job and resources fit together, without a variable set."""
    dg.Definitions.validate_loadable(build(settings.load()))


# What each setting does


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dg.ExecuteInProcessResult]:
    """Runs one window of audit logs with some settings changed."""

    def run(server: LocalS3 | None = None, stream: str = "audit_logs", **changed: str) -> dg.ExecuteInProcessResult:
        chosen = {**environment, **(server.environment if server else {}), **changed}
        with project(chosen, monkeypatch) as running:
            return running.run(stream, hours(1))

    return run


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    """Where `environment` delivers to."""
    return Bucket(store=store, layout=layout)


@pytest.mark.parametrize(
    ("setting", "holds"),
    [
        pytest.param("S3_PREFIX", ["2026/11/12/050000-zendesk-audit_logs-0000-"], id="feed"),
        pytest.param("STATE_PREFIX", ["account.json", "audit_logs-fields.json", "audit_logs/2026/11/12/"], id="state"),
        pytest.param("QUARANTINE_PREFIX", ["2026/11/12/050000-zendesk-audit_logs-"], id="quarantine"),
    ],
)
def test_a_prefix_moves_its_objects(
    run: Callable[..., Any], bucket: Bucket, zendesk: SimulatedZendesk, setting: str, holds: list[str]
) -> None:
    """S3_PREFIX, STATE_PREFIX and QUARANTINE_PREFIX say where batches, state and over-long records lie."""
    zendesk.control.add_records("audit_logs", [audit_log(1, FIRST.start, "x" * 4_000_000).line])
    moved = bucket.layout.feed.replace("crm", "elsewhere")
    run(**{setting: moved})
    found = bucket.stored(moved)
    assert [key.startswith(moved + start) for key, start in zip(sorted(found), holds, strict=True)] == [True] * len(
        holds
    )


def _plain(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.split(b"\n")[:-1]]


def _compressed(body: bytes) -> list[Any]:
    return _plain(gzip.decompress(body))


def _page(body: bytes) -> list[Any]:
    return json.loads(body)["audit_logs"]


@pytest.mark.parametrize(
    ("chosen", "suffix", "read"),
    [
        pytest.param({}, "json", _plain, id="default"),
        pytest.param({"COMPRESSION": "gzip"}, "json.gz", _compressed, id="gzip"),
        pytest.param({"OUTPUT_FORMAT": "page"}, "json", _page, id="page"),
    ],
)
def test_the_form_of_objects_is_set(
    run: Callable[..., Any],
    bucket: Bucket,
    zendesk: SimulatedZendesk,
    chosen: dict[str, str],
    suffix: str,
    read: Callable[[bytes], list[Any]],
) -> None:
    """COMPRESSION and OUTPUT_FORMAT change names and bytes of the objects, not their records."""
    run(**chosen)
    (key,) = bucket.stored()
    body = bucket.store.client.get_object(Bucket=bucket.store.bucket, Key=key)["Body"].read()
    assert key.partition(".")[2] == suffix
    assert read(body) == [json.loads(line) for line in zendesk.control.source("audit_logs", FIRST.start, FIRST.end)]


def test_batch_bytes_bound_the_objects(run: Callable[..., Any], bucket: Bucket) -> None:
    """A smaller BATCH_BYTES makes more objects, each within it."""
    run(BATCH_BYTES="4096")
    sizes = [len(body) for body in bucket.feed().values()]
    assert len(sizes) > 1
    assert max(sizes) <= 4096


def _encryption(store: Store, key: str) -> tuple[str | None, str | None]:
    head = store.client.head_object(Bucket=store.bucket, Key=key)
    return head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")


@pytest.mark.parametrize(
    ("server", "chosen", "stored"),
    [
        pytest.param("s3", {}, (None, None), id="default"),
        pytest.param("s3", {"S3_SSE": "AES256"}, ("AES256", None), id="AES256"),
        pytest.param(
            "moto", {"S3_SSE": "aws:kms", "S3_KMS_KEY_ID": "alias/zendesk"}, ("aws:kms", "alias/zendesk"), id="kms"
        ),
    ],
)
def test_encryption_is_asked_for(
    request: pytest.FixtureRequest,
    run: Callable[..., Any],
    layout: Layout,
    server: str,
    chosen: dict[str, str],
    stored: tuple[str | None, str | None],
) -> None:
    """S3_SSE and S3_KMS_KEY_ID go with every write: batch, marker of the account, catalogue of fields, and ledger."""
    s3: LocalS3 = request.getfixturevalue(server)
    assert run(s3, **chosen).success
    place = Bucket(store=Store(client=s3.client(), bucket=s3.bucket, encryption={}), layout=layout)
    keys = [*place.stored(), *place.stored(layout.state)]
    assert [_encryption(place.store, key) for key in keys] == [stored] * 4


def test_resources_leaves_streams_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that RESOURCES does not name is nowhere: no asset, no job, no run."""
    monkeypatch.setenv("RESOURCES", "incremental_tickets")
    definitions = build(settings.load())
    job = definitions.resolve_job_def("hourly_collection")
    known = {key.to_user_string() for key in definitions.resolve_all_asset_keys()} | {node.name for node in job.nodes}
    assert "incremental_tickets" in known
    assert [name for name in known if "audit_logs" in name] == []


@pytest.mark.parametrize(
    ("start", "first"),
    [
        pytest.param("2026-11-12", "2026-11-12-00:00", id="date"),
        pytest.param("2026-11-12T05:00", "2026-11-12-05:00", id="hour"),
        pytest.param("2026-11-12T05:00+02:00", "2026-11-12-03:00", id="with-a-zone"),
    ],
)
def test_start_date_is_the_first_window(start: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """START_DATE moves the first partition of every stream."""
    monkeypatch.setenv("START_DATE", start)
    for stream in ("audit_logs", "incremental_tickets"):
        partitions = build(settings.load()).resolve_assets_def(stream).partitions_def
        assert partitions is not None
        assert partitions.get_partition_keys()[0] == first


# What is missing


@pytest.mark.parametrize(("mode", "name"), [(mode, name) for mode, names in CREDENTIALS.items() for name in names])
def test_a_credential_that_is_not_set_is_named(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, mode: str, name: str
) -> None:
    """The run says which variable AUTH_MODE needs and where its value is found."""
    for other in CREDENTIALS[mode]:  # type: ignore[index]  # parametrize knows no Literal
        environment[other] = "set"
    environment[name] = ""
    with project({**environment, "AUTH_MODE": mode}, monkeypatch) as running:
        said = description(running.run("audit_logs", hours(1)))
    assert said.startswith(f"{name} is not set, and AUTH_MODE={mode} needs it: ")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"AWS_PROFILE": "nobody"}, ["AWS_PROFILE", "nobody"], id="profile"),
        pytest.param({"AWS_ENDPOINT_URL_S3": "nonsense"}, ["AWS_ENDPOINT_URL_S3", "nonsense"], id="endpoint"),
        pytest.param({"AWS_SECRET_ACCESS_KEY": ""}, ["missing: AWS_SECRET_ACCESS_KEY"], id="half-a-key"),
        pytest.param({"S3_BUCKET": "no such bucket"}, ["S3_BUCKET", "no such bucket"], id="bucket-name"),
    ],
)
def test_an_aws_setting_that_is_wrong_is_named(
    run: Callable[..., Any], changed: dict[str, str], words: list[str]
) -> None:
    """What boto3 cannot work with is a sentence too, with the variable and its value."""
    said = description(run(**changed))
    assert [word for word in words if word not in said] == []


# Secrets


SECRETS = {name: f"very-secret-{name.lower()}" for names in CREDENTIALS.values() for name in names}
SECRETS["AWS_SECRET_ACCESS_KEY"] = "local-secret-key"


def _traces(secret: str) -> list[bytes]:
    """A secret as it is, and in the form that a header would carry it."""
    email, token = SECRETS["ZENDESK_EMAIL"], SECRETS["ZENDESK_API_TOKEN"]
    return [secret.encode(), base64.b64encode(f"{email}/token:{token}".encode())]


def _held(resource: Any) -> str:
    """All that a resource says of itself, and all that it holds."""
    return f"{resource!r} {resource.model_dump()}"


@pytest.mark.parametrize("mode", sorted(CREDENTIALS.keys() - {"oauth_refresh"}))  # its pair is no value: test_secrets
def test_secrets_stay_where_they_are(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    """After a run with a wrong credential no secret is in Dagster's files, in what it prints or in what the UI gets."""
    chosen = {**environment, **SECRETS, "AUTH_MODE": mode}
    with project(chosen, monkeypatch) as made, dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        running = Project(definitions=made.definitions, instance=instance)
        failed = running.run("audit_logs", hours(1))
        shown = serialize_value(RepositorySnap.from_def(made.definitions.get_repository_def()))
        shown += "".join(map(_held, (made.definitions.resources or {}).values()))
        shown += json.dumps(failed.dagster_run.run_config)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"Zendesk answered 401" in stored  # the run is really in there
    written = "".join(capfd.readouterr()) + caplog.text
    everywhere = stored + (shown + written).encode()
    names = (*CREDENTIALS[mode], "AWS_SECRET_ACCESS_KEY")  # type: ignore[index]  # parametrize knows no Literal
    assert [trace for name in names for trace in _traces(SECRETS[name]) if trace in everywhere] == []
    assert os.environ[names[0]] == SECRETS[names[0]]
