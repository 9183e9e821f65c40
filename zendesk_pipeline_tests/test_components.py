"""The component in a project of somebody else's, through Dagster's own command line; without a network."""

import os
import shlex
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from zendesk_pipeline.components import PLACEHOLDERS
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.windows import timestamp
from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.by_hand import FIRST
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.project.foreign import TYPE, Foreign, foreign

TOKEN = ("ZENDESK_EMAIL", "ZENDESK_API_TOKEN")
PLACE = {"zendesk_base_url": "https://acme.zendesk.com", "s3_bucket": "logs"}


@pytest.fixture
def project(tmp_path: Path) -> Foreign:
    """A project without an account."""
    return foreign(tmp_path, {})


def test_an_account_is_scaffolded_and_filled_in(project: Foreign) -> None:
    """`dg` lists the component and writes a file; what is still to be filled in is refused with file and line."""
    assert TYPE in project.dg("list", "components", "--json").stdout
    scaffolded = project.real_dg("scaffold", "defs", TYPE, "acme")
    assert scaffolded.returncode == 0, scaffolded.stderr
    text = project.yaml("acme").read_text()
    assert "account: acme\n" in text
    assert "ACME_ZENDESK_CLIENT_SECRET" in text
    assert yaml.safe_load(text)["attributes"]["resources"] == ["audit_logs", "incremental_tickets"]

    said = _refused(project)
    lines = text.splitlines()
    for name, placeholder in PLACEHOLDERS.items():
        number = 1 + next(place for place, line in enumerate(lines) if line.strip().startswith(name))
        assert f"defs.yaml:{number}" in said
        assert f"{placeholder} is what the file was scaffolded with" in said
    project.yaml("acme").write_text(
        text.replace("https://SUBDOMAIN.", "https://acme.").replace("s3_bucket: BUCKET", "s3_bucket: soc-logs")
    )

    checked = project.real_dg("check", "defs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "All component YAML validated successfully." in checked.stdout
    listed = project.real_dg("list", "defs", "--json").stdout
    assert [name for name in ("acme/audit_logs", "acme/secops_feed", "alert_sensor") if f'"{name}"' not in listed] == []
    assert '"acme/access_logs"' not in listed


def test_what_is_misspelt_is_shown_with_file_and_line(project: Foreign) -> None:
    """By the schema, and at load as well, with what is allowed instead."""
    project.write("acme", resources=["audit_log"], settle_second=300, http_timeout="soon", s3_prefix="/crm", **PLACE)
    path = project.yaml("acme")
    by_schema = {
        f"{path}:4": "'audit_log' is not one of ['audit_logs', 'incremental_tickets', ",
        f"{path}:5": "'one of these settings: account, minute, ",
        f"{path}:6": "'soon' is not of type 'number'",
    }
    at_load = {
        f"{path}:4": "Input should be 'audit_logs', 'incremental_tickets', ",
        f"{path}:5": "there is no setting of this name; there are account, minute, ",
        f"{path}:6": "Input should be a valid number",
        f"{path}:7": "a prefix is made of A-Z",
    }
    for options, expected in (((), by_schema), (("--no-check-yaml",), at_load)):
        said = _refused(project, *options)
        assert [word for words in expected.items() for word in words if word not in said] == []


def _refused(project: Foreign, *options: str) -> str:
    loaded = project.dg("check", "defs", *options)
    assert loaded.returncode != 0
    return loaded.stdout + loaded.stderr


def test_accounts_that_overlap_do_not_load(project: Foreign) -> None:
    """Each lies in a file of its own, and the error names both."""
    project.write("acme", **PLACE)
    project.write("beta", **PLACE, s3_prefix="zendesk/acme/crm/beta/")
    assert "SettingsError: The accounts acme and beta overlap in the bucket logs" in _refused(project)


def test_a_secret_that_was_written_into_the_file_is_refused_and_not_repeated(project: Foreign) -> None:
    """Logs would keep it."""
    project.write("acme", **PLACE, zendesk_client_secret="s3cr3t-value")
    said = _refused(project)
    assert "The account acme: zendesk_client_secret is wrong: the NAME of the environment variable" in said
    assert "s3cr3t-value" not in said


def test_variables_of_the_project_that_are_called_as_ours_are_left_alone(project: Foreign) -> None:
    """Accounts are described in YAML: of the environment, and of a `.env`, only what is the location's counts."""
    project.write("acme", **PLACE)
    (project.folder / ".env").write_text("RESOURCES=\n")
    theirs = {"START_DATE": "1 April", "COMPRESSION": "zstd", "S3_PREFIX": "/", "REDACTION_RULES": "rules.toml"}
    loaded = Foreign(folder=project.folder, environment={**project.environment, **theirs}).dg("check", "defs")
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr

    short = {**project.environment, "KEEP_RUN_LOGS_DAYS": "30"}
    assert "KEEP_RUN_LOGS_DAYS is wrong: alerts read" in _refused(Foreign(folder=project.folder, environment=short))
    (project.folder / ".env").write_text("ALERT_URLS=\n")
    assert "has an empty line: ALERT_URLS=." in _refused(project)


@pytest.fixture
def two(tmp_path: Path, zendesk: SimulatedZendesk, s3: LocalS3) -> Callable[..., Foreign]:
    """A project with two accounts that deliver into two buckets."""
    client = s3.client()
    with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # of the test before
        client.create_bucket(Bucket="beta-logs")

    def made(root: str, **secrets: str) -> Foreign:
        project = foreign(tmp_path, {**s3.environment, **secrets})
        for name, bucket in (("acme", s3.bucket), ("beta", "beta-logs")):
            project.write(
                name,
                zendesk_base_url=zendesk.url,
                auth_mode="token",
                s3_bucket="{{ env.BETA_BUCKET }}" if name == "beta" else bucket,
                s3_prefix=f"{root}/crm/",
                state_prefix=f"{root}/state/",
                quarantine_prefix=f"{root}/quarantine/",
                start_date=FIRST.partition_key[:10],
                resources=["audit_logs"],
            )
        return project

    return made


def test_two_accounts_are_delivered_into_two_buckets_and_one_that_fails_is_alone(
    two: Callable[..., Foreign], zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout
) -> None:
    """Runs as processes of their own; a wrong credential is the failure of one, and mended it delivers as well."""
    email, token = zendesk.environment["ZENDESK_EMAIL"], zendesk.environment["ZENDESK_API_TOKEN"]
    secrets = {f"{name}_ZENDESK_EMAIL": email for name in ("ACME", "BETA")}
    project = two(layout.feed.removesuffix("/crm/"), **secrets, BETA_BUCKET="beta-logs", ACME_ZENDESK_API_TOKEN=token)
    launch = ("launch", "--partition", FIRST.partition_key, "--assets")

    wrong = {**project.environment, "BETA_ZENDESK_API_TOKEN": "wrong"}
    both = Foreign(folder=project.folder, environment=wrong).dg(*launch, "key:acme/audit_logs or key:beta/audit_logs")
    source = sorted(zendesk.control.source("audit_logs", FIRST.start, FIRST.end))
    assert source
    assert both.returncode != 0
    assert "Zendesk answered 401" in both.stdout + both.stderr
    assert _lines(s3, s3.bucket, layout) == source
    assert _lines(s3, "beta-logs", layout) == []

    right = {**project.environment, "BETA_ZENDESK_API_TOKEN": token}
    mended = Foreign(folder=project.folder, environment=right).dg(*launch, "key:beta/audit_logs")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert _lines(s3, s3.bucket, layout) == source
    assert _lines(s3, "beta-logs", layout) == source


def test_the_commands_look_at_the_account_that_is_named(
    two: Callable[..., Foreign], zendesk: SimulatedZendesk, layout: Layout
) -> None:
    """One is collected and the other is not: `verify` tells them apart, and what it prints for the other works."""
    secrets = {f"{name}_{key}": zendesk.environment[key] for name in ("ACME", "BETA") for key in TOKEN}
    project = two(layout.feed.removesuffix("/crm/"), **secrets, BETA_BUCKET="beta-logs")
    collected = project.dg("launch", "--partition", FIRST.partition_key, "--assets", "key:acme/audit_logs")
    assert collected.returncode == 0, collected.stdout + collected.stderr
    hour = ("verify", "--from", timestamp(FIRST.start), "--to", timestamp(FIRST.end))
    assert _program(project, "acme", *hour).returncode == 0
    differs = _program(project, "beta", *hour)
    assert differs.returncode == 1
    (command,) = [line.strip() for line in differs.stdout.splitlines() if " launch --assets " in line]
    program, *arguments = shlex.split(command)
    assert Path(program).name == "dg"
    assert arguments == ["launch", "--assets", "key:beta/audit_logs", "--partition", FIRST.partition_key]
    mended = project.dg(*arguments)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert _program(project, "beta", *hour).returncode == 0
    looked_at = _program(project, "beta", "doctor", "--json").stdout
    assert f"audit_logs of {zendesk.url} into s3://beta-logs." in looked_at


def _program(project: Foreign, account: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        forked.command("zendesk-pipeline", "--defs", str(project.yaml(account)), *arguments),
        env={**os.environ, **project.environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _lines(s3: LocalS3, bucket: str, layout: Layout) -> list[bytes]:
    return Bucket(store=Store(client=s3.client(), bucket=bucket, encryption={}), layout=layout).lines()
