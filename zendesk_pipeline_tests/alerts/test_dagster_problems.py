"""What is wrong around the collection: checks, freshness, credentials, schedules, sensors and daemons."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster._grpc.impl import get_external_sensor_execution
from dagster_shared.error import SerializableErrorInfo

from zendesk_pipeline.alerts.dagster_problems import (
    FAILED_TICKS,
    LATE,
    REMEDIES,
    automation,
    credential,
    daemons,
    failed_checks,
    not_fresh,
    pruning,
)
from zendesk_pipeline.alerts.problem import MINUTE, Problem
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.inspection import NO_LEDGER
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.model.windows import DAY, HOUR
from zendesk_pipeline.orchestration.comparison import LEDGER_LOST, NONE_FINISHED, NOT_COMPARED, UNSEEN
from zendesk_pipeline.settings.environment import AuthMode, Settings
from zendesk_pipeline_tests.runs import job_of
from zendesk_pipeline_tests.watched import LOCATION, REPOSITORY

NOW = datetime(2026, 11, 14, 12, 20, tzinfo=UTC).timestamp()
AUDIT_LOGS = dg.AssetKey("audit_logs")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance on which nothing has happened."""
    with dg.DagsterInstance.ephemeral() as started:
        yield started


@pytest.fixture(scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("home"))) as started:
        yield started


@pytest.fixture
def home(_home: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance in a folder, which knows no schedule or sensor."""
    assert _home.schedule_storage
    _home.schedule_storage.wipe()
    return _home


# Asset checks


def _failed_checks(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> Iterator[Problem]:
    return failed_checks(Snapshot(instance=instance, now=NOW, automation=Automation(checks=[key])))


class Truth:
    """An asset with a check that says what it is told to say."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.result = dg.AssetCheckResult(passed=True)
        self.instance = instance

        @dg.asset(name="audit_logs")
        def asset() -> None:
            """Nothing."""

        @dg.asset_check(asset=asset)
        def complete() -> dg.AssetCheckResult:
            return self.result

        self.definitions = dg.Definitions(assets=[asset], asset_checks=[complete])
        self.key = dg.AssetCheckKey(AUDIT_LOGS, "complete")
        self.job = self.definitions.resolve_implicit_global_asset_job_def()

    def evaluate(self, result: dg.AssetCheckResult) -> None:
        """A run with the check."""
        self.result = result
        self.job.execute_in_process(instance=self.instance)

    def plan(self) -> dg.DagsterRun:
        """A run that is to evaluate the check, and has not."""
        return self.instance.create_run_for_job(self.job)

    def problems(self) -> list[Problem]:
        return list(_failed_checks(self.instance, self.key))


def test_a_check_is_a_problem_while_its_latest_evaluation_failed(instance: dg.DagsterInstance) -> None:
    """Dagster itself says nothing of a check that does not block; one that has passed again is solved."""
    truth = Truth(instance)
    assert truth.problems() == []
    truth.evaluate(dg.AssetCheckResult(passed=False, description="2 windows have no ledger.\nMore of it."))
    (problem,) = truth.problems()
    assert (problem.title, problem.severity) == ("audit_logs: the check complete failed", "error")
    assert problem.text == "2 windows have no ledger.\nIts page says more."
    assert problem.over == "audit_logs: the check complete passes again"
    assert problem.link_path == "/assets/audit_logs?view=checks&checkDetail=complete"
    truth.evaluate(dg.AssetCheckResult(passed=True))
    assert truth.problems() == []


def test_a_check_may_only_warn(instance: dg.DagsterInstance) -> None:
    """Its severity is the problem's."""
    truth = Truth(instance)
    truth.evaluate(dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN))
    (problem,) = truth.problems()
    assert problem.severity == "warning"


def test_while_a_check_is_under_way_the_evaluation_before_counts(instance: dg.DagsterInstance) -> None:
    """A check that is being repeated is not solved by that."""
    truth = Truth(instance)
    truth.plan()
    assert truth.problems() == []
    truth.evaluate(dg.AssetCheckResult(passed=False))
    truth.plan()
    assert [problem.cause for problem in truth.problems()] == ["check audit_logs complete"]


