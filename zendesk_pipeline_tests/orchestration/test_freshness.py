"""Freshness: the newest complete window is delivered, whatever else was materialized."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, TimeWindowFreshnessPolicy

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.streams import AUDIT_LOGS
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.freshness import bounds, freshness_sensor, state
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.by_hand import FIRST
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET
KEY = dg.AssetKey("audit_logs")
MINUTE = 60
START = Window(FIRST.start - 48 * HOUR)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance as dagster.yaml has it: Dagster's own freshness is off."""
    with dg.DagsterInstance.ephemeral(settings={"freshness": {"enabled": False}}) as made:
        yield made


def _tick(instance: dg.DagsterInstance, now: float, fail_hours: int = 3) -> str:
    """What the sensor says at a time."""
    chosen = Settings(resources=(AUDIT_LOGS.name,), start_date=START.starts_at, alert_stale_hours=fail_hours)
    sensor = freshness_sensor([Account(settings=chosen)], FakeClock(float(now)).clock)
    said = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(said, dg.SkipReason)
    return said.skip_message or ""


def _deliver(instance: dg.DagsterInstance, window: Window) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=window.partition_key))


def _state(instance: dg.DagsterInstance) -> FreshnessState | None:
    record = instance.get_freshness_state_records([KEY]).get(KEY)
    return record.freshness_state if record else None


@pytest.mark.parametrize(
    ("newest", "late", "expected"),
    [
        pytest.param(True, HOUR - 1, FreshnessState.PASS, id="in time"),
        pytest.param(True, HOUR, FreshnessState.WARN, id="an hour late"),
        pytest.param(True, 3 * HOUR - 1, FreshnessState.WARN, id="nearly three hours late"),
        pytest.param(True, 3 * HOUR, FreshnessState.FAIL, id="three hours late"),
        pytest.param(False, 29 * MINUTE, FreshnessState.UNKNOWN, id="nothing was due"),
        pytest.param(False, 3 * HOUR, FreshnessState.FAIL, id="nothing was ever delivered"),
    ],
)
def test_lateness_is_counted_from_the_end_of_the_window_that_is_missing(
    *, newest: bool, late: float, expected: FreshnessState
) -> None:
    """That is the window after the newest delivered one, or the first there can be."""
    missing_end = FIRST.end + HOUR if newest else FIRST.end
    assert state(FIRST if newest else None, FIRST, missing_end + late, bounds(3)) is expected


def test_a_backfill_of_old_windows_makes_nothing_fresh(instance: dg.DagsterInstance) -> None:
    """Materialized a moment ago, and yet not fresh until the newest complete window is there."""
    _deliver(instance, FIRST)
    now = FIRST.end + 10 * MINUTE
    _tick(instance, now)
    assert _state(instance) is FreshnessState.PASS

    now = FIRST.end + 4 * HOUR + 10 * MINUTE
    _deliver(instance, START)
    assert f"audit_logs: FAIL, newest window {FIRST}" in _tick(instance, now)
    assert _state(instance) is FreshnessState.FAIL

    _deliver(instance, Window(FIRST.start + 4 * HOUR - HOUR))
    _tick(instance, now)
    assert _state(instance) is FreshnessState.PASS


@pytest.mark.parametrize("days", [0, 1, 20, 40])
def test_in_an_outage_the_newest_window_is_found_however_long_ago(instance: dg.DagsterInstance, days: int) -> None:
    """The look goes back step by step, so that a look each minute does not ask for all windows of ten years."""
    for window in (START, FIRST):
        _deliver(instance, window)
    assert _tick(instance, FIRST.end + days * 24 * HOUR).endswith(f"newest window {FIRST}")


def test_half_hours_of_an_older_release_are_no_windows(instance: dg.DagsterInstance) -> None:
    """Neither does a look end at one, nor does it make anything fresh."""
    for key in ("2026-11-12-05:30", "2026-11-11"):
        instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=key))
    assert _tick(instance, FIRST.end + 9 * HOUR) == "audit_logs: FAIL, newest window none"


def test_only_changes_are_reported(instance: dg.DagsterInstance) -> None:
    """A state that stays is one event, not one a minute."""
    _deliver(instance, FIRST)
    for minute in range(3):
        _tick(instance, FIRST.end + 2 * HOUR + minute * MINUTE)
    events = instance.event_log_storage.get_logs_for_run("")
    changes = [each for each in events if "FRESHNESS_STATE_CHANGE" in str(each.dagster_event_type)]
    assert len(changes) == 1


def test_the_limit_is_a_setting(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALERT_STALE_HOURS moves the policy and the sensor's judgement alike."""
    _deliver(instance, FIRST)
    now = FIRST.end + HOUR + 4 * HOUR
    assert "FAIL" in _tick(instance, now)
    assert "WARN" in _tick(instance, now, fail_hours=5)
    for hours in ("3", "5"):
        monkeypatch.setenv("ALERT_STALE_HOURS", hours)
        spec = build(environment.load()).resolve_asset_graph().get(KEY)
        found = spec.freshness_policy
        assert isinstance(found, TimeWindowFreshnessPolicy)
        assert found.fail_window.to_timedelta().total_seconds() == (int(hours) + 1) * HOUR
        assert found.warn_window
        assert found.warn_window.to_timedelta().total_seconds() == 2 * HOUR


def test_where_dagster_judges_itself_it_is_left_to_it() -> None:
    """With freshness.enabled the sensor reports nothing, and says why that is not as good."""
    with dg.DagsterInstance.ephemeral(settings={"freshness": {"enabled": True}}) as instance:
        _deliver(instance, FIRST)
        said = _tick(instance, FIRST.end + 9 * HOUR)
        assert _state(instance) is None
    assert "takes any materialization for fresh: set `freshness: {enabled: false}`" in said


def test_it_is_on_from_the_first_start() -> None:
    """Name and state are what Dagster remembers it by."""
    sensor = build(environment.load()).resolve_sensor_def("freshness_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
