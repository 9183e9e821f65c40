"""What lies in deploy/ for more than one process: its files agree with each other, with Dagster and with the collector.

No container engine and no cluster is needed. What was only tried by hand is in docs/deployment.md. `make iac` lints
the same files with the tools that know them; `test_ecs.py` has the part of AWS, `test_kubernetes.py` that of a cluster.
"""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
import sqlalchemy
import yaml
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster_postgres.utils import pg_url_from_config
from packaging.requirements import Requirement

from zendesk_pipeline_tests.orchestration.test_lost_runs import Left
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.promise import kept_runs
from zendesk_pipeline_tests.root import ROOT

DEPLOY = ROOT / "deploy"
INSTANCES = {name: DEPLOY / "dagster" / name / "dagster.yaml" for name in ("postgres", "ecs")}
WORKSPACE = DEPLOY / "dagster" / "workspace.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())["services"]
OURS = ("code", "daemon", "webserver")
IMAGE = re.sub(r"^#.*\n|\\\n", "", (DEPLOY / "docker" / "Dockerfile").read_text(), flags=re.MULTILINE)
BIN = Path(sys.executable).parent

OF_THE_PLACE = {"storage", "compute_logs", "local_artifact_storage", "run_launcher"}
"""What differs from place to place. Everything else in a dagster.yaml is a rule, and the same everywhere."""
PLACE = {
    "DAGSTER_PG_HOST": "db.example.com",
    "DAGSTER_PG_DB": "dagster",
    "DAGSTER_PG_USERNAME": "dagster",
    "DAGSTER_PG_PASSWORD": "p",
    "DAGSTER_LOG_BUCKET": "logs",
    "DAGSTER_CODE_HOST": "code.example.com",
}


