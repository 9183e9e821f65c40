"""`python -m zendesk_pipeline_tests.bench`."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from rich.console import Console

from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline_tests.bench import account as accounts
from zendesk_pipeline_tests.bench import latency as latencies
from zendesk_pipeline_tests.bench.account import Account
from zendesk_pipeline_tests.bench.measuring import Measured, bare_loop, pipeline_run
from zendesk_pipeline_tests.bench.report import (
    Comparison,
    Target,
    comparison_table,
    comparison_targets,
    costs,
    latency_table,
    latency_targets,
    many_scripts,
    peers_table,
    sweep_table,
    sweep_targets,
)

TWO_DAYS = Account(hours=48, tickets_per_hour=1042, audit_logs_per_hour=417)
"""50,016 tickets and 20,016 audit logs."""
QUICK = Account(hours=4, tickets_per_hour=500, audit_logs_per_hour=100)
SIZES = (1_000, 10_000, 100_000, 500_000)
RULES = {"REDACTION_RULES": "builtin:without-personal-data", "REDACTION_KEY": "0123456789abcdef" * 2}
QUICK_SIZES = (1_000, 2_000, 4_000)

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


@click.command()
@click.option(
    "--quick",
    is_flag=True,
    help="A small account, one round: whether the bench works, not how fast we are. Processes are forked from a warm"
    " one, so their CPU is without their start and their memory with all that it has loaded.",
)
@click.option("--sweep", is_flag=True, help="Only the sizes.")
@click.option("--latency", is_flag=True, help="Only the walks at 200 ms a request, with Zendesk's limits.")
@click.option("--rounds", default=3, show_default=True, help="An odd number.")
def bench(*, quick: bool, sweep: bool, latency: bool, rounds: int) -> None:
    """Measure the pipeline against a bare loop, and its time and memory against the number of tickets."""
    local.forget_account()
    warm = {accounts.FORKED: "yes"} if quick else {}
    console.print(
        f"{os.cpu_count()} cores for all of it, load average {os.getloadavg()[0]:.1f} before.\n"
        "Collecting: from just before the first request to Zendesk to the answer of the last PUT."
    )
    targets: list[Target] = []
    with local.one_interruption():
        if not sweep and not latency:
            targets += _compare(QUICK if quick else TWO_DAYS, 1 if quick else rounds, warm)
        if not latency:
            targets += _sweep(QUICK if quick else TWO_DAYS, QUICK_SIZES if quick else SIZES, warm)
        if not sweep:
            hidden = [latencies.measured(case) for case in latencies.cases(quick=quick)]
            console.print(latency_table(hidden))
            targets += latency_targets(hidden)
    for target in targets:
        console.print(
            f"[green]met[/green]     {target.sentence}" if target.met else f"[red]MISSED[/red]  {target.sentence}"
        )
    sys.exit(not (quick or all(target.met for target in targets)))


def _compare(account: Account, rounds: int, warm: Mapping[str, str]) -> list[Target]:
    targets: list[Target] = []
    foreign = replace(account, plain_text=False)
    with TemporaryDirectory() as folder, accounts.running(foreign, Path(folder)) as place:
        console.print(many_scripts(_rounds(foreign, "incremental_tickets", place, rounds, more=False)))
    with TemporaryDirectory() as folder, accounts.running(account, Path(folder)) as place:
        place.environment.update(warm)
        for stream in account.records:
            comparison = _rounds(account, stream, place, rounds)
            console.print(comparison_table(comparison))
            console.print(peers_table(comparison))
            for sentence in costs(comparison):
                console.print(sentence)
            targets += comparison_targets(comparison)
    return targets


def _rounds(account: Account, stream: str, place: local.LocalPipeline, rounds: int, *, more: bool = True) -> Comparison:
    """Bare loop, pipeline, and with `more` the pipeline with more to do, by turns.

    An untimed run first fills the page cache. The requests of that run are those that the bare loop repeats.
    """
    pipeline_run(place, account, stream, f"{stream}-warm-up")
    urls = [f"{place.zendesk.url}{asked.path}?{asked.query}" for asked in place.zendesk.control.requests()]
    bare, ours, redacted, packed = (list[Measured]() for _ in range(4))
    zipped = {encoding: list[Measured]() for encoding in ("gzip", "zstd")}
    control = place.zendesk.control
    for number in range(rounds):
        bare.append(bare_loop(place, account.records[stream], urls, f"{stream}-bare-{number}"))
        ours.append(pipeline_run(place, account, stream, f"{stream}-{number}"))
        if not more:
            continue
        redacted.append(pipeline_run(place, account, stream, f"{stream}-redacted-{number}", RULES))
        packed.append(pipeline_run(place, account, stream, f"{stream}-compressed-{number}", {"COMPRESSION": "gzip"}))
        for encoding, runs in zipped.items():
            control.set(encoding=encoding)
            runs.append(pipeline_run(place, account, stream, f"{stream}-{encoding}-{number}"))
        control.set(encoding="none")
    return Comparison(stream=stream, bare=bare, pipeline=ours, redacted=redacted, zipped=zipped, compressed=packed)


def _sweep(account: Account, sizes: Sequence[int], warm: Mapping[str, str]) -> list[Target]:
    runs: list[Measured] = []
    for size in sizes:
        sized = replace(account, tickets_per_hour=-(-size // account.hours), audit_logs_per_hour=0)
        with TemporaryDirectory() as folder, accounts.running(sized, Path(folder)) as place:
            place.environment.update(warm)
            runs.append(pipeline_run(place, sized, "incremental_tickets", f"{size}-tickets"))
    console.print(sweep_table(runs))
    return sweep_targets(runs)


if __name__ == "__main__":
    bench()
