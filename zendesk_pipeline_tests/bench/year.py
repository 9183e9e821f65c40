"""A year at once: `python -m zendesk_pipeline_tests.bench.year`.

Each stream's windows in one Dagster run, of an account without a record in the year and of one with records in each
window, on Dagster's SQLite files and, with --postgres, on a PostgreSQL server. Beside them the floor: a run over the
same windows of an asset that does nothing.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec
from rich.console import Console
from rich.table import Column, Table

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.local.pipeline import LocalPipeline
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline_tests.bench import account as accounts
from zendesk_pipeline_tests.bench import counting
from zendesk_pipeline_tests.bench.account import Account
from zendesk_pipeline_tests.bench.measuring import finished
from zendesk_pipeline_tests.deploy.cluster.servers import postgres

WINDOWS = 8760
START = 1_735_689_600
"""2025-01-01 00:00 UTC: Dagster has partitions of the past only."""
RECORDS = 3
"""In each window of each stream of the full account."""
SLOWEST = 1.5
"""Ours to the floor."""
FLAT_MEMORY = 64.0
"""MiB that the peak of a run's process may differ by between a twelfth of the windows and all of them."""
FLOOR = ("zendesk_pipeline_tests.bench.floor", "nothing")
OURS = "zendesk_pipeline.definitions"
BATCHES = {"DAGSTER_EVENT_BATCH_SIZE": "500"}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


class Calls(msgspec.Struct, frozen=True):
    """Of one kind, in one process."""

    calls: dict[str, int]
    wall: float
    cpu: float
    first: float
    last: float


