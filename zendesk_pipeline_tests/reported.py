"""Runs that only report: what they say of windows stands in Dagster's records, and nothing was collected."""

from collections.abc import Iterable

import dagster as dg

from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline.orchestration.window_metadata import window_metadata

Event = dg.AssetMaterialization | dg.AssetObservation


def event(
    asset: str, window: Window, tally: Tally, kind: type[Event] = dg.AssetMaterialization, *, lag: float = 300
) -> Event:
    """What a run says of a window that it has delivered to."""
    told = window_metadata(
        window, tally, bucket="zendesk-raw", ledger="ledger", redacted=False, now=float(window.end) + lag
    )
    return kind(asset_key=dg.AssetKey(asset.split("/")), partition=window.partition_key, metadata=told)


def run_that_says(instance: dg.DagsterInstance, events: Iterable[Event]) -> None:
    """One run, of nobody's assets, that reports these."""
    told = list(events)

    @dg.op
    def say(context: dg.OpExecutionContext) -> None:
        for each in told:
            context.log_event(each)

    @dg.job(executor_def=dg.in_process_executor)
    def saying() -> None:
        say()

    assert saying.execute_in_process(instance=instance).success
