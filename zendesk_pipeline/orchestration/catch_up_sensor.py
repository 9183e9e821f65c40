"""The sensors. The names are an interface: Dagster remembers by them what is switched on."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest

import dagster as dg
import msgspec

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window, ranges, some
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up import (
    GRACE,
    Attempt,
    Refusal,
    Trouble,
    due,
    latest_attempts,
    look_back_at_most,
    refusal,
    set_aside,
    settled,
    troubles,
)
from zendesk_pipeline.orchestration.instance import RANGE_END_TAG, RANGE_START_TAG
from zendesk_pipeline.orchestration.missing_windows import Counted, count, missing_before, to_count
from zendesk_pipeline.orchestration.run_history import (
    BROKEN_OFF,
    UNDER_WAY,
    Ours,
    cancelled_by_people,
    ours_in,
    redelivers,
    stays,
    took_back,
    was_lost,
    windows_of,
)

INTERVAL = 60
"""Seconds between two ticks."""
MATERIALIZED, PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
MOST_SUCCESSES = 100
DAYS_BACK = 2, 30
"""Days in which the newest delivered window is looked for, before all windows are queried."""
MOST_REQUESTS = 25
"""Runs that one tick requests: the daemon launches them one after another. The next tick requests the others."""


def catch_up_sensor(accounts: Sequence[Account], clock: Clock) -> dg.SensorDefinition:
    """The sensor that requests what is missing of the last CATCH_UP_HOURS of each account."""
    streams = [(account, stream) for account in accounts for stream in account.streams]
    keys = [account.stream_key(stream) for account, stream in streams]
    loaded_at = clock.now()
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
        known = remembered(context.cursor)
        counting = to_count(known, [key.to_user_string() for key in keys], now)
        looks: list[_Look] = []
        for account, stream in streams:
            attempts = tried[account.settings.catch_up_hours].get(account.stream_key(stream), [])
            name = account.stream_key(stream).to_user_string()
            try:
                looks.append(_look(context.instance, account, stream, attempts, now=now, loaded_at=loaded_at))
                if name in counting:
                    known[name] = _counted(context.instance, account, stream, now)
                looks.append(_Look(notes=_note_holes(account, stream, known.get(name), attempts, now)))
            except Exception as error:  # one stream that cannot be looked at must not stop the others
                context.log.exception("%s could not be looked at", name)
                looks.append(_Look(notes=[_unseen(account.stream_key(stream), error)]))
        notes = [note for look in looks for note in look.notes]
        for note in notes:
            context.log.warning(note)
        requests = _in_turn(look.requests for look in looks)
        names = {key.to_user_string() for key in keys}
        cursor = msgspec.json.encode({name: each for name, each in known.items() if name in names}).decode()
        if requests:
            return dg.SensorResult(run_requests=requests[:MOST_REQUESTS], cursor=cursor)
        every = "Every window that is due is delivered or under way."
        return dg.SensorResult(skip_reason="; ".join(notes) or every, cursor=cursor)

    return sensor


def remembered(cursor: str | None) -> dict[str, Counted]:
    """What a cursor holds: by asset, the windows that were missing; nothing where it cannot be read."""
    try:
        return msgspec.json.decode(cursor or "{}", type=dict[str, Counted])
    except msgspec.DecodeError:
        return {}


def _older(account: Account, stream: Stream, now: float) -> Span:
    """The windows that are too old for the sensor, and that Zendesk still keeps."""
    first = account.first_of(stream, now).start
    return Span(first, settled(first, now - account.delay, account.settings.catch_up_hours).start)


def _counted(instance: dg.DagsterInstance, account: Account, stream: Stream, now: float) -> Counted:
    return count(instance, account.stream_key(stream), _older(account, stream, now), now)


def _note_holes(
    account: Account, stream: Stream, counted: Counted | None, attempts: Sequence[Attempt], now: float
) -> list[str]:
    """What is missing of the windows that the sensor does not ask for."""
    older, name = _older(account, stream, now), account.stream_key(stream).to_user_string()
    if older and counted is None:
        return [f"{name}: windows before {Window(older.end)} are still to be counted"]
    missing = missing_before(counted, older.end, [each.span for each in attempts if each.failed_at is None])
    if not missing:
        return []
    windows, hours = sum(map(len, missing)), account.settings.catch_up_hours
    many = f"{windows:,} windows older than {hours} h are" if windows > 1 else f"1 window older than {hours} h is"
    return [f"{name}: {many} missing: {some([str(span) for span in missing])}; a backfill collects what is wanted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What there is to do and to say of one stream."""

    requests: Sequence[dg.RunRequest] = ()
    notes: Sequence[str] = ()


