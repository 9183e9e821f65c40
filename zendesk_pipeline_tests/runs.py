"""Runs of the project's own definitions in this process, as Dagster does them."""

import sqlite3
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.settings import environment as settings

QUIET = pytest.mark.filterwarnings(
    "ignore:Parameter `backfill_policy`:dagster.BetaWarning",
    "ignore:InitResourceContext.dagster_run:DeprecationWarning",
)
"""Dagster's word on its own parameters is no news in every test."""
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The definitions that an environment makes, and a Dagster instance to run them on."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance

    def run(self, stream: str, span: Span, **config: Any) -> dg.ExecuteInProcessResult:
        """One run over a range of windows; it may fail."""
        return self.run_keys(stream, Window(span.start).partition_key, Window(span.end - 3600).partition_key, **config)

    def run_keys(self, stream: str, first: str, last: str, **config: Any) -> dg.ExecuteInProcessResult:
        """One run from one partition key to another, whatever they are."""
        one: dict[str, Any] = {"partition_key": first}
        many: dict[str, Any] = {"tags": {RANGE_START: first, RANGE_END: last}}
        return self.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[dg.AssetKey(stream)],
            instance=self.instance,
            raise_on_error=False,
            run_config={"ops": {stream: {"config": config}}} if config else None,
            **(one if first == last else many),
        )

    def materialized(self, stream: str) -> list[dg.AssetMaterialization]:
        """Every materialization that was ever reported, in order."""
        return materializations(self.instance, stream)


def materializations(instance: dg.DagsterInstance, stream: str) -> list[dg.AssetMaterialization]:
    """Every materialization of a stream that an instance knows, in order."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(stream))
    records = instance.fetch_materializations(wanted, limit=1000, ascending=True).records
    return [event for record in records if (event := record.asset_materialization)]


@contextmanager
def project(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Generator[Project]:
    """The project in an environment, on an instance that nothing is left of."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(definitions=build(settings.load()), instance=instance)


def metadata(event: dg.AssetMaterialization | dg.AssetObservation) -> dict[str, Any]:
    """The plain values of an event's metadata."""
    return {name: value.value for name, value in event.metadata.items()}


def description(result: dg.ExecuteInProcessResult) -> str:
    """What the UI shows of a failure."""
    (failed,) = result.get_step_failure_events()
    failure = failed.step_failure_data.user_failure_data
    return (failure.description if failure else None) or ""


def damage(home: Path, stream: str) -> None:
    """What the instance in a folder knows of an asset cannot be read any more: no look at it succeeds."""
    _set_details(home, stream, "{")


def undamage(home: Path, stream: str) -> None:
    """It can be read again."""
    _set_details(home, stream, None)


def _set_details(home: Path, stream: str, details: str | None) -> None:
    with sqlite3.connect(home / "history" / "runs" / "index.db") as database:
        changed = database.execute(
            "UPDATE asset_keys SET asset_details = ? WHERE asset_key = ?",
            (details, dg.AssetKey(stream.split("/")).to_string()),
        )
        assert changed.rowcount == 1


def job_of(location: str, name: str = "hourly_collection") -> RemoteJobOrigin:
    """A job as Dagster launches it from a code location, which need not be there any more."""
    target = LoadableTargetOrigin(module_name="somebodys.definitions")
    origin = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name=location)
    return RemoteJobOrigin(RemoteRepositoryOrigin(origin, "__repository__"), name)
