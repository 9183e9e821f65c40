"""First boots: the parts start in any order on an empty database, as units, with Compose, and as clusters start them.

Two services that started at once have destroyed a database. Some orders are tried, with --thorough twenty of them; what
each took, and how often a part had to be started again, is printed.
"""

import itertools
import random
import shlex
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import requests
import yaml

from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import prove
from zendesk_pipeline.local.pipeline import LocalPipeline
from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline.model.windows import HOUR, timestamp
from zendesk_pipeline.orchestration.databases import SQLITE
from zendesk_pipeline_tests.alerts.test_services import answer, ticked
from zendesk_pipeline_tests.deploy.cluster.servers import Postgres, postgres
from zendesk_pipeline_tests.deploy.cluster.stage import found, needed, newest
from zendesk_pipeline_tests.deploy.image import containers
from zendesk_pipeline_tests.deploy.image.composed import COMPOSE, PARTS, PROJECT, Composed
from zendesk_pipeline_tests.deploy.image.composed import composed as compose_services
from zendesk_pipeline_tests.deploy.test_deployment import BIN, INSTANCES, OURS, WORKSPACE, commands
from zendesk_pipeline_tests.deploy.unit_files import Machine, kill, unit, values
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.promise import kept_runs

SPAN = newest(2)
PATIENCE = 400
SENSORS = {"catch_up_sensor", "freshness_sensor", "alert_sensor"}
ENDED = "a part has ended and is started again"
Lines = Mapping[str, tuple[str, Mapping[str, str]]]
"""By part, what a shell runs and its variables."""
RUNS = "{runsOrError{...on Runs{results{status}}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """The parts in the order in which they start, and so many seconds before each."""

    order: tuple[str, ...]
    pauses: tuple[float, ...]

    def start(self, start: Callable[[str], object]) -> None:
        """Each part in its turn; nobody waits until the one before is ready."""
        for name, pause in zip(self.order, self.pauses, strict=True):
            threading.Event().wait(pause)
            start(name)

    def __str__(self) -> str:
        return "-".join(self.order) + ("" if any(self.pauses) else "-at-once")


def boots(parts: tuple[str, ...], number: int) -> list[Boot]:
    """So many orders, each other one before any a second time; every second boot is of all parts at once."""
    dice = random.Random(1)
    orders = list(itertools.permutations(parts))
    dice.shuffle(orders)
    chosen = itertools.islice(itertools.cycle(orders), number)
    return [
        Boot(order=order, pauses=tuple(dice.uniform(0, 4) * (place % 2) for _ in order))
        for place, order in enumerate(chosen)
    ]


KINDS = {"units": (OURS, 6, 1), "cluster": (OURS, 6, 1), "composed": (PARTS, 8, 1)}
"""By the name of the test's argument: the parts, and how many boots with and without --thorough."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, (parts, thorough, few) in KINDS.items():
        if name in metafunc.fixturenames:
            number = thorough if metafunc.config.getoption("--thorough") else few
            metafunc.parametrize("boot", boots(parts, number), ids=str)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Says a line to whoever waits for the tests."""

    def say(line: str) -> None:
        with capsys.disabled():
            click.echo(f"\n  {line}")

    return say


# Processes of units and clusters


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPipeline]:
    """Zendesk and S3."""
    since = timestamp(SPAN.start - 24 * HOUR)
    folder = tmp_path_factory.mktemp("services")
    with local.local_pipeline(folder, "--since", since, start=SPAN.start, instance="{}") as pipeline:
        yield pipeline


@pytest.fixture
def machine(services: LocalPipeline, tmp_path: Path) -> Machine:
    """An empty DAGSTER_HOME with the project's dagster.yaml, and the settings of a collector."""
    return Machine(
        home=kept_runs.home(tmp_path / "dagster"),
        code_port=lasting_port(),
        ui_port=lasting_port(),
        settings={**services.zendesk.environment, **services.s3.environment, "START_DATE": timestamp(SPAN.start)},
    )


@pytest.fixture
def units(machine: Machine) -> Lines:
    """What each unit runs, with its variables."""
    lines: dict[str, tuple[str, Mapping[str, str]]] = {}
    for name in OURS:
        text = unit(f"{name}.service")
        steps = [values(text, "ExecStartPre")[0], values(text, "ExecStart")[0]]
        lines[name] = (" && ".join(shlex.join(machine.command(step)) for step in steps), machine.environment(text))
    return lines


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    needed()
    with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture
