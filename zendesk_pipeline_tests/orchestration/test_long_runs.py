"""Long ranges: what an interruption costs, and that nobody ends a run that makes progress."""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.parse import parse_qs
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.storage.tags import PARENT_RUN_ID_TAG, ROOT_RUN_ID_TAG
from dagster._core.test_utils import freeze_time
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import (
    consume_new_runs_for_automatic_reexecution,  # pyright: ignore[reportUnknownVariableType]  # its own
)
from dagster._daemon.monitoring.run_monitoring import (
    check_run_timeout,
    execute_run_monitoring_iteration,  # pyright: ignore[reportUnknownVariableType]  # as above
)

from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.orchestration import long_runs
from zendesk_pipeline.orchestration.long_runs import FINISHED_BY, MOVES_ON, put_off_end
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.zendesk import range_parts
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.s3_proxy import S3Proxy, S3Request, s3_proxy
from zendesk_pipeline_tests.promise import collector_process, kept_runs
from zendesk_pipeline_tests.promise.collector_process import KILLED
from zendesk_pipeline_tests.promise.time_lapse import SimulatedTime, daemon, home, on_the_clock
from zendesk_pipeline_tests.reconcile import reconcile
from zendesk_pipeline_tests.runs import QUIET, RANGE_END, RANGE_START, Project, materializations, metadata, project
from zendesk_pipeline_tests.taken_back import fails_after_it_took_back

pytestmark = QUIET

SPAN = hours(16)
LIMIT = 300
"""Of a run, by the dagster.yaml of a test."""
PATIENCE = 600
"""Seconds for a run in a process of its own, on a machine that is busy with others."""
PAGES_OF_A_PART = 2
"""In the place of a hundred: so that what an interruption costs at most, one part, is little of a short range."""
BEGUN = datetime(2026, 11, 14, tzinfo=UTC)
"""When the runs of the last tests began."""
LOGGER = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedZendesk]:
    """An account with about a page of audit logs and a tenth of a page of tickets each hour."""
    since = ("--since", "2026-11-12T00:00:00Z", "--now", "2026-11-16T12:00:00Z", "--empty-hours", "0")
    records = ("--audit-logs-per-hour", "100", "--late-share", "0", "--tickets-per-hour", "100", "--bulk-update", "0")
    with simulated_zendesk(tmp_path_factory.mktemp("steady"), *since, *records) as running:
        yield running


@pytest.fixture
def account(steady: SimulatedZendesk) -> SimulatedZendesk:
    """The account without faults or remembered requests."""
    steady.control.reset()
    return steady


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A range of some pages is read in several parts."""
    monkeypatch.setattr(range_parts, "PAGES_OF_A_PART_ALONE", PAGES_OF_A_PART)


@pytest.fixture
def collector(
    environment: dict[str, str], account: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """The project over the account, without retries of its own."""
    with project({**environment, **account.environment, "HTTP_RETRIES": "0"}, monkeypatch) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(s3: LocalS3) -> Iterator[S3Proxy]:
    with s3_proxy(s3.endpoint) as running:
        yield running


def _run(collector: Project, span: Span, *, continues: str = "", **config: object) -> dg.ExecuteInProcessResult:
    """A run over audit logs, as Dagster makes it of one that it retries: by the tags of its parent."""
    parent = {PARENT_RUN_ID_TAG: continues, ROOT_RUN_ID_TAG: continues} if continues else {}
    ends = {RANGE_START: Window(span.start).partition_key, RANGE_END: Window(span.end - HOUR).partition_key}
    return collector.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[dg.AssetKey("audit_logs")],
        instance=collector.instance,
        raise_on_error=False,
        run_config={"ops": {"audit_logs": {"config": config}}} if config else None,
        tags={**ends, **parent},
    )


def _fail_after(account: SimulatedZendesk, pages: int) -> None:
    account.control.add_faults(Rule(path="/api/v2/audit_logs", kind="status", code=500, times=0, skip=pages))


def _asked_from(account: SimulatedZendesk) -> list[str]:
    """The beginning of the time that each request for audit logs asked for."""
    return [parse_qs(request.query)["filter[created_at][]"][0] for request in account.control.requests()]


def _keys(windows: Sequence[Window]) -> list[str]:
    return [window.partition_key for window in windows]


# What is not walked again


def test_a_retry_reads_what_was_taken_back(
    collector: Project, account: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an earlier run had finished it, and its ledger says so still: the walk was not to be relied on."""
    span = hours(3)
    assert _run(collector, span).success
    failed = fails_after_it_took_back(collector, span, monkeypatch)
    account.control.forget_requests()
    assert _run(collector, span, continues=failed.run_id).success
    assert _asked_from(account)[0] == timestamp(span.start - HOUR - 1)


