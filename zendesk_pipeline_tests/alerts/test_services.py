"""The services of `deploy/systemd` as processes: from an empty folder to delivered windows, and through a crash."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import requests

from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import prove
from zendesk_pipeline.local.pipeline import LocalPipeline
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.orchestration.catch_up import GRACE
from zendesk_pipeline_tests.deploy.unit_files import SERVICES, UNITS, Machine, kill, unit, values
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.promise import kept_runs

PATIENCE = 400
"""Seconds, on a machine that does much else."""
QUESTION = """{
  workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } }
  sensorsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "zendesk_pipeline"}) {
    ... on Sensors { results { name sensorState { status ticks(limit: 1) { status } } } }
  }
}"""


def until(holds: Callable[[], bool]) -> None:
    """Wait for other processes."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.5)


@contextmanager
def machine(folder: Path, span: Span) -> Generator[tuple[LocalPipeline, Machine]]:
    """A simulated account and S3, and a machine with an empty DAGSTER_HOME."""
    since = timestamp(span.start - 24 * HOUR)
    with local.local_pipeline(folder / "local", "--since", since, start=span.start, instance="{}") as pipeline:
        own = {**pipeline.zendesk.environment, **pipeline.s3.environment}
        yield (
            pipeline,
            Machine(
                home=kept_runs.home(folder / "dagster"),
                code_port=lasting_port(),
                ui_port=lasting_port(),
                settings={**own, "START_DATE": timestamp(span.start), "ZENDESK_EXPORT_RATE": "30"},
            ),
        )


def answer(place: Machine) -> dict[str, Any]:
    """What the UI says of code location and sensors; nothing while it does not answer."""
    try:
        got = requests.post(f"http://127.0.0.1:{place.ui_port}/graphql", json={"query": QUESTION}, timeout=60)
    except requests.ConnectionError:
        return {}
    return got.json()["data"]


def ticked(said: dict[str, Any]) -> set[str]:
    """The sensors whose latest tick went well."""
    sensors = said.get("sensorsOrError", {}).get("results", [])
    ticks = {each["name"]: each["sensorState"]["ticks"] for each in sensors}
    return {name for name, latest in ticks.items() if latest and latest[0]["status"] in {"SUCCESS", "SKIPPED"}}


def statuses(place: Machine) -> list[dg.DagsterRunStatus]:
    """Of the runs that collect."""
    with dg.DagsterInstance.from_config(str(place.home)) as instance:
        return [run.status for run in instance.get_runs() if run.job_name.startswith("__anonymous_asset_job")]


def test_the_services_start_in_any_order_and_a_crash_of_all_of_them_repeats_and_loses_nothing(tmp_path: Path) -> None:
    """At once on an empty folder; all killed in the middle of a collection; started again as if nothing had been.

    The UI answers, the sensors tick, the runs that the crash has left are ended, and every window is delivered once.
    """
    end = Window.of(int(time.time()) - GRACE).start
    span = Span(end - 3 * HOUR, end)
    with machine(tmp_path, span) as (pipeline, place):
        buckets = local.buckets(pipeline)
        hangs = [Rule(path=path, kind="hang", seconds=3600, times=0) for path in ("audit_logs", "incremental")]
        pipeline.zendesk.control.add_faults(*hangs)
        with place.running(*SERVICES) as processes:
            until(lambda: ticked(answer(place)) >= {"catch_up_sensor", "freshness_sensor", "alert_sensor"})
            until(lambda: statuses(place).count(dg.DagsterRunStatus.STARTED) == len(buckets))
            for process in processes:
                kill(process)
        assert statuses(place).count(dg.DagsterRunStatus.STARTED) == len(buckets)
        pipeline.zendesk.control.clear_faults()

        with place.running(*reversed(SERVICES)):
            assert dg.DagsterRunStatus.STARTED not in statuses(place)[-len(buckets) :]
            until(lambda: all(bucket.progress(span).windows == len(span) for bucket in buckets.values()))
        proofs = {name: prove(bucket, span, pipeline.zendesk.control) for name, bucket in buckets.items()}
    assert {name: proof.holds for name, proof in proofs.items()} == dict.fromkeys(buckets, True), proofs
    assert sum(proof.at_source for proof in proofs.values()) > 0


def test_every_service_is_preceded_by_prepare() -> None:
    """Whichever of them comes first finds an instance that is whole."""
    for name in SERVICES:
        (before,) = values(unit(f"{name}.service"), "ExecStartPre")
        assert before.split()[0].endswith("/.venv/bin/zendesk-pipeline")
        assert before.split()[1:] == ["prepare"]


def test_the_services_say_the_same_of_what_they_may_do() -> None:
    """One user, one folder to write to, one file of settings: a line that is changed in one unit is changed in all."""
    parts = {path.name: path.read_text().partition("\n# What it may do")[2] for path in UNITS.glob("*.service")}
    rights = {name: text.partition("\n[Install]")[0].strip() for name, text in parts.items() if text}
    assert len(rights) == 5
    assert len(set(rights.values())) == 1
