"""What the numbers say: a feed that works is never accused, whatever is delivered when, and one that does not is."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline.secops.count_watch import Batch, Count, Eve, feeds_to_count, judged, of_feeds, patience_of
from zendesk_pipeline_tests.secops.test_feed_model import URI
from zendesk_pipeline_tests.secops.test_feed_watch import feed

PATIENCE = 3 * HOUR
START = 1_796_000_000.0
DELIVERED = st.lists(st.integers(0, 5_000), min_size=30, max_size=60)
"""Records of each hour."""


def looks(delivered: Sequence[int], ingested: Sequence[int], before: int = 0) -> list[list[str]]:
    """What each hour's look finds, of what was delivered and ingested in each hour; a count that ends is over."""
    count, found = Count(start=START, feeds=["f1"], before=before), list[list[str]]()
    for hour, new in enumerate(delivered, 1):
        now = START + hour * HOUR
        count = count.adds([Batch(now - HOUR / 2, new)], PATIENCE, now)
        verdict = judged(count, sum(ingested[:hour]), unit="records", now=now)
        found.append([each.what for each in verdict.findings])
        if verdict.count is None:
            return found
        count = verdict.count
    return found


@given(DELIVERED, st.integers(0, 2))
def test_a_feed_that_is_late_within_its_time_is_well(delivered: list[int], late: int) -> None:
    """It ingests each hour's records so many hours later; nothing is found at any look."""
    ingested = [0] * late + delivered
    assert not any(looks(delivered, ingested))


@given(DELIVERED, st.integers(0, 3_000))
def test_what_was_under_way_when_the_count_began_is_no_excess(delivered: list[int], before: int) -> None:
    """It was delivered before the start and is ingested after it."""
    ingested = [delivered[0] + before, *delivered[1:]]
    assert not any(looks(delivered, ingested, before))


@given(DELIVERED, st.integers(1, 20))
def test_a_feed_that_stops_is_told(delivered: list[int], stops: int) -> None:
    """As soon as more than a hundredth, and more than a few, are missing for longer than the patience."""
    ingested = delivered[:stops] + [0] * len(delivered)
    found = looks(delivered, ingested)
    for hour in range(1, len(found) + 1):
        due, there, all_of_it = sum(delivered[: max(0, hour - 3)]), sum(ingested[:hour]), sum(delivered[:hour])
        late = due - there > max(all_of_it / 100, 10)
        assert bool(found[hour - 1]) == late or len(found) == hour


@given(DELIVERED)
def test_a_feed_that_reads_twice_is_told_at_the_second_look(delivered: list[int]) -> None:
    """And not at the first: an object is written a moment before its ledger."""
    found = looks(delivered, [2 * each for each in delivered])
    seen = [sum(delivered[:hour]) > 10 for hour in range(1, len(found) + 1)]
    first = seen.index(True) if any(seen) else len(seen)
    assert not any(found[: first + 1])
    assert all(found[first + 1 :]) or len(found) < len(delivered)


def test_a_loss_is_told_in_the_next_quiet_hours_and_over_a_day_later() -> None:
    """While records come and go, those that are under way hide it. It is over where all else arrives."""
    days = ([100] * 12 + [0] * 12) * 3
    lost = looks(days, [0, *days[1:]])
    assert [bool(each) for each in lost[:16]] == [False] * 3 + [False] * 11 + [True] * 2
    assert len(lost) < len(days)
    assert lost[-1] == []


def test_a_feed_that_stands_still_is_not_over_as_long_as_nothing_is_delivered() -> None:
    """Nobody could see that it works again."""
    still = looks([100] + [0] * 50, [0] * 51)
    assert len(still) == 51
    assert still[-1]


def test_before_a_count_both_sides_are_judged() -> None:
    """Too little is told; too much is a feed that reads what is stored."""
    assert Eve(since=0, ingested=100, due=200, most=300).less("records")
    assert not Eve(since=0, ingested=195, due=200, most=300).less("records")
    assert not Eve(since=0, ingested=305, due=200, most=300).reads_older
    assert Eve(since=0, ingested=400, due=200, most=300).reads_older


def test_which_feeds_are_counted() -> None:
    """Those below the prefix, if one reads all of it and nothing else; of other types and places none."""
    mine, part, other = feed(1), feed(2, uri=f"{URI}2026/"), feed(3, log_type="AWS_S3")
    wide = feed(4, uri="s3://acme-zendesk/")
    assert feeds_to_count(URI, [mine, part, other, wide]) == [mine, part]
    assert feeds_to_count(URI, [part, wide]) == []


def test_logs_without_feeds_are_those_of_the_only_feed() -> None:
    """Where SecOps tells feeds apart, what has none is not ours."""
    mine, other, asleep = feed(1), feed(2, uri="s3://b/x/"), feed(3, uri="s3://b/y/", state="INACTIVE")
    assert of_feeds({"f1": 5, "": 9}, ["f1"], [mine]) == 5
    assert of_feeds({"f2": 5}, ["f1"], [mine, other]) == 0
    assert of_feeds({"": 9}, ["f1"], [mine, asleep]) == 9
    assert of_feeds({"": 9}, ["f1"], [mine, other]) is None
    assert of_feeds({}, ["f1"], [mine, other]) == 0


def test_the_patience_is_a_setting_and_a_day_at_most() -> None:
    """ALERT_STALE_HOURS."""
    assert patience_of(3) == PATIENCE
    assert patience_of(100) == 24 * HOUR
