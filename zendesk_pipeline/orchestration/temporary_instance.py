"""Runs in a Dagster instance that is removed with the command that made it: the UI never shows what they collected."""

from pathlib import Path

import dagster as dg

FOLDER = ".tmp_dagster_home_"
"""How the folder begins that Dagster makes where DAGSTER_HOME is not set (1.13, dagster/_cli/utils.py)."""


def warning(instance: dg.DagsterInstance) -> str:
    """The warning for a run without DAGSTER_HOME; empty where the instance stays."""
    folder = Path(instance.root_directory)
    if not folder.name.startswith(FOLDER):
        return ""
    return (
        f"DAGSTER_HOME is not set: Dagster notes this run in {folder}, which is removed when the command ends, and no"
        " window turns green in the UI. What is delivered is safe in S3. Set DAGSTER_HOME to the folder of"
        " dagster.yaml, in the shell or in .env, and collect the same windows again: that turns them green, and"
        " delivers nothing twice."
    )
