"""How commands are written in messages, so that they work where the reader is: by name only where that leads here."""

import re
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path

from zendesk_pipeline.model.windows import HOUR, Span, Window

PACKAGE = "zendesk-pipeline"
MOST_OF_A_RUN = 4000
"""Windows. Dagster (1.13.27) notes each check of a run for each window in one statement, eight values a window, and
SQLite takes 32,766 values at once where it was not built for more: https://www.sqlite.org/limits.html ."""


def called(name: str) -> str:
    """A program of this environment as a shell in the current folder finds it.

    Its name where PATH leads to it, else its path: `.venv/bin/dagster`. The name too where it is not installed.
    """
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not beside.exists() or (found is not None and Path(found).resolve() == beside.resolve()):
        return name
    here = Path.cwd()
    short = beside.relative_to(here) if beside.is_relative_to(here) else beside
    return shlex.quote(f"./{short}" if len(short.parts) == 1 else str(short))


def ours(arguments: str) -> str:
    """A command of ours, as a shell in the current folder takes it."""
    return f"{called(PACKAGE)} {arguments}"


def install(*names: str) -> str:
    """The command that installs packages of our extras, in versions that we take, into this environment.

    This package itself is on no index, so that `pip install zendesk-pipeline[…]` leads nowhere, or to somebody else's.
    """
    wanted = [shlex.quote(_requirement(name)) for name in names]
    if Path(sys.executable).with_name("pip").exists():
        return " ".join([called("pip"), "install", *wanted])
    return " ".join(["uv pip install --python", shlex.quote(sys.executable), *wanted])


def _requirement(name: str) -> str:
    """What our metadata asks of a package; the UI has to have the version of Dagster itself."""
    if name == "dagster-webserver":
        return f"{name}=={metadata.version('dagster')}"
    asked = (each.partition(";")[0].strip() for each in metadata.requires(PACKAGE) or [])
    return next((each for each in asked if re.split(r"[^\w-]", each)[0] == name), name)


def backfills(stream: str, span: Span, account: str = "") -> list[str]:
    """The commands that collect a range, run by run; of a named account, in the project that describes it."""
    starts = range(span.start, span.end, MOST_OF_A_RUN * HOUR)
    return [_backfill(stream, Span(start, min(span.end, start + MOST_OF_A_RUN * HOUR)), account) for start in starts]


def _backfill(stream: str, span: Span, account: str) -> str:
    first, last = Window(span.start).partition_key, Window(span.end - HOUR).partition_key
    which = f"--partition {first}" if first == last else f'--partition-range "{first}...{last}"'
    if account:
        return f"{called('dg')} launch --assets key:{account}/{stream} {which}"
    return f"{called('dagster')} asset materialize -m zendesk_pipeline.definitions --select {stream} {which}"
