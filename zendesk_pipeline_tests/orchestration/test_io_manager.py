"""What Dagster reports of windows, whatever becomes of their run; and records for assets downstream."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster_aws.s3 import S3Resource

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import AUDIT_LOGS
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration.assets import describe
from zendesk_pipeline.orchestration.io_manager import PageStream, S3IOManager
from zendesk_pipeline.orchestration.window_metadata import MOST_OBJECTS_LISTED
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours, paged
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries
from zendesk_pipeline_tests.runs import (
    QUIET,
    RANGE_END,
    RANGE_START,
    Project,
    description,
    materializations,
    metadata,
    project,
)

pytestmark = QUIET
SPAN = hours(3)
RECORDS = audit_logs(SPAN)
WINDOWS = dg.HourlyPartitionsDefinition(start_date="2026-11-12-05:00", end_offset=1)
PARTITIONS = [window.partition_key for window in SPAN]


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    """Where `environment` delivers to."""
    return Bucket(store=store, layout=layout)


@pytest.fixture
def collector(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over the simulated Zendesk and SeaweedFS, without retries."""
    with project({**environment, "HTTP_RETRIES": "0"}, monkeypatch) as running:
        yield running


def _sent(zendesk: SimulatedZendesk, stream: str, span: Span) -> list[bytes]:
    return sorted(zendesk.control.source(stream, span.start, span.end))


def _time(line: bytes) -> int:
    return json.loads(line)["generated_timestamp"]


# What is reported


@pytest.mark.parametrize("span", [pytest.param(hours(1), id="one-window"), pytest.param(SPAN, id="range")])
def test_each_window_is_materialized_once(
    collector: Project, zendesk: SimulatedZendesk, bucket: Bucket, span: Span
) -> None:
    """A run over a range reports every window of it, each once, and the feed holds what Zendesk has."""
    assert collector.run("incremental_tickets", span).success
    assert [event.partition for event in collector.materialized("incremental_tickets")] == PARTITIONS[: len(span)]
    assert bucket.lines() == _sent(zendesk, "incremental_tickets", span)


