"""Runs as tasks of Celery workers, with a watch for workers that are gone. Needs the extra `celery`.

Celery notes that a task was started, and never that its worker has gone: a run whose worker was killed, machine and
all, would stay started for as long as a run may take (`max_runtime_seconds`). So run monitoring asks the workers.
"""

import time
from typing import Any, cast

import dagster as dg
from typing_extensions import override

from zendesk_pipeline.orchestration.celery.dagster_names import TASK_ID_TAG, CeleryRunLauncher
from zendesk_pipeline.orchestration.instance import CheckRunHealthResult, WorkerStatus

SILENCE = 120
"""Seconds that no worker may be at a run before it counts as lost: more than a lost connection to Redis takes."""
PATIENCE = 3.0
"""Seconds to wait for an answer. A worker's main process gives it, however busy its runs are."""


class WatchedCeleryRunLauncher(CeleryRunLauncher):
    """CeleryRunLauncher that notices workers that are gone; `worker_silence_seconds` comes to its configuration."""

    def __init__(self, worker_silence_seconds: int = SILENCE, **options: Any) -> None:
        super().__init__(**options)
        self._silence = worker_silence_seconds
        self._silent_since: dict[str, float] = {}
        """By run, when a check first found no worker at it."""

    @classmethod
    @override
    def config_type(cls) -> dict[str, Any]:
        meaning = "Seconds that no worker may be at a run before it counts as lost."
        field = dg.Field(int, is_required=False, default_value=SILENCE, description=meaning)
        return {**cast("dict[str, Any]", super().config_type()), "worker_silence_seconds": field}

    @override
    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether a worker is at the run. Raises what the broker's client raises: then nothing is known of any run."""
        task_id = run.tags[TASK_ID_TAG]
        celery: Any = self.celery  # half typed
        task = celery.backend.get_task_meta(task_id)
        state, result = task["status"], task["result"]
        if state == "FAILURE":  # a worker that lost a process of its own says so
            return CheckRunHealthResult(WorkerStatus.FAILED, f"Celery: {result}")
        worker: str | None = result["hostname"] if state == "STARTED" else None
        if self._is_at_work(task_id, worker):
            self._silent_since.pop(run.run_id, None)
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        now = time.monotonic()
        if now - self._silent_since.setdefault(run.run_id, now) < self._silence:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        del self._silent_since[run.run_id]
        celery.control.revoke(task_id, terminate=True)  # for a worker that was only slow to answer
        who = worker or "Any worker"
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{who} has not been at its task for {self._silence} s")

    def _is_at_work(self, task_id: str, worker: str | None) -> bool:
        """Whether the worker, or any where none is named, has the task."""
        celery: Any = self.celery
        asked: dict[str, Any] = {"destination": [worker], "limit": 1} if worker else {}
        answers: dict[str, dict[str, Any]] | None = celery.control.inspect(timeout=PATIENCE, **asked).query_task(
            task_id
        )
        return any(task_id in found for found in (answers or {}).values())

    @override
    def terminate(self, run_id: str) -> bool:
        """End a run. It counts as cancelled and not as lost, so that nothing starts it again."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        return super().terminate(run_id)
