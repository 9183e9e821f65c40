"""What the detectors judge: a snapshot of the Dagster instance for each tick, in which each fact is read once.

Those of the instance are read when they are first used, those of an asset's windows together, so that what cannot be
read stops only the detectors that need it.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import dagster as dg

from zendesk_pipeline.alerts.messages import some_words
from zendesk_pipeline.alerts.problem import LONGEST_SENTENCE, MINUTE, first_line
from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up import settled
from zendesk_pipeline.orchestration.catch_up_sensor import newest_delivered
from zendesk_pipeline.orchestration.instance import SerializableErrorInfo
from zendesk_pipeline.orchestration.missing_windows import Counted, began, count, missing_before, split, to_count
from zendesk_pipeline.orchestration.run_history import (
    UNDER_WAY,
    Ours,
    cancelled_spans,
    ours,
    redelivers,
    stays,
    took_back,
    windows_of,
)

LOOK_BACK = 30 * DAY
"""Failed runs older than this are ignored."""
SETTLING = 15 * MINUTE
"""After a time without ticks, the catch-up sensor has this long to ask for what is missing."""
MOST_RUNS = 200
"""Of failed runs, the newest: the cost of a tick has a bound."""
MOST_OF_AN_ASSET = 5
"""Failed runs, where there are many assets: one account's must not push another's out of sight."""
MOST_PAGES = 5
"""Of failures: other people's must not push ours out of sight."""
MOST_UNDER_WAY = 2000
"""Runs, other people's too."""
MOST_WINDOWS = 2000
"""Asked for one by one; of more, all are asked for."""
MOST_MATERIALIZATIONS = 50
LEAST_HOURS = 24
"""Missing windows are looked for this far back, or as far as the catch-up sensor looks."""
RECENT = 6 * HOUR
"""A window that ended so short a time ago belongs to the hourly collection, not to a backfill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A run that failed, with the reason in words for people."""

    run_id: str
    assets: Collection[str]
    span: Span
    at: float
    event: int
    """The number of its failure in the event log."""
    sentence: str
    stays: bool = False
    """Whether trying again does not help: a person has to fix something first."""
    redeliver: bool = False
    """Whether it was to send again what had been delivered."""
    took_back: bool = False
    """Whether windows that it has reported turned out not to be finished."""


