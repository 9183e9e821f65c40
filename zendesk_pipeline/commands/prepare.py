"""`zendesk-pipeline prepare`: what has to be done before Dagster's services start, each time and once at a time."""

import os

import click

from zendesk_pipeline.orchestration import databases, lost_runs
from zendesk_pipeline.orchestration.lost_runs import LOCATION, THIS_MACHINE, Place


@click.command
@click.option(
    "--location",
    "locations",
    multiple=True,
    default=[LOCATION],
    show_default=True,
    metavar="NAME",
    help="The code location whose runs are looked after, as workspace.yaml names it.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="How workspace.yaml names this machine, if by another name than 127.0.0.1 or localhost.",
)
def prepare(locations: tuple[str, ...], hosts: tuple[str, ...]) -> None:
    """Make Dagster's databases ready and end runs that a crash has left, before Dagster's services start."""
    folder = databases.home(os.environ)
    with databases.instance(folder, click.echo) as instance:
        lost_runs.end(instance, click.echo, Place(locations=locations, hosts={*THIS_MACHINE, *hosts}))
    click.echo(f"{folder} is ready: Dagster's services may start.")
