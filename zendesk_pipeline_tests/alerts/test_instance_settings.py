"""What is told of a Dagster instance that was there before."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest

from zendesk_pipeline.alerts.instance_settings import (
    FREE_SLOTS,
    FRESHNESS,
    MONITORING,
    POOLS,
    RETRIES,
    missing_settings,
)
from zendesk_pipeline.alerts.problem import Problem
from zendesk_pipeline_tests.root import ROOT

POOL = "acme__zendesk_audit_logs"


def _problems(home: Path, *settings: str, pools: Sequence[str] = (POOL,)) -> list[Problem]:
    """What is wrong with an instance of these settings."""
    (home / "dagster.yaml").write_text("\n".join(["telemetry: {enabled: false}", *settings]))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return list(missing_settings(instance, pools))


def test_what_an_instance_is_without_is_told_with_what_to_set(tmp_path: Path) -> None:
    """Dagster's defaults have no limits, monitoring or retries, and judge freshness; the texts have what to paste."""
    problems = _problems(tmp_path)
    assert [problem.title for problem in problems] == [
        "This Dagster instance has no limit for the pool acme__zendesk_audit_logs",
        "This Dagster instance does not notice runs that died",
        "This Dagster instance does not repeat runs whose worker crashed",
        "This Dagster instance judges freshness by itself",
    ]
    assert f"dagster instance concurrency set {POOL} 1\n" in problems[0].text
    blocks = zip(problems, (POOLS, MONITORING, RETRIES, FRESHNESS), strict=True)
    assert [problem.cause for problem, block in blocks if block not in problem.text] == []
    assert {(problem.severity, problem.once) for problem in problems} == {("warning", True)}


def test_with_the_blocks_that_are_told_nothing_is_missing(tmp_path: Path) -> None:
    """Pasted as they are."""
    assert _problems(tmp_path, POOLS, MONITORING, RETRIES, FRESHNESS) == []


def test_the_dagster_yaml_of_this_project_has_everything(tmp_path: Path) -> None:
    """The one for local use."""
    assert _problems(tmp_path, (ROOT / "dagster.yaml").read_text().replace("telemetry:\n  enabled: false\n", "")) == []


@pytest.mark.parametrize(
    ("settings", "causes"),
    [
        ([MONITORING, RETRIES, FRESHNESS], ["instance pools"]),
        ([POOLS, RETRIES, FRESHNESS], ["instance run_monitoring"]),
        ([POOLS, MONITORING.replace(f"  {FREE_SLOTS}: 30", ""), RETRIES, FRESHNESS], ["instance slots"]),
        ([POOLS, MONITORING, FRESHNESS], ["instance run_retries"]),
        (["concurrency: {pools: {default_limit: 3}}", MONITORING, RETRIES, FRESHNESS], []),
        ([POOLS, MONITORING, RETRIES], ["instance freshness"]),
    ],
)
def test_each_setting_is_looked_at_by_itself(tmp_path: Path, settings: list[str], causes: list[str]) -> None:
    """A higher limit is somebody's choice; pools that are never given back are not."""
    assert [problem.cause for problem in _problems(tmp_path, *settings)] == causes


def test_a_limit_of_the_pool_alone_is_enough(tmp_path: Path) -> None:
    """As the command that is told sets it; pools of others need none."""
    pools = [POOL, "acme__zendesk_export"]
    (problem,) = _problems(tmp_path, MONITORING, RETRIES, FRESHNESS, pools=pools)
    assert (problem.title, problem.size) == ("This Dagster instance has no limit for 2 pools", 2)
    (command, another) = [line.split() for line in problem.text.splitlines() if line.startswith("dagster instance")]
    _run(tmp_path, command)
    (problem,) = _problems(tmp_path, MONITORING, RETRIES, FRESHNESS, pools=pools)
    assert problem.title == "This Dagster instance has no limit for the pool acme__zendesk_export"
    _run(tmp_path, another)
    assert _problems(tmp_path, MONITORING, RETRIES, FRESHNESS, pools=pools) == []


def _run(home: Path, command: Sequence[str]) -> None:
    program = Path(sys.executable).with_name(command[0])
    subprocess.run([program, *command[1:]], env={**os.environ, "DAGSTER_HOME": str(home)}, check=True)
