"""Dagster's own daemon by a clock of ours: hours pass in seconds, and everything else is as real as ever.

Scheduler, sensor daemon and run queue are Dagster's, called at their times. Runs are executed in this process, over
real HTTP and the real S3 protocol. The clock shows through wherever Dagster, the sensors and the client ask for the
time, so that every run, tick and alert carries simulated times.
"""

import logging
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import dagster as dg
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import get_freezable_log_manager
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._daemon.sensor import execute_sensor_iteration  # pyright: ignore[reportUnknownVariableType]  # its own
from dagster._daemon.types import DaemonHeartbeat
from dagster._scheduler.scheduler import (
    ScheduleIterationTimes,
    launch_scheduled_runs,  # pyright: ignore[reportUnknownVariableType]  # as above
)

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.orchestration.io_manager import S3IOManager
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.promise import story_location
from zendesk_pipeline_tests.root import ROOT

LOCATION = "zendesk_pipeline"
INSTANCE = """
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
"""What is added to the project's own dagster.yaml."""

_quiet = logging.getLogger(__name__)
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


@dataclass(slots=True)
class SimulatedTime:
    """A clock that moves when it is told to, or when somebody sleeps."""

    now: float
    follow: Callable[[float], object]
    """Told whenever it has moved: other clocks that go with it."""
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.now = float(self.now)
        self.clock = Clock(now=lambda: self.now, monotonic=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.move_to(self.now + seconds)

    def move_to(self, moment: float) -> None:
        """Go on to a moment; it never runs backwards."""
        self.now = max(self.now, float(moment))
        self.follow(self.now)


@contextmanager
def on_the_clock(time: SimulatedTime, environment: Mapping[str, str]) -> Generator[None]:
    """This process lives in the environment and by the clock: the definitions, their runs and Dagster itself."""

    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, environment))
        for resource in (ZendeskResource, S3IOManager):
            clock = resource.__private_attributes__["_clock"]
            stack.enter_context(patch.object(clock, "default_factory", lambda: time.clock))
        stack.enter_context(dagsters_time(lambda: time.now))
        stack.enter_context(patch.object(story_location, "defs", build(settings.load(), time.clock)))
        yield


@contextmanager
def dagsters_time(now: Callable[[], float]) -> Generator[None]:
    """Dagster goes by this clock: runs, events and ticks carry its times."""
    with (
        patch("dagster._time._mockable_get_current_datetime", lambda: datetime.fromtimestamp(now(), UTC)),
        patch("dagster._time._mockable_get_current_timestamp", now),
        patch("dagster._core.log_manager.DagsterLogManager", get_freezable_log_manager()),
    ):
        yield


def home(folder: Path) -> Path:
    """A DAGSTER_HOME with the project's own dagster.yaml and runs in the daemon's process."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + INSTANCE)
    return folder


@dataclass(slots=True)
class Daemon:
    """Dagster's daemon, up and running."""

    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext
    log: Path
    """Takes what the daemon and its runs print."""
    _schedules: dict[str, ScheduleIterationTimes] = field(default_factory=dict[str, ScheduleIterationTimes])
    _queue: QueuedRunCoordinatorDaemon = field(default_factory=lambda: QueuedRunCoordinatorDaemon(interval_seconds=1))

    def tick(self, time: SimulatedTime) -> None:
        """What the daemon does in a minute: schedules, sensors, and the runs that wait in the queue."""
        with self.log.open("a") as log, redirect_stdout(log), redirect_stderr(log):
            for kind in self.instance.get_required_daemon_types():
                self.instance.add_daemon_heartbeat(DaemonHeartbeat(time.now, kind, "the only one", []))
            moment = datetime.fromtimestamp(time.now, UTC)
            for _ in launch_scheduled_runs(self.workspace, _quiet, moment, self._schedules):
                pass
            for _ in execute_sensor_iteration(self.workspace, _quiet, None, None):
                pass
            for _ in self._queue.run_iteration(self.workspace, fixed_iteration_time=time.now):
                pass


@contextmanager
def daemon(folder: Path) -> Generator[Daemon]:
    """The daemon over a DAGSTER_HOME, until it goes down at the end of the block."""
    target = LoadableTargetOrigin(module_name=story_location.__name__, attribute="defs")
    origin = InProcessCodeLocationOrigin(target, location_name=LOCATION)
    with (
        dg.DagsterInstance.from_config(str(folder)) as instance,
        WorkspaceProcessContext(instance, InProcessWorkspaceLoadTarget(origin)) as workspace,
    ):
        yield Daemon(instance, workspace, folder / "daemon.log")
