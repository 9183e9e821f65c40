"""The schedules. The names are an interface: Dagster remembers by them what is switched on."""

from collections.abc import Iterator

import dagster as dg

from zendesk_pipeline.accounts import FIRST_MINUTE, Account
from zendesk_pipeline.checks import FEED_CHECK, source_check
from zendesk_pipeline.windows import HOUR, Window

APART = 30
"""Minutes between the collection and what looks at it."""
RECONCILIATION_HOUR = 3


def hourly_collection(account: Account) -> dg.ScheduleDefinition:
    """The schedule: the window that has just ended, each stream in a run of its own.

    A stream that fails or waits for its rate limit then does not hold up the others.
    """
    minutes = "five" if account.begins == FIRST_MINUTE else str(account.begins)
    job = dg.define_asset_job(
        account.called("hourly_collection"),
        selection=dg.AssetSelection.assets(*account.stream_keys),
        description="One window of every stream in RESOURCES.",
        tags=account.tags,
        executor_def=dg.in_process_executor,
    )

    @dg.schedule(
        name=account.called("hourly_collection_schedule"),
        job=job,
        cron_schedule=f"{account.begins} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Collects the hour that has just ended, {minutes} minutes after its end.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        window = Window.of(int(context.scheduled_execution_time.timestamp()) - HOUR)
        if window < account.first:
            yield dg.SkipReason(f"START_DATE lies ahead: {account.first} is the first window.")
            return
        for key in account.stream_keys:
            yield dg.RunRequest(
                run_key=f"{key.to_user_string()} {window.partition_key}",
                partition_key=window.partition_key,
                asset_selection=[key],
                tags=account.tags,
            )

    return schedule


def feed_inspection(account: Account) -> dg.ScheduleDefinition:
    """The schedule of the look under the feed prefix, each hour."""
    job = dg.define_asset_job(
        account.called("feed_inspection"),
        selection=dg.AssetSelection.checks(dg.AssetCheckKey(account.feed_key, FEED_CHECK)),
        tags=account.tags,
        executor_def=dg.in_process_executor,
        description="What waits under the feed prefix, and whether all of it is ours.",
    )
    return dg.ScheduleDefinition(
        name=account.called("feed_inspection_schedule"),
        job=job,
        cron_schedule=f"{(account.begins + APART) % 60} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks under the feed prefix each hour.",
    )


def reconciliation(account: Account) -> dg.ScheduleDefinition:
    """The schedule that compares a sample of what is delivered with Zendesk, each night."""
    checks = (dg.AssetCheckKey(account.feed_key, source_check(stream)) for stream in account.streams)
    job = dg.define_asset_job(
        account.called("reconciliation"),
        selection=dg.AssetSelection.checks(*checks),
        tags=account.tags,
        executor_def=dg.in_process_executor,
        description="Reads a window of the last 30 days again at Zendesk, and compares; delivers nothing.",
    )
    return dg.ScheduleDefinition(
        name=account.called("reconciliation_schedule"),
        job=job,
        cron_schedule=f"{(account.begins + APART) % 60} {RECONCILIATION_HOUR} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compares a window of the last 30 days with Zendesk, each night.",
    )
