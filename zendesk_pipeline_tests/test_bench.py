"""The benchmark itself: that it runs, and says what it is asked for. How fast we are is for `make bench`."""

import re
import subprocess
import sys
from pathlib import Path

from zendesk_pipeline_tests.bench.measuring import Measured
from zendesk_pipeline_tests.bench.report import ROWS, Comparison, comparison_targets, sweep_targets

PROJECT = Path(__file__).resolve().parents[1]


def _measured(**figures: float) -> Measured:
    usual = {"wall": 8.0, "cpu": 7.0, "memory": 200.0, "collecting": 2.0, "collecting_cpu": 1.5}
    counts = {"records": 5000, "requests": 6, "put": 96, "get": 48, "list": 2}
    return Measured(**{**usual, **counts, **figures})  # pyright: ignore[reportArgumentType]  # whole numbers are floats


def test_the_quick_bench_prints_every_row_of_both() -> None:
    """One small run: a table for each stream with pipeline and bare loop, one for the sizes, and the targets."""
    command = [sys.executable, "-m", "zendesk_pipeline_tests.bench", "--quick"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    for row in ROWS:
        assert len(re.findall(rf"│ {re.escape(row)} +│ +[\d.,]+[ smiMB]*│ +[\d.,]+[ smiMB]*│", ended.stdout)) == 2
    for title in ("incremental_tickets: 2,000 records", "audit_logs: 400 records", "Sizes: one run each"):
        assert title in ended.stdout
    for case in ("an hour of audit logs", "12 hours of audit logs"):
        assert re.search(rf"│ {case} +│ +[\d.]+ s │ +[\d.]+ s │ +[\d.]+ │ +\d+ │ +[\d.]+ s │", ended.stdout)
    for stream in ("incremental_tickets", "audit_logs"):
        assert re.search(rf"{stream} with redaction rules: collecting, wall: .*ratio \d+\.\d\d", ended.stdout)
    assert len(re.findall(r"^(?:met|MISSED) ", ended.stdout, re.MULTILINE)) == 8


def test_targets_are_met_or_missed_by_the_figures() -> None:
    """One page more than there are is allowed, and no more; the bare loop's time is the bound; memory is flat."""
    bare = [_measured()]
    for figures, met in (
        ({}, [True, True]),
        ({"requests": 7}, [False, True]),
        ({"collecting": 2.1}, [True, False]),
    ):
        comparison = Comparison(stream="incremental_tickets", bare=bare, pipeline=[_measured(**figures)])
        assert [target.met for target in comparison_targets(comparison)] == met
    sizes = [_measured(memory=memory) for memory in (100, 200, 264)]
    assert [target.met for target in sweep_targets(sizes)] == [True]
    assert [target.met for target in sweep_targets([*sizes, _measured(memory=265)])] == [False]
