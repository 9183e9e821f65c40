"""Runs that a crash of the machine or of Dagster's services left behind.

Dagster's default launcher makes each run a child of the code server, and does not watch it: when both are gone, the
run stays *Started* for as long as `max_runtime_seconds` allows, and its stream waits. Each run reports the number of
its process first (`Started process for run (pid: …)`, `dagster/_grpc/impl.py` of 1.13.27), so it can be seen here
whether that process is there.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zendesk_pipeline.model.clock import Clock

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun, RunRecord

LOCATION, MODULE = "zendesk_pipeline", "zendesk_pipeline.definitions"
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
"""How the daemon names a code server that runs beside it."""
START_SECONDS = 60
"""Seconds in which the process of a run reports its start. A later one finds its run ended and does nothing
(`execute_run_iterator`, dagster 1.13.29)."""
SLACK = 60
"""Seconds by which a process may seem to be younger than what it has reported: clocks are set."""
LOOK_SECONDS = 1
PROC = Path("/proc/stat")
REAL = Clock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which runs are looked after: those of these locations, launched on a host of one of these names."""

    locations: Collection[str] = frozenset({LOCATION})
    hosts: Collection[str] = THIS_MACHINE


HERE = Place()


def end(instance: "DagsterInstance", say: Callable[[str], None], place: Place = HERE, clock: Clock = REAL) -> None:
    """End the runs of this machine that have no process any more, and give back their pools' slots.

    They fail, so that `run_retries` starts them again. A run that has only just been started is waited for, a minute at
    most, until it has said what its process is. Runs of other launchers are left alone, as are those of other code
    locations, and those whose code server the daemon reaches by another name than this machine's.
    """
    from dagster import DagsterRunStatus, DefaultRunLauncher, RunsFilter  # noqa: PLC0415 - slow to import

    if type(instance.run_launcher) is not DefaultRunLauncher:
        return
    under_way = RunsFilter(statuses=[DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])
    while True:
        records = [each for each in instance.get_run_records(under_way) if _is_here(instance, each.dagster_run, place)]
        states = [(record.dagster_run, _state(instance, record, clock.now())) for record in records]
        for run in [run for run, state in states if state == "lost"]:
            _end(instance, run)
            say(f"The run {run.run_id} of {run.job_name} has no process any more: it is ended, and its pool is free.")
        if not any(state == "starting" for _, state in states):
            return
        clock.sleep(LOOK_SECONDS)


def _is_here(instance: "DagsterInstance", run: "DagsterRun", place: Place) -> bool:
    """Whether a process of the run would be one of this machine, and the run is one of ours."""
    from zendesk_pipeline.orchestration.instance import GRPC_INFO_TAG, ModuleCodePointer  # noqa: PLC0415 - slow to import

    if launched := run.tags.get(GRPC_INFO_TAG):
        origin = run.remote_job_origin
        return bool(origin and origin.location_name in place.locations and json.loads(launched)["host"] in place.hosts)
    # One of the command line. Where it ran is known only where nobody else can reach the records: they are in files.
    code = run.job_code_origin
    pointer = code.repository_origin.code_pointer if code else None
    ours = isinstance(pointer, ModuleCodePointer) and pointer.module == MODULE
    return ours and run.remote_job_origin is None and instance.event_log_storage.is_run_sharded


def _state(instance: "DagsterInstance", record: "RunRecord", now: float) -> Literal["alive", "starting", "lost"]:
    processes = list(_processes(instance, record.dagster_run.run_id))
    if any((began := _began(pid)) is not None and began <= at + SLACK for pid, at in processes):
        return "alive"
    young = now - record.update_timestamp.timestamp() < START_SECONDS
    return "starting" if young and not processes else "lost"


def _processes(instance: "DagsterInstance", run_id: str) -> Iterator[tuple[int, float]]:
    """The processes that a run has named, and when: its own, and those of its steps."""
    from dagster import DagsterEventType  # noqa: PLC0415 - slow to import

    for entry in instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        named = event.engine_event_data.metadata.get("pid") if event else None
        if named and str(named.value).isdecimal():
            yield int(str(named.value)), entry.timestamp


def _began(pid: int) -> float | None:
    """When a process began, seconds since the epoch; None where there is none. Numbers are given again."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # somebody else's
        pass
    return _by_proc(pid) if PROC.exists() else _by_ps(pid)


def _by_proc(pid: int) -> float | None:
    """By its 22nd field, in ticks since the boot: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html ."""
    try:
        state, *numbers = (PROC.parent / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # not shown to us (hidepid): nothing can be said against it
    if state in "ZX":  # ended, and its parent has not looked
        return None
    (boot,) = (line.split()[1] for line in PROC.read_text().splitlines() if line.startswith("btime "))
    return int(boot) + int(numbers[18]) / os.sysconf("SC_CLK_TCK")


def _by_ps(pid: int) -> float | None:
    """The same where there is no /proc; POSIX has `etime`, as [[dd-]hh:]mm:ss."""
    command = ["ps", "-o", "etime=", "-p", str(pid)]
    age = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - our own command
    days, _, clock = age.rpartition("-")
    if not clock:
        return None
    seconds = sum(int(part) * 60**power for power, part in enumerate(reversed(clock.split(":"))))
    return time.time() - int(days or 0) * 86400 - seconds


def _end(instance: "DagsterInstance", run: "DagsterRun") -> None:
    from dagster import DagsterRunStatus  # noqa: PLC0415 - slow to import

    from zendesk_pipeline.orchestration.run_history import LOST  # noqa: PLC0415 - the same

    instance.add_run_tags(run.run_id, {LOST: run.run_id})  # a retry takes its parent's tags over, and is not lost
    if run.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message="It was being ended when its process went away.")
    else:
        instance.report_run_failed(
            run,
            "Its process is gone: the machine or Dagster's services went down while it ran. Nothing is lost: its"
            " windows are collected again by themselves.",
        )
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
