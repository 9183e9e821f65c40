"""The image as production has it: every part from it, read-only and without a right, an hour collected, and its end."""

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pytest
import yaml
from packaging.utils import canonicalize_name

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.local.services import LOOPBACK, local_s3, simulated_zendesk
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.orchestration.catch_up_sensor import UNDER_WAY, delivered_windows
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.deploy.cluster.servers import NoServerError, postgres
from zendesk_pipeline_tests.deploy.cluster.stage import found, newest
from zendesk_pipeline_tests.deploy.image import containers
from zendesk_pipeline_tests.deploy.image.containers import Container, container, layers, said_by, size
from zendesk_pipeline_tests.deploy.test_deployment import INSTANCES, OURS, SERVICES, commands

PATIENCE = 240
MEGABYTE = 1_000_000
FOLDER = "/srv/dagster/postgres"


@pytest.fixture(scope="module")
def image() -> str:
    if said := containers.missing():
        pytest.exit(said, returncode=1)
    return containers.built()


def test_the_image_is_small(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At most 300 MB above its base, which is somebody else's; what each layer takes is printed."""
    below = containers.base()
    above = layers(image, below)
    with capsys.disabled():
        click.echo(
            f"\nThe image has {size(image) / MEGABYTE:.0f} MB, of which {below} has {size(below) / MEGABYTE:.0f}."
        )
        click.echo("\n".join(f"{taken / MEGABYTE:8.2f} MB  {made}" for made, taken in above))
    assert sum(taken for _, taken in above) == pytest.approx(size(image) - size(below), rel=0.01)
    assert (size(image) - size(below)) / MEGABYTE <= 300


INSTALLED = "import json,importlib.metadata as m;print(json.dumps([[d.name,d.version] for d in m.distributions()]))"


def test_the_bill_of_materials_is_what_is_installed(image: str) -> None:
    """`make sbom` names each package of the image with its version and none beside, and what they are there for."""
    said = containers.ran("make", "--silent", "--no-print-directory", "sbom", f"IMAGE={image}", "ENGINE=podman")
    bill = json.loads(said)
    assert bill["bomFormat"] == "CycloneDX"
    named = {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}
    whole = bill["metadata"]["component"]
    installed = {
        canonicalize_name(name): version for name, version in json.loads(said_by(image, "python", "-c", INSTALLED))
    }
    assert named | {canonicalize_name(whole["name"]): whole["version"]} == installed
    assert (whole["name"], len(named) > 80) == ("zendesk-pipeline", True)


def test_a_process_of_the_image_is_nobody_and_writes_to_tmp_alone(image: str) -> None:
    """User 10001 without a right, and no file or folder that it could change but those in /tmp."""
    assert said_by(image, "id", "--user").strip() == "10001"
    looked = "find / -xdev -writable '(' -type f -o -type d ')' 2>/dev/null || true"  # some folders are root's alone
    assert said_by(image, "sh", "-c", looked).split() == ["/tmp"]  # noqa: S108 - the one of the container
    assert re.findall(r"Cap\w+:\s+(\w+)", said_by(image, "cat", "/proc/self/status")) == ["0000000000000000"] * 5


def test_the_image_has_nothing_to_build_or_test_with(image: str) -> None:
    """No compiler, no pip, no tests; and every module of the collector but what is for one machine can be imported."""
    assert said_by(image, "sh", "-c", "command -v gcc cc make pip pip3 || true") == ""
    assert said_by(image, "sh", "-c", "find /srv -name zendesk_pipeline_tests -o -name tests") == ""
    code = "import dagster_k8s, dagster_webserver.app, google.auth.transport.requests, zendesk_pipeline.definitions"
    assert said_by(image, "python", "-c", code) == ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The parts of production, each a container."""

    parts: Mapping[str, Container]
    environment: Mapping[str, str]
    span: Span
    buckets: Mapping[str, Bucket]
    control: Any
    home: Path
    started_after: float
    """Seconds from the engine's call until the code server listened, which it does when it has loaded."""


def _home(folder: Path) -> Path:
    """The instance of the image, but for the port of PostgreSQL."""
    home = folder / "dagster"
    home.mkdir()
    content = yaml.safe_load(INSTANCES["postgres"].read_text())
    content["storage"]["postgres"]["postgres_db"]["port"] = {"env": "DAGSTER_PG_PORT"}
    (home / "dagster.yaml").write_text(yaml.safe_dump(content))
    home.chmod(0o755)
    return home


@pytest.fixture(scope="module")
def running(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """PostgreSQL, Zendesk and S3 of this machine, and code server, daemon and UI of the image, all healthy."""
    folder, span = tmp_path_factory.mktemp("image"), newest(3)
    with ExitStack() as up:
        try:
            database = up.enter_context(postgres(folder))
        except NoServerError as absent:
            pytest.exit(absent.message, returncode=1)
        s3 = up.enter_context(local_s3(folder))
        zendesk = up.enter_context(simulated_zendesk(folder, "--since", timestamp(span.start - 24 * HOUR)))
        environment = {
            **zendesk.environment,
            **s3.environment,
            **database.environment,
            "DAGSTER_CODE_HOST": LOOPBACK,
            "DAGSTER_LOG_BUCKET": s3.bucket,
            "AWS_ENDPOINT_URL_S3": s3.endpoint,
            "START_DATE": timestamp(span.start),
        }
        home = _home(folder)
        parts: dict[str, Container] = {}
        started: dict[str, float] = {}
        for name in ("code", *(each for each in OURS if each != "code")):
            command = SERVICES[name].get("command") or commands()[name]
            variables = {**environment, "DAGSTER_HOME": FOLDER}
            begun = time.monotonic()
            parts[name] = up.enter_context(
                container(
                    f"tried-{name}", image, command, variables, folder / f"{name}.log", volume=f"{home}:{FOLDER}:ro"
                )
            )
            found(lambda name=name: name != "code" or _listens(4000), within=PATIENCE)
            started[name] = time.monotonic() - begun
            check = SERVICES[name]["healthcheck"]["test"][1:]
            found(lambda part=parts[name], check=check: part.healthy(check), within=PATIENCE)
        chosen = Settings.model_validate(
            {key.lower(): value for key, value in environment.items() if key.lower() in Settings.model_fields}
        )
        layout = Layout.of(chosen)
        store = Store(client=s3.client(), bucket=s3.bucket, encryption={})
        yield Running(
            parts=parts,
            environment=environment,
            span=span,
            buckets={name: Bucket(stream=STREAMS[name], store=store, layout=layout) for name in COLLECTED_BY_DEFAULT},
            control=zendesk.control,
            home=home,
            started_after=started["code"],
        )


def _listens(port: int) -> bool:
    with suppress(ConnectionRefusedError), socket.create_connection((LOOPBACK, port)):
        return True
    return False


def test_the_code_server_is_there_soon(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """Well within the time that compose.yaml gives it before a check counts; how long it took is printed."""
    allowed = SERVICES["code"]["healthcheck"]["start_period"]
    with capsys.disabled():
        click.echo(f"\nThe code server listened {running.started_after:.1f} s after podman was called.")
    assert running.started_after < float(allowed.removesuffix("s")) / 2


def test_what_is_missing_is_collected_by_containers(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for it by hand: the sensor finds hours missing, runs collect them, each record is in S3 once."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(running.home)) as instance:
        found(lambda: _whole(running, instance), within=PATIENCE)
    proofs = [prove(bucket, running.span, running.control) for bucket in running.buckets.values()]
    assert all(proof.holds for proof in proofs), proofs
    assert sum(proof.at_source for proof in proofs) > 10  # some hours of the simulated account are quiet


def _whole(running: Running, instance: dg.DagsterInstance) -> bool:
    keys = [dg.AssetKey(name) for name in COLLECTED_BY_DEFAULT]
    done = all(delivered_windows(instance, key, among=running.span) == set(running.span) for key in keys)
    return done and not instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))


def test_what_steps_print_is_in_the_bucket_of_logs(running: Running) -> None:
    """Compute logs of the run are objects below `dagster/`, not files of a container that goes."""
    store = next(iter(running.buckets.values())).store
    assert any(key.endswith(".err") for key in store.keys("dagster/"))


def test_each_part_ends_by_itself_when_it_is_asked_to(running: Running) -> None:
    """SIGTERM, as every engine sends it: status 0 well within the time that compose.yaml gives it."""
    assert {name: running.parts[name].ended(30) for name in ("webserver", "daemon", "code")} == {
        "webserver": 0,
        "daemon": 0,
        "code": 0,
    }
