"""The check that compares what SecOps has ingested with what was delivered, each hour. It reads, and changes nothing.

The count, and what the ledgers held when it was looked at last, stand in the metadata of its verdict.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import msgspec

from zendesk_pipeline.delivery.deliveries import Deliveries, WrittenLedger, hour_of
from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeniedError, PipelineError
from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.comparison import UNSEEN
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of
from zendesk_pipeline.orchestration.secops_verdicts import Watched, asking, not_answered, remembered, repeated, told
from zendesk_pipeline.secops.access import NotInstalledError, missing_settings
from zendesk_pipeline.secops.count_watch import (
    MOST_WAITS,
    Batch,
    Count,
    Eve,
    Judged,
    feeds_to_count,
    judged,
    of_feeds,
    patience_of,
    unparsed,
)
from zendesk_pipeline.secops.counts import Counts, DashboardCounts
from zendesk_pipeline.secops.feed_model import Feed, uri_of
from zendesk_pipeline.secops.feed_watch import Finding, chosen, failed
from zendesk_pipeline.secops.instance import NoCredentialsError, UnavailableError

CHECK = "secops_counts"
PARSED_HOURS = 24
"""Hours whose logs are looked at for those that were not parsed."""
MOST_HELD = 5000
"""Windows that are remembered: a backfill of more begins the count anew."""


class _Memory(Watched, frozen=True, kw_only=True):
    """What the verdicts before have left. Times are seconds since the epoch."""

    place: str = ""
    """What was counted: where it is delivered to, and in which form."""
    count: Count | None = None
    newest: float = 0
    """When the newest ledger was written that was looked at, by S3's clock."""
    held: dict[str, dict[str, int]] = msgspec.field(default_factory=dict[str, dict[str, int]])
    """By stream, what they held then."""
    waits: int = 0
    """Looks for which no count could begin."""
    carried: list[str] = msgspec.field(default_factory=list[str])
    """What the count before has found, until another one can begin."""


