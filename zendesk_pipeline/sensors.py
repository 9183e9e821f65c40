"""The sensors. The names are an interface: Dagster remembers by them what is switched on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import zip_longest

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from zendesk_pipeline.accounts import Account
from zendesk_pipeline.catch_up import Attempt, Trouble, due, look_back_at_most, settled, troubles
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.lost_runs import is_forgiven
from zendesk_pipeline.run_history import BROKEN_OFF, UNDER_WAY, Ours, ours_in, windows_of
from zendesk_pipeline.streams import Stream
from zendesk_pipeline.windows import HOUR, Span, Window

INTERVAL = 60
"""Seconds between two looks."""
MOST_SUCCESSES = 100
MOST_REQUESTS = 25
"""Of one look: the daemon launches them one after another. The next look asks for the others."""


def catch_up_sensor(accounts: Sequence[Account], clock: Clock) -> dg.SensorDefinition:
    """The sensor that requests what is missing of the last CATCH_UP_HOURS of each account."""
    streams = [(account, stream) for account in accounts for stream in account.streams]
    keys = [account.stream_key(stream) for account, stream in streams]
    hours = sorted({account.settings.catch_up_hours for account in accounts})
    back = f"{hours[0]} to {hours[-1]}" if len(hours) > 1 else f"{hours[0]}"

    @dg.sensor(
        name="catch_up_sensor",
        target=dg.AssetSelection.assets(*keys),
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests windows of the last {back} hours that are missing or failed, oldest first.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = clock.now()
        mine = ours_in(context, keys)
        tried = {each: recent_attempts(context.instance, mine, since=now - 2 * each * HOUR) for each in hours}
        looks: list[_Look] = []
        for account, stream in streams:
            attempts = tried[account.settings.catch_up_hours].get(account.stream_key(stream), [])
            try:
                looks.append(_look(context.instance, account, stream, attempts, now))
            except Exception as error:  # one stream that cannot be looked at must not stop the others
                context.log.exception("%s could not be looked at", account.stream_key(stream).to_user_string())
                looks.append(_Look(notes=[_unseen(account.stream_key(stream), error)]))
        notes = [note for look in looks for note in look.notes]
        for note in notes:
            context.log.warning(note)
        requests = _in_turn(look.requests for look in looks)
        if requests:
            return dg.SensorResult(run_requests=requests[:MOST_REQUESTS])
        return dg.SensorResult(skip_reason="; ".join(notes) or "Every window is delivered or under way.")

    return sensor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What there is to do and to say of one stream."""

    requests: Sequence[dg.RunRequest] = ()
    notes: Sequence[str] = ()


def _look(
    instance: dg.DagsterInstance, account: Account, stream: Stream, attempts: Sequence[Attempt], now: float
) -> _Look:
    key = account.stream_key(stream)
    expected = settled(account.first.start, now - account.delay, account.settings.catch_up_hours)
    delivered = delivered_windows(instance, key, among=expected)
    missing = [window for window in expected if window not in delivered]
    successes = _successes(instance, key, troubles(missing, attempts).values())
    trouble = troubles(missing, attempts, successes)
    spans = due(expected, delivered, attempts, now, successes)
    return _Look(
        requests=[_request(account, key, span, look_back_at_most(span, trouble)) for span in spans],
        notes=[_note(key, each) for each in trouble.values()],
    )


def _unseen(key: dg.AssetKey, error: Exception) -> str:
    return f"{key.to_user_string()} could not be looked at ({type(error).__name__}; this tick's log says more)"


def _successes(instance: dg.DagsterInstance, key: dg.AssetKey, trouble: Iterable[Trouble]) -> list[float]:
    """When windows of an asset were delivered since its trouble began: the first times, and the latest."""
    since = min((each.since for each in trouble), default=None)
    if since is None:
        return []
    wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=since)
    first = instance.fetch_materializations(wanted, limit=MOST_SUCCESSES, ascending=True).records
    latest = instance.fetch_materializations(wanted, limit=1).records
    return [record.timestamp for record in (*first, *latest)]


def _in_turn(requests: Iterable[Sequence[dg.RunRequest]]) -> list[dg.RunRequest]:
    """The first of each stream, then the second of each: no stream has to wait for all of another."""
    return [request for turn in zip_longest(*requests) for request in turn if request is not None]


def delivered_windows(
    instance: dg.DagsterInstance, key: dg.AssetKey, among: Iterable[Window] | None = None
) -> set[Window]:
    """The windows that have been materialized, of all or of a few; a few are a quick question.

    What is no hour, as older releases let be materialized, is none of them.
    """
    if among is None:
        return {window for each in instance.get_materialized_partitions(key) if (window := Window.if_hour(each))}
    wanted = {window.partition_key for window in among}
    event = dg.DagsterEventType.ASSET_MATERIALIZATION
    if not wanted:
        return set()
    return set(map(Window.of_partition, instance.get_latest_storage_id_by_partition(key, event, wanted)))


def newest_delivered(instance: dg.DagsterInstance, key: dg.AssetKey, recent: Span) -> Window | None:
    """The newest window that has been materialized; `recent` is where it usually is."""
    windows = delivered_windows(instance, key, among=recent) or delivered_windows(instance, key)
    return max(windows, default=None)


def recent_attempts(instance: dg.DagsterInstance, mine: Ours, *, since: float) -> Mapping[dg.AssetKey, list[Attempt]]:
    """By asset, our runs that are under way, and those created since then that broke off."""
    created = datetime.fromtimestamp(since, UTC) - timedelta(hours=1)
    wanted = dg.RunsFilter(statuses=[*UNDER_WAY, *BROKEN_OFF], created_after=created)
    attempts: dict[dg.AssetKey, list[Attempt]] = {}
    for record in instance.get_run_records(wanted):
        run = record.dagster_run
        if (span := windows_of(run)) is not None and not is_forgiven(run):
            ended = record.end_time or record.update_timestamp.timestamp()
            attempt = Attempt(span, ended if run.status in BROKEN_OFF else None)
            for key in mine.among(instance, run):
                attempts.setdefault(key, []).append(attempt)
    return attempts


def _request(account: Account, key: dg.AssetKey, span: Span, look_back: int | None) -> dg.RunRequest:
    step = account.called(key.path[-1])
    config = {} if look_back is None else {"ops": {step: {"config": {"look_back_at_most": look_back}}}}
    first, last = Window(span.start), Window.of(span.end - 1)
    if first == last:
        return dg.RunRequest(
            asset_selection=[key], run_config=config, partition_key=first.partition_key, tags=account.tags
        )
    bounds = {ASSET_PARTITION_RANGE_START_TAG: first.partition_key, ASSET_PARTITION_RANGE_END_TAG: last.partition_key}
    return dg.RunRequest(asset_selection=[key], run_config=config, tags={**bounds, **account.tags})


def _note(key: dg.AssetKey, trouble: Trouble) -> str:
    at = datetime.fromtimestamp(trouble.next_try, UTC)
    where = f"{key.to_user_string()} {trouble.window}"
    return f"{where}: {trouble.failures} run(s) broke off there, it is tried again from {at:%Y-%m-%d %H:%M} on"
