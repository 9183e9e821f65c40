"""What a run costs on PostgreSQL: `python -m zendesk_pipeline_tests.cluster.measure --launcher celery --accounts 12`.

The catch-up sensor asks for one window of every stream of every account, each a run of its own, as an hour has them. What
the database grows by is divided by the runs; seconds of CPU are those of all processes of daemon and workers.
"""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
import dagster as dg
import psutil

from zendesk_pipeline.local_pipeline import forget_account, settled_until
from zendesk_pipeline.windows import HOUR, Span, timestamp
from zendesk_pipeline_tests.cluster.stage import Cluster, accounts, cluster, deployed

TABLES = ("event_logs", "runs", "run_tags", "job_ticks", "asset_keys", "asset_event_tags", "asset_check_executions")
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
    with tempfile.TemporaryDirectory() as made:
        with cluster(Path(made), "--since", timestamp(span.start - 24 * HOUR)) as services:
            names = [f"customer_{number:03d}" for number in range(chosen.accounts)]
            running = services.also(PYTHONPATH=accounts(services, names, span, catch_up_hours=2))
            without = ("run_launcher",) if chosen.launcher == "default" else ()
            limits = {"runs": {"max_concurrent_runs": 1}}
            launcher = {} if without else {"run_launcher": {"config": {"include": ["soc.definitions"]}}}
            (running.home / "dagster.yaml").write_text(deployed(without=without, concurrency=limits, **launcher))
            os.environ.update(running.environment)
            _measure(running, chosen.launcher, chosen.runs, chosen.seconds)


def _measure(services: Cluster, launcher: str, runs: int, seconds: int) -> None:
    with services.instance() as instance, ExitStack() as up:
        trees = {"worker": up.enter_context(services.worker("one", 1))} if launcher == "celery" else {}
        trees["daemon and code server"] = up.enter_context(services.daemon("soc.definitions"))
        done = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
        deadline, before, counted = time.monotonic() + seconds, {}, 0
        while counted < runs and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            now = instance.get_runs_count(done)
            if now > counted:
                counted = now
                spent = {name: cpu(tree) for name, tree in trees.items()}
                click.echo(f"run {counted}: " + ", ".join(f"{name} {each:.1f} s" for name, each in spent.items()))
                if not before:  # the first run has its imports
                    first, before, start = counted, spent, _counts(services)
        made = _counts(services)
        per = counted - first
        for name in trees:
            click.echo(f"{name}: {(spent[name] - before[name]) / per:.2f} s of CPU a run, over {per} runs")
        for name, count in made.items():
            click.echo(f"{name}: {(count - start[name]) / per:.1f} a run")


def cpu(tree: psutil.Process) -> float:
    """Seconds of CPU of a process and all that it started, also of what has ended."""
    total = 0.0
    for process in (tree, *tree.children(recursive=True)):
        used = process.cpu_times()
        total += used.user + used.system + used.children_user + used.children_system
    return total


def _counts(services: Cluster) -> dict[str, int]:
    database = services.postgres
    rows = {f"rows of {table}": database.number(f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608 - ours
    return {
        **rows,
        "bytes of the database": database.number("SELECT pg_database_size(current_database())"),
        "statements": database.statements(),
        "connections": database.number("SELECT sum(sessions) FROM pg_stat_database WHERE datname = current_database()"),
    }


if __name__ == "__main__":
    main()
