"""What a run costs: `python -m zendesk_pipeline_tests.deploy.cluster.measure --launcher celery --accounts 12`.

The catch-up sensor asks for one window of every stream of every account: runs as an hour has them, one at a time. The
first has the imports, and is left out of the means. Seconds of CPU are those of a process and all that it has started.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import dagster as dg
import psutil

from zendesk_pipeline.local.pipeline import forget_account, settled_until
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline_tests.deploy.cluster.stage import Cluster, accounts, cluster, deployed

LOOK_SECONDS = 0.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launcher", choices=["celery", "default"], default="celery")
    parser.add_argument("--accounts", type=int, default=12, help="in the code location")
    parser.add_argument("--runs", type=int, default=24, help="after how many to stop")
    parser.add_argument("--seconds", type=int, default=500, help="after how many to stop in any case")
    chosen = parser.parse_args()
    forget_account()
    end = settled_until() - HOUR
    span = Span(end - HOUR, end)
    with (
        tempfile.TemporaryDirectory() as made,
        cluster(Path(made), "--since", timestamp(span.start - 24 * HOUR)) as services,
    ):
        names = [f"customer_{number:03d}" for number in range(chosen.accounts)]
        running = services.also(PYTHONPATH=accounts(services, names, span))
        changes: dict[str, Any] = {"concurrency": {"runs": {"max_concurrent_runs": 1}}}
        if chosen.launcher == "celery":
            changes["run_launcher"] = {"config": {"include": ["soc.definitions"]}}
        without = () if chosen.launcher == "celery" else ("run_launcher",)
        (running.home / "dagster.yaml").write_text(deployed(changes, without=without))
        os.environ.update(running.environment)
        _measure(running, chosen.launcher, chosen.runs, time.monotonic() + chosen.seconds)


def _measure(services: Cluster, launcher: str, runs: int, deadline: float) -> None:
    with services.instance() as instance, ExitStack() as up:
        trees = {"worker": up.enter_context(services.worker("one", 1))} if launcher == "celery" else {}
        trees["daemon and code server"] = up.enter_context(services.daemon("soc.definitions"))
        points: dict[int, dict[str, float]] = {}
        while len(points) < 2 or (max(points) < runs and time.monotonic() < deadline):
            time.sleep(LOOK_SECONDS)
            done = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS]))
            if done and done not in points:
                points[done] = {**{name: cpu(tree) for name, tree in trees.items()}, **_traffic(services)}
                click.echo(f"run {done}: " + ", ".join(f"{name} {points[done][name]:.1f} s" for name in trees))
    first, last = min(points), max(points)
    for name, value in points[last].items():
        click.echo(f"{name}: {(value - points[first][name]) / (last - first):.2f} a run, over {last - first}")
    for name, value in _rows(services):
        click.echo(f"{name}: {value}")


def cpu(tree: psutil.Process) -> float:
    """Seconds of CPU of a process and all that it started, also of what has ended."""
    total = 0.0
    for process in (tree, *tree.children(recursive=True)):
        used = process.cpu_times()
        total += used.user + used.system + used.children_user + used.children_system
    return total


def _traffic(services: Cluster) -> dict[str, float]:
    sessions = "SELECT sum(sessions) FROM pg_stat_database WHERE datname = current_database()"
    return {"statements": services.postgres.statements(), "connections": services.postgres.number(sessions)}


def _rows(services: Cluster) -> Iterator[tuple[str, str]]:
    """What the runs that have ended well have left, and what each table takes with its indexes."""
    ((runs, events, written),) = services.postgres.rows(
        "SELECT count(DISTINCT run_id), count(*), sum(pg_column_size(event_logs.*)) FROM event_logs"
        " WHERE run_id IN (SELECT run_id FROM runs WHERE status = 'SUCCESS')"
    )
    yield "events a run", f"{events / runs:.1f}, {written / runs:.0f} bytes of rows"
    for (table,) in services.postgres.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"):
        count = services.postgres.number(f'SELECT count(*) FROM "{table}"')  # noqa: S608 - Dagster's own names
        size = services.postgres.number("SELECT pg_total_relation_size(%s::regclass)", table)
        if count:
            yield table, f"{count} rows, {size} bytes"


if __name__ == "__main__":
    main()
