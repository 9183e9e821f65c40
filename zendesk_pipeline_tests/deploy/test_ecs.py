"""deploy/aws/dagster-on-ecs.yaml: what its roles may do is what Dagster's launcher does, and its tasks can collect.

Moto makes no stack of it (it does not resolve all of the template's references), so the template is filled in as
CloudFormation does, and its roles, cluster and task definitions are then made at moto one by one. Moto checks each
request against the policies by its action; their resources and conditions are read here.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, cast

import boto3
import pytest
import requests
import yaml
from botocore.exceptions import ClientError

from zendesk_pipeline.local.services import ACCESS_KEY, LOOPBACK, SECRET_KEY, moto_s3
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.deploy import cloudformation
from zendesk_pipeline_tests.deploy.test_deployment import INSTANCES, WORKSPACE, commands
from zendesk_pipeline_tests.fakes.listening import Connection, listening
from zendesk_pipeline_tests.launching import launch
from zendesk_pipeline_tests.project import settings_doc

PATH = cloudformation.PATH.with_name("dagster-on-ecs.yaml")
REGION, ACCOUNT = "us-east-1", "123456789012"
WRITER = f"arn:aws:iam::{ACCOUNT}:role/zendesk-to-secops-WriterRole"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:zendesk/client-AbCdEf"
RUN_TASK = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/dagster-run:1"
PARAMETERS = {
    "AWS::StackName": "dagster",
    "Image": "registry.example.com/zendesk-pipeline:0.1.0",
    "WriterRoleArn": WRITER,
    "Bucket": "acme-zendesk",
    "ZendeskBaseUrl": "https://acme.zendesk.com",
    "ZendeskSecret": SECRET,
    "StartDate": "2026-01-01",
    "UiUrl": "https://dagster.example.com",
    "UiTargetGroup": f"arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:targetgroup/ui/1",
    "UiClients": "sg-1",
    "Vpc": "vpc-1",
    "Subnets": "subnet-1",
}
OWN = {
    "RunTask": RUN_TASK,
    "Cluster.Arn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/Cluster",
    "StartRole.Arn": f"arn:aws:iam::{ACCOUNT}:role/StartRole",
    "DatabaseSecret": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:database",
    "LogBucket.Arn": "arn:aws:s3:::logs",
}
"""Values that the resources have of their own."""
RESOURCES: dict[str, dict[str, Any]] = cloudformation.filled_in(PATH, **PARAMETERS, **OWN)["Resources"]


def properties(kind: str) -> dict[str, dict[str, Any]]:
    """Of each resource of a kind, by its name."""
    return {name: said["Properties"] for name, said in RESOURCES.items() if said["Type"] == f"AWS::{kind}"}


TASKS = properties("ECS::TaskDefinition")


def container(task: str) -> dict[str, Any]:
    (only,) = TASKS[task]["ContainerDefinitions"]
    return only


def variables(task: str) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in container(task)["Environment"]}


# The tasks


def test_each_task_has_the_variables_of_its_instance() -> None:
    """Those that dagster.yaml reads; the code server's host and the task of runs where they are needed."""
    read = set(re.findall(r"env: (\w+)", INSTANCES["ecs"].read_text()))
    where = set(re.findall(r"env: (\w+)", WORKSPACE.read_text()))
    for task in TASKS:
        given = variables(task).keys() | {each["Name"] for each in container(task)["Secrets"]}
        assert read - given == ({"DAGSTER_RUN_TASK"} if task == "RunTask" else set()), task
        assert where <= given or task in {"RunTask", "CodeTask"}
        assert variables(task)["DAGSTER_HOME"] == f"/srv/dagster/{INSTANCES['ecs'].parent.name}"


