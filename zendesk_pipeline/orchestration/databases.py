"""The databases of a Dagster instance, made before anything else opens them.

Two processes that open an empty instance at once spoil it. One of them makes the tables; the other finds tables without
a version, takes them for those of an older release, and stamps that release's version beside the current one. From then
on Dagster refuses the database ("more than one head present"), or goes on with a wrong version. Seen with SQLite and
dagster 1.13.27 (`dagster/_core/storage/runs/sqlite/sqlite_run_storage.py`), in three of six first starts.
"""

import os
import sqlite3
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zendesk_pipeline.model.errors import PipelineError

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from zendesk_pipeline.orchestration.instance import InstanceRef

HOW = "docs/production.md says how the instance is made."
SQLITE = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")
"""The databases of an instance on SQLite."""


class InstanceError(PipelineError):
    """The Dagster instance is not there, or cannot be used."""


def home(environment: Mapping[str, str]) -> Path:
    """DAGSTER_HOME; raises InstanceError where it names no folder with a dagster.yaml."""
    named = environment.get("DAGSTER_HOME", "")
    if not named:
        raise InstanceError(f"DAGSTER_HOME is not set: it names the folder of Dagster's own records. {HOW}")
    folder = Path(named)
    if not folder.is_absolute() or not folder.is_dir():
        raise InstanceError(f"DAGSTER_HOME={named} has to be the whole path of a folder that is there. {HOW}")
    if not (folder / "dagster.yaml").is_file():
        raise InstanceError(
            f"{folder / 'dagster.yaml'} is missing: without it nothing keeps two runs of a stream apart. Copy the"
            f" project's dagster.yaml there. {HOW}"
        )
    return folder


def _silent(_sentence: str) -> None:
    """Say nothing."""


@contextmanager
def instance(folder: Path, say: Callable[[str], None] = _silent) -> Generator["DagsterInstance"]:
    """The instance of a folder, whole and of this release's version.

    While the block runs, no other on this machine is in one. What two processes have spoiled is put right. Raises
    InstanceError where that is not known how to do, where a newer Dagster has made the databases, or where dagster.yaml
    is wrong.
    """
    from dagster import DagsterInstance  # noqa: PLC0415 - slow to import

    with _alone(folder):
        ref = _ref(folder)
        for database in _databases(ref):
            _put_right(database, say)
        with DagsterInstance.from_ref(ref) as opened:
            _migrate(opened, say)
            yield opened


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """The lock is on the folder itself: nothing is written for it."""
    try:
        import fcntl  # noqa: PLC0415 - not everywhere
    except ModuleNotFoundError:  # Windows, where the demo works
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _ref(folder: Path) -> "InstanceRef":
    from dagster import DagsterError  # noqa: PLC0415 - slow to import

    from zendesk_pipeline.orchestration.instance import InstanceRef  # noqa: PLC0415 - the same

    try:
        return InstanceRef.from_dir(str(folder))
    except DagsterError as problem:
        raise InstanceError(f"{folder / 'dagster.yaml'} is wrong: {problem}") from problem


def _databases(ref: "InstanceRef") -> list[Path]:
    """The files of an instance on SQLite; PostgreSQL's tables are made in one transaction."""
    stored = ref.storage_data
    if stored is None or stored.class_name != "DagsterSqliteStorage":
        return []
    base = stored.config_dict["base_dir"]
    folder = Path(base if isinstance(base, str) else os.environ.get(base["env"], ""))
    return [folder / database for database in SQLITE]


def _put_right(database: Path, say: Callable[[str], None]) -> None:
    """Take away the version that the slower of two processes has stamped: the tables are those of the other one."""
    from zendesk_pipeline.orchestration.instance import stamped_version  # noqa: PLC0415 - slow to import

    if not database.exists():
        return
    with closing(sqlite3.connect(database)) as opened:
        if not opened.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchone():
            return
        versions = {version for (version,) in opened.execute("select version_num from alembic_version")}
        if len(versions) <= 1:
            return
        stamped = stamped_version()
        if len(versions - {stamped}) > 1:
            raise InstanceError(
                f"{database} has {len(versions)} versions, and nobody can say which is right. Move it away, or put a"
                " backup in its place, and start this command again. What is in S3 is remembered by the ledgers."
            )
        opened.execute("delete from alembic_version where version_num = ?", [stamped])
        opened.commit()
    say(f"{database}: two processes had made it at once, and Dagster refused it. It is put right; nothing was lost.")


def _migrate(opened: "DagsterInstance", say: Callable[[str], None]) -> None:
    """Bring the databases to this release's version."""
    stores = (opened.run_storage, opened.event_log_storage, opened.schedule_storage)
    versions = [store.alembic_version() for store in stores if store]
    if all(version is None or version[0] == version[1] for version in versions):
        return
    say("The databases are of another version of Dagster: they are brought to this one.")
    try:
        opened.upgrade(say)
    except Exception as problem:
        raise InstanceError(
            f"The databases cannot be brought to this version of Dagster: {problem} Where a newer Dagster has made"
            " them, install that one again, or put a backup in their place."
        ) from problem
