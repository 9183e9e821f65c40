"""`zendesk-pipeline --defs FILE`: the commands look at the account of a component."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands import past_range
from zendesk_pipeline.commands.account_file import described, read, variables
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import OF_THE_LOCATION, Settings
from zendesk_pipeline_tests.project.foreign import TYPE

PROGRAM = Path(sys.executable).with_name("zendesk-pipeline")
PLACE: dict[str, Any] = {"zendesk_base_url": "https://acme.zendesk.com", "s3_bucket": "soc-logs"}
EVERYTHING: dict[str, Any] = {
    **PLACE,
    "auth_mode": "token",
    "zendesk_oauth_scope": "tickets:read",
    "resources": ["access_logs", "audit_logs"],
    "start_date": "2026-11-12T05:00Z",
    "settle_seconds": 600,
    "lookback_seconds": 1800,
    "catch_up_hours": 5,
    "comparison_pages": 300,
    "max_pages": 7,
    "http_timeout": 2.5,
    "http_retries": 1,
    "zendesk_export_rate": 30,
    "zendesk_rate_share": 0.25,
    "asset_owners": "team:soc,ada@example.com",
    "code_url": "https://git.example.com/acme/zendesk-pipeline/-/blob/v1",
    "alert_stale_hours": 2,
    "s3_prefix": "logs/crm/",
    "state_prefix": "logs/state/",
    "quarantine_prefix": "logs/quarantine/",
    "output_format": "page",
    "compression": "gzip",
    "batch_bytes": 4096,
    "s3_sse": "aws:kms",
    "s3_kms_key_id": "1234abcd",
    "redaction_rules": "builtin:without-personal-data",
    "secops_customer_id": "0ddba11a-0000-4000-8000-00000000c0de",
    "secops_project": "acme-secops",
    "secops_region": "eu",
    "secops_service_account": "/etc/zendesk-pipeline/watch.json",
    "secops_endpoint": "https://eu.chronicle.example.com",
    "secops_gb_a_day": 2.5,
    "secops_access_logs": "s3://acme-zendesk-access-log/s3/",
    "secops_reader": "arn:aws:iam::123456789012:role/secops-reader",
    "redaction_new_fields": "hold",
}
"""Each setting, none as it is by default."""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a defs.yaml of some accounts, each by its attributes."""

    def written(*accounts: dict[str, Any]) -> Path:
        path = tmp_path / "defs.yaml"
        path.write_text("\n---\n".join(json.dumps({"type": TYPE, "attributes": each}) for each in accounts))
        return path

    return written


def _as_environment(monkeypatch: pytest.MonkeyPatch, path: Path) -> Settings:
    """The settings that a command finds."""
    for name, value in variables(read(path, None), os.environ).items():
        monkeypatch.setenv(name, value)
    return settings.load()


