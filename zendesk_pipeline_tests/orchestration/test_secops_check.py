"""The check that asks SecOps about its feed, against a stand-in of SecOps and a real bucket."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from zendesk_pipeline.alerts.dagster_problems import failed_checks
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.secops_server import SecopsServer, google_error
from zendesk_pipeline_tests.orchestration.conftest import LookAt
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

FEED = dg.AssetKey("secops_feed")
KEY = dg.AssetCheckKey(FEED, "secops_reads")
Look = Callable[..., dg.AssetCheckEvaluation]


@pytest.fixture
def uri(environment: dict[str, str], layout: Layout) -> str:
    return f"s3://{environment['S3_BUCKET']}/{layout.feed}"


@pytest.fixture
def look(look_at: LookAt) -> Look:
    """The check, with changed settings, some hours from now; the verdict."""

    def run(hours: float = 0, **changed: str) -> dg.AssetCheckEvaluation:
        return look_at(KEY, hours, **changed)

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
    assert "FAILED ACCESS_DENIED (The key may not list the bucket; seen since " in first.description
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
    assert "1 object waits, the oldest for 4 hours" in (late.description or "")
    assert late.metadata["secops_waiting_objects"].value == 1
    assert look(hours=4, ALERT_STALE_HOURS="6").passed


def test_what_a_feed_has_passed_over_is_told_for_a_week_although_it_works_again(
    look: Look, server: SecopsServer, uri: str, store: Store, layout: Layout
) -> None:
    """It stood still for longer than its maximum file age: what was too old then it never reads, and says nothing."""

    def iso(hours: float) -> str:
        return datetime.fromtimestamp(time.time() + hours * HOUR, UTC).isoformat()

    feed = server.holds(uri, state="FAILED", lastFeedInitiationTime=iso(-1))
    feed["details"]["amazonS3V2Settings"]["maxLookbackDays"] = 1
    key = layout.batch("audit_logs", Window.of(int(time.time())), 0, "0" * 64, ".json")
    Bucket(store=store, layout=layout).put(key, b"{}")
    assert "maximum file age" not in (look().description or "")
    assert "will be in 4 hours older than its maximum file age, 1 days" in (look(hours=20).description or "")
    feed.update(state="SUCCEEDED", lastFeedInitiationTime=iso(29.5))
    passed = [look(hours=hours) for hours in (30, 31, 30 + 24 * 6.9)]
    assert {each.passed for each in passed} == {False}
    assert all("has not read what was delivered from " in (each.description or "") for each in passed)
    assert look(hours=30 + 24 * 7.1).passed


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


def test_a_setting_that_is_gone_is_told_for_an_hour(look: Look, server: SecopsServer, uri: str) -> None:
    """Somebody asked the hour before: that a setting got lost is no green."""
    server.holds(uri)
    assert look().passed
    first = look(SECOPS_REGION="")
    assert not first.passed
    assert first.description == "SecOps was asked until an hour ago, and is not any more: SECOPS_REGION is not set."
    assert look(SECOPS_REGION="").passed


def test_a_credential_that_is_gone_stays_told(
    look: Look, server: SecopsServer, uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As long as the settings say that SecOps is to be asked; what was wrong with the feed is not solved by it."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    server.holds(uri, state="INACTIVE")
    assert not look().passed
    for _ in range(2):
        verdict = look(SECOPS_SERVICE_ACCOUNT="")
        assert verdict.severity is dg.AssetCheckSeverity.ERROR
        assert "is disabled" in (verdict.description or "")
        assert "There are no Google credentials here" in (verdict.description or "")


def _unavailable(server: SecopsServer) -> None:
    server.refused_method, server.refusal = "GET", (503, google_error(503, "Try again."))


def test_an_hour_without_an_answer_changes_no_verdict_and_three_are_a_warning(
    look: Look, server: SecopsServer, uri: str
) -> None:
    """Google's own faults pass."""
    server.holds(uri)
    assert look().passed
    _unavailable(server)
    verdicts = [look() for _ in range(4)]
    assert [each.passed for each in verdicts] == [True, True, False, False]
    assert verdicts[2].severity is dg.AssetCheckSeverity.WARN
    server.refusal = None
    assert look().passed


@pytest.mark.parametrize(
    ("second", "state", "severity"),
    [(True, "SUCCEEDED", dg.AssetCheckSeverity.WARN), (False, "INACTIVE", dg.AssetCheckSeverity.ERROR)],
    ids=["a warning", "an error"],
)
def test_what_was_wrong_stays_as_grave_as_it_was(
    look: Look, server: SecopsServer, uri: str, state: str, severity: dg.AssetCheckSeverity, *, second: bool
) -> None:
    """While Google does not answer, however long: neither graver nor solved, and no other number of findings."""
    server.holds(uri, state=state)
    if second:
        server.holds(uri)
    before = look()
    _unavailable(server)
    after = [look() for _ in range(4)]
    assert {each.passed for each in after} == {False}
    assert {each.severity for each in (before, *after)} == {severity}
    assert [each.description for each in after[:2]] == [before.description] * 2
    assert all((each.description or "").startswith(f"{before.description}; ") for each in after[2:])


def test_since_when_it_fails_survives_a_refusal(look: Look, server: SecopsServer, uri: str) -> None:
    """An hour in which the identity was refused does not begin the count anew."""
    server.holds(uri, state="FAILED")
    first = look()
    server.refused_method, server.refusal = "GET", (403, google_error(403, "Denied."))
    look(hours=1)
    server.refusal = None
    assert look(hours=2).description == first.description


def test_sign_in_that_cannot_be_reached_is_an_hour_without_an_answer(
    look: Look, server: SecopsServer, uri: str
) -> None:
    """A token endpoint with a fault of its own says nothing of the credential."""
    server.holds(uri)
    assert look().passed
    server.token_refusal = (503, b'{"error":"internal_failure"}')
    verdict = look()
    assert verdict.passed
    assert (verdict.description or "").startswith("Not seen this time: ")


def test_a_feed_that_never_transferred_is_told_once_it_had_time_to(
    look: Look, server: SecopsServer, uri: str, store: Store, layout: Layout
) -> None:
    """What was there before it was made does not count as waiting before it was seen first."""
    key = layout.batch("audit_logs", Window.of(int(time.time())), 0, "1" * 64, ".json")
    Bucket(store=store, layout=layout).put(key, b"{}")
    server.holds(uri)
    assert look(hours=10).passed
    late = look(hours=14)
    assert "has transferred nothing since it was made, and 1 object waits" in (late.description or "")


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
