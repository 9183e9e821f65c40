"""A worker is killed that has taken a run from Redis and not begun it: nobody else knows of the run's task."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from zendesk_pipeline.local.delivery_proof import prove
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT
from zendesk_pipeline.model.windows import Span
from zendesk_pipeline_tests.deploy.cluster.stage import (
    QUICK,
    Cluster,
    accounts_in_a_cluster,
    bucket,
    found,
    is_over,
    kill,
    needed,
    newest,
    starting,
    stop_pool,
)

ACCOUNT = "acme"
WINDOWS = 3
LATENCY = 2000
"""Milliseconds before each of Zendesk's answers, so that the first run is at work when the second one is launched."""
PATIENCE = 240
START_TIMEOUT = 30
QUEUE = "dagster"
IMPATIENT: Mapping[str, Any] = {
    **QUICK,
    "run_monitoring": {**QUICK["run_monitoring"], "start_timeout_seconds": START_TIMEOUT},
}


@pytest.fixture(scope="module", autouse=True)
def _servers() -> None:
    needed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What there is when every window is reported."""

    cluster: Cluster
    span: Span
    taken: int
    """Runs that the first worker had taken from Redis, of several that were there. It has one process."""
    unstarted: str
    """The run that the second worker took and did not begin."""
    runs: Mapping[str, dg.DagsterRun]
    """All of them, by their id."""
    said: str
    """The log of the unstarted one."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """The kill, and everything after it."""
    span = newest(WINDOWS)
    with accounts_in_a_cluster(tmp_path_factory.mktemp("cluster"), [ACCOUNT], span, IMPATIENT) as (services, instance):
        yield _told(services, instance, span)


def _told(services: Cluster, instance: dg.DagsterInstance, span: Span) -> Outcome:
    services.zendesk.control.set(latency_ms=LATENCY)
    with services.worker("one", 1) as first, services.daemon("soc.definitions"):
        found(lambda: _at_work(instance) and starting(instance), within=PATIENCE)
        taken = found(lambda: _taken(instance), within=PATIENCE)
        kill(first)
        with services.worker("two", 1, "--queues", "none") as second:
            found(lambda: _inspect(instance).ping(), within=PATIENCE)
            stop_pool(second)
            _celery(instance).control.add_consumer(QUEUE)
            (task,) = found(lambda: _taken(instance), within=PATIENCE)
            kill(second)
        services.zendesk.control.set(latency_ms=0)
        with services.worker("three", 1):
            found(lambda: is_over(instance, [ACCOUNT], span), within=PATIENCE)
    runs = {run.run_id: run for run in instance.get_runs()}
    (unstarted,) = instance.get_run_ids(dg.RunsFilter(tags={DAGSTER_CELERY_TASK_ID_TAG: task}))
    said = "\n".join(event.message for event in instance.all_logs(unstarted))
    return Outcome(cluster=services, span=span, taken=len(taken), unstarted=unstarted, runs=runs, said=said)


def _at_work(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))


def _taken(instance: dg.DagsterInstance) -> set[str]:
    """The tasks that workers have, begun or not; none where they do not answer in time."""
    asked = _inspect(instance)
    answers: list[dict[str, list[Any]] | None] = [asked.active(), asked.reserved()]
    return {task["id"] for answer in answers for tasks in (answer or {}).values() for task in tasks}


def _inspect(instance: dg.DagsterInstance) -> Any:
    return _celery(instance).control.inspect()


def _celery(instance: dg.DagsterInstance) -> Any:
    launcher: Any = instance.run_launcher
    return launcher.celery


def test_a_worker_takes_no_more_than_it_can_begin(outcome: Outcome) -> None:
    """What it leaves in Redis is there for others, and is not lost with it."""
    assert outcome.taken == 1


def test_the_run_is_found(outcome: Outcome) -> None:
    """It ends as a failure that says so, and another run is started for it."""
    assert outcome.runs[outcome.unstarted].status is dg.DagsterRunStatus.FAILURE
    assert f"taking longer than {START_TIMEOUT} seconds to start" in outcome.said
    assert outcome.unstarted in {run.parent_run_id for run in outcome.runs.values() if run.is_success}


@pytest.mark.parametrize("stream", COLLECTED_BY_DEFAULT)
def test_every_window_is_exact(outcome: Outcome, stream: str) -> None:
    """Whatever the killed workers had delivered."""
    proof = prove(bucket(outcome.cluster, ACCOUNT, stream), outcome.span, outcome.cluster.zendesk.control)
    assert proof.holds, proof
    assert proof.at_source > 10 * WINDOWS
