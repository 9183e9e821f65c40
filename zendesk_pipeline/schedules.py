"""The schedules. The names are an interface: Dagster remembers by them what is switched on."""

from collections.abc import Iterable, Iterator, Sequence

import dagster as dg

from zendesk_pipeline.checks import FEED_CHECK, source_check
from zendesk_pipeline.lineage import FEED
from zendesk_pipeline.streams import Stream
from zendesk_pipeline.windows import HOUR, Window

MINUTE = 5
"""Of the hour: by then the last window has ended and settled (SETTLE_SECONDS=300)."""
INSPECTION_MINUTE, RECONCILIATION_HOUR = 35, 3
"""Half an hour away from the collection."""


def hourly_collection(
    assets: Sequence[dg.AssetsDefinition], windows: dg.HourlyPartitionsDefinition
) -> dg.ScheduleDefinition:
    """The schedule: the window that has just ended, each stream in a run of its own.

    A stream that fails or waits for its rate limit then does not hold up the others.
    """
    job = dg.define_asset_job(
        "hourly_collection",
        selection=list(assets),
        description="One window of every stream in RESOURCES.",
    )

    @dg.schedule(
        name="hourly_collection_schedule",
        job=job,
        cron_schedule=f"{MINUTE} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Collects the hour that has just ended, five minutes after its end.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        window = Window.of(int(context.scheduled_execution_time.timestamp()) - HOUR)
        if window.starts_at < windows.start:
            yield dg.SkipReason(f"START_DATE lies ahead: {windows.start:%Y-%m-%d %H:%M} is the first window.")
            return
        for asset in assets:
            yield dg.RunRequest(
                run_key=f"{asset.key.to_user_string()} {window.partition_key}",
                partition_key=window.partition_key,
                asset_selection=[asset.key],
            )

    return schedule


def feed_inspection() -> dg.ScheduleDefinition:
    """The schedule of the look under the feed prefix, each hour."""
    job = dg.define_asset_job(
        "feed_inspection",
        selection=dg.AssetSelection.checks(dg.AssetCheckKey(FEED, FEED_CHECK)),
        description="What waits under the feed prefix, and whether all of it is ours.",
    )
    return dg.ScheduleDefinition(
        name="feed_inspection_schedule",
        job=job,
        cron_schedule=f"{INSPECTION_MINUTE} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks under the feed prefix each hour.",
    )


def reconciliation(streams: Iterable[Stream]) -> dg.ScheduleDefinition:
    """The schedule that compares a sample of what is delivered with Zendesk, each night."""
    checks = (dg.AssetCheckKey(FEED, source_check(stream)) for stream in streams)
    job = dg.define_asset_job(
        "reconciliation",
        selection=dg.AssetSelection.checks(*checks),
        description="Reads a window of the last 30 days again at Zendesk, and compares; delivers nothing.",
    )
    return dg.ScheduleDefinition(
        name="reconciliation_schedule",
        job=job,
        cron_schedule=f"{INSPECTION_MINUTE} {RECONCILIATION_HOUR} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compares a window of the last 30 days with Zendesk, each night.",
    )
