"""The command that runs the simulator."""

import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import time

import click

from zendesk_pipeline.local.simulator.history import HOUR, HistoryOptions
from zendesk_pipeline.local.simulator.server import SimulatorServer
from zendesk_pipeline.local.simulator.settings import Settings, patched
from zendesk_pipeline.local.simulator.source import Source
from zendesk_pipeline.local.simulator.zendesk import Zendesk

_PAST_HOURS = 72


def _epoch(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """An ISO date or time (UTC if it names no zone) in epoch seconds."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as wrong:
        raise click.BadParameter(f"{value!r} is not an ISO time") from wrong
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _history_options(arguments: dict[str, object], since: float | None, now: float | None) -> HistoryOptions:
    start = since if since is not None else (now or time()) - _PAST_HOURS * HOUR
    names = set(HistoryOptions.__dataclass_fields__) & arguments.keys()
    return HistoryOptions(since=int(start) // HOUR * HOUR, **{name: arguments[name] for name in names})  # pyright: ignore[reportArgumentType]  # click has converted them


def _serve(server: SimulatorServer) -> None:
    """Serve until SIGTERM or SIGINT."""

    def stop(*_signal: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    click.echo(f"Simulated Zendesk on {server.url}")
    with server:
        server.serve_forever(poll_interval=0.1)


@click.command("simulate")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8642, show_default=True, help="0 picks a free one.")
@click.option("--seed", default=1, show_default=True, help="Another seed, another account.")
@click.option("--since", callback=_epoch, help="Start of history, ISO.  [default: 72 hours ago]")
@click.option("--now", callback=_epoch, help="Freeze the simulated clock, ISO.  [default: the real clock]")
@click.option("--audit-logs-per-hour", default=40, show_default=True)
@click.option("--tickets-per-hour", default=150, show_default=True, help="New tickets; changes come on top.")
@click.option("--ticket-bytes", default=2000, show_default=True, help="Rough size of a ticket record.")
@click.option("--plain-text", is_flag=True, help="Texts of plain English, instead of many scripts and escapes.")
@click.option("--changes-per-ticket", default=0.6, show_default=True, help="Mean; 0: tickets never change.")
@click.option("--bulk-update", default=2500, show_default=True, help="Tickets changed in one second a day.")
@click.option("--further-per-hour", default=60, show_default=True, help="Records of each other stream.")
@click.option("--empty-hours", default=0.05, show_default=True, help="Share of hours without records.")
@click.option("--late-share", default=0.02, show_default=True, help="Share of audit logs that show late.")
@click.option("--late-by", default=3000, show_default=True, help="The most seconds they are late.")
@click.option("--cut-texts", default=0.0, show_default=True, help="Share of texts that were cut inside an emoji.")
@click.option("--audit-log-bytes", default=0, show_default=True, help="Rough size of an audit log, 0: a usual one.")
@click.option("--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True)
@click.option("--export-limit", default=0, show_default=True, help="Export requests a minute, 0 for any number.")
@click.option("--account-limit", default=700, show_default=True, help="The limit named in the headers.")
@click.option("--enforce-account-limit", is_flag=True)
@click.option(
    "--encoding",
    type=click.Choice(["none", "gzip", "zstd"]),
    default="none",
    show_default=True,
    help="Pack answers to requests that accept it.",
)
@click.option("--latency-ms", default=0.0, show_default=True, help="Wait before each answer.")
@click.option("--minute-seconds", default=60.0, show_default=True, help="What the limits count as a minute.")
@click.option("--plan", type=click.Choice(["enterprise", "professional"]), default="enterprise", show_default=True)
@click.option("--log/--quiet", default=False, help="Say every request on standard error.")
def simulate(host: str, port: int, since: float | None, now: float | None, **arguments: object) -> None:
    """Run a simulated Zendesk: audit logs, access logs and exports, with their quirks, over HTTP.

    The same options, --since among them, give the same records whenever it is started; as time goes on there are more.
    """
    replay: tuple[Path, ...] = arguments.pop("replay")  # pyright: ignore[reportAssignmentType]  # as its option says
    history = _history_options(arguments, since, now)
    begins = f"{datetime.fromtimestamp(history.since, UTC):%Y-%m-%dT%H:%MZ}"
    click.echo(f"Records from {begins} on; --since {begins} gives the same again.")
    source = Source(history, replay)
    switches = {name: value for name, value in arguments.items() if name in Settings.__dataclass_fields__}
    zendesk = Zendesk(source, patched(Settings(), switches), frozen_at=now)
    _serve(SimulatorServer((host, port), zendesk, log=bool(arguments["log"])))
