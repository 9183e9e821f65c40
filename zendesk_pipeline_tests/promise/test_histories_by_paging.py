"""The promise over every further way of paging: histories that hypothesis draws, on the model of `test_model`.

Pages are tiny here, so that most seconds lie across the end of one.
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zendesk_pipeline.local.simulator import time_export
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.errors import ProtocolError
from zendesk_pipeline.model.streams import (
    ACCESS_LOGS,
    INCREMENTAL_TICKET_EVENTS,
    INCREMENTAL_USERS,
    TICKET_METRIC_EVENTS,
    Stream,
)
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline_tests.fakes.memory_s3 import Trouble
from zendesk_pipeline_tests.promise.histories import BEGIN, Run, World

LARGEST = 6
"""Records of a page of the exports by time, in the place of a thousand."""
HOURS = 3
SECONDS = st.sampled_from([0, 0, 1, 1234, 1234, HOUR - 1, HOUR, HOUR + 1, 2 * HOUR - 1, 2 * HOUR + 7])
DELAYS = st.sampled_from([0, 60, 60, 900, 3000])
"""Until a record shows; all within the look-back."""
TROUBLES: st.SearchStrategy[Trouble] = st.sampled_from(
    ["nothing", "nothing", "crash before", "crash after", "error before", "error after", "conflict", "meanwhile"]
)
FAULTS = st.builds(
    Rule,
    kind=st.sampled_from(["status", "reset", "truncate", "empty_page", "repeat_cursor", "repeat_record"])
    | st.sampled_from(["early_record", "early_page", "stale"]),
    seconds=st.just(6 * HOUR),
    code=st.sampled_from([503, 504, 429]),
    retry_after=st.sampled_from([None, "seconds:7"]),
    skip=st.integers(0, 3),
)
BREAKS = st.builds(Rule, kind=st.just("status"), code=st.just(500), times=st.just(9), skip=st.integers(1, 9))
"""What ends a walk in its middle."""
RUNS = st.lists(
    st.tuples(st.integers(0, 2), st.lists(FAULTS, max_size=1), TROUBLES, st.integers(0, 9), st.integers(0, 99)),
    max_size=3,
)


@pytest.fixture(scope="module", autouse=True)
def _small_pages() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_export, "PAGE_SIZE", LARGEST)
        yield


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    stream=st.sampled_from([ACCESS_LOGS, INCREMENTAL_TICKET_EVENTS, INCREMENTAL_TICKET_EVENTS, TICKET_METRIC_EVENTS]),
    size=st.integers(1, LARGEST),
    events=st.lists(st.tuples(SECONDS, DELAYS), max_size=30),
    runs=RUNS,
)
def test_the_promise_holds_however_the_pages_fall(
    stream: Stream,
    size: int,
    events: list[tuple[int, int]],
    runs: list[tuple[int, list[Rule], Trouble, int, int]],
) -> None:
    """Runs with faults and crashes, then one over all: exact, or stopped at a second that is too full for a page."""
    world, paged = World(), replace(stream, page_size=size)
    for second, delay in events:
        world.add_event(stream.name, BEGIN + second, delay)
    for hour, faults, trouble, at, turns in runs:
        span = Span(BEGIN + hour * HOUR, BEGIN + (hour + 1) * HOUR)
        world.execute(
            Run(stream=paged, span=span, faults=tuple(faults), trouble=trouble, at=at, turns=turns, batch_bytes=200)
        )
    (outcome,) = world.execute(Run(stream=paged, span=Span(BEGIN, BEGIN + HOURS * HOUR), batch_bytes=200))

    crowded = {at for at, count in Counter(BEGIN + second for second, _ in events).items() if count >= LARGEST}
    if outcome.failure is not None:
        assert isinstance(outcome.failure, ProtocolError)
        assert "does not get past the second" in str(outcome.failure)
        assert stream is INCREMENTAL_TICKET_EVENTS
        assert crowded
        assert all(window.end <= max(crowded) + 1 for window in outcome.finished)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(size=st.integers(1, LARGEST), counts=st.lists(st.integers(0, LARGEST + 2), min_size=1, max_size=6))
def test_only_a_second_that_is_too_full_stops_a_walk(size: int, counts: list[int]) -> None:
    """A second with fewer records than the largest page never does, wherever the pages end."""
    world = World()
    for second, count in enumerate(counts):
        for _ in range(count):
            world.add_event("incremental_ticket_events", BEGIN + second, 60)
    stream = replace(INCREMENTAL_TICKET_EVENTS, page_size=size)
    (outcome,) = world.execute(Run(stream=stream, span=Span(BEGIN, BEGIN + HOUR), batch_bytes=200))
    if max(counts) < LARGEST:
        assert outcome.failure is None
        assert sum(tally.records for tally in outcome.tallies.values()) == sum(counts)
    if any(count > LARGEST for count in counts[:-1]):
        assert isinstance(outcome.failure, ProtocolError)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.integers(1, 3),
    seconds=st.lists(SECONDS, min_size=6, max_size=20),
    behind=st.lists(st.tuples(SECONDS, st.sampled_from([900, 3000, 7000])), max_size=4),
    runs=st.lists(st.tuples(st.integers(0, HOURS - 1), BREAKS, TROUBLES, st.integers(0, 9)), max_size=3),
)
def test_the_promise_holds_where_zendesk_lists_by_another_time(
    size: int,
    seconds: list[int],
    behind: list[tuple[int, int]],
    runs: list[tuple[int, Rule, Trouble, int]],
) -> None:
    """Users stand up to two hours behind their `updated_at`: no run that breaks off finishes their windows."""
    world, stream = World(), replace(INCREMENTAL_USERS, page_size=size)
    for second, delay in [*((second, 0) for second in seconds), *behind]:
        world.add_user(BEGIN + second, delay)
    for hour, fault, trouble, at in runs:
        span = Span(BEGIN + hour * HOUR, BEGIN + HOURS * HOUR)
        world.execute(Run(stream=stream, span=span, faults=(fault,), trouble=trouble, at=at, batch_bytes=200))
    (outcome,) = world.execute(Run(stream=stream, span=Span(BEGIN, BEGIN + HOURS * HOUR), batch_bytes=200))
    assert outcome.failure is None
