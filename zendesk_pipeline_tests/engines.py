"""Engines of Dagster's SQLite databases are kept.

Dagster makes one for each look into a database (1.13), which connects, works out the dialect and compiles its SQL anew
(SQLAlchemy 2): two thirds of what a run on an instance in a folder costs. Nor does anybody wait for the disk: what a
crash of this machine would leave is of no interest.
"""

import importlib
import sqlite3
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import QueuePool
from typing_extensions import override

IN_FILES = (
    "runs.sqlite.sqlite_run_storage",
    "event_log.sqlite.sqlite_event_log",
    "schedules.sqlite.sqlite_schedule_storage",
)
IN_MEMORY = ("runs.in_memory", "event_log.in_memory")
KEPT = 16
"""Engines: each run has a database of its own, and a process may have so many files open."""


class Kept(NamedTuple):
    """An engine, and the number of the file that it reads; None where there was none yet."""

    engine: Engine
    file: int | None


class Connected(QueuePool):
    """A pool whose connections stay open although Dagster disposes of its engine after each look."""

    @override
    def dispose(self) -> None: ...

    @override
    def recreate(self) -> "Connected":
        return self

    def end(self) -> None:
        """Close them."""
        super().dispose()


def keep(*, connected: bool) -> None:
    """From now on, in this process; its connections too, where it is `connected` and leaves nothing by being killed."""
    kept, lock, compiled = OrderedDict[str, Kept](), Lock(), list[Engine]()

    def alike(engine: Engine) -> Engine:
        """One engine has what another one has compiled."""
        compiled.append(engine) if not compiled else None
        engine.dialect = engine.pool._dialect = compiled[0].dialect
        engine._compiled_cache = compiled[0]._compiled_cache
        return engine

    def in_a_file(url: str, **options: Any) -> Engine:
        if connected:
            options |= {"poolclass": Connected, "pool_size": 1, "max_overflow": -1}
        with lock:
            engine, number = kept.pop(url, (None, None))
            there = _number(url)
            if engine and number not in {None, there}:  # another file has taken its place
                _end(engine)
                engine = None
            if not engine:
                engine = alike(create_engine(url, **options))
                event.listen(engine, "connect", _without_syncing)
            kept[url] = Kept(engine, there)
            if len(kept) > KEPT:
                _end(kept.popitem(last=False)[1].engine)
        return engine

    def in_memory(url: str, **options: Any) -> Engine:
        options |= {"poolclass": QueuePool, "connect_args": {"check_same_thread": False}}
        return alike(create_engine(url, **options))

    for makes, storages in ((in_a_file, IN_FILES), (in_memory, IN_MEMORY)):
        for each in storages:
            storage: Any = importlib.import_module(f"dagster._core.storage.{each}")
            storage.create_engine = makes


def _number(url: str) -> int | None:
    """What tells a file from another one of its name."""
    with suppress(FileNotFoundError):
        return Path(url.removeprefix("sqlite:///")).stat().st_ino
    return None


def _end(engine: Engine) -> None:
    if isinstance(engine.pool, Connected):
        engine.pool.end()


def _without_syncing(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")
