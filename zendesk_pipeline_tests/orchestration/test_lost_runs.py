"""Runs whose process is gone: which of them are ended, and which are not."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.events.log import EventLogEntry
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.orchestration import lost_runs
from zendesk_pipeline.orchestration.lost_runs import Place
from zendesk_pipeline.orchestration.run_history import LOST
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.promise import kept_runs

POOL = "zendesk_audit_logs"
Status = dg.DagsterRunStatus


@dataclass(frozen=True, slots=True)
class Left:
    """An instance as a crash leaves it."""

    instance: dg.DagsterInstance

    def run(self, status: Status = Status.STARTED, location: str = "zendesk_pipeline", host: str = "127.0.0.1") -> str:
        """A run that the daemon has launched, as Dagster records it; its id."""
        origin = GrpcServerCodeLocationOrigin(host=host, port=4000, location_name=location)
        run = dg.DagsterRun(
            job_name="hourly_collection",
            status=status,
            tags={GRPC_INFO_TAG: json.dumps({"host": host, "port": 4000})},
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(origin, "__repository__"), "hourly_collection"),
        )
        self.instance.add_run(run)
        return run.run_id

    def command_line(self, module: str = "zendesk_pipeline.definitions") -> str:
        """A run of `dagster asset materialize -m MODULE`."""
        code = RepositoryPythonOrigin(executable_path="python", code_pointer=ModuleCodePointer(module, "defs"))
        run = dg.DagsterRun(
            job_name="__ASSET_JOB", status=Status.STARTED, job_code_origin=JobPythonOrigin("__ASSET_JOB", code)
        )
        self.instance.add_run(run)
        return run.run_id

    def reports(self, run_id: str, pid: int, at: float | None = None) -> None:
        """The run says what its process is, and holds its pool from then on."""
        event = DagsterEvent(
            event_type_value=DagsterEventType.ENGINE_EVENT.value,
            job_name="hourly_collection",
            message=f"Started process for run (pid: {pid}).",
            event_specific_data=EngineEventData.in_process(pid),
        )
        entry = EventLogEntry(
            error_info=None,
            level=20,
            user_message="",
            run_id=run_id,
            timestamp=time.time() if at is None else at,
            job_name="hourly_collection",
            dagster_event=event,
        )
        self.instance.handle_new_event(entry)
        self.instance.event_log_storage.claim_concurrency_slot(POOL, run_id, "audit_logs")

    def status(self, run_id: str) -> Status:
        run = self.instance.get_run_by_id(run_id)
        assert run
        return run.status

    @property
    def holders(self) -> set[str]:
        """The runs that hold the pool."""
        return {slot.run_id for slot in self.instance.event_log_storage.get_concurrency_info(POOL).claimed_slots}

    def end(self, **how: Any) -> list[str]:
        """What is said."""
        said: list[str] = []
        lost_runs.end(self.instance, said.append, **how)
        return said


def opened(folder: Path, **changed: Any) -> Iterator[Left]:
    """An instance of the project's dagster.yaml, whose pool has room for all."""
    settings = yaml.safe_load((kept_runs.ROOT / "dagster.yaml").read_text())
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump({**settings, **changed}))
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        instance.event_log_storage.set_concurrency_slots(POOL, 10)
        yield Left(instance)


@pytest.fixture
def left(tmp_path: Path) -> Iterator[Left]:
    yield from opened(tmp_path / "dagster")


@pytest.fixture
def process() -> "Iterator[subprocess.Popen[bytes]]":
    """A process that lives until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        yield living
        living.kill()


def killed(process: "subprocess.Popen[bytes]") -> int:
    """The number of a process that is no more."""
    process.kill()
    process.wait()
    return process.pid


def test_a_run_without_its_process_fails_and_gives_its_pool_back(
    left: Left, process: "subprocess.Popen[bytes]"
) -> None:
    """What a crash has left is ended, in words for people, and the stream's next run need not wait."""
    run = left.run()
    left.reports(run, killed(process))
    assert left.holders == {run}
    assert left.end() == [
        f"The run {run} of hourly_collection has no process any more: it is ended, and its pool is free."
    ]
    assert left.status(run) is Status.FAILURE
    assert left.holders == set()
    (failure,) = left.instance.all_logs(run, of_type=DagsterEventType.RUN_FAILURE)
    assert "its windows are collected again by themselves" in failure.message


def test_dagster_starts_such_a_run_again(left: Left, process: "subprocess.Popen[bytes]") -> None:
    """It counts as a crashed worker, so that `run_retries` of dagster.yaml takes it, and at once."""
    run = left.run()
    left.reports(run, killed(process))
    left.end()
    ended = left.instance.get_run_by_id(run)
    assert ended
    assert (ended.tags["dagster/will_retry"], ended.tags[LOST]) == ("true", run)


def test_a_run_that_lives_is_left_alone(left: Left, process: "subprocess.Popen[bytes]") -> None:
    """Its process is there: the services may have been started anew while it went on."""
    run = left.run()
    left.reports(run, process.pid)
    assert left.end() == []
    assert (left.status(run), left.holders) == (Status.STARTED, {run})


def test_a_step_that_lives_keeps_its_run(left: Left, process: "subprocess.Popen[bytes]") -> None:
    """A run of several processes is alive as long as one of them is."""
    run = left.run()
    with subprocess.Popen([sys.executable, "-c", ""]) as first:
        pass
    left.reports(run, first.pid)
    left.reports(run, process.pid)
    assert left.end() == []


