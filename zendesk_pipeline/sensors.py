"""The sensors. The names are an interface: Dagster remembers by them what is switched on."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from zendesk_pipeline.catch_up import Attempt, Trouble, due, look_back_at_most, settled, troubles
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.windows import HOUR, Span, Window

INTERVAL = 60
"""Seconds between two looks."""
MOST_SUCCESSES = 100

UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
BROKEN_OFF = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def catch_up_sensor(
    assets: Sequence[dg.AssetsDefinition], windows: dg.HourlyPartitionsDefinition, *, hours: int, clock: Clock
) -> dg.SensorDefinition:
    """The sensor that requests what is missing of the last `hours`."""
    first_window = int(windows.start.timestamp())

    @dg.sensor(
        name="catch_up_sensor",
        target=list(assets),
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests windows of the last {hours} hours that are missing or failed, oldest first.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now = clock.now()
        expected = settled(first_window, now, hours)
        requests: list[dg.RunRequest] = []
        notes: list[str] = []
        for asset in assets:
            delivered = delivered_windows(context.instance, asset.key)
            attempts = recent_attempts(context.instance, asset.key, since=now - 2 * hours * HOUR)
            missing = [window for window in expected if window not in delivered]
            successes = _successes(context.instance, asset.key, troubles(missing, attempts).values())
            trouble = troubles(missing, attempts, successes)
            requests += [
                _request(asset, span, look_back_at_most(span, trouble))
                for span in due(expected, delivered, attempts, now, successes)
            ]
            notes += [_note(asset.key, each) for each in trouble.values()]
        for note in notes:
            context.log.warning(note)
        if requests:
            return dg.SensorResult(run_requests=requests)
        return dg.SensorResult(skip_reason="; ".join(notes) or "Every window is delivered or under way.")

    return sensor


def _successes(instance: dg.DagsterInstance, key: dg.AssetKey, trouble: Iterable[Trouble]) -> list[float]:
    """When windows of an asset were delivered since its trouble began: the first times, and the latest."""
    since = min((each.since for each in trouble), default=None)
    if since is None:
        return []
    wanted = dg.AssetRecordsFilter(asset_key=key, after_timestamp=since)
    first = instance.fetch_materializations(wanted, limit=MOST_SUCCESSES, ascending=True).records
    latest = instance.fetch_materializations(wanted, limit=1).records
    return [record.timestamp for record in (*first, *latest)]


def delivered_windows(instance: dg.DagsterInstance, key: dg.AssetKey) -> set[Window]:
    """The windows that have been materialized."""
    return {Window.of_partition(partition) for partition in instance.get_materialized_partitions(key)}


def recent_attempts(instance: dg.DagsterInstance, key: dg.AssetKey, *, since: float) -> list[Attempt]:
    """The asset's runs that are under way, and those created since then that broke off."""
    created = datetime.fromtimestamp(since, UTC) - timedelta(hours=1)
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[*UNDER_WAY, *BROKEN_OFF], created_after=created),
    )
    return [
        Attempt(span, (record.end_time or record.update_timestamp.timestamp()) if run.status in BROKEN_OFF else None)
        for record in records
        if (run := record.dagster_run).asset_selection
        and key in run.asset_selection
        and (span := windows_of(run)) is not None
    ]


def windows_of(run: dg.DagsterRun) -> Span | None:
    """The windows a run is about, by its tags."""
    single = run.tags.get(PARTITION_NAME_TAG)
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG, single)
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG, single)
    if first is None or last is None:
        return None
    return Span(Window.of_partition(first).start, Window.of_partition(last).end)


def _request(asset: dg.AssetsDefinition, span: Span, look_back: int | None) -> dg.RunRequest:
    config = {} if look_back is None else {"ops": {asset.op.name: {"config": {"look_back_at_most": look_back}}}}
    first, last = Window(span.start), Window.of(span.end - 1)
    if first == last:
        return dg.RunRequest(asset_selection=[asset.key], run_config=config, partition_key=first.partition_key)
    tags = {ASSET_PARTITION_RANGE_START_TAG: first.partition_key, ASSET_PARTITION_RANGE_END_TAG: last.partition_key}
    return dg.RunRequest(asset_selection=[asset.key], run_config=config, tags=tags)


def _note(key: dg.AssetKey, trouble: Trouble) -> str:
    at = datetime.fromtimestamp(trouble.next_try, UTC)
    where = f"{key.to_user_string()} {trouble.window}"
    return f"{where}: {trouble.failures} run(s) broke off there, it is tried again from {at:%Y-%m-%d %H:%M} on"