def test_a_check_that_could_not_be_carried_out_is_a_problem(instance: dg.DagsterInstance) -> None:
    """Its run, which was for checks alone, failed: nobody knows what it would have said."""
    truth = Truth(instance)
    truth.evaluate(dg.AssetCheckResult(passed=True))
    instance.report_run_failed(truth.plan())
    (problem,) = truth.problems()
    assert problem.text == "The run that was to evaluate it failed; its log says why."


KEY = "s3://acme-logs/zendesk/crm/audit_logs/year=2026/month=11/day=12/hour=05/part-0001-of-0003-8c1f0d.ndjson"


def test_findings_are_counted_and_no_key_is_cut(instance: dg.DagsterInstance) -> None:
    """Growth is told, so their number is the problem's size; the verdict itself shows ten of them."""
    truth = Truth(instance)
    found = "; ".join(f"2026-11-12 05:00: {KEY}{number} is in no ledger" for number in range(10))
    verdict = dg.AssetCheckResult(passed=False, description=f"{found}; and 22 more", metadata={"findings": 32})
    truth.evaluate(verdict)
    (problem,) = truth.problems()
    assert problem.size == 32
    first, what_next = problem.text.splitlines()
    assert first.startswith(f"32 findings: 2026-11-12 05:00: {KEY}0 is in no ledger; ")
    assert first.endswith(" …")
    assert len(first) < 450
    assert first.count("s3://") == sum(f"{KEY}{number}" in first for number in range(10))
    assert what_next == "Its page says more."


@pytest.mark.parametrize(
    ("check", "description", "what_next"),
    [
        ("objects_match_ledgers", "2026-11-12 05:00: x is in no ledger", "find out who may, and send the window again"),
        ("lines_are_readable", "2026-11-12 05:00: x has a line", "find out who may, and send the window again"),
        ("volume_is_usual", "2026-11-12 05:00: 0 records", "Look at Zendesk"),
        ("holds_nothing_else", "x is not ours", "move them elsewhere"),
        ("audit_logs_match_source", "2026-11-12 05:00: 2 records were missing", "is in its window now"),
        ("lines_are_readable", "it could not be looked at: S3 says no.", "Nothing is known of the data"),
        ("audit_logs_match_source", "2026-11-12 05:00: 3 " + NOT_COMPARED, "\nRaise COMPARISON_PAGES, or compare"),
        ("audit_logs_match_source", "2026-11-12 05:00: 2 " + NONE_FINISHED, "\nRaise COMPARISON_PAGES, or compare"),
        ("objects_match_ledgers", f"2026-11-12 05:00: {NO_LEDGER}; and 7 more", "\nCollect these windows again"),
    ],
)
def test_a_failed_check_says_what_to_do(
    instance: dg.DagsterInstance, check: str, description: str, what_next: str
) -> None:
    """By what it looks at, or that it could not look."""
    _evaluate(instance, check, description)
    (problem,) = _failed_checks(instance, dg.AssetCheckKey(AUDIT_LOGS, check))
    assert problem.text.startswith(description)
    assert what_next in problem.text


def test_a_check_with_several_findings_says_what_to_do_about_each(instance: dg.DagsterInstance) -> None:
    """Once for each kind, also where the text of the findings is cut before one of them."""
    late = f"2026-10-14 03:00: 31 {NOT_COMPARED}: a larger COMPARISON_PAGES reads more a day; x: 2 {NONE_FINISHED}"
    missing = "; ".join(f"2026-11-12 {hour:02}:00: 2 records were missing, and are delivered now" for hour in range(9))
    check = "audit_logs_match_source"
    for found, steps in (
        (f"{missing}; {late}", REMEDIES["_match_source"]),
        (f"{UNSEEN}: x; {late}", "Nothing is known"),
        (f"2026-11-12 05:00: 9 {LEDGER_LOST}; {late}", "If S3_BUCKET or STATE_PREFIX was changed"),
    ):
        _evaluate(instance, check, found)
        (problem,) = _failed_checks(instance, dg.AssetCheckKey(AUDIT_LOGS, check))
        what_next = problem.text.splitlines()[1]
        assert what_next.startswith(steps)
        assert what_next.count("Raise COMPARISON_PAGES") == 1


def test_every_check_of_ours_says_what_to_do() -> None:
    """None is left to its page, whatever is collected."""
    checks = build(Settings(resources=tuple(STREAMS))).resolve_asset_graph().asset_check_keys
    assert checks
    assert [key for key in checks if not key.name.endswith(tuple(REMEDIES))] == []


