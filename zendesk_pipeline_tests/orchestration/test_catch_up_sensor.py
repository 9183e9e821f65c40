"""The catch-up sensor on a Dagster instance with real runs."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.streams import ACCESS_LOGS, AUDIT_LOGS
from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up import FIRST_PAUSE, GRACE, SUSPICIOUS
from zendesk_pipeline.orchestration.catch_up_sensor import catch_up_sensor, delivered_windows, remembered
from zendesk_pipeline.orchestration.run_history import LOST, STAYS
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.promise import other_people
from zendesk_pipeline_tests.runs import QUIET, RANGE_END, RANGE_START, Project, damage, description, project
from zendesk_pipeline_tests.taken_back import fails_after_it_took_back

pytestmark = QUIET

START = datetime(2026, 11, 12, 4, tzinfo=UTC)
FIRST = Window(int(START.timestamp()))
SPAN = Span(FIRST.start, FIRST.start + 4 * HOUR)
HOURS_ARE_NAMED = "A window is an hour, named by its beginning: ask for "
Look = Callable[[Project], dg.SensorResult]


@pytest.fixture
def collector(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over the simulated Zendesk and SeaweedFS; a failing request is not tried again."""
    with project({**environment, "HTTP_RETRIES": "0"}, monkeypatch) as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    """Just when the last window of SPAN is no longer the schedule's alone."""
    return FakeClock(SPAN.end + GRACE)


@pytest.fixture
def look(clock: FakeClock) -> Look:
    """One tick of the sensor over the audit logs; it reaches from START to today, since runs fail by today's clock."""
    base = Settings(resources=(AUDIT_LOGS.name,), start_date=START)
    chosen = base.model_copy(update={"catch_up_hours": 24 * 366 * 50})
    sensor = catch_up_sensor([Account(settings=chosen)], clock.clock)

    def tick(collector: Project) -> dg.SensorResult:
        result = sensor(dg.build_sensor_context(instance=collector.instance))
        assert isinstance(result, dg.SensorResult)
        return result

    return tick


def _asked(result: dg.SensorResult) -> list[tuple[str, str]]:
    """First and last partition of each requested run."""
    requests = result.run_requests or []
    return [
        (
            request.tags.get(RANGE_START, str(request.partition_key)),
            request.tags.get(RANGE_END, str(request.partition_key)),
        )
        for request in requests
    ]


def test_what_dagster_remembers_it_by_is_pinned() -> None:
    """Name and that it is on from the first start."""
    (pinned,) = _sensors()
    assert pinned.name == "catch_up_sensor"
    assert pinned.default_status == dg.DefaultSensorStatus.RUNNING


def test_hours_that_the_schedule_missed_are_asked_for_as_one_range(collector: Project, look: Look) -> None:
    """After a daemon that was down: one run over all of them, and nothing more once it is through."""
    assert _asked(look(collector)) == [("2026-11-12-04:00", "2026-11-12-07:00")]

    assert collector.run("audit_logs", SPAN).success
    after = look(collector)
    assert _asked(after) == []
    assert "Every window that is due is delivered or under way." in str(after.skip_reason)


def test_a_window_that_failed_while_it_is_left_to_the_schedule_is_not_called_delivered(
    collector: Project, look: Look, clock: FakeClock, zendesk: SimulatedZendesk
) -> None:
    """The schedule's run fails minutes after its end: the tick says so, and from when on it is tried again."""
    newest = Window(SPAN.end)
    assert collector.run("audit_logs", SPAN).success
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500, times=0))
    assert not collector.run("audit_logs", Span(newest.start, newest.end)).success

    clock.time = newest.end + 6 * 60
    waiting = look(collector)
    assert _asked(waiting) == []
    assert f"audit_logs {newest}: 1 run(s) broke off there, it is tried again from" in str(waiting.skip_reason)
    assert "delivered" not in str(waiting.skip_reason)


def test_a_failed_range_is_tried_again_from_where_it_broke_off_and_is_named(
    collector: Project, look: Look, clock: FakeClock, zendesk: SimulatedZendesk
) -> None:
    """What was finished stays, the tick names the window, and after a pause the rest is asked for."""
    assert collector.run("audit_logs", Span(FIRST.start, FIRST.end)).success
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500, times=0))
    assert not collector.run("audit_logs", Span(FIRST.end, SPAN.end)).success

    clock.time = _failed_at(collector) + FIRST_PAUSE - 1
    waiting = look(collector)
    clock.time += 1
    assert _asked(waiting) == []
    assert "audit_logs 2026-11-12 05:00: 1 run(s) broke off there, it is tried again from" in str(waiting.skip_reason)
    assert _asked(look(collector))[0][0] == "2026-11-12-05:00"

    newest = Window.of(int(clock.time)).partition_key
    _under_way(collector, dg.DagsterRunStatus.STARTED, "2026-11-12-05:00", newest)
    retried = str(look(collector).skip_reason)
    assert "audit_logs 2026-11-12 05:00: 1 run(s) broke off there, it is under way again" in retried


