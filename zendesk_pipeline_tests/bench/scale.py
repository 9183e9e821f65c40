"""What many accounts need: `python -m zendesk_pipeline_tests.bench.scale --accounts 10000` (docs/deployment.md).

The hour's runs are queued as Dagster would, at the minutes that accounts really get by their names; how long a run
takes, and what it writes, was measured on one machine and is said in `Measured`. Nothing is started.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

import click

from zendesk_pipeline.commands.volume import HOURS_A_MONTH
from zendesk_pipeline.delivery.inspection import WEEKS
from zendesk_pipeline.orchestration.accounts import minute_of

DAYS_A_MONTH = HOURS_A_MONTH / 24
PUT_PRICE, GET_PRICE = 0.005, 0.0004
"""USD for a thousand PUT or LIST, and GET requests: S3 Standard, us-east-1, first tier, 2026-11."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one run on a Celery worker, with PostgreSQL: what `zendesk_pipeline_tests.deploy.cluster.measure` measures."""

    cpu: float = 1.5
    """Seconds of processor time of the run."""
    launch: float = 1.4
    """Seconds of processor time of daemon and code server for it."""
    waiting: float = 2.0
    """Seconds that it waits for Zendesk, S3 and the database; every tenth run waits five times as long."""
    events: int = 32
    """That it leaves in Dagster's database."""
    kilobytes: float = 95.0
    """What it leaves there in all, indexes included."""
    connections: int = 270
    """That are opened to the database for it."""
    memory: int = 220
    """MB of the process."""
    sensor_cpu: float = 0.05
    """Seconds of processor time for an account, each minute: all sensors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """What an hour of all accounts comes to."""

    runs: int
    waits: Sequence[float]
    """Seconds that each run waited for a slot, in order."""
    last: float
    """When the last one ended, seconds after the hour began."""
    busy: float
    """Of the cores, as a share."""


def hour(accounts: int, streams: int, slots: int, cores: int, measured: Measured, seed: int = 1) -> Hour:
    """The hour of so many accounts, first come first served by so many slots.

    A run needs its processor time from cores that it shares with those that are under way when it starts.
    """
    chance = random.Random(seed)
    begins = sorted(minute_of(f"customer_{number:05d}") * 60.0 for number in range(accounts) for _ in range(streams))
    free = [0.0] * slots
    waits: list[float] = []
    last = 0.0
    for due in begins:
        start = max(due, heapq.heappop(free))
        slow = 5 if chance.random() < 0.1 else 1
        beside = sum(end > start for end in free)
        end = start + measured.cpu * max(1.0, (beside + 1) / cores) + measured.waiting * slow
        heapq.heappush(free, end)
        waits.append(start - due)
        last = max(last, end)
    return Hour(runs=len(begins), waits=waits, last=last, busy=len(begins) * measured.cpu / (cores * 3600))


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """What a month of it comes to."""

    runs: int
    gigabytes: float
    """Of Dagster's database, if nothing is deleted."""
    s3_writes: int
    """PUT and LIST."""
    s3_reads: int

    @property
    def s3_usd(self) -> float:
        """At list prices."""
        return self.s3_writes / 1000 * PUT_PRICE + self.s3_reads / 1000 * GET_PRICE


def month(accounts: int, streams: int, measured: Measured) -> Month:
    """A month of hourly runs of one object each, and of their checks (docs/performance.md has the arithmetic)."""
    runs = accounts * streams * HOURS_A_MONTH
    return Month(
        runs=runs,
        gigabytes=runs * measured.kilobytes / 2**20,
        s3_writes=runs * (2 + 2) + accounts * HOURS_A_MONTH,
        s3_reads=runs * (2 + 3 + WEEKS),
    )


@click.command()
@click.option("--accounts", default=10_000, show_default=True)
@click.option("--streams", default=2, show_default=True, help="Of each account.")
@click.option("--cores", default=0, help="Of all workers; as many as are busy for 60 % of the time if 0.")
@click.option("--slots", default=0, help="Runs at once; four times the cores if 0.")
def scale(accounts: int, streams: int, cores: int, slots: int) -> None:
    """Print what so many accounts need."""
    measured = Measured()
    runs = accounts * streams
    cores = cores or max(2, ceil(runs * measured.cpu / 3600 / 0.6))
    slots = slots or 4 * cores
    simulated, of_month = hour(accounts, streams, slots, cores, measured), month(accounts, streams, measured)
    click.echo(f"{accounts:,} accounts, {streams} streams each: {runs:,} runs an hour, {runs / 3600:.1f} a second")
    click.echo(f"workers: {cores} cores, {slots} runs at once, {slots * measured.memory / 1024:.0f} GB;")
    click.echo(
        f"  busy for {simulated.busy:.0%}; a run waits {median(simulated.waits):.0f} s in the median,"
        f" {max(simulated.waits):.0f} s at most; the last one ends at minute {simulated.last / 60:.0f}"
    )
    daemon = runs * measured.launch / 3600 + accounts * measured.sensor_cpu / 60
    click.echo(f"daemons and code servers: {daemon:.1f} cores")
    connections, kept = runs * measured.connections / 3600, of_month.gigabytes / DAYS_A_MONTH
    click.echo(f"database: {runs * measured.events / 3600:,.0f} events and {connections:,.0f} connections a second;")
    click.echo(f"  {kept:,.1f} GB a day that stay until somebody deletes them")
    click.echo(
        f"S3: {of_month.s3_writes / 1e6:,.1f} million PUT and LIST, {of_month.s3_reads / 1e6:,.1f} million GET a month,"
        f" {of_month.s3_usd:,.0f} USD"
    )


if __name__ == "__main__":
    scale()
