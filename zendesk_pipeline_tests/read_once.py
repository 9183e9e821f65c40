"""What ephemeral instances, resources and AWS clients work out anew each time is worked out once a process.

Most of it is read from files of packages, which do not change: alembic's revisions of Dagster's tables (some 90 modules
an instance, Dagster 1.13) and botocore's models of the services (again with each session, botocore 1.44). The others
are the schema of a resource's class, again with each resource, and the names of botocore's events. Tests make hundreds
of each.
"""

import functools
import importlib
from typing import Any

import botocore.session
from alembic.config import Config
from alembic.script import ScriptDirectory
from botocore.hooks import EventAliaser
from dagster._config import Field


def from_now_on() -> None:
    """In this process, and in those that are forked from it."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)
    _revisions_once()
    _schemas_once()
    _aliases_once()


def _revisions_once() -> None:
    revisions, read = ScriptDirectory.from_config, dict[str | None, ScriptDirectory]()

    def from_config(config: Config) -> Any:
        folder = config.get_main_option("script_location")
        if folder not in read:
            read[folder] = revisions(config)
        return read[folder]

    ScriptDirectory.from_config = from_config


def _schemas_once() -> None:
    resource: Any = importlib.import_module("dagster._config.pythonic_config.resource")
    schema, read = resource.infer_schema_from_config_class, dict[tuple[type, frozenset[str]], Field]()

    def infer(model_cls: Any, fields_to_omit: set[str] | None = None, **others: Any) -> Field:
        if others:
            return schema(model_cls, fields_to_omit=fields_to_omit, **others)
        key = (model_cls, frozenset(fields_to_omit or ()))
        if key not in read:
            read[key] = schema(model_cls, fields_to_omit=fields_to_omit)
        return read[key]

    resource.infer_schema_from_config_class = infer


def _aliases_once() -> None:
    begin, read = EventAliaser.__init__, dict[str, str]()

    def begin_with_names(self: Any, event_emitter: Any, event_aliases: Any = None) -> None:
        begin(self, event_emitter, event_aliases)
        if event_aliases is None:  # botocore's own
            self._alias_name_cache = read

    EventAliaser.__init__ = begin_with_names
