"""What private names of Dagster's make fast, with them and without.

`project/test_dagster_names.py` has what cannot be done without them.
"""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import dagster as dg
import pytest
from dagster._core.execution.context import metadata_logging

from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.orchestration import assets, instance
from zendesk_pipeline_tests.by_hand import FIRST

SPAN = Span(FIRST.start, FIRST.start + 3 * HOUR)
RECORDS = {window: {"records": number} for number, window in enumerate(SPAN)}


def told(give: Callable[[dg.AssetExecutionContext], object]) -> dict[str | None, object]:
    """By partition key, the number of records in Dagster's records after a run over all of the windows."""

    @dg.asset(partitions_def=assets.hourly_windows(FIRST.starts_at), backfill_policy=dg.BackfillPolicy.single_run())
    def windows(context: dg.AssetExecutionContext) -> None:
        give(context)

    first, *_, last = [window.partition_key for window in SPAN]
    tags = {instance.RANGE_START_TAG: first, instance.RANGE_END_TAG: last}
    with dg.DagsterInstance.ephemeral() as kept:
        assert dg.materialize([windows], instance=kept, tags=tags).success
        events = kept.fetch_materializations(dg.AssetKey("windows"), limit=10).records
    found = ((each.partition_key, each.asset_materialization) for each in events)
    return {key: event.metadata["records"].value for key, event in found if event}


def test_many_windows_have_their_metadata_at_once() -> None:
    """With the Dagster that is locked, each window has its own metadata in one step."""
    done: list[bool] = []
    by_key = {window.partition_key: metadata for window, metadata in RECORDS.items()}
    found = told(lambda context: done.append(instance.add_metadata_at_once(context, by_key)))
    assert done == [True]
    assert found == {window.partition_key: number for number, window in enumerate(SPAN)}


def _without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, metadata_logging.__name__, ModuleType("empty"))


def _with_another_store(monkeypatch: pytest.MonkeyPatch) -> None:
    other = ModuleType("other")
    names = {"AssetMetadataHandle": metadata_logging.AssetMetadataHandle, "OutputMetadataAccumulator": object}
    vars(other).update(names)
    monkeypatch.setitem(sys.modules, metadata_logging.__name__, other)


def _with_another_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_step_execution_context(_: dg.AssetExecutionContext) -> SimpleNamespace:
        return SimpleNamespace()

    monkeypatch.setattr(dg.AssetExecutionContext, "get_step_execution_context", get_step_execution_context)


@pytest.mark.parametrize("change", [_without_names, _with_another_store, _with_another_step])
def test_many_windows_have_their_metadata_whatever_dagster_changes(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the fast way is gone the slow one is taken, and each window has its own metadata all the same."""
    monkeypatch.setattr(assets, "MANY_WINDOWS", 2)
    change(monkeypatch)
    found = told(lambda context: assets.describe(context, RECORDS))
    assert found == {window.partition_key: number for number, window in enumerate(SPAN)}
