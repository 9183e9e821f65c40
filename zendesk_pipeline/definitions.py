"""Wiring: settings to resources to assets, schedule and sensors; the module that Dagster loads."""

import os

import dagster as dg
from dagster_aws.s3 import S3Resource

from zendesk_pipeline import checks, freshness, lineage, schedules, settings
from zendesk_pipeline.alerts import AlertChannels, alert_sensor
from zendesk_pipeline.assets import hourly_windows, stream_asset
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.io_manager import S3IOManager
from zendesk_pipeline.resources import ZendeskResource
from zendesk_pipeline.sensors import catch_up_sensor
from zendesk_pipeline.settings import Settings
from zendesk_pipeline.streams import STREAMS

REAL = Clock()


def _secret(name: str) -> str:
    """The variable by name, so that Dagster never holds its value; nothing where it is not set."""
    return dg.EnvVar(name) if os.environ.get(name) else ""


def build(chosen: Settings, clock: Clock = REAL) -> dg.Definitions:
    """Everything Dagster needs to know, from the settings; the sensors go by the clock."""
    windows = hourly_windows(chosen.start_date)
    streams = [STREAMS[name] for name in chosen.resources]
    policy, owners = freshness.policy(chosen.alert_stale_hours), chosen.asset_owners
    assets = [stream_asset(stream, windows, owners=owners, freshness=policy) for stream in streams]
    sources = [lineage.api(stream, base_url=chosen.zendesk_base_url, owners=owners) for stream in streams]
    feed = lineage.feed(streams, bucket=chosen.s3_bucket, prefix=chosen.s3_prefix, owners=owners)
    hours = chosen.catch_up_hours
    zendesk = ZendeskResource(
        base_url=chosen.zendesk_base_url,
        auth_mode=chosen.auth_mode,
        client_id=_secret("ZENDESK_CLIENT_ID"),
        client_secret=_secret("ZENDESK_CLIENT_SECRET"),
        oauth_scope=chosen.zendesk_oauth_scope,
        email=_secret("ZENDESK_EMAIL"),
        api_token=_secret("ZENDESK_API_TOKEN"),
        bearer_token=_secret("ZENDESK_BEARER_TOKEN"),
        token_pair=_secret("ZENDESK_TOKEN_PAIR"),
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
        redaction_rules=chosen.redaction_rules,
        redaction_key=_secret("REDACTION_KEY"),
    )
    alerts = alert_sensor(
        assets,
        windows,
        hours=hours,
        stale_after=chosen.alert_stale_hours,
        auth_mode=chosen.auth_mode,
        ui_url=chosen.dagster_ui_url,
        clock=clock,
    )
    return dg.Definitions(
        assets=[*sources, *assets, feed],
        asset_checks=[
            *(checks.window_checks(stream) for stream in streams),
            checks.feed_check(clock),
            *(checks.reconciliation(stream, clock) for stream in streams),
        ],
        schedules=[
            schedules.hourly_collection(assets, windows),
            schedules.feed_inspection(),
            schedules.reconciliation(streams),
        ],
        sensors=[
            *([catch_up_sensor(assets, windows, hours=hours, clock=clock)] if hours else []),
            freshness.freshness_sensor(assets, windows, fail_hours=chosen.alert_stale_hours, clock=clock),
            alerts,
        ],
        resources={
            "zendesk": zendesk,
            "s3_io_manager": s3_io_manager,
            "alert_channels": AlertChannels(urls=_secret("ALERT_URLS")),
        },
        executor=dg.in_process_executor,
    )


defs = build(settings.load())
