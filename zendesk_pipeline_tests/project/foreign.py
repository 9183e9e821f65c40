"""A Dagster project of somebody else's that collects Zendesk accounts with the component."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zendesk_pipeline_tests import forked

TYPE = "zendesk_pipeline.components.ZendeskToS3Component"
PYPROJECT = """\
[project]
name = "soc"
version = "0.1.0"
requires-python = ">=3.11"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "soc"
"""
DEFINITIONS = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
EXECUTOR = """\
import dagster as dg


@dg.definitions
def executor():
    return dg.Definitions(executor=dg.in_process_executor)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """The project's folder, and the environment of its processes."""

    folder: Path
    environment: Mapping[str, str]

    @property
    def defs(self) -> Path:
        """Where its components lie."""
        return self.folder / "src" / "soc" / "defs"

    def yaml(self, account: str) -> Path:
        """Where an account is described."""
        return self.defs / account / "defs.yaml"

    def write(self, account: str, **attributes: Any) -> None:
        """Describe an account."""
        lines = [f"  {name}: {json.dumps(value)}" for name, value in {"account": account, **attributes}.items()]
        self.yaml(account).parent.mkdir(exist_ok=True)
        self.yaml(account).write_text("\n".join([f"type: {TYPE}", "attributes:", *lines, ""]))

    def dg(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Dagster's command line in the project, forked; `real_dg` is its own program."""
        return self._run([*forked.command("dg"), *arguments])

    def real_dg(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Dagster's command line, as somebody starts it."""
        return self._run([str(Path(sys.executable).with_name("dg")), *arguments])

    def _run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )


def foreign(folder: Path, environment: Mapping[str, str]) -> Foreign:
    """A new project without an account."""
    project = Foreign(
        folder=folder / "soc",
        environment={
            **environment,
            "PYTHONPATH": str(folder / "soc" / "src"),
            "DAGSTER_HOME": str(folder / "home"),
            "DG_CLI_CONFIG": str(folder / "dg.toml"),
            "COLUMNS": "200",
        },
    )
    project.defs.mkdir(parents=True)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (project.folder / "pyproject.toml").write_text(PYPROJECT)
    for path, text in (("__init__.py", ""), ("definitions.py", DEFINITIONS), ("defs/__init__.py", "")):
        (project.folder / "src" / "soc" / path).write_text(text)
    (project.defs / "executor.py").write_text(EXECUTOR)
    return project
