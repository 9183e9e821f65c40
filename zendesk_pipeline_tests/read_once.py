"""What ephemeral instances and AWS clients read from disk each time anew is read once a process.

These are files of packages, which do not change: alembic's revisions of Dagster's tables (some 90 modules an
instance, Dagster 1.13) and botocore's models of the services (again with each session, botocore 1.44). Tests make
hundreds of both.
"""

import functools
from typing import Any

import botocore.session
from alembic.config import Config
from alembic.script import ScriptDirectory


def from_now_on() -> None:
    """In this process, and in those that are forked from it."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    revisions, read = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> Any:
        folder = config.get_main_option("script_location")
        if folder not in read:
            read[folder] = revisions(config)
        return read[folder]

    ScriptDirectory.from_config = from_config
