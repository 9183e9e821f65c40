"""`zendesk-pipeline prepare`: an instance that is whole before any service opens it."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
from alembic.util import CommandError
from click.testing import CliRunner
from dagster._core.storage.sqlite import LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION as STAMPED

from zendesk_pipeline.cli import main
from zendesk_pipeline_tests.promise import kept_runs

PROGRAM = Path(sys.executable).with_name("zendesk-pipeline")
DATABASES = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A DAGSTER_HOME with nothing but the project's own dagster.yaml."""
    return kept_runs.home(tmp_path / "dagster")


def start(home: Path) -> "subprocess.Popen[str]":
    """The command, as a process of its own."""
    return subprocess.Popen(
        [PROGRAM, "prepare"],
        env={"PATH": os.environ["PATH"], "HOME": os.devnull, "DAGSTER_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(home: Path | None, **environment: str) -> tuple[int, str]:
    """Exit code and output."""
    named = {"DAGSTER_HOME": None if home is None else str(home), **environment}
    result = CliRunner().invoke(main, ["prepare"], env=named)
    return result.exit_code, result.output


def versions(database: Path) -> list[str]:
    """What Dagster finds there as the version of the tables."""
    with closing(sqlite3.connect(database)) as opened:
        return [version for (version,) in opened.execute("select version_num from alembic_version")]


def stamp(database: Path, *names: str) -> None:
    """Make these the versions that a database says it has."""
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("delete from alembic_version")
        opened.executemany("insert into alembic_version values (?)", [(name,) for name in names])
        opened.commit()


def files(home: Path) -> set[str]:
    """What lies in a folder, what SQLite keeps beside an open database aside."""
    every = (path for path in home.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm")))
    return {str(path.relative_to(home)) for path in every}


def test_several_at_once_make_one_whole_instance(home: Path) -> None:
    """However many services begin with it at the same moment: each goes well, and nothing but the databases is written.

    Without its lock two of three such starts left a database with two versions, or ended in an error.
    """
    processes = [start(home) for _ in range(3)]
    ends = [(process.communicate(timeout=300)[0], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0] * 3, ends
    assert files(home) == {"dagster.yaml", *DATABASES}
    assert len({tuple(versions(home / database)) for database in DATABASES}) == 1
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0


def test_an_instance_that_two_services_have_spoiled_is_put_right(home: Path) -> None:
    """Dagster refuses a database with the versions of both; after the command it opens, with what was in it."""
    assert said(home)[0] == 0
    (current,) = versions(home / "history/runs.db")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_run(dg.DagsterRun(job_name="kept"))
    stamp(home / "history/runs.db", current, STAMPED)
    with pytest.raises(CommandError, match="more than one head"):
        dg.DagsterInstance.from_config(str(home))
    code, output = said(home)
    assert (code, "history/runs.db: two processes had made it at once" in output) == (0, True)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert [run.job_name for run in instance.get_runs()] == ["kept"]
    assert versions(home / "history/runs.db") == [current]


@pytest.mark.parametrize("database", DATABASES)
def test_an_older_version_is_brought_to_this_one(home: Path, database: str) -> None:
    """What an upgrade of Dagster needs is done, and said; the second time there is nothing to do."""
    said(home)
    (current,) = versions(home / database)
    stamp(home / database, STAMPED)
    assert "they are brought to this one" in said(home)[1]
    assert versions(home / database) == [current]
    assert said(home) == (0, f"{home} is ready: Dagster's services may start.\n")


def test_a_newer_version_is_refused(home: Path) -> None:
    """An older release over a newer one's databases ends with what to do, and they stay as they are."""
    said(home)
    stamp(home / "history/runs.db", "from_the_future")
    code, output = said(home)
    assert (code, "Where a newer Dagster has made them, install that one again" in output) == (1, True)
    assert versions(home / "history/runs.db") == ["from_the_future"]


def test_versions_that_nobody_knows_are_left_alone(home: Path) -> None:
    """Two versions of which neither is the race's: it is said where, and what to do."""
    said(home)
    (current,) = versions(home / "schedules/schedules.db")
    stamp(home / "schedules/schedules.db", current, "another")
    code, output = said(home)
    assert (code, f"{home}/schedules/schedules.db has 2 versions" in output) == (1, True)
    assert set(versions(home / "schedules/schedules.db")) == {current, "another"}


def test_a_folder_of_ones_own_for_the_databases_counts(home: Path) -> None:
    """`storage: sqlite: base_dir` of dagster.yaml, by a variable too, is where the databases are looked for."""
    elsewhere = home.parent / "elsewhere"
    elsewhere.mkdir()
    (home / "dagster.yaml").write_text("storage: {sqlite: {base_dir: {env: ELSEWHERE}}}\n")
    assert said(home, ELSEWHERE=str(elsewhere))[0] == 0
    stamp(elsewhere / "history/runs.db", *versions(elsewhere / "history/runs.db"), STAMPED)
    assert "It is put right" in said(home, ELSEWHERE=str(elsewhere))[1]
    assert STAMPED not in versions(elsewhere / "history/runs.db")


def test_without_a_folder_it_says_what_is_missing(tmp_path: Path) -> None:
    """DAGSTER_HOME not set, not there, or without dagster.yaml: a sentence each, and nothing is written."""
    assert said(None)[1].startswith("Error: DAGSTER_HOME is not set: ")
    assert "has to be the whole path of a folder" in said(tmp_path / "nowhere")[1]
    assert "has to be the whole path of a folder" in said(Path("relative"))[1]
    assert said(tmp_path)[1].startswith(f"Error: {tmp_path}/dagster.yaml is missing: ")
    (tmp_path / "dagster.yaml").write_text("concurrencies: {}\n")
    assert said(tmp_path)[1].startswith(f"Error: {tmp_path}/dagster.yaml is wrong: ")
    assert list(tmp_path.iterdir()) == [tmp_path / "dagster.yaml"]
