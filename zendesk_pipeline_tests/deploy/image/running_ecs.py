"""dagster-on-ecs.yaml, run: its containers by podman as ECS would start them, moto for the rest of AWS.

The daemon asks for each run as a task; it is started then, by the definition of runs. Beside them are Zendesk, S3 and a
PostgreSQL that speaks TLS, at the port that a database has.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
import dagster as dg
import psycopg2
import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.local.services import (
    ACCESS_KEY,
    LOOPBACK,
    SECRET_KEY,
    local_s3,
    moto_s3,
    simulated_zendesk,
)
from zendesk_pipeline.local.simulator.accounts import CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.orchestration.catch_up_sensor import UNDER_WAY, delivered_windows
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.deploy import cloudformation
from zendesk_pipeline_tests.deploy.cluster.servers import PASSWORD, NoServerError, Postgres, postgres
from zendesk_pipeline_tests.deploy.cluster.stage import found, newest
from zendesk_pipeline_tests.deploy.image import containers
from zendesk_pipeline_tests.deploy.image.containers import Container, ran
from zendesk_pipeline_tests.deploy.image.fargate import STOP_SECONDS, Fargate, gone_at_the_end, part, said_to_tasks
from zendesk_pipeline_tests.deploy.test_deployment import INSTANCES
from zendesk_pipeline_tests.deploy.test_ecs import OWN, PARAMETERS, PATH, REGION, camels
from zendesk_pipeline_tests.fakes import certificates

PATIENCE = 300
DATABASE = "127.54.32.1"
"""An address of this machine, where the usual port is free: the instance of ECS names none."""
LOG_BUCKET = "dagster-logs"
PARTS = {"CodeTask": "code", "DaemonTask": "daemon", "WebserverTask": "webserver"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The services of the template, each a container, and what they stand on."""

    parts: Mapping[str, Container]
    fargate: Fargate
    tasks: Mapping[str, Any]
    span: Span
    buckets: Mapping[str, Bucket]
    logs: Store
    """The bucket of what steps print."""
    database: str
    control: Any

    def look(self) -> None:
        """Start what the daemon has asked for."""
        self.fargate.look("dagster-run", self.tasks["RunTask"])


def _speak_tls_alone(database: Postgres, folder: Path) -> None:
    """The server takes connections by TLS and no others from now on, as RDS does."""
    ((data,),) = database.rows("SHOW data_directory")
    pem, owner = certificates.server(folder, None).path.read_bytes(), Path(data).stat()
    for name in ("server.crt", "server.key"):
        path = Path(data) / name
        path.write_bytes(pem)
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    (Path(data) / "postgresql.auto.conf").write_text("ssl = on\n")
    rules = Path(data) / "pg_hba.conf"
    rules.write_text(re.sub(r"^host\b", "hostssl", rules.read_text(), flags=re.MULTILINE))
    database.rows("SELECT pg_reload_conf()")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Everything the template's services need, and the services, all healthy by their own checks."""
    if said := containers.missing():
        pytest.exit(said, returncode=1)
    image, folder, span = containers.built(), tmp_path_factory.mktemp("ecs"), newest(3)
    with ExitStack() as up:
        try:
            database = up.enter_context(postgres(folder, DATABASE, 5432))
        except NoServerError as absent:
            pytest.exit(absent.message, returncode=1)
        _speak_tls_alone(database, folder)
        s3 = up.enter_context(local_s3(folder))
        s3.client().create_bucket(Bucket=LOG_BUCKET)
        zendesk = up.enter_context(simulated_zendesk(folder, "--since", timestamp(span.start - 24 * HOUR)))
        aws = up.enter_context(moto_s3(folder / "aws", "unused")).endpoint
        ecs, secrets, ec2 = (_client(each, aws) for each in ("ecs", "secretsmanager", "ec2"))
        client = json.dumps({"id": CLIENT_ID, "secret": CLIENT_SECRET, "alerts": ""})
        chosen = {
            **PARAMETERS,
            "Image": image,
            "Bucket": s3.bucket,
            "ZendeskBaseUrl": zendesk.url,
            "ZendeskSecret": secrets.create_secret(Name="zendesk/client", SecretString=client)["ARN"],
            "StartDate": timestamp(span.start),
        }
        password = json.dumps({"username": "dagster", "password": PASSWORD})
        own = {
            **OWN,
            "DatabaseSecret": secrets.create_secret(Name="database", SecretString=password)["ARN"],
            "Database.Endpoint.Address": DATABASE,
            "LogBucket": LOG_BUCKET,
        }
        resources = cloudformation.filled_in(PATH, **chosen, **own)["Resources"]
        tasks = {name: resources[name]["Properties"] for name in (*PARTS, "RunTask")}
        fargate = Fargate(
            ecs=ecs,
            secrets=secrets,
            cluster="Cluster",
            names={"code.dagster.internal": LOOPBACK},
            around={"AWS_ENDPOINT_URL": aws, "AWS_ENDPOINT_URL_S3": s3.endpoint},
            address=up.enter_context(said_to_tasks(_daemon(ecs, ec2, tasks))),
            logs=folder,
        )
        up.enter_context(gone_at_the_end(fargate))
        parts: dict[str, Container] = {}
        for task, name in PARTS.items():
            parts[name] = up.enter_context(part(fargate, f"tried-{name}", tasks[task]))
            check = _said(tasks[task])["HealthCheck"]["Command"]
            assert check[0] == "CMD"
            found(lambda each=parts[name], check=check[1:]: each.healthy(check), within=PATIENCE)
        store = Store(client=s3.client(), bucket=s3.bucket, encryption={})
        layout = Layout.of(Settings())
        yield Running(
            parts=parts,
            fargate=fargate,
            tasks=tasks,
            span=span,
            buckets={name: Bucket(stream=STREAMS[name], store=store, layout=layout) for name in COLLECTED_BY_DEFAULT},
            logs=Store(client=s3.client(), bucket=LOG_BUCKET, encryption={}),
            database=database.url.replace("+psycopg2", ""),
            control=zendesk.control,
        )