@dataclass(frozen=True, slots=True)
class Held:
    """Of one asset, the event numbers of each window's newest materialization and of the newest plan for one."""

    delivered: Mapping[str, int] = field(default_factory=dict[str, int])
    planned: Mapping[str, int] = field(default_factory=dict[str, int])

    def missing(self, run: FailedRun) -> list[Window]:
        """What neither the run itself, before it failed, nor a later one has delivered."""
        return [window for window in run.span if self._is_missing(window.partition_key, run)]

    def _is_missing(self, key: str, run: FailedRun) -> bool:
        before = run.event if run.took_back else min(self.planned.get(key, -1), run.event)
        return self.delivered.get(key, -1) <= before


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetFacts:
    """Runs and windows of one asset."""

    key: dg.AssetKey
    account: Account
    now: float
    failed: Sequence[FailedRun] = ()
    """Those that failed within LOOK_BACK."""
    under_way: Sequence[Span] = ()
    """What runs are at work on, such as the retry of a run whose process has died."""
    cancelled: Sequence[tuple[Span, float]] = ()
    """What runs were about that a person cancelled, and when they ended."""
    held: Held = Held()
    """Of the windows in question."""
    whole: bool = True
    """Whether what follows could be read; else only the runs can be judged."""
    newest: Window | None = None
    """The newest delivered window, where none of the last ones is."""
    never: Sequence[Span] = ()
    """Missing windows from before the collection was switched on."""
    lost: Sequence[Span] = ()
    """Missing windows that were due since then, and that nothing asks for any more."""
    waited: float = 0.0
    """Seconds of the last hour for Zendesk's rate limit."""
    caught_up: bool = True
    """Whether the catch-up sensor has had time to ask for what is missing."""

    @property
    def name(self) -> str:
        return self.key.to_user_string()

    @property
    def hours(self) -> int:
        """The catch-up sensor asks for windows this far back; 0 if there is none."""
        return self.account.settings.catch_up_hours

    @property
    def asked_for(self) -> Span:
        """The windows that the catch-up sensor asks for."""
        return self._settled(self.hours)

    @property
    def expected(self) -> Span:
        """The windows that have to be there."""
        return self._settled(max(self.hours, LEAST_HOURS))

    def _settled(self, hours: int) -> Span:
        return settled(self.account.first.start, self.now - self.account.delay, hours)

    def is_late(self, window: Window) -> bool:
        """Whether it may not be missing any more."""
        stale_after = self.account.settings.alert_stale_hours * HOUR
        return window.end + stale_after + self.account.delay <= self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """The schedules, sensors and checks to watch, and where they are from."""

    schedules: Sequence[dg.ScheduleDefinition] = ()
    sensors: Sequence[dg.SensorDefinition] = ()
    checks: Sequence[dg.AssetCheckKey] = ()
    repository: str = ""
    location: str = ""
    """The code location's name, if it is known."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The instance as one tick finds it."""

    instance: dg.DagsterInstance
    now: float
    mine: Ours = field(default_factory=lambda: ours(()))
    accounts: Sequence[Account] = ()
    automation: Automation = Automation()
    awake_since: float = 0.0
    """When the sensors began to run without a break."""
    counted: dict[str, Counted] = field(default_factory=dict[str, Counted])
    """By asset, the windows that were missing when they were counted last; counted again here when it is time."""
    awaited: Mapping[str, Collection[Window]] = field(default_factory=dict[str, Collection[Window]])
    """By asset, the windows that have to be delivered before known problems are solved."""
    delivered: dict[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    """By asset, once it was read, the partition keys that are materialized."""
    unreadable: dict[str, Exception] = field(default_factory=dict[str, Exception])
    """By asset, why its runs and windows could not be read or judged."""

    @property
    def caught_up(self) -> bool:
        """Whether the catch-up sensor has had time to ask for what is missing."""
        return self.now - self.awake_since >= SETTLING

    @cached_property
    def assets(self) -> list[AssetFacts]:
        """Those that can be read; the others are noted in `unreadable`."""
        watched = [(each, each.stream_key(stream), stream) for each in self.accounts for stream in each.streams]
        names = [key.to_user_string() for _, key, _ in watched]
        for gone in self.counted.keys() - set(names):
            del self.counted[gone]
        patience = max((account.settings.alert_stale_hours for account in self.accounts), default=0)
        failed = by_asset(failed_runs(self.instance, self.mine, since=self.now - LOOK_BACK))
        under_way = spans_under_way(self.instance, self.mine, created_after=self.now - patience * HOUR)
        cancelled = cancelled_spans(self.instance, self.mine, since=self.now - LOOK_BACK)
        counting = to_count(self.counted, names, self.now) if self.caught_up else set[str]()
        found: list[AssetFacts] = []
        for (account, key, stream), name in zip(watched, names, strict=True):
            facts = AssetFacts(
                key=key,
                account=account,
                now=self.now,
                failed=failed.get(name, ()),
                under_way=under_way.get(name, ()),
                cancelled=cancelled.get(name, ()),
                caught_up=self.caught_up,
            )
            try:
                facts = self._with_held(facts)
                found.append(replace(facts, whole=False))
                found[-1] = self._whole(facts, account.first_of(stream, self.now), to_be_counted=name in counting)
            except Exception as error:  # noqa: BLE001  # one asset that cannot be read must not hide the others
                self.unreadable[name] = error
        return found

    def _with_held(self, facts: AssetFacts) -> AssetFacts:
        """The facts with the windows in question."""
        name, recent = facts.name, _recent(facts, self.now)
        among = {*recent, *self.awaited.get(name, ()), *(window for run in facts.failed for window in run.span)}
        held = held_windows(self.instance, facts.key, plans=bool(facts.failed), among=among)
        self.delivered[name] = held.delivered.keys()
        return replace(facts, held=held)

    def _whole(self, facts: AssetFacts, first: Window, *, to_be_counted: bool) -> AssetFacts:
        """The facts with those of all of the asset's windows, of which `first` is the stream's first."""
        name, recent = facts.name, _recent(facts, self.now)
        if to_be_counted:
            since_start = Span(facts.account.first.start, recent.start)
            self.counted[name] = count(self.instance, facts.key, since_start, self.now)
        older = missing_before(self.counted.get(name), recent.start, facts.under_way)
        reach = (began(self.instance, facts.key) if older else None) or self.now
        never, lost = split(older, reach - facts.hours * HOUR)
        if facts.caught_up and not any(window.partition_key in facts.held.delivered for window in recent):
            newest = newest_delivered(self.instance, facts.key, recent)
        else:
            newest = None
        return replace(
            facts,
            newest=newest,
            never=split(never, first.start)[1],
            lost=lost,
            waited=rate_limit_waits(self.instance, facts.key, self.now),
        )


def _recent(facts: AssetFacts, now: float) -> Span:
    return Span(facts.expected.start, int(now) + HOUR)


def held_windows(
    instance: dg.DagsterInstance, key: dg.AssetKey, *, plans: bool, among: Collection[Window] | None = None
) -> Held:
    """Which windows of an asset were delivered and, if asked for, planned; of all, or of a few."""
    wanted = {window.partition_key for window in among} if among and len(among) <= MOST_WINDOWS else None
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    return Held(
        delivered=instance.get_latest_storage_id_by_partition(key, dg.DagsterEventType.ASSET_MATERIALIZATION, wanted),
        planned=instance.get_latest_storage_id_by_partition(key, planned, wanted) if plans else {},
    )


def failed_runs(instance: dg.DagsterInstance, mine: Ours, *, since: float) -> list[FailedRun]:
    """The newest of our failed runs over windows, whoever launched them: schedule, sensor, UI or command line."""
    wanted = dg.RunStatusChangeRecordsFilter(event_type=dg.DagsterEventType.RUN_FAILURE, after_timestamp=float(since))
    most = max(MOST_RUNS, MOST_OF_AN_ASSET * len(mine.assets))
    found: list[FailedRun] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = instance.fetch_run_status_changes(wanted, limit=most, cursor=cursor)
        found += _of_failures(instance, mine, page.records)
        cursor = page.cursor
        if not page.has_more or len(found) >= most:
            break
    return found


def _of_failures(
    instance: dg.DagsterInstance, mine: Ours, failures: Iterable[dg.EventLogRecord]
) -> Iterator[FailedRun]:
    events = {event.run_id: event for event in failures}
    if not events:
        return
    for record in instance.get_run_records(dg.RunsFilter(run_ids=list(events))):
        run, span = record.dagster_run, windows_of(record.dagster_run)
        assets = mine.among(instance, run) if span else ()
        if span and assets:
            event = events[run.run_id]
            yield FailedRun(
                run_id=run.run_id,
                assets={key.to_user_string() for key in assets},
                span=span,
                at=event.timestamp,
                event=event.storage_id,
                sentence=_reason(event.event_log_entry),
                stays=stays(run),
                redeliver=redelivers(run),
                took_back=took_back(run),
            )


def _reason(entry: dg.EventLogEntry) -> str:
    """Our own sentence where there is one; else Dagster's message, and of an exception its kind alone."""
    event = entry.get_dagster_event()
    data = event.job_failure_data if event.event_specific_data else None  # none where a launcher reports the failure
    step = data and data.first_step_failure_event
    failure = step and step.step_failure_data.user_failure_data
    if failure and failure.description:
        said = re.sub(r" \[[^\[\]]*\]$", "", failure.description.strip().split("\n", 1)[0])
        return some_words(said, LONGEST_SENTENCE)
    said = re.sub(r'^Execution of run for "[^"]*" failed\. ', "", first_line(event.message or "The run failed."))
    causes = error_chain(data and data.error)
    return f"{said} ({causes[-1].cls_name}; the run's log says more.)" if causes else said


def error_chain(error: SerializableErrorInfo | None) -> list[SerializableErrorInfo]:
    """An error and what it was caused by."""
    return [error, *error_chain(error.cause)] if error else []


def by_asset(runs: Iterable[FailedRun]) -> dict[str, list[FailedRun]]:
    """Each asset's runs, in their order."""
    found: dict[str, list[FailedRun]] = {}
    for run in runs:
        for asset in run.assets:
            found.setdefault(asset, []).append(run)
    return found


def spans_under_way(instance: dg.DagsterInstance, mine: Ours, *, created_after: float) -> dict[str, list[Span]]:
    """What our runs are at work on, by asset; one that has waited in the queue since before then counts for nothing."""
    found: dict[str, list[Span]] = {}
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(UNDER_WAY)), limit=MOST_UNDER_WAY):
        run, span = record.dagster_run, windows_of(record.dagster_run)
        queued = run.status in {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}
        if span and not (queued and record.create_timestamp.timestamp() < created_after):
            for key in mine.among(instance, run):
                found.setdefault(key.to_user_string(), []).append(span)
    return found


def rate_limit_waits(instance: dg.DagsterInstance, key: dg.AssetKey, now: float) -> float:
    """Seconds of the last hour that an asset waited for the rate limit, backfills of old windows aside."""
    wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=now - HOUR)
    records = instance.fetch_materializations(wanted, limit=MOST_MATERIALIZATIONS).records
    newest_last = [event for record in reversed(records) if (event := record.asset_materialization)]
    events = {event.partition: event for event in newest_last}  # a long run reports a window early and at its end
    entries = [
        event.metadata.get("rate_limit_wait_seconds")
        for partition, event in events.items()
        if (window := Window.if_hour(partition)) and window.end > now - RECENT
    ]
    numbers = [entry for entry in entries if isinstance(entry, dg.FloatMetadataValue | dg.IntMetadataValue)]
    return sum(float(entry.value or 0) for entry in numbers)