def _look(
    instance: dg.DagsterInstance,
    account: Account,
    stream: Stream,
    attempts: Sequence[Attempt],
    *,
    now: float,
    loaded_at: float,
) -> _Look:
    key = account.stream_key(stream)
    expected = settled(account.first_of(stream, now).start, now - account.delay, account.settings.catch_up_hours)
    young = _failed_early(account, expected, attempts, now)
    if not expected and not young:
        return _Look()
    asked = {each.partition_key for each in (*expected, *young)}
    held = instance.get_latest_storage_id_by_partition(key, MATERIALIZED, asked)
    again = failed_again(instance, key, held, attempts)
    delivered = {window for window in expected if window.partition_key in held and window not in again}
    missing = [window for window in expected if window not in delivered]
    waiting = [window for window in young if window.partition_key not in held or window in again]
    wanted = [*missing, *waiting]
    successes = _successes(instance, key, wanted, attempts)
    trouble = troubles(wanted, attempts, successes, again)
    spans = due(expected, delivered, attempts, now, successes, delivered_at=again, loaded_at=loaded_at)
    refused = refusal(attempts, successes, loaded_at) if wanted else None
    aside = set_aside(missing, attempts)
    under_way = [each.span for each in attempts if each.failed_at is None]
    tried_from = {window: window.end + GRACE + account.delay for window in waiting}
    troubled = [
        _note(
            key,
            replace(each, next_try=max(each.next_try, tried_from.get(each.window, 0.0))),
            again=any(each.window in span for span in under_way),
        )
        for each in trouble.values()
    ]
    return _Look(
        requests=[_request(account, key, span, look_back_at_most(span, trouble)) for span in spans],
        notes=[
            *([_note_refusal(key, refused, tried_now=bool(under_way))] if refused else troubled),
            *([_note_aside(key, aside)] if aside else []),
        ],
    )


def _failed_early(account: Account, expected: Span, attempts: Sequence[Attempt], now: float) -> list[Window]:
    """The windows behind the expected ones that have ended and that a run has failed of already.

    They are left to the schedule for some minutes yet, and are not to be called delivered.
    """
    failed = [each.span for each in attempts if each.failed_at is not None and not each.cancelled]
    first = account.first.start
    ended = Span(max(expected.end, first), max(Window.of(int(now)).start, first))
    return [window for window in ended if any(window in span for span in failed)]


def failed_again(
    instance: dg.DagsterInstance, key: dg.AssetKey, held: Mapping[str, int], attempts: Sequence[Attempt]
) -> dict[Window, float]:
    """The windows that were delivered and whose latest run, after that, failed; and when they had been delivered.

    They are red in the UI; those that the run itself had reported and then taken back are green. A run that was to send
    them again on purpose is not repeated, nor one that was cancelled.

    Args:
        instance: Where the runs are recorded.
        key: The asset.
        held: By partition key, the number of the latest materialization in the event log.
        attempts: Its runs.
    """
    windows = [window for name in held if (window := Window.if_hour(name))]
    latest = latest_attempts(windows, attempts)
    failed = [
        window.partition_key
        for window, each in latest.items()
        if each.failed_at is not None and not each.redeliver and not each.cancelled
    ]
    reported = {
        window.partition_key: each.took_back
        for window, each in latest.items()
        if each.failed_at is not None and each.took_back and not each.redeliver
    }
    if not failed and not reported:
        return {}
    plans = instance.get_latest_storage_id_by_partition(key, PLANNED, set(failed))
    again = {name for name in failed if plans.get(name, -1) > held[name]}
    if not again and not reported:
        return {}
    wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=[held[name] for name in again | reported.keys()])
    records = instance.fetch_materializations(wanted, limit=len(again | reported.keys())).records
    again |= {name for each in records if (name := each.partition_key) and reported.get(name) == each.run_id}
    times = {record.partition_key: record.timestamp for record in records}
    return {Window.of_partition(name): times.get(name, 0.0) for name in again}


def _unseen(key: dg.AssetKey, error: Exception) -> str:
    return f"{key.to_user_string()} could not be looked at ({type(error).__name__}; this tick's log says more)"


