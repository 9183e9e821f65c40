"""The check that asks SecOps each hour whether its feed reads what is delivered. It reads, and changes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import msgspec

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.comparison import UNSEEN
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of
from zendesk_pipeline.orchestration.secops_verdicts import (
    Watched,
    asking,
    kept,
    not_answered,
    remembered,
    repeated,
    told,
)
from zendesk_pipeline.orchestration.verdicts import verdict
from zendesk_pipeline.secops.access import NotInstalledError, missing_settings
from zendesk_pipeline.secops.feed_model import Feed, uri_of
from zendesk_pipeline.secops.feed_watch import (
    Delivered,
    chosen,
    failed,
    findings,
    last_transfer,
    left_out,
    passed_over,
)
from zendesk_pipeline.secops.instance import NoCredentialsError, UnavailableError

CHECK = "secops_reads"
STATE, NO_FEED, READ_ONLY = "secops_feed_state", "there is none", "read-only"
"""The metadata that has the state of the feed, and what it says beside Google's own words."""
TOLD_FOR = 7 * DAY
"""Seconds for which it is told that a feed has passed objects over: they stay unread until they are sent again."""
DAYS_LISTED = 31
"""Objects of the windows of so many days are looked at, where the last transfer is as old as that."""


class _Memory(Watched, frozen=True, kw_only=True):
    """What the verdicts before have left."""

    failed_since: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """By the feed's id, when it was first seen to have failed."""
    unused_since: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """By the feed's id, when it was first seen without a transfer."""
    waits_since: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    """By the feed's id, when the oldest object was written that waited for it."""
    left_out: dict[str, tuple[float, float, float]] = msgspec.field(
        default_factory=dict[str, tuple[float, float, float]]
    )
    """By the feed's id, between which times objects were written that it has passed over, and when that was seen."""


def secops_check(account: Account, clock: Clock) -> dg.AssetChecksDefinition:
    """The check of what SecOps says of its feeds; where nothing here may ask, it says that nobody watches."""
    key = dg.AssetCheckKey(account.feed_key, CHECK)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="SecOps' feed reads what is delivered: it works, is the only one, and has transferred it.",
        required_resource_keys={bucket_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before, missing = remembered(context.instance, key, _Memory), missing_settings(account.settings)
        if missing:
            return _unwatched(key, before, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.")
        try:
            uri_of(account.settings)  # without a bucket there is nothing to ask
            client = asking(context, account)
            feeds = client.feeds()
        except UnavailableError as problem:
            return not_answered(key, before, problem)
        except PipelineError as problem:
            if isinstance(problem, NotInstalledError | NoCredentialsError) and not before.watched:
                return _unwatched(key, before, str(problem))
            return repeated(key, before, f"{UNSEEN}: {problem}")
        return _judged(context, account, feeds, before, clock.now())

    return check


def _judged(
    context: dg.AssetCheckExecutionContext, account: Account, feeds: Sequence[Feed], before: _Memory, now: float
) -> dg.AssetCheckResult:
    uri = uri_of(account.settings)
    feed = chosen(uri, feeds)
    failing = {each.feed_id: before.failed_since.get(each.feed_id, now) for each in feeds if failed(each)}
    unused = {each.feed_id for each in feeds if last_transfer(each) is None}
    unused_since = {feed_id: before.unused_since.get(feed_id, now) for feed_id in unused}
    waits, counted = _waiting(context, account, feed, unused_since, now)
    patience = account.settings.alert_stale_hours * HOUR
    found = list(findings(uri, feeds, failing, waits, patience=patience, now=now))
    passed = {feed_id: each for feed_id, each in before.left_out.items() if now - each[2] < TOLD_FOR}
    if feed is not None:
        if between := passed_over(feed, before.waits_since.get(feed.feed_id)):
            passed[feed.feed_id] = (*between, now)
        if feed.feed_id in passed:
            found.append(left_out(feed, passed[feed.feed_id][:2]))
    observed: dict[str, Any] = {STATE: _state(feed), **counted}
    if feed is not None and (at := last_transfer(feed)) is not None:
        observed["secops_last_transfer"] = dg.MetadataValue.timestamp(at)
    context.op_execution_context.log_event(dg.AssetObservation(account.feed_key, metadata=observed))
    memory = _Memory(
        watched=True,
        failed_since=failing,
        unused_since=unused_since,
        waits_since={feed.feed_id: waits.oldest} if feed and waits.oldest is not None else {},
        left_out=passed,
        texts=[finding.text for finding in found],
        stops=any(finding.stops for finding in found),
    )
    well = f"{feed.display_name if feed else 'A feed'} reads {uri}."
    return told(dg.AssetCheckKey(account.feed_key, CHECK), memory, observed, otherwise=well)


def _state(feed: Feed | None) -> str:
    if feed is None:
        return NO_FEED
    return f"{feed.state}, {READ_ONLY}" if feed.read_only else feed.state


def _waiting(
    context: dg.AssetCheckExecutionContext,
    account: Account,
    feed: Feed | None,
    unused_since: Mapping[str, float],
    now: float,
) -> tuple[Delivered, Mapping[str, Any]]:
    """What was written after the feed's last transfer, and how that is shown; nothing where it cannot be listed."""
    nothing = Delivered(objects=0, oldest=None)
    if feed is None:
        return nothing, {}
    transferred = last_transfer(feed)
    first = max(transferred or 0.0, now - DAYS_LISTED * DAY)
    windows = [Window.of(int(first) - HOUR + hour * HOUR) for hour in range(int((now - first) / HOUR) + 3)]
    try:
        written = bucket_of(context, account).written_after(transferred or 0.0, windows)
    except PipelineError:  # a writer may be without the right to list the feed; `holds_nothing_else` tells the rest
        return nothing, {}
    # a feed that is new has had no time yet to read what was there before it
    oldest = max(written[0], unused_since.get(feed.feed_id, 0.0)) if written else None
    hours = round((now - oldest) / HOUR, 2) if oldest is not None else 0.0
    shown = {"secops_waiting_objects": len(written), "secops_oldest_waits_hours": hours}
    return Delivered(objects=len(written), oldest=oldest), shown


def _unwatched(key: dg.AssetCheckKey, before: _Memory, why: str) -> dg.AssetCheckResult:
    """Nobody asks SecOps; where somebody did the hour before, a setting is gone: that is told for an hour."""
    memory = _Memory()
    if before.watched:
        text = f"SecOps was asked until an hour ago, and is not any more: {why}"
        return verdict(key, dg.AssetCheckSeverity.WARN, [text], kept(memory))
    return told(key, memory, {}, otherwise=f"SecOps is not watched: {why}")
