"""Runs that take long: after an interruption they go on where they were, and Dagster does not end them at work.

A retry by Dagster and "Re-execute" in the UI are runs with a parent. What the parent has finished, and its own parents
before it, is not walked again. A range that takes longer than a few minutes tells Dagster what it has finished as it
goes, so that this holds for a run that was killed as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.run_history import took_back

REPORT_SECONDS = 600.0
"""Seconds between two reports of finished windows."""
MOST_PARENTS = 100
RECORDS = 1000
"""Events that one query reads."""
FINISHED_BY = "finished_by_run"
"""The metadata that names the run which read a window, where that is not the run that reports it."""
OF_THE_WINDOW = (
    *("records", "bytes", "raw_bytes", "object_count", "lag_seconds", "first_record", "last_record", "ledger"),
    *("objects", "dagster/partition_row_count", FINISHED_BY),
)
"""The metadata that say what a window holds; the others say what a run did for it."""
SPENT = 0.1
"""The share of its allowed time after which a run puts off its end: ordinary runs are shorter and get no tag."""
MOVES_ON = "zendesk_pipeline/time_limit"
"""The tag of a run that has raised its own `dagster/max_runtime`."""


def finished_before(
    instance: dg.DagsterInstance, run: dg.DagsterRun, asset: dg.AssetKey, span: Span
) -> dict[Window, Mapping[str, Any]]:
    """The windows of a span that were finished by the runs which this one continues, with their metadata.

    What one of them has taken back it has not finished.
    """
    windows = {window.partition_key: window for window in span}
    found: dict[Window, Mapping[str, Any]] = {}
    for parent in _continued(instance, run):
        if took_back(parent):
            continue
        for event in _materializations(instance, parent.run_id):
            if event.asset_key == asset and (window := windows.get(event.partition or "")):
                kept = {name: value for name, value in event.metadata.items() if name in OF_THE_WINDOW}
                found[window] = {FINISHED_BY: dg.MetadataValue.dagster_run(parent.run_id), **kept}
    return found


def begun_by(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """The id of the first of the runs that this one continues; its own if it continues none."""
    *_, first = [run, *_continued(instance, run)]
    return first.run_id


def _continued(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[dg.DagsterRun]:
    """The parent, its parent and so on, as far as they did not succeed: a success is run again on purpose.

    So is one that was asked for something else.
    """
    for _ in range(MOST_PARENTS):
        parent = instance.get_run_by_id(run.get_parent_run_id() or "")
        if parent is None or parent.is_success or parent.run_config != run.run_config:
            return
        yield parent
        run = parent


def _materializations(instance: dg.DagsterInstance, run_id: str) -> Iterator[dg.AssetMaterialization]:
    cursor, more = None, True
    while more:
        found = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION, limit=RECORDS
        )
        for record in found.records:
            if event := record.asset_materialization:
                yield event
        cursor, more = found.cursor, found.has_more


@dataclass(slots=True, kw_only=True)
class Reports:
    """When a run has to report what it has finished, and what it has reported."""

    clock: Clock
    reported: set[Window] = field(default_factory=set[Window])
    _latest: float = field(init=False)

    def __post_init__(self) -> None:
        self._latest = self.clock.monotonic()

    @property
    def due(self) -> bool:
        """Whether the latest report is long ago; asking begins the next one."""
        now = self.clock.monotonic()
        if now - self._latest < REPORT_SECONDS:
            return False
        self._latest = now
        return True

    def takes_back(self) -> bool:
        """Forget what was reported; whether anything was."""
        any_reported = bool(self.reported)
        self.reported.clear()
        return any_reported

    def new(self, finished: Sequence[Window]) -> list[Window]:
        """Those that were not reported yet."""
        new = [window for window in finished if window not in self.reported]
        self.reported.update(new)
        return new


def put_off_end(instance: dg.DagsterInstance, run_id: str, now: float) -> None:
    """Move on the time at which Dagster ends the run: `max_runtime_seconds` from now.

    Done when a run begins and while it makes progress: what a run may take depends on its range, and a run that hangs
    is to be ended all the same. A `dagster/max_runtime` that a person chose stays.
    https://docs.dagster.io/deployment/execution/run-monitoring
    """
    limit = instance.run_monitoring_max_runtime_seconds if instance.run_monitoring_enabled else 0
    record = instance.get_run_record_by_id(run_id)
    if not limit or record is None or record.start_time is None:
        return
    tags, so_far = record.dagster_run.tags, now - record.start_time
    if MOVES_ON not in tags and not tags.keys().isdisjoint((dg.MAX_RUNTIME_SECONDS_TAG, "dagster/max_runtime_seconds")):
        return
    left = float(tags.get(dg.MAX_RUNTIME_SECONDS_TAG, limit)) - so_far
    if not limit * (1 - SPENT) <= left <= limit:  # more is what a parent's tag says
        moved = {dg.MAX_RUNTIME_SECONDS_TAG: f"{so_far + limit:.0f}", MOVES_ON: "moves on with the run"}
        instance.add_run_tags(run_id, moved)
