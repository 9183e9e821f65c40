"""The check that asks SecOps each hour whether its feed reads what is delivered. It reads, and changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeniedError, PipelineError, SettingsError
from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.comparison import UNSEEN
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of
from zendesk_pipeline.orchestration.verdicts import latest_verdict, verdict
from zendesk_pipeline.secops.access import NotInstalledError, access_of, connect, missing_settings
from zendesk_pipeline.secops.feed_model import Feed, uri_of
from zendesk_pipeline.secops.feed_watch import Delivered, chosen, failed, findings, last_transfer
from zendesk_pipeline.secops.instance import READING, NoCredentialsError, UnavailableError

CHECK = "secops_reads"
WATCHED, FAILED_SINCE, UNANSWERED = "watched", "failed_since", "unanswered"
"""Metadata by which a verdict is remembered."""
MOST_UNANSWERED = 3
"""Hours in a row without an answer, from which on that is a finding: Google is down for a while now and then."""
DAYS_LISTED = 3
"""Objects of the windows of so many days are looked at: a feed that stands still is told long before."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """What the verdict before has left."""

    watched: bool
    failed_since: Mapping[str, float]
    unanswered: int
    passed: bool
    description: str


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
        before, missing = _memory(context.instance, key), missing_settings(account.settings)
        if missing:
            return _unwatched(key, before, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.")
        try:
            uri_of(account.settings)  # without a bucket there is nothing to ask
            feeds = connect(access_of(account.settings), READING).feeds()
        except (NotInstalledError, NoCredentialsError) as problem:
            return _unwatched(key, before, str(problem))
        except UnavailableError as problem:
            return _unanswered(key, before, problem)
        except PipelineError as problem:
            remembered = {WATCHED: True, FAILED_SINCE: dg.MetadataValue.json(dict(before.failed_since))}
            return verdict(key, dg.AssetCheckSeverity.WARN, [f"{UNSEEN}: {problem}"], remembered)
        since = {feed.feed_id: before.failed_since.get(feed.feed_id, clock.now()) for feed in feeds if failed(feed)}
        return _judged(context, account, feeds, since, clock.now())

    return check


def _judged(
    context: dg.AssetCheckExecutionContext,
    account: Account,
    feeds: Sequence[Feed],
    since: Mapping[str, float],
    now: float,
) -> dg.AssetCheckResult:
    uri = uri_of(account.settings)
    feed = chosen(uri, feeds)
    waits, counted = _waiting(context, account, feed, now)
    patience = account.settings.alert_stale_hours * HOUR
    found = list(findings(uri, feeds, since, waits, patience=patience, now=now))
    observed: dict[str, Any] = {"secops_feed_state": _state(feed), **counted}
    if feed is not None and (at := last_transfer(feed)) is not None:
        observed["secops_last_transfer"] = dg.MetadataValue.timestamp(at)
    context.op_execution_context.log_event(dg.AssetObservation(account.feed_key, metadata=observed))
    stops = any(finding.stops for finding in found)
    return verdict(
        dg.AssetCheckKey(account.feed_key, CHECK),
        dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN,
        [finding.text for finding in found],
        {**observed, WATCHED: True, FAILED_SINCE: dg.MetadataValue.json(dict(since))},
        otherwise=f"{feed.display_name if feed else 'A feed'} reads {uri}.",
    )


def _state(feed: Feed | None) -> str:
    if feed is None:
        return "there is none"
    return f"{feed.state}, read-only" if feed.read_only else feed.state


def _waiting(
    context: dg.AssetCheckExecutionContext, account: Account, feed: Feed | None, now: float
) -> tuple[Delivered, Mapping[str, Any]]:
    """What was written after the feed's last transfer, and how that is shown; nothing where nobody may list it."""
    nothing = Delivered(objects=0, oldest=None)
    transferred = last_transfer(feed) if feed else None
    if transferred is None:
        return nothing, {}
    first = max(transferred, now - DAYS_LISTED * DAY)
    windows = [Window.of(int(first) - HOUR + hour * HOUR) for hour in range(int((now - first) / HOUR) + 3)]
    try:
        written = bucket_of(context, account).written_after(transferred, windows)
    except DeniedError:  # a writer may be without the right to list the feed
        return nothing, {}
    oldest = written[0] if written else None
    hours = round((now - oldest) / HOUR, 2) if oldest is not None else 0.0
    shown = {"secops_waiting_objects": len(written), "secops_oldest_waits_hours": hours}
    return Delivered(objects=len(written), oldest=oldest), shown


def _unwatched(key: dg.AssetCheckKey, before: _Memory, why: str) -> dg.AssetCheckResult:
    """Nobody asks SecOps; where somebody did the hour before, that is a finding once, and then how it is."""
    if before.watched:
        text = f"SecOps was watched until now, and is no more: {why}"
        return verdict(key, dg.AssetCheckSeverity.WARN, [text], {WATCHED: False})
    return verdict(key, dg.AssetCheckSeverity.WARN, [], {WATCHED: False}, otherwise=f"SecOps is not watched: {why}")


def _unanswered(key: dg.AssetCheckKey, before: _Memory, problem: SettingsError | PipelineError) -> dg.AssetCheckResult:
    """What was true before still is, until SecOps has not answered for some hours."""
    times = before.unanswered + 1
    remembered = {WATCHED: True, UNANSWERED: times, FAILED_SINCE: dg.MetadataValue.json(dict(before.failed_since))}
    if times >= MOST_UNANSWERED:
        return verdict(key, dg.AssetCheckSeverity.WARN, [f"{UNSEEN}, {times} times in a row: {problem}"], remembered)
    if not before.passed:
        return verdict(key, dg.AssetCheckSeverity.ERROR, [before.description], remembered)
    return verdict(key, dg.AssetCheckSeverity.WARN, [], remembered, otherwise=f"Not seen this time: {problem}")


def _memory(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> _Memory:
    latest = latest_verdict(instance, key)
    metadata = {name: entry.value for name, entry in latest.metadata.items()} if latest else {}
    since: Any = metadata.get(FAILED_SINCE) or {}
    times: Any = metadata.get(UNANSWERED)
    return _Memory(
        watched=metadata.get(WATCHED) is True,
        failed_since=since,
        unanswered=times if isinstance(times, int) else 0,
        passed=latest.passed if latest else True,
        description=(latest.description or "") if latest else "",
    )
