"""Which runs of an instance are ours, and of which windows: a Dagster instance may hold other people's runs as well.

A run of theirs can have partitions by day, by name or by nothing, or hours like ours. So a run counts by the assets
that it is about, never by its tags alone, and nothing that its tags hold ends a look.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.instance import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG, WILL_RETRY_TAG

Assets = frozenset[dg.AssetKey]

UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
BROKEN_OFF = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
FINISHED = (dg.DagsterRunStatus.SUCCESS, *BROKEN_OFF)

OUR_JOBS = ("hourly_collection", "__ASSET_JOB")
"""The job of the schedule, and the one in which Dagster runs assets by themselves (UI, sensors, command line)."""
STAYS = "zendesk_pipeline/stays_until_fixed"
"""The tag of a run that failed of what trying again does not help, with the run's own id: a retry takes tags over."""
TOOK_BACK = "zendesk_pipeline/took_back"
"""The tag of a run that reported windows which it then found not to be finished, with the run's own id, as above."""
LOST = "zendesk_pipeline/lost"
"""The tag of a run that `prepare` has ended after a crash, as above. It says nothing against the windows of the run."""
MOST_CANCELLATIONS = 500
"""Cancellations that are looked at, the newest, other people's too."""
NOT_BY_A_PERSON = "Canceling due to exceeding maximum runtime"
"""How the message of a cancellation begins that Dagster's run monitoring has asked for (dagster 1.13.29)."""
MOST_PLANS = 100
"""Planned materializations that are read to learn the assets of a run that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What makes a run one of ours."""

    assets: Assets
    """The assets that collect."""
    of_job: Callable[[str], Assets]
    """Which of them a job runs; none for a job of somebody else's."""
    location: str = ""
    """The code location's name in Dagster; empty if it is unknown."""

    def among(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> Assets:
        """The assets of ours that a run is about; none for a run of somebody else's."""
        if run.asset_selection:
            return self.assets & run.asset_selection
        if run.asset_check_selection or not (assets := self.of_job(run.job_name)):
            return frozenset()
        if run.remote_job_origin and self.location:
            return assets if run.remote_job_origin.location_name == self.location else frozenset()
        return assets if assets & _planned(instance, run) else frozenset()


def ours(assets: Iterable[dg.AssetKey], repository: dg.RepositoryDefinition | None = None, location: str = "") -> Ours:
    """What makes a run one of ours, by the definitions that Dagster has loaded, where they are known."""
    keys = frozenset(assets)

    def of_job(name: str) -> Assets:
        if repository is None:
            return keys if name in OUR_JOBS else frozenset()
        if not repository.has_job(name):
            return frozenset()
        return keys.intersection(repository.get_job(name).asset_layer.executable_asset_keys)

    return Ours(assets=keys, of_job=of_job, location=location)


def ours_in(context: dg.SensorEvaluationContext, assets: Iterable[dg.AssetKey]) -> Ours:
    """What makes a run one of ours, in the code location that a sensor is part of."""
    origin = context.code_location_origin
    return ours(assets, context.repository_def, origin.location_name if origin else "")


def _planned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Assets:
    """What a run without a selection was to materialize: all that is known of one from a command line."""
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    records = instance.get_records_for_run(run.run_id, of_type=planned, limit=MOST_PLANS).records
    events = (record.event_log_entry.dagster_event for record in records)
    return frozenset(event.asset_key for event in events if event and event.asset_key)


def windows_of(run: dg.DagsterRun) -> Span | None:
    """The windows that a run is about, by its tags; None where these name no hours."""
    single = run.tags.get(PARTITION_TAG)
    first = Window.if_hour(run.tags.get(RANGE_START_TAG, single))
    last = Window.if_hour(run.tags.get(RANGE_END_TAG, single))
    return Span(first.start, last.end) if first and last and first <= last else None


def stays(run: dg.DagsterRun) -> bool:
    """Whether a run failed of what stays until a person fixes it."""
    return run.tags.get(STAYS) == run.run_id


def took_back(run: dg.DagsterRun) -> bool:
    """Whether what a run has reported counts for nothing unless it succeeds."""
    return run.tags.get(TOOK_BACK) == run.run_id


def was_lost(run: dg.DagsterRun) -> bool:
    """Whether a crash ended it and Dagster does not retry it: its windows are asked for again at once."""
    return run.tags.get(LOST) == run.run_id and run.tags.get(WILL_RETRY_TAG) != "true"


def redelivers(run: dg.DagsterRun) -> bool:
    """Whether a run was to send again what had been delivered."""
    config: Any = run.run_config
    steps: list[Any] = [*(config.get("ops") or {}).values()]
    given: list[Any] = [step.get("config") for step in steps if step]
    return any(each and each.get("redeliver") for each in given)


def cancelled_by_people(instance: dg.DagsterInstance, runs: Collection[dg.DagsterRun], since: float) -> set[str]:
    """Of runs, the ids of those that somebody has terminated, in the UI, with its backfill or by Dagster's API.

    Such a one was asked to end (RUN_CANCELING) before it did. A run whose process is interrupted without that fails
    (dagster 1.13.29, `_core/execution/api.py`), and what cleans up after a crash marks runs as cancelled at once.
    """
    if not any(run.status is dg.DagsterRunStatus.CANCELED for run in runs):
        return set()
    wanted = dg.RunStatusChangeRecordsFilter(event_type=dg.DagsterEventType.RUN_CANCELING, after_timestamp=float(since))
    asked = instance.fetch_run_status_changes(wanted, limit=MOST_CANCELLATIONS).records
    events = ((each.run_id, each.event_log_entry.dagster_event) for each in asked)
    people = {run_id for run_id, event in events if event and not (event.message or "").startswith(NOT_BY_A_PERSON)}
    return {run.run_id for run in runs if run.status is dg.DagsterRunStatus.CANCELED and run.run_id in people}


def cancelled_spans(instance: dg.DagsterInstance, mine: Ours, *, since: float) -> dict[str, list[tuple[Span, float]]]:
    """By asset, what runs were about that somebody has terminated since then, and when they ended."""
    created = datetime.fromtimestamp(since, UTC)
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELED], created_after=created)
    records = instance.get_run_records(wanted, limit=MOST_CANCELLATIONS)
    people = cancelled_by_people(instance, [record.dagster_run for record in records], since)
    found: dict[str, list[tuple[Span, float]]] = {}
    for record in records:
        run, span = record.dagster_run, windows_of(record.dagster_run)
        if span and run.run_id in people:
            ended = record.end_time or record.update_timestamp.timestamp()
            for key in mine.among(instance, run):
                found.setdefault(key.to_user_string(), []).append((span, ended))
    return found
