"""What is left of old runs: everything about windows, and nothing of what the runs logged."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from zendesk_pipeline.definitions import build
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window
from zendesk_pipeline.orchestration.catch_up_sensor import delivered_windows
from zendesk_pipeline.orchestration.run_logs import JOB, ours
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.promise import kept_runs
from zendesk_pipeline_tests.runs import QUIET, Project, job_of, materializations, metadata

pytestmark = QUIET

FIRST = Window(int(datetime(2026, 11, 12, 4, tzinfo=UTC).timestamp()))
KEY = dg.AssetKey("audit_logs")
LATER = Clock(now=lambda: time.time() + 91 * DAY)


@dg.asset
def theirs() -> int:
    """Somebody else's, in the same instance."""
    return 1


@pytest.fixture
def collector(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, zendesk: SimulatedZendesk
) -> Iterator[Project]:
    """Old runs on an instance in a folder."""
    for name, value in {**environment, "HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(kept_runs.home(tmp_path / "dagster"))) as instance:
        yield collected(instance, zendesk)


def collected(instance: dg.DagsterInstance, zendesk: SimulatedZendesk) -> Project:
    """Two windows delivered and a third that failed; and a run of somebody else's."""
    project = Project(definitions=build(settings.load(), LATER), instance=instance)
    assert project.run("audit_logs", Span(FIRST.start, FIRST.start + 2 * HOUR)).success
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500, times=0))
    assert not project.run("audit_logs", Span(FIRST.start + 2 * HOUR, FIRST.start + 3 * HOUR)).success
    zendesk.control.clear_faults()
    assert dg.materialize([theirs], instance=instance).success
    return project


def prunes(collector: Project) -> dg.ExecuteInProcessResult:
    """One run of the nightly job."""
    return collector.definitions.resolve_job_def(JOB).execute_in_process(instance=collector.instance)