@pytest.mark.parametrize(("retried", "asked"), [("false", [FIRST.partition_key]), ("true", [])])
def test_what_a_crash_has_ended_is_asked_for_at_once(
    collector: Project, look: Look, clock: FakeClock, retried: str, asked: list[str]
) -> None:
    """A run without a process says nothing against its windows: no pause, unless Dagster starts it again itself.

    A retry takes over the tags of its parent, and is none of these.
    """
    clock.time = time.time() + 1  # as the run that has ended
    tags = {RANGE_START: FIRST.partition_key, RANGE_END: FIRST.partition_key}
    run = dg.DagsterRun(job_name="__ASSET_JOB", tags=tags, asset_selection=frozenset({dg.AssetKey("audit_logs")}))
    collector.instance.add_run(run)
    collector.instance.add_run_tags(run.run_id, {LOST: run.run_id, "dagster/will_retry": retried})
    collector.instance.report_run_failed(run)
    assert [first for first, _ in _asked(look(collector)) if first == FIRST.partition_key] == asked


def test_the_run_behind_a_poisoned_window_does_not_look_back_into_it(
    collector: Project, look: Look, clock: FakeClock, zendesk: SimulatedZendesk
) -> None:
    """Its neighbour is delivered although no page that holds records of the poisoned window can be read."""
    poisoned, behind = Span(FIRST.start, FIRST.end), Span(FIRST.end, FIRST.end + HOUR)
    # a run asks for a second more than its range, on both sides
    zendesk.control.set(unreadable={"audit_logs": (poisoned.start, poisoned.end - 1)})
    for _ in range(SUSPICIOUS):
        assert not collector.run("audit_logs", poisoned).success
    assert not collector.run("audit_logs", behind).success

    clock.time = _failed_at(collector) + FIRST_PAUSE
    (request,) = look(collector).run_requests or []
    config = request.run_config["ops"]["audit_logs"]["config"]

    assert request.tags[RANGE_START] == "2026-11-12-05:00"
    assert config == {"look_back_at_most": 0}
    assert collector.run("audit_logs", behind, **config).success


def test_the_end_of_an_outage_is_noticed(
    collector: Project, look: Look, clock: FakeClock, zendesk: SimulatedZendesk
) -> None:
    """Two windows have failed often and would pause; another one comes through, and they are asked for at once."""
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=503, times=0))
    older = Span(FIRST.start, FIRST.end)
    for _ in range(SUSPICIOUS):
        assert not collector.run("audit_logs", older).success
    clock.time = _failed_at(collector) + 1
    assert ("2026-11-12-04:00", "2026-11-12-04:00") not in _asked(look(collector))

    zendesk.control.clear_faults()
    assert collector.run("audit_logs", Span(FIRST.start + 2 * HOUR, FIRST.start + 3 * HOUR)).success
    assert ("2026-11-12-04:00", "2026-11-12-04:00") in _asked(look(collector))


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED], ids=str)
def test_windows_of_a_run_under_way_are_left_to_it(collector: Project, look: Look, status: dg.DagsterRunStatus) -> None:
    """No second run for what is about to start or running."""
    _under_way(collector, status, "2026-11-12-05:00", "2026-11-12-06:00")

    assert _asked(look(collector)) == [("2026-11-12-04:00",) * 2, ("2026-11-12-07:00",) * 2]


def test_runs_of_another_stream_do_not_count(collector: Project, look: Look) -> None:
    """Each stream is looked after for itself."""
    assert collector.run("incremental_tickets", SPAN).success

    assert _asked(look(collector)) == [("2026-11-12-04:00", "2026-11-12-07:00")]


