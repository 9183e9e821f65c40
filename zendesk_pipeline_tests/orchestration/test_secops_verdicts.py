"""What the checks that ask SecOps share: what they remember, also of another release, and how long they wait."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.orchestration.secops_verdicts import MOST_WAITED, SLOW, wait_limit
from zendesk_pipeline.secops.access import access_of, connect
from zendesk_pipeline.secops.instance import READING, UnavailableError
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import Settings
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


def test_the_checks_of_one_run_wait_no_longer_than_a_limit_for_one_address(tmp_path: Path) -> None:
    """So that a SecOps that hangs for one account does not keep two hundred others from being looked at."""
    with secops() as server:
        named = {name.lower(): value for name, value in server.environment(tmp_path).items()}
        access = access_of(Settings.model_validate(named))
        first, second = connect(access, READING), connect(access, READING)
        limit = first.waits = second.waits = replace(wait_limit("a run", access.instance.endpoint))
        for seconds, left in [*[(SLOW - 1, MOST_WAITED)] * 50, (SLOW, MOST_WAITED - SLOW), (MOST_WAITED, -SLOW)]:
            times = iter([0.0, float(seconds)])
            limit.monotonic = lambda times=times: next(times)
            first.feeds()
            assert limit.left == left, "quick answers cost nothing, however many they are"
        asked = len(server.asked)
        with pytest.raises(UnavailableError, match="so slow for others of this run"):
            second.feeds()
        assert len(server.asked) == asked


def test_each_run_and_each_address_has_a_limit_of_its_own() -> None:
    """The next hour asks again, and another region is not to blame."""
    one = wait_limit("run", "https://us-chronicle.googleapis.com")
    assert wait_limit("run", "https://us-chronicle.googleapis.com") is one
    assert wait_limit("next run", "https://us-chronicle.googleapis.com") is not one
    assert wait_limit("run", "https://eu-chronicle.googleapis.com") is not one
