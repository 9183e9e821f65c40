"""deploy/docker/compose.yaml, started by Docker Compose over podman's socket, with Zendesk and S3 beside it."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import yaml

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.local.services import ACCESS_KEY, LOOPBACK, SECRET_KEY
from zendesk_pipeline.local.services import _program as program
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, EMAIL
from zendesk_pipeline.local.simulator.control import SimulatorControl
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.model.windows import Span
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.deploy.cluster.stage import found
from zendesk_pipeline_tests.deploy.image import containers
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.root import ROOT

COMPOSE = ROOT / ".venv-iac" / "bin" / "docker-compose"
PROJECT = "zendesk-pipeline-tried"
"""A name of its own: the one in compose.yaml may be at work on this machine, and its volume has what Dagster knows."""
OURS, POSTGRES = containers.IMAGE, "localhost/zendesk-pipeline-postgres:tried"
"""In the place of the images that compose.yaml names, whose names are not taken."""
BUCKET = "zendesk-raw"
PARTS = ("postgres", "code", "daemon", "webserver")
ENGINE = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
"""
PATIENCE = 240
CHECK_SECONDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """The services of compose.yaml, and what a test needs of those beside them."""

    folder: Path
    socket: str
    zendesk: str
    """The address of the simulated Zendesk from here."""
    s3: Any
    """A client."""

    @property
    def control(self) -> SimulatorControl:
        """A new one each time: a connection into a container that has gone is dead and does not say so."""
        return SimulatorControl(self.zendesk)

    def compose(self, *arguments: str) -> str:
        """What Docker Compose says; where it fails, that is the error."""
        files = (f"--file={self.folder}/deploy/docker/compose.yaml", f"--file={self.folder}/beside.yaml")
        command = (COMPOSE, f"--project-name={PROJECT}", f"--env-file={self.folder}/.env", *files, *arguments)
        done = subprocess.run(
            command, env={**os.environ, "DOCKER_HOST": self.socket}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self) -> None:
        """Every service, when all are healthy."""
        self.compose(
            "up", "--detach", "--no-build", "--pull=never", "--no-recreate", "--wait", f"--wait-timeout={PATIENCE}"
        )

    def join(self) -> None:
        """Zendesk once more in the code server's network, which went with its container; it shows the same records."""
        self.compose("up", "--detach", "--no-deps", "--force-recreate", "--no-build", "--pull=never", "zendesk")

    def emptied(self) -> None:
        """Containers that were never started, and an empty volume; S3 stays as it is."""
        self.compose("rm", "--force", "--stop", "zendesk")  # first, since it is in another one's network
        self.compose("rm", "--force", "--stop", *PARTS)
        subprocess.run(["podman", "volume", "rm", f"{PROJECT}_postgres"], capture_output=True, check=False)  # noqa: S607 - as usual
        self.compose("create", "--no-build", "--pull=never", "--no-recreate")

    def start(self, name: str) -> None:
        """One container, as an engine starts it: whatever Compose knows of the others."""
        containers.ran("podman", "start", f"{PROJECT}-{name}-1")
        if name == "code":
            containers.ran("podman", "start", f"{PROJECT}-zendesk-1")

    def are_well(self) -> bool:
        """Whether every part of compose.yaml runs and is healthy."""
        said = self.states()
        return all(said[name] == ("running", "healthy") for name in PARTS)

    def is_exact(self, span: Span) -> bool:
        """Whether each record of these hours is in the bucket, once."""
        layout = Layout.of(Settings())
        store = Store(client=self.s3, bucket=BUCKET, encryption={})
        kept = (Bucket(stream=STREAMS[name], store=store, layout=layout) for name in COLLECTED_BY_DEFAULT)
        proofs = [prove(bucket, span, self.control) for bucket in kept]
        return all(proof.holds for proof in proofs) and sum(proof.at_source for proof in proofs) > 10

    def states(self) -> Mapping[str, tuple[str, str]]:
        """By service, what it does and how it is."""
        lines = self.compose("ps", "--all", "--format=json").splitlines()
        return {said["Service"]: (said["State"], said["Health"]) for said in map(json.loads, lines)}

    def runs(self) -> list[str]:
        """The status of each run, newest first, as the UI shows them; none while it cannot be asked."""
        query = json.dumps({"query": "{runsOrError{...on Runs{results{status}}}}"})
        code = (
            "import sys,urllib.request as u;"
            "r=u.Request('http://127.0.0.1:3000/graphql',sys.argv[1].encode(),{'Content-Type':'application/json'});"
            "print(u.urlopen(r,timeout=30).read().decode())"
        )
        command = ("podman", "exec", f"{PROJECT}-webserver-1", "python", "-c", code, query)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        shown: list[dict[str, str]] = (
            json.loads(done.stdout)["data"]["runsOrError"]["results"] if done.returncode == 0 else []
        )
        return [run["status"] for run in shown]


