"""What `doctor` says of SecOps' feed."""

from collections.abc import Generator
from pathlib import Path

import pytest

from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, verdict_of
from zendesk_pipeline_tests.fakes.secops_server import SecopsServer, secops


@pytest.fixture
def server() -> Generator[SecopsServer]:
    with secops() as running:
        yield running


@pytest.fixture
def make_context(
    zendesk: SimulatedZendesk, s3: LocalS3, server: SecopsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeContext:
    return context_maker(monkeypatch, zendesk.environment, s3.environment, server.environment(tmp_path))


def test_a_feed_that_reads_is_well(make_context: MakeContext, server: SecopsServer, s3: LocalS3) -> None:
    """The line says which one, and in which state."""
    server.holds(f"s3://{s3.bucket}/zendesk/crm/", displayName="Zendesk CRM")
    verdict = verdict_of(make_context(), "secops_feed")
    assert verdict.status == "ok"
    assert verdict.found == f"Zendesk CRM reads s3://{s3.bucket}/zendesk/crm/ (SUCCEEDED)."


def test_none_that_reads_fails_with_the_remedy(make_context: MakeContext) -> None:
    """What is delivered gets nowhere."""
    verdict = verdict_of(make_context(), "secops_feed")
    assert verdict.status == "failed"
    assert verdict.found.startswith("No feed reads s3://")
    assert verdict.remedy.startswith("make one with ")


def test_a_second_feed_is_a_warning(make_context: MakeContext, server: SecopsServer, s3: LocalS3) -> None:
    """It stops nothing."""
    for _ in range(2):
        server.holds(f"s3://{s3.bucket}/zendesk/crm/")
    verdict = verdict_of(make_context(), "secops_feed")
    assert verdict.status == "warning"
    assert "as well as" in verdict.found


def test_without_an_instance_it_is_not_visible(make_context: MakeContext, server: SecopsServer) -> None:
    """No fault, and no request."""
    verdict = verdict_of(make_context(SECOPS_REGION=""), "secops_feed")
    assert verdict.status == "not visible"
    assert verdict.found == "SecOps is not watched: SECOPS_REGION not set."
    assert server.asked == []
