"""The file `.env` of a folder, read for our commands as Dagster reads it for its own.

Dagster's commands put every line of `.env` in the folder that they start in over their environment, an empty one too
(1.13, dagster/_cli/utils.py, `_inject_local_env_file`), and so do the code servers, runs and steps that they start.
`dg` names the folders of projects in DAGSTER_PROJECT_ENV_FILE_PATHS, and code servers read the files there
(dagster/_core/secrets/env_file.py). An empty line takes an exported variable away: tickets would go unredacted, alerts
nowhere, and nothing in the process could tell. So a line that can do no good is refused wherever it is found.
"""

import json
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values

from zendesk_pipeline.model.errors import SettingsError

FOLDERS_OF_DG = "DAGSTER_PROJECT_ENV_FILE_PATHS"
"""A JSON object of code locations and the folders of their `.env`, from the current one."""


def path_in(folder: Path) -> Path:
    """Where a folder's file is, if it has one."""
    return folder / ".env"


def read(file: Path) -> dict[str, str]:
    """The variables of a file by their names, nothing where there is none; raises SettingsError for what is no text.

    As Dagster does it: quotes, comments and `export` are taken away, `${NAME}` is filled in, a name without `=` is left
    out, and the last one of two lines counts.
    """
    try:
        if not file.exists():
            return {}
        return {name: value for name, value in dotenv_values(file).items() if value is not None}
    except OSError as problem:
        raise SettingsError(f"{file} cannot be read ({problem.strerror}): give it to whoever runs this.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not text in UTF-8: write it again.") from None


def put_over(environment: MutableMapping[str, str], folder: Path, ours: Collection[str]) -> str:
    """Put the folder's file over an environment, as Dagster does.

    Args:
        environment: What is changed.
        folder: The current one.
        ours: The names that a message may name.

    Returns:
        What was done, as a sentence without a value in it; empty where the file has nothing.
    """
    found = read(path_in(folder))
    if not found:
        return ""
    before = {name: environment[name] for name in sorted(found) if name in ours and environment.get(name)}
    replaced = [name for name, value in before.items() if found[name] and found[name] != value]
    taken = [name for name in before if not found[name]]
    environment.update(found)
    instead = f", in place of the environment's {', '.join(replaced)}" if replaced else ""
    away = f"; its empty lines take {', '.join(taken)} away from the environment" if taken else ""
    return f"Read {path_in(folder)}: {len(found)} variable{'s' if len(found) > 1 else ''}{instead}{away}."


def refuse_empty(names: Collection[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Raise SettingsError where a file that Dagster reads here has an empty line for one of these variables."""
    for file in _files(folder, environment):
        empty = sorted(name for name, value in read(file).items() if name in names and not value)
        if empty:
            lines = ", ".join(f"{name}=" for name in empty)
            raise SettingsError(
                f"{file} has {'empty lines' if len(empty) > 1 else 'an empty line'}: {lines}. Dagster puts such a line"
                " over the environment, and a variable that is exported there would count for nothing. Delete the"
                f" line{'s' if len(empty) > 1 else ''}, put # before, or fill in a value."
            )


def where_empty(name: str) -> str:
    """In brackets, the file of the current folder that has an empty line for a variable; nothing where none has."""
    file = path_in(Path.cwd())
    return f" (the line {name}= of {file} is empty)" if read(file).get(name) == "" else ""


def _files(folder: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    yield path_in(folder)
    with suppress(ValueError, AttributeError, TypeError):  # whatever it is, Dagster says so itself
        for relative in json.loads(environment.get(FOLDERS_OF_DG, "{}")).values():
            if Path(relative) != Path():
                yield path_in(folder / relative)
