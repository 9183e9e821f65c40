"""Alerts for the people on call: the sensor that detects problems and sends messages about them.

`snapshot` reads the instance, the detectors find what is wrong, `memory` knows which address was told what, and
`notifications` writes and sends. The memory is the sensor's cursor, so that an address that could not be reached gets
at a later tick what it has missed, after a restart as well. A sensor that dies between sending and storing the cursor
sends twice.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import msgspec
from pydantic import Field

from zendesk_pipeline.alerts import dagster_problems, heartbeat
from zendesk_pipeline.alerts.channels import Address, addresses
from zendesk_pipeline.alerts.digest import digest, note_whether_well
from zendesk_pipeline.alerts.instance_settings import instance_settings
from zendesk_pipeline.alerts.memory import awaited_windows, forget, remembered, update, wake
from zendesk_pipeline.alerts.notifications import INTERVAL, dead_channels, notify, receivers, require_one
from zendesk_pipeline.alerts.problem import MINUTE, Problem, Severity, count
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.alerts.window_problems import windows_and_runs
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.windows import some
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.run_history import ours_in
from zendesk_pipeline.orchestration.zendesk_resource import settled
from zendesk_pipeline.settings.secret_references import Recent

NAME = "alert_sensor"
LEVELS: Mapping[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_RECENT = Recent(seconds=5 * MINUTE, monotonic=time.monotonic)
_RECENT_HEARTBEAT = Recent(seconds=5 * MINUTE, monotonic=time.monotonic)
"""The sensor's process lives long, and reads ALERT_URLS and HEARTBEAT_URL every minute."""

Detector = Callable[[Snapshot], Iterator[Problem]]

DETECTORS: tuple[tuple[str, Detector], ...] = (
    ("runs and windows", windows_and_runs),
    ("asset checks", dagster_problems.failed_checks),
    ("freshness", dagster_problems.freshness),
    ("credentials", dagster_problems.credentials),
    ("schedules and sensors", dagster_problems.automation),
    ("daemons", dagster_problems.daemons),
    ("the pruning of run logs", dagster_problems.pruning),
    ("the instance's settings", instance_settings),
)
"""What each finds problems of, and how; `freshness` needs what the first one has read."""


class AlertChannels(dg.ConfigurableResource[Any]):
    """Where alerts go, and who is told that there is nothing to tell."""

    urls: str = Field(default="", description="ALERT_URLS", repr=False, json_schema_extra={"is_secret": True})
    heartbeat_url: str = Field(
        default="", description="HEARTBEAT_URL", repr=False, json_schema_extra={"is_secret": True}
    )

    def get_resource_definition(self) -> Any:
        """What Dagster makes the resource of."""
        return settled(super().get_resource_definition())

    def addresses(self) -> list[Address]:
        """The addresses, read from where ALERT_URLS refers to; raises SettingsError, SecretStoreError."""
        return addresses(_RECENT.resolved("ALERT_URLS", self.urls))

    def heartbeat(self, problems: Sequence[Problem]) -> list[str]:
        """Tell HEARTBEAT_URL how it is; gives a sentence where that did not work."""
        errors = sum(problem.severity == "error" for problem in problems)
        try:
            heartbeat.tell(self.heartbeat_url, _RECENT_HEARTBEAT, errors)
        except PipelineError as problem:
            return [problem.message]
        return []


def alert_sensor(
    accounts: Sequence[Account], *, ui_url: str, clock: Clock, digest_hour: int | None = None
) -> dg.SensorDefinition:
    """The sensor that sends alerts.

    Args:
        accounts: Whose windows are watched.
        ui_url: Dagster's UI as people reach it, for links.
        clock: What time it is.
        digest_hour: Of the day (UTC), from which on the daily digest is sent; None for no digest.
    """

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the addresses of ALERT_URLS what is wrong, and when it is solved; HEARTBEAT_URL that all is"
        " well.",
    )
    def sensor(context: dg.SensorEvaluationContext, alert_channels: AlertChannels) -> dg.SensorResult:
        now, memory = clock.now(), remembered(context.cursor)
        wake(memory, now)
        snapshot = Snapshot(
            instance=context.instance,
            now=now,
            mine=ours_in(context, [key for account in accounts for key in account.stream_keys]),
            accounts=accounts,
            automation=_automation(context),
            awake_since=memory.awake_since,
            counted=memory.counted,
            awaited=awaited_windows(memory),
        )
        found, failures = detected(snapshot)
        known = receivers(memory, alert_channels.addresses())
        problems = [*found, *failures, *_unreadable(snapshot), *dead_channels(known)]
        delivered, unreadable = snapshot.delivered, snapshot.unreadable.keys()
        update(memory, problems, delivered, now, complete=not failures, unreadable=unreadable)
        note_whether_well(memory, now, seen=snapshot.caught_up and not failures and not unreadable)
        daily = digest(snapshot, memory, digest_hour)
        notes = notify(memory, known, problems, ui_url.rstrip("/"), now, daily=daily)
        lines = [(LEVELS[problem.severity], f"{problem.title}. {problem.text}") for problem in problems]
        for level, line in [*lines, *((logging.WARNING, note) for note in notes)]:
            context.log.log(level, line)
        require_one(known)
        for note in alert_channels.heartbeat(problems):
            context.log.warning(note)
            notes.append(note)
        forget(memory, [each.key for each in known])
        return dg.SensorResult(
            skip_reason=". ".join([_summary(problems), *notes]), cursor=msgspec.json.encode(memory).decode()
        )

    return sensor


def detected(snapshot: Snapshot) -> tuple[list[Problem], list[Problem]]:
    """What the detectors find; and a problem for each that fails, which does not stop the others."""
    found: list[Problem] = []
    failures: list[Problem] = []
    for name, detector in DETECTORS:
        try:
            found += detector(snapshot)
        except Exception as error:  # noqa: BLE001  # one failing detector must not stop the others
            failures.append(_failure(name, error))
    superfluous = {dagster_problems.freshness_cause(problem.asset) for problem in found if not problem.once}
    return [problem for problem in found if problem.cause not in superfluous], failures


def _unreadable(snapshot: Snapshot) -> Iterator[Problem]:
    for asset, error in snapshot.unreadable.items():
        yield _failure(f"the runs and windows of {asset}", error)


def _failure(name: str, error: Exception) -> Problem:
    return Problem(
        cause=f"blind {name}",
        title=f"The alerts cannot see {name}",
        text=f"Reading them ended with {type(error).__name__}: please report it. No alert is sent of them meanwhile.",
        link_path="/automation",
        over=f"The alerts see {name} again",
    )


def _automation(context: dg.SensorEvaluationContext) -> Automation:
    """Everything of this code location but the alerts themselves."""
    repository, origin = context.repository_def, context.code_location_origin
    if repository is None:
        return Automation()
    return Automation(
        schedules=repository.schedule_defs,
        sensors=[sensor for sensor in repository.sensor_defs if sensor.name != NAME],
        checks=sorted(repository.asset_graph.asset_check_keys),
        repository=repository.name,
        location=origin.location_name if origin else "",
    )


def _summary(problems: Sequence[Problem]) -> str:
    """What the tick says; an alarm of CloudWatch's goes by the beginning of it (deploy/aws/dagster-on-ecs.yaml)."""
    titles = [problem.title for problem in problems]
    errors = sum(problem.severity == "error" for problem in problems)
    grave = f" ({errors} ERROR)" if errors else ""
    return f"{count(titles, 'problem')}{grave}: {some(titles)}" if titles else "Nothing is wrong"
