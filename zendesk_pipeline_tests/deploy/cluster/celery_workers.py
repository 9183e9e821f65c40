"""A hundred windows of four accounts on two Celery workers, one of which is killed: nothing asks for anything by hand.

The catch-up sensor asks for the windows. Run monitoring finds the runs of the dead worker, run retries start
them again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import dagster as dg
import psutil
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
    held,
    is_over,
    kill,
    needed,
    newest,
    starting,
)

ACCOUNTS = [f"customer_{number}" for number in range(4)]
WINDOWS = 13
STARTED, SUCCESS = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS
PROCESSES = 2
"""Of each worker."""
LATENCY = 2000
"""Milliseconds before each of Zendesk's answers, so that a run is in its midst for a while."""
MANY_PAGES = ("--tickets-per-hour", "400")
"""Windows are finished on the way where three pages follow them (ADR 17): so that a run is in its midst for a while."""
PATIENCE = 240


@pytest.fixture(scope="module", autouse=True)
def _servers() -> None:
    needed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What there was when a worker was killed, and what there is in the end."""

    cluster: Cluster
    span: Span
    lost: set[str]
    """The runs of the worker that was killed."""
    under_way: int
    """Windows that these had delivered and not reported."""
    workers: Counter[str]
    """Runs that succeeded, by worker."""
    records: Mapping[str, dg.RunRecord]
    """Every run, by its id."""
    said: Mapping[str, str]
    """By lost run, its log."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """All of it, up to the last window."""
    span = newest(WINDOWS)
    folder = tmp_path_factory.mktemp("cluster")
    with accounts_in_a_cluster(folder, ACCOUNTS, span, QUICK, *MANY_PAGES) as (services, instance):
        yield _told(services, instance, span)


def _told(services: Cluster, instance: dg.DagsterInstance, span: Span) -> Story:
    services.zendesk.control.set(latency_ms=LATENCY)
    with ExitStack() as up:
        workers = {name: up.enter_context(services.worker(name, PROCESSES)) for name in ("one", "two")}
        daemon = up.enter_context(services.daemon("soc.definitions"))
        victim = found(lambda: _killed_in_the_midst(services, instance, span, workers, daemon), within=PATIENCE)
        services.zendesk.control.set(latency_ms=0)
        lost = {run.run_id for run in _started(instance) if _worker_of(instance, run) == victim}
        under_way = sum(_complete(services, run, span) for run in _started(instance) if run.run_id in lost)
        found(lambda: is_over(instance, ACCOUNTS, span), within=PATIENCE)
    records = {record.dagster_run.run_id: record for record in instance.get_run_records()}
    runs = [record.dagster_run for record in records.values()]
    return Story(
        cluster=services,
        span=span,
        lost=lost,
        under_way=under_way,
        workers=Counter(_worker_of(instance, run) for run in runs if run.is_success),
        records=records,
        said={run: "\n".join(event.message for event in instance.all_logs(run)) for run in lost},
    )


def _started(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(statuses=[STARTED]))


def _worker_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """The worker that took the run, by its name."""
    launcher: Any = instance.run_launcher
    meta = launcher.celery.backend.get_task_meta(run.tags[DAGSTER_CELERY_TASK_ID_TAG])
    return str(meta.get("worker")).partition("@")[0]


def _complete(services: Cluster, run: dg.DagsterRun, span: Span) -> int:
    """Windows that the run's stream has whole in S3; none where it has no stream, like an inspection."""
    keys = [key for key in run.asset_selection or () if key.path[-1] in COLLECTED_BY_DEFAULT]
    return sum(bucket(services, key.path[0], key.path[-1]).progress(span).windows for key in keys)


def _killed_in_the_midst(
    services: Cluster,
    instance: dg.DagsterInstance,
    span: Span,
    workers: Mapping[str, psutil.Process],
    daemon: psutil.Process,
) -> str | None:
    """The worker that was killed; None, and none is, while no worker is in the midst of a run.

    The daemon stands still meanwhile: a run that a worker has taken and not begun is the story of `unstarted_run`.
    """
    if _worker_in_the_midst(services, instance, span):
        with held(daemon):
            victim = _worker_in_the_midst(services, instance, span)
            if victim and not starting(instance):
                kill(workers[victim])
                return victim
    return None


def _worker_in_the_midst(services: Cluster, instance: dg.DagsterInstance, span: Span) -> str | None:
    """A worker that has done a run, and has another one that has delivered some of its windows."""
    done = {_worker_of(instance, run) for run in instance.get_runs(dg.RunsFilter(statuses=[SUCCESS]))}
    for run in _started(instance) if done else ():
        worker = _worker_of(instance, run)
        if worker in done and 0 < _complete(services, run, span) < WINDOWS:
            return worker
    return None


def test_the_work_is_spread(story: Story) -> None:
    """Both workers have done runs, the one that was killed too."""
    assert set(story.workers) == {"one", "two"}


def test_every_window_is_exact(story: Story) -> None:
    """A hundred windows and more, each record of them in S3 once, although a worker died in the midst of some."""
    proofs = [
        prove(bucket(story.cluster, account, stream), story.span, story.cluster.zendesk.control)
        for account in ACCOUNTS
        for stream in COLLECTED_BY_DEFAULT
    ]
    assert sum(proof.windows for proof in proofs) > 100
    assert [proof for proof in proofs if not proof.holds] == []
    assert sum(proof.at_source for proof in proofs) > 5_000


def test_the_worker_died_in_the_midst(story: Story) -> None:
    """Its runs had delivered windows that nobody was told of."""
    assert story.lost
    assert story.under_way


def test_run_monitoring_finds_what_is_lost(story: Story) -> None:
    """Each run of the dead worker ends as a failure that says so, and no other run fails."""
    failed = {run for run, record in story.records.items() if record.dagster_run.status is dg.DagsterRunStatus.FAILURE}
    assert failed == story.lost
    assert [run for run, said in story.said.items() if "has not been at its task for 6 s" not in said] == []


def test_run_retries_start_them_again(story: Story) -> None:
    """Each once, and before the catch-up sensor would: it leaves a failed window five minutes."""
    again = [record.dagster_run for record in story.records.values() if record.dagster_run.parent_run_id]
    assert {run.parent_run_id for run in again} == story.lost
    assert len(again) == len(story.lost)
    assert all(run.is_success for run in again)
