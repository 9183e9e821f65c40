"""What users wrote down before the code had packages, and what they write now."""

import subprocess
import sys

import pytest

import zendesk_pipeline

MOVED = {
    "streams": "model.streams",
    "paging": "model.paging",
    "celery_launcher": "orchestration.celery.launcher",
}


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_works_and_says_the_new_one(old: str, new: str) -> None:
    """Both are the same module, so a stream that is registered by one is known to the other."""
    code = f"""
import importlib
old = importlib.import_module("zendesk_pipeline.{old}")
assert old is importlib.import_module("zendesk_pipeline.{new}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"FutureWarning: zendesk_pipeline.{old} is zendesk_pipeline.{new} now" in done.stderr


def test_the_old_name_of_the_worker_is_the_new_one(tmp_path: object) -> None:
    """`celery --app zendesk_pipeline.celery_worker` says, as the new name does, what is missing from the instance."""
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", f"import zendesk_pipeline.{name}"],
            env={"DAGSTER_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        ).stderr.splitlines()[-1]
        for name in ("celery_worker", "orchestration.celery.worker")
    ]
    assert "docs/deployment.md#celery-workers" in said[0]
    assert said[0] == said[1]


def test_what_projects_write_down_comes_from_the_top() -> None:
    """Each name of the package's own list can be imported from it."""
    found = {name: getattr(zendesk_pipeline, name) for name in zendesk_pipeline.__all__}
    assert [each.__name__ for each in found.values()] == zendesk_pipeline.__all__


def test_the_top_imports_nothing_by_itself() -> None:
    """A command that needs no Dagster does not load it because of the package it is in."""
    code = "import sys, zendesk_pipeline; print([name for name in sys.modules if name.startswith('zendesk_pipeline.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_name_that_is_not_there_is_an_error() -> None:
    """As in any module."""
    with pytest.raises(AttributeError, match="no attribute 'Streams'"):
        zendesk_pipeline.Streams  # noqa: B018 - the access is what fails
