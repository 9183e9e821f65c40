"""Each delivered window is read again at Zendesk when it is a day old, and what was missing in it is delivered."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window
from zendesk_pipeline.orchestration.comparison import (
    COMPARES,
    LEDGER_LOST,
    REACH,
    ComparedWindows,
    Work,
    compared_windows,
    due_until,
    is_due,
    is_waited_for,
)
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, Fate, S3Request, kill_at, s3_proxy
from zendesk_pipeline_tests.promise.collector_process import KILLED, Collection, collect, collecting
from zendesk_pipeline_tests.reconcile import reconcile
from zendesk_pipeline_tests.runs import QUIET, Project, metadata, project

pytestmark = QUIET

EXPORTS = (
    "incremental_tickets",
    "incremental_ticket_events",
    "incremental_users",
    "incremental_organizations",
    "ticket_metric_events",
)
LAG = 20 * 60
LATER = 2 * DAY
"""Seconds from the first window on: by then it is a day old, and so are all of the first day's."""


@pytest.fixture
def collector(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over the simulated Zendesk and SeaweedFS; tests are about what no look-back finds."""
    with project({**environment, "HTTP_RETRIES": "0", "LOOKBACK_SECONDS": "0"}, monkeypatch) as running:
        yield running


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk, as schedules need one."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def _compared(collector: Project, stream: str, days: int = 0) -> dg.AssetCheckEvaluation:
    """The verdict of a stream's comparison two days after the first window, or later."""
    clock = FakeClock(float(FIRST.start + LATER + days * DAY)).clock
    job = build(settings.load(), clock).resolve_job_def("reconciliation")
    key = dg.AssetCheckKey(dg.AssetKey("secops_feed"), f"{stream}_match_source")
    result = job.get_subset(asset_check_selection={key}).execute_in_process(
        instance=collector.instance, raise_on_error=False
    )
    (verdict,) = result.get_asset_check_evaluations()
    return verdict


def _said(verdict: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in verdict.metadata.items() if name != "compared"}


def _observed(collector: Project, stream: str) -> dict[str, dict[str, Any]]:
    """What observations say of the windows of a stream."""
    records = collector.instance.fetch_observations(dg.AssetKey(stream), limit=9).records
    return {str(event.partition): metadata(event) for record in records if (event := record.asset_observation)}


def _lagging(zendesk: SimulatedZendesk, stream: str, collector: Project, span: Span) -> None:
    """Collect windows while their export is twenty minutes behind and says that it has come to its end."""
    zendesk.control.set(lag={stream: LAG})
    for window in span:
        zendesk.control.set_clock(window.end + 300)
        assert collector.run(stream, Span(window.start, window.end)).success
    zendesk.control.set(lag={})
    zendesk.control.set_clock(FIRST.start + LATER)


# What is found


@pytest.mark.parametrize("stream", EXPORTS)
def test_what_an_export_shows_later_comes_with_the_next_window(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    stream: str,
) -> None:
    """An export that is twenty minutes behind ends before its window does: the look-back of the next run has it all."""
    first = Span(FIRST.start, FIRST.end)
    with project({**environment, "RESOURCES": stream}, monkeypatch) as collector:
        _lagging(zendesk, stream, collector, first)
        assert reconcile(zendesk.control, s3, layout, stream, first).missing > 0
        zendesk.control.set(lag={stream: LAG})
        zendesk.control.set_clock(FIRST.end + HOUR + 300)
        assert collector.run(stream, hours(1, skip=1)).success
    zendesk.control.set(lag={})
    verdict = reconcile(zendesk.control, s3, layout, stream, first)
    assert verdict.exact
    assert verdict.source > 0


@pytest.mark.parametrize("stream", ["audit_logs", *EXPORTS])
def test_what_no_look_back_has_found_comes_a_day_later(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    stream: str,
) -> None:
    """It is delivered into its window once, and told: in the verdict, and as an observation of the window."""
    chosen = {**environment, "RESOURCES": stream, "LOOKBACK_SECONDS": "0"}
    with project(chosen, monkeypatch) as collector:
        if stream == "audit_logs":
            late = b'{"id":7,"created_at":"2026-11-12T05:59:00Z"}'
            zendesk.control.add_records(stream, [late], visible_at=FIRST.end + 2 * HOUR)
        _lagging(zendesk, stream, collector, hours(2))
        missing = {
            window: count
            for window in hours(2)
            if (count := reconcile(zendesk.control, s3, layout, stream, Span(window.start, window.end)).missing)
        }
        found, again = _compared(collector, stream), _compared(collector, stream)
        observed = _observed(collector, stream)
    assert missing
    assert reconcile(zendesk.control, s3, layout, stream, hours(2)).exact
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert found.description == "; ".join(
        f"{window}: {count:,} records were missing, and are delivered now" for window, count in missing.items()
    )
    assert (_said(found)["windows"], _said(found)["records_delivered"]) == (2, sum(missing.values()))
    late = {window: event["late_arrivals"] for window, event in observed.items()}
    assert late == {window.partition_key: count for window, count in missing.items()}
    assert again.passed
    assert _said(again)["windows"] == 0


def test_a_window_is_compared_once(collector: Project, zendesk: SimulatedZendesk) -> None:
    """A day costs one walk, whatever the number of its windows; the next day is about other windows."""
    collector.run("incremental_tickets", hours(12))
    zendesk.control.forget_requests()
    first = _compared(collector, "incremental_tickets")
    asked = len(zendesk.control.requests())
    second = _compared(collector, "incremental_tickets")
    collector.run("incremental_tickets", hours(1, skip=24))
    zendesk.control.forget_requests()
    third = _compared(collector, "incremental_tickets", days=1)
    starts = [seen.pairs[0] for seen in zendesk.control.requests()]
    assert all(verdict.passed for verdict in (first, second, third))
    assert [_said(verdict)["windows"] for verdict in (first, second, third)] == [12, 0, 1]
    assert asked == _said(first)["pages"] > 1
    assert starts[0] == ("start_time", str(FIRST.start + DAY))


def test_windows_that_are_not_delivered_are_left_to_their_runs(collector: Project, zendesk: SimulatedZendesk) -> None:
    """The comparison reads what was delivered, and a window that a later run delivers when it is there."""
    for span in (hours(2), hours(2, skip=3)):
        collector.run("audit_logs", span)
    assert _said(_compared(collector, "audit_logs"))["windows"] == 4
    collector.run("audit_logs", hours(1, skip=2))
    zendesk.control.forget_requests()
    assert _said(_compared(collector, "audit_logs"))["windows"] == 1
    assert len(zendesk.control.requests()) == 1


def test_where_nothing_is_delivered_zendesk_is_not_asked(collector: Project, zendesk: SimulatedZendesk) -> None:
    """A new installation passes."""
    assert _compared(collector, "audit_logs").passed
    assert zendesk.control.requests() == []


def test_a_comparison_that_breaks_is_an_error_and_is_made_up_for(collector: Project, zendesk: SimulatedZendesk) -> None:
    """With the sentence of the failure; what it had not reached is compared by the next one."""
    collector.run("audit_logs", hours(3))
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=503, times=0))
    broken = _compared(collector, "audit_logs")
    zendesk.control.clear_faults()
    assert not broken.passed
    assert broken.severity is dg.AssetCheckSeverity.ERROR
    assert (broken.description or "").startswith("it could not be looked at: Zendesk")
    assert _said(broken)["windows_left"] == 3
    assert _said(_compared(collector, "audit_logs"))["windows"] == 3


