"""What a long run says of itself."""

from collections.abc import Callable
from typing import Any

import pytest

from zendesk_pipeline.delivery.progress import ProgressLog
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, hours

SPAN = hours(10)


@pytest.fixture
def clock(fake_clock: Callable[[float], Any]) -> Any:
    return fake_clock(1000.0)


@pytest.fixture
def said() -> list[str]:
    """What a run has said."""
    return []


@pytest.fixture
def progress(clock: Any, said: list[str]) -> ProgressLog:
    """A run over ten windows that has just begun."""
    return ProgressLog(name="audit_logs", span=SPAN, clock=clock.clock, log=said.append)


def _page(number: int, at: int, records: int = 100, waited: float = 0.0) -> Page:
    found = [audit_log(each, at) for each in range(records)]
    return Page(number=number, records=found, requests=1, waited=waited)


def test_a_short_run_says_nothing(progress: ProgressLog, clock: Any, said: list[str]) -> None:
    """Nothing is said in the first ten seconds: an hourly run leaves no lines."""
    for number in range(99):
        clock.time += 0.1
        progress.count(_page(number + 1, FIRST.start))
    assert said == []


def test_a_long_run_says_how_far_it_is(progress: ProgressLog, clock: Any, said: list[str]) -> None:
    """The line names windows done, the hour reached, records, pages, their rate and what is left."""
    clock.time += 60.0
    progress.count(_page(1, FIRST.start + 4 * HOUR, records=1200))
    assert said == [
        "audit_logs: 4 of 10 windows, at 2026-11-12 09:00; 1,200 records in 1 pages, 20 records/s, about 2 min left"
    ]


@pytest.mark.parametrize(("waited", "told"), [(5.9, False), (6.0, True), (45.0, True)])
def test_what_the_rate_limit_costs_is_said(
    progress: ProgressLog, clock: Any, said: list[str], *, waited: float, told: bool
) -> None:
    """From a tenth of the time on: then it is what decides the pace."""
    clock.time += 60.0
    progress.count(_page(1, FIRST.start + 4 * HOUR, waited=waited))
    text = f"2 records/s, {waited / 60:.0%} of the time waiting for the rate limit, about 2 min left"
    assert (text in said[0]) is told


def test_a_line_is_said_every_ten_seconds_at_most(progress: ProgressLog, clock: Any, said: list[str]) -> None:
    """However fast the pages come, a line comes every ten seconds, and counts the pages between."""
    for number in range(100):
        clock.time += 1.0
        progress.count(_page(number + 1, FIRST.start + number * 300))
    assert len(said) == 10
    assert [line.split(";")[1].split(",")[0] for line in said[:3]] == [" 1", " 2", " 3"]


def test_what_is_left_is_guessed_only_with_something_done(progress: ProgressLog, clock: Any, said: list[str]) -> None:
    """In the first window nothing is known of the whole yet."""
    clock.time += 30.0
    progress.count(_page(1, FIRST.start))
    assert said[0].endswith("100 records in 1 pages, 3 records/s")


@pytest.mark.parametrize(
    ("at", "share"),
    [
        pytest.param(FIRST.start - HOUR, "0 of 10 windows", id="looking-back"),
        pytest.param(SPAN.end + HOUR, "9 of 10 windows", id="beyond-the-end"),
    ],
)
def test_pages_outside_the_range_count_within_it(
    progress: ProgressLog, clock: Any, said: list[str], at: int, share: str
) -> None:
    """Pages of the look-back and beyond the end make no nonsense of the numbers."""
    clock.time += 30.0
    progress.count(_page(1, at))
    assert share in said[0]


def test_an_empty_page_says_nothing(progress: ProgressLog, clock: Any, said: list[str]) -> None:
    """A page without records tells of no hour that could be named."""
    clock.time += 30.0
    progress.count(_page(1, FIRST.start, records=0))
    assert said == []