class Note(msgspec.Struct, frozen=True):
    """What a process says of itself; times are of one clock."""

    began: float
    ended: float
    cpu: float
    memory: float
    zendesk: Calls
    s3: Calls
    events: Calls

    @property
    def wall(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """One run over all windows: the process that planned it, and the one that executed it."""

    name: str
    windows: int
    plan: Note
    run: Note
    exact: bool

    @property
    def wall(self) -> float:
        return self.plan.wall + self.run.wall

    @property
    def cpu(self) -> float:
        return self.plan.cpu + self.run.cpu

    @property
    def dagsters_cpu(self) -> float:
        """All but what was spent on requests."""
        return self.cpu - self.run.zendesk.cpu - self.run.s3.cpu


@click.command()
@click.option("--windows", default=WINDOWS, show_default=True, help="Hours of it.")
@click.option(
    "--stream", "streams", type=click.Choice(COLLECTED_BY_DEFAULT), multiple=True, default=COLLECTED_BY_DEFAULT
)
@click.option("--postgres", "with_postgres", is_flag=True, help="Dagster's records on PostgreSQL as well.")
@click.option("--no-sqlite", is_flag=True, help="Only on PostgreSQL.")
@click.option("--forked", is_flag=True, help="Without the start of the processes: whether the bench works.")
def year(*, windows: int, streams: Sequence[str], with_postgres: bool, no_sqlite: bool, forked: bool) -> None:
    """Measure a backfill of a year, split by what its time goes to."""
    local.forget_account()
    console.print(f"{os.cpu_count()} cores for all of it, load average {os.getloadavg()[0]:.1f} before.")
    met = True
    with local.one_interruption(), ExitStack() as services:
        storages = {} if no_sqlite else {"SQLite": (local.SETTINGS_OF_THE_INSTANCE, dict[str, str]())}
        if with_postgres or no_sqlite:
            database = services.enter_context(postgres(Path(services.enter_context(TemporaryDirectory()))))
            storage = f"storage: {{postgres: {{postgres_url: '{database.url}'}}}}\n"
            storages["PostgreSQL"] = (local.SETTINGS_OF_THE_INSTANCE + storage, BATCHES)
        for storage, (instance, settings) in storages.items():
            with TemporaryDirectory() as folder:
                warm = {accounts.FORKED: "yes"} if forked else {}
                backfills = list(_backfills(windows, streams, Path(folder), instance, {**settings, **warm}))
            console.print(table(storage, backfills))
            for sentence, holds in targets(storage, backfills):
                console.print(f"[green]met[/green]     {sentence}" if holds else f"[red]MISSED[/red]  {sentence}")
                met &= holds
    sys.exit(not met)


def _backfills(
    windows: int, streams: Sequence[str], folder: Path, instance: str, settings: Mapping[str, str]
) -> Iterator[Backfill]:
    """The floor, then each stream of either account; of one a twelfth as well, whose memory is compared."""
    for kind, records in (("empty", 0), ("full", RECORDS)):
        account = Account(
            hours=windows, start=START, tickets_per_hour=records, audit_logs_per_hour=records, ticket_bytes=500
        )
        place_folder = folder / kind
        place_folder.mkdir()
        with accounts.running(account, place_folder, instance) as place:
            if kind == "empty":
                yield _backfill(place, account, "floor", FLOOR, settings)
            else:
                month = replace(account, hours=max(1, windows // 12))
                yield _backfill(place, month, f"full {streams[0]}, 1/12", (OURS, streams[0]), settings)
            for stream in streams:
                yield _backfill(place, account, f"{kind} {stream}", (OURS, stream), settings)


def _backfill(
    place: LocalPipeline, account: Account, name: str, what: tuple[str, str], settings: Mapping[str, str]
) -> Backfill:
    """Into prefixes of its own, and compared with the source."""
    prefix = name.replace(" ", "-").replace(",", "").replace("/", "-of-")
    layout = Layout(feed=f"{prefix}/crm/", state=f"{prefix}/state/", quarantine=f"{prefix}/quarantine/")
    prefixes = {"S3_PREFIX": layout.feed, "STATE_PREFIX": layout.state, "QUARANTINE_PREFIX": layout.quarantine}
    keys = [Window.of(at).partition_key for at in (account.span.start, account.span.end - 1)]
    chosen = {**settings, **prefixes}
    plan, run_id = _process(place, f"{prefix}-plan", ("plan", *what, *keys), chosen)
    run, _ = _process(place, f"{prefix}-run", ("run", *what, run_id), chosen)
    exact = run.events.calls["ASSET_MATERIALIZATION"] == account.hours
    if stream := STREAMS.get(what[1]):
        store = Store(client=place.s3.client(), bucket=place.s3.bucket, encryption={})
        proof = prove(Bucket(stream=stream, store=store, layout=layout), account.span, place.zendesk.control)
        exact = exact and proof.holds
    one = Backfill(name=name, windows=account.hours, plan=plan, run=run, exact=exact)
    console.print(f"  {name}: {one.windows:,} windows in {one.wall:.0f} s, {one.cpu:.0f} s of CPU")
    return one


def _process(place: LocalPipeline, name: str, arguments: Sequence[str], settings: dict[str, str]) -> tuple[Note, str]:
    """Run a task to its end; its note, and the last line that it printed."""
    note, log = place.folder / f"{name}.note", place.folder / f"{name}.log"
    finished(place, ("year_process", *arguments), log, {**settings, counting.NOTE: str(note)})
    return msgspec.json.decode(note.read_bytes(), type=Note), (log.read_text().splitlines() or [""])[-1]


ROWS: dict[str, Callable[[Backfill], str]] = {
    "windows": lambda one: f"{one.windows:,}",
    "planning, wall": lambda one: f"{one.plan.wall:.1f} s",
    "  of it event storage": lambda one: f"{one.plan.events.wall:.1f} s",
    "planning, CPU": lambda one: f"{one.plan.cpu:.1f} s",
    "run, wall": lambda one: f"{one.run.wall:.1f} s",
    "  requests under way: Zendesk": lambda one: f"{one.run.zendesk.wall:.1f} s",
    "  requests under way: S3": lambda one: f"{one.run.s3.wall:.1f} s",
    "  event storage": lambda one: f"{one.run.events.wall:.1f} s",
    "run, CPU": lambda one: f"{one.run.cpu:.1f} s",
    "  requests to Zendesk": lambda one: f"{one.run.zendesk.cpu:.1f} s",
    "  requests to S3": lambda one: f"{one.run.s3.cpu:.1f} s",
    "  event storage ": lambda one: f"{one.run.events.cpu:.1f} s",
    "peak memory of the run": lambda one: f"{one.run.memory:.0f} MiB",
    "events": lambda one: f"{_all(one.plan.events) + _all(one.run.events):,}",
    "requests to Zendesk": lambda one: f"{_all(one.run.zendesk):,}",
    **{
        f"S3 {kind}": lambda one, kind=kind: f"{one.run.s3.calls.get(kind, 0):,}"
        for kind in (
            *("PUT account", "GET account", "PUT catalogue", "GET catalogue"),
            *("PUT feed", "PUT ledger", "GET ledger", "GET feed", "LIST feed"),
        )
    },
    "exact": lambda one: "yes" if one.exact else "NO",
}


def _all(calls: Calls) -> int:
    return sum(calls.calls.values())


def table(storage: str, backfills: Sequence[Backfill]) -> Table:
    """A column for each."""
    columns = (Column(one.name, justify="right") for one in backfills)
    made = Table("", *columns, title=f"Dagster on {storage}", title_style="bold")
    for name, form in ROWS.items():
        made.add_row(name, *map(form, backfills))
    return made


def targets(storage: str, backfills: Sequence[Backfill]) -> Iterator[tuple[str, bool]]:
    """Sentences, and whether each is true."""
    floor, *ours = backfills
    short = min(ours, key=lambda one: one.windows)
    long = next(one for one in ours if short.name.startswith(one.name) and one is not short)
    for one in (each for each in ours if each is not short):
        ratio = one.dagsters_cpu / floor.dagsters_cpu
        sentence = f"{storage}, {one.name}: {ratio:.2f} of the floor's CPU but for requests, at most {SLOWEST}"
        whole = f"all of it {one.wall / floor.wall:.2f} of its wall time, {one.cpu / floor.cpu:.2f} of its CPU"
        yield f"{sentence} ({whole})", ratio <= SLOWEST
    growth = long.run.memory - short.run.memory
    peaks = f"{short.run.memory:.0f} MiB for {short.windows:,} windows, {long.run.memory:.0f} for {long.windows:,}"
    yield f"{storage}: {peaks}; the difference is at most {FLAT_MEMORY:.0f}", growth <= FLAT_MEMORY
    yield f"{storage}: every record once, every window reported", all(one.exact for one in backfills)


if __name__ == "__main__":
    year()