def test_an_hour_that_zendesk_cannot_show_does_not_hold_up_the_hours_behind_it(
    collector: Project, zendesk: SimulatedZendesk
) -> None:
    """It is told at each look, with what was before it; what is behind it is compared at once."""
    for span in (hours(3), hours(3, skip=6)):
        assert collector.run("incremental_tickets", span).success
    zendesk.control.set(unreadable={"incremental_tickets": (FIRST.start + 4 * HOUR, FIRST.start + 5 * HOUR)})
    verdict = _compared(collector, "incremental_tickets")
    assert not verdict.passed
    assert (verdict.description or "").startswith("it could not be looked at: Zendesk")
    assert 3 <= _said(verdict)["windows"] == 6 - _said(verdict)["windows_left"]


def test_a_window_that_cannot_be_written_to_does_not_hold_up_its_day(
    collector: Project, s3: LocalS3, layout: Layout
) -> None:
    """Its ledger cannot be read: that is told, and all others are compared, one by one."""
    collector.run("audit_logs", hours(6))
    broken = layout.ledger("audit_logs", [*hours(6)][3])
    s3.client().put_object(Bucket=s3.bucket, Key=broken, Body=b"{")
    verdict = _compared(collector, "audit_logs")
    assert not verdict.passed
    assert LEDGER_LOST in (verdict.description or "")
    assert (_said(verdict)["windows"], _said(verdict)["windows_left"]) == (5, 0)