def logs(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    """The files that a run has left."""
    home = Path(instance.root_directory)
    return [*home.glob(f"history/runs/{run_id}.db*"), *home.glob(f"storage/{run_id}/**/*")]


def known(collector: Project) -> dict[str, Any]:
    """What sensors, alerts and UI know of windows and runs, worked out anew."""
    instance = collector.instance
    instance.wipe_asset_cached_status([KEY])
    node = collector.definitions.resolve_asset_graph().get(KEY)
    assert node.partitions_def
    cached = get_and_update_asset_status_cache_value(instance, KEY, node.partitions_def)
    assert cached
    green = cached.deserialize_materialized_partition_subsets(node.partitions_def)
    red = cached.deserialize_failed_partition_subsets(node.partitions_def)
    checks = [check for checks in collector.definitions.asset_checks or () for check in checks.check_keys]
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    return {
        "delivered": delivered_windows(instance, KEY),
        "green": set(green.get_partition_keys()),
        "red": set(red.get_partition_keys()),
        "numbers": [metadata(event) for event in materializations(instance, "audit_logs")],
        "links": [record.run_id for record in instance.fetch_materializations(KEY, limit=10).records],
        "runs": {run.run_id: run.status for run in instance.get_runs() if run.job_name != JOB},
        "checks": {str(key): record.status for key, record in records.items()},
    }


def test_windows_keep_colour_numbers_and_runs(collector: Project) -> None:
    """Green and red windows, their metadata, verdicts of checks and the runs they link to are as before."""
    before = known(collector)
    assert (len(before["green"]), len(before["red"]), len(before["checks"])) == (2, 1, 6)
    assert prunes(collector).success
    assert known(collector) == before


def test_nothing_is_left_of_what_old_runs_logged(collector: Project) -> None:
    """Their files are gone, which were nearly all that the instance held; those of somebody else's run are not."""
    instance = collector.instance
    mine = [run.run_id for run in instance.get_runs() if run.asset_selection == {KEY}]
    (other,) = [run.run_id for run in instance.get_runs() if run.run_id not in mine]
    kept = logs(instance, other)
    assert all(sum(path.stat().st_size for path in logs(instance, run)) > 100_000 for run in mine)
    assert prunes(collector).success
    assert [logs(instance, run) for run in mine] == [[], []]
    assert logs(instance, other) == kept != []


def test_a_run_that_is_under_way_or_young_keeps_its_log(collector: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago it began; and what ended yesterday is still to be read. The setting is what decides."""
    instance = collector.instance
    old, young = [run.run_id for run in instance.get_runs() if run.asset_selection == {KEY}]
    with closing(sqlite3.connect(Path(instance.root_directory, "history", "runs.db"))) as runs:
        runs.execute("update runs set status = 'STARTED' where run_id = ?", [old])
        runs.commit()
    monkeypatch.setenv("KEEP_RUN_LOGS_DAYS", "92")
    assert prunes(Project(definitions=build(settings.load(), LATER), instance=instance)).success
    assert logs(instance, young)
    assert prunes(collector).success
    assert (logs(instance, old) != [], logs(instance, young)) == (True, [])


def test_what_is_collected_afterwards_counts(collector: Project) -> None:
    """No event gets a number that was given before: a cursor of Dagster's would pass it by."""
    instance = collector.instance
    (before, *_) = instance.fetch_materializations(KEY, limit=1).records
    prunes(collector)
    assert collector.run("audit_logs", Span(FIRST.start + 2 * HOUR, FIRST.start + 3 * HOUR)).success
    (after, *_) = instance.fetch_materializations(KEY, limit=1).records
    assert after.storage_id > before.storage_id
    assert len(known(collector)["green"]) == 3
    assert known(collector)["red"] == set()


def test_the_log_of_a_run_that_was_opened_again_is_deleted_again(collector: Project) -> None:
    """Whoever opens an old run's page makes Dagster lay an empty file in its place."""
    run = next(run.run_id for run in collector.instance.get_runs() if run.asset_selection == {KEY})
    prunes(collector)
    with dg.DagsterInstance.from_config(collector.instance.root_directory) as instance:
        assert instance.all_logs(run) == []
    assert logs(collector.instance, run)
    prunes(collector)
    assert logs(collector.instance, run) == []


def test_which_runs_are_ours() -> None:
    """Of our assets alone, of their checks, or one of our jobs in this code location; nothing with theirs in it."""
    feed, foreign = dg.AssetKey("secops_feed"), dg.AssetKey("theirs")
    is_ours = ours({KEY, feed}, "zendesk_pipeline")

    def run(*assets: dg.AssetKey, job: str = "__ASSET_JOB", location: str = "", **more: Any) -> dg.DagsterRun:
        origin = job_of(location, job) if location else None
        selection = frozenset(assets) or None
        return dg.DagsterRun(job_name=job, asset_selection=selection, remote_job_origin=origin, **more)

    inspected = frozenset({dg.AssetCheckKey(feed, "holds_nothing_else")})
    assert is_ours(run(KEY))
    assert is_ours(run(asset_check_selection=inspected))
    assert is_ours(run(job="feed_inspection", location="zendesk_pipeline"))
    assert not is_ours(run(foreign))
    assert not is_ours(run(KEY, foreign))
    assert not is_ours(run(job="feed_inspection", location="theirs"))
    assert not is_ours(run(job="nightly", location="zendesk_pipeline"))


def test_the_setting_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer days than alerts look back are refused; 0 keeps logs for ever: there is no such job."""
    monkeypatch.setenv("KEEP_RUN_LOGS_DAYS", "30")
    with pytest.raises(SettingsError, match="KEEP_RUN_LOGS_DAYS is wrong: alerts read the logs of 30 days"):
        settings.load()
    monkeypatch.setenv("KEEP_RUN_LOGS_DAYS", "0")
    assert not build(settings.load()).get_repository_def().has_job(JOB)
    monkeypatch.setenv("KEEP_RUN_LOGS_DAYS", "31")
    schedule = build(settings.load()).resolve_schedule_def(f"{JOB}_schedule")
    assert (schedule.cron_schedule, schedule.default_status) == ("50 4 * * *", dg.DefaultScheduleStatus.RUNNING)