@pytest.fixture(autouse=True)
def _place(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in PLACE.items():
        monkeypatch.setenv(variable, value)


# The instance


def rules(path: Path) -> dict[str, Any]:
    return {key: value for key, value in yaml.safe_load(path.read_text()).items() if key not in OF_THE_PLACE}


RULES = rules(ROOT / "dagster.yaml")


@pytest.mark.parametrize("name", INSTANCES)
def test_each_instance_has_the_rules_of_one_machine(name: str) -> None:
    """Concurrency, monitoring, retries, retention, freshness: what holds in `make dev` holds in production."""
    assert rules(INSTANCES[name]) == RULES
    assert {"concurrency", "run_monitoring", "run_retries", "retention", "freshness", "telemetry"} <= RULES.keys()


def test_the_instances_differ_in_who_starts_a_run() -> None:
    """And in nothing else: storage and logs are the same on one machine and on ECS."""
    here, ecs = (yaml.safe_load(path.read_text()) for path in INSTANCES.values())
    assert ecs.pop("run_launcher")["class"] == "EcsRunLauncher"
    assert here == ecs


@pytest.mark.parametrize("name", INSTANCES)
def test_dagster_takes_each_instance(name: str) -> None:
    """It validates the whole file, and reaches PostgreSQL by the driver that is installed."""
    config, _ = dagster_instance_config(str(INSTANCES[name].parent))
    assert set(config) >= RULES.keys() | {"storage", "compute_logs"}
    storage = InstanceRef.from_dir(str(INSTANCES[name].parent)).storage_data
    assert storage
    engine = sqlalchemy.create_engine(pg_url_from_config(resolved(storage.config_dict)))
    assert engine.dialect.driver == "psycopg2"
    assert (engine.url.host, engine.url.password, engine.url.database) == ("db.example.com", "p", "dagster")


def resolved(config: Any) -> Any:
    """A configuration with what its `env`s stand for."""
    if not isinstance(config, dict):
        return config
    parts = cast("dict[str, Any]", config)
    return PLACE[parts["env"]] if set(parts) == {"env"} else {key: resolved(value) for key, value in parts.items()}


@pytest.mark.parametrize("name", INSTANCES)
def test_nothing_is_kept_in_the_folder_of_the_instance(name: str) -> None:
    """It may be read-only: records go to PostgreSQL, logs to S3, and no part is left to its default."""
    folder = str(INSTANCES[name].parent)
    reference = InstanceRef.from_dir(folder)
    parts = [reference.local_artifact_storage_data, reference.compute_logs_data, reference.storage_data]
    assert [folder in part.config_yaml for part in parts if part] == [False] * 3


def test_the_workspace_leads_to_the_code_server() -> None:
    """By the environment's host and the image's port, under the name that the location has in workspace.yaml."""
    (origin,) = location_origins_from_yaml_paths([str(WORKSPACE)])
    (local,) = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    assert isinstance(origin, GrpcServerCodeLocationOrigin)
    assert (origin.host, str(origin.port)) == ("code.example.com", served_port())
    assert origin.location_name == local["python_module"]["location_name"]


# The image


def instructions(name: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile."""
    return re.findall(rf"^{name} (.+)$", IMAGE, re.MULTILINE)


def served_port() -> str:
    (port,) = instructions("EXPOSE")
    return port


def test_the_image_is_of_exact_versions() -> None:
    """A base with all three numbers, of a Python that the project supports, and packages by their hashes alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (base,) = instructions("ARG")
    version = re.fullmatch(r"PYTHON=python:(\d+\.\d+\.\d+)-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    assert version
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version[1])
    installing = [text for text in instructions("RUN") if "pip install" in text]
    assert len(installing) == 2
    assert all("--require-hashes" in text or "--no-build-isolation ." in text for text in installing)
    assert all("--no-deps" in text for text in installing)


def test_only_what_the_image_copies_is_sent_to_be_built() -> None:
    """No .env, no history, no tests: .dockerignore leaves out everything and takes back the copied files."""
    first, *others = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    copied = {
        source.removeprefix("./")
        for text in instructions("COPY")
        if not text.startswith("--from")
        for source in text.split()[:-1]
    }
    assert first == "*"
    assert {line.removeprefix("!") for line in others if line.startswith("!")} == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_runs_as_nobody_in_particular() -> None:
    """By number, which is what Kubernetes can check, and not as root."""
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)


def test_every_process_of_the_image_stores_events_in_batches() -> None:
    """Runs of compose, Kubernetes and ECS are all started from it, and nothing sets the variable anew."""
    assert re.search(r"\bDAGSTER_EVENT_BATCH_SIZE=(\d+)\b", IMAGE)
    texts = [path.read_text() for path in DEPLOY.rglob("*.yaml")]
    assert [text for text in texts if "DAGSTER_EVENT_BATCH_SIZE" in text] == []


def test_the_image_has_everything_that_it_needs() -> None:
    """pip installs it without resolving, so each requirement of a requirement has to be among the locked ones."""
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements/production.txt").read_text(), re.MULTILINE))
    needed = set(_needed("zendesk-pipeline", "image"))
    assert {"dagster-webserver", "dagster-postgres", "psycopg2-binary", "dagster-k8s", "dagster-aws"} <= needed
    assert needed - locked == {"zendesk-pipeline"}


def _needed(name: str, extra: str) -> Iterator[str]:
    """A package and all that it requires on this system, as far as this environment has it."""
    waiting, done = [(name, extra)], set[tuple[str, str]]()
    while waiting:
        each = waiting.pop()
        if each in done:
            continue
        done.add(each)
        yield each[0]
        for text in distribution(each[0]).requires or []:
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": each[1]}):
                plain = re.sub(r"[._-]+", "-", wanted.name).lower()
                waiting += [(plain, inner) for inner in wanted.extras or {""}]
                waiting.append((plain, ""))


# Compose


def commands() -> dict[str, list[str]]:
    """What each service runs, the code server by the image's own command."""
    return {**{name: SERVICES[name]["command"] for name in OURS}, "code": json.loads(instructions("CMD")[0])}


@pytest.mark.parametrize("name", OURS)
def test_each_command_and_its_healthcheck_are_installed(name: str) -> None:
    """They are programs of the environment, with options they have, and files that the image has."""
    check = SERVICES[name]["healthcheck"]["test"]
    assert check[0] == "CMD"
    for command in (commands()[name], check[1:]):
        assert (BIN / command[0]).exists()
        files = [word for word in command if word.startswith("/srv/")]
        assert [word for word in files if not (DEPLOY / word.removeprefix("/srv/")).exists()] == []
    said = subprocess.run([BIN / commands()[name][0], "--help"], capture_output=True, text=True, check=True).stdout
    assert said


def test_the_code_server_ends_what_a_crash_has_left_and_serves(environment: dict[str, str], tmp_path: Path) -> None:
    """Started by the command of compose, which ends in the image's own, it becomes healthy by its healthcheck.

    Runs that were launched at the host by which compose names it have no process in a new container.
    """
    shell, option, line = SERVICES["code"]["command"]
    assert line.endswith(f" && exec {shlex.join(commands()['code'])}")
    port = str(lasting_port())
    command = [shell, option, line.replace(served_port(), port)]
    check = [word.replace(served_port(), port) for word in SERVICES["code"]["healthcheck"]["test"][1:]]
    started = {
        **PLACE,
        **environment,
        "PATH": f"{BIN}:/usr/bin:/bin",
        "TMPDIR": str(tmp_path),
        "HOME": str(tmp_path),
        "DAGSTER_HOME": str(kept_runs.home(tmp_path / "dagster")),
    }
    here = SERVICES["daemon"]["environment"]["DAGSTER_CODE_HOST"]
    with dg.DagsterInstance.from_config(started["DAGSTER_HOME"]) as instance:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            pass
        lost = Left(instance).run(host=here)
        Left(instance).reports(lost, process.pid)
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, env=started, stdout=log, stderr=log) as server:
        try:
            tries = (_healthy(check, started) for _ in range(60) if server.poll() is None)
            healthy = any(tries)
        finally:
            server.terminate()
    assert healthy, (tmp_path / "log").read_text()
    assert server.returncode == 0
    with dg.DagsterInstance.from_config(started["DAGSTER_HOME"]) as instance:
        assert Left(instance).status(lost) is dg.DagsterRunStatus.FAILURE
    assert not _healthy(check, started)