def test_every_setting_of_the_file_arrives(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the component has it, whatever the type."""
    assert set(EVERYTHING) == set(Settings.model_fields) - OF_THE_LOCATION
    path = write({"account": "acme", **EVERYTHING})
    found = _as_environment(monkeypatch, path).model_dump(exclude=set(OF_THE_LOCATION))
    assert found == read(path, None).settings.model_dump(exclude=set(OF_THE_LOCATION))
    assert [name for name, value in found.items() if value == Settings.model_fields[name].default] == []


def test_the_component_is_known_by_its_short_name_too(write: Write) -> None:
    """Dagster finds it as `zendesk_pipeline.ZendeskToS3Component` as well."""
    path = write({"account": "acme", **PLACE})
    path.write_text(path.read_text().replace(TYPE, "zendesk_pipeline.ZendeskToS3Component"))
    assert read(path, None).name == "acme"


def test_nothing_of_the_environment_gets_into_an_account(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its own prefixes, and the defaults of what its file does not say; the link to the UI is everybody's."""
    for name, value in {"S3_PREFIX": "other/crm/", "COMPRESSION": "gzip", "MAX_PAGES": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DAGSTER_UI_URL", "https://dagster.example.com")
    found = _as_environment(monkeypatch, write({"account": "acme", **PLACE}))
    assert (found.s3_prefix, found.compression, found.max_pages) == ("zendesk/acme/crm/", "none", None)
    assert found.start_date == datetime(2026, 1, 1, tzinfo=UTC)
    assert found.dagster_ui_url == "https://dagster.example.com"


def test_secrets_are_those_of_the_account(write: Write) -> None:
    """From the variable that is called after it, from the one it names, or as the reference it is; never another's."""
    given = {"account": "acme", **PLACE, "zendesk_api_token": "SOC_TOKEN", "redaction_key": "aws-sm:key"}
    environment = {
        "ACME_ZENDESK_EMAIL": "soc@acme.com",
        "SOC_TOKEN": "t0ken",
        "ZENDESK_CLIENT_ID": "of the environment",
    }
    found = variables(read(write(given), None), environment)
    assert found["ZENDESK_EMAIL"] == "soc@acme.com"
    assert found["ZENDESK_API_TOKEN"] == "t0ken"
    assert found["REDACTION_KEY"] == "aws-sm:key"
    assert found["ZENDESK_CLIENT_ID"] == ""


def test_an_account_whose_rules_leave_a_stream_out_is_refused(write: Write, tmp_path: Path) -> None:
    """Each account by its own streams: the error names it, and the stream."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("audit_logs: whole\n")
    chosen = {"account": "acme", **PLACE, "redaction_rules": str(rules)}
    with pytest.raises(SettingsError, match="The account acme: REDACTION_RULES says nothing of incremental_users,"):
        read(write({**chosen, "resources": ["audit_logs", "incremental_users"]}), None)
    assert read(write({**chosen, "resources": ["audit_logs"]}), None).settings.redaction_rules == str(rules)


def test_where_the_secrets_are_is_told_without_them(write: Write) -> None:
    """So that a message about ZENDESK_CLIENT_ID can be understood; of those in use only."""
    account = read(write({"account": "acme", **PLACE, "zendesk_client_secret": "aws-sm:acme#secret"}), None)
    assert (
        described(account) == "Account acme: ZENDESK_CLIENT_ID is ACME_ZENDESK_CLIENT_ID,"
        " ZENDESK_CLIENT_SECRET is aws-sm:acme#secret."
    )
    redacted = read(write({"account": "acme", **PLACE, "redaction_rules": "builtin:without-personal-data"}), None)
    assert described(redacted).endswith(", REDACTION_KEY is ACME_REDACTION_KEY.")


def test_one_of_several_is_chosen_by_name(write: Write) -> None:
    """As `dg scaffold` appends them to a file."""
    path = write({"account": "acme", **PLACE}, {"account": "beta", **PLACE})
    assert read(path, "beta").settings.s3_prefix == "zendesk/beta/crm/"


def test_a_template_is_filled_in_as_dagster_does(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a variable of the environment."""
    monkeypatch.setenv("BUCKET", "from-elsewhere")
    assert read(write({"account": "acme", **PLACE, "s3_bucket": "{{ env.BUCKET }}"}), None).settings.s3_bucket == (
        "from-elsewhere"
    )


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        pytest.param(
            {"acount": "acme"}, "account: Field required; acount: there is no setting of this name", id="name"
        ),
        pytest.param(
            {"account": "acme", "batch_bytes": "many"}, "batch_bytes: Input should be a valid int", id="value"
        ),
        pytest.param({"account": "acme", "s3_sse": "{{ kms }}"}, "only {{ env.NAME }} can be filled in", id="template"),
        pytest.param(
            {"account": "acme", "zendesk_email": "s3cr3t@acme"}, "zendesk_email is wrong: the NAME", id="secret"
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_a_sentence(write: Write, attributes: dict[str, Any], said: str) -> None:
    """With the file's name, and without a secret that was written into it."""
    with pytest.raises(SettingsError) as wrong:
        read(write({**PLACE, **attributes}), None)
    assert said in wrong.value.message
    assert "s3cr3t" not in wrong.value.message


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        pytest.param("type: other.Component\nattributes: {}\n", None, "describes no account", id="another component"),
        pytest.param("- 1\n", None, "is no defs.yaml that can be read", id="a list"),
        pytest.param("type: [\n", None, "is no defs.yaml that can be read", id="no YAML"),
        pytest.param(
            f"type: {TYPE}\nattributes: {{account: acme}}\n", "beta", "no account beta: there is acme", id="name"
        ),
        pytest.param(
            f"type: {TYPE}\nattributes: {{account: acme}}\n---\ntype: {TYPE}\nattributes: {{account: beta}}\n",
            None,
            "several accounts: name one with --account, acme, beta",
            id="several",
        ),
    ],
)
def test_a_file_that_leaves_it_open_is_refused(tmp_path: Path, content: str, name: str | None, said: str) -> None:
    """Nothing is guessed, and the account of the environment is not taken instead."""
    path = tmp_path / "defs.yaml"
    path.write_text(content)
    told = CliRunner().invoke(
        main, ["--defs", str(path), *(["--account", name] if name else []), "iam-policy", "writer"]
    )
    assert (told.exit_code, said in told.output, "Statement" in told.output) == (1, True, False)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """With its name."""
    told = CliRunner().invoke(main, ["--defs", str(tmp_path / "no.yaml"), "iam-policy", "writer"])
    assert (told.exit_code, "no.yaml cannot be read (No such file" in told.output) == (1, True)


def test_an_account_needs_its_file() -> None:
    """Its name alone says nothing."""
    told = CliRunner().invoke(main, ["--account", "acme", "iam-policy", "writer"])
    assert (told.exit_code, "--account is one of the file that --defs names" in told.output) == (2, True)


def test_the_bucket_is_read_with_the_account_s_profile(write: Write, s3: LocalS3, tmp_path: Path) -> None:
    """Even where the process has keys of its own, which do not fit here."""
    keys = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    lines = [f"{name} = {s3.environment[variable]}" for name, variable in keys.items()]
    (tmp_path / "credentials").write_text("\n".join(["[acme]", *lines, ""]))
    path = write({"account": "acme", **PLACE, "s3_bucket": s3.bucket, "aws_profile": "acme"})
    others = dict.fromkeys(keys.values(), "wrong") | {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    read_all = ["volume", "--from", "2026-11-12", "--to", "2026-11-13"]
    told = subprocess.run(
        [PROGRAM, "--defs", path, *read_all],
        env={**os.environ, **s3.environment, **others},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert "0 of 24" in told.stdout


@pytest.mark.parametrize(("minute", "end"), [(5, 12), (46, 11)])
def test_commands_wait_for_the_minute_of_an_account(minute: int, end: int) -> None:
    """At 12:24 the hour before noon is collected by an account that begins at minute 5, and not by one of minute 46."""
    named = past_range.Named(account="acme", delay=Account(settings=Settings(), name="acme", minute=minute).delay)
    at = datetime(2026, 11, 14, 12, 24, tzinfo=UTC).timestamp()
    with click.Context(click.Command("verify"), obj=named):
        assert past_range.settled_until(Settings(), at) == datetime(2026, 11, 14, end, tzinfo=UTC).timestamp()