def test_other_peoples_runs_neither_end_a_look_nor_change_it(collector: Project, look: Look) -> None:
    """Failed runs of every kind of partition in the same instance."""
    other_people.run_assets(collector.instance)

    assert _asked(look(collector)) == [("2026-11-12-04:00", "2026-11-12-07:00")]


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("05:30", "05:30", "2026-11-12-05:30 is not on the hour. {}2026-11-12-05:00."),
        (
            "05:30",
            "07:45",
            "2026-11-12-05:30...2026-11-12-07:45 is not on the hour. {}2026-11-12-05:00...2026-11-12-07:00.",
        ),
        ("05:00", "05:59", "2026-11-12-05:00...2026-11-12-05:59 is not on the hour. {}2026-11-12-05:00."),
        ("07:00", "05:00", "2026-11-12-07:00...2026-11-12-05:00 ends before it begins."),
    ],
    ids=["one", "range", "end of a range", "backwards"],
)
def test_a_time_between_two_hours_is_refused_before_zendesk_is_asked(
    collector: Project, look: Look, zendesk: SimulatedZendesk, first: str, last: str, said: str
) -> None:
    """Dagster would take it for the next hour. The failed run is no reason for a look to fail or to wait."""
    run = collector.run_keys("audit_logs", f"2026-11-12-{first}", f"2026-11-12-{last}")

    assert not run.success
    assert description(run) == f"{said.format(HOURS_ARE_NAMED)} Nothing was read or delivered."
    assert zendesk.control.requests() == []
    assert collector.materialized("audit_logs") == []
    assert _asked(look(collector)) == [("2026-11-12-04:00", "2026-11-12-07:00")]


def test_half_hours_that_an_older_release_has_delivered_are_no_windows(collector: Project, look: Look) -> None:
    """They stay in the instance for good, and deliver no hour."""
    for key in ("2026-11-12-04:30", "2026-11-12-05:00", "nonsense"):
        collector.instance.report_runless_asset_event(dg.AssetMaterialization("audit_logs", partition=key))

    assert _asked(look(collector)) == [("2026-11-12-04:00",) * 2, ("2026-11-12-06:00", "2026-11-12-07:00")]
    assert delivered_windows(collector.instance, dg.AssetKey("audit_logs")) == {Window(FIRST.end)}


def test_a_stream_that_cannot_be_looked_at_does_not_stop_the_others(tmp_path: Path) -> None:
    """Of one a row in the database is damaged: the tick says so, and asks for the windows of the other."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    chosen = Settings(resources=("audit_logs", "incremental_tickets"), start_date=START, catch_up_hours=24)
    sensor = catch_up_sensor([Account(settings=chosen)], FakeClock(SPAN.end + GRACE).clock)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for name in chosen.resources:
            event = dg.AssetMaterialization(name, partition=FIRST.partition_key)
            instance.report_runless_asset_event(event)
        damage(tmp_path, "audit_logs")
        result = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(result, dg.SensorResult)
    assert [request.asset_selection for request in result.run_requests or []] == [[dg.AssetKey("incremental_tickets")]]


def test_that_a_stream_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    """Where there is nothing to ask for, it is why."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    chosen = Settings(resources=("audit_logs",), start_date=START, catch_up_hours=24)
    sensor = catch_up_sensor([Account(settings=chosen)], FakeClock(SPAN.end + GRACE).clock)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("audit_logs", partition=FIRST.partition_key))
        damage(tmp_path, "audit_logs")
        result = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(result, dg.SensorResult)
    assert result.skip_reason
    assert (result.skip_reason.skip_message or "").startswith("audit_logs could not be looked at (")


# What is not tried again at once