def test_the_code_server_and_runs_are_told_the_same() -> None:
    """The collector's settings stand twice, are settings, and name secrets by reference."""
    code, run = variables("CodeTask"), variables("RunTask")
    assert {name: code[name] for name in run} == run
    assert code.keys() - run.keys() == {"DAGSTER_RUN_TASK"}
    known = {name.upper() for name in Settings.model_fields}
    chosen = {name.lower(): value for name, value in run.items() if name in known}
    assert Settings.model_validate(chosen).s3_bucket == "acme-zendesk"
    references = {name: value for name, value in run.items() if value.startswith("aws-sm:")}
    assert references.keys() == {"ZENDESK_CLIENT_ID", "ZENDESK_CLIENT_SECRET", "ALERT_URLS"}
    assert not run.keys() & {name for name in settings_doc.HOW_TO_GET if name not in references}


def test_the_heartbeat_is_read_where_the_secret_has_it() -> None:
    """By code server and runs, if Heartbeat=yes; a stack of before, whose secret has no such field, stays as it is."""
    made = cloudformation.filled_in(PATH, **PARAMETERS, **OWN, Heartbeat="yes")["Resources"]
    for task in ("CodeTask", "RunTask"):
        (said,) = made[task]["Properties"]["ContainerDefinitions"]
        more = [each for each in said["Environment"] if each not in container(task)["Environment"]]
        reference = variables(task)["ALERT_URLS"].replace("#alerts", "#heartbeat")
        assert more == [{"Name": "HEARTBEAT_URL", "Value": reference}]


def test_tasks_run_what_compose_runs() -> None:
    """The same commands, and the image's own for the code server; a run gets its command from the launcher."""
    told = {"DaemonTask": "daemon", "WebserverTask": "webserver"}
    assert {name: container(name).get("Command") for name in TASKS} == {
        **{task: commands()[service] for task, service in told.items()},
        "CodeTask": None,
        "RunTask": None,
    }


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_held(task: str) -> None:
    """A read-only root with /tmp to write to, its log kept, no password in its definition, roles of two kinds."""
    said = container(task)
    assert said["ReadonlyRootFilesystem"] is True
    assert [mount["ContainerPath"] for mount in said["MountPoints"]] == ["/tmp"]  # noqa: S108 - the container's own
    assert said["LogConfiguration"]["Options"]["awslogs-group"] == "Logs"
    assert [each["Name"] for each in said["Secrets"]] == ["DAGSTER_PG_PASSWORD"]
    assert TASKS[task]["TaskRoleArn"] != TASKS[task]["ExecutionRoleArn"]


def test_there_is_never_a_second_daemon() -> None:
    """It is ended before the next one starts: two would ask for the same runs."""
    services = properties("ECS::Service")
    daemon = services["DaemonService"]
    assert (daemon["DesiredCount"], daemon["DeploymentConfiguration"]["MaximumPercent"]) == (1, 100)
    # the launcher reads a launch type off its own task, and fails on a task of a capacity provider
    assert {name: said["LaunchType"] for name, said in services.items()} == dict.fromkeys(services, "FARGATE")


# The rights