def _evaluate(instance: dg.DagsterInstance, check: str, description: str) -> None:
    """A run with an asset and a check that fails."""

    @dg.asset(name="audit_logs")
    def asset() -> None:
        """Nothing."""

    @dg.asset_check(asset=asset, name=check)
    def verdict() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description=description)

    definitions = dg.Definitions(assets=[asset], asset_checks=[verdict])
    definitions.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance)


# Freshness


@pytest.mark.parametrize(
    ("state", "severities"),
    [(FreshnessState.PASS, []), (FreshnessState.WARN, ["warning"]), (FreshnessState.FAIL, ["error"])],
)
def test_freshness_policies_are_heard(
    instance: dg.DagsterInstance, state: FreshnessState, severities: list[str]
) -> None:
    """The state that Dagster's freshness daemon reports."""
    instance._report_runless_asset_event(
        FreshnessStateChange(
            key=AUDIT_LOGS, new_state=state, previous_state=FreshnessState.UNKNOWN, state_change_timestamp=NOW
        )
    )
    assert [problem.severity for problem in not_fresh(instance, [AUDIT_LOGS])] == severities


# The credential


@pytest.mark.parametrize(
    ("auth_mode", "day", "told"),
    [
        ("token", "2027-01-29", []),
        ("token", "2027-01-30", ["warning: AUTH_MODE=token works for 90 more days."]),
        ("token", "2027-04-15", ["warning: AUTH_MODE=token works for 15 more days."]),
        ("token", "2027-04-16", ["error: AUTH_MODE=token works for 14 more days."]),
        ("token", "2027-04-29", ["error: AUTH_MODE=token works for 1 more days."]),
        ("token", "2027-04-30", ["error: AUTH_MODE=token does not work any more."]),
        ("bearer", "2026-11-14", ["info: AUTH_MODE=bearer works until its token ends"]),
        ("oauth", "2027-04-30", []),
        ("oauth_refresh", "2027-04-30", []),
    ],
)
def test_a_credential_that_ends_is_told_of_in_time(auth_mode: AuthMode, day: str, told: list[str]) -> None:
    """API tokens end on 2027-04-30: a warning 90 days before, an alarm 14 days before, each told once."""
    found = list(credential(auth_mode, datetime.fromisoformat(f"{day}T00:00Z").timestamp()))
    assert len(found) == len(told)
    for problem, words in zip(found, told, strict=True):
        assert f"{problem.severity}: {problem.text}".startswith(words)
        assert "AUTH_MODE=oauth renews itself" in problem.text
        assert problem.once


# Schedules and sensors


@dg.op
def _nothing() -> None:
    """Do nothing."""


@dg.job
def _job() -> None:
    _nothing()


@dg.schedule(job=_job, cron_schedule="5 * * * *", name="hourly", default_status=dg.DefaultScheduleStatus.RUNNING)
def _hourly() -> None:
    """Ask for nothing."""