def test_a_stream_that_is_refused_is_asked_for_by_one_run_and_then_at_once(
    collector: Project, look: Look, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong credential: the tick says that it stays, and all waits; when one run comes through all is asked for."""
    with monkeypatch.context() as changed:
        changed.setenv("ZENDESK_API_TOKEN", "a-wrong-one")
        for window in list(SPAN)[:2]:
            assert not collector.run("audit_logs", Span(window.start, window.end)).success
    clock.time = _failed_at(collector) + 2 * FIRST_PAUSE - 1
    waiting = look(collector)
    clock.time += 1
    assert _asked(waiting) == []
    assert "audit_logs is refused (2 run(s)), which stays until somebody fixes" in str(waiting.skip_reason)
    assert "says: one run tries it from 20" in str(waiting.skip_reason)
    assert [first for first, _ in _asked(look(collector))] == ["2026-11-12-04:00"]

    trial = _under_way(collector, dg.DagsterRunStatus.STARTED, "2026-11-12-04:00", "2026-11-12-07:00")
    assert "says: a run that is under way tries it, and then" in str(look(collector).skip_reason)
    collector.instance.delete_run(trial.run_id)

    assert collector.run("audit_logs", Span(SPAN.end - HOUR, SPAN.end)).success
    assert _asked(look(collector))[0] == ("2026-11-12-04:00", "2026-11-12-06:00")
    assert [first for first, _ in _asked(look(collector))] == ["2026-11-12-04:00", "2026-11-12-08:00"]


def test_a_refusal_that_is_over_is_not_remembered(
    collector: Project, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows that are missing later, for another reason, are asked for as if it had not been: all ranges at once."""
    first, second, third, fourth = SPAN
    with monkeypatch.context() as changed:
        changed.setenv("ZENDESK_API_TOKEN", "a-wrong-one")
        assert not collector.run("audit_logs", Span(first.start, first.end)).success
    assert collector.run("audit_logs", Span(first.start, first.end)).success
    assert collector.run("audit_logs", Span(third.start, third.end)).success
    assert _asked(look(collector)) == [(second.partition_key,) * 2, (fourth.partition_key,) * 2]

    for window in (second, fourth):
        _under_way(collector, dg.DagsterRunStatus.STARTED, window.partition_key, window.partition_key)
    assert "Every window that is due is delivered or under way." in str(look(collector).skip_reason)


@pytest.mark.parametrize(
    ("changed", "stays"),
    [({"ZENDESK_API_TOKEN": ""}, True), ({"S3_BUCKET": "no-such-bucket"}, True), ({}, False)],
    ids=["a setting", "a bucket", "Zendesk is down"],
)
def test_a_failure_that_stays_is_marked(
    collector: Project,
    zendesk: SimulatedZendesk,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    *,
    stays: bool,
) -> None:
    """On the run, where people see it too; with its own id, because a run that repeats it takes over its tags."""
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    if not stays:
        zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=503, times=0))
    running = Project(definitions=build(settings.load()), instance=collector.instance)
    assert not running.run("audit_logs", SPAN).success
    (run,) = collector.instance.get_runs()
    assert run.tags.get(STAYS) == (run.run_id if stays else None)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        pytest.param("", [("2026-11-12-04:00",) * 2, ("2026-11-12-07:00",) * 2], id="a person"),
        pytest.param(
            "Canceling due to exceeding maximum runtime of 86400 seconds.",
            [("2026-11-12-04:00", "2026-11-12-07:00")],
            id="run monitoring",
        ),
        pytest.param(None, [("2026-11-12-04:00", "2026-11-12-07:00")], id="cleaning up after a crash"),
    ],
)
def test_what_a_person_cancelled_is_left_alone_and_named(
    collector: Project, look: Look, said: str | None, asked: list[tuple[str, str]]
) -> None:
    """Not what Dagster itself ended; the windows around it go on."""
    run = _under_way(collector, dg.DagsterRunStatus.STARTED, "2026-11-12-05:00", "2026-11-12-06:00")
    if said is not None:
        collector.instance.report_run_canceling(run, message=said or None)
    collector.instance.report_run_canceled(run)

    assert _asked(look(collector)) == asked


def test_what_was_cancelled_and_is_launched_again_is_wanted(
    collector: Project, look: Look, clock: FakeClock, zendesk: SimulatedZendesk
) -> None:
    """Where that run fails it is tried again as any other."""
    run = _under_way(collector, dg.DagsterRunStatus.STARTED, "2026-11-12-04:00", "2026-11-12-07:00")
    collector.instance.report_run_canceling(run)
    collector.instance.report_run_canceled(run)
    left_alone = look(collector)
    assert _asked(left_alone) == []
    assert (
        "audit_logs 2026-11-12 04:00 to 2026-11-12 07:00: cancelled by a person and left alone; launch it again"
    ) in str(left_alone.skip_reason)

    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500))
    assert not collector.run("audit_logs", SPAN).success
    clock.time = _failed_at(collector) + FIRST_PAUSE
    assert _asked(look(collector))[0][0] == "2026-11-12-04:00"


# What was delivered and has failed again


def test_a_delivered_window_whose_latest_run_failed_is_asked_for_again(
    collector: Project, look: Look, clock: FakeClock, zendesk: SimulatedZendesk
) -> None:
    """It is red in the UI, and heals as any other."""
    assert collector.run("audit_logs", SPAN).success
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500))
    second = Span(FIRST.end, FIRST.end + HOUR)
    assert not collector.run("audit_logs", second).success

    clock.time = _failed_at(collector) + FIRST_PAUSE - 1
    assert ("2026-11-12-05:00",) * 2 not in _asked(look(collector))
    clock.time += 1
    assert _asked(look(collector))[0] == ("2026-11-12-05:00",) * 2

    assert collector.run("audit_logs", second).success
    assert ("2026-11-12-05:00",) * 2 not in _asked(look(collector))


