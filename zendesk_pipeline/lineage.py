"""What stands before and behind the collection in the lineage: Zendesk's APIs, and the feed of SecOps."""

from collections.abc import Iterable, Sequence

import dagster as dg

from zendesk_pipeline.streams import Stream

GROUP = "zendesk"
FEED = dg.AssetKey("secops_feed")


def api_key(stream: Stream) -> dg.AssetKey:
    """The asset that stands for a stream's source."""
    return dg.AssetKey(["zendesk_api", stream.name])


def api(stream: Stream, *, base_url: str, owners: Sequence[str]) -> dg.AssetSpec:
    """Where a stream comes from; `base_url` is the account's, or empty."""
    metadata = {
        "endpoint": dg.MetadataValue.url(f"{base_url}{stream.path}") if base_url else stream.path,
        "documentation": dg.MetadataValue.url(stream.documentation),
        "rate_limit": {
            "account": "the account's own (429 and headers)",
            "export": "10 or 30 requests a minute, for all exports together",
            "access_logs": "50 requests a minute, of its own",
        }[stream.budget],
        "oauth_scope": stream.scope,
    }
    return dg.AssetSpec(
        key=api_key(stream),
        description=f"Zendesk's API `{stream.path}`. {stream.description}",
        group_name=GROUP,
        kinds={"zendesk", "api"},
        owners=owners,
        metadata=metadata,
    )


def feed(streams: Iterable[Stream], *, bucket: str, prefix: str, owners: Sequence[str]) -> dg.AssetSpec:
    """What Google SecOps reads; `bucket` may be empty."""
    console = f"https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}"
    metadata = {
        "location": f"s3://{bucket or '…'}/{prefix}",
        **({"console": dg.MetadataValue.url(console)} if bucket else {}),
        "feeds": dg.MetadataValue.url("https://docs.cloud.google.com/chronicle/docs/administration/feed-management"),
    }
    return dg.AssetSpec(
        key=FEED,
        deps=[stream.name for stream in streams],
        description="The objects that the Google SecOps feed reads (Amazon S3 V2, log type ZENDESK_CRM). Observed each"
        " hour: how many wait, and since when. Where the feed deletes what it has read, that is its lag.",
        group_name=GROUP,
        kinds={"s3", "googlecloud"},
        owners=owners,
        metadata=metadata,
    )