@pytest.mark.parametrize("many", [pytest.param(1000, id="few-windows"), pytest.param(2, id="many-windows")])
def test_a_materialization_tells_what_its_window_holds(
    collector: Project, zendesk: SimulatedZendesk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Records, bytes, objects and times are those of the bucket, window by window, however long the range is."""
    monkeypatch.setattr("zendesk_pipeline.orchestration.assets.MANY_WINDOWS", many)
    collector.run("incremental_tickets", SPAN)
    events = {str(event.partition): metadata(event) for event in collector.materialized("incremental_tickets")}
    for window in SPAN:
        told, sent = events[window.partition_key], _sent(zendesk, "incremental_tickets", Span(window.start, window.end))
        held = {key: body for key, body in bucket.feed().items() if f"/{window.starts_at:%H}0000-" in key}
        assert told["records"] == told["delivered_by_this_run"] == len(sent)
        assert told["dagster/partition_row_count"] == len(sent)
        assert told["bytes"] == sum(map(len, held.values())) == sum(len(line) + 1 for line in sent)
        assert sorted(told["objects"]) == [f"s3://{bucket.store.bucket}/{key}" for key in held]
        assert told["object_count"] == len(held)
        assert told["ledger"] == f"s3://{bucket.store.bucket}/{bucket.layout.ledger('incremental_tickets', window)}"
        assert told["first_record"] == min(map(_time, sent))
        assert told["last_record"] == max(map(_time, sent))
        assert (told["duplicates_removed"], told["late_arrivals"], told["quarantined"]) == (0, 0, 0)
        assert told["lag_seconds"] > 0


def test_the_windows_of_a_run_account_for_its_requests(collector: Project, zendesk: SimulatedZendesk) -> None:
    """The requests that windows report add up to those that Zendesk saw; each page counts for the windows it filled."""
    collector.run("audit_logs", hours(12))
    events = [metadata(event) for event in collector.materialized("audit_logs")]
    assert sum(event["requests"] for event in events) == len(zendesk.control.requests())
    assert all(event["pages"] in {1, 2} for event in events if event["records"])


def test_waiting_for_the_rate_limit_is_told(collector: Project, zendesk: SimulatedZendesk) -> None:
    """Seconds spent on a 429 are in the metadata of the window that waited, and its request is counted."""
    zendesk.control.add_faults(Rule(path="/api/v2/audit_logs", kind="status", code=429, retry_after="seconds:1"))
    collector.run("audit_logs", hours(1))
    (event,) = collector.materialized("audit_logs")
    assert metadata(event)["rate_limit_wait_seconds"] >= 1
    assert metadata(event)["requests"] == 2


def test_a_run_again_tells_what_it_removed(collector: Project, zendesk: SimulatedZendesk) -> None:
    """A second run of a window reports all of it as duplicates removed, and still what the window holds in all."""
    for _ in range(2):
        collector.run("audit_logs", hours(1))
    sent = len(_sent(zendesk, "audit_logs", hours(1)))
    again = metadata(collector.materialized("audit_logs")[1])
    assert (again["records"], again["delivered_by_this_run"], again["duplicates_removed"]) == (sent, 0, sent)


def test_an_empty_window_is_materialized(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour in which nothing happened is reported with zero records, not missing."""
    before_the_history = Span(FIRST.start - 24 * HOUR, FIRST.end - 24 * HOUR)
    with project({**environment, "START_DATE": "2026-11-11"}, monkeypatch) as running:
        running.run("audit_logs", before_the_history)
        (event,) = running.materialized("audit_logs")
    assert (event.partition, metadata(event)["records"], metadata(event)["objects"]) == ("2026-11-11-05:00", 0, [])
    assert "first_record" not in metadata(event)


def test_late_arrivals_are_noted_at_their_own_window(
    collector: Project, zendesk: SimulatedZendesk, bucket: Bucket
) -> None:
    """A record that showed up late is delivered by the next hour's run, and observed at the hour it belongs to."""
    collector.run("audit_logs", hours(1))
    late = audit_log(7, FIRST.end - 60)
    zendesk.control.add_records("audit_logs", [late.line])
    result = collector.run("audit_logs", hours(1, skip=1))
    (observed,) = result.get_asset_observation_events()
    observation = observed.asset_observation_data.asset_observation
    assert observation.partition == PARTITIONS[0]
    assert (metadata(observation)["late_arrivals"], metadata(observation)["delivered_by_this_run"]) == (1, 1)
    assert late.line in bucket.lines()


def test_a_record_too_long_for_a_line_is_told(collector: Project, zendesk: SimulatedZendesk, bucket: Bucket) -> None:
    """A quarantined record is counted at its window and lies whole in the quarantine."""
    long = audit_log(7, FIRST.start + 60, "x" * 4_000_000)
    zendesk.control.add_records("audit_logs", [long.line])
    collector.run("audit_logs", hours(1))
    (event,) = collector.materialized("audit_logs")
    assert metadata(event)["quarantined"] == 1
    assert [bucket.body(key) for key in bucket.stored(bucket.layout.quarantine)] == [long.line]


def test_of_many_objects_the_first_are_listed(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of very many objects does not fill Dagster's database: a hundred are named, all are counted."""
    with project({**environment, "BATCH_BYTES": "1024"}, monkeypatch) as running:
        running.run("incremental_tickets", hours(1))
        (event,) = running.materialized("incremental_tickets")
    assert len(metadata(event)["objects"]) == MOST_OBJECTS_LISTED
    assert metadata(event)["object_count"] == metadata(event)["records"] > MOST_OBJECTS_LISTED


# Ranges that fail


def test_a_range_that_fails_keeps_the_windows_it_finished(
    collector: Project, zendesk: SimulatedZendesk, bucket: Bucket
) -> None:
    """A page half way breaks: finished windows are materialized, once each; the next run completes the rest exactly."""
    span = hours(12)
    zendesk.control.set(unreadable={"audit_logs": (span.start + 8 * HOUR, span.start + 9 * HOUR)})
    failed = collector.run("audit_logs", span)
    finished = [event.partition for event in collector.materialized("audit_logs")]
    assert not failed.success
    assert 0 < len(finished) < 12
    assert finished == [window.partition_key for window in span][: len(finished)]
    zendesk.control.set(unreadable={})
    done = Span(span.start, span.start + len(finished) * HOUR)
    assert set(_sent(zendesk, "audit_logs", done)) <= set(bucket.lines())
    assert collector.run("audit_logs", Span(done.end, span.end)).success
    assert bucket.lines() == _sent(zendesk, "audit_logs", span)
    assert [event.partition for event in collector.materialized("audit_logs")] == [w.partition_key for w in span]


def test_a_failure_is_one_sentence_and_the_windows_it_means(collector: Project, zendesk: SimulatedZendesk) -> None:
    """The UI shows what happened and where, before any frame of a library; no other error hides behind it."""
    zendesk.control.set(unreadable={"audit_logs": (FIRST.start + 8 * HOUR, FIRST.start + 9 * HOUR)})
    failed = collector.run("audit_logs", hours(12))
    finished = len(collector.materialized("audit_logs"))
    first_missing = Window(FIRST.start + finished * HOUR)
    assert description(failed) == (
        "Zendesk answered 500 to /api/v2/audit_logs (InternalError This page cannot be shown): a fault on Zendesk's"
        f" side. [audit_logs 2026-11-12 05:00 to 2026-11-12 16:00: {finished} of 12 windows are finished;"
        f" the first that is not: {first_missing}]"
    )
    (event,) = failed.get_step_failure_events()
    error = event.step_failure_data.error
    assert error is not None
    assert error.message.startswith(f"dagster._core.definitions.events.Failure: {description(failed)}")
    assert error.cause is None
    assert error.context is None


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        pytest.param(500, ["audit_logs", "audit_logs"], id="a-fault-may-pass"),
        pytest.param(404, ["audit_logs", "users/me"], id="a-refusal-lasts"),
    ],
)
def test_dagster_retries_only_what_may_pass(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    asked: list[str],
) -> None:
    """With a retry policy of the user's own, faults are tried again; what a person has to fix is not, but explained."""
    zendesk.control.add_faults(Rule(path="/api/v2/audit_logs", kind="status", code=code, times=0))
    policy = dg.RetryPolicy(max_retries=1)
    with project({**environment, "HTTP_RETRIES": "0"}, monkeypatch) as running:
        job = dg.define_asset_job("again", [dg.AssetKey("audit_logs")], op_retry_policy=policy)
        merged = dg.Definitions.merge(running.definitions, dg.Definitions(jobs=[job]))
        merged.resolve_job_def("again").execute_in_process(partition_key=PARTITIONS[0], raise_on_error=False)
    assert [seen.path.removeprefix("/api/v2/") for seen in zendesk.control.requests()] == asked


