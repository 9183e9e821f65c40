"""A measured process: `plan` makes a Dagster run over a range of windows, `run` executes it, as a run's worker does.

Arguments: plan MODULE ASSET FIRST LAST, which prints the run's id; run MODULE ASSET ID. Both leave a note of where
their time went (see `measuring.NOTE`): they are two processes, as they are in production, where the daemon plans.
"""

import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import dagster as dg
import psutil
from botocore.client import BaseClient
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.execution.api import execute_run_iterator
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline_tests.bench.counting import NOTE, peak_memory

JOB = "__ASSET_JOB"


class Busy:
    """Calls of one kind: the wall time in which at least one was under way, and the processor time of all of them."""

    def __init__(self) -> None:
        self.calls = Counter[str]()
        self.wall = self.cpu = 0.0
        self.first = self.last = 0.0
        self._lock = Lock()
        self._under_way = 0
        self._since = 0.0

    def watch(self, owner: Any, name: str, kind: Callable[..., str]) -> None:
        """Watch a method from now on; `kind` names a call by its arguments."""
        call = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self._begin(kind(*args, **kwargs))
            cpu = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self._end(time.thread_time() - cpu)

        setattr(owner, name, watched)

    def _begin(self, kind: str) -> None:
        with self._lock:
            self.calls[kind] += 1
            now = time.monotonic()
            self.first = self.first or now
            if not self._under_way:
                self._since = now
            self._under_way += 1

    def _end(self, cpu: float) -> None:
        with self._lock:
            self.cpu += cpu
            self._under_way -= 1
            self.last = time.monotonic()
            if not self._under_way:
                self.wall += self.last - self._since

    def told(self) -> dict[str, Any]:
        return {"calls": self.calls, "wall": self.wall, "cpu": self.cpu, "first": self.first, "last": self.last}


def _s3_kind(_: Any, operation: str, arguments: dict[str, Any]) -> str:
    kinds = {"PutObject": "PUT", "GetObject": "GET", "ListObjectsV2": "LIST"}
    key = str(arguments.get("Key") or arguments.get("Prefix"))
    state = {"account.json": "account"}.get(
        key.rpartition("/")[2], "catalogue" if key.endswith("-fields.json") else "ledger"
    )
    of = state if "/state/" in key else "feed"
    return f"{kinds.get(operation, operation)} {of}"


def _event_kind(_: Any, event: Any, **__: Any) -> str:
    return str(event.dagster_event_type.value) if event.is_dagster_event else "log line"


def _job(module: str) -> ReconstructableJob:
    return ReconstructableJob(ReconstructableRepository(ModuleCodePointer(module, "defs")), JOB)


def plan(module: str, asset: str, first: str, last: str) -> str:
    """Make the run, with an event for each window that it is going to materialize; its id."""
    job = _job(module)
    with dg.DagsterInstance.get() as instance:
        keys = frozenset({dg.AssetKey(asset)})
        run = instance.create_run_for_job(
            job_def=job.get_definition().get_subset(asset_selection=keys),
            asset_selection=keys,
            tags={ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last},
            job_code_origin=job.get_python_origin(),
        )
    return run.run_id


def run(module: str, asset: str, run_id: str) -> None:
    """Execute a run to its end; raises RuntimeError where it fails."""
    with dg.DagsterInstance.get() as instance:
        planned = instance.get_run_by_id(run_id)
        assert planned is not None
        for _ in execute_run_iterator(_job(module), planned, instance):
            pass
        ended = instance.get_run_by_id(run_id)
        if ended is None or not ended.is_success:
            raise RuntimeError(f"the run of {asset} did not succeed")


def main(task: str, *arguments: str) -> None:
    """The task, and a note of where its time went."""
    watched = defaultdict[str, Busy](Busy)
    watched["zendesk"].watch(Transport, "send", lambda *_, **__: "GET")
    watched["s3"].watch(BaseClient, "_make_api_call", _s3_kind)
    watched["events"].watch(dg.DagsterInstance, "handle_new_event", _event_kind)
    age = time.time() - psutil.Process().create_time()
    began = time.monotonic() - age
    if task == "plan":
        print(plan(*arguments))  # noqa: T201  # what the next process is told
    else:
        run(*arguments)
    note = {
        "began": began,
        "ended": time.monotonic(),
        "cpu": time.process_time(),
        "memory": peak_memory(),
        **{name: busy.told() for name, busy in watched.items()},
    }
    Path(os.environ[NOTE]).write_text(json.dumps(note))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