@dg.sensor(job=_job, name="minutely", minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def _minutely() -> None:
    raise SettingsError("S3_BUCKET is not set: the bucket that the SecOps feed reads.")


@dg.sensor(job=_job, name="odd", default_status=dg.DefaultSensorStatus.RUNNING)
def _odd() -> None:
    raise KeyError("jane@example.com")


@dg.sensor(job=_job, name="optional")
def _optional() -> None:
    """Off, by default."""


WATCHED = Automation(
    schedules=[_hourly], sensors=[_minutely, _optional], repository="__repository__", location="zendesk_pipeline"
)
LONG_AWAKE = NOW - 7 * DAY


class Dagster:
    """An instance as its daemon leaves it."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance

    def state(self, name: str, status: InstigatorStatus = InstigatorStatus.DECLARED_IN_CODE) -> InstigatorState:
        """The state that the daemon keeps of a schedule or sensor."""
        schedule = name == "hourly"
        return InstigatorState(
            REPOSITORY.get_instigator_origin(name),
            InstigatorType.SCHEDULE if schedule else InstigatorType.SENSOR,
            status,
            ScheduleInstigatorData("5 * * * *") if schedule else SensorInstigatorData(),
        )

    def knows(self, name: str, status: InstigatorStatus = InstigatorStatus.DECLARED_IN_CODE) -> None:
        self.instance.add_instigator_state(self.state(name, status))

    def ticked(
        self,
        name: str,
        at: float,
        status: TickStatus = TickStatus.SKIPPED,
        error: SerializableErrorInfo | None = None,
    ) -> None:
        """A tick as the daemon notes it."""
        state = self.state(name)
        tick = TickData(
            state.instigator_origin_id,
            name,
            state.instigator_type,
            status,
            at,
            run_ids=[],
            error=error,
            selector_id=state.selector_id,
        )
        self.instance.create_tick(tick)

    def problems(self, watched: Automation = WATCHED, now: float = NOW, awake: float = LONG_AWAKE) -> list[str]:
        snapshot = Snapshot(instance=self.instance, now=now, automation=watched, awake_since=awake)
        return [f"{problem.title}: {problem.text}" for problem in automation(snapshot)]


@pytest.fixture
def dagster(home: dg.DagsterInstance) -> Dagster:
    """A daemon that has just seen to the schedule and the sensor."""
    made = Dagster(home)
    for name, before in {"hourly": 15 * MINUTE, "minutely": 30}.items():
        made.knows(name)
        made.ticked(name, NOW - before)
    return made


def _error(sensor: dg.SensorDefinition, instance: dg.DagsterInstance) -> SerializableErrorInfo:
    """What the code server makes of a sensor that raises."""
    repository = dg.Definitions(sensors=[sensor]).get_repository_def()
    nothing = None, None, None, [sensor.name], None
    failed = get_external_sensor_execution(repository, LOCATION, instance.get_ref(), sensor.name, *nothing)
    error = getattr(failed, "error", None)
    assert isinstance(error, SerializableErrorInfo)
    return error


def test_what_runs_is_no_problem(dagster: Dagster) -> None:
    """Nor is a sensor that is off by default."""
    assert dagster.problems() == []


def test_what_was_switched_off_is_a_problem(dagster: Dagster) -> None:
    """Somebody forgot it: the windows go missing without a failed run."""
    dagster.instance.update_instigator_state(dagster.state("hourly", InstigatorStatus.STOPPED))
    dagster.instance.add_instigator_state(dagster.state("optional", InstigatorStatus.STOPPED))
    assert dagster.problems() == ["The schedule hourly is switched off: Nothing else does its work: switch it on."]


def test_another_code_locations_schedules_are_not_ours(dagster: Dagster) -> None:
    """One that was renamed leaves its states behind."""
    dagster.instance.update_instigator_state(dagster.state("hourly", InstigatorStatus.STOPPED))
    elsewhere = Automation(schedules=[_hourly], repository="__repository__", location="another", sensors=())
    assert dagster.problems(elsewhere, awake=NOW - HOUR / 4) == []


def test_a_failed_tick_of_a_schedule_is_a_problem(dagster: Dagster) -> None:
    """At once: the next one is an hour away. Our own sentence is told."""
    dagster.ticked("hourly", NOW - MINUTE, TickStatus.FAILURE, _error(_minutely, dagster.instance))
    assert dagster.problems() == [
        "The schedule hourly fails: S3_BUCKET is not set: the bucket that the SecOps feed reads."
    ]
    dagster.ticked("hourly", NOW, TickStatus.SUCCESS)
    assert dagster.problems() == []


def test_a_sensors_tick_may_fail_once(dagster: Dagster) -> None:
    """That is what a deployment looks like. An exception's own words are not told, they could quote a record."""
    error = _error(_odd, dagster.instance)
    for number in range(FAILED_TICKS):
        assert dagster.problems() == []
        dagster.ticked("minutely", NOW + number, TickStatus.FAILURE, error)
    (problem,) = dagster.problems()
    assert problem == (
        "The sensor minutely fails: Its latest tick ended with SensorExecutionError because of KeyError;"
        " its page says more."
    )


@pytest.mark.parametrize(
    ("name", "now", "problems"),
    [
        pytest.param("minutely", NOW - 30 + LATE, 0, id="sensor-in-time"),
        pytest.param("minutely", NOW - 29 + LATE, 1, id="sensor-late"),
        pytest.param("hourly", NOW + 45 * MINUTE + LATE - 1, 0, id="schedule-in-time"),
        pytest.param("hourly", NOW + 45 * MINUTE + LATE, 1, id="schedule-late"),
    ],
)
def test_what_has_no_ticks_any_more_is_a_problem(dagster: Dagster, name: str, now: float, problems: int) -> None:
    """While the other sensors run, so that it is not the daemon."""
    found = [problem for problem in dagster.problems(now=now) if f" {name} does not run" in problem]
    assert len(found) == problems
    assert all("Its latest tick was at 2026-11-14 12:" in problem for problem in found)


def test_after_a_break_everything_has_time_to_start(dagster: Dagster) -> None:
    """The daemon was down, and the alert sensor's tick happens to be the first."""
    later = NOW + 5 * DAY
    assert dagster.problems(now=later, awake=later) == []
    assert len(dagster.problems(now=later + HOUR, awake=later)) == 2


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("hourly", ScheduleInstigatorData("5 * * * *", start_timestamp=NOW + DAY - MINUTE)),
        ("minutely", SensorInstigatorData(last_sensor_start_timestamp=NOW + DAY - MINUTE)),
    ],
)
def test_what_is_new_or_was_just_switched_on_has_time_for_its_first_tick(
    dagster: Dagster, name: str, data: ScheduleInstigatorData | SensorInstigatorData
) -> None:
    """An upgrade brings a nightly schedule at noon: nothing was due before. What then stays away is a problem."""
    dagster.instance.update_instigator_state(dagster.state(name).with_data(data))

    def silent(now: float) -> bool:
        return any(f" {name} does not run" in problem for problem in dagster.problems(now=now))

    assert (silent(NOW + DAY), silent(NOW + DAY + 2 * HOUR)) == (False, True)


