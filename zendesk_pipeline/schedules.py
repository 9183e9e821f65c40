"""The schedules, for all accounts. The names are an interface: Dagster remembers by them what is switched on."""

from collections.abc import Iterator, Sequence

import dagster as dg

from zendesk_pipeline.accounts import FIRST_MINUTE, Account
from zendesk_pipeline.checks import FEED_CHECK, source_check
from zendesk_pipeline.windows import HOUR, Window

INSPECTION_MINUTE, RECONCILIATION_HOUR = 35, 3
"""Half an hour away from the first collection."""
AFTER_COLLECTIONS = {"dagster/priority": "-1"}
"""Of many runs that start at once: the queue takes those of the collection first."""


def hourly_collection(accounts: Sequence[Account]) -> dg.ScheduleDefinition:
    """The schedule: the window that has just ended, each stream in a run of its own, each account at its minute.

    A stream that fails or waits for its rate limit then does not hold up the others.
    """
    job = dg.define_asset_job(
        "hourly_collection",
        selection=dg.AssetSelection.assets(*(key for account in accounts for key in account.stream_keys)),
        description="One window of every stream in RESOURCES.",
        executor_def=dg.in_process_executor,
    )
    minutes = sorted({account.begins for account in accounts})
    when = "five minutes" if minutes == [FIRST_MINUTE] else "at the minute of each account"

    @dg.schedule(
        name="hourly_collection_schedule",
        job=job,
        cron_schedule=f"{','.join(map(str, minutes))} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Collects the hour that has just ended, {when} after its end.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time
        window = Window.of(int(at.timestamp()) - HOUR)
        due = [account for account in accounts if account.begins == at.minute]
        begun = [account for account in due if account.first <= window]
        if due and not begun:
            first = min(account.first for account in due)
            yield dg.SkipReason(f"START_DATE lies ahead: {first} is the first window.")
        for account in begun:
            for key in account.stream_keys:
                yield dg.RunRequest(
                    run_key=f"{key.to_user_string()} {window.partition_key}",
                    partition_key=window.partition_key,
                    asset_selection=[key],
                    tags=account.tags,
                )

    return schedule


def feed_inspection(accounts: Sequence[Account]) -> dg.ScheduleDefinition:
    """The schedule of the look under the feed prefixes, each hour; all in one run, because each look is short."""
    job = dg.define_asset_job(
        "feed_inspection",
        selection=dg.AssetSelection.checks(*(dg.AssetCheckKey(each.feed_key, FEED_CHECK) for each in accounts)),
        description="What waits under the feed prefix, and whether all of it is ours.",
        executor_def=dg.in_process_executor,
    )
    return dg.ScheduleDefinition(
        name="feed_inspection_schedule",
        job=job,
        cron_schedule=f"{INSPECTION_MINUTE} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks under the feed prefix each hour.",
    )


def reconciliation(accounts: Sequence[Account]) -> dg.ScheduleDefinition:
    """The schedule that compares a sample of what is delivered with Zendesk, each night; a run for each account.

    It may wait for the account's pools, and must not keep others waiting.
    """
    job = dg.define_asset_job(
        "reconciliation",
        selection=dg.AssetSelection.checks(*(key for account in accounts for key in _source_checks(account))),
        description="Reads a window of the last 30 days again at Zendesk, and compares; delivers nothing.",
        executor_def=dg.in_process_executor,
    )

    @dg.schedule(
        name="reconciliation_schedule",
        job=job,
        cron_schedule=f"{INSPECTION_MINUTE} {RECONCILIATION_HOUR} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compares a window of the last 30 days with Zendesk, each night.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        for account in accounts:
            yield dg.RunRequest(
                run_key=f"{account.name} {context.scheduled_execution_time:%Y-%m-%d}" if account.name else None,
                asset_check_keys=_source_checks(account),
                tags={**account.tags, **AFTER_COLLECTIONS} if account.name else {},
            )

    return schedule


def _source_checks(account: Account) -> list[dg.AssetCheckKey]:
    return [dg.AssetCheckKey(account.feed_key, source_check(stream)) for stream in account.streams]
