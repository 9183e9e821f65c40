"""Windows since START_DATE that are missing and that nothing asks for."""

import itertools
from collections.abc import Iterator, Sequence
from itertools import pairwise

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.model.windows import HOUR, Span, Window, ranges
from zendesk_pipeline.orchestration.missing_windows import (
    COUNTED_EVERY,
    MOST_COUNTED,
    Counted,
    count,
    missing_before,
    split,
    to_count,
)
from zendesk_pipeline_tests.by_hand import FIRST, hours

KEY = dg.AssetKey("audit_logs")
NOW = 1_796_000_000.0


@pytest.fixture(scope="module")
def one_instance() -> Iterator[dg.DagsterInstance]:
    """For examples that are told apart by the names of their assets."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(scope="module")
def keys() -> Iterator[dg.AssetKey]:
    return (dg.AssetKey(f"stream_{number}") for number in itertools.count())


@given(delivered=st.sets(st.integers(0, 60)), first=st.integers(0, 30), many=st.integers(0, 40))
def test_each_window_of_a_span_is_counted_once(
    one_instance: dg.DagsterInstance, keys: Iterator[dg.AssetKey], delivered: set[int], first: int, many: int
) -> None:
    """What is not delivered, as ranges, over midnight as well, and nothing outside the span."""
    asked, key = hours(many, skip=first), next(keys)
    held = {Window(FIRST.start + number * HOUR) for number in delivered}
    for window in held:
        one_instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=window.partition_key))
    found = [Span(*bounds) for bounds in count(one_instance, key, asked, NOW).spans]
    assert [window for span in found for window in span] == [window for window in asked if window not in held]
    assert all(before.end < after.start for before, after in pairwise(found))


def test_ten_years_are_counted_by_one_query_and_in_an_instant() -> None:
    """As few ranges as there are; keys that are no hours count for nothing."""
    decade = Span(FIRST.start - 87_600 * HOUR, FIRST.start)
    with dg.DagsterInstance.ephemeral() as instance:
        for key in ("2020-02-29-23:00", "2020-02-29-23:30", "2020-03-01"):
            instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=key))
        found = count(instance, KEY, decade, NOW)
    leap_day = Window.of_partition("2020-02-29-23:00")
    assert found.spans == [(decade.start, leap_day.start), (leap_day.end, decade.end)]


def test_an_asset_is_counted_again_after_a_while_or_while_something_is_missing() -> None:
    """One that was never counted comes first; a look counts so many and no more."""
    known = {
        "whole": Counted(NOW - COUNTED_EVERY + 1, []),
        "old": Counted(NOW - COUNTED_EVERY, []),
        "missing": Counted(NOW - 60, [(0, HOUR)]),
    }
    assert to_count(known, [*known, "new"], NOW) == {"old", "missing", "new"}
    many = [f"account_{number}/audit_logs" for number in range(3 * MOST_COUNTED)]
    counted: dict[str, Counted] = {}
    for look in range(3):
        chosen = to_count(counted, many, NOW + look * 60)
        assert len(chosen) == MOST_COUNTED
        counted |= {name: Counted(NOW + look * 60, []) for name in chosen}
    assert set(counted) == set(many)


@pytest.mark.parametrize(
    ("under_way", "left"),
    [
        ([], [hours(6)]),
        ([hours(2, skip=2)], [hours(2), hours(2, skip=4)]),
        ([hours(9)], []),
        ([hours(3, skip=20)], [hours(6)]),
    ],
)
def test_what_a_run_is_at_work_on_is_not_missing(under_way: Sequence[Span], left: Sequence[Span]) -> None:
    """Nor what is so young that the sensor asks for it."""
    counted = Counted(NOW, [(FIRST.start, FIRST.start + 8 * HOUR)])
    assert missing_before(counted, FIRST.start + 6 * HOUR, under_way) == left
    assert missing_before(None, FIRST.start, under_way) == []


@given(numbers=st.sets(st.integers(0, 30)), at=st.integers(-5 * HOUR, 40 * HOUR))
def test_a_split_loses_no_window(numbers: set[int], at: int) -> None:
    """Those that ended before a time, and those that ended after it."""
    spans = list(ranges(Window(FIRST.start + number * HOUR) for number in numbers))
    before, after = split(spans, FIRST.start + at)
    windows = [[window for span in part for window in span] for part in (before, after)]
    assert windows[0] + windows[1] == [window for span in spans for window in span]
    assert all(window.end <= FIRST.start + at for window in windows[0])
    assert all(window.end > FIRST.start + at for window in windows[1])
