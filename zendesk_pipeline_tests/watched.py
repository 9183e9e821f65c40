"""The project with its alert sensor, on an instance in a folder: as in production, with the clock in hand."""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.impl import get_external_sensor_execution

from zendesk_pipeline.alerts.instance_settings import FRESHNESS, MONITORING, POOLS, RETRIES
from zendesk_pipeline.alerts.sensor import NAME, AlertChannels, alert_sensor
from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.orchestration.accounts import Account, secret
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.runs import Project

UI = "http://dagster.example:3000"
HOURS, STALE_AFTER = 24, 3
BOUNDS = {"catch_up_hours": HOURS, "alert_stale_hours": STALE_AFTER, "auth_mode": "oauth"}

LOCATION = ManagedGrpcPythonEnvCodeLocationOrigin(
    LoadableTargetOrigin(module_name="zendesk_pipeline.definitions"), location_name="zendesk_pipeline"
)
REPOSITORY = RemoteRepositoryOrigin(LOCATION, "__repository__")
"""Where Dagster has the definitions from."""


@dataclass(slots=True)
class Watched:
    """A project that is looked after: the sensor's clock shows `now`, and its cursor outlives every process.

    Runs are as real as their times, so the first tick has to lie behind them.
    """

    folder: Path
    now: float = field(default_factory=time.time)
    cursor: str | None = None
    log: str = ""
    """What the latest tick has logged."""

    @contextmanager
    def instance(self) -> Generator[dg.DagsterInstance]:
        """The instance, as a process that has just started opens it."""
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            yield instance

    @contextmanager
    def project(self) -> Generator[Project]:
        """The definitions of the environment as it is now, on the instance."""
        chosen = settings.load()
        base = build(chosen)
        sensor = alert_sensor(
            [Account(settings=chosen.model_copy(update=BOUNDS))],
            ui_url=f"{UI}/",
            clock=Clock(now=lambda: self.now),
            digest_hour=chosen.alert_digest_hour,
        )
        definitions = dg.Definitions(
            assets=base.assets,
            asset_checks=base.asset_checks,
            schedules=base.schedules,
            sensors=[sensor],
            resources={
                **(base.resources or {}),
                "alert_channels": AlertChannels(urls=dg.EnvVar("ALERT_URLS"), heartbeat_url=secret("HEARTBEAT_URL")),
            },
            executor=base.executor,
        )
        with self.instance() as instance:
            yield Project(definitions=definitions, instance=instance)

    def evaluate(self) -> SensorExecutionData | str:
        """The sensor evaluated by Dagster's own code server, or the sentence it failed with."""
        with self.project() as project:
            log_key = [f"{self.now}"]
            result = get_external_sensor_execution(
                project.definitions.get_repository_def(),
                LOCATION,
                project.instance.get_ref(),
                NAME,
                None,
                None,
                self.cursor,
                log_key,
                None,
            )
            log = self.folder / "storage" / f"{log_key[0]}.err"
            self.log = log.read_text() if log.exists() else ""
        if isinstance(result, SensorExecutionData):
            return result
        assert result.error
        assert result.error.cause
        return result.error.cause.message

    def tick(self, after: float = 60) -> str:
        """One tick so long after the last, and why it asked for no run."""
        self.now += after
        result = self.evaluate()
        assert isinstance(result, SensorExecutionData), result
        self.cursor = result.cursor
        return result.skip_message or ""


@contextmanager
def watched(
    folder: Path, monkeypatch: pytest.MonkeyPatch, urls: Sequence[str] = (), **environment: str
) -> Generator[Watched]:
    """A project in an environment, its instance in a folder, its alerts to these addresses."""
    rules = ["telemetry: {enabled: false}", POOLS, MONITORING, RETRIES, FRESHNESS]
    (folder / "dagster.yaml").write_text("\n".join([*rules, ""]))
    for name, value in {**environment, "ALERT_URLS": " ".join(urls)}.items():
        monkeypatch.setenv(name, value)
    yield Watched(folder)
