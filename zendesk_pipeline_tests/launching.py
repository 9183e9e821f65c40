"""A run handed to a launcher of Dagster's, as the daemon does it, to see what the launcher asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dagster import DagsterInstance
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.dagster_run import DagsterRun

JOB = "hourly_collection"


def launch(
    home: Path, launcher: Mapping[str, Any], image: str | None, container_context: Mapping[str, Any]
) -> DagsterRun:
    """Start one run by the launcher of a dagster.yaml.

    Args:
        home: A folder for the instance; its records are in SQLite, which is not what is tried here.
        launcher: What stands under `run_launcher`.
        image: What the code server says its image is.
        container_context: What it hands on to containers of runs.
    """
    home.mkdir()
    (home / "dagster.yaml").write_text(
        yaml.safe_dump({"run_launcher": dict(launcher), "telemetry": {"enabled": False}})
    )
    code = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("zendesk_pipeline.definitions", "defs"),
        container_image=image,
        entry_point=["dagster"],
        container_context=container_context,
    )
    place = GrpcServerCodeLocationOrigin(host="code.example.com", port=4000, location_name="zendesk_pipeline")
    with DagsterInstance.from_config(str(home)) as instance:
        run = DagsterRun(
            job_name=JOB,
            job_code_origin=JobPythonOrigin(job_name=JOB, repository_origin=code),
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(place, "__repository__"), JOB),
        )
        instance.add_run(run)
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        stored = instance.get_run_by_id(run.run_id)
        assert stored
        return stored
