"""What the order of pages proves, for any order; walks over it are in test_walk."""

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS
from zendesk_pipeline.zendesk.page_order import PAGES_OF_A_DOUBTFUL_END, RECORDS_OF_AN_END, PageOrder


@settings(max_examples=500, derandomize=True)
@given(
    full=st.integers(3, 12),
    steps=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    ahead=st.tuples(st.integers(0, 60), st.lists(st.integers(1, 90), max_size=12)),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=8),
)
def test_as_many_early_records_as_a_page_holds_prove_nothing(
    full: int, steps: list[int], ahead: tuple[int, list[int]], sizes: list[int]
) -> None:
    """However heavy pages are cut, nothing is passed that comes behind: not where so many stand early at one place."""
    times = [*itertools.accumulate(steps)]
    place, early = ahead
    here = times[min(place, len(times) - 1)]
    times[place:place] = [here + each for each in early[:full]]
    order, left = PageOrder.of(dataclasses.replace(INCREMENTAL_TICKETS, page_size=full), 0, 1000), times
    for size in itertools.cycle(sizes):
        page, left = left[: min(size, full)], left[min(size, full) :]
        order.add(page)
        assert order.passed <= min(left, default=1000)
        if not left:
            break


@settings(max_examples=300, derandomize=True)
@given(
    later=st.lists(st.integers(0, 9), min_size=PAGES_OF_A_DOUBTFUL_END, max_size=20),
    by_time=st.booleans(),
    same=st.integers(1, 5),
)
def test_a_list_of_the_newest_first_is_read_to_its_own_end(later: list[int], by_time: bool, same: int) -> None:  # noqa: FBT001 - drawn
    """However many pages stand before the range's end: each begins no later than the one before, so more is to come."""
    stream = dataclasses.replace(INCREMENTAL_TICKETS, lists_by_event_time=by_time)
    order, time = PageOrder.of(stream, 0, 1000), 2000 + sum(later)
    for step in later:
        order.add([time] * RECORDS_OF_AN_END * same)
        assert not order.ended or (by_time and order.in_order)
        time -= step
    order.add([time - 1] * RECORDS_OF_AN_END)
    assert not order.ended


def test_a_list_without_an_order_is_left_behind_the_range() -> None:
    """As that of users, whose pages rise and fall: eight behind the range in a row are its end."""
    order = PageOrder.of(dataclasses.replace(INCREMENTAL_TICKETS, lists_by_event_time=False), 0, 1000)
    ended = list[bool]()
    for begin in (500, *(1000 + 7 * number % 11 for number in range(PAGES_OF_A_DOUBTFUL_END))):
        order.add([begin] * RECORDS_OF_AN_END)
        ended.append(order.ended)
    assert ended == [False] * PAGES_OF_A_DOUBTFUL_END + [True]