def _successes(
    instance: dg.DagsterInstance, key: dg.AssetKey, missing: Collection[Window], attempts: Sequence[Attempt]
) -> list[float]:
    """When windows of an asset were delivered since its trouble began: the first times, and the latest.

    Where only other windows were refused, the latest alone: it says whether the stream still is.
    """
    failed = [(each, each.failed_at) for each in attempts if each.failed_at is not None]
    here = [at for each, at in failed if any(window in each.span for window in missing)]
    since = here or [at for each, at in failed if each.stays]
    if not since:
        return []
    wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=min(since))
    first = instance.fetch_materializations(wanted, limit=MOST_SUCCESSES, ascending=True).records if here else ()
    latest = instance.fetch_materializations(wanted, limit=1).records
    return [record.timestamp for record in (*first, *latest)]


def _in_turn(requests: Iterable[Sequence[dg.RunRequest]]) -> list[dg.RunRequest]:
    """The first of each stream, then the second of each: no stream has to wait for all of another."""
    return [request for turn in zip_longest(*requests) for request in turn if request is not None]


def delivered_windows(
    instance: dg.DagsterInstance, key: dg.AssetKey, among: Iterable[Window] | None = None
) -> set[Window]:
    """The windows that have been materialized, of all or of a few; a few are a quick question.

    A partition that is not on the hour, as older releases could materialize, is left out.
    """
    if among is None:
        return {window for each in instance.get_materialized_partitions(key) if (window := Window.if_hour(each))}
    wanted = {window.partition_key for window in among}
    event = dg.DagsterEventType.ASSET_MATERIALIZATION
    if not wanted:
        return set()
    return set(map(Window.of_partition, instance.get_latest_storage_id_by_partition(key, event, wanted)))


def newest_delivered(instance: dg.DagsterInstance, key: dg.AssetKey, recent: Span) -> Window | None:
    """The newest window that has been materialized; `recent` is where it usually is.

    In an outage the look goes back further and further: to ask for all windows of ten years takes long, each minute.
    """
    for days in (0, *DAYS_BACK):
        among = Span(recent.start - days * 24 * HOUR, recent.end)
        if windows := delivered_windows(instance, key, among=among):
            return max(windows)
    return max(delivered_windows(instance, key), default=None)


def recent_attempts(instance: dg.DagsterInstance, mine: Ours, *, since: float) -> Mapping[dg.AssetKey, list[Attempt]]:
    """By asset, our runs that are under way, and those created since then that broke off."""
    created = datetime.fromtimestamp(since, UTC) - timedelta(hours=1)
    records = instance.get_run_records(dg.RunsFilter(statuses=[*UNDER_WAY, *BROKEN_OFF], created_after=created))
    cancelled = cancelled_by_people(instance, [record.dagster_run for record in records], created.timestamp())
    attempts: dict[dg.AssetKey, list[Attempt]] = {}
    for record in records:
        run = record.dagster_run
        if (span := windows_of(run)) is not None and not was_lost(run):
            ended = record.end_time or record.update_timestamp.timestamp()
            attempt = Attempt(
                span,
                ended if run.status in BROKEN_OFF else None,
                stays=stays(run),
                cancelled=run.run_id in cancelled,
                redeliver=redelivers(run),
                begun=record.create_timestamp.timestamp(),
                took_back=run.run_id if took_back(run) else "",
            )
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
    bounds = {RANGE_START_TAG: first.partition_key, RANGE_END_TAG: last.partition_key}
    return dg.RunRequest(asset_selection=[key], run_config=config, tags={**bounds, **account.tags})


def _note(key: dg.AssetKey, trouble: Trouble, *, again: bool) -> str:
    """`again`: whether a run over the window is under way, such as Dagster's retry of one that died."""
    at = datetime.fromtimestamp(trouble.next_try, UTC)
    where = f"{key.to_user_string()} {trouble.window}"
    what_next = "under way again" if again else f"tried again from {at:%Y-%m-%d %H:%M} on"
    return f"{where}: {trouble.failures} run(s) broke off there, it is {what_next}"


def _note_refusal(key: dg.AssetKey, refused: Refusal, *, tried_now: bool) -> str:
    """`tried_now`: whether a run of the stream is under way."""
    at = datetime.fromtimestamp(refused.next_try, UTC)
    trial = "a run that is under way tries it" if tried_now else f"one run tries it from {at:%Y-%m-%d %H:%M} on"
    return (
        f"{key.to_user_string()} is refused ({refused.failures} run(s)), which stays until somebody fixes what the"
        f" latest run says: {trial}, and then all that is missing is asked for"
    )


def _note_aside(key: dg.AssetKey, windows: Collection[Window]) -> str:
    spans = some([str(span) for span in ranges(windows)])
    return f"{key.to_user_string()} {spans}: cancelled by a person and left alone; launch it again if it is wanted"
