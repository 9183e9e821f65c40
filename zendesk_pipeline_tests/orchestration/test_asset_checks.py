"""The asset checks, in real runs over the simulated Zendesk and a real bucket."""

import asyncio
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from zendesk_pipeline.alerts.dagster_problems import failed_checks
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.commands.iam_policy import writer_policy
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery import inspection
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.inspection import Finding, Inspector
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.streams import AUDIT_LOGS
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration import asset_checks
from zendesk_pipeline.orchestration.asset_checks import MOST_WINDOWS, WINDOW_CHECKS
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries
from zendesk_pipeline_tests.runs import QUIET, Project, metadata, project

pytestmark = QUIET


@pytest.fixture
def collector(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over the simulated Zendesk and SeaweedFS."""
    with project({**environment, "HTTP_RETRIES": "0"}, monkeypatch) as running:
        yield running


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    """Where it delivers to."""
    return Bucket(store=store, layout=layout)


def _verdicts(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def _seen(verdict: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in verdict.metadata.items()}


def _checked_alone(collector: Project, *, raise_on_error: bool = True) -> dg.ExecuteInProcessResult:
    """The checks of the audit logs, without collecting anything."""
    names = {dg.AssetCheckKey(dg.AssetKey("audit_logs"), each.name) for each in WINDOW_CHECKS}
    job = collector.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection=names)
    return job.execute_in_process(instance=collector.instance, raise_on_error=raise_on_error)


@contextmanager
def _guarded(environment: dict[str, str], layout: Layout, folder: Path) -> Generator[tuple[LocalS3, dict[str, str]]]:
    """An S3 server, and the environment of a collector that may write the feed there and not read it."""
    chosen = Settings(
        s3_bucket="zendesk-raw",
        s3_prefix=layout.feed,
        state_prefix=layout.state,
        quarantine_prefix=layout.quarantine,
    )
    users = {"writer": writer_policy(chosen, write_only_feed=True)}
    with local_s3(folder, users=users) as guarded:
        writer = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "writer"}
        yield guarded, {**environment, **guarded.environment, **writer}


def _feed_run(collector: Project, job: str) -> dg.ExecuteInProcessResult:
    found = collector.definitions.resolve_job_def(job)
    return found.execute_in_process(instance=collector.instance, raise_on_error=False)


# After each collection


@pytest.mark.parametrize("stream", ["audit_logs", "incremental_tickets"])
def test_every_collection_is_looked_at(collector: Project, stream: str) -> None:
    """A run of one window, and one of a range: all checks pass, over the windows of the run."""
    for span in (hours(1), hours(3)):
        verdicts = _verdicts(collector.run(stream, span))
        assert set(verdicts) == {each.name for each in WINDOW_CHECKS}
        assert all(each.passed for each in verdicts.values())
        assert {_seen(each)["windows"] for each in verdicts.values()} == {len(span)}


def test_of_a_long_range_the_newest_windows_are_looked_at(collector: Project) -> None:
    """Looking has a bound."""
    verdicts = _verdicts(collector.run("audit_logs", hours(MOST_WINDOWS + 6)))
    assert _seen(verdicts["objects_match_ledgers"])["windows"] == MOST_WINDOWS


def test_a_finding_stays_until_it_is_mended(collector: Project, bucket: Bucket) -> None:
    """The next run is about another window, and still says what is wrong with the one before."""
    collector.run("audit_logs", hours(1))
    key = bucket.stored()[0]
    body = bucket.body(key)
    bucket.put(key, b"no JSON\n")
    for span in (hours(1), hours(1, skip=1), hours(1, skip=2)):
        verdicts = _verdicts(collector.run("audit_logs", span))
        for name in ("objects_match_ledgers", "lines_are_readable"):
            assert not verdicts[name].passed
            assert verdicts[name].severity is dg.AssetCheckSeverity.ERROR
            assert str(FIRST) in (verdicts[name].description or "")
    bucket.put(key, body)
    assert all(each.passed for each in _verdicts(collector.run("audit_logs", hours(1, skip=3))).values())


def test_a_range_over_midnight_is_well(collector: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranges that overlap, each over more than a day, the later one first: no object is in no ledger."""
    monkeypatch.setattr(inspection, "IN_FLIGHT", -HOUR)  # what was written just now is looked at as well
    for span in (hours(27, skip=3), hours(9, skip=-1)):
        verdicts = _verdicts(collector.run("audit_logs", span))
        assert verdicts["objects_match_ledgers"].description == "All is well."


def test_a_false_finding_of_an_older_release_is_gone_with_the_next_run(
    collector: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took objects of one day for those of the same hour on another; nobody has to do anything."""
    monkeypatch.setattr(inspection, "IN_FLIGHT", -HOUR)
    span = hours(27)
    collector.run("audit_logs", span)
    wrong = [Window(FIRST.start + hour * HOUR) for hour in (0, 1, 2, 24, 25, 26)]
    collector.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("audit_logs"),
            check_name="objects_match_ledgers",
            passed=False,
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{wrong[0]}: s3://bucket/an/object is in no ledger",
            metadata={
                "findings": dg.IntMetadataValue(6),
                "windows": dg.IntMetadataValue(24),
                "windows_with_findings": dg.JsonMetadataValue([window.partition_key for window in wrong]),
            },
        )
    )
    verdict = _verdicts(collector.run("audit_logs", hours(1, skip=27)))["objects_match_ledgers"]
    assert verdict.passed
    assert _seen(verdict) == {"findings": 0, "windows": 7}


def test_a_finding_is_not_forgotten_while_the_bucket_cannot_be_read(
    environment: dict[str, str], layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that lost the right to read is not blamed for nothing, and what was wrong before stays."""
    with _guarded(environment, layout, tmp_path) as (guarded, as_writer):
        bucket = Bucket(store=Store(client=guarded.client(), bucket=guarded.bucket, encryption={}), layout=layout)
        with project({**environment, **guarded.environment}, monkeypatch) as collector:
            collector.run("audit_logs", hours(1))
            bucket.put(bucket.stored()[0], b"no JSON\n")
            collector.run("audit_logs", hours(1))
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.setenv(name, as_writer[name])
            unread = _verdicts(_checked_alone(collector))["objects_match_ledgers"]
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                monkeypatch.setenv(name, guarded.environment[name])
            read = _verdicts(collector.run("audit_logs", hours(1, skip=1)))["objects_match_ledgers"]
    assert not unread.passed
    assert (unread.description or "").startswith("it could not be looked at: S3 refuses ListBucket")
    assert not read.passed
    assert str(FIRST) in (read.description or "")


def test_more_findings_than_one_look_takes_are_not_forgotten(
    collector: Project, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest are looked at first, the others afterwards: the verdict stays until the last one is right."""
    monkeypatch.setattr(asset_checks, "MOST_WINDOWS", 2)
    collector.run("audit_logs", hours(4))
    before = bucket.feed()
    for key in before:
        bucket.put(key, b"no JSON\n")
    found: list[Any] = []
    for hour in range(4):
        collector.run("audit_logs", hours(1, skip=hour))
    for key, body in before.items():
        bucket.put(key, body)
    for _ in range(3):
        verdict = _verdicts(collector.run("audit_logs", hours(1, skip=5)))["objects_match_ledgers"]
        found.append(_seen(verdict).get("windows_with_findings"))
    keys = [window.partition_key for window in hours(4)]
    assert found == [keys[2:], None, None]


def test_a_silence_is_a_warning_of_its_own_hour(collector: Project, bucket: Bucket) -> None:
    """An hour with next to nothing where there usually is a lot; the next hour is another matter."""
    for week in (1, 2, 3):
        span = hours(1, skip=-week * 7 * 24)
        Deliveries(bucket=bucket).formed(limit=10**6).records(span, audit_logs(span, each=2000))
    verdicts = _verdicts(collector.run("audit_logs", hours(1)))
    verdict, records = verdicts["volume_is_usual"], len(bucket.ledger(FIRST)["objects"][0]["identities"])
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert verdict.description == f"{FIRST}: {records} records, where this hour of the week usually has 2000"
    assert _verdicts(collector.run("audit_logs", hours(1, skip=1)))["volume_is_usual"].passed


def test_a_stream_that_never_had_a_record_is_a_warning_after_days(bucket: Bucket) -> None:
    """Three days of empty windows say that its source is off, or that nothing happens; one record ends it."""

    def found(span: Span, now: int = 0) -> list[Finding]:
        inspector = Inspector(stream=AUDIT_LOGS, store=bucket.store, layout=bucket.layout, now=now or span.end)
        return list(inspector.volume([*span][-2:]))

    Deliveries(bucket=bucket).records(hours(71), [])
    assert found(hours(71)) == []
    Deliveries(bucket=bucket).records(hours(1, skip=71), [])
    text = "not one record in this or any other of 72 windows"
    assert found(hours(72)) == [Finding(Window(FIRST.start + 71 * HOUR), text)]
    assert found(hours(72), now=hours(72).end + 3 * 24 * HOUR + 1) == []  # of a backfill that began before the account
    Deliveries(bucket=bucket).records(hours(1, skip=100), [])
    assert found(hours(1, skip=100)) == []  # the three days before it are not all there yet
    Deliveries(bucket=bucket).records(hours(1), [audit_log(1, FIRST.start)])
    assert found(hours(72)) == []


def test_records_left_out_for_their_time_are_a_warning(collector: Project, zendesk: SimulatedZendesk) -> None:
    """Zendesk shows audit logs from long before what was asked for, without regard to the filter: few, or too many."""
    zendesk.control.set(filter_ends="ignored")
    verdict = _verdicts(collector.run("audit_logs", hours(1, skip=5)))["times_are_usual"]
    told = metadata(collector.materialized("audit_logs")[-1])
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert f"{told['older_than_asked']:,} of " in str(verdict.description)
    zendesk.control.set(filter_ends="inclusive")
    assert _verdicts(collector.run("audit_logs", hours(1, skip=5)))["times_are_usual"].passed


def test_a_check_can_be_asked_for_alone(collector: Project, bucket: Bucket) -> None:
    """From the UI's list of checks: the newest windows of the asset are looked at, nothing is collected."""
    collector.run("audit_logs", hours(2))
    before = bucket.feed()
    bucket.put(bucket.stored()[-1], b"")
    key = dg.AssetCheckKey(dg.AssetKey("audit_logs"), "objects_match_ledgers")
    job = collector.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={key})
    result = job.execute_in_process(instance=collector.instance)
    (verdict,) = result.get_asset_check_evaluations()
    assert verdict.check_name == key.name
    assert not verdict.passed
    assert set(bucket.feed()) == set(before)


def test_a_writer_that_may_not_read_the_feed_is_not_blamed(
    environment: dict[str, str], layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the policy that only writes the feed, the checks say that they did not look."""
    with _guarded(environment, layout, tmp_path) as (_, as_writer), project(as_writer, monkeypatch) as collector:
        verdicts = _verdicts(collector.run("audit_logs", hours(1)))
    assert all(each.passed for each in verdicts.values())
    assert (verdicts["objects_match_ledgers"].description or "").startswith("Not looked at: S3 refuses ListBucket")


# Where nothing was collected


def _shown(instance: dg.DagsterInstance) -> dict[str, tuple[str, str]]:
    """What Dagster's UI says of each check of the audit logs: its status, and the sentence."""
    keys = [dg.AssetCheckKey(dg.AssetKey("audit_logs"), each.name) for each in WINDOW_CHECKS]
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    shown: dict[str, tuple[str, str]] = {}
    for key, record in records.items():
        status = asyncio.run(record.resolve_status(LoadingContextForTest(instance)))
        evaluated = record.status is not AssetCheckExecutionRecordStatus.PLANNED
        said = record.evaluation.description if evaluated and record.evaluation else None
        shown[key.name] = (status.value, said or "")
    return shown


def _look(collector: Project) -> None:
    """One look of the sensor that runs each minute."""
    sensor = collector.definitions.resolve_sensor_def("freshness_sensor")
    sensor(dg.build_sensor_context(instance=collector.instance))


def test_a_failed_collection_leaves_the_verdicts_as_they_were(
    collector: Project, bucket: Bucket, zendesk: SimulatedZendesk
) -> None:
    """Dagster shows six failed checks although nothing was looked at; a minute later it shows the last verdicts."""
    collector.run("audit_logs", hours(1))
    bucket.put(bucket.stored()[0], b"no JSON\n")
    collector.run("audit_logs", hours(1))
    before = _shown(collector.instance)
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=503, times=0))
    assert not collector.run("audit_logs", hours(1, skip=1)).success
    assert {status for status, _ in _shown(collector.instance).values()} == {"EXECUTION_FAILED"}
    _look(collector)
    assert _shown(collector.instance) == before
    assert [before[each.name][0] for each in WINDOW_CHECKS] == [
        "FAILED",
        "FAILED",
        "SUCCEEDED",
        "SUCCEEDED",
        "SUCCEEDED",
        "SUCCEEDED",
    ]
    zendesk.control.clear_faults()
    verdict = _verdicts(collector.run("audit_logs", hours(1, skip=1)))["objects_match_ledgers"]
    assert str(FIRST) in (verdict.description or "")


def test_before_anything_is_collected_no_check_has_failed(collector: Project, zendesk: SimulatedZendesk) -> None:
    """The first run of all fails: the checks say that they have not looked, once."""
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=503, times=0))
    collector.run("audit_logs", hours(1))
    for _ in range(2):
        _look(collector)
    assert set(_shown(collector.instance).values()) == {("SUCCEEDED", "Not looked at yet: nothing was collected.")}
    key = dg.AssetCheckKey(dg.AssetKey("audit_logs"), "objects_match_ledgers")
    assert len(collector.instance.event_log_storage.get_asset_check_execution_history(key, limit=9)) == 2