def test_an_hour_of_more_pages_than_a_day_may_cost_is_told_at_once(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each day would read them in vain."""
    with project({**environment, "RESOURCES": "incremental_tickets", "COMPARISON_PAGES": "1"}, monkeypatch) as running:
        assert running.run("incremental_tickets", hours(1)).success
        verdict = _compared(running, "incremental_tickets")
    assert not verdict.passed
    assert verdict.description == "2026-11-12 05:00: 1 pages finished no window: a larger COMPARISON_PAGES does"


@pytest.mark.parametrize("after", ["it is gone", "it is damaged", "a run that may not list found none"])
def test_a_window_without_a_ledger_is_told_and_not_sent_again(
    collector: Project, zendesk: SimulatedZendesk, store: Store, layout: Layout, after: str
) -> None:
    """Nobody knows what was delivered, as where STATE_PREFIX was changed: the windows around it are compared."""
    stream, (_, window, _) = "audit_logs", hours(3)
    zendesk.control.set_clock(FIRST.start + LATER - HOUR)
    assert collector.run(stream, hours(3)).success
    for key in store.keys(layout.feed):
        store.client.delete_object(Bucket=store.bucket, Key=key)
    key = layout.ledger(stream, window)
    store.client.delete_object(Bucket=store.bucket, Key=key)
    if after != "it is gone":
        body = b"damaged" if after == "it is damaged" else ledgers.encode(ledgers.empty(stream, window))
        store.client.put_object(Bucket=store.bucket, Key=key, Body=body)
    zendesk.control.set_clock(FIRST.start + LATER)
    first, again, next_day = (_compared(collector, stream, days=days) for days in (0, 0, 1))
    assert store.keys(layout.feed) == []
    assert not first.passed
    assert first.severity is dg.AssetCheckSeverity.ERROR
    assert first.description == f"{window}: 1 {LEDGER_LOST}: nothing is delivered into them"
    assert [_said(each)["windows"] for each in (first, again, next_day)] == [2, 0, 0]
    assert [_said(each)["windows_left"] for each in (first, again, next_day)] == [0, 0, 0]
    assert first.description == again.description == next_day.description


@pytest.mark.parametrize("prefix", ["crm", "state"])
def test_only_what_is_stored_is_called_delivered(
    collector: Project,
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
) -> None:
    """Where S3 takes no object of a window, or not its ledger, the verdict and the observations name the other alone.

    The next comparison delivers what is missing still.
    """
    stream = "incremental_tickets"
    first, second = hours(2)
    _lagging(zendesk, stream, collector, hours(2))
    missing = reconcile(zendesk.control, s3, layout, stream, Span(first.start, first.end)).missing
    assert reconcile(zendesk.control, s3, layout, stream, Span(second.start, second.end)).missing

    def refuses(request: S3Request) -> Fate:
        path = f"/{prefix}/" in request.key and f"{second.starts_at:/%H}" in request.key
        return Answer(status=400, code="InvalidRequest") if request.method == "PUT" and path else "pass"

    with s3_proxy(s3.endpoint) as proxy:
        proxy.decide = refuses
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        failed = _compared(collector, stream)
        observed = _observed(collector, stream)
        proxy.reset()
        _compared(collector, stream)
    assert _said(failed)["records_delivered"] == missing
    told = [text for text in (failed.description or "").split("; ") if "were missing" in text]
    assert (failed.description or "").startswith("it could not be looked at: S3")
    assert told == [f"{first}: {missing:,} records were missing, and are delivered now"]
    assert {window: event["delivered_by_this_run"] for window, event in observed.items()} == {
        first.partition_key: missing
    }
    assert reconcile(zendesk.control, s3, layout, stream, hours(2)).exact


def test_a_window_that_has_a_ledger_again_is_compared(
    collector: Project, zendesk: SimulatedZendesk, store: Store, layout: Layout
) -> None:
    """The verdict passes by the next day."""
    zendesk.control.set_clock(FIRST.start + LATER - HOUR)
    assert collector.run("audit_logs", hours(1)).success
    key = layout.ledger("audit_logs", FIRST)
    kept = store.get(key)
    assert kept
    store.client.delete_object(Bucket=store.bucket, Key=key)
    zendesk.control.set_clock(FIRST.start + LATER)
    assert not _compared(collector, "audit_logs").passed
    store.client.put_object(Bucket=store.bucket, Key=key, Body=kept.body)
    verdict = _compared(collector, "audit_logs", days=1)
    assert verdict.passed
    assert _said(verdict)["windows"] == 1


# What bounds it


def test_comparison_pages_is_what_a_day_may_cost(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So many pages a day and stream and no more; what is left goes on the next day, until all is compared."""
    chosen = {**environment, "RESOURCES": "audit_logs", "LOOKBACK_SECONDS": "0", "COMPARISON_PAGES": "4"}
    late = b'{"id":7,"created_at":"2026-11-13T02:30:00Z"}'
    zendesk.control.add_records("audit_logs", [late], visible_at=FIRST.start + LATER)
    with project(chosen, monkeypatch) as collector:
        zendesk.control.set_clock(FIRST.start + LATER - HOUR)
        assert collector.run("audit_logs", hours(22)).success
        zendesk.control.set_clock(FIRST.start + LATER)
        costs: list[int] = []
        left: list[int] = []
        for day in (0, 0, 1, 2, 3, 4, 5, 6):
            zendesk.control.forget_requests()
            left.append(_said(_compared(collector, "audit_logs", days=day))["windows_left"])
            costs.append(len(zendesk.control.requests()))
            if not left[-1]:
                break
    assert costs[:3] == [4, 0, 4]
    assert max(costs) == 4
    assert 22 > left[0] == left[1] > left[2] > 0
    assert left[-1] == 0
    assert reconcile(zendesk.control, s3, layout, "audit_logs", hours(22)).exact


def test_comparison_pages_of_none_switches_it_off(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    monkeypatch: pytest.MonkeyPatch,
    recorded: dg.DagsterInstance,
) -> None:
    """COMPARISON_PAGES=0: no run is asked for, and one that a person asks for does nothing."""
    with project({**environment, "COMPARISON_PAGES": "0"}, monkeypatch) as collector:
        collector.run("audit_logs", hours(1))
        zendesk.control.forget_requests()
        verdict = _compared(collector, "audit_logs")
    assert _asked_for(recorded, datetime(2026, 11, 14, 3, 35, tzinfo=UTC)) == []
    assert verdict.passed
    assert verdict.description == "Switched off: COMPARISON_PAGES=0."
    assert zendesk.control.requests() == []


def test_what_failed_before_it_was_switched_off_is_taken_back(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    monkeypatch: pytest.MonkeyPatch,
    recorded: dg.DagsterInstance,
) -> None:
    """Or its alert would never end: one more run passes, asks Zendesk nothing and forgets nothing of what was done."""
    at = datetime(2026, 11, 14, 4, 35, tzinfo=UTC)
    with project({**environment, "RESOURCES": "audit_logs", "HTTP_RETRIES": "0"}, monkeypatch) as ephemeral:
        collector = Project(definitions=ephemeral.definitions, instance=recorded)
        collector.run("audit_logs", hours(1))
        done = _compared(collector, "audit_logs")
        collector.run("audit_logs", hours(1, skip=1))
        zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=503, times=0))
        assert not _compared(collector, "audit_logs").passed
    zendesk.control.clear_faults()
    zendesk.control.forget_requests()
    with project({**environment, "RESOURCES": "audit_logs", "COMPARISON_PAGES": "0"}, monkeypatch) as ephemeral:
        collector = Project(definitions=ephemeral.definitions, instance=recorded)
        assert len(_asked_for(recorded, at)) == 1
        verdict = _compared(collector, "audit_logs")
        assert _asked_for(recorded, at) == []
    assert verdict.passed
    assert zendesk.control.requests() == []
    memories = [compared_windows(each) for each in (done, verdict)]
    assert [memory.spans for memory in memories if memory] == [[(FIRST.start, FIRST.end)]] * 2


