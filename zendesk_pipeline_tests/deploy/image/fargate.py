"""Fargate's part, by podman: it starts a container as a task definition describes it, and those of tasks asked for.

moto takes the requests and remembers the tasks. A container has what ECS gives it and nothing else: its variables and
secrets, its role's key from an address, what ECS says of its task, a volume for each mount. Its user is the image's.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-environment-variables.html
"""

import json
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from zendesk_pipeline.local.services import ACCESS_KEY, LOOPBACK, SECRET_KEY
from zendesk_pipeline_tests.deploy.image.containers import Container, ran, started
from zendesk_pipeline_tests.fakes.listening import Connection, listening

STOP_SECONDS = 30
"""Between SIGTERM and SIGKILL where a definition does not say."""
OF_THIS_MACHINE = (
    "--runtime=runc",
    "--pull=never",
    "--network=host",
    "--read-only-tmpfs=false",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1000:1000",
)
"""What podman needs here: two limits that a container may not raise, and the network that all of them share."""

Definition = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fargate:
    """One cluster at moto, and the containers of this machine that are its tasks."""

    ecs: Any
    secrets: Any
    """Clients of moto's."""
    cluster: str
    names: Mapping[str, str]
    """Addresses of host names in its network."""
    around: Mapping[str, str]
    """Where AWS is, by variables; on AWS nothing has to say so."""
    address: str
    """Where a task asks for its key and for what it is."""
    logs: Path
    asked_for: dict[str, Container] = field(default_factory=dict[str, Container])
    """The containers of tasks that the launcher asked for, by the task."""

    def start(self, name: str, definition: Definition, command: Sequence[str] = ()) -> Container:
        """A container of a definition, by another command than its own if one is given."""
        (said,) = definition["ContainerDefinitions"]
        given = {each["Name"]: each["Value"] for each in said["Environment"]}
        secret = {each["Name"]: self._secret(each["ValueFrom"]) for each in said["Secrets"]}
        own = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.address}/key",
            "ECS_CONTAINER_METADATA_URI_V4": self.address,
            "AWS_DEFAULT_REGION": self.ecs.meta.region_name,
            "AWS_REGION": self.ecs.meta.region_name,
        }
        options = [
            *OF_THIS_MACHINE,
            *(["--read-only"] if said["ReadonlyRootFilesystem"] else []),
            *(["--init"] if said["LinuxParameters"]["InitProcessEnabled"] else []),
            *(f"--volume={mount['ContainerPath']}" for mount in said["MountPoints"]),
            *(f"--add-host={host}:{address}" for host, address in self.names.items()),
            *(f"--env={key}={value}" for key, value in {**self.around, **own, **given, **secret}.items()),
        ]
        return started(name, said["Image"], command or said.get("Command", ()), options)

    def _secret(self, reference: str) -> str:
        """One field of a secret that is JSON: `arn:field::`, as in a task definition."""
        arn, key, version, stage = reference.rsplit(":", 3)
        assert (version, stage) == ("", "")
        return json.loads(self.secrets.get_secret_value(SecretId=arn)["SecretString"])[key]

    def look(self, family: str, definition: Definition) -> None:
        """Start the tasks of a family that were asked for since; say of those which ended that they did."""
        (said,) = definition["ContainerDefinitions"]
        for arn in self.ecs.list_tasks(cluster=self.cluster, family=family)["taskArns"]:
            if arn not in self.asked_for:
                (task,) = self.ecs.describe_tasks(cluster=self.cluster, tasks=[arn])["tasks"]
                (override,) = task["overrides"]["containerOverrides"]
                assert override["name"] == said["Name"]
                name = f"tried-run-{arn.rpartition('/')[2]}"
                self.asked_for[arn] = self.start(name, definition, override["command"])
            elif self.status(arn) is not None:
                self.ecs.stop_task(cluster=self.cluster, task=arn)

    def status(self, arn: str) -> int | None:
        """The exit status of a task's container; none while it runs."""
        state = json.loads(ran("podman", "inspect", self.asked_for[arn].name))[0]["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def kept(self, name: str) -> None:
        """Keep what a container said, and remove it with its volume."""
        with (self.logs / f"{name}.log").open("wb") as log:
            subprocess.run(["podman", "logs", name], stdout=log, stderr=log, check=False)  # noqa: S607 - as usual
        ran("podman", "rm", "--force", "--volumes", "--time=0", name)


class _Said(Connection):
    """What ECS tells a task: the key of its role, and which task it is."""

    task: Mapping[str, str]

    def do_GET(self) -> None:
        lasts = {"Token": "", "Expiration": "2100-01-01T00:00:00Z"}
        key = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, **lasts}
        said = {"/key": key, "/task": self.task}.get(self.path, {"Name": "daemon"})
        body = json.dumps(said).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def said_to_tasks(task: Mapping[str, str]) -> Generator[str]:
    """The address where every container is told its key, and that it is `task`: the launcher looks up its network."""
    with listening(type("_Task", (_Said,), {"task": task})) as port:
        yield f"http://{LOOPBACK}:{port}"


@contextmanager
def gone_at_the_end(fargate: Fargate) -> Generator[None]:
    """Whatever was asked for has gone when the block ends, and what it said is kept."""
    try:
        yield
    finally:
        for each in fargate.asked_for.values():
            fargate.kept(each.name)


@contextmanager
def part(fargate: Fargate, name: str, definition: Definition) -> Generator[Container]:
    """A service's container until the block ends."""
    started = fargate.start(name, definition)
    try:
        yield started
    finally:
        fargate.kept(name)
