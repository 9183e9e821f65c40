"""What lies in deploy/ for more than one process: its files agree with each other, with Dagster and with the collector.

No container engine and no cluster is needed. What was only tried by hand is in docs/deployment.md. `make iac` lints
the same files with the tools that know them, and `test_ecs.py` has the part of AWS.
"""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, ClassVar, cast

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

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.fakes.listening import Connection, listening
from zendesk_pipeline_tests.launching import launch
from zendesk_pipeline_tests.orchestration.test_lost_runs import Left
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.project import settings_doc
from zendesk_pipeline_tests.promise import kept_runs
from zendesk_pipeline_tests.root import ROOT

DEPLOY = ROOT / "deploy"
INSTANCES = {name: DEPLOY / "dagster" / name / "dagster.yaml" for name in ("postgres", "ecs")}
WORKSPACE = DEPLOY / "dagster" / "workspace.yaml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())["services"]
OURS = ("code", "daemon", "webserver")
HELM: dict[str, Any] = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
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


# Kubernetes


def test_the_chart_is_told_the_rules_of_one_machine() -> None:
    """In its own words: concurrency, monitoring, retries, retention, freshness, telemetry."""
    daemon, pools, ticks = HELM["dagsterDaemon"], HELM["concurrency"], HELM["retention"]
    assert HELM["additionalInstanceConfig"].keys() - OF_THE_PLACE == {"nux", "freshness"}
    told = {
        "telemetry": HELM["telemetry"],
        "nux": HELM["additionalInstanceConfig"]["nux"],
        "freshness": HELM["additionalInstanceConfig"]["freshness"],
        "concurrency": {part: snakes(pools[part]) for part in ("pools", "runs")},
        "run_queue": snakes(daemon["runCoordinator"]["config"]["queuedRunCoordinator"]),
        "run_monitoring": snakes(daemon["runMonitoring"]),
        "run_retries": snakes(daemon["runRetries"]),
        "retention": {part: snakes(ticks[part]) for part in ("schedule", "sensor")},
    }
    # what the chart has to be told, and Dagster does by itself
    assert told["retention"]["sensor"]["purge_after_days"].pop("started") == -1
    assert told == RULES
    assert (pools["enabled"], ticks["enabled"], daemon["runMonitoring"]["enabled"]) == (True, True, True)


def snakes(said: dict[str, Any]) -> dict[str, Any]:
    """Names as Dagster has them."""
    return {re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name): value for name, value in said.items()}


def test_the_chart_reaches_the_database_by_the_driver_that_is_installed() -> None:
    """The same scheme as in the instances, a database of its own, and a password from a secret that is there."""
    storage = yaml.safe_load(INSTANCES["postgres"].read_text())["storage"]["postgres"]["postgres_db"]
    assert HELM["postgresql"]["postgresqlScheme"] == storage["scheme"]
    assert HELM["postgresql"]["enabled"] is False
    assert HELM["generatePostgresqlPasswordSecret"] is False
    assert HELM["global"]["postgresqlSecretName"]


def test_every_part_in_the_cluster_is_the_same_image() -> None:
    """Of one tag, never `latest`: Dagster's own image lacks the version of this lock."""
    (code,) = HELM["dagster-user-deployments"]["deployments"]
    images = [code["image"], HELM["dagsterDaemon"]["image"], HELM["dagsterWebserver"]["image"]]
    assert images == [images[0]] * 3
    assert images[0]["tag"] not in {"", "latest", None}


def test_the_code_server_of_the_cluster_is_that_of_the_image() -> None:
    """The chart makes `dagster api grpc` of these arguments: the same module and port as the image's own command."""
    (code,) = HELM["dagster-user-deployments"]["deployments"]
    command = commands()["code"]
    assert code["dagsterApiGrpcArgs"] == command[command.index("--module-name") :]
    assert str(code["port"]) == served_port()


def test_settings_in_the_cluster_exist() -> None:
    """Each variable is a setting, or one that a library reads, and no secret is among them."""
    (code,) = HELM["dagster-user-deployments"]["deployments"]
    values = {each["name"]: each["value"] for each in code["env"]}
    known = {name.upper() for name in Settings.model_fields} | settings_doc.OF_OTHERS.keys()
    assert values.keys() <= known
    Settings.model_validate({name.lower(): value for name, value in values.items()})


class _Cluster(Connection):
    """As much of the Kubernetes API as takes a job."""

    jobs: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.jobs.append({"path": self.path, **json.loads(body)})
        self.send_response(HTTPStatus.CREATED)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig of a cluster that remembers the jobs it was given."""
    with listening(_Cluster) as port:
        here = {"server": f"http://{LOOPBACK}:{port}"}
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": here}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        _Cluster.jobs.clear()
        yield tmp_path / "kubeconfig"


def test_a_run_in_the_cluster_is_a_job_that_can_collect_and_little_else(cluster: Path, tmp_path: Path) -> None:
    """Dagster's launcher, told what the chart tells it of values.yaml, asks for a job with the collector's settings.

    It has the writer's service account, the secrets by name only, a bound on memory, nothing to write to but /tmp, and
    no rights of root.
    """
    own = HELM["runLauncher"]["config"]["k8sRunLauncher"]
    (code,) = HELM["dagster-user-deployments"]["deployments"]
    launcher = {
        "load_incluster_config": False,
        "kubeconfig_file": str(cluster),
        "job_namespace": "logs",
        "image_pull_policy": own["imagePullPolicy"],
        "service_account_name": HELM["serviceAccount"]["name"],
        "dagster_home": HELM["global"]["dagsterHome"],
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": HELM["global"]["postgresqlSecretName"],
        "run_k8s_config": snakes(own["runK8sConfig"]),
    }
    handed_on = {
        "namespace": "logs",
        "image_pull_policy": code["image"]["pullPolicy"],
        "env": code["env"],
        "env_secrets": [secret["name"] for secret in code["envSecrets"]],
        "volumes": code["volumes"],
        "volume_mounts": code["volumeMounts"],
        "resources": code["resources"],
        "service_account_name": HELM["dagster-user-deployments"]["serviceAccount"]["name"],
    }
    image = f"{code['image']['repository']}:{code['image']['tag']}"
    said = {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher}
    launch(tmp_path / "home", said, image, {"k8s": handed_on})

    (job,) = _Cluster.jobs
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert job["path"] == "/apis/batch/v1/namespaces/logs/jobs"
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert pod["serviceAccountName"] == "zendesk-pipeline"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["image"] == image
    assert container["securityContext"] == code["securityContext"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "memory" in container["resources"]["limits"]
    assert [
        mount["mountPath"] for mount in container["volumeMounts"] if not mount["mountPath"].startswith("/srv/")
    ] == [
        "/tmp"  # noqa: S108 - the pod's own
    ]
    given = {each["name"]: each for each in container["env"]}
    assert {each["name"] for each in code["env"]} <= given.keys()
    assert given["DAGSTER_PG_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == HELM["global"]["postgresqlSecretName"]
    assert {"secretRef": {"name": "zendesk-pipeline"}} in container["envFrom"]