def test_a_comparison_stands_back_where_a_collection_waits(collector: Project, zendesk: SimulatedZendesk) -> None:
    """It ends after the page that finishes a window, and goes on another time; another comparison is no reason."""
    collector.run("incremental_tickets", hours(22))
    waiting = _queued(collector.instance, {}, "incremental_tickets")
    zendesk.control.add_faults(Rule(path="incremental", kind="status", code=504, times=0, larger_than=125))
    stood_back = _compared(collector, "incremental_tickets")
    collector.instance.delete_run(waiting.run_id)
    _queued(collector.instance, {COMPARES: "x"}, "incremental_tickets")
    went_on = _compared(collector, "incremental_tickets")
    assert stood_back.passed
    assert 0 < _said(stood_back)["windows"] < 22
    assert _said(stood_back)["windows_left"] == 22 - _said(stood_back)["windows"]
    assert (_said(went_on)["windows"], _said(went_on)["windows_left"]) == (_said(stood_back)["windows_left"], 0)


def test_other_peoples_runs_in_the_queue_do_not_hold_a_comparison_up(collector: Project) -> None:
    """Nor do those of a stream with a rate limit of its own: an instance may have a queue that is never empty."""
    collector.run("audit_logs", hours(22))
    _queued(collector.instance, {}, "somebody_elses")
    _queued(collector.instance, {}, "incremental_tickets")
    verdict = _compared(collector, "audit_logs")
    assert (_said(verdict)["windows"], _said(verdict)["windows_left"]) == (22, 0)


