"""The benchmark itself: that it runs, and says what it is asked for. How fast we are is for `make bench`."""

import re
import subprocess
import sys

from zendesk_pipeline_tests.bench.measuring import Measured
from zendesk_pipeline_tests.bench.report import ROWS, Comparison, comparison_targets, sweep_targets
from zendesk_pipeline_tests.root import ROOT


def _measured(**figures: float) -> Measured:
    usual = {"wall": 8.0, "cpu": 7.0, "memory": 200.0, "collecting": 1.4, "collecting_cpu": 2.7}
    counts = {"records": 5000, "requests": 6, "put": 96, "get": 48, "list": 2}
    return Measured(**{**usual, **counts, **figures})  # pyright: ignore[reportArgumentType]  # whole numbers are floats


def test_the_quick_bench_prints_every_row_of_both() -> None:
    """One small run: a table for each stream with pipeline and bare loop, one for the sizes, and the targets."""
    command = [sys.executable, "-m", "zendesk_pipeline_tests.bench", "--quick"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for row in ROWS:
        assert len(re.findall(rf"│ {re.escape(row)} +│ +[\d.,]+[ smiMB]*│ +[\d.,]+[ smiMB]*│", ended.stdout)) == 2
    for title in ("incremental_tickets: 2,000 records", "audit_logs: 400 records", "Sizes: one run each"):
        assert title in ended.stdout
    for case in ("an hour of audit logs", "12 hours of audit logs"):
        assert re.search(rf"│ {case} +│ +[\d.]+ s │ +[\d.]+ s │ +[\d.]+ │ +\d+ │ +[\d.]+ s │", ended.stdout)
    for stream in ("incremental_tickets", "audit_logs"):
        assert re.search(rf"{stream} with redaction rules: collecting, wall: .*ratio \d+\.\d\d", ended.stdout)
    assert "incremental_tickets, texts of many scripts: " in ended.stdout
    assert len(re.findall(r"^(?:met|MISSED) ", ended.stdout, re.MULTILINE)) == 10


def test_targets_are_met_or_missed_by_the_figures() -> None:
    """One page more than there are is allowed, and no more; the bare loop bounds wall and CPU; memory is flat."""
    bare = [_measured(collecting=2.0, collecting_cpu=1.5)]
    for figures, met in (
        ({}, [True, True, True]),
        ({"requests": 7}, [False, True, True]),
        ({"collecting": 1.5}, [True, False, True]),
        ({"collecting_cpu": 2.8}, [True, True, False]),
    ):
        comparison = Comparison(stream="incremental_tickets", bare=bare, pipeline=[_measured(**figures)])
        assert [target.met for target in comparison_targets(comparison)] == met
    sizes = [_measured(memory=memory) for memory in (100, 200, 264)]
    assert [target.met for target in sweep_targets(sizes)] == [True]
    assert [target.met for target in sweep_targets([*sizes, _measured(memory=265)])] == [False]


def test_the_short_year_prints_the_split_and_is_exact() -> None:
    """A day instead of a year: what planning, requests and event storage took, beside the floor; every record once."""
    command = [
        sys.executable,
        "-m",
        "zendesk_pipeline_tests.bench.year",
        "--windows",
        "24",
        "--stream",
        "audit_logs",
        "--forked",
    ]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    rows = re.findall(r"^│ (.{20,}?) │(.*)│$", ended.stdout, re.MULTILINE)
    told = {name.strip(): [value.strip() for value in values.split("│")] for name, values in rows}
    assert told["windows"] == ["24", "24", "2", "24"], ended.stderr
    assert told["S3 PUT account"] == ["0", "1", "1", "1"]
    assert told["S3 PUT catalogue"] == ["0", "0", "1", "1"]
    assert told["S3 PUT ledger"] == ["0", "24", "2", "24"]
    assert told["S3 PUT feed"] == ["0", "0", "2", "24"]
    assert told["exact"] == ["yes"] * 4
    for name in ("event storage", "requests to S3", "requests to Zendesk", "planning, wall", "run, CPU"):
        assert len(told[name]) == 4
    ratios = re.findall(r"^(?:met|MISSED) +SQLite, \w+ audit_logs: [\d.]+ of the floor", ended.stdout, re.MULTILINE)
    assert len(ratios) == 2
    assert re.search(r"^met +SQLite: every record once, every window reported", ended.stdout, re.MULTILINE)
