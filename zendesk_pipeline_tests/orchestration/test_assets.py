"""The assets as Dagster knows them, and what a range of windows asks of Zendesk."""

from collections.abc import Iterator

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.model.windows import HOUR, Window, timestamp
from zendesk_pipeline.orchestration.assets import DeliveryConfig
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.runs import QUIET, Project, description, project

pytestmark = QUIET
EVERY_STREAM = pytest.mark.parametrize("stream", sorted(COLLECTED))


@pytest.fixture
def collector(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over the simulated Zendesk and SeaweedFS."""
    with project(environment, monkeypatch) as running:
        yield running


def _asked(zendesk: SimulatedZendesk, path: str) -> list[dict[str, list[str]]]:
    """The queries that a path was asked with."""
    return [
        {name: [value for key, value in seen.pairs if key == name] for name, _ in seen.pairs}
        for seen in zendesk.control.requests()
        if seen.path.startswith(path)
    ]


@pytest.mark.parametrize(
    ("stream", "pool"),
    [("audit_logs", "zendesk_audit_logs"), ("incremental_tickets", "zendesk_incremental_export")],
)
def test_names_that_others_rely_on_are_pinned(stream: str, pool: str) -> None:
    """Asset key, group, kinds, pool and IO manager are what dagster.yaml, docs and people's own assets name."""
    asset = build(settings.load()).resolve_assets_def(stream)
    assert asset.keys == {dg.AssetKey(stream)}
    assert asset.group_names_by_key == {dg.AssetKey(stream): "zendesk"}
    assert asset.specs_by_key[dg.AssetKey(stream)].kinds == {"zendesk", "s3"}
    assert asset.op.pool == pool
    assert asset.get_io_manager_key_for_asset_key(dg.AssetKey(stream)) == "s3_io_manager"


@EVERY_STREAM
def test_a_range_of_windows_is_one_run(stream: str) -> None:
    """A backfill is a single run, so that it is one walk over Zendesk's pages."""
    policy = build(settings.load()).resolve_assets_def(stream).backfill_policy
    assert policy == dg.BackfillPolicy.single_run()


@EVERY_STREAM
def test_partitions_are_the_hours_of_utc(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition is an hour of UTC, whatever the machine's zone, also where others change their clocks."""
    monkeypatch.setenv("TZ", "America/New_York")
    monkeypatch.setenv("START_DATE", "2026-10-31T22:00Z")
    partitions = build(settings.load()).resolve_assets_def(stream).partitions_def
    assert isinstance(partitions, dg.HourlyPartitionsDefinition)
    found = partitions.get_partition_keys()[:10]
    assert found == [
        Window(Window.of_partition("2026-10-31-22:00").start + number * HOUR).partition_key for number in range(10)
    ]


def test_a_range_of_tickets_is_one_walk(collector: Project, zendesk: SimulatedZendesk) -> None:
    """The export is asked from the look-back on, then by cursor: a request a page, and one that confirms the end."""
    assert collector.run("incremental_tickets", hours(12)).success
    asked = _asked(zendesk, "/api/v2/incremental/tickets/cursor")
    records = len(zendesk.control.source("incremental_tickets", FIRST.start - HOUR, FIRST.start + 12 * HOUR))
    assert asked[0]["start_time"] == [str(FIRST.start - HOUR)]
    assert ["start_time" in query for query in asked] == [True] + [False] * (len(asked) - 1)
    assert len(asked) == records // 1000 + 2


@pytest.mark.parametrize(("lookback", "since"), [("0", 0), ("3600", HOUR), ("7200", 2 * HOUR)])
def test_audit_logs_look_back_as_far_as_is_set(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    monkeypatch: pytest.MonkeyPatch,
    lookback: str,
    since: int,
) -> None:
    """LOOKBACK_SECONDS moves the start of what is asked for; both ends are a second wider than the range."""
    with project({**environment, "LOOKBACK_SECONDS": lookback}, monkeypatch) as running:
        assert running.run("audit_logs", hours(2, skip=3)).success
    (ends, *_) = [query["filter[created_at][]"] for query in _asked(zendesk, "/api/v2/audit_logs")]
    start, end = FIRST.start + 3 * HOUR - since - 1, FIRST.start + 5 * HOUR + 1
    assert ends == [timestamp(start), timestamp(end)]


@pytest.mark.parametrize(("at_most", "since"), [(0, 0), (1800, 1800), (7200, HOUR)])
def test_a_run_can_be_told_to_look_back_less(
    collector: Project, zendesk: SimulatedZendesk, at_most: int, since: int
) -> None:
    """`look_back_at_most` in its configuration shortens the look-back and never makes it longer."""
    assert collector.run("audit_logs", hours(1, skip=3), look_back_at_most=at_most).success
    (ends, *_) = [query["filter[created_at][]"] for query in _asked(zendesk, "/api/v2/audit_logs")]
    assert ends[0] == timestamp(FIRST.start + 3 * HOUR - since - 1)


def test_tickets_look_back(collector: Project, zendesk: SimulatedZendesk) -> None:
    """The export can lag behind and say that it has come to its end: an hour before the range is asked for as well."""
    collector.run("incremental_tickets", hours(1, skip=3))
    assert _asked(zendesk, "/api/v2/incremental/")[0]["start_time"] == [str(FIRST.start + 2 * HOUR)]


def test_without_a_bucket_zendesk_is_not_asked(
    environment: dict[str, str], zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be stored is not fetched: a run without S3_BUCKET fails before the first request."""
    with project({**environment, "S3_BUCKET": ""}, monkeypatch) as running:
        assert "S3_BUCKET is not set" in description(running.run("audit_logs", hours(1)))
    assert zendesk.control.requests() == []


def test_redelivery_has_to_be_asked_for() -> None:
    """Without run config nothing is sent twice."""
    assert DeliveryConfig().redeliver is False
