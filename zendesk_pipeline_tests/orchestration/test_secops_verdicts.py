"""What the checks that ask SecOps remember, where another release of this software has left it otherwise."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.fakes.access_log import ROLE
from zendesk_pipeline_tests.fakes.secops_server import secops
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

FEED = dg.AssetKey("secops_feed")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.mark.parametrize("left", [{"watched": {}, "since": "long ago"}, ["of another form"], None])
@pytest.mark.parametrize("check", ["secops_reads", "secops_counts", "secops_finds", "secops_parser", "secops_receipts"])
def test_what_cannot_be_read_of_the_verdict_before_is_as_if_it_had_left_nothing(
    environment: dict[str, str],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    check: str,
    left: object,
) -> None:
    """The check gives a verdict, and what it leaves is of its own form again."""
    key = dg.AssetCheckKey(FEED, check)
    memory = {"remembered": dg.MetadataValue.json(left)}  # pyright: ignore[reportArgumentType]  # any JSON
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=FEED, check_name=check, passed=True, metadata=memory)
    )
    with secops() as server:
        watching = {"SECOPS_ACCESS_LOGS": f"s3://{environment['S3_BUCKET']}/logs/", "SECOPS_READER": ROLE}
        for name, value in {**environment, **server.environment(tmp_path), **watching}.items():
            monkeypatch.setenv(name, value)
        job = build(settings.load(), Clock()).resolve_job_def("feed_inspection")
        result = job.get_subset(asset_check_selection={key}).execute_in_process(instance=instance, raise_on_error=False)
    assert result.success
    (verdict,) = result.get_asset_check_evaluations()
    assert verdict.metadata["remembered"].value not in (left, None)
