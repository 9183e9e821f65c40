"""The simulation of many accounts: that it counts right, and that docs/deployment.md says what it prints."""

import re
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.commands.volume import HOURS_A_MONTH
from zendesk_pipeline.delivery.inspection import WEEKS
from zendesk_pipeline.orchestration.accounts import FIRST_MINUTE, minute_of
from zendesk_pipeline_tests.bench.scale import Measured, hour, month, scale
from zendesk_pipeline_tests.root import ROOT

PAGE = ROOT / "docs" / "deployment.md"
MEASURED = Measured()


@given(st.integers(1, 60), st.integers(1, 3), st.integers(1, 6))
def test_every_run_is_made_and_none_before_it_is_due(accounts: int, streams: int, slots: int) -> None:
    """As many as there are streams, each at its account's minute or later."""
    simulated = hour(accounts, streams, slots, 2, MEASURED)
    assert simulated.runs == len(simulated.waits) == accounts * streams
    assert min(simulated.waits) >= 0
    minutes = [minute_of(f"customer_{number:05d}") for number in range(accounts)]
    assert simulated.last > max(minutes) * 60 >= FIRST_MINUTE * 60


def test_nobody_waits_where_there_is_a_slot_for_each() -> None:
    """And with one slot everybody of a minute waits for the one before."""
    assert set(hour(50, 2, 100, 100, MEASURED).waits) == {0.0}
    assert max(hour(50, 2, 1, 100, MEASURED).waits) > 0


@pytest.mark.parametrize("changes", [{"cpu": 3.0}, {"waiting": 20.0}])
def test_slower_runs_wait_longer_for_a_slot(changes: dict[str, float]) -> None:
    """More work on the same cores, or more waiting for Zendesk."""
    slower = hour(500, 2, 4, 2, replace(MEASURED, **changes))
    assert sum(slower.waits) > sum(hour(500, 2, 4, 2, MEASURED).waits)


def test_a_month_counts_the_requests_of_docs_performance() -> None:
    """A run puts an object and a ledger and lists twice; the feed check lists once an hour for each account."""
    counted = month(10, 2, MEASURED)
    assert counted.runs == 10 * 2 * HOURS_A_MONTH
    assert counted.s3_writes == counted.runs * 4 + 10 * HOURS_A_MONTH
    assert counted.s3_reads == counted.runs * (2 + 3 + WEEKS)


@pytest.mark.parametrize(("column", "accounts"), [*enumerate((100, 500, 1000, 10_000), start=1)])
def test_the_page_says_what_is_printed(column: int, accounts: int) -> None:
    """The table of docs/deployment.md, where it repeats the command's numbers as they are."""
    printed = CliRunner().invoke(scale, ["--accounts", str(accounts)]).output
    rows = {cells[1].strip(): cells[column + 1].strip() for line in _table() if (cells := line.split("|"))}
    waits = re.search(r"waits (\d+) s in the median, (\d+) s at most; the last one ends at minute (\d+)", printed)
    assert waits
    assert rows["runs an hour"] in printed
    assert rows["a run waits for a slot: median, most"] == f"{waits[1]} s, {waits[2]} s"
    assert rows["the hour's last run ends at minute"] == waits[3]
    assert f"{rows['S3 requests, a month']}\n" in printed


def _table() -> list[str]:
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| accounts"))
    return [line for line in lines[start : start + 20] if line.startswith("|")]
