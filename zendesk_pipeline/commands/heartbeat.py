"""`zendesk-pipeline heartbeat`: tells a service outside that Dagster's daemon lives; without it the service alarms.

Alerts come from a sensor of the daemon: a dead daemon sends none, and a machine that is down sends nothing at all. So
a service outside has to expect a sign of life: any that takes a request to an address.
"""

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import TYPE_CHECKING

import click

from zendesk_pipeline.model.errors import PipelineError, SettingsError
from zendesk_pipeline.orchestration import databases
from zendesk_pipeline.settings.secret_references import resolved

if TYPE_CHECKING:
    from dagster import DagsterInstance

NAME = "HEARTBEAT_URL"
SILENT = 10 * 60
"""Seconds without a sign of life, by which a part of the daemon counts as dead. It gives one each half minute."""
TRIES = 3
PAUSE, TIMEOUT = 5, 20
"""Seconds."""


class DaemonError(PipelineError):
    """Dagster's daemon, or a part of it, does not run."""


class UnknownError(PipelineError):
    """Whether the daemon lives could not be seen, or not be told to the service outside."""


@click.command
@click.pass_context
def heartbeat(context: click.Context) -> None:
    """Look whether Dagster's daemon lives, and if so tell it to HEARTBEAT_URL.

    The exit status is 1 where the daemon is dead, and 2 where that could not be seen, or where it lives and that could
    not be told.
    """
    home = str(databases.home(os.environ))
    try:
        silent = _look(home)
    except UnknownError as problem:
        click.echo(f"Error: {problem.message}", err=True)
        context.exit(2)
    if silent:
        raise DaemonError(
            f"Dagster's daemon is dead: {'; '.join(silent)}. Nothing is collected, and no alert is sent. Restart"
            " dagster-daemon; its log says why it stopped."
        )
    click.echo("Dagster's daemon lives.")
    if not os.environ.get(NAME):
        click.echo(f"{NAME} is not set: nobody is told when it dies, or this machine with it.")
        return
    try:
        _tell(_address(), time.sleep)
    except PipelineError as problem:
        click.echo(f"Error: {problem.message}", err=True)
        context.exit(2)


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


def _address() -> str:
    """The address, which is a secret: whoever knows it can say that all is well."""
    address = resolved(NAME, os.environ.get(NAME, "")).strip()
    if address and not address.startswith(("https://", "http://")):
        raise SettingsError(f"{NAME} is wrong: it has to begin with https://.")
    return address


def _silent(instance: "DagsterInstance", now: float) -> Iterator[str]:
    """The parts of the daemon that give no sign of life."""
    signs = {kind: sign.timestamp for kind, sign in instance.get_daemon_heartbeats().items()}
    for kind in sorted(instance.get_required_daemon_types()):
        if now - signs.get(kind, 0.0) > SILENT:
            since = f"for {round((now - signs[kind]) / 60)} minutes" if kind in signs else "since ever"
            yield f"its {kind.lower().replace('_', ' ')} is silent {since}"


def _tell(address: str, sleep: Callable[[float], None]) -> None:
    """Nothing of the address gets into the error, where it does not answer."""
    for tries_left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT):  # noqa: S310 - the scheme is checked
                return
        except (OSError, HTTPException, ValueError):
            if tries_left:
                sleep(PAUSE)
    raise UnknownError(
        f"{NAME} does not answer as it should, {TRIES} times: whoever expects a sign of life hears none."
    )
