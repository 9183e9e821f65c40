"""PostgreSQL goes away in the midst of runs, until they have given up: what becomes of them, and what heals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

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
    needed,
    newest,
    starting,
)

ACCOUNT, STREAM = "acme", "audit_logs"
WINDOWS = 6
LATENCY = 2000
PATIENCE = 240
WITHOUT_PAUSES = "from zendesk_pipeline.orchestration import catch_up\n\ncatch_up.FIRST_PAUSE = 1\n"
"""For the code location: its sensor tries a failed window again at its next look, and not after five minutes."""


@pytest.fixture(scope="module", autouse=True)
def _servers() -> None:
    needed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What there is after the outage."""

    cluster: Cluster
    span: Span
    runs: Sequence[dg.DagsterRun]
    """All of them, oldest first."""
    said: str
    """The log of the first."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """The outage, and everything after it up to the last window."""
    span = newest(WINDOWS)
    with accounts_in_a_cluster(tmp_path_factory.mktemp("cluster"), [ACCOUNT], span, QUICK) as (services, instance):
        (services.folder / "soc" / "src" / "soc" / "defs" / "quick.py").write_text(WITHOUT_PAUSES)
        with services.worker("one", 2), services.daemon("soc.definitions"):
            _outage(services, instance, span)
            found(lambda: is_over(instance, [ACCOUNT], span), within=PATIENCE)
            runs = instance.get_runs()[::-1]
            said = "\n".join(event.message for event in instance.all_logs(_first(runs).run_id))
            yield Outcome(cluster=services, span=span, runs=runs, said=said)


def _first(runs: Sequence[dg.DagsterRun]) -> dg.DagsterRun:
    return next(run for run in runs if {key.path[-1] for key in run.asset_selection or ()} == {STREAM})


def _outage(services: Cluster, instance: dg.DagsterInstance, span: Span) -> None:
    """From the midst of a run until no worker is at any."""
    services.zendesk.control.set(latency_ms=LATENCY)
    collected, control = bucket(services, ACCOUNT, STREAM), services.zendesk.control
    found(
        lambda: (
            any(STREAM in seen.path for seen in control.requests())
            and collected.progress(span).windows < WINDOWS
            and not starting(instance)
        ),
        within=PATIENCE,
    )
    services.postgres.stop()
    services.zendesk.control.set(latency_ms=0)
    found(lambda: _nobody_at_work(instance), within=PATIENCE)
    services.postgres.start()


def _nobody_at_work(instance: dg.DagsterInstance) -> bool:
    """Whether the worker has said so."""
    launcher: Any = instance.run_launcher
    answers: dict[str, list[Any]] | None = launcher.celery.control.inspect().active()
    return bool(answers) and not any(answers.values())


def test_every_window_is_exact(outcome: Outcome) -> None:
    """Of both streams: what the first runs had delivered is not delivered again."""
    for stream in COLLECTED_BY_DEFAULT:
        proof = prove(bucket(outcome.cluster, ACCOUNT, stream), outcome.span, outcome.cluster.zendesk.control)
        assert proof.holds, proof
        assert proof.at_source > 10 * WINDOWS


def test_a_run_that_could_not_report_is_found(outcome: Outcome) -> None:
    """It gave up on the database and left no word there; run monitoring asks Celery, and marks it as failed."""
    assert _first(outcome.runs).status is dg.DagsterRunStatus.FAILURE
    assert "Detected run worker status" in outcome.said


def test_another_run_makes_up_for_it(outcome: Outcome) -> None:
    """By run retries; or by the catch-up sensor, where the code location could not be loaded in the outage."""
    others = [run for run in outcome.runs if run.run_id != _first(outcome.runs).run_id and run.is_success]
    assert _first(outcome.runs).asset_selection in [run.asset_selection for run in others]
