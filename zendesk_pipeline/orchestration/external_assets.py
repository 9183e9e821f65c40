"""What stands before and behind the collection in the lineage: Zendesk's APIs, the feed, and what SecOps holds."""

from collections.abc import Iterable

import dagster as dg

from zendesk_pipeline.model import redaction_rules
from zendesk_pipeline.model.rate_budgets import in_words
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.secops.instance import LOG_TYPE

PERSONAL_DATA = "pii"
"""The name of a tag, as catalogues of data have it."""


def api(account: Account, stream: Stream) -> dg.AssetSpec:
    """Where a stream comes from."""
    base_url = account.settings.zendesk_base_url
    metadata = {
        "endpoint": dg.MetadataValue.url(f"{base_url}{stream.path}") if base_url else stream.path,
        "documentation": dg.MetadataValue.url(stream.documentation),
        "rate_limit": in_words(stream.budget),
        "oauth_scope": stream.scope,
    }
    return dg.AssetSpec(
        key=account.api_key(stream),
        description=f"Zendesk's API `{stream.path}`. {stream.description}",
        group_name=account.group,
        kinds={"zendesk", "api"},
        tags={PERSONAL_DATA: "true"},
        owners=account.settings.asset_owners,
        metadata=metadata,
    )


def personal_data(account: Account, streams: Iterable[Stream]) -> dict[str, str]:
    """The tag that says what of persons is in the records of streams, wherever they are stored.

    All streams tell who did what, so all have it: `true` as Zendesk sends them, `redacted` where rules take out or
    replace what they name.
    """
    setting = account.settings.redaction_rules
    rules: redaction_rules.RulesOf = redaction_rules.load(setting) if setting else {}
    return {PERSONAL_DATA: "redacted" if all(rules.get(stream.name) for stream in streams) else "true"}


def location(account: Account) -> str:
    """Where the objects of an account go; the bucket may not be set."""
    return f"s3://{account.settings.s3_bucket or '…'}/{account.settings.s3_prefix}"


def feed(account: Account) -> dg.AssetSpec:
    """What Google SecOps reads; the bucket may not be set."""
    bucket, prefix = account.settings.s3_bucket, account.settings.s3_prefix
    console = f"https://s3.console.aws.amazon.com/s3/buckets/{bucket}?prefix={prefix}"
    metadata = {
        "location": location(account),
        **({"console": dg.MetadataValue.url(console), "dagster/uri": location(account)} if bucket else {}),
        "feeds": dg.MetadataValue.url("https://docs.cloud.google.com/chronicle/docs/administration/feed-management"),
    }
    return dg.AssetSpec(
        key=account.feed_key,
        deps=account.stream_keys,
        description="The objects that the Google SecOps feed reads (Amazon S3 V2, log type ZENDESK_CRM). Observed each"
        " hour: how many wait, and since when. Where the feed deletes what it has read, that is its lag.",
        group_name=account.group,
        kinds={"s3", "googlecloud"},
        tags=personal_data(account, account.streams),
        owners=account.settings.asset_owners,
        metadata=metadata,
    )


def in_secops(account: Account, stream: Stream) -> dg.AssetSpec:
    """Where a stream ends: what SecOps has taken in of it. It comes by the feed alone."""
    instance = account.settings.secops_customer_id
    metadata = {
        "log_type": LOG_TYPE,
        **({"instance": instance} if instance else {}),
        "search": dg.MetadataValue.url("https://docs.cloud.google.com/chronicle/docs/investigation/raw-log-search"),
    }
    return dg.AssetSpec(
        key=account.secops_key(stream),
        deps=[account.feed_key],
        description=f"What Google SecOps holds of `{stream.name}`, as logs of the type {LOG_TYPE}. The checks of"
        f" `{account.feed_key.to_user_string()}` say whether it reads, counts and finds what is delivered.",
        group_name=account.group,
        kinds={"googlecloud", "secops"},
        tags=personal_data(account, [stream]),
        owners=account.settings.asset_owners,
        metadata=metadata,
    )