def _said(task: Mapping[str, Any]) -> dict[str, Any]:
    (only,) = task["ContainerDefinitions"]
    return only


def _client(service: str, endpoint: str) -> Any:
    make = cast("Callable[..., Any]", boto3.client)  # hints of S3 only are installed
    key = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    return make(service, endpoint_url=endpoint, region_name=REGION, **key)


def _daemon(ecs: Any, ec2: Any, tasks: Mapping[str, Any]) -> dict[str, str]:
    """The cluster with the template's tasks, of which the daemon's is at work: what ECS tells it of itself."""
    ecs.create_cluster(clusterName="Cluster")
    for said in tasks.values():
        definition = camels(said)
        size = {name: int(definition[name]) for name in ("cpu", "memory")}  # moto wants it of each container too
        definition["containerDefinitions"] = [size | each for each in definition["containerDefinitions"]]
        ecs.register_task_definition(**definition)
    network = {
        "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "securityGroups": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
    }
    (task,) = ecs.run_task(
        cluster="Cluster",
        taskDefinition="dagster-daemon",
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": network},
    )["tasks"]
    return {"Cluster": "Cluster", "TaskARN": task["taskArn"]}


@pytest.fixture
def instance(running: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The records of the template's Dagster, reached as its parts reach them."""
    values = {each["Name"]: each["Value"] for each in _said(running.tasks["RunTask"])["Environment"]}
    for name in ("DAGSTER_PG_HOST", "DAGSTER_PG_DB", "DAGSTER_PG_USERNAME", "PGSSLMODE", "DAGSTER_LOG_BUCKET"):
        monkeypatch.setenv(name, values[name])
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", PASSWORD)
    with dg.DagsterInstance.from_config(str(INSTANCES["postgres"].parent)) as records:
        yield records


def test_what_is_missing_is_collected_by_tasks(running: Running, instance: dg.DagsterInstance) -> None:
    """The sensor finds hours missing, the daemon asks for tasks of its own accord, each record is in S3 once."""

    def whole() -> bool:
        running.look()
        keys = [dg.AssetKey(name) for name in COLLECTED_BY_DEFAULT]
        done = all(delivered_windows(instance, key, among=running.span) == set(running.span) for key in keys)
        return done and not instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))

    found(whole, within=PATIENCE)
    proofs = [prove(bucket, running.span, running.control) for bucket in running.buckets.values()]
    assert all(proof.holds for proof in proofs), proofs
    assert sum(proof.at_source for proof in proofs) > 10  # some hours of the simulated account are quiet


def test_each_run_was_a_task_of_its_own_that_ended_well(running: Running, instance: dg.DagsterInstance) -> None:
    """The runs that Dagster knows are the tasks that were asked for; every container ended with status 0."""
    runs = instance.get_runs()
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    asked_for = running.fargate.asked_for
    assert sorted(run.tags["ecs/task_arn"] for run in runs) == sorted(asked_for)
    found(lambda: None not in {running.fargate.status(arn) for arn in asked_for}, within=60)
    assert {running.fargate.status(arn) for arn in asked_for} == {0}


def test_the_database_takes_no_connection_but_by_tls(running: Running, instance: dg.DagsterInstance) -> None:
    """Whatever was written above went by TLS: `PGSSLMODE` of the definitions is all that a driver needs to be told."""
    assert instance.get_runs_count() > 0
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        psycopg2.connect(running.database, sslmode="disable")


def test_what_steps_print_is_in_the_bucket_of_logs(running: Running) -> None:
    """Compute logs of a run are objects below `dagster/`, not files of a container that goes."""
    assert any(key.endswith(".err") for key in running.logs.keys("dagster/"))


@pytest.mark.parametrize("name", PARTS.values())
def test_a_task_is_nobody_and_writes_to_its_volume_alone(running: Running, name: str) -> None:
    """The image's user, who can write to the volume that ECS mounts at /tmp, empty as it is, and to nothing else."""
    inside = ("podman", "exec", running.parts[name].name)
    assert ran(*inside, "id", "--user").strip() == "10001"
    looked = "find / -xdev -writable '(' -type f -o -type d ')' 2>/dev/null || true"
    assert ran(*inside, "sh", "-c", looked).split() == ["/tmp"]  # noqa: S108 - the one of the container


def test_each_part_ends_by_itself_when_it_is_asked_to(running: Running) -> None:
    """SIGTERM, as ECS sends it: status 0 within the time that it gives."""
    ended = {name: running.parts[name].ended(STOP_SECONDS) for name in ("webserver", "daemon", "code")}
    assert ended == {"webserver": 0, "daemon": 0, "code": 0}