def test_redelivery_is_asked_for_in_the_run_config(
    collector: Project, zendesk: SimulatedZendesk, bucket: Bucket
) -> None:
    """`redeliver: true` sends a window again as new objects; it is no late arrival, and nobody gets it by default."""
    collector.run("audit_logs", hours(1))
    collector.run("audit_logs", hours(1), redeliver=True)
    collector.run("audit_logs", hours(1), redeliver=False)
    sent = _sent(zendesk, "audit_logs", hours(1))
    assert bucket.lines() == sorted(sent * 2)
    told = [metadata(event) for event in collector.materialized("audit_logs")]
    assert [event["delivered_by_this_run"] for event in told] == [len(sent), len(sent), 0]
    assert [event["late_arrivals"] for event in told] == [0, 0, 0]


# Pages by hand


@pytest.fixture
def io_manager(s3: LocalS3, layout: Layout) -> Callable[..., S3IOManager]:
    """Makes an IO manager; its arguments are the settings of the objects' form."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    endpoint, key, secret, region = (s3.environment[name] for name in names)
    resource = S3Resource(
        endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret, region_name=region
    )
    return partial(
        S3IOManager,
        s3=resource,
        bucket=s3.bucket,
        feed_prefix=layout.feed,
        state_prefix=layout.state,
        quarantine_prefix=layout.quarantine,
    )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that nothing is left of."""
    with dg.DagsterInstance.ephemeral() as running:
        yield running