def cluster(machine: Machine, database: Postgres, services: LocalPipeline) -> Lines:
    """What Dagster's chart and the ECS template run, with nothing before it, on an empty database."""
    database.rows("DROP SCHEMA public CASCADE")
    database.rows("CREATE SCHEMA public")
    content = yaml.safe_load(INSTANCES["postgres"].read_text())
    content["storage"]["postgres"]["postgres_db"]["port"] = {"env": "DAGSTER_PG_PORT"}
    (machine.home / "dagster.yaml").write_text(yaml.safe_dump(content))
    workspace = machine.home / "workspace.yaml"
    workspace.write_text(WORKSPACE.read_text().replace("4000", str(machine.code_port)))
    here = {
        "/srv/dagster/workspace.yaml": str(workspace),
        "4000": str(machine.code_port),
        "3000": str(machine.ui_port),
        "0.0.0.0": LOOPBACK,  # noqa: S104 - is replaced
    }
    variables = {
        **machine.environment(""),
        **database.environment,
        "DAGSTER_CODE_HOST": LOOPBACK,
        "DAGSTER_LOG_BUCKET": services.s3.bucket,
        "AWS_ENDPOINT_URL_S3": services.s3.endpoint,
    }
    lines = {name: [here.get(word, word) for word in command] for name, command in commands().items()}
    return {name: (shlex.join([str(BIN / line[0]), *line[1:]]), variables) for name, line in lines.items()}


@contextmanager
def started(machine: Machine, boot: Boot, lines: Lines) -> Generator[None]:
    """The parts of a boot, each started again when it ends, until the block ends."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> None:
        line, variables = lines[name]
        with (machine.home.parent / f"{name}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    ["/bin/sh", "-c", f"while true; do {line}; echo {ENDED}; sleep 1; done"],
                    cwd=machine.home,
                    env=dict(variables),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    try:
        boot.start(start)
        yield
    finally:
        for process in processes:
            kill(process)


def again(machine: Machine) -> dict[str, int]:
    """How often each part was started again."""
    return {path.stem: path.read_text(errors="replace").count(ENDED) for path in machine.home.parent.glob("*.log")}


def statuses(machine: Machine) -> list[str]:
    """Of all runs, as the UI shows them."""
    url = f"http://{LOOPBACK}:{machine.ui_port}/graphql"
    shown = requests.post(url, json={"query": RUNS}, timeout=60).json()["data"]["runsOrError"]["results"]
    return [run["status"] for run in shown]


def is_at_work(machine: Machine) -> bool:
    """The UI shows the code, the daemon ticks its sensors, and runs have ended well."""
    return ticked(answer(machine)) >= SENSORS and set(statuses(machine)) == {"SUCCESS"}


def collects(machine: Machine, boot: Boot, lines: Lines) -> float:
    """Seconds until every part is at work; none was started twice on the way."""

    def look() -> bool:
        assert again(machine) == dict.fromkeys(OURS, 0)  # a spoiled database is never put right by itself
        return is_at_work(machine)

    begun = time.monotonic()
    with started(machine, boot, lines):
        found(look, within=PATIENCE)
        return time.monotonic() - begun


def assert_exact(services: LocalPipeline) -> None:
    proofs = [prove(bucket, SPAN, services.zendesk.control) for bucket in local.buckets(services).values()]
    assert all(proof.holds for proof in proofs), proofs
    assert sum(proof.at_source for proof in proofs) > 0


def test_units_start_in_any_order(
    boot: Boot,
    units: Lines,
    machine: Machine,
    services: LocalPipeline,
    told: Callable[[str], None],
) -> None:
    """None ends on the way, each database of SQLite has one version, and every window is there once."""
    told(f"{boot}: at work after {collects(machine, boot, units):.0f} s")
    for database in SQLITE:
        with closing(sqlite3.connect(machine.home / database)) as opened:
            assert len(opened.execute("SELECT version_num FROM alembic_version").fetchall()) == 1
    assert_exact(services)


def test_parts_of_a_cluster_start_in_any_order(
    boot: Boot,
    cluster: Lines,
    machine: Machine,
    services: LocalPipeline,
    database: Postgres,
    told: Callable[[str], None],
) -> None:
    """On PostgreSQL, where nothing precedes them: Dagster makes its tables by itself, once."""
    told(f"{boot}: at work after {collects(machine, boot, cluster):.0f} s")
    assert len(database.rows("SELECT version_num FROM alembic_version")) == 1
    assert_exact(services)


# Containers of Compose


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    if said := containers.missing() or ("" if COMPOSE.exists() else "Docker Compose is missing: make iac"):
        pytest.exit(said, returncode=1)
    since, start = timestamp(SPAN.start - 24 * HOUR), timestamp(SPAN.start)
    with compose_services(tmp_path_factory.mktemp("compose"), since, start) as running:
        yield running


def test_containers_start_in_any_order(boot: Boot, composed: Composed, told: Callable[[str], None]) -> None:
    """As an engine starts them after a crash in the midst of the first `up`: by itself, heedless of who needs whom."""
    composed.emptied()
    begun = time.monotonic()
    boot.start(composed.start)
    found(lambda: composed.are_well() and set(composed.runs()) == {"SUCCESS"}, within=PATIENCE)
    restarts = {
        name: containers.ran("podman", "inspect", "--format={{.RestartCount}}", f"{PROJECT}-{name}-1").strip()
        for name in PARTS
    }
    told(f"{boot}: at work after {time.monotonic() - begun:.0f} s; started again: {restarts}")
    assert composed.is_exact(SPAN)
