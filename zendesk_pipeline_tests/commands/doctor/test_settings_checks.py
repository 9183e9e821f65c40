"""What `doctor` finds in the environment, and of the addresses of alerts."""

import re
from pathlib import Path

import pytest

from zendesk_pipeline.alerts.channels import Address
from zendesk_pipeline.alerts.messages import SendResult
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.settings_checks import alerts_verdict
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, said, verdict_of
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.ports import lasting_port


@pytest.fixture
def make_context(zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch) -> MakeContext:
    return context_maker(monkeypatch, zendesk.environment, {"S3_BUCKET": "acme-zendesk"})


def test_settings_that_are_right_are_told_in_a_line(make_context: MakeContext) -> None:
    """What is collected, from where and to where."""
    verdict = verdict_of(make_context(RESOURCES="audit_logs", ZENDESK_BASE_URL="https://acme.zendesk.com"), "settings")
    assert verdict.status == "ok"
    assert verdict.found == "audit_logs of https://acme.zendesk.com into s3://acme-zendesk."


def test_all_that_is_wrong_is_named_at_once(make_context: MakeContext) -> None:
    """Not one after the other."""
    verdict = verdict_of(make_context(BATCH_BYTES="many", AUTH_MODE="password", RESOURCES="users"), "settings")
    assert verdict.status == "failed"
    assert all(name in verdict.found for name in ("BATCH_BYTES", "AUTH_MODE", "RESOURCES"))


def test_prefixes_inside_each_other_are_refused(make_context: MakeContext) -> None:
    """Ledgers under the feed prefix would be read as logs."""
    verdict = verdict_of(make_context(STATE_PREFIX="zendesk/crm/state/"), "settings")
    assert re.match(r"failed: STATE_PREFIX=.* lies inside S3_PREFIX", said(verdict))


def test_what_a_run_needs_is_missed_now(make_context: MakeContext) -> None:
    """Dagster loads without an account and a bucket; a run does not go without."""
    verdict = verdict_of(make_context(ZENDESK_BASE_URL="", S3_BUCKET=""), "settings")
    assert re.match(r"failed: ZENDESK_BASE_URL and S3_BUCKET are not set", said(verdict))


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("oauth", ["ZENDESK_CLIENT_ID", "ZENDESK_CLIENT_SECRET"]),
        ("token", ["ZENDESK_EMAIL", "ZENDESK_API_TOKEN"]),
        ("bearer", ["ZENDESK_BEARER_TOKEN"]),
    ],
)
def test_every_variable_of_the_mode_is_looked_for(make_context: MakeContext, mode: str, names: list[str]) -> None:
    """Each that is missing is named with where it comes from; with all of them it is fine."""
    verdict = verdict_of(make_context(AUTH_MODE=mode, ZENDESK_EMAIL="", ZENDESK_API_TOKEN=""), "credentials")
    assert verdict.status == "failed"
    assert all(name in verdict.found and f"{name}: " in verdict.remedy for name in names)
    present = dict.fromkeys(names, "credential-4711")
    verdict = verdict_of(make_context(AUTH_MODE=mode, **present), "credentials")
    assert (verdict.status, "4711" in said(verdict)) == ("ok", False)


def test_a_credential_that_was_copied_badly_is_named(make_context: MakeContext) -> None:
    """With a line end, which no header can hold; its value is not shown."""
    verdict = verdict_of(make_context(ZENDESK_API_TOKEN="credential-4711\n"), "credentials")
    assert re.match(r"failed: ZENDESK_API_TOKEN is empty, begins or ends with a blank", said(verdict))
    assert "4711" not in said(verdict)


# The environment

FILES = {
    "AUTH_MODE": '"token"',
    "ZENDESK_CLIENT_SECRET": "'credential-4711'",
    "ACME_ZENDESK_API_TOKEN": '"credential-4711"',
    "S3_BUCKET": "acme # the bucket",
    "AWS_SECRET_ACCESS_KEY": " credential-4711",
    "SOMEBODY_ELSES": "'quoted'",
    "REDACTION_KEY": '"',
    "ALERT_URLS": "slack://token/#channel mailto://ada@example.com",
    "S3_PREFIX": "zendesk/'crm'/",
}
"""As `docker --env-file` and `kubectl --from-env-file` hand them on; the last three and somebody else's are fine."""


def test_what_a_file_left_in_a_value_is_found(make_context: MakeContext) -> None:
    """Quotes around it, a comment behind it, a blank before it: by the names of ours alone, and without a value."""
    verdict = verdict_of(make_context(**FILES), "environment")
    assert verdict.status == "warning"
    assert verdict.found == (
        "ACME_ZENDESK_API_TOKEN, AUTH_MODE, ZENDESK_CLIENT_SECRET: begins and ends with a quote."
        " S3_BUCKET: holds a blank and #, as if a comment followed."
        " AWS_SECRET_ACCESS_KEY: begins or ends with a blank."
    )
    assert "kubectl --from-env-file" in verdict.remedy


