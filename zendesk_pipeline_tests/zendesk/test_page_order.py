"""What the order of pages proves, for any order; walks over it are in test_walk."""

import dataclasses
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS
from zendesk_pipeline.zendesk.page_order import PageOrder


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
