"""How commands are written in messages, so that they work where the reader is: by name only where that leads here."""

import re
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path

PACKAGE = "zendesk-pipeline"


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
