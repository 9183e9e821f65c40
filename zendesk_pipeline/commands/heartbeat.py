"""`zendesk-pipeline heartbeat`: whether Dagster's daemon lives.

That all is well the daemon says itself, to HEARTBEAT_URL (`alerts.heartbeat`). A daemon that is dead says nothing, so
this command, which a timer starts, says that for it, where the service knows a failure; at others silence has to do.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from zendesk_pipeline.alerts.heartbeat import NAME, SilentError, ask, checked, failing
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.orchestration import databases
from zendesk_pipeline.settings.secret_references import resolved

if TYPE_CHECKING:
    from dagster import DagsterInstance

SILENT = 10 * 60
"""Seconds without a sign of life, by which a part of the daemon counts as dead. It gives one each half minute."""
TRIES, PAUSE = 3, 5
"""To tell the service outside, and seconds between."""


class DaemonError(PipelineError):
    """Dagster's daemon, or a part of it, does not run."""


class UnknownError(PipelineError):
    """Whether the daemon lives could not be seen."""


@click.command
@click.pass_context
def heartbeat(context: click.Context) -> None:
    """Look whether Dagster's daemon lives; if not, tell HEARTBEAT_URL, where that knows a failure.

    The exit status is 1 where the daemon is dead, and 2 where that could not be seen.
    """
    home = str(databases.home(os.environ))
    try:
        silent = _look(home)
    except UnknownError as problem:
        click.echo(f"Error: {problem.message}", err=True)
        context.exit(2)
    if silent:
        try:
            _tell(time.sleep)
        except PipelineError as problem:
            click.echo(f"Error: {problem.message}", err=True)
        raise DaemonError(
            f"Dagster's daemon is dead: {'; '.join(silent)}. Nothing is collected, and no alert is sent. Restart"
            " dagster-daemon; its log says why it stopped."
        )
    click.echo("Dagster's daemon lives.")
    if not os.environ.get(NAME):
        click.echo(f"{NAME} is not set: nobody is told when it dies, or this machine with it.")


def _look(home: str) -> list[str]:
    """The parts of the daemon that give no sign of life; raises UnknownError where Dagster's records do not open."""
    from dagster import DagsterInstance  # noqa: PLC0415 - slow to import

    try:
        with DagsterInstance.from_config(home) as instance:
            return list(_silent(instance, time.time()))
    except Exception as error:  # noqa: BLE001  # of SQLAlchemy, of a driver, of Dagster: whatever does not open
        raise UnknownError(
            f"Dagster's records cannot be read ({type(error).__name__}), so nobody knows whether its daemon lives; is"
            " its database up? Whoever expects a sign of life hears none."
        ) from None


def _silent(instance: "DagsterInstance", now: float) -> Iterator[str]:
    """The parts of the daemon that give no sign of life."""
    signs = {kind: sign.timestamp for kind, sign in instance.get_daemon_heartbeats().items()}
    for kind in sorted(instance.get_required_daemon_types()):
        if now - signs.get(kind, 0.0) > SILENT:
            since = f"for {round((now - signs[kind]) / 60)} minutes" if kind in signs else "since ever"
            yield f"its {kind.lower().replace('_', ' ')} is silent {since}"


def _tell(sleep: Callable[[float], None]) -> None:
    """Tell the service outside of the dead daemon; nothing of the address gets into the error."""
    address = resolved(NAME, os.environ.get(NAME, "")).strip()
    asked = failing(checked(address), "Dagster's daemon is dead") if address else None
    if asked is None:
        return
    for tries_left in reversed(range(TRIES)):
        try:
            ask(asked)
        except SilentError:
            if not tries_left:
                raise
            sleep(PAUSE)
        else:
            return
