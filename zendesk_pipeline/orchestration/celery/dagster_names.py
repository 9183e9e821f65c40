"""The undocumented names of `dagster_celery` that are used; `orchestration.instance` has those of `dagster`."""

from collections.abc import Callable
from typing import Any

from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tasks import (
    create_execute_job_task as _create_execute_job_task,  # pyright: ignore[reportUnknownVariableType]  # half typed
)

__all__ = ["TASK_ID_TAG", "CeleryRunLauncher", "create_execute_job_task"]

TASK_ID_TAG = "dagster-celery/task_id"
"""The tag of a run that names its Celery task."""
create_execute_job_task: Callable[..., Any] = _create_execute_job_task  # pyright: ignore[reportUnknownVariableType]  # the same
