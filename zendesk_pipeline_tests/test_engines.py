"""Dagster's databases are looked into with engines that are kept: what is in them is found as without."""

import shutil
import sqlite3
from pathlib import Path

import dagster as dg
import psutil
from dagster._core.storage.runs import SqliteRunStorage

from zendesk_pipeline_tests.engines import KEPT


def _runs(folder: Path) -> int:
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        return len(instance.get_runs())


def _with_runs(folder: Path, number: int) -> Path:
    folder.mkdir()
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        for _ in range(number):
            instance.add_run(dg.DagsterRun(job_name="a job"))
    return folder


def test_a_database_that_takes_the_place_of_another_one_is_read(tmp_path: Path) -> None:
    """As where a test begins again in the same folder; none that is gone is read on."""
    place = _with_runs(tmp_path / "place", 1)
    assert _runs(place) == 1
    shutil.rmtree(place)
    place.mkdir()
    assert _runs(place) == 0


def test_what_others_write_is_read(tmp_path: Path) -> None:
    """A connection that stays open sees what another process has committed."""
    place = _with_runs(tmp_path / "place", 2)
    with sqlite3.connect(place / "history" / "runs.db") as database:
        database.execute("DELETE FROM runs WHERE id = 1")
    assert _runs(place) == 1


def test_more_databases_than_are_kept_open_are_read(tmp_path: Path) -> None:
    """The first of them is opened again; no more files stay open than so many databases have."""
    for number in range(KEPT + 2):
        SqliteRunStorage.from_local(str(tmp_path / f"{number}")).add_run(dg.DagsterRun(job_name="a job"))
    opened = [file.path for file in psutil.Process().open_files() if file.path.startswith(str(tmp_path))]
    assert KEPT <= len(opened) <= 4 * KEPT  # the database, its log and index, and a file that SQLite closes later
    assert SqliteRunStorage.from_local(str(tmp_path / "0")).get_runs_count() == 1
