"""A collection in a process of its own, quick to start and easy to kill.

The process is forked from a server that has imported everything already, so that hundreds of crashes are cheap; what
runs in it is what Dagster runs: the definitions of the environment, materialized over a range.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
from botocore.config import Config

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline.settings import environment as settings

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__, "zendesk_pipeline_tests.promise.warm"])

KILLED = (-9, 255)
"""Exit codes of a process that was killed: the second is what multiprocessing says where it could not see how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a process is to collect."""

    stream: str
    span: Span
    environment: Mapping[str, str]
    redeliver: bool = False
    compares_at: int | None = None
    """Compare the windows, which were delivered, with Zendesk at this time, and collect nothing."""
    now: int | None = None
    """What its clock shows all the time; that of this machine if None."""
    log: Path | None = None
    """Where the process's output goes; nowhere if None."""


@contextmanager
def collecting(collection: Collection) -> Generator[BaseProcess]:
    """The process while it works; it is killed if it outlives the block."""
    process = _context.Process(target=_collect, args=(collection,))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def collect(collection: Collection, *, seconds: float = 120) -> int:
    """Collect to the end in a process of its own; its exit code: 0 success, 1 a failed run, or one of KILLED."""
    with collecting(collection) as process:
        process.join(seconds)
        assert process.exitcode is not None, f"still collecting after {seconds} s"
        return process.exitcode


def _in_a_hurry(now: int | None) -> None:
    """Waits are as real as everything else, and short: hundreds of retries have to fit into a test run."""
    wait, monotonic, skipped = time.sleep, time.monotonic, [0.0]

    def briefly(seconds: float) -> None:
        wait(min(seconds, 0.01))
        skipped[0] += max(0.0, seconds - 0.01)  # what waits for a moment finds that it has come

    time.sleep = briefly  # botocore's
    Config.OPTION_DEFAULTS["read_timeout"] = 1  # pyright: ignore[reportArgumentType]  # its values are of many types
    ZendeskResource.__private_attributes__["_clock"].default_factory = lambda: Clock(
        now=time.time if now is None else partial(float, now),
        sleep=briefly,
        monotonic=lambda: monotonic() + skipped[0],
    )


def _collect(collection: Collection) -> None:
    output = os.open(collection.log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update({"HOME": os.devnull, **collection.environment})
    sys.exit(0 if _materialized(collection) else 1)


def _compared(collection: Collection, at: int) -> bool:
    clock = Clock(now=lambda: float(at))
    job = build(settings.load(), clock).resolve_job_def("reconciliation")
    check = dg.AssetCheckKey(dg.AssetKey("secops_feed"), f"{collection.stream}_match_source")
    with dg.DagsterInstance.ephemeral() as instance:
        for window in collection.span:
            delivered = dg.AssetMaterialization(collection.stream, partition=window.partition_key)
            instance.report_runless_asset_event(delivered)
        result = job.get_subset(asset_check_selection={check}).execute_in_process(
            instance=instance, raise_on_error=False
        )
    (verdict,) = result.get_asset_check_evaluations()
    return result.success and verdict.severity is not dg.AssetCheckSeverity.ERROR


def _materialized(collection: Collection) -> bool:
    _in_a_hurry(collection.now)
    if collection.compares_at is not None:
        return _compared(collection, collection.compares_at)
    definitions = build(settings.load())
    first, last = Window(collection.span.start), Window(collection.span.end - 3600)
    job = definitions.get_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey(collection.stream)],
        run_config={"ops": {collection.stream: {"config": {"redeliver": collection.redeliver}}}},
        tags={
            "dagster/asset_partition_range_start": first.partition_key,
            "dagster/asset_partition_range_end": last.partition_key,
        },
        raise_on_error=False,
    )
    return result.success