def _queued(instance: dg.DagsterInstance, tags: dict[str, str], asset: str) -> dg.DagsterRun:
    target = LoadableTargetOrigin(module_name="zendesk_pipeline.definitions")
    origin = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name="zendesk_pipeline")
    return instance.add_run(
        dg.DagsterRun(
            job_name="hourly_collection",
            status=dg.DagsterRunStatus.QUEUED,
            tags=tags,
            asset_selection={dg.AssetKey(asset)},
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(origin, "__repository__"), "hourly_collection"),
        )
    )


def test_a_step_that_waits_for_the_pool_is_waited_for(recorded: dg.DagsterInstance) -> None:
    """One that has it is not, and a comparison that waits neither."""
    job = build(settings.load()).resolve_job_def("hourly_collection")
    storage, pool = recorded.event_log_storage, "zendesk_audit_logs"
    storage.set_concurrency_slots(pool, 1)
    first, second, third = (
        recorded.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags).run_id
        for tags in ({COMPARES: "x"}, {COMPARES: "y"}, {})
    )
    storage.claim_concurrency_slot(pool, first, "step")
    assert not is_waited_for(recorded, pool, [])
    storage.claim_concurrency_slot(pool, second, "step")
    assert not is_waited_for(recorded, pool, [])
    storage.claim_concurrency_slot(pool, third, "step")
    assert is_waited_for(recorded, pool, [])