def test_a_retry_begins_at_the_first_window_that_is_not_finished(
    collector: Project, account: SimulatedZendesk, s3: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of three interruptions costs the look-back and the part under way; every window is told, and by whom."""
    monkeypatch.setattr(range_parts, "MOST_CURSORS", 1)  # on a busy machine answers are slow, and there would be more
    runs: list[dg.ExecuteInProcessResult] = []
    finished: list[int] = []
    asked: list[str] = []
    for pages in (7, 7, 7, 99):
        account.control.clear_faults()
        account.control.forget_requests()
        _fail_after(account, pages)
        before = len(collector.materialized("audit_logs"))
        runs.append(_run(collector, SPAN, continues=runs[-1].run_id if runs else ""))
        finished.append(len({event.partition for event in collector.materialized("audit_logs")}))
        asked.append(_asked_from(account)[0])

    assert [run.success for run in runs] == [False, False, False, True]
    assert 0 < finished[0] < finished[1] < finished[2] < len(SPAN) == finished[3]
    begun = [SPAN.start, *(SPAN.start + count * HOUR for count in finished[:3])]
    assert asked == [timestamp(start - HOUR - 1) for start in begun]
    assert reconcile(account.control, s3, layout, "audit_logs", SPAN).exact

    told = {event.partition: metadata(event) for event in collector.materialized("audit_logs")[before:]}
    assert list(told) == _keys(list(SPAN))
    assert len(collector.materialized("audit_logs")) == before + len(SPAN)
    ends = zip(runs[:3], [0, *finished], finished[:3], strict=False)
    by = [run.run_id for run, begin, end in ends for _ in range(begin, end)]
    assert [told[key].get(FINISHED_BY) for key in _keys(list(SPAN))] == by + [None] * (len(SPAN) - finished[2])
    assert all(each["records"] > 0 and each["objects"] for each in told.values())
    assert all(each["dagster/partition_row_count"] == each["records"] for each in told.values())
    assert all(each.get("requests", 0) == 0 for each in told.values() if FINISHED_BY in each)


def test_a_run_that_continues_nothing_walks_all_of_its_range(collector: Project, account: SimulatedZendesk) -> None:
    """Whoever asks for a range again, after a success or without a parent, has it read again from its beginning."""
    span = hours(4)
    _fail_after(account, 3)
    failed = _run(collector, span)
    account.control.clear_faults()
    whole = timestamp(span.start - HOUR - 1)
    good = _run(collector, span)
    for continues in ("", good.run_id):
        account.control.forget_requests()
        assert _run(collector, span, continues=continues).success
        assert _asked_from(account)[0] == whole
    assert not failed.success


def test_what_is_asked_for_otherwise_is_not_taken_for_a_retry(collector: Project, account: SimulatedZendesk) -> None:
    """A redelivery sends every window, whatever a run before it has finished."""
    span = hours(4)
    _fail_after(account, 3)
    failed = _run(collector, span)
    account.control.clear_faults()
    account.control.forget_requests()
    assert _run(collector, span, continues=failed.run_id, redeliver=True).success
    assert _asked_from(account)[0] == timestamp(span.start - HOUR - 1)
    told = {event.partition: metadata(event) for event in collector.materialized("audit_logs")}
    assert all(each["delivered_by_this_run"] for each in told.values())


def test_a_redelivery_that_is_started_again_goes_on(
    collector: Project, account: SimulatedZendesk, store: Store, layout: Layout
) -> None:
    """By Dagster or in the UI: each record is there once more and no oftener. After a success it is sent anew."""
    span = hours(4)
    _run(collector, span)
    once = Bucket(store=store, layout=layout).lines()
    runs = [_run(collector, span, redeliver=True) for _ in [_fail_after(account, 3)]]
    account.control.clear_faults()
    runs.append(_run(collector, span, continues=runs[-1].run_id, redeliver=True))
    twice = Bucket(store=store, layout=layout).lines()
    runs.append(_run(collector, span, continues=runs[-1].run_id, redeliver=True))

    assert [run.success for run in runs] == [False, True, True]
    assert twice == sorted(once * 2)
    assert Bucket(store=store, layout=layout).lines() == sorted(once * 3)


def test_nothing_is_skipped_that_the_bucket_does_not_have(
    collector: Project, account: SimulatedZendesk, s3: LocalS3, layout: Layout
) -> None:
    """Where the ledgers are gone, because the settings lead elsewhere by now, a retry walks the whole range."""
    span = hours(6)
    _fail_after(account, 7)
    failed = _run(collector, span)
    finished = [event.partition for event in collector.materialized("audit_logs")]
    account.control.clear_faults()
    account.control.forget_requests()
    kept = Window(span.start)
    client = s3.client()
    for window in list(span)[1:]:
        client.delete_object(Bucket=s3.bucket, Key=layout.ledger("audit_logs", window))
    assert _run(collector, span, continues=failed.run_id).success
    assert len(finished) > 1
    assert _asked_from(account)[0] == timestamp(kept.end - HOUR - 1)


def test_a_retry_of_what_is_finished_asks_for_nothing(collector: Project, account: SimulatedZendesk) -> None:
    """A run can fail behind its collection: the next one reports all windows, and walks none."""
    span = hours(3)
    good = _run(collector, span)
    collector.instance.report_run_failed(good.dagster_run)
    account.control.forget_requests()
    again = _run(collector, span, continues=good.run_id)
    assert again.success
    assert account.control.requests() == []
    told = collector.materialized("audit_logs")[len(span) :]
    assert [event.partition for event in told] == _keys(list(span))
    assert {metadata(event)[FINISHED_BY] for event in told} == {good.run_id}


def test_a_retry_looks_back_no_further_than_it_is_told(collector: Project, account: SimulatedZendesk) -> None:
    """`look_back_at_most` keeps it from a window before the range; inside the range it looks back as ever."""
    span = hours(8)
    _fail_after(account, 4)
    failed = _run(collector, span, look_back_at_most=0)
    begin = span.start + len(collector.materialized("audit_logs")) * HOUR
    asked = _asked_from(account)[0]
    account.control.clear_faults()
    account.control.forget_requests()
    assert _run(collector, span, continues=failed.run_id, look_back_at_most=0).success
    assert begin > span.start
    assert asked == timestamp(span.start - 1)
    assert _asked_from(account)[0] == timestamp(begin - HOUR - 1)


# Killed


def _collect(environment: dict[str, str], kept: Path, run_id: str, parent: str) -> None:
    """In a process of its own, on the instance in `kept`: reports are due at every page."""
    output = os.open(kept / kept_runs.PRINTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update({"HOME": os.devnull, **environment, "DAGSTER_HOME": str(kept)})
    long_runs.REPORT_SECONDS, range_parts.PAGES_OF_A_PART_ALONE = 0, PAGES_OF_A_PART
    tags = {PARENT_RUN_ID_TAG: parent, ROOT_RUN_ID_TAG: parent} if parent else {}
    ends = {RANGE_START: Window(SPAN.start).partition_key, RANGE_END: Window(SPAN.end - HOUR).partition_key}
    with dg.DagsterInstance.get() as instance:
        result = (
            build(settings.load())
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(
                asset_selection=[dg.AssetKey("audit_logs")],
                instance=instance,
                raise_on_error=False,
                run_id=run_id,
                tags={**ends, **tags},
            )
        )
    sys.exit(0 if result.success else 1)


def test_a_range_that_is_killed_three_times_goes_on_each_time(
    account: SimulatedZendesk, s3: LocalS3, proxy: S3Proxy, layout: Layout, environment: dict[str, str], tmp_path: Path
) -> None:
    """kill -9 says nothing to Dagster; what was reported before is not walked again, and every record is there once."""
    chosen = {**environment, **account.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint}
    kept = kept_runs.home(tmp_path / "kept")
    parent, runs = "", list[str]()
    ended, asked, wanted = list[int | None](), list[str](), list[str]()
    for puts in (9, 9, 9, None):
        run_id = str(uuid4())
        process = collector_process._context.Process(target=_collect, args=(chosen, kept, run_id, parent))
        proxy.reset()
        account.control.forget_requests()
        wanted.append(timestamp(_first_unreported(kept, runs).start - HOUR - 1))
        if puts:
            proxy.after = _killing(process, proxy, puts)
        process.start()
        process.join(PATIENCE)
        ended.append(process.exitcode)
        asked.append(_asked_from(account)[0])
        with dg.DagsterInstance.from_config(str(kept)) as instance:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)  # as the daemon does of a dead run
        parent = run_id
        runs.append(run_id)
    proxy.reset()
    with dg.DagsterInstance.from_config(str(kept)) as instance:
        told = materializations(instance, "audit_logs")
    assert [each in KILLED for each in ended] == [True, True, True, False]
    assert ended[-1] == 0
    assert reconcile(account.control, s3, layout, "audit_logs", SPAN).exact
    assert {event.partition for event in told} == set(_keys(list(SPAN)))
    assert len({metadata(event).get(FINISHED_BY) for event in told} - {None}) >= 2
    assert asked == wanted
    assert len(set(wanted)) >= 3


def _first_unreported(kept: Path, runs: Sequence[str]) -> Window:
    """The first window of the range that no run has reported in its own log.

    Dagster writes an event there first and into its index next: a kill can come between.
    """
    reported = dg.DagsterEventType.ASSET_MATERIALIZATION
    with dg.DagsterInstance.from_config(str(kept)) as instance:
        events = [event for run_id in runs for event in instance.all_logs(run_id, of_type=reported)]
    told = {event.asset_materialization.partition for event in events if event.asset_materialization}
    return next(window for window in SPAN if window.partition_key not in told)


def _killing(process: BaseProcess, proxy: S3Proxy, puts: int) -> Callable[[S3Request], None]:
    def after(request: S3Request) -> None:
        if request.method == "PUT" and sum(seen.method == "PUT" for seen in proxy.seen[: request.number]) == puts:
            process.kill()

    return after


# Dagster's own daemon


def _environment(account: SimulatedZendesk, environment: dict[str, str]) -> dict[str, str]:
    return {**environment, **account.environment, "START_DATE": timestamp(FIRST.start), "HTTP_RETRIES": "0"}


def test_dagsters_retry_goes_on_where_the_run_was(
    account: SimulatedZendesk, environment: dict[str, str], tmp_path: Path
) -> None:
    """The daemon's retry of a range that the catch-up sensor asked for begins at the first unfinished window."""
    time = SimulatedTime(SPAN.end + 20 * 60, account.control.set_clock)
    place = home(tmp_path / "dagster")
    written = (place / "dagster.yaml").read_text()
    (place / "dagster.yaml").write_text(written.replace("failure: false", "failure: true"))
    chosen = {**_environment(account, environment), "RESOURCES": "audit_logs", "DAGSTER_HOME": str(place)}
    time.move_to(time.now)
    _fail_after(account, 7)
    with on_the_clock(time, chosen), daemon(place) as running:
        running.tick(time)
        (failed,) = running.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        finished = len(materializations(running.instance, "audit_logs"))
        account.control.clear_faults()
        account.control.forget_requests()
        assert list(consume_new_runs_for_automatic_reexecution(running.workspace, [failed], LOGGER)) == [None]
        time.move_to(time.now + 60)
        running.tick(time)
        (retry,) = running.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
        told = materializations(running.instance, "audit_logs")[finished:]
    assert 0 < finished < len(SPAN)
    assert retry.parent_run_id == failed.dagster_run.run_id
    assert _asked_from(account)[0] == timestamp(SPAN.start + finished * HOUR - HOUR - 1)
    assert [event.partition for event in told] == _keys(list(SPAN))


def test_a_run_that_makes_progress_is_not_ended(
    account: SimulatedZendesk, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range that takes longer than `max_runtime_seconds` while Dagster's own monitoring looks all the time."""
    monkeypatch.setattr(long_runs, "REPORT_SECONDS", 60)
    place = home(tmp_path / "dagster")
    written = (place / "dagster.yaml").read_text()
    (place / "dagster.yaml").write_text(written.replace("max_runtime_seconds: 86400", f"max_runtime_seconds: {LIMIT}"))
    looks: list[Callable[[], object]] = []
    span = hours(72)

    def follow(now: float) -> None:
        account.control.set_clock(now)
        for look in looks:
            look()

    time = SimulatedTime(span.end + 20 * 60, follow)
    time.move_to(time.now)
    slow = {"RESOURCES": "incremental_tickets", "ZENDESK_EXPORT_RATE": "1"}
    chosen = {**_environment(account, environment), **slow, "DAGSTER_HOME": str(place)}
    with on_the_clock(time, chosen), daemon(place) as running:
        looks.append(lambda: list(execute_run_monitoring_iteration(running.workspace, LOGGER)))
        began = time.now
        running.tick(time)
        looks.clear()
        (record,) = running.instance.get_run_records()
        told = materializations(running.instance, "incremental_tickets")
    assert time.now - began > LIMIT + 60
    assert record.dagster_run.is_success
    assert int(record.dagster_run.tags[dg.MAX_RUNTIME_SECONDS_TAG]) > LIMIT
    assert {event.partition for event in told} == set(_keys(list(span)))


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance by the project's own dagster.yaml: a run may take a day."""
    with dg.DagsterInstance.from_config(str(kept_runs.home(tmp_path / "limited"))) as instance:
        yield instance


def _started(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> str:
    """A run that has begun, at the time that it is for Dagster."""
    run = instance.create_run_for_job(dg.GraphDefinition("nothing").to_job(), tags=tags)
    begins = DagsterEvent(event_type_value=dg.DagsterEventType.RUN_START.value, job_name=run.job_name)
    instance.report_dagster_event(begins, run.run_id)
    return run.run_id


def _is_ended(instance: dg.DagsterInstance, run_id: str, at: datetime) -> bool:
    """Whether Dagster's run monitoring ends the run at that time."""
    record = instance.get_run_record_by_id(run_id)
    assert record
    with freeze_time(at):
        check_run_timeout(instance, record, LOGGER, float(instance.run_monitoring_max_runtime_seconds))
    after = instance.get_run_by_id(run_id)
    assert after
    return after.is_finished


def _begun(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> str:
    with freeze_time(BEGUN):
        return _started(instance, tags)


def test_a_run_that_hangs_is_ended(limited: dg.DagsterInstance) -> None:
    """A day after its last progress, whenever that was; and not before."""
    run_id = _begun(limited)
    for hour in (0, 6, 18, 30):
        assert not _is_ended(limited, run_id, BEGUN + timedelta(hours=hour))
        put_off_end(limited, run_id, (BEGUN + timedelta(hours=hour)).timestamp())
    assert not _is_ended(limited, run_id, BEGUN + timedelta(hours=30 + 23))
    assert _is_ended(limited, run_id, BEGUN + timedelta(hours=30 + 25))


def test_an_ordinary_run_has_no_limit_of_its_own(limited: dg.DagsterInstance) -> None:
    """As long as it is through with its range in two hours, nothing is written."""
    run_id = _begun(limited)
    for hour in (0, 1, 2):
        put_off_end(limited, run_id, (BEGUN + timedelta(hours=hour)).timestamp())
    run = limited.get_run_by_id(run_id)
    assert run
    assert dg.MAX_RUNTIME_SECONDS_TAG not in run.tags


@pytest.mark.parametrize("tag", ["dagster/max_runtime", "dagster/max_runtime_seconds"])
def test_a_limit_that_a_person_chose_stays(limited: dg.DagsterInstance, tag: str) -> None:
    """The tag of a run by which Dagster takes it is theirs."""
    run_id = _begun(limited, {tag: "7200"})
    put_off_end(limited, run_id, (BEGUN + timedelta(hours=1.9)).timestamp())
    assert _is_ended(limited, run_id, BEGUN + timedelta(hours=2.1))


def test_a_retry_does_not_inherit_the_time_of_its_parent(limited: dg.DagsterInstance) -> None:
    """Dagster copies tags to a retry: a parent that took three days must not let it hang for three."""
    run_id = _begun(limited, {dg.MAX_RUNTIME_SECONDS_TAG: str(4 * 24 * HOUR), MOVES_ON: "moves on with the run"})
    put_off_end(limited, run_id, BEGUN.timestamp())
    assert _is_ended(limited, run_id, BEGUN + timedelta(hours=25))


def test_where_no_run_is_ended_none_is_put_off(tmp_path: Path) -> None:
    """Without run monitoring, or without a bound in it, a run gets no tags."""
    for name, written in {"none": "", "no_bound": "run_monitoring: {enabled: true}"}.items():
        (place := tmp_path / name).mkdir()
        (place / "dagster.yaml").write_text(written)
        with dg.DagsterInstance.from_config(str(place)) as instance:
            run_id = _begun(instance)
            put_off_end(instance, run_id, (BEGUN + timedelta(days=9)).timestamp())
            run = instance.get_run_by_id(run_id)
        assert run
        assert dg.MAX_RUNTIME_SECONDS_TAG not in run.tags
