"""Processes and what they took."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from zendesk_pipeline.local.pipeline import LocalPipeline, last_words
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.bench import account as accounts
from zendesk_pipeline_tests.bench import counting
from zendesk_pipeline_tests.bench.account import Account
from zendesk_pipeline_tests.root import ROOT


class Note(msgspec.Struct, frozen=True):
    """What the process counted itself."""

    s3: dict[str, int]
    began: tuple[float, float]
    ended: tuple[float, float]
    cpu: float
    memory: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One process."""

    records: int
    """That it collected."""
    wall: float
    """Seconds, from its start to its end."""
    cpu: float
    """Seconds, user and system."""
    memory: float
    """MiB at the peak."""
    collecting: float
    """Seconds of wall time (see `counting`)."""
    collecting_cpu: float
    requests: int
    """To Zendesk, as the simulator counts them."""
    put: int
    get: int
    list: int


def pipeline_run(
    place: LocalPipeline, account: Account, stream: str, name: str, settings: Mapping[str, str] = MappingProxyType({})
) -> Measured:
    """A whole Dagster run over all windows, into prefixes of its own."""
    keys = (Window.of(at).partition_key for at in (account.span.start, account.span.end - 1))
    prefixes = {
        "S3_PREFIX": f"{name}/crm/",
        "STATE_PREFIX": f"{name}/state/",
        "QUARANTINE_PREFIX": f"{name}/quarantine/",
        **settings,
    }
    what = ("--select", stream, "--partition-range", "...".join(keys))
    command = ("dagster_run", "asset", "materialize", "-m", "zendesk_pipeline.definitions", *what)
    return _measured(place, account.records[stream], name, command, prefixes)


def bare_loop(place: LocalPipeline, records: int, urls: list[str], name: str) -> Measured:
    """The bare loop over the pages that hold these records."""
    pages = place.folder / f"{name}.urls"
    pages.write_text("\n".join(urls))
    return _measured(place, records, name, ("bare_loop", str(pages), name), {})


def _measured(
    place: LocalPipeline, records: int, name: str, command: tuple[str, ...], settings: dict[str, str]
) -> Measured:
    place.zendesk.control.forget_requests()
    note, log = place.folder / f"{name}.note", place.folder / f"{name}.log"
    began = time.monotonic()
    cpu = finished(place, command, log, {**settings, counting.NOTE: str(note)})
    wall = time.monotonic() - began
    told = msgspec.json.decode(note.read_bytes(), type=Note)
    return Measured(
        records=records,
        wall=wall,
        cpu=told.cpu if place.environment.get(accounts.FORKED) else cpu,  # else it is that of the client
        memory=told.memory,
        collecting=told.ended[0] - told.began[0],
        collecting_cpu=told.ended[1] - told.began[1],
        requests=sum(place.zendesk.control.counts().path.values()),
        put=told.s3.get("PUT", 0),
        get=told.s3.get("GET", 0),
        list=told.s3.get("LIST", 0),
    )


def _command(environment: Mapping[str, str], *module: str) -> list[str]:
    if environment.get(accounts.FORKED):
        return forked.command("-m", *module)
    return [sys.executable, "-m", *module]


def finished(place: LocalPipeline, command: tuple[str, ...], log: Path, settings: dict[str, str]) -> float:
    """Run a module of the bench to its end; the seconds of processor time it took."""
    module, *arguments = command
    environment = {**place.environment, **settings, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(environment, f"zendesk_pipeline_tests.bench.{module}", *arguments),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=place.home,
            env=environment,
        )
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"{log.stem}: {last_words(log)}")
    return usage.ru_utime + usage.ru_stime