# What it must survive


@pytest.mark.parametrize(("moment", "put"), [("before", 1), ("after", 1), ("before", 2), ("after", 2), ("before", 4)])
def test_killed_and_run_again_a_comparison_repeats_nothing(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    put: int,
) -> None:
    """kill -9 before or after a write: what was missing is in the feed once when the next comparison has ended."""
    stream = "incremental_tickets"
    with project({**environment, "LOOKBACK_SECONDS": "0"}, monkeypatch) as collector:
        _lagging(zendesk, stream, collector, hours(3))
    with s3_proxy(s3.endpoint) as proxy:
        at = FIRST.start + LATER
        chosen = {**environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint, "BATCH_BYTES": "30000"}
        comparison = Collection(stream=stream, span=hours(3), environment=chosen, compares_at=at)
        with collecting(comparison) as process:
            kill_at(proxy, process.kill, moment, put)
            process.join(60)
        died = process.exitcode
        proxy.reset()
        assert collect(comparison) == 0
    assert died in KILLED
    assert reconcile(zendesk.control, s3, layout, stream, hours(3)).exact


# When


def _asked_for(instance: dg.DagsterInstance, at: datetime) -> list[dg.RunRequest]:
    definitions = build(settings.load())
    context = dg.build_schedule_context(
        instance=instance, scheduled_execution_time=at, repository_def=definitions.get_repository_def()
    )
    tick: Any = definitions.resolve_schedule_def("reconciliation_schedule").evaluate_tick(context)
    return tick.run_requests or []


def test_each_stream_is_asked_for_once_a_day(
    environment: dict[str, str], recorded: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 03:35 on; what is done is not asked for again on that day, and what is under way neither."""
    early, later = datetime(2026, 11, 14, 3, 35, tzinfo=UTC), datetime(2026, 11, 14, 11, 35, tzinfo=UTC)
    with project(environment, monkeypatch) as ephemeral:
        collector = Project(definitions=ephemeral.definitions, instance=recorded)
    asked = _asked_for(recorded, early)
    assert [[key.name for key in request.asset_check_keys or []] for request in asked] == [
        ["audit_logs_match_source"],
        ["incremental_tickets_match_source"],
    ]
    assert all(request.tags["dagster/priority"] == "-1" and COMPARES in request.tags for request in asked)
    assert len({request.run_key for request in asked}) == 2
    _compared(collector, "audit_logs")
    job = collector.definitions.resolve_job_def("reconciliation")
    under_way = job.get_subset(
        asset_check_selection={dg.AssetCheckKey(dg.AssetKey("secops_feed"), "incremental_tickets_match_source")}
    )
    collector.instance.create_run_for_job(under_way, status=dg.DagsterRunStatus.STARTED)
    assert _asked_for(recorded, later) == []
    following = [
        [key.name for key in each.asset_check_keys or []] for each in _asked_for(recorded, early.replace(day=15))
    ]
    assert following == [["audit_logs_match_source"]]


def test_what_was_not_done_is_asked_for_an_hour_later(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    recorded: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a failure, until it is done."""
    with project({**environment, "HTTP_RETRIES": "0"}, monkeypatch) as ephemeral:
        collector = Project(definitions=ephemeral.definitions, instance=recorded)
    collector.run("audit_logs", hours(1))
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=503, times=0))
    _compared(collector, "audit_logs")
    keys = [
        key.name
        for each in _asked_for(recorded, datetime(2026, 11, 14, 6, 35, tzinfo=UTC))
        for key in each.asset_check_keys or []
    ]
    assert "audit_logs_match_source" in keys


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-11-14T03:00", "2026-11-13T03:00"),
        ("2026-11-14T03:35", "2026-11-13T03:00"),
        ("2026-11-15T02:59", "2026-11-13T03:00"),
        ("2026-11-15T03:00", "2026-11-14T03:00"),
    ],
)
def test_what_is_due_moves_once_a_day(now: str, until: str) -> None:
    """All windows that were a day old at three o'clock."""
    at, end = (datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in (now, until))
    assert due_until(at) == end