def _beside(folder: Path, ports: tuple[int, int], since: str) -> str:
    """Images of here; Zendesk in the network of the code server, as if on the same machine; S3 in one of its own."""
    weed = Path(program("weed"))
    identities = folder / "identities.json"
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    identities.write_text(json.dumps({"identities": [{"name": "local", "credentials": keys, "actions": rights}]}))
    simulate = ["zendesk-pipeline", "simulate", "--host=0.0.0.0", "--port=8100", f"--since={since}"]
    served = ["/weed", "server", "-dir=/tmp", "-ip=s3", "-ip.bind=0.0.0.0", "-s3", "-s3.port=8333"]
    options = ["-s3.config=/identities.json", "-s3.autoCreateBucket=false", "-master.volumeSizeLimitMB=64"]
    return yaml.safe_dump(
        {
            "services": {
                "zendesk": {"image": OURS, "network_mode": "service:code", "command": simulate},
                "postgres": {"image": POSTGRES},
                "code": {"image": OURS, "ports": [f"{LOOPBACK}:{ports[0]}:8100"]},
                "daemon": {"image": OURS},
                "webserver": {"image": OURS},
                "s3": {
                    "image": OURS,
                    "networks": ["inside", "outside"],
                    "ports": [f"{LOOPBACK}:{ports[1]}:8333"],
                    "tmpfs": ["/tmp"],  # noqa: S108 - of its container
                    "volumes": [f"{weed}:/weed:ro", f"{identities}:/identities.json:ro"],
                    "command": [*served, *options],
                },
            }
        }
    )


@contextmanager
def composed(folder: Path, since: str, start: str) -> Generator[Composed]:
    """The services, not started yet but for S3 and its bucket; gone with their data when the block ends."""
    containers.built()
    below = containers.base()
    context = str(Path(__file__).with_name("postgres"))
    containers.ran("buildah", "build", "--layers", f"--build-arg=BASE={below}", f"--tag={POSTGRES}", context)
    containers.handed_over(POSTGRES)
    ports = (lasting_port(), lasting_port())
    shutil.copytree(ROOT / "deploy" / "docker", folder / "deploy" / "docker")
    (folder / ".env").write_text(
        f"ZENDESK_BASE_URL=http://{LOOPBACK}:8100\nAUTH_MODE=token\nZENDESK_EMAIL={EMAIL}\n"
        f"ZENDESK_API_TOKEN={API_TOKEN}\nS3_BUCKET={BUCKET}\nSTART_DATE={start}\nAWS_ACCESS_KEY_ID={ACCESS_KEY}\n"
        f"AWS_SECRET_ACCESS_KEY={SECRET_KEY}\nAWS_DEFAULT_REGION=us-east-1\nAWS_ENDPOINT_URL_S3=http://s3:8333\n"
        f"DAGSTER_PG_PASSWORD='p%@:/$word'\nDAGSTER_LOG_BUCKET={BUCKET}\n"
    )
    (folder / "beside.yaml").write_text(_beside(folder, ports, since))
    (folder / "containers.conf").write_text(ENGINE)
    socket = f"unix://{folder}/podman.sock"
    client: Any = boto3.client(
        "s3",
        endpoint_url=f"http://{LOOPBACK}:{ports[1]}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name="us-east-1",
    )
    services = Composed(folder=folder, socket=socket, zendesk=f"http://{LOOPBACK}:{ports[0]}", s3=client)
    with ExitStack() as up:
        up.enter_context(_engine(folder, socket))
        services.compose("down", "--volumes", "--timeout=20")  # what an interrupted one has left
        up.callback(services.compose, "down", "--volumes", "--timeout=20")
        services.compose("up", "--detach", "--no-build", "--pull=never", "s3")
        found(lambda: _has_bucket(client), within=PATIENCE)
        yield services


def _has_bucket(client: Any) -> bool:
    try:
        client.create_bucket(Bucket=BUCKET)
    except Exception:  # noqa: BLE001 - not up yet: whatever it says, it is asked again
        return False
    return True


@contextmanager
def _engine(folder: Path, socket: str) -> Generator[None]:
    """podman's service, and in systemd's place somebody who runs the health checks."""
    environment = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}
    command = ("podman", "system", "service", "--time=0", socket)
    with (folder / "podman.log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as service:
        over = threading.Event()
        checks = threading.Thread(target=_check, args=(over,), daemon=True)
        checks.start()
        try:
            found(lambda: Path(socket.removeprefix("unix://")).exists(), within=PATIENCE)
            yield
        finally:
            over.set()
            checks.join()
            service.terminate()


def _check(over: threading.Event) -> None:
    while not over.wait(CHECK_SECONDS):
        for name in containers.ran("podman", "ps", "--quiet", f"--filter=name={PROJECT}-").split():
            subprocess.run(["podman", "healthcheck", "run", name], capture_output=True, check=False)  # noqa: S607 - as usual