def secops_counts(account: Account, clock: Clock) -> dg.AssetChecksDefinition:
    """The check of SecOps' counts; where nothing here may ask, it says that nobody counts."""
    key = dg.AssetCheckKey(account.feed_key, CHECK)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="SecOps has ingested as many logs as were delivered, no more and no less, and has parsed them.",
        required_resource_keys={bucket_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before, missing = remembered(context.instance, key, _Memory), missing_settings(account.settings)
        if missing:
            return _uncounted(key, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.")
        try:
            uri_of(account.settings)
            client = asking(context, account)
            feeds = client.feeds()
        except PipelineError as problem:
            return _not_asked(key, before, problem)
        try:
            return _Look(context, account, feeds, DashboardCounts(client), clock.now()).verdict(key, before)
        except PipelineError as problem:
            return _not_counted(key, before, problem)

    return check


def _not_asked(key: dg.AssetCheckKey, before: _Memory, problem: PipelineError) -> dg.AssetCheckResult:
    """SecOps could not be asked for its feeds, which `secops_reads` tells: what was found before stands."""
    if isinstance(problem, NotInstalledError | NoCredentialsError) and not before.watched:
        return _uncounted(key, str(problem))
    return repeated(key, before, "", unanswered=before.unanswered, otherwise=f"Not counted: {problem}")


def _not_counted(key: dg.AssetCheckKey, before: _Memory, problem: PipelineError) -> dg.AssetCheckResult:
    """The counts, or the ledgers, could not be read."""
    if isinstance(problem, UnavailableError):
        return not_answered(key, before, problem)
    if isinstance(problem, DeniedError) and before.count is None:  # a writer may be without the right to list
        return _uncounted(key, str(problem))
    return repeated(key, before, f"{UNSEEN}: {problem}")


def _uncounted(key: dg.AssetCheckKey, why: str) -> dg.AssetCheckResult:
    return told(key, _Memory(), {}, otherwise=f"What SecOps ingests is not counted: {why}")


class _Look:
    """One look at SecOps' counts and at the ledgers."""

    def __init__(
        self,
        context: dg.AssetCheckExecutionContext,
        account: Account,
        feeds: Sequence[Feed],
        counts: Counts,
        now: float,
    ) -> None:
        self._context, self._account, self._feeds, self._counts, self._now = context, account, feeds, counts, now
        self._uri = uri_of(account.settings)
        self._patience = patience_of(account.settings.alert_stale_hours)
        paged = account.settings.output_format == "page"
        self._unit = "pages" if paged else "records"
        self._place = f"{self._uri} in {self._unit}"

        def logs(delivered: Delivered) -> int:
            """SecOps takes a line for a log, and a page is one line."""
            return 1 if paged else len(delivered.identities)

        bucket = bucket_of(context, account)
        self._deliveries = [Deliveries(ledgers=bucket.ledgers(stream), logs=logs) for stream in account.streams]
        self._observed: dict[str, Any] = {}

    def verdict(self, key: dg.AssetCheckKey, before: _Memory) -> dg.AssetCheckResult:
        """What the look says; raises PipelineError where SecOps or the bucket does not answer."""
        counted = feeds_to_count(self._uri, self._feeds)
        feed = chosen(self._uri, counted)
        if feed is None:
            why = f"no feed reads {self._uri}, and nothing else (docs/feed.md)."
            return _uncounted(key, why)
        found = list(self._unparsed())
        ids = [each.feed_id for each in counted]
        count, why = before.count, ""
        if count is not None and before.place != self._place:
            count, why = None, "what is delivered goes to another place, or in another form"
        elif count is not None and feed.feed_id not in count.feeds:
            count, why = None, "another feed reads now"
        if count is None:
            memory, found_too, text = self._eve(feed, ids, before, why)
        else:
            memory, found_too, text = self._goes_on(count, ids, before)
        findings = [*found_too, *found]
        memory = msgspec.structs.replace(
            memory,
            watched=True,
            place=self._place,
            texts=[*memory.carried, *(each.text for each in findings)],
            stops=any(each.stops for each in findings),
        )
        if self._observed:
            observation = dg.AssetObservation(self._account.feed_key, metadata=self._observed)
            self._context.op_execution_context.log_event(observation)
        return told(key, memory, self._observed, otherwise=text)

    def _unparsed(self) -> Sequence[Finding]:
        parsing = self._counts.parsing(self._now - PARSED_HOURS * HOUR, self._now)
        if parsing.logs:
            self._observed["secops_parse_failures_share"] = round(parsing.share, 4)
        return list(unparsed(parsing, PARSED_HOURS))

    def _ingested(self, since: float, ids: Sequence[str]) -> int | None:
        return of_feeds(self._counts.ingested(since, self._now), ids, self._feeds)

    # Before a count

    def _eve(self, feed: Feed, ids: Sequence[str], before: _Memory, why: str) -> tuple[_Memory, Sequence[Finding], str]:
        """A count begins, unless SecOps is behind already, or still reads what was delivered long before."""
        since = self._now - 2 * self._patience
        ingested = self._ingested(since, ids)
        if ingested is None:
            return _Memory(), [], "What SecOps ingests is not counted: it does not tell its feeds apart here."
        ledgers = {each.ledgers.stream: each.at_first(self._now) for each in self._deliveries}
        every = [each for written in ledgers.values() for each in written]
        eve = self._known_before(every, since, ingested)
        less, older = eve.less(self._unit), eve.reads_older and before.waits < MOST_WAITS
        if less or older or failed(feed) or feed.state == "INACTIVE":
            waits = "SecOps still reads what was delivered before" if older else "the feed does not read"
            memory = _Memory(waits=before.waits + 1 if older else 0, carried=before.carried if older else [])
            return memory, less, f"The count has not begun: {waits}."
        count = Count(
            start=float(int(self._now)),  # S3 tells whole seconds
            feeds=list(ids),
            before=sum(each.logs for each in every if each.at > self._now - self._patience),
        )
        held = {stream: _held(written) for stream, written in ledgers.items()}
        anew = f"The count begins anew: {why}." if why else "The count begins now."
        return _Memory(count=count, held=held, newest=_newest(every, count.start)), [], anew

    def _known_before(self, every: Sequence[WrittenLedger], since: float, ingested: int) -> Eve:
        """A ledger says of its window alone when it can have been delivered: its end, and the last time after it."""
        long_ago = self._now - self._patience
        due = [each.logs for each in every if since < each.window.end <= long_ago - HOUR and each.at <= long_ago]
        recent = since - self._patience
        most = [each.logs for each in every if each.window.end > recent - HOUR or each.at > recent]
        return Eve(since=since, ingested=ingested, due=sum(due), most=sum(most))

    # In a count

    def _goes_on(self, count: Count, ids: Sequence[str], before: _Memory) -> tuple[_Memory, Sequence[Finding], str]:
        ids = list(dict.fromkeys([*count.feeds, *ids]))
        ingested = self._ingested(count.start, ids)  # before the ledgers: what is ingested was delivered
        if ingested is None:
            return _Memory(), [], "What SecOps ingests is not counted: it does not tell its feeds apart any more."
        held, every = dict(before.held), list[WrittenLedger]()
        for each in self._deliveries:
            stream = each.ledgers.stream
            there = held.get(stream, {})
            written = each.since(before.newest, there, start=count.start)
            held[stream] = {**there, **_held(written)}
            every += written
        if not all(each.known for each in every) or sum(map(len, held.values())) > MOST_HELD:
            return _Memory(), [], "The count begins anew within the hour: many windows of long ago were delivered."
        new = [Batch(each.at, each.new) for each in every if each.new]
        count = msgspec.structs.replace(count, feeds=ids).adds(new, self._patience, self._now)
        found = judged(count, ingested, unit=self._unit, now=self._now)
        self._observed |= {
            "secops_delivered_records": count.delivered,
            "secops_ingested_records": ingested,
            "secops_difference": ingested - count.delivered,
            "secops_counted_since": dg.MetadataValue.timestamp(count.start),
        }
        return (
            _after(found, held, _newest(every, before.newest)),
            found.findings,
            self._well(count, ingested, ends=found.count is None),
        )

    def _well(self, count: Count, ingested: int, *, ends: bool) -> str:
        hours = round(count.age(self._now) / HOUR)
        said = f"SecOps has ingested {ingested:,} {self._unit} in {hours:,} hours; {count.delivered:,} were delivered."
        return f"{said} The count begins anew." if ends else said


def _newest(every: Sequence[WrittenLedger], before: float) -> float:
    return max((each.at for each in every), default=before)


def _after(found: Judged, held: Mapping[str, Mapping[str, int]], newest: float) -> _Memory:
    """What the next look goes on from; what has ended is told until another count begins."""
    if found.count is None:
        return _Memory(carried=[each.text for each in found.findings if not each.stops])
    return _Memory(count=found.count, held={stream: dict(each) for stream, each in held.items()}, newest=newest)


def _held(written: Sequence[WrittenLedger]) -> dict[str, int]:
    return {hour_of(each.window): each.logs for each in written}