def _asset(*pages: Page, then: BaseException | None = None) -> dg.AssetsDefinition:
    """An asset named as the stream, over pages made by hand, and over what breaks after them."""

    def walk() -> Iterator[Page]:
        yield from pages
        if then:
            raise then

    @dg.asset(name="audit_logs", partitions_def=WINDOWS, io_manager_key="s3_io_manager")
    def collect(context: dg.AssetExecutionContext) -> PageStream:
        return PageStream(
            stream=AUDIT_LOGS,
            span=SPAN,
            lookback=lambda _: 0,
            redeliver=False,
            pages=lambda _: walk(),
            describe=partial(describe, context),
        )

    return collect


@dg.asset(partitions_def=WINDOWS, io_manager_key="in_memory")
def reader(audit_logs: Any) -> list[bytes]:
    """An asset of somebody's own, downstream of a stream."""
    return list(audit_logs)


def _run(
    io_manager: S3IOManager,
    *assets: dg.AssetsDefinition,
    only: dg.AssetsDefinition | None = None,
    instance: dg.DagsterInstance | None = None,
) -> dg.ExecuteInProcessResult:
    """A run over all windows."""
    return dg.materialize(
        assets,
        selection=[only] if only else None,
        instance=instance,
        resources={"s3_io_manager": io_manager, "in_memory": dg.mem_io_manager},
        tags={RANGE_START: PARTITIONS[0], RANGE_END: PARTITIONS[-1]},
        raise_on_error=False,
    )


def test_a_cancelled_run_reports_what_it_finished(
    io_manager: Callable[..., S3IOManager], instance: dg.DagsterInstance
) -> None:
    """What Dagster raises to end a run leaves finished windows materialized, as any other failure does."""
    cancelled = _asset(*paged(RECORDS)[:3], then=DagsterExecutionInterruptedError())
    assert not _run(io_manager(), cancelled, instance=instance).success
    assert [event.partition for event in materializations(instance, "audit_logs")] == PARTITIONS[:1]


def test_a_mistake_of_ours_is_not_dressed_up(
    io_manager: Callable[..., S3IOManager], instance: dg.DagsterInstance
) -> None:
    """Only errors that mean something become a sentence; any other comes with its trace, and finished windows stay."""
    mistaken = _asset(*paged(RECORDS)[:3], then=ZeroDivisionError("a mistake"))
    (failed,) = _run(io_manager(), mistaken, instance=instance).get_step_failure_events()
    assert failed.step_failure_data.user_failure_data is None
    assert "ZeroDivisionError: a mistake" in str(failed.step_failure_data.error)
    assert [event.partition for event in materializations(instance, "audit_logs")] == PARTITIONS[:1]


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({}, id="ndjson"),
        pytest.param({"compression": "gzip"}, id="gzip"),
        pytest.param({"output_format": "page"}, id="page"),
    ],
)
def test_an_asset_downstream_gets_the_records(io_manager: Callable[..., S3IOManager], form: dict[str, str]) -> None:
    """An asset of one's own is given every record of its windows as Zendesk sent it, whatever the objects' form."""
    result = _run(io_manager(**form), _asset(*paged(RECORDS)), reader)
    assert result.output_for_node("reader") == [record.line for record in RECORDS]


def test_an_asset_downstream_gets_each_record_once(io_manager: Callable[..., S3IOManager], bucket: Bucket) -> None:
    """What was sent to the feed again on purpose is still one record downstream."""
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    Deliveries(bucket=bucket).records(SPAN, RECORDS, redeliver=True)
    result = _run(io_manager(), _asset(), reader, only=reader)
    assert result.output_for_node("reader") == [record.line for record in RECORDS]


def test_an_asset_downstream_is_told_when_the_feed_has_deleted(
    io_manager: Callable[..., S3IOManager], bucket: Bucket
) -> None:
    """A window whose objects are gone is an error that names one, never fewer records."""
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    gone = bucket.stored()[2]
    bucket.delete([gone])
    result = _run(io_manager(), _asset(), reader, only=reader)
    (failed,) = result.get_step_failure_events()
    assert f"{gone} is gone: the feed deletes what it has read." in str(failed.step_failure_data.error)


def test_an_asset_downstream_of_nothing_is_told(io_manager: Callable[..., S3IOManager]) -> None:
    """A window that was never delivered is an error, not one without records."""
    result = _run(io_manager(), _asset(), reader, only=reader)
    (failed,) = result.get_step_failure_events()
    assert "audit_logs 2026-11-12 05:00 was never delivered" in str(failed.step_failure_data.error)
