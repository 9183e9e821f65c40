"""The schedules, for all accounts. The names are an interface: Dagster remembers by them what is switched on."""

from collections.abc import Iterator, Sequence

import dagster as dg

from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.orchestration.accounts import FIRST_MINUTE, Account
from zendesk_pipeline.orchestration.asset_checks import FEED_CHECK
from zendesk_pipeline.orchestration.comparison import COMPARES
from zendesk_pipeline.orchestration.comparison_check import comparisons_due, source_check
from zendesk_pipeline.orchestration.receipt_check import CHECK as RECEIPT_CHECK
from zendesk_pipeline.orchestration.secops_check import CHECK as SECOPS_CHECK
from zendesk_pipeline.orchestration.secops_counts import CHECK as SECOPS_COUNTS
from zendesk_pipeline.orchestration.secops_parser import CHECK as SECOPS_PARSER
from zendesk_pipeline.orchestration.secops_sample import CHECK as SECOPS_SAMPLE

FEED_CHECKS = (FEED_CHECK, SECOPS_CHECK, SECOPS_COUNTS, SECOPS_PARSER, SECOPS_SAMPLE, RECEIPT_CHECK)
"""Of the feed's asset, each hour."""
INSPECTION_MINUTE = 35
"""The minute of the hour: half an hour after the first collection."""
HALF_AN_HOUR = 30
"""Minutes from an account's collection to its comparison."""
AFTER_COLLECTIONS = {"dagster/priority": "-1"}
"""The tag by which the queue starts collections before other runs."""


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
        selection=dg.AssetSelection.checks(
            *(dg.AssetCheckKey(each.feed_key, name) for each in accounts for name in FEED_CHECKS)
        ),
        description="What waits under the feed prefix, whether all of it is ours, and whether SecOps takes it in.",
        executor_def=dg.in_process_executor,
    )
    return dg.ScheduleDefinition(
        name="feed_inspection_schedule",
        job=job,
        cron_schedule=f"{INSPECTION_MINUTE} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Looks under the feed prefix each hour, and asks SecOps about its feed.",
    )


def reconciliation(accounts: Sequence[Account]) -> dg.ScheduleDefinition:
    """The schedule that compares what is delivered with Zendesk: a run a day and stream, with what is a day old.

    A run may stand back, or fail, or have read as much as it may in a day. So the tick of each hour asks for those
    streams that are not done for the day; with most accounts there is nothing to ask for but at the first one.
    """
    job = dg.define_asset_job(
        "reconciliation",
        selection=dg.AssetSelection.checks(*(key for account in accounts for key in _source_checks(account))),
        description="Reads windows that are a day old again at Zendesk, and delivers what is missing in them.",
        executor_def=dg.in_process_executor,
    )
    minutes = {account.name: (account.begins + HALF_AN_HOUR) % 60 for account in accounts}

    @dg.schedule(
        name="reconciliation_schedule",
        job=job,
        cron_schedule=f"{','.join(map(str, sorted(set(minutes.values()))))} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Compares windows that are a day old with Zendesk; what was not done goes on an hour later.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at = context.scheduled_execution_time
        now = [account for account in accounts if minutes[account.name] == at.minute]
        asked = False
        for account, key in comparisons_due(context.instance, now, at.timestamp()):
            asked = True
            yield dg.RunRequest(
                run_key=f"{key.asset_key.to_user_string()} {key.name} {at:%Y-%m-%d %H}",
                asset_check_keys=[key],
                tags={**account.tags, **AFTER_COLLECTIONS, COMPARES: key.name},
            )
        if not asked:
            yield dg.SkipReason("All windows that are a day old are compared, or as many as COMPARISON_PAGES lets be.")

    return schedule


def _source_checks(account: Account) -> list[dg.AssetCheckKey]:
    return [dg.AssetCheckKey(account.feed_key, source_check(stream)) for stream in account.streams]
