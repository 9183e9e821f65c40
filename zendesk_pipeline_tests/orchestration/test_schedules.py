"""The hourly schedule."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.runs import QUIET, Project, project

pytestmark = QUIET
SIX_OCLOCK = datetime(2026, 11, 12, 6, 5, tzinfo=UTC)


def _asked(definitions: dg.Definitions, at: datetime = SIX_OCLOCK) -> tuple[list[dg.RunRequest], str]:
    """The runs that the schedule asks for at a time, or what it says where there are none."""
    schedule = definitions.resolve_schedule_def("hourly_collection_schedule")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=at, repository_def=definitions.get_repository_def()
        )
        tick: Any = schedule.evaluate_tick(context)
    return tick.run_requests or [], tick.skip_message or ""


@pytest.fixture
def collector(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over the simulated Zendesk and SeaweedFS."""
    with project(environment, monkeypatch) as running:
        yield running


def test_what_dagster_remembers_it_by_is_pinned() -> None:
    """Name, cron line, zone, job and that it is on from the first start: all of it can be relied on."""
    schedule = build(settings.load()).resolve_schedule_def("hourly_collection_schedule")
    assert schedule.cron_schedule == "5 * * * *"
    assert schedule.execution_timezone == "UTC"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.job_name == "hourly_collection"


def test_the_hour_that_has_ended_is_collected_by_a_run_for_each_stream() -> None:
    """At five past six each stream gets a run of its own over the hour from five to six."""
    requests, _ = _asked(build(settings.load()))
    asked = [
        (request.partition_key, *(key.to_user_string() for key in request.asset_selection or []))
        for request in requests
    ]
    assert asked == [("2026-11-12-05:00", "audit_logs"), ("2026-11-12-05:00", "incremental_tickets")]


def test_a_tick_that_comes_twice_collects_once() -> None:
    """The same hour and stream have the same run key, and all others another one."""
    definitions = build(settings.load())
    keys = [request.run_key for hour in (6, 6, 7) for request in _asked(definitions, SIX_OCLOCK.replace(hour=hour))[0]]
    assert keys[:2] == keys[2:4]
    assert len(set(keys)) == 4


def test_streams_that_are_left_out_are_not_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    """RESOURCES decides what the schedule asks for."""
    monkeypatch.setenv("RESOURCES", "incremental_tickets")
    requests, _ = _asked(build(settings.load()))
    assert [request.asset_selection for request in requests] == [[dg.AssetKey("incremental_tickets")]]


@pytest.mark.parametrize(
    ("start", "asked"),
    [
        pytest.param("2026-11-12T04:00Z", 2, id="begun"),
        pytest.param("2026-11-12T05:00Z", 2, id="first-window"),
        pytest.param("2026-11-12T06:00Z", 0, id="ahead"),
        pytest.param("2026-11-12T07:00+02:00", 2, id="another-zone"),
    ],
)
def test_nothing_is_collected_before_the_first_window(start: str, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until START_DATE's first hour is over a tick skips and says why."""
    monkeypatch.setenv("START_DATE", start)
    requests, said = _asked(build(settings.load()))
    assert len(requests) == asked
    assert ("START_DATE" in said) == (not asked)


def test_what_the_schedule_asks_for_can_be_run(collector: Project) -> None:
    """Each run that a tick asks for materializes its own stream and its own window, and nothing else."""
    job = collector.definitions.resolve_job_def("hourly_collection")
    for request in _asked(collector.definitions)[0]:
        result = job.execute_in_process(
            partition_key=request.partition_key,
            asset_selection=list(request.asset_selection or []),
            instance=collector.instance,
        )
        events = [event.asset_key for event in result.get_asset_materialization_events()]
        assert events == request.asset_selection
    for stream in ("audit_logs", "incremental_tickets"):
        assert [event.partition for event in collector.materialized(stream)] == ["2026-11-12-05:00"]