def test_records_that_were_to_be_sent_again_are_left_to_the_person(
    collector: Project, look: Look, clock: FakeClock, zendesk: SimulatedZendesk
) -> None:
    """A run of the sensor would not send them: it would only turn the window green."""
    assert collector.run("audit_logs", SPAN).success
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500))
    second = Span(FIRST.end, FIRST.end + HOUR)
    assert not collector.run("audit_logs", second, redeliver=True).success

    clock.time = _failed_at(collector) + FIRST_PAUSE
    assert ("2026-11-12-05:00",) * 2 not in _asked(look(collector))


def test_a_window_that_was_reported_and_taken_back_is_asked_for_again(
    collector: Project, look: Look, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is green, as Dagster forgets no materialization; a later run that delivers it counts."""
    fails_after_it_took_back(collector, SPAN, monkeypatch)
    assert FIRST in delivered_windows(collector.instance, dg.AssetKey("audit_logs"))
    clock.time = _failed_at(collector) + FIRST_PAUSE
    assert _asked(look(collector))[0][0] == FIRST.partition_key

    assert collector.run("audit_logs", SPAN).success
    assert _asked(look(collector))[0][0] == Window(SPAN.end).partition_key


# What is too old for the sensor


def test_what_is_too_old_for_the_sensor_is_named_until_it_is_delivered() -> None:
    """From START_DATE on: that every window is delivered is said only where it is so."""
    chosen = Settings(resources=(AUDIT_LOGS.name,), start_date=START, catch_up_hours=2)
    clock = FakeClock(SPAN.end + GRACE)
    sensor = catch_up_sensor([Account(settings=chosen)], clock.clock)
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str | None) -> tuple[str, str | None]:
            result = sensor(dg.build_sensor_context(instance=instance, cursor=cursor))
            assert isinstance(result, dg.SensorResult)
            assert not result.run_requests
            assert result.skip_reason
            return result.skip_reason.skip_message or "", result.cursor

        for window in list(SPAN)[2:]:
            instance.report_runless_asset_event(dg.AssetMaterialization("audit_logs", partition=window.partition_key))
        said, cursor = tick(None)
        assert said == (
            "audit_logs: 2 windows older than 2 h are missing: 2026-11-12 04:00 to 2026-11-12 05:00;"
            " a backfill collects what is wanted"
        )
        clock.time += 60
        instance.report_runless_asset_event(dg.AssetMaterialization("audit_logs", partition=FIRST.partition_key))
        said, cursor = tick(cursor)
        assert said.startswith("audit_logs: 1 window older than 2 h is missing: 2026-11-12 05:00;")
        clock.time += 60
        later = Window(FIRST.end).partition_key
        instance.report_runless_asset_event(dg.AssetMaterialization("audit_logs", partition=later))
        assert tick(cursor)[0] == "Every window that is due is delivered or under way."


def test_catch_up_hours_bound_how_far_it_looks_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """CATCH_UP_HOURS=0 switches it off, another number is what its description says."""
    monkeypatch.setenv("CATCH_UP_HOURS", "5")
    (sensor,) = _sensors()
    assert "last 5 hours" in str(sensor.description)

    monkeypatch.setenv("CATCH_UP_HOURS", "0")
    assert _sensors() == []


def _sensors() -> list[dg.SensorDefinition]:
    return [sensor for sensor in build(settings.load()).sensors or [] if sensor.name == "catch_up_sensor"]


def _failed_at(collector: Project) -> float:
    (record, *_) = collector.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    assert record.end_time is not None
    return record.end_time


def _under_way(collector: Project, status: dg.DagsterRunStatus, first: str, last: str) -> dg.DagsterRun:
    job = collector.definitions.resolve_implicit_global_asset_job_def()
    return collector.instance.create_run_for_job(
        job_def=job,
        status=status,
        tags={RANGE_START: first, RANGE_END: last},
        asset_selection={dg.AssetKey("audit_logs")},
    )


def test_what_zendesk_keeps_no_longer_is_not_counted() -> None:
    """A backfill of it would be refused: of access logs, windows of the last 90 days can be had."""
    chosen = Settings(resources=(ACCESS_LOGS.name,), start_date=START, catch_up_hours=2)
    sensor = catch_up_sensor([Account(settings=chosen)], FakeClock(FIRST.start + 200 * DAY).clock)
    with dg.DagsterInstance.ephemeral() as instance:
        result = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(result, dg.SensorResult)
    (counted,) = remembered(result.cursor).values()
    assert [start for start, _ in counted.spans] == [FIRST.start + 111 * DAY + HOUR]
