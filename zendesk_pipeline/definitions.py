"""Wiring: settings to resources to assets, schedule and sensors; the module that Dagster loads."""

import os

import dagster as dg
from dagster_aws.s3 import S3Resource

from zendesk_pipeline import settings
from zendesk_pipeline.alerts import AlertChannels, alert_sensor
from zendesk_pipeline.assets import hourly_windows, stream_asset
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.io_manager import S3IOManager
from zendesk_pipeline.resources import ZendeskResource
from zendesk_pipeline.schedules import hourly_collection
from zendesk_pipeline.sensors import catch_up_sensor
from zendesk_pipeline.settings import Settings
from zendesk_pipeline.streams import STREAMS


def _secret(name: str) -> str:
    """The variable by name, so that Dagster never holds its value; nothing where it is not set."""
    return dg.EnvVar(name) if os.environ.get(name) else ""


def build(chosen: Settings) -> dg.Definitions:
    """Everything Dagster needs to know, from the settings."""
    windows = hourly_windows(chosen.start_date)
    assets = [stream_asset(STREAMS[name], windows) for name in chosen.resources]
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
    )
    alerts = alert_sensor(
        assets,
        windows,
        hours=hours,
        stale_after=chosen.alert_stale_hours,
        auth_mode=chosen.auth_mode,
        ui_url=chosen.dagster_ui_url,
        clock=Clock(),
    )
    return dg.Definitions(
        assets=assets,
        schedules=[hourly_collection(assets, windows)],
        sensors=[*([catch_up_sensor(assets, windows, hours=hours, clock=Clock())] if hours else []), alerts],
        resources={
            "zendesk": zendesk,
            "s3_io_manager": s3_io_manager,
            "alert_channels": AlertChannels(urls=_secret("ALERT_URLS")),
        },
        executor=dg.in_process_executor,
    )


defs = build(settings.load())