def _healthy(check: list[str], environment: dict[str, str]) -> bool:
    return subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0


def test_each_service_has_the_variables_of_the_instance() -> None:
    """Those that dagster.yaml and workspace.yaml read; the collector's settings go to the code server alone."""
    text = INSTANCES["postgres"].read_text() + WORKSPACE.read_text()
    read = set(re.findall(r"env: (\w+)", text))
    assert read == set(PLACE)
    for name in OURS:
        assert read <= SERVICES[name]["environment"].keys()
    assert [name for name, said in SERVICES.items() if "env_file" in said] == ["code"]


def test_no_secret_is_in_a_file_of_deployment() -> None:
    """Compose is given them by the environment, and refuses to start without them."""
    secrets = [said["environment"] for said in SERVICES.values()]
    passwords = {
        value
        for environment in secrets
        for variable, value in environment.items()
        if "PASSWORD" in variable or "SECRET" in variable
    }
    assert passwords == {"${DAGSTER_PG_PASSWORD:?set it in .env}", None}
    assert [path.name for path in (DEPLOY / "docker").iterdir() if path.name.endswith(".env")] == []


def test_nothing_is_reached_from_outside_the_machine() -> None:
    """The UI is published on the loopback address, the database not at all; and the database reaches nothing."""
    assert [said["ports"] for said in SERVICES.values() if "ports" in said] == [["127.0.0.1:3000:3000"]]
    assert SERVICES["postgres"]["networks"] == ["inside"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_held_and_started_again(name: str) -> None:
    """Read-only, without new rights, bounded in memory and logs, healthy or not, and up again after a restart."""
    said = SERVICES[name]
    assert said["read_only"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert said["restart"] == "unless-stopped"
    assert said["stop_grace_period"]
    assert said["mem_limit"]
    assert said["logging"]["options"]["max-size"]
    assert said["healthcheck"]["test"]
    assert [word for word in said["healthcheck"]["test"] if " " in word] == []  # podman splits it there
    assert name == "postgres" or said["cap_drop"] == ["ALL"]
    assert re.search(r":(\$\{\w+:-local\}|\d+\.\d+-\w+)$", said["image"])
