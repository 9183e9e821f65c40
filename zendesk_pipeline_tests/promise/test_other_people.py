"""A real daemon over one instance: our code location, somebody else's, and runs of one that is gone."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus

from zendesk_pipeline.local.pipeline import settled_until, stop
from zendesk_pipeline.local.services import simulated_zendesk
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.promise import other_people
from zendesk_pipeline_tests.promise.kept_runs import ROOT
from zendesk_pipeline_tests.runs import QUIET, job_of, materializations

pytestmark = QUIET
WORKSPACE = f"""
load_from:
  - python_module: {{module_name: zendesk_pipeline.definitions, location_name: zendesk_pipeline}}
  - python_module: {{module_name: {other_people.__name__}, location_name: theirs}}
"""
LONGEST = 300
"""Seconds for two locations to load and for two runs, on a machine with other work."""


def test_a_daemon_with_other_peoples_runs_collects_ours_and_tells_nothing_of_theirs(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Failed runs of each kind, an hourly job of theirs called as ours, and one of a location that was deleted."""
    span = Span(settled_until() - 2 * HOUR, settled_until() - HOUR)
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    (tmp_path / "workspace.yaml").write_text(WORKSPACE)
    with (
        dg.DagsterInstance.from_config(str(tmp_path)) as instance,
        simulated_zendesk(tmp_path, "--since", timestamp(span.start - 6 * HOUR)) as zendesk,
        answering(Reply(b"ok")) as web,
    ):
        other_people.run_assets(instance)
        _of_a_deleted_location(instance, Window(span.start))
        settings = {
            **environment,
            **zendesk.environment,
            "RESOURCES": "audit_logs",
            "START_DATE": timestamp(span.start),
            "ALERT_URLS": f"json://{web.url.removeprefix('http://')}/",
            "DAGSTER_HOME": str(tmp_path),
        }
        log = (tmp_path / "daemon.log").open("wb")
        daemon = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-w", str(tmp_path / "workspace.yaml")],
            env={**os.environ, **settings, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _until(daemon, lambda: len(materializations(instance, "audit_logs")) >= 1 and _theirs_failed(instance))
            seen = {name: len(_ticks(instance, name)) for name in ("catch_up_sensor", "alert_sensor")}
            _until(daemon, lambda: all(len(_ticks(instance, name)) > count for name, count in seen.items()))
            ticks = [tick for name in seen for tick in _ticks(instance, name)]
        finally:
            stop(daemon)
            log.close()
        asked = instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": "catch_up_sensor"}))
        told = b" ".join(received.body for received in web.received).decode()
    assert [tick.error.message for tick in ticks if tick.error] == []
    assert {tick.status for tick in ticks} <= {TickStatus.SUCCESS, TickStatus.SKIPPED}
    assert {frozenset(run.asset_selection or ()) for run in asked} == {frozenset({dg.AssetKey("audit_logs")})}
    assert "theirs" not in told
    assert "audit_logs" not in told


def _of_a_deleted_location(instance: dg.DagsterInstance, window: Window) -> None:
    run = dg.DagsterRun(
        job_name="hourly_collection",
        tags={"dagster/partition": window.partition_key},
        remote_job_origin=job_of("gone"),
    )
    instance.add_run(run)
    instance.report_run_failed(run)


def _theirs_failed(instance: dg.DagsterInstance) -> bool:
    wanted = dg.RunsFilter(tags={"dagster/sensor_name": "theirs_sensor"}, statuses=[dg.DagsterRunStatus.FAILURE])
    return instance.get_runs_count(wanted) == 1


def _ticks(instance: dg.DagsterInstance, sensor: str) -> list[InstigatorTick]:
    done = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
    states = [state for state in instance.all_instigator_state() if state.name == sensor]
    return [
        tick
        for state in states
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, statuses=done)
    ]


def _until(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    """Wait for something that the daemon does."""
    end = time.monotonic() + LONGEST
    while process.poll() is None and not happened() and time.monotonic() < end:
        time.sleep(0.5)
    assert process.poll() is None
    assert happened()
