"""The assets: one for each stream, a partition an hour."""

import warnings
from collections.abc import Mapping
from datetime import datetime
from math import ceil
from types import FunctionType

import dagster as dg

from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.external_assets import location, personal_data
from zendesk_pipeline.orchestration.instance import add_metadata_at_once
from zendesk_pipeline.orchestration.io_manager import Metadata, PageStream
from zendesk_pipeline.orchestration.long_runs import begun_by, finished_before, put_off_end
from zendesk_pipeline.orchestration.resources import bucket_key, zendesk_key, zendesk_of

MINUTE = 60
MANY_WINDOWS = 1000
"""From here on Dagster's own way to give windows their metadata takes seconds: its time grows by the square."""

# A single-run backfill keeps a range one walk; Dagster would warn on every start that its parameter is beta.
warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
# The same of the links to the code, where they are asked for.
warnings.filterwarnings("ignore", message="Class `(Url|)CodeReference", category=dg.BetaWarning)


class DeliveryConfig(dg.Config):
    """What can be asked of a single run."""

    redeliver: bool = False
    """Send records again that were delivered before, as new objects: when SecOps lost them."""
    look_back_at_most: int | None = None
    """Seconds before the range, where the look-back must not reach a window that cannot be read: it would fail too."""


def hourly_windows(start: datetime) -> dg.HourlyPartitionsDefinition:
    """The windows from `start` on, which has to be a full hour; all streams share one definition."""
    return dg.HourlyPartitionsDefinition(start_date=start, timezone="UTC")


def description(account: Account, stream: Stream) -> str:
    """What a stream holds, where it goes, what a green hour means, and when one comes."""
    minute = max(account.begins, ceil(account.settings.settle_seconds / MINUTE))
    looks_back = stream.lookback(account.settings.lookback_seconds) > 0
    late = " A record that Zendesk shows only later comes with one of the next hours." if looks_back else ""
    return (
        f"{stream.description}\n\n"
        f"It goes to `{location(account)}`, which Google SecOps reads. A green hour is there whole: every record that"
        f" Zendesk shows of it, once.{late} An hour is collected by itself {minute} minutes after its end; what is"
        " missing or failed is asked for again."
    )


def code_references(base_url: str, made_by: FunctionType) -> Mapping[str, dg.CodeReferencesMetadataValue]:
    """The metadata by which Dagster's UI links an asset to its code at `base_url`; none where that is empty.

    Made here, and not by `dg.with_source_code_references`: that notes where the code is on this machine, which is
    nobody else's business, and knows GitHub and GitLab alone.
    """
    if not base_url:
        return {}
    path = f"{made_by.__module__.replace('.', '/')}.py"
    reference = dg.UrlCodeReference(url=f"{base_url}/{path}#L{made_by.__code__.co_firstlineno}", label=path)
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def stream_asset(
    account: Account, stream: Stream, *, freshness: dg.FreshnessPolicy | None = None
) -> dg.AssetsDefinition:
    """The asset that collects one stream; a range of windows is one run and one walk."""

    @dg.asset(
        key=account.stream_key(stream),
        description=description(account, stream),
        group_name=account.group,
        kinds={"zendesk", "s3"},
        tags=personal_data(account, [stream]),
        metadata={
            **({"dagster/uri": location(account)} if account.settings.s3_bucket else {}),
            **code_references(account.settings.code_url, stream_asset),
        },
        owners=account.settings.asset_owners,
        deps=[account.api_key(stream)],
        freshness_policy=freshness,
        pool=account.called(stream.pool),
        partitions_def=hourly_windows(account.settings.start_date),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key=bucket_key(account),
        required_resource_keys={zendesk_key(account)},
    )
    def collect(context: dg.AssetExecutionContext, config: DeliveryConfig) -> PageStream:
        zendesk = zendesk_of(context, account)
        span = asked_span(context)
        run, at_most = context.run, config.look_back_at_most

        def lookback(rest: Span) -> int:
            """`at_most` counts from the start of the range: its finished windows, which can be read, come on top."""
            return zendesk.lookback(stream, None if at_most is None else at_most + rest.start - span.start)

        return PageStream(
            stream=stream,
            span=span,
            lookback=lookback,
            redeliver=config.redeliver,
            redelivery=begun_by(context.instance, run) if config.redeliver else "",
            pages=lambda rest: zendesk.pages(stream, rest, lookback(rest)),
            describe=lambda told: describe(context, told),
            before=finished_before(context.instance, run, context.asset_key, span),
            goes_on=lambda now: put_off_end(context.instance, run.run_id, now),
        )

    return collect


def asked_span(context: dg.AssetExecutionContext) -> Span:
    """The windows that a run is asked for; raises Failure where an end names no hour, before anything is read.

    Dagster 1.13.29 takes 07:30 for the hour from 08:00 on, and a range that ends before it begins for one.
    """
    ends = context.partition_key_range
    asked = "...".join(dict.fromkeys((ends.start, ends.end)))
    first, last = Window.if_hour(ends.start), Window.if_hour(ends.end)
    if first and last and first <= last:
        return Span(first.start, last.end)
    if first and last:
        raise dg.Failure(f"{asked} ends before it begins. Nothing was read or delivered.", allow_retries=False)
    meant = "...".join(dict.fromkeys(Window.around(key).partition_key for key in (ends.start, ends.end)))
    raise dg.Failure(
        f"{asked} is not on the hour. A window is an hour, named by its beginning: ask for {meant}."
        " Nothing was read or delivered.",
        allow_retries=False,
    )


def describe(context: dg.AssetExecutionContext, told: Mapping[Window, Metadata]) -> None:
    """Give windows of the run the metadata of their materializations."""
    if len(told) >= MANY_WINDOWS and add_metadata_at_once(context, {each.partition_key: told[each] for each in told}):
        return
    for window, metadata in told.items():
        context.add_asset_metadata(metadata, partition_key=window.partition_key)