def test_what_is_compared_is_remembered_as_far_as_it_can_be_due() -> None:
    """Windows older than the reach are neither due nor remembered; one that soon is so old is told of."""
    until = hours(1).start + REACH
    windows = [Window(until - REACH + number * HOUR) for number in (-1, 0, 1, 200)]
    work = Work.of(None, windows, until)
    assert work.due == windows[1:]
    assert work.nearly_lost == windows[1:3]
    work.takes(windows[1:2], pages=3)
    kept = Work.of(work.for_the_next, windows, until)
    later = Work.of(work.for_the_next, windows, until + DAY)
    assert (kept.due, kept.pages) == (windows[2:], 3)
    assert (later.due, later.pages, later.compared) == (windows[3:], 0, set())


def test_a_verdict_of_an_older_release_is_no_memory() -> None:
    """Then everything within reach is due; a stream that may read nothing is never due."""
    assert is_due(None, 0.0, 1)
    assert not is_due(None, 0.0, 0)
    now = float(FIRST.start)
    done = ComparedWindows(until=due_until(now), pages=5)
    assert not is_due(done, now, 5)
    assert is_due(ComparedWindows(until=done.until, pages=4, left=1), now, 5)
    assert not is_due(ComparedWindows(until=done.until, pages=5, left=1), now, 5)
    assert is_due(ComparedWindows(until=done.until, pages=5, left=1), now + DAY, 5)


def test_a_comparison_holds_what_a_run_would_hold(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    store: Store,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """What is missing stays here while it has a new field that no redaction rule speaks of; let pass, it is delivered.

    Either way the field is in the catalogue, and waits for somebody to decide.
    """
    stream = "incremental_tickets"
    (rules := tmp_path / "rules.yaml").write_text(f"{stream}:\n  - drop: [description]\n")
    chosen = {"RESOURCES": stream, "LOOKBACK_SECONDS": "0", "REDACTION_RULES": str(rules)}
    first, key = Span(FIRST.start, FIRST.end), layout.catalogue(stream)
    with project({**environment, **chosen, "REDACTION_NEW_FIELDS": "hold"}, monkeypatch) as collector:
        _lagging(zendesk, stream, collector, first)
        before = store.get(key)
        assert before
        catalogue = json.loads(before.body)
        del catalogue["seen"]["via.channel"]
        assert store.put_over(key, json.dumps(catalogue).encode(), before.version)
        delivered = store.keys(layout.feed)
        held = _compared(collector, stream)
        assert store.keys(layout.feed) == delivered
        monkeypatch.setenv("REDACTION_NEW_FIELDS", "tell")
        told = _compared(collector, stream)
        assert len(store.keys(layout.feed)) > len(delivered)
    assert "for the first time via.channel, and no redaction rule speaks of it" in (held.description or "")
    assert _said(held)["records_delivered"] == 0 < _said(told)["records_delivered"]
    after = store.get(key)
    assert after
    assert json.loads(after.body)["unruled"] == ["via.channel"]
