"""The logs of old runs, which are nearly all of what Dagster's own records grow by.

Dagster keeps what a run has logged for ever: on SQLite a file of 200 kB a run, on PostgreSQL rows. Nothing reads it
once the run is old. What stays is what Dagster itself copies out of such a file, to answer questions about assets:
which windows are materialized and with what metadata, what the checks have found, how the run has ended. So a window
keeps its colour and its numbers, and its link leads to its run, whose log is empty then. No number of an event is given
again.

`DagsterInstance.delete_run` would not do: with the run it deletes that its windows are materialized (dagster 1.13.27).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import dagster as dg

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import DAY
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.instance import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
    LocalComputeLogManager,
    SqlEventLogStorageTable,
)
from zendesk_pipeline.orchestration.run_history import FINISHED

JOB = "run_log_pruning"
MINUTE, AT_HOUR = 50, 4
AT_ONCE = 500
"""Runs that one query returns."""
CURSOR = f"zendesk_pipeline/{JOB}"
"""What is pruned already where logs are rows: a time, by code location, among Dagster's own cursors."""
OUR_JOBS = frozenset({"hourly_collection", "feed_inspection", "reconciliation", JOB})
KEPT = sorted(kind.value for kind in {*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS})
"""The events that Dagster copies from a run's file to `index.db`: `store_event` of its `sqlite_event_log.py`."""
EVENTS: Any = SqlEventLogStorageTable  # Dagster annotates a part of it only


def pruning(accounts: Sequence[Account], days: int, clock: Clock) -> dg.ScheduleDefinition:
    """The schedule that deletes, each night, the logs of our runs that ended so many days ago."""
    assets = {key for each in accounts for key in (*each.stream_keys, each.feed_key)}

    @dg.op(name="prune_run_logs", description=f"Deletes the logs of runs that ended {days} days ago or earlier.")
    def prune_run_logs(context: dg.OpExecutionContext) -> None:
        origin = context.run.remote_job_origin
        location = origin.location_name if origin else ""
        pruned = prune(context.instance, ours(assets, location), clock.now() - days * DAY, location)
        context.log.info("The logs of %d runs were deleted; what is known of their windows stays.", pruned)

    @dg.job(
        name=JOB,
        executor_def=dg.in_process_executor,
        description=f"Deletes what runs logged {days} days ago or earlier; windows stay as they are.",
    )
    def job() -> None:
        prune_run_logs()

    return dg.ScheduleDefinition(
        name=f"{JOB}_schedule",
        job=job,
        cron_schedule=f"{MINUTE} {AT_HOUR} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Deletes the logs of runs older than {days} days, each night.",
    )


def ours(assets: set[dg.AssetKey], location: str) -> Callable[[dg.DagsterRun], bool]:
    """Whether a run is about assets of ours alone, or is one of our jobs in this code location."""

    def is_ours(run: dg.DagsterRun) -> bool:
        checked = {check.asset_key for check in run.asset_check_selection or ()}
        if about := {*(run.asset_selection or ()), *checked}:
            return about <= assets
        origin = run.remote_job_origin
        return run.job_name in OUR_JOBS and origin is not None and origin.location_name == location

    return is_ours


def prune(
    instance: dg.DagsterInstance, is_ours: Callable[[dg.DagsterRun], bool], before: float, location: str = ""
) -> int:
    """Delete the logs of runs that ended before then (seconds since the epoch), and give how many runs that were."""
    ended = dg.RunsFilter(statuses=FINISHED, updated_before=datetime.fromtimestamp(before, UTC))
    sharded = instance.event_log_storage.is_run_sharded
    found = _with_files(instance, ended) if sharded else _since_last_time(instance, ended, f"{CURSOR} {location}")
    count = 0
    for runs in found:
        chosen = [run.run_id for run in runs if is_ours(run)]
        if sharded:
            _delete_files(instance, chosen)
        else:
            _delete_rows(instance, chosen)
        _delete_output(instance, chosen)
        count += len(chosen)
    if not sharded:
        instance.daemon_cursor_storage.set_cursor_values({f"{CURSOR} {location}": str(before)})
    return count


def _with_files(instance: dg.DagsterInstance, ended: dg.RunsFilter) -> Iterator[list[dg.DagsterRun]]:
    """The runs whose logs are files: of those that are there, whatever was pruned before."""
    ids = _sharded(instance).get_all_run_ids()
    for first in range(0, len(ids), AT_ONCE):
        some = dg.RunsFilter(
            run_ids=ids[first : first + AT_ONCE], statuses=ended.statuses, updated_before=ended.updated_before
        )
        yield [record.dagster_run for record in instance.get_run_records(some)]


def _since_last_time(instance: dg.DagsterInstance, ended: dg.RunsFilter, cursor: str) -> Iterator[list[dg.DagsterRun]]:
    """The runs that have ended since what was pruned before."""
    pruned = instance.daemon_cursor_storage.get_cursor_values({cursor}).get(cursor)
    since = datetime.fromtimestamp(float(pruned), UTC) if pruned else None
    wanted = dg.RunsFilter(statuses=ended.statuses, updated_before=ended.updated_before, updated_after=since)
    last: str | None = None
    while records := instance.get_run_records(wanted, limit=AT_ONCE, cursor=last):
        last = records[-1].dagster_run.run_id
        yield [record.dagster_run for record in records]


def _delete_files(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    for run_id in run_ids:
        path = Path(_sharded(instance).path_for_shard(run_id))
        for beside in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}{beside}").unlink(missing_ok=True)


def _delete_rows(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    if run_ids:
        kind = EVENTS.c.dagster_event_type
        logged = EVENTS.c.run_id.in_(run_ids) & (kind.is_(None) | kind.not_in(KEPT))
        with cast("Any", instance.event_log_storage).index_connection() as connection:
            connection.execute(EVENTS.delete().where(logged))


def _delete_output(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    """What their processes printed, where that is stored in DAGSTER_HOME; in a bucket, a lifecycle rule deletes it."""
    kept = instance.compute_log_manager
    if isinstance(kept, LocalComputeLogManager):
        for run_id in run_ids:
            kept.delete_logs(prefix=[run_id, "compute_logs"])
            with suppress(OSError):  # not empty, or not there
                Path(kept.complete_artifact_path([run_id, "compute_logs", "-"])).parents[1].rmdir()


def _sharded(instance: dg.DagsterInstance) -> Any:
    """The storage that has a file for each run."""
    return instance.event_log_storage