def test_a_check_that_broke_itself_stays_failed(collector: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was collected and could not be looked at is no verdict that holds: the UI goes on showing it."""
    collector.run("audit_logs", hours(1))
    with monkeypatch.context() as broken:
        broken.setattr(asset_checks, "_windows", None)
        assert not collector.run("audit_logs", hours(1)).success
        assert not _checked_alone(collector, raise_on_error=False).success
    _look(collector)
    assert {status for status, _ in _shown(collector.instance).values()} == {"EXECUTION_FAILED"}


def test_a_check_that_breaks_in_a_collection_is_told(collector: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its windows are delivered, so nothing else tells of that run; one that fails before its checks is told itself."""
    names = [dg.AssetCheckKey(dg.AssetKey("audit_logs"), each.name) for each in WINDOW_CHECKS]
    collector.run("audit_logs", hours(1))
    with monkeypatch.context() as broken:
        broken.setattr(asset_checks, "_windows", None)
        assert not collector.run("audit_logs", hours(1, skip=1)).success
    told = list(failed_checks(Snapshot(instance=collector.instance, now=0, automation=Automation(checks=names))))
    assert {problem.text for problem in told} == {"The run that was to evaluate it failed; its log says why."}
    assert len(told) == len(names)
    monkeypatch.setenv("S3_BUCKET", "no-such-bucket")
    running = Project(definitions=build(settings.load()), instance=collector.instance)
    assert not running.run("audit_logs", hours(1, skip=1)).success
    assert list(failed_checks(Snapshot(instance=collector.instance, now=0, automation=Automation(checks=names)))) == []


def test_a_run_under_way_is_left_alone(collector: Project) -> None:
    """Its checks are planned, and the next thing that is said of them is their verdict."""
    collector.run("audit_logs", hours(1))
    job = collector.definitions.resolve_implicit_global_asset_job_def()
    collector.instance.create_run_for_job(job.get_subset(asset_selection={dg.AssetKey("audit_logs")}))
    before = _shown(collector.instance)
    _look(collector)
    assert _shown(collector.instance) == before


# The feed


def test_what_waits_in_the_feed_is_observed(collector: Project, bucket: Bucket) -> None:
    """The job of each hour notes how many objects wait, how large they are and for how long."""
    collector.run("audit_logs", hours(2))
    verdict = _verdicts(_feed_run(collector, "feed_inspection"))["holds_nothing_else"]
    assert verdict.passed
    (observed,) = collector.instance.fetch_observations(dg.AssetKey("secops_feed"), limit=9).records
    assert observed.asset_observation
    seen = metadata(observed.asset_observation)
    assert seen["waiting_objects"] == len(bucket.stored())
    assert seen["waiting_bytes"] == sum(map(len, bucket.feed().values()))
    assert 0 <= seen["oldest_waits_hours"] < 1
    assert seen["counted"] == "all"


def test_what_is_foreign_in_the_feed_is_a_warning(collector: Project, bucket: Bucket) -> None:
    """The state file of the Lambda recipe lies there: SecOps reads it as a log."""
    bucket.put(bucket.layout.feed + "state.json", b"{}")
    verdict = _verdicts(_feed_run(collector, "feed_inspection"))["holds_nothing_else"]
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert verdict.description == f"{bucket.layout.feed}state.json is not ours"


def test_a_bucket_that_cannot_be_looked_at_is_a_failed_check(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is the sentence that says what to do; the run itself succeeds."""
    with project({**environment, "S3_BUCKET": "no-such-bucket"}, monkeypatch) as collector:
        result = _feed_run(collector, "feed_inspection")
    verdict = _verdicts(result)["holds_nothing_else"]
    assert result.success
    assert not verdict.passed
    assert "S3_BUCKET=no-such-bucket does not exist" in (verdict.description or "")


def test_what_dagster_remembers_them_by_is_pinned(collector: Project) -> None:
    """Names of checks and of the schedules that ask for them, and when they do."""
    keys = collector.definitions.resolve_asset_graph().asset_check_keys
    assert sorted(f"{key.asset_key.to_user_string()}:{key.name}" for key in keys) == [
        "audit_logs:fields_are_known",
        "audit_logs:lines_are_readable",
        "audit_logs:objects_match_ledgers",
        "audit_logs:records_are_well_formed",
        "audit_logs:times_are_usual",
        "audit_logs:volume_is_usual",
        "incremental_tickets:fields_are_known",
        "incremental_tickets:lines_are_readable",
        "incremental_tickets:objects_match_ledgers",
        "incremental_tickets:records_are_well_formed",
        "incremental_tickets:times_are_usual",
        "incremental_tickets:volume_is_usual",
        "secops_feed:audit_logs_match_source",
        "secops_feed:holds_nothing_else",
        "secops_feed:incremental_tickets_match_source",
        "secops_feed:secops_counts",
        "secops_feed:secops_finds",
        "secops_feed:secops_parser",
        "secops_feed:secops_reads",
        "secops_feed:secops_receipts",
    ]
    schedules = {
        name: collector.definitions.resolve_schedule_def(name)
        for name in ("feed_inspection_schedule", "reconciliation_schedule")
    }
    assert {name: each.cron_schedule for name, each in schedules.items()} == {
        "feed_inspection_schedule": "35 * * * *",
        "reconciliation_schedule": "35 * * * *",
    }
    assert all(each.default_status is dg.DefaultScheduleStatus.RUNNING for each in schedules.values())
