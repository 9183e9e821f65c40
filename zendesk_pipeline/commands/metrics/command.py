"""`zendesk-pipeline metrics`: the state of the collection for Prometheus, served or as a file."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import click
from prometheus_client import generate_latest, start_http_server, write_to_textfile
from prometheus_client.registry import CollectorRegistry

from zendesk_pipeline.commands import account_file, past_range
from zendesk_pipeline.commands.metrics.exposition import registry
from zendesk_pipeline.commands.metrics.facts import KEPT, Reader
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.orchestration import databases
from zendesk_pipeline.orchestration.accounts import FIRST_MINUTE, Account, checked
from zendesk_pipeline.settings import environment

MINUTE = 60


class MetricsError(PipelineError):
    """The metrics could not be handed out, or not all of them."""


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    found = re.fullmatch(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>\d{1,5})", value)
    if found is None or int(found["port"]) not in range(1, 2**16):
        raise click.BadParameter("an address and a port are wanted, as in 127.0.0.1:9464 or [::1]:9464.")
    return found["six"] or found["host"], int(found["port"])


@click.command(name="metrics")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[DEFS.YAML]...")
@click.option("--listen", callback=_address, metavar="HOST:PORT", help="Serve them there, as 127.0.0.1:9464.")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH.prom",
    help="Write them once, for node_exporter's textfile collector.",
)
def metrics(files: Sequence[Path], listen: tuple[str, int] | None, path: Path | None) -> None:
    """Tell the state of the collection as metrics for Prometheus, from Dagster's own records.

    Of the accounts in these files; of that of the environment, if none is given. Without an option they are printed.
    Neither Zendesk nor the bucket is asked, and nothing is written but PATH.
    """
    if listen and path:
        raise click.UsageError("--listen and --file are two ways: choose one.")
    reader = Reader(
        home=databases.home(os.environ),
        accounts=_accounts(files),
        clock=Clock(),
        say=lambda sentence: click.echo(sentence, err=True),
    )
    made = registry(reader.read)
    if listen:
        _serve(made, *listen)
    elif path:
        _write(made, path)
    else:
        click.echo(generate_latest(made).decode(), nl=False)
    if not reader.read().whole:
        raise MetricsError("Not all of it could be read.")


def _accounts(files: Sequence[Path]) -> Sequence[Account]:
    """Raises SettingsError for files that Dagster would not load either."""
    if files:
        return checked(account for file in files for account in account_file.read_all(file))
    named = past_range.named()
    minute = FIRST_MINUTE + named.delay // MINUTE
    return [Account(settings=environment.load(), name=named.account, minute=minute)]


def _serve(made: CollectorRegistry, host: str, port: int) -> None:
    try:
        server, thread = start_http_server(port, host, made)
    except OSError as problem:
        raise MetricsError(f"{host}:{port} cannot be listened at: {problem.strerror or problem}.") from None
    click.echo(
        f"Metrics are at http://{f'[{host}]' if ':' in host else host}:{port}/metrics, read again each {KEPT} s."
    )
    try:
        thread.join()
    finally:
        server.shutdown()


def _write(made: CollectorRegistry, path: Path) -> None:
    """At once, by renaming: whoever reads it finds the old one or the new one."""
    if path.suffix != ".prom":
        raise click.UsageError(f"{path}: node_exporter reads files that end in .prom.")
    try:
        write_to_textfile(str(path), made)
    except OSError as problem:
        raise MetricsError(f"{path} cannot be written: {problem.strerror}.") from None
