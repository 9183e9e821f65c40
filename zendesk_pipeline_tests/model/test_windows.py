"""Hours and ranges of them."""

from datetime import UTC, datetime

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.model.windows import HOUR, Span, TimeRange, Window, timestamp

times = st.integers(0, 4_102_444_800)  # to the year 2100
windows = times.map(Window.of)


@given(times)
def test_a_time_belongs_to_the_hour_it_falls_into(time: int) -> None:
    """Every second is in exactly one window: from its start on and before its end."""
    window = Window.of(time)
    assert window.start <= time < window.end
    assert (window.start % HOUR, window.end - window.start) == (0, HOUR)


@given(windows)
def test_a_window_is_named_by_its_partition_key(window: Window) -> None:
    """The key leads back to the window."""
    assert Window.of_partition(window.partition_key) == window


def test_keys_are_those_dagster_writes() -> None:
    """Also where clocks are changed in spring and autumn: windows are hours of UTC."""
    for day in ("2026-03-29", "2026-10-25"):
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        hourly = dg.HourlyPartitionsDefinition(start_date=start, timezone="UTC")
        keys = hourly.get_partition_keys(current_time=start.replace(hour=23))
        windows = Span(int(start.timestamp()), int(start.timestamp()) + 23 * HOUR)
        assert [window.partition_key for window in windows] == list(keys)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("2026-11-12", id="day"),
        pytest.param("2026-11-12-05:30", id="half-hour"),
        pytest.param("2026-11-12-5:00", id="one-digit"),
        pytest.param("2026-11-12T05:00Z", id="iso"),
        pytest.param("2026-11-12-24:00", id="hour-24"),
    ],
)
def test_what_is_no_partition_key_is_refused(key: str) -> None:
    """A key that Dagster would not write raises ValueError; it is never read as the hour beside."""
    with pytest.raises(ValueError, match=r"."):
        Window.of_partition(key)


def test_a_window_reads_as_its_start() -> None:
    """In messages a window is its first minute, UTC."""
    window = Window.of_partition("2026-11-12-05:00")
    assert str(window) == "2026-11-12 05:00"
    assert window.starts_at == datetime(2026, 11, 12, 5, tzinfo=UTC)


@given(windows, st.integers(1, 50))
def test_a_span_is_its_windows_in_order(first: Window, count: int) -> None:
    """A span holds each of its windows once, and neither neighbour."""
    span = Span(first.start, first.start + count * HOUR)
    held = list(span)
    assert held == [Window(first.start + number * HOUR) for number in range(count)]
    assert len(span) == count
    assert all(window in span for window in held)
    assert Window(span.start - HOUR) not in span
    assert Window(span.end) not in span


def test_a_span_reads_as_its_first_and_last_window() -> None:
    """The end of a span is not one of its windows, so it is not named."""
    start = Window.of_partition("2026-11-12-05:00").start
    assert str(Span(start, start + HOUR)) == "2026-11-12 05:00"
    assert str(Span(start, start + 3 * HOUR)) == "2026-11-12 05:00 to 2026-11-12 07:00"


def test_a_time_range_shorter_than_an_hour_is_one() -> None:
    """Half an hour holds no whole window, and is true all the same; the range of a span is its first to last second."""
    start = Window.of_partition("2026-11-12-05:00").start
    half_an_hour = TimeRange(start, start + 1800)
    assert half_an_hour
    assert half_an_hour.seconds == 1800
    assert Span(start, start + 3 * HOUR).time_range == TimeRange(start, start + 3 * HOUR)


def test_times_are_written_as_zendesk_wants_them() -> None:
    """Seconds, UTC, and nothing else: what filter[created_at] refuses everything but."""
    assert timestamp(Window.of_partition("2026-11-12-05:00").start - 1) == "2026-11-12T04:59:59Z"
