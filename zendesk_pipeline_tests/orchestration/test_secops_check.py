"""The check that asks SecOps about its feed, against a stand-in of SecOps and a real bucket."""

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from zendesk_pipeline.alerts.dagster_problems import failed_checks
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.secops_server import SecopsServer, google_error, secops
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

FEED = dg.AssetKey("secops_feed")
KEY = dg.AssetCheckKey(FEED, "secops_reads")
Look = Callable[..., dg.AssetCheckEvaluation]


@pytest.fixture
def server() -> Generator[SecopsServer]:
    with secops() as running:
        yield running


@pytest.fixture
def uri(environment: dict[str, str], layout: Layout) -> str:
    return f"s3://{environment['S3_BUCKET']}/{layout.feed}"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def look(
    environment: dict[str, str],
    server: SecopsServer,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Look:
    """The hourly job, with changed settings, some hours from now; the verdict."""
    watching = {**environment, **server.environment(tmp_path)}

    def run(hours: float = 0, **changed: str) -> dg.AssetCheckEvaluation:
        for name, value in {**watching, **changed}.items():
            monkeypatch.setenv(name, value)
        definitions = build(settings.load(), Clock(now=lambda: time.time() + hours * HOUR))
        result = definitions.resolve_job_def("feed_inspection").execute_in_process(instance=instance)
        (verdict,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "secops_reads"]
        return verdict

    return run


def _told(instance: dg.DagsterInstance) -> list[Any]:
    return list(failed_checks(Snapshot(instance=instance, now=0, automation=Automation(checks=[KEY]))))


def test_a_feed_that_reads_is_seen_and_observed(
    look: Look, server: SecopsServer, uri: str, instance: dg.DagsterInstance
) -> None:
    """The verdict passes, and the feed's asset has its state and last transfer; it is asked for reading alone."""
    server.holds(uri, lastFeedInitiationTime="2026-11-12T05:00:00Z", displayName="Zendesk CRM")
    verdict = look()
    assert verdict.passed
    assert verdict.description == f"Zendesk CRM reads {uri}."
    observed = instance.fetch_observations(FEED, limit=9).records
    seen = [each.asset_observation.metadata for each in observed if each.asset_observation]
    (mine,) = [each for each in seen if "secops_feed_state" in each]
    assert mine["secops_feed_state"].value == "SUCCEEDED"
    assert mine["secops_last_transfer"].value == 1_794_459_600.0
    assert mine["secops_waiting_objects"].value == 0
    assert {each.method for each in server.asked} == {"GET"}


def test_a_failed_feed_is_an_error_with_the_remedy_and_when_it_was_seen_first(
    look: Look, server: SecopsServer, uri: str, instance: dg.DagsterInstance
) -> None:
    """And so is the alert; the time stays from hour to hour, and a feed that works again has none."""
    denied = {"errorCode": "ACCESS_DENIED", "httpErrorCode": 403, "errorCause": "The key may not list the bucket."}
    feed = server.holds(uri, state="FAILED", failureDetails=denied)
    first = look()
    assert not first.passed
    assert first.severity is dg.AssetCheckSeverity.ERROR
    assert first.description
    assert "FAILED ACCESS_DENIED, The key may not list the bucket., seen since " in first.description
    assert "give the reader s3:GetObject and s3:ListBucket" in first.description
    assert look(hours=5).description == first.description
    (problem,) = _told(instance)
    assert "ACCESS_DENIED" in problem.text
    feed["state"] = "SUCCEEDED"
    assert look().passed
    assert _told(instance) == []


def test_objects_that_the_feed_does_not_transfer_are_a_warning(
    look: Look, server: SecopsServer, uri: str, store: Store, layout: Layout
) -> None:
    """An object written after the last transfer waits; for longer than ALERT_STALE_HOURS it is too long."""
    key = layout.batch("audit_logs", Window.of(int(time.time())), 0, "0" * 64, ".json")
    Bucket(store=store, layout=layout).put(key, b"{}")
    server.holds(uri, lastFeedInitiationTime="2026-11-12T05:00:00Z")
    assert look().passed
    late = look(hours=4)
    assert not late.passed
    assert "1 objects wait, the oldest for 4 hours" in (late.description or "")
    assert late.metadata["secops_waiting_objects"].value == 1
    assert look(hours=4, ALERT_STALE_HOURS="6").passed


@pytest.mark.parametrize("missing", ["SECOPS_CUSTOMER_ID", "SECOPS_PROJECT", "SECOPS_REGION"])
def test_without_the_instance_nobody_watches_and_that_is_said(look: Look, server: SecopsServer, missing: str) -> None:
    """One sentence, no request, no alarm."""
    verdict = look(**{missing: ""})
    assert verdict.passed
    assert verdict.description == f"SecOps is not watched: {missing} is not set."
    assert server.asked == []


def test_without_a_credential_nobody_watches_and_that_is_said(
    look: Look, server: SecopsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a machine where only the commands' settings are."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    verdict = look(SECOPS_SERVICE_ACCOUNT="")
    assert verdict.passed
    assert (verdict.description or "").startswith("SecOps is not watched: There are no Google credentials here")
    assert server.asked == []


def test_that_nobody_watches_any_more_is_told_once(look: Look, server: SecopsServer, uri: str) -> None:
    """Somebody did the hour before: that a setting got lost is no green."""
    server.holds(uri)
    assert look().passed
    first = look(SECOPS_REGION="")
    assert not first.passed
    assert first.description == "SecOps was watched until now, and is no more: SECOPS_REGION is not set."
    assert look(SECOPS_REGION="").passed


def test_an_hour_without_an_answer_changes_no_verdict_and_three_are_a_warning(
    look: Look, server: SecopsServer, uri: str
) -> None:
    """Google's own faults pass; what was wrong before stays wrong meanwhile."""
    feed = server.holds(uri)
    server.refused_method, server.refusal = "GET", (503, google_error(503, "Try again."))
    assert [look().passed for _ in range(3)] == [True, True, False]
    server.refusal = None
    feed["state"] = "INACTIVE"
    assert not look().passed
    server.refusal = (503, google_error(503, "Try again."))
    assert "is disabled" in (look().description or "")


def test_a_refusal_is_a_warning_at_once(look: Look, server: SecopsServer) -> None:
    """The identity may not read feeds: no hour more makes that better, and nothing is known of the feed."""
    server.refused_method, server.refusal = "GET", (403, google_error(403, "Permission chronicle.feeds.list denied."))
    verdict = look()
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert "chronicle.feeds.list denied" in (verdict.description or "")


def test_one_look_is_one_request(look: Look, server: SecopsServer, uri: str) -> None:
    """24 a day for an account, and the sign-in."""
    server.holds(uri)
    look()
    assert len(server.asked) == 1