def test_a_number_that_another_process_has_got_counts_for_nothing(left: Left) -> None:
    """After a restart of the machine, somebody else has the number: younger than what the run has said."""
    run = left.run()
    left.reports(run, os.getpid(), at=time.time() - 86400)
    left.end()
    assert left.status(run) is Status.FAILURE


def test_a_process_that_nobody_has_buried_is_gone(left: Left) -> None:
    """A zombie keeps its number and does nothing: that is what a killed child of a container's first process is."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as zombie:
        run = left.run()
        left.reports(run, zombie.pid)
        zombie.kill()
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        left.end()
        assert left.status(run) is Status.FAILURE


def test_a_process_of_somebody_else_is_there(left: Left) -> None:
    """The first process of the machine, which most users may not signal, is older than any run."""
    run = left.run()
    left.reports(run, 1)
    assert left.end() == []


@pytest.mark.parametrize(
    ("location", "host"), [("theirs", "127.0.0.1"), ("zendesk_pipeline", "code.example.com")], ids=["location", "host"]
)
def test_other_locations_and_hosts_are_left_alone(
    left: Left, process: "subprocess.Popen[bytes]", location: str, host: str
) -> None:
    """Nothing is known here of their processes; named on the command line, they are looked after too."""
    run = left.run(location=location, host=host)
    left.reports(run, killed(process))
    assert left.end() == []
    assert left.status(run) is Status.STARTED
    left.end(place=Place(locations={location}, hosts={host}))
    assert left.status(run) is Status.FAILURE


def test_other_launchers_are_left_alone(tmp_path: Path, process: "subprocess.Popen[bytes]") -> None:
    """Their runs are processes elsewhere, and they look after them."""
    launcher = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
    for left in opened(tmp_path / "dagster", run_launcher=launcher):
        run = left.run()
        left.reports(run, killed(process))
        assert left.end() == []
        assert left.status(run) is Status.STARTED


def test_a_run_of_the_command_line_is_looked_after(left: Left, process: "subprocess.Popen[bytes]") -> None:
    """It holds its pool as well; where the instance is in files, nobody on another machine can have started it."""
    run, theirs = left.command_line(), left.command_line("their.definitions")
    left.reports(theirs, killed(process))
    left.reports(run, process.pid)
    left.end()
    assert (left.status(run), left.status(theirs)) == (Status.FAILURE, Status.STARTED)
    assert left.holders == {theirs}


def test_what_was_being_cancelled_is_cancelled(left: Left, process: "subprocess.Popen[bytes]") -> None:
    """Nobody wanted it to be started again."""
    run = left.run(Status.CANCELING)
    left.reports(run, killed(process))
    left.end()
    assert (left.status(run), left.holders) == (Status.CANCELED, set())


@pytest.mark.parametrize("status", [Status.QUEUED, Status.SUCCESS, Status.FAILURE, Status.CANCELED])
def test_what_is_not_under_way_is_left_alone(left: Left, status: Status) -> None:
    """Queued runs begin when the services are there; what has ended has ended."""
    run = left.run(status)
    assert left.end() == []
    assert left.status(run) is status


def test_a_run_that_was_just_started_is_waited_for(
    left: Left, process: "subprocess.Popen[bytes]", fake_clock: Callable[[float], FakeClock]
) -> None:
    """It has not said yet what its process is: it has a minute for that, and then it is lost."""
    run = left.run(Status.STARTING)
    time_of_crash = fake_clock(time.time())
    left.end(clock=time_of_crash.clock)
    assert left.status(run) is Status.FAILURE
    assert 55 < sum(time_of_crash.slept) < 65
    living = left.run(Status.STARTING)
    again = fake_clock(time.time())

    def sleep(_seconds: float) -> None:
        left.reports(living, process.pid)

    assert left.end(clock=Clock(now=again.clock.now, sleep=sleep)) == []
    assert left.status(living) is Status.STARTING


@pytest.mark.parametrize(
    ("etime", "seconds"), [("00:07", 7), ("12:34", 754), ("01:00:00", 3600), ("2-03:04:05", 183_845)]
)
def test_the_age_of_a_process_as_ps_writes_it(
    etime: str, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes and seconds, hours before them, days before those."""
    _ps(f"echo '   {etime}'", tmp_path, monkeypatch)
    began = lost_runs._by_ps(1)
    assert began is not None
    assert abs(time.time() - seconds - began) < 5


def test_both_ways_to_ask_for_a_process_agree(
    process: "subprocess.Popen[bytes]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With /proc, and with the `ps` of systems that have none; else by a stand-in."""
    if shutil.which("ps") is None:
        age = '[ -d /proc/$4 ] && echo "00:$(printf %02d $(($(date +%s) - $(stat -c %Y /proc/$4))))"'
        _ps(age, tmp_path, monkeypatch)
    by_proc, by_ps = lost_runs._by_proc(process.pid), lost_runs._by_ps(process.pid)
    assert by_proc is not None
    assert by_ps is not None
    assert abs(by_proc - by_ps) < 5
    assert abs(by_proc - time.time()) < 300
    assert (lost_runs._by_ps(gone := killed(process)), lost_runs._began(gone)) == (None, None)


def _ps(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `ps` that comes first."""
    program = folder / "ps"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
