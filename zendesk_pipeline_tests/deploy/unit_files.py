"""The unit files of `deploy/systemd`, and their lines as plain processes."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zendesk_pipeline_tests.root import ROOT

UNITS = ROOT / "deploy" / "systemd"
PROGRAM, HOME = "/srv/zendesk-pipeline", "/var/lib/zendesk-pipeline"
"""Where the units have the program and Dagster's own records."""
SERVICES = ("daemon", "webserver", "code")
"""In the least favourable order."""


def unit(name: str) -> str:
    """The text of `zendesk-pipeline-NAME`, each setting on one line."""
    return (UNITS / f"zendesk-pipeline-{name}").read_text().replace("\\\n", " ")


def values(text: str, setting: str) -> list[str]:
    """What a unit gives a setting, each time."""
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{setting}=")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the units' lines run: a folder for DAGSTER_HOME, ports of its own, and what EnvironmentFile would hold."""

    home: Path
    code_port: int
    ui_port: int
    settings: Mapping[str, str]

    def command(self, line: str) -> list[str]:
        """A line of a unit, for here."""
        here = {
            f"{PROGRAM}/.venv/bin/": f"{Path(sys.executable).parent}/",
            f"{PROGRAM}/deploy/systemd/workspace.yaml": str(self.workspace),
            HOME: str(self.home),
            "--port 4000": f"--port {self.code_port}",
            "--port 3000": f"--port {self.ui_port}",
        }
        for there, instead in here.items():
            line = line.replace(there, instead)
        return shlex.split(line)

    @property
    def workspace(self) -> Path:
        """The workspace file with the port of here."""
        path = self.home.parent / "workspace.yaml"
        path.write_text((UNITS / "workspace.yaml").read_text().replace("port: 4000", f"port: {self.code_port}"))
        return path

    def environment(self, text: str) -> dict[str, str]:
        """What the processes of a unit find."""
        own = dict(pair.split("=", 1) for line in values(text, "Environment") for pair in shlex.split(line))
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        return {**kept, "HOME": os.devnull, **self.settings, **own, "DAGSTER_HOME": str(self.home)}

    @contextmanager
    def running(self, *names: str) -> Generator[list["subprocess.Popen[bytes]"]]:
        """Services with what precedes each, all at once; killed with everything they have started."""
        begun = [self._prepared(name) for name in names]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for name, before in begun:
                assert before.wait(300) == 0, self.log(name)
                processes.append(self._start(name, values(unit(f"{name}.service"), "ExecStart")[0]))
            yield processes
        finally:
            for process in processes:
                kill(process)

    def _prepared(self, name: str) -> tuple[str, "subprocess.Popen[bytes]"]:
        (line,) = values(unit(f"{name}.service"), "ExecStartPre")
        return name, self._start(name, line)

    def _start(self, name: str, line: str) -> "subprocess.Popen[bytes]":
        with (self.home.parent / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                self.command(line),
                cwd=self.home,
                env=self.environment(unit(f"{name}.service")),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        """The end of what a service has said."""
        return (self.home.parent / f"{name}.log").read_text(errors="replace")[-2000:]


def kill(process: "subprocess.Popen[bytes]") -> None:
    """As a crash does it: the process and all that it has started, without a word."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
