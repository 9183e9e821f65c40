"""Dagster's PostgreSQL storage as production has it: a backfill by the daemon, batched events, a database that dies."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.settings import environment
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.deploy.cluster.stage import Cluster, cluster, deployed, found, needed
from zendesk_pipeline_tests.runs import QUIET, Project, materializations

pytestmark = QUIET
BEGIN = int(datetime(2026, 11, 13, tzinfo=UTC).timestamp())
SINCE, NOW = timestamp(BEGIN - 24 * HOUR), timestamp(BEGIN + 48 * HOUR)
ACCOUNT = ("--since", SINCE, "--now", NOW, "--tickets-per-hour", "60", "--ticket-bytes", "300", "--bulk-update", "300")
MODULE = "zendesk_pipeline.definitions"
PATIENCE = 180
"""Seconds for what takes the daemon a few of its rounds, on a machine that has other things to do."""


@pytest.fixture(scope="module", autouse=True)
def _servers() -> None:
    needed()


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The services; nothing of Celery in their Dagster, runs are processes of the code server."""
    started = {"START_DATE": timestamp(BEGIN), "ZENDESK_EXPORT_RATE": "100000", "CATCH_UP_HOURS": "0"}
    with cluster(tmp_path_factory.mktemp("cluster"), *ACCOUNT, **started) as running:
        quick = {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 2}
        instance = deployed({"run_monitoring": quick}, without=("run_launcher",))
        (running.home / "dagster.yaml").write_text(instance)
        yield running


@pytest.fixture
def instance(services: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance on PostgreSQL, in an environment as its processes have it."""
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    with services.instance() as opened:
        yield opened


def _bucket(services: Cluster, stream: str) -> Bucket:
    chosen = environment.load()
    layout = Layout.of(chosen)
    return Bucket(
        stream=COLLECTED[stream],
        store=Store(client=services.s3.client(), bucket=services.s3.bucket, encryption={}),
        layout=layout,
    )


def _exact(services: Cluster, stream: str, span: Span) -> bool:
    proof = prove(_bucket(services, stream), span, services.zendesk.control)
    return proof.holds and proof.at_source > 10 * len(span)


def test_the_tables_are_made(services: Cluster, instance: dg.DagsterInstance) -> None:
    """An empty database becomes Dagster's at the first start; the password goes through as it is."""
    assert instance.get_runs(limit=1) == []
    tables = {name for (name,) in services.postgres.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}
    assert {"runs", "event_logs", "asset_keys", "job_ticks", "bulk_actions", "concurrency_slots"} <= tables


def test_the_plain_scheme_does_not_work(services: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`postgresql://` means another driver to SQLAlchemy than dagster-postgres has; so ours names the driver."""
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    plain = deployed({"storage": {"postgres": {"postgres_db": {"scheme": "postgresql"}}}}, without=("run_launcher",))
    (tmp_path / "dagster.yaml").write_text(plain)
    with pytest.raises(ModuleNotFoundError, match="psycopg"):
        dg.DagsterInstance.from_config(str(tmp_path))


def _inserts(services: Cluster, instance: dg.DagsterInstance, span: Span) -> int:
    """INSERTs into the event log that a run over a range takes."""
    run = Project(definitions=build(environment.load()), instance=instance)
    services.postgres.forget()
    result = run.run("audit_logs", span)
    assert result.success
    return services.postgres.inserts("event_logs")


def test_materializations_are_written_at_once(
    services: Cluster, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DAGSTER_EVENT_BATCH_SIZE those of a range are one INSERT, without it as many as there are windows."""
    span = Span(BEGIN, BEGIN + 24 * HOUR)
    batched = _inserts(services, instance, span)
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
    single = _inserts(services, instance, span)
    assert single - batched == len(span) - 1


def test_a_range_is_backfilled_by_the_daemon(services: Cluster, instance: dg.DagsterInstance) -> None:
    """Both streams over a day, asked for as the UI does: the backfill ends well, and each record is in S3 once."""
    span = Span(BEGIN + 24 * HOUR, BEGIN + 46 * HOUR)
    backfill = _backfill(instance, span)
    with services.daemon(MODULE):

        def ended() -> str | None:
            asked = instance.get_backfill(backfill)
            return asked.status.value if asked and asked.status is not BulkActionStatus.REQUESTED else None

        ended_as = found(ended, within=PATIENCE)
    assert ended_as == BulkActionStatus.COMPLETED_SUCCESS.value
    for stream in COLLECTED:
        assert _exact(services, stream, span)
        done = [event.partition for event in materializations(instance, stream)]
        assert [done.count(window.partition_key) for window in span] == [1] * len(span)


def _backfill(instance: dg.DagsterInstance, span: Span, streams: Collection[str] = COLLECTED) -> str:
    """A backfill, as the UI's Launch leaves it to the daemon."""
    asked = PartitionBackfill.from_asset_partitions(
        backfill_id=uuid4().hex[:8],
        asset_graph=build(environment.load()).resolve_asset_graph(),
        partition_names=[window.partition_key for window in span],
        asset_selection=[dg.AssetKey(name) for name in streams],
        backfill_timestamp=datetime.now(UTC).timestamp(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(asked)
    return asked.backfill_id


def test_a_run_outlives_a_restart_of_the_database(services: Cluster, instance: dg.DagsterInstance) -> None:
    """Delivery goes on without it, and what is to be reported waits: some ten seconds are no failure."""
    span = Span(BEGIN + 2 * HOUR, BEGIN + 6 * HOUR)
    keys = (Window(at).partition_key for at in (span.start, span.end - HOUR))
    what = ("--select", "incremental_tickets", "--partition-range", "...".join(keys))
    services.zendesk.control.add_faults(Rule(path="tickets", kind="hang", seconds=1))
    with services.process("run", "dagster", "asset", "materialize", "-m", MODULE, *what) as run:
        found(lambda: [seen for seen in services.zendesk.control.requests() if seen.fault], within=PATIENCE)
        services.postgres.stop()
        found(lambda: _bucket(services, "incremental_tickets").progress(span).windows == len(span), within=PATIENCE)
        services.postgres.start()
        run.wait(PATIENCE)
    (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]), limit=1)
    assert run.tags["dagster/asset_partition_range_start"] == Window(span.start).partition_key
    assert _exact(services, "incremental_tickets", span)
    done = [event.partition for event in materializations(instance, "incremental_tickets")]
    assert [done.count(window.partition_key) for window in span] == [1] * len(span)
