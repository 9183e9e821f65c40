"""What the Celery launcher says of a run's worker, with Celery's own broker in memory; and the file that configures it.

`make cluster` shows the same with real workers that are killed.
"""

from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import WorkerStatus
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from zendesk_pipeline.orchestration.celery import launcher as celery_launcher
from zendesk_pipeline.orchestration.celery.launcher import WatchedCeleryRunLauncher
from zendesk_pipeline_tests.root import ROOT

DEPLOYED = ROOT / "deploy" / "dagster" / "celery" / "dagster.yaml"
VARIABLES = {
    "DAGSTER_PG_HOST": "database",
    "DAGSTER_PG_PORT": "5432",
    "DAGSTER_PG_USERNAME": "user",
    "DAGSTER_PG_PASSWORD": "password",
    "DAGSTER_PG_DB": "dagster",
    "CELERY_BROKER_URL": "redis://broker/0",
    "CELERY_RESULT_BACKEND": "redis://broker/1",
}
WORKER = {"pid": 1, "hostname": "one@machine"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker will answer."""
    monkeypatch.setattr(celery_launcher, "PATIENCE", 0.01)


def _launcher(silence: int) -> WatchedCeleryRunLauncher:
    return WatchedCeleryRunLauncher(
        worker_silence_seconds=silence, default_queue="dagster", broker="memory://", backend="cache+memory://"
    )


def _run(launcher: WatchedCeleryRunLauncher, state: str, result: Any = None) -> dg.DagsterRun:
    """A run whose task has come to a state."""
    task = uuid4().hex
    launcher.celery.backend.store_result(task, result, state)
    return dg.DagsterRun(job_name="any", run_id=str(uuid4()), tags={DAGSTER_CELERY_TASK_ID_TAG: task})


def test_a_process_that_died_is_a_failure_at_once() -> None:
    """Its worker has said so."""
    launcher = _launcher(3600)
    told = launcher.check_run_worker_health(_run(launcher, "FAILURE", RuntimeError("signal 9")))
    assert (told.status, told.msg) == (WorkerStatus.FAILED, "Celery: signal 9")


@pytest.mark.parametrize(
    ("state", "result"),
    [
        pytest.param("STARTED", WORKER, id="killed with its worker"),
        pytest.param("SUCCESS", 0, id="left to another worker, that found it started"),
        pytest.param("PENDING", None, id="forgotten by the result backend"),
    ],
)
def test_a_run_that_no_worker_is_at_is_lost_after_a_while(state: str, result: Any) -> None:
    """However Celery came to think what it thinks; before, it counts as running, for an answer may be late."""
    for silence, status in ((3600, WorkerStatus.RUNNING), (0, WorkerStatus.NOT_FOUND)):
        launcher = _launcher(silence)
        run = _run(launcher, state, result)
        told = [launcher.check_run_worker_health(run).status for _ in range(2)]
        assert told == [status] * 2


def test_what_is_said_names_the_worker() -> None:
    """So that somebody can look at its machine."""
    launcher = _launcher(0)
    told = launcher.check_run_worker_health(_run(launcher, "STARTED", WORKER))
    assert told.msg == "one@machine has not been at its task for 0 s"


def _deployed(monkeypatch: pytest.MonkeyPatch) -> InstanceRef:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return InstanceRef.from_dir(str(DEPLOYED.parent))


def test_the_deployed_file_configures_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster takes it; broker, backend and every other setting reach Celery."""
    launcher: Any = _deployed(monkeypatch).run_launcher
    assert launcher.__class__ is WatchedCeleryRunLauncher
    settings: Any = launcher.celery.conf
    assert settings.broker_url == VARIABLES["CELERY_BROKER_URL"]
    assert settings.result_backend == VARIABLES["CELERY_RESULT_BACKEND"]
    written = yaml.safe_load(DEPLOYED.read_text())["run_launcher"]["config"]
    assert launcher._silence == written["worker_silence_seconds"] == celery_launcher.SILENCE
    assert {name: settings[name] for name in written["config_source"]} == written["config_source"]
    assert settings.include == written["include"]


def test_the_deployed_file_is_consistent() -> None:
    """What heals a lost run is on, and what has to agree agrees."""
    written = yaml.safe_load(DEPLOYED.read_text())
    monitoring = written["run_monitoring"]
    assert written["storage"]["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
    assert monitoring["enabled"]
    assert written["run_retries"]["enabled"]
    assert monitoring["free_slots_after_run_end_seconds"] > 0
    assert monitoring["max_resume_run_attempts"] == 0
    assert written["run_launcher"]["config"]["config_source"]["result_expires"] >= monitoring["max_runtime_seconds"]


def test_the_deployed_file_is_otherwise_the_project_s() -> None:
    """What has nothing to do with a cluster is the same as on one machine."""
    alone, deployed = (yaml.safe_load(path.read_text()) for path in (ROOT / "dagster.yaml", DEPLOYED))
    for section in ("telemetry", "nux", "freshness", "run_retries", "retention"):
        assert deployed[section] == alone[section], section
    assert deployed["concurrency"]["pools"] == alone["concurrency"]["pools"]
