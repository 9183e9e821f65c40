"""Which runs of an instance are ours: real runs, ours and other people's, in one instance."""

from collections.abc import Iterator

import dagster as dg
import pytest

from zendesk_pipeline.alerts.snapshot import failed_runs, spans_under_way
from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.windows import Span
from zendesk_pipeline.orchestration.catch_up_sensor import recent_attempts
from zendesk_pipeline.orchestration.run_history import Ours, ours, windows_of
from zendesk_pipeline.settings import environment
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.promise import other_people
from zendesk_pipeline_tests.runs import QUIET, RANGE_END, RANGE_START, job_of

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]
AUDIT_LOGS, TICKETS = dg.AssetKey("audit_logs"), dg.AssetKey("incremental_tickets")
BOTH, NONE = {AUDIT_LOGS, TICKETS}, set[dg.AssetKey]()
HERE, ELSEWHERE = "zendesk_pipeline", "their_location"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance without runs."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def mine() -> Ours:
    """What is ours by the definitions as Dagster loads them."""
    return ours([AUDIT_LOGS, TICKETS], build(environment.load()).get_repository_def(), HERE)


def _seen(instance: dg.DagsterInstance, mine: Ours) -> set[dg.AssetKey]:
    """The assets of ours that any look takes a run for; all looks agree."""
    attempts = set(recent_attempts(instance, mine, since=0))
    names = {name for run in failed_runs(instance, mine, since=0) for name in run.assets}
    names |= set(spans_under_way(instance, mine, created_after=0))
    assert names == {key.to_user_string() for key in attempts}
    return attempts


def _failed(instance: dg.DagsterInstance, location: str | None, job: str = "hourly_collection") -> None:
    """A failed run of an hour that names no assets, from a code location, which need not be there any more."""
    run = dg.DagsterRun(
        job_name=job,
        tags={"dagster/partition": FIRST.partition_key},
        remote_job_origin=job_of(location, job) if location else None,
    )
    instance.add_run(run)
    instance.report_run_failed(run)


def test_runs_of_other_peoples_assets_are_not_ours(instance: dg.DagsterInstance, mine: Ours) -> None:
    """By day, by name, by both, dynamic, by the hour and without partitions: neither a failure nor an attempt."""
    other_people.run_assets(instance)

    assert instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])) == len(other_people.ASSETS)
    assert _seen(instance, mine) == set()


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.QUEUED], ids=str)
def test_an_hourly_job_of_theirs_is_not_at_work_on_our_windows(
    instance: dg.DagsterInstance, mine: Ours, status: dg.DagsterRunStatus
) -> None:
    """Although it is called as ours: it would hush that a window is missing."""
    run = dg.DagsterRun(
        job_name="hourly_collection",
        status=status,
        tags={"dagster/partition": FIRST.partition_key},
        remote_job_origin=job_of(ELSEWHERE),
    )
    instance.add_run(run)

    assert _seen(instance, mine) == set()


@pytest.mark.parametrize(
    ("location", "job", "found"),
    [
        pytest.param(HERE, "hourly_collection", BOTH, id="our job"),
        pytest.param(HERE, "feed_inspection", NONE, id="a job of ours without a stream"),
        pytest.param(HERE, "their_op_job", NONE, id="a job that we do not have"),
        pytest.param(ELSEWHERE, "hourly_collection", NONE, id="a job of our name elsewhere, which may be deleted"),
        pytest.param(None, "hourly_collection", NONE, id="a job of our name from a command line, without assets"),
    ],
)
def test_a_run_that_names_no_assets_is_judged_by_where_it_is_from(
    instance: dg.DagsterInstance, mine: Ours, location: str | None, job: str, found: set[dg.AssetKey]
) -> None:
    """Location and job, and from a command line what it had planned."""
    _failed(instance, location, job)

    assert _seen(instance, mine) == found


def test_our_job_from_a_command_line_is_ours(
    instance: dg.DagsterInstance, mine: Ours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names neither assets nor a location: what it planned to materialize says whose it is."""
    monkeypatch.setenv("HTTP_RETRIES", "0")
    job = build(environment.load()).resolve_job_def("hourly_collection")
    job.execute_in_process(instance=instance, partition_key=FIRST.partition_key, raise_on_error=False)

    assert _seen(instance, mine) == {AUDIT_LOGS, TICKETS}


def test_a_run_of_several_peoples_assets_counts_for_ours(instance: dg.DagsterInstance, mine: Ours) -> None:
    """One launch of everything that is selected in the UI."""
    run = dg.DagsterRun(
        job_name="__ASSET_JOB",
        tags={"dagster/partition": FIRST.partition_key},
        asset_selection=frozenset({AUDIT_LOGS, dg.AssetKey("theirs")}),
    )
    instance.add_run(run)
    instance.report_run_failed(run)

    assert _seen(instance, mine) == {AUDIT_LOGS}


def test_many_failures_of_others_do_not_push_ours_out_of_sight(instance: dg.DagsterInstance, mine: Ours) -> None:
    """A job of theirs that fails each minute fills a page of what Dagster tells."""
    _failed(instance, HERE)
    for _ in range(250):
        _failed(instance, ELSEWHERE)

    (found,) = failed_runs(instance, mine, since=0)
    assert found.span == hours(1)


@pytest.mark.parametrize(
    ("tags", "windows"),
    [
        ({"dagster/partition": "2026-11-12-05:00"}, hours(1)),
        ({RANGE_START: "2026-11-12-05:00", RANGE_END: "2026-11-12-07:00"}, hours(3)),
        ({RANGE_START: "2026-11-12-07:00", RANGE_END: "2026-11-12-05:00"}, None),
        ({RANGE_START: "2026-11-12-05:00", RANGE_END: "2026-11-12-07:30"}, None),
        ({RANGE_START: "2026-11-12-05:00"}, None),
        ({"dagster/partition": "2026-11-12-05:30"}, None),
        ({"dagster/partition": "2026-11-12"}, None),
        ({"dagster/partition": "2026-11-12|eu"}, None),
        ({"dagster/partition": "eu"}, None),
        ({"dagster/partition": ""}, None),
        ({}, None),
    ],
)
def test_tags_that_name_no_hours_name_no_windows(tags: dict[str, str], windows: Span | None) -> None:
    """And raise nothing."""
    assert windows_of(dg.DagsterRun(job_name="any", tags=tags)) == windows
