"""Wiring: accounts to resources to assets and schedules, and the sensors over all; the module that Dagster loads."""

from collections.abc import Sequence

import dagster as dg
from dagster_aws.s3 import S3Resource

from zendesk_pipeline import checks, freshness, lineage, schedules, settings
from zendesk_pipeline.accounts import SECRETS, Account, checked, secret
from zendesk_pipeline.alerts import AlertChannels, alert_sensor
from zendesk_pipeline.assets import stream_asset
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.io_manager import S3IOManager
from zendesk_pipeline.resources import ZendeskResource
from zendesk_pipeline.sensors import catch_up_sensor
from zendesk_pipeline.settings import Settings

REAL = Clock()


def account_definitions(account: Account, clock: Clock = REAL) -> dg.Definitions:
    """What belongs to one account: assets, checks, schedules and resources. `watch` has what looks after them."""
    chosen, streams = account.settings, account.streams
    policy = freshness.policy(chosen.alert_stale_hours, account.delay)
    zendesk = ZendeskResource(
        base_url=chosen.zendesk_base_url,
        auth_mode=chosen.auth_mode,
        client_id=account.secret("ZENDESK_CLIENT_ID"),
        client_secret=account.secret("ZENDESK_CLIENT_SECRET"),
        oauth_scope=chosen.zendesk_oauth_scope,
        email=account.secret("ZENDESK_EMAIL"),
        api_token=account.secret("ZENDESK_API_TOKEN"),
        bearer_token=account.secret("ZENDESK_BEARER_TOKEN"),
        token_pair=account.secret("ZENDESK_TOKEN_PAIR"),
        variables={name: account.source(name) for name in SECRETS} if account.name else {},
        http_timeout=chosen.http_timeout,
        http_retries=chosen.http_retries,
        export_rate=chosen.zendesk_export_rate,
        rate_share=chosen.zendesk_rate_share,
        settle_seconds=chosen.settle_seconds,
        lookback_seconds=chosen.lookback_seconds,
        max_pages=chosen.max_pages,
    )
    s3_io_manager = S3IOManager(
        s3=S3Resource(),
        bucket=chosen.s3_bucket,
        feed_prefix=chosen.s3_prefix,
        state_prefix=chosen.state_prefix,
        quarantine_prefix=chosen.quarantine_prefix,
        output_format=chosen.output_format,
        compression=chosen.compression,
        batch_bytes=chosen.batch_bytes,
        sse=chosen.s3_sse,
        kms_key_id=chosen.s3_kms_key_id,
    )
    return dg.Definitions(
        assets=[
            *(lineage.api(account, stream) for stream in streams),
            *(stream_asset(account, stream, freshness=policy) for stream in streams),
            lineage.feed(account),
        ],
        asset_checks=[
            *(checks.window_checks(account, stream) for stream in streams),
            checks.feed_check(account, clock),
            *(checks.reconciliation(account, stream, clock) for stream in streams),
        ],
        schedules=[
            schedules.hourly_collection(account),
            schedules.feed_inspection(account),
            schedules.reconciliation(account),
        ],
        resources={account.called("zendesk"): zendesk, account.called("s3_io_manager"): s3_io_manager},
    )


def watch(accounts: Sequence[Account], ui_url: str, clock: Clock = REAL) -> dg.Definitions:
    """The sensors, once for all accounts of a code location: they catch up, judge freshness and alert."""
    caught_up = [account for account in accounts if account.settings.catch_up_hours]
    return dg.Definitions(
        sensors=[
            *([catch_up_sensor(caught_up, clock)] if caught_up else []),
            freshness.freshness_sensor(accounts, clock),
            alert_sensor(accounts, ui_url=ui_url, clock=clock),
        ],
        resources={"alert_channels": AlertChannels(urls=secret("ALERT_URLS"))},
    )


def accounts_definitions(accounts: Sequence[Account], ui_url: str, clock: Clock = REAL) -> dg.Definitions:
    """Everything for several accounts; raises SettingsError where they cannot live beside each other."""
    each = (account_definitions(account, clock) for account in checked(accounts))
    return dg.Definitions.merge(*each, watch(accounts, ui_url, clock))


def build(chosen: Settings, clock: Clock = REAL) -> dg.Definitions:
    """Everything Dagster needs to know, from the settings of the environment; the sensors go by the clock."""
    everything = accounts_definitions([Account(settings=chosen)], chosen.dagster_ui_url, clock)
    return dg.Definitions.merge(everything, dg.Definitions(executor=dg.in_process_executor))


defs = build(settings.load())
