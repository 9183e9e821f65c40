"""The hourly run, from a tick to the object in the bucket: `python -m zendesk_pipeline_tests.bench.hourly`.

Dagster's own daemon with the project's dagster.yaml, a code server, the simulated Zendesk and SeaweedFS. It waits for
the next minute at which the schedule may tick, so it takes two to eight minutes.
"""

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import dagster as dg
import psutil
from rich.console import Console
from rich.table import Column, Table

from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import prove
from zendesk_pipeline.local.pipeline import LocalPipeline
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.orchestration.accounts import FIRST_MINUTE, LAST_MINUTE
from zendesk_pipeline_tests.root import ROOT

BUDGET = 4.0
"""Seconds of processor time that the process of a run may take."""
READY = 45
"""Seconds that the daemon has before the tick."""
PATIENCE = 180
LOCATION = "zendesk_pipeline_tests.bench.hourly_location"
MINUTE = "BENCH_MINUTE"
"""The variable that the location reads."""
LOOK_SECONDS = 0.1
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hourly:
    """A run, in seconds after the tick of its schedule, and the seconds of processor time its process took."""

    stream: str
    created: float
    started: float
    delivered: float
    """When Dagster noted the window as delivered: after object and ledger."""
    ended: float


@click.command()
def hourly() -> None:
    """Measure the hourly run of both streams, by the real schedule."""
    local.forget_account()
    with local.one_interruption(), TemporaryDirectory() as folder:
        tick = _next_tick(time.time())
        window = Window.of(tick - HOUR)
        since = timestamp(window.start - 6 * HOUR)
        instance = (ROOT / "dagster.yaml").read_text()
        console.print(f"The schedule ticks at {timestamp(tick)}; load average {os.getloadavg()[0]:.1f} before.")
        options = ("--since", since)
        with local.local_pipeline(Path(folder), *options, start=window.start, instance=instance) as place:
            place.environment.update({MINUTE: str(tick // 60 % 60), "CATCH_UP_HOURS": "0", "PYTHONPATH": str(ROOT)})
            with _daemon(place) as daemon:
                before = _cpu_of_runs(daemon)
                runs = _runs(place, tick)
                spent = _cpu_of_runs(daemon) - before
            console.print(_table(runs))
            span = Span(window.start, window.end)
            exact = all(prove(each, span, place.zendesk.control).holds for each in local.buckets(place).values())
    a_run = spent / len(runs)
    console.print(f"a run's process takes {a_run:.2f} s of processor time, start and imports included; exact: {exact}")
    met = a_run <= BUDGET and exact
    console.print(f"{'met' if met else 'MISSED'}     at most {BUDGET:.0f} s a run, and every record once")
    sys.exit(not met)


def _next_tick(now: float) -> int:
    """The next full minute that leaves the daemon time to start, and that a collection may begin at."""
    at = -(-int(now + READY) // 60) * 60
    while not FIRST_MINUTE <= at // 60 % 60 <= LAST_MINUTE:
        at += 60
    return at


@contextmanager
def _daemon(place: LocalPipeline) -> Generator[psutil.Process]:
    log = place.folder / "daemon.log"
    with local.running(
        place, log, "dagster._daemon", "run", "-m", "zendesk_pipeline_tests.bench.hourly_location"
    ) as one:
        yield psutil.Process(one.pid)


def _cpu_of_runs(daemon: psutil.Process) -> float:
    """Of the processes that code servers started; waits until all of them have ended."""
    servers = [each for each in daemon.children(recursive=True) if "grpc" in _words(each)]
    deadline = time.time() + PATIENCE
    while any(_is_run(child) for each in servers for child in each.children()):
        if time.time() > deadline:
            raise local.LocalError("The process of a run has not ended.")
        time.sleep(LOOK_SECONDS)
    times = [each.cpu_times() for each in servers]
    return sum(each.children_user + each.children_system for each in times)


def _is_run(process: psutil.Process) -> bool:
    """Whether it is a run, or what is left of one until its time has been added up; no other child ever ends."""
    words = _words(process)
    return not words or any("spawn_main" in each for each in words)


def _words(process: psutil.Process) -> list[str]:
    """Of its command line; none once it has ended."""
    try:
        return process.cmdline()
    except (psutil.ZombieProcess, psutil.NoSuchProcess):
        return []


def _runs(place: LocalPipeline, tick: int) -> list[Hourly]:
    """Those of the tick, once they have ended."""
    streams = set(local.buckets(place))
    with dg.DagsterInstance.from_config(str(place.home)) as instance:
        deadline = tick + PATIENCE
        while time.time() < deadline:
            records = [each for each in instance.get_run_records() if each.dagster_run.is_finished]
            if len(records) == len(streams):
                return [_hourly(instance, each, tick) for each in records]
            time.sleep(LOOK_SECONDS)
    raise local.LocalError(f"No runs after {PATIENCE} s: {local.last_words(place.folder / 'daemon.log')}")


def _hourly(instance: dg.DagsterInstance, record: dg.RunRecord, tick: int) -> Hourly:
    run = record.dagster_run
    if not run.is_success:
        raise local.LocalError(f"The run {run.run_id} failed.")
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    (event,) = instance.get_records_for_run(run.run_id, of_type=kind).records
    keys = sorted(run.asset_selection or ())
    return Hourly(
        stream=keys[0].to_user_string(),
        created=record.create_timestamp.timestamp() - tick,
        started=(record.start_time or 0) - tick,
        delivered=event.event_log_entry.timestamp - tick,
        ended=(record.end_time or 0) - tick,
    )


def _table(runs: list[Hourly]) -> Table:
    table = Table("seconds after the tick", *(Column(one.stream, justify="right") for one in runs), title_style="bold")
    for name in ("created", "started", "delivered", "ended"):
        table.add_row(name, *(f"{getattr(one, name):.1f}" for one in runs))
    return table


if __name__ == "__main__":
    hourly()
