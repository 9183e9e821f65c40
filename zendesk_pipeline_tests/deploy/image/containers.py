"""Images and containers of this machine: buildah builds, podman runs what is built, with no daemon between."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from zendesk_pipeline_tests.root import ROOT

DEBIAN_BASE, BASE, IMAGE = "localhost/python:", "localhost/python:bookworm", "localhost/zendesk-pipeline:tried"
DOCKER = ROOT / "deploy" / "docker"
SCRIPT, MADE_BY = DOCKER / "debian-base.sh", "made-by-sha256"
NEEDED = ("buildah", "podman", "runc", "debootstrap")
DEBIAN = f"On Debian, as root: apt-get install {' '.join(NEEDED)} postgresql"
LIMITED = (
    "--runtime=runc",
    "--pull=never",
    "--network=host",
    "--read-only",
    "--read-only-tmpfs=false",
    "--tmpfs=/tmp",
    "--cap-drop=all",
    "--security-opt=no-new-privileges",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1000:1000",
)
"""As compose.yaml runs each part. Two limits are named: a machine that is a container itself may not raise its own."""


def missing() -> str:
    """What is not installed, as a sentence; empty where all is there."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"{', '.join(absent)} not found. {DEBIAN}" if absent else ""


class FailedError(AssertionError):
    """A command has failed; its text is what the command said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


def ran(*command: str, **variables: str) -> str:
    """What a command says; raises FailedError where it fails."""
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedError(done.returncode, done.stdout + done.stderr)
    return done.stdout


def base() -> str:
    """What the image is built on: what IMAGE_BASE names.

    A base of Debian's packages is made where there is none, and anew where its script has changed since.
    """
    chosen = os.environ.get("IMAGE_BASE", BASE)
    if chosen.startswith(DEBIAN_BASE) and _made_by(chosen) != hashlib.sha256(SCRIPT.read_bytes()).hexdigest():
        ran("sh", str(SCRIPT), SUITE=chosen.removeprefix(DEBIAN_BASE))
    return chosen


def _made_by(image: str) -> str:
    """The SHA-256 of the script that made a base; empty where there is no base, or it does not say so."""
    command = ("buildah", "inspect", "--type=image", image)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    labels: dict[str, str] = json.loads(done.stdout)["OCIv1"]["config"].get("Labels") or {} if done.stdout else {}
    return labels.get(MADE_BY, "")


def built() -> str:
    """The image; gives its name. It and its base are in podman's store then."""
    below = base()
    ran(
        "buildah",
        "build",
        "--layers",
        f"--build-arg=PYTHON={below}",
        f"--file={DOCKER}/Dockerfile",
        f"--tag={IMAGE}",
        ".",
    )
    handed_over(below)
    return handed_over(IMAGE)


def handed_over(name: str) -> str:
    """An image of buildah's, in podman's store too where that is another one."""
    if len({ran(store, "images", "--quiet", "--no-trunc", name) for store in ("buildah", "podman")}) > 1:
        with TemporaryDirectory() as folder:
            ran("buildah", "push", name, f"oci-archive:{folder}/image.tar:{name}")
            ran("podman", "load", "--input", f"{folder}/image.tar")
    return name


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def size(image: str) -> int:
    """Bytes of an image in podman's store, and of all below it."""
    return int(json.loads(ran("podman", "image", "inspect", image))[0]["Size"])


def layers(image: str, below: str) -> list[tuple[str, int]]:
    """What made each layer above another image that is not empty, with its bytes; the lowest first."""
    made, there = (json.loads(ran("podman", "history", "--no-trunc", "--format=json", name)) for name in (image, below))
    above = made[: len(made) - len(there)]
    return [
        (re.sub(r"/bin/sh -c #\(nop\) |\bdir:\w+ ", "", row["CreatedBy"]), row["size"])
        for row in above[::-1]
        if row["size"]
    ]


def said_by(image: str, *command: str) -> str:
    """What a command in a container of its own says."""
    return ran("podman", "run", "--rm", *LIMITED, image, *command)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A running one."""

    name: str

    def healthy(self, check: Sequence[str]) -> bool:
        """Whether a health check passes in it."""
        return _succeeds("podman", "exec", self.name, *check)

    def ended(self, seconds: int) -> int:
        """Its exit status after SIGTERM; it is killed after so many seconds."""
        ran("podman", "stop", f"--time={seconds}", self.name)
        return int(json.loads(ran("podman", "inspect", self.name))[0]["State"]["ExitCode"])


def started(name: str, image: str, command: Sequence[str], options: Sequence[str]) -> Container:
    """A command in an image, in the background."""
    ran("podman", "rm", "--force", "--ignore", "--time=0", name)  # what an interrupted one has left
    ran("podman", "run", "--detach", f"--name={name}", *options, image, *command)
    return Container(name=name)


@contextmanager
def container(
    name: str, image: str, command: Sequence[str], environment: Mapping[str, str], log: Path, *, volume: str
) -> Generator[Container]:
    """A command in the image, limited as in production; gone with its block, its log kept."""
    variables = [f"--env={key}={value}" for key, value in environment.items()]
    running = started(name, image, command, ["--init", *LIMITED, f"--volume={volume}", *variables])
    try:
        yield running
    finally:
        done = subprocess.run(["podman", "logs", name], capture_output=True, text=True, check=False)  # noqa: S607 - as usual
        log.write_text(done.stdout + done.stderr)
        ran("podman", "rm", "--force", "--time=0", name)
