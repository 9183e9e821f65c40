"""What tests of the checks that ask SecOps have in common."""

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.fakes.secops_server import SecopsServer, secops

LookAt = Callable[..., dg.AssetCheckEvaluation]


@pytest.fixture
def server() -> Generator[SecopsServer]:
    """A stand-in of SecOps."""
    with secops() as running:
        yield running


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def watching(environment: dict[str, str], server: SecopsServer, tmp_path: Path) -> dict[str, str]:
    """The settings with which SecOps is asked."""
    return {**environment, **server.environment(tmp_path)}


@pytest.fixture
def look_at(watching: dict[str, str], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> LookAt:
    """A check as its hourly job runs it, with changed settings, some hours from now; the verdict."""

    def run(key: dg.AssetCheckKey, hours: float, **changed: str) -> dg.AssetCheckEvaluation:
        with monkeypatch.context() as once:
            for name, value in {**watching, **changed}.items():
                once.setenv(name, value)
            definitions = build(settings.load(), Clock(now=lambda: time.time() + hours * HOUR))
            job = definitions.resolve_job_def("feed_inspection").get_subset(asset_check_selection={key})
            (verdict,) = job.execute_in_process(instance=instance).get_asset_check_evaluations()
            return verdict

    return run