def test_an_environment_without_a_files_marks_is_fine(make_context: MakeContext) -> None:
    """What is set is counted, and not told."""
    verdict = verdict_of(make_context(), "environment")
    assert (verdict.status, "variables are set" in verdict.found) == ("ok", True)


# Redaction


def test_what_is_redacted_is_told(make_context: MakeContext, tmp_path: Path) -> None:
    """By the stream, and what is not, since the rules say so; what they do not name is a fault of the settings."""
    both = make_context(RESOURCES="audit_logs,incremental_tickets")
    assert verdict_of(both, "redaction").found == "REDACTION_RULES is not set: records go as Zendesk sent them."
    rules = tmp_path / "rules.yaml"
    rules.write_text("incremental_tickets:\n  - drop: subject\naudit_logs: whole\n")
    verdict = verdict_of(make_context(REDACTION_RULES=str(rules)), "redaction")
    assert verdict.found == f"incremental_tickets by {rules}; whole, as they say, goes audit_logs."
    verdict = verdict_of(make_context(RESOURCES="audit_logs"), "redaction")
    assert (verdict.status, "says `whole` of audit_logs" in verdict.found) == ("warning", True)
    verdict = verdict_of(make_context(RESOURCES="audit_logs,incremental_users"), "settings")
    assert (verdict.status, "says nothing of incremental_users" in verdict.found) == ("failed", True)


@pytest.mark.parametrize(
    ("key", "status", "says"),
    [("", "failed", "REDACTION_KEY"), ("key-4711", "failed", "32"), ("key-4711" * 4, "ok", "audit_logs")],
)
def test_a_key_that_runs_would_miss_is_missed_now(make_context: MakeContext, key: str, status: str, says: str) -> None:
    """Where a rule hashes; its value is not shown."""
    make_context(RESOURCES="audit_logs", REDACTION_RULES="builtin:without-personal-data")
    verdict = verdict_of(make_context(REDACTION_KEY=key), "redaction")
    assert (verdict.status, says in verdict.found, "4711" in said(verdict)) == (status, True, False)


# Alerts


def test_without_addresses_alerts_reach_nobody(make_context: MakeContext) -> None:
    """A warning, since they are in a log."""
    assert verdict_of(make_context(), "alert_channels").status == "warning"


def test_addresses_are_read_and_not_used(make_context: MakeContext) -> None:
    """What Apprise understands is fine, though nobody listens there."""
    nobody = f"json://ada:password-4711@127.0.0.1:{lasting_port()}/"
    verdict = verdict_of(make_context(ALERT_URLS=nobody), "alert_channels")
    assert (verdict.status, "1 address of ALERT_URLS" in verdict.found) == ("ok", True)


def test_an_address_that_apprise_does_not_understand_is_named_by_its_number(make_context: MakeContext) -> None:
    """Never by its value."""
    verdict = verdict_of(make_context(ALERT_URLS="json://localhost nonsense://password-4711@there"), "alert_channels")
    assert re.match(r"failed: address 2 of ALERT_URLS \(nonsense\)", said(verdict))
    assert "4711" not in said(verdict)


def test_a_test_alert_is_really_sent(make_context: MakeContext) -> None:
    """To every address; one that does not take it fails."""
    with answering(Reply(b"")) as receiver:
        there = receiver.url.replace("http:", "json:")
        make_context(ALERT_URLS=there)
        asking = Context(clock=Clock(), seconds=10, send_test_alert=True)
        assert verdict_of(asking, "alert_channels").found == "1 address of ALERT_URLS took a test alert."
        assert [b"Test alert of zendesk-pipeline" in request.body for request in receiver.received] == [True]
        make_context(ALERT_URLS=f"{there} json://127.0.0.1:{lasting_port()}")
        asking = Context(clock=Clock(), seconds=10, send_test_alert=True)
        assert re.match(
            r"failed: address 2 of ALERT_URLS \(json\): it cannot be reached",
            said(verdict_of(asking, "alert_channels")),
        )


def test_every_outcome_counts() -> None:
    """Of each address."""
    ours = [Address(1, "json://a"), Address(2, "json://b")]
    sent, failed = SendResult("sent"), SendResult("failed", "HTTP 401")
    assert alerts_verdict(ours, [sent, sent], sent=True).status == "ok"
    assert "address 1 of ALERT_URLS (json): HTTP 401." in alerts_verdict(ours, [failed, sent], sent=True).found
