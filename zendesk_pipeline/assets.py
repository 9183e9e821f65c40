"""The assets: one for each stream, a partition an hour."""

import warnings
from collections.abc import Sequence
from datetime import datetime

import dagster as dg

from zendesk_pipeline.io_manager import Metadata, PageStream
from zendesk_pipeline.lineage import GROUP, api_key
from zendesk_pipeline.resources import ZendeskResource
from zendesk_pipeline.streams import Stream
from zendesk_pipeline.windows import Span, Window

# Single-run backfills are what keeps a range one walk; that their parameter is called beta is no news on every start.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)


class DeliveryConfig(dg.Config):
    """What can be asked of a single run."""

    redeliver: bool = False
    """Send records again that were delivered before, as new objects: when SecOps lost them."""
    look_back_at_most: int | None = None
    """Seconds before the range, where the look-back must not reach a window that cannot be read: it would fail too."""


def hourly_windows(start: datetime) -> dg.HourlyPartitionsDefinition:
    """The windows from `start` on, which has to be a full hour; all streams share one definition."""
    return dg.HourlyPartitionsDefinition(start_date=start, timezone="UTC")


def stream_asset(
    stream: Stream,
    windows: dg.PartitionsDefinition[str],
    *,
    owners: Sequence[str] = (),
    freshness: dg.FreshnessPolicy | None = None,
) -> dg.AssetsDefinition:
    """The asset that collects one stream; a range of windows is one run and one walk."""

    @dg.asset(
        name=stream.name,
        description=stream.description,
        group_name=GROUP,
        kinds={"zendesk", "s3"},
        owners=owners,
        deps=[api_key(stream)],
        freshness_policy=freshness,
        pool=stream.pool,
        partitions_def=windows,
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="s3_io_manager",
    )
    def collect(context: dg.AssetExecutionContext, config: DeliveryConfig, zendesk: ZendeskResource) -> PageStream:
        asked = context.partition_time_window
        span = Span(int(asked.start.timestamp()), int(asked.end.timestamp()))
        lookback = zendesk.lookback(stream, config.look_back_at_most)

        def describe(window: Window, metadata: Metadata) -> None:
            context.add_asset_metadata(metadata, partition_key=window.partition_key)

        return PageStream(
            stream=stream,
            span=span,
            lookback=lookback,
            redeliver=config.redeliver,
            pages=lambda: zendesk.walk(stream, span, lookback).pages(),
            describe=describe,
        )

    return collect
