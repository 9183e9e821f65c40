"""What `doctor` says of SecOps' counts."""

from collections.abc import Generator
from pathlib import Path

import pytest

from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, verdict_of
from zendesk_pipeline_tests.fakes.secops_server import SecopsServer, google_error, secops


@pytest.fixture
def server() -> Generator[SecopsServer]:
    with secops() as running:
        yield running


@pytest.fixture
def make_context(
    zendesk: SimulatedZendesk, s3: LocalS3, server: SecopsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeContext:
    return context_maker(monkeypatch, zendesk.environment, s3.environment, server.environment(tmp_path))


@pytest.mark.parametrize(("failed", "status"), [(0, "ok"), (6, "warning")])
def test_the_last_day_is_told(make_context: MakeContext, server: SecopsServer, failed: int, status: str) -> None:
    """What was ingested, and whether it was parsed."""
    context = make_context()
    server.ingests(100, at=context.clock.now() - 60, failed=failed)
    verdict = verdict_of(context, "secops_counts")
    assert verdict.status == status
    assert "100 logs of the type ZENDESK_CRM" in verdict.found
    assert failed == 0 or "parser-check" in verdict.remedy


def test_the_right_that_is_missing_is_named(make_context: MakeContext, server: SecopsServer) -> None:
    """Before the first hour asks for it."""
    denied = google_error(403, "Permission chronicle.dashboardQueries.execute denied.")
    server.refused_method, server.refusal = "execute", (403, denied)
    verdict = verdict_of(make_context(), "secops_counts")
    assert verdict.status == "failed"
    assert "chronicle.dashboardQueries.execute denied" in f"{verdict.found} {verdict.remedy}"


def test_without_an_instance_it_is_not_visible(make_context: MakeContext, server: SecopsServer) -> None:
    """No fault, and no request."""
    verdict = verdict_of(make_context(SECOPS_REGION=""), "secops_counts")
    assert verdict.status == "not visible"
    assert verdict.found == "What SecOps ingests is not counted: SECOPS_REGION not set."
    assert server.asked == []
