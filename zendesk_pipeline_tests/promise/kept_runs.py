"""Runs whose every trace is kept: Dagster's databases, logs and captured output, and all that was printed."""

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import dagster as dg

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline.settings import environment
from zendesk_pipeline_tests.promise import collector_process
from zendesk_pipeline_tests.promise.collector_process import Collection
from zendesk_pipeline_tests.root import ROOT
from zendesk_pipeline_tests.runs import RANGE_END, RANGE_START

PRINTED = "printed.log"


def home(folder: Path) -> Path:
    """A DAGSTER_HOME with the project's own dagster.yaml."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    return folder


def collect_and_keep(collection: Collection, kept: Path) -> int:
    """Collect in a process of its own on the instance in `kept`; its exit code."""
    process = collector_process._context.Process(target=_collect, args=(collection, kept))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _collect(collection: Collection, kept: Path) -> None:
    output = os.open(kept / PRINTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update({"HOME": os.devnull, **collection.environment, "DAGSTER_HOME": str(kept)})
    collector_process._in_a_hurry(None)
    sys.exit(0 if _succeeds(collection) else 1)


def _succeeds(collection: Collection) -> bool:
    first, last = Window(collection.span.start), Window(collection.span.end - 3600)
    definitions = build(environment.load())
    with dg.DagsterInstance.get() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[dg.AssetKey(collection.stream)],
            instance=instance,
            raise_on_error=False,
            tags={RANGE_START: first.partition_key, RANGE_END: last.partition_key},
        )
    return result.success


def traces(kept: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that runs left: each file as bytes, and each value of each database.

    A long value lies in a database in pieces, so that its file's bytes alone would not show it.
    """
    for path in sorted(path for path in kept.rglob("*") if path.is_file()):
        name = str(path.relative_to(kept))
        yield name, path.read_bytes()
        if path.suffix == ".db":
            yield from ((f"{name}: {table}", value) for table, value in _values(path))


def _values(path: Path) -> Iterator[tuple[str, bytes]]:
    """Of a copy: the original belongs to Dagster, whose locks on it end when this process closes it."""
    with tempfile.TemporaryDirectory() as folder:
        for part in path.parent.glob(f"{path.name}*"):  # with what is still to be written into it
            shutil.copy(part, folder)
        with closing(sqlite3.connect(Path(folder, path.name))) as database:
            tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                for row in database.execute(f'select * from "{table}"'):  # noqa: S608 - the names are its own
                    yield table, b"\n".join(_as_bytes(value) for value in row)


def _as_bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def findings(kept: Path, wanted: Mapping[str, set[bytes]]) -> list[str]:
    """Where any of the spellings of what must not be shown stands, by name."""
    return [
        f"{name} in {place}"
        for place, content in traces(kept)
        for name, spellings in wanted.items()
        if any(spelling in content for spelling in spellings)
    ]
