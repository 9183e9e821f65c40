"""Wiring: accounts to assets and checks, and the schedules and sensors over all of them. Nothing is read here."""

from collections.abc import Sequence

import dagster as dg

from zendesk_pipeline.alerts.sensor import AlertChannels, alert_sensor
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.orchestration import asset_checks, external_assets, freshness, resources, run_logs, schedules
from zendesk_pipeline.orchestration.accounts import Account, checked, secret
from zendesk_pipeline.orchestration.assets import stream_asset
from zendesk_pipeline.orchestration.catch_up_sensor import catch_up_sensor
from zendesk_pipeline.orchestration.comparison_check import comparison_check
from zendesk_pipeline.orchestration.receipt_check import receipt_check
from zendesk_pipeline.orchestration.secops_check import secops_check
from zendesk_pipeline.orchestration.secops_counts import secops_counts
from zendesk_pipeline.orchestration.secops_parser import secops_parser
from zendesk_pipeline.orchestration.secops_sample import secops_sample
from zendesk_pipeline.settings.environment import Settings

REAL = Clock()


def account_definitions(account: Account, clock: Clock = REAL) -> dg.Definitions:
    """The assets and checks of one account."""
    policy = freshness.policy(account)
    return dg.Definitions(
        assets=[
            *(external_assets.api(account, stream) for stream in account.streams),
            *(stream_asset(account, stream, freshness=policy) for stream in account.streams),
            external_assets.feed(account),
            *(external_assets.in_secops(account, stream) for stream in account.streams),
        ],
        asset_checks=[
            *(asset_checks.window_checks(account, stream) for stream in account.streams),
            asset_checks.feed_check(account, clock),
            secops_check(account, clock),
            receipt_check(account, clock),
            secops_counts(account, clock),
            secops_sample(account, clock),
            secops_parser(account, clock),
            *(comparison_check(account, stream, clock) for stream in account.streams),
        ],
    )


def shared_definitions(accounts: Sequence[Account], location: Settings, clock: Clock = REAL) -> dg.Definitions:
    """What all accounts of a code location have in common: schedules, sensors and resources.

    Of the location's settings those of `OF_THE_LOCATION` count. Raises SettingsError where two accounts get into each
    other's way.
    """
    every = checked(accounts)
    caught_up = [account for account in every if account.settings.catch_up_hours]
    return dg.Definitions(
        schedules=[
            schedules.hourly_collection(every),
            schedules.feed_inspection(every),
            schedules.reconciliation(every),
            *([run_logs.pruning(every, location.keep_run_logs_days, clock)] if location.keep_run_logs_days else []),
        ],
        sensors=[
            *([catch_up_sensor(caught_up, clock)] if caught_up else []),
            freshness.freshness_sensor(every, clock),
            alert_sensor(every, ui_url=location.dagster_ui_url, clock=clock, digest_hour=location.alert_digest_hour),
        ],
        resources={
            **resources.resources(every),
            "alert_channels": AlertChannels(urls=secret("ALERT_URLS"), heartbeat_url=secret("HEARTBEAT_URL")),
        },
    )


def accounts_definitions(accounts: Sequence[Account], location: Settings, clock: Clock = REAL) -> dg.Definitions:
    """Everything for several accounts; raises SettingsError where two of them get into each other's way."""
    each = (account_definitions(account, clock) for account in accounts)
    return dg.Definitions.merge(*each, shared_definitions(accounts, location, clock))


def build(chosen: Settings, clock: Clock = REAL) -> dg.Definitions:
    """Everything Dagster needs to know, from the settings of the environment; the sensors go by the clock."""
    everything = accounts_definitions([Account(settings=chosen)], chosen, clock)
    return dg.Definitions.merge(everything, dg.Definitions(executor=dg.in_process_executor))