def test_a_schedule_that_never_ticked_is_a_problem(home: dg.DagsterInstance) -> None:
    """The daemon does not know it, though it should run."""
    (problem,) = Dagster(home).problems(Automation(schedules=[_hourly]))
    assert problem.startswith("The schedule hourly does not run: It has not had a tick.")


def test_links_lead_to_the_tick_history(dagster: Dagster) -> None:
    """Where the UI shows the schedule."""
    dagster.instance.update_instigator_state(dagster.state("hourly", InstigatorStatus.STOPPED))
    (problem,) = automation(Snapshot(instance=dagster.instance, now=NOW, automation=WATCHED, awake_since=LONG_AWAKE))
    assert problem.link_path == "/locations/zendesk_pipeline/schedules/hourly"


# Daemons


def test_a_part_of_the_daemon_that_fell_silent_is_a_problem(home: dg.DagsterInstance) -> None:
    """The backfills stand still while sensors run."""
    for kind in home.get_required_daemon_types():
        before = HOUR if kind == "BACKFILL" else 30
        home.add_daemon_heartbeat(DaemonHeartbeat(NOW - before, kind, "id", []))
    (problem,) = daemons(Snapshot(instance=home, now=NOW, awake_since=LONG_AWAKE))
    assert list(daemons(Snapshot(instance=home, now=NOW, awake_since=NOW - LATE))) == []
    assert problem.title == "Dagster's backfill daemon is silent"
    assert problem.since == NOW - HOUR


# The pruning of run logs


def test_a_pruning_that_fails_is_a_problem_until_one_succeeds(instance: dg.DagsterInstance) -> None:
    """No asset shows it. That of another code location is another's, and one under way says nothing yet."""

    snapshot = Snapshot(instance=instance, now=NOW, automation=Automation(location="zendesk_pipeline"))

    def launched(location: str = "zendesk_pipeline") -> dg.DagsterRun:
        name = "run_log_pruning"
        run = dg.DagsterRun(job_name=name, remote_job_origin=job_of(location, name))
        instance.add_run(run)
        return run

    def titles() -> list[str]:
        return [problem.title for problem in pruning(snapshot)]

    def failed(location: str = "zendesk_pipeline") -> dg.DagsterRun:
        run = launched(location)
        instance.report_run_failed(run)
        return run

    failed("theirs")
    assert titles() == []
    ours = failed()
    failed("theirs")
    launched()
    (problem,) = pruning(snapshot)
    assert (problem.title, problem.link_path) == ("The job run_log_pruning fails", f"/runs/{ours.run_id}")
    record = instance.get_run_record_by_id(ours.run_id)
    assert record
    assert problem.since == record.end_time
    done = launched()
    instance.handle_new_event(_success(done))
    assert titles() == []


def _success(run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=run.job_name)
    return dg.EventLogEntry(
        error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=NOW, dagster_event=event
    )