def statements(role: str) -> list[dict[str, Any]]:
    """Of all policies of a role."""
    return [
        statement
        for policy in properties("IAM::ManagedPolicy").values()
        if role in policy["Roles"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def listed(said: str | list[str]) -> list[str]:
    return [said] if isinstance(said, str) else said


def rights(role: str) -> dict[str, list[str]]:
    """The resources of each action."""
    return {
        action: listed(statement["Resource"])
        for statement in statements(role)
        for action in listed(statement["Action"])
    }


LOGS = {"s3:GetObject": ["arn:aws:s3:::logs/dagster/*"], "s3:PutObject": ["arn:aws:s3:::logs/dagster/*"]}
WATCHING = {
    "ecs:DescribeTaskDefinition": ["*"],
    "ecs:DescribeTasks": [f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/Cluster/*"],
    "ecs:StopTask": [f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/Cluster/*"],
}
SECRETS = {"secretsmanager:GetSecretValue": [SECRET]}


def test_each_role_may_do_its_work_and_nothing_else() -> None:
    """Runs and the code server read Zendesk's secret, the daemon starts runs, the UI ends them; all keep logs."""
    find = {"s3:ListBucket": ["arn:aws:s3:::logs"]}
    assert rights(WRITER.rpartition("/")[2]) == {**LOGS, **find, **SECRETS}
    assert rights("CodeRole") == {**LOGS, **find, **SECRETS}
    assert rights("WebserverRole") == {**LOGS, **find, **WATCHING}
    assert rights("DaemonRole") == {
        **LOGS,
        **find,
        **WATCHING,
        "ecs:RunTask": [RUN_TASK],
        "ecs:TagResource": [f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/Cluster/*"],
        "iam:PassRole": [OWN["StartRole.Arn"], WRITER],
        "logs:GetLogEvents": [f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:Logs:*"],
        "ec2:DescribeNetworkInterfaces": ["*"],
    }
    assert rights("StartRole")["secretsmanager:GetSecretValue"] == [OWN["DatabaseSecret"]]


def test_rights_that_could_be_turned_elsewhere_are_conditional() -> None:
    """Roles are handed to ECS alone, runs are started in this cluster, tags are given when starting."""
    conditions = {
        action: statement.get("Condition")
        for statement in statements("DaemonRole")
        for action in listed(statement["Action"])
    }
    assert conditions["iam:PassRole"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    assert conditions["ecs:RunTask"] == {"ArnEquals": {"ecs:cluster": OWN["Cluster.Arn"]}}
    assert conditions["ecs:TagResource"] == {"StringEquals": {"ecs:CreateAction": "RunTask"}}


# A run, started


Client = Any


@dataclass(frozen=True, slots=True)
class Ecs:
    """An account at moto with the template's cluster, tasks and roles, and the task that the daemon is."""

    endpoint: str
    daemon: str
    """Its task's ARN."""
    metadata: str
    """Where that task finds what ECS says of it."""

    def client(self, service: str, **key: str) -> Client:
        make = cast("Callable[..., Client]", boto3.client)  # hints of S3 only are installed
        root = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
        return make(service, endpoint_url=self.endpoint, region_name=REGION, **(key or root))

    def check_rights_after(self, requests_left: int) -> None:
        url = f"{self.endpoint}/moto-api/reset-auth"
        requests.post(url, data=str(requests_left), timeout=60).raise_for_status()


class _Metadata(Connection):
    """What ECS tells a task of itself, at the address it gives it."""

    task: ClassVar[dict[str, str]] = {}

    def do_GET(self) -> None:
        body = json.dumps(self.task if self.path.endswith("/task") else {"Name": "daemon"}).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def metadata() -> Iterator[str]:
    with listening(_Metadata) as port:
        yield f"http://{LOOPBACK}:{port}"


@pytest.fixture
def ecs(tmp_path: Path, metadata: str) -> Iterator[Ecs]:
    with moto_s3(tmp_path, "unused") as server:
        account = Ecs(endpoint=server.endpoint, daemon="", metadata=metadata)
        client, iam = account.client("ecs"), account.client("iam")
        trust = json.dumps(properties("IAM::Role")["DaemonRole"]["AssumeRolePolicyDocument"])
        iam.create_role(RoleName="DaemonRole", AssumeRolePolicyDocument=trust)
        for name, policy in properties("IAM::ManagedPolicy").items():
            if "DaemonRole" in policy["Roles"]:
                made = iam.create_policy(PolicyName=name, PolicyDocument=json.dumps(everywhere(policy)))
                iam.attach_role_policy(RoleName="DaemonRole", PolicyArn=made["Policy"]["Arn"])
        client.create_cluster(clusterName="Cluster")
        for said in TASKS.values():
            definition = camels(said)
            # moto wants of each container what ECS wants of the task
            size = {name: int(definition[name]) for name in ("cpu", "memory")}
            definition["containerDefinitions"] = [size | each for each in definition["containerDefinitions"]]
            client.register_task_definition(**definition)
        ec2 = account.client("ec2")
        network = {
            "subnets": [each["SubnetId"] for each in ec2.describe_subnets()["Subnets"][:1]],
            "securityGroups": [each["GroupId"] for each in ec2.describe_security_groups()["SecurityGroups"][:1]],
        }
        (task,) = client.run_task(
            cluster="Cluster",
            taskDefinition="dagster-daemon",
            launchType="FARGATE",
            networkConfiguration={"awsvpcConfiguration": network},
        )["tasks"]
        _Metadata.task = {"Cluster": "Cluster", "TaskARN": task["taskArn"]}
        yield replace(account, daemon=task["taskArn"])


def everywhere(policy: dict[str, Any]) -> dict[str, Any]:
    """The document of a policy by its actions alone: moto knows no resources but S3's, and refuses what names some."""
    document = policy["PolicyDocument"]
    return {**document, "Statement": [{**each, "Resource": "*"} for each in document["Statement"]]}


def camels(said: Any) -> Any:
    """A definition as the API has it; options of a log driver keep their names, numbers of the template are texts."""
    if isinstance(said, list):
        return [camels(each) for each in cast("list[Any]", said)]
    if not isinstance(said, dict):
        return said
    parts = cast("dict[str, Any]", said)
    named = {name[0].lower() + name[1:]: value if name == "Options" else camels(value) for name, value in parts.items()}
    return named | {name: str(named[name]) for name in ("cpu", "memory") if name in named}


@pytest.fixture
def _daemon(ecs: Ecs, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process has what the daemon's task has: its variables and its role's credentials; rights are checked."""
    role = ecs.client("sts").assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/DaemonRole", RoleSessionName="daemon")
    key = role["Credentials"]
    values = {
        **variables("DaemonTask"),
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_SESSION_TOKEN": key["SessionToken"],
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": ecs.endpoint,
        "ECS_CONTAINER_METADATA_URI_V4": ecs.metadata,
    }
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which the launcher uses, and which keeps its credentials
    ecs.check_rights_after(0)
    yield
    ecs.check_rights_after(10**9)


LAUNCHER = yaml.safe_load(INSTANCES["ecs"].read_text())["run_launcher"]


@pytest.mark.usefixtures("_daemon")
def test_the_daemon_starts_a_run_as_a_task(ecs: Ecs, tmp_path: Path) -> None:
    """Dagster's launcher, by this dagster.yaml and with the daemon's rights alone, starts the task of runs.

    It gives it the daemon's network and the command of the run; nothing is registered, no secret is listed.
    """
    run = launch(tmp_path / "home", LAUNCHER, "ignored", {})
    ecs.check_rights_after(10**9)
    (task,) = ecs.client("ecs").describe_tasks(cluster="Cluster", tasks=[run.tags["ecs/task_arn"]])["tasks"]
    (override,) = task["overrides"]["containerOverrides"]
    assert task["taskDefinitionArn"] == RUN_TASK
    assert task["launchType"] == "FARGATE"
    assert override["name"] == container("RunTask")["Name"]
    assert override["command"][:3] == ["dagster", "api", "execute_run"]
    assert run.run_id in override["command"][3]
    assert len(json.dumps(task["overrides"])) < 8192  # what ECS takes
    assert "Secrets" not in override
    families = ecs.client("ecs").list_task_definitions()["taskDefinitionArns"]
    assert len(families) == len(TASKS)


@pytest.mark.usefixtures("_daemon")
@pytest.mark.parametrize("missing", ["ecs:RunTask", "ecs:DescribeTasks", "ecs:DescribeTaskDefinition"])
def test_without_one_of_its_rights_it_starts_none(ecs: Ecs, tmp_path: Path, missing: str) -> None:
    """Each is needed, and the rights are checked here."""
    ecs.check_rights_after(10**9)
    iam = ecs.client("iam")
    for policy in iam.list_attached_role_policies(RoleName="DaemonRole")["AttachedPolicies"]:
        document = json.dumps(everywhere(properties("IAM::ManagedPolicy")[policy["PolicyName"]]))
        if f'"{missing}"' in document:
            less = document.replace(f'"{missing}"', '"ecs:ListClusters"')
            iam.create_policy_version(PolicyArn=policy["PolicyArn"], PolicyDocument=less, SetAsDefault=True)
    ecs.check_rights_after(0)
    with pytest.raises(ClientError, match=re.escape(missing)):
        launch(tmp_path / "home", LAUNCHER, "ignored", {})
