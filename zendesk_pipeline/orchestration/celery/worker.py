"""What a Celery worker executes. Needs the extra `celery`.

`celery --app zendesk_pipeline.orchestration.celery.worker worker` starts one.

Broker and settings are those of the launcher in the dagster.yaml of DAGSTER_HOME, so that the two cannot differ.
"""

import dagster as dg

from zendesk_pipeline.orchestration.celery.dagster_names import create_execute_job_task
from zendesk_pipeline.orchestration.celery.launcher import WatchedCeleryRunLauncher

instance = dg.DagsterInstance.get()
launcher = instance.run_launcher
if not isinstance(launcher, WatchedCeleryRunLauncher):
    raise TypeError(
        f"The run_launcher of this DAGSTER_HOME is {type(launcher).__name__}: see docs/deployment.md#celery-workers."
    )
app = launcher.celery
execute_job = create_execute_job_task(app)
