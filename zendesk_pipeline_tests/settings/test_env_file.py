"""`.env`: what our commands and Dagster's read of it, and that its empty lines take nothing away in silence."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from dagster._core.secrets.env_file import get_env_var_dict

from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings import env_file
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import NEEDED, OPTIONAL, Settings
from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.by_hand import FIRST
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.root import ROOT
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

EXAMPLE = (ROOT / ".env.example").read_text()
BIN = Path(sys.executable).parent
KEY = "0123456789abcdef" * 3
DEFINITIONS = ("-m", "zendesk_pipeline.definitions")
PARTITION = ("--partition", FIRST.partition_key)
LOADING = {
    "materialize": ("dagster", "asset", "materialize", *DEFINITIONS, "--select", "incremental_tickets", *PARTITION),
    "validate": ("dagster", "definitions", "validate", *DEFINITIONS),
    "code-server": ("dagster", "api", "grpc", *DEFINITIONS, "--socket", "socket"),
}
"""Commands of Dagster that load the definitions: in their own process, or as the code server that others start."""

AWKWARD = """\
# a comment
export S3_BUCKET='acme' # another
ALERT_URLS=slack://token mailto://ada@example.com
REDACTION_KEY="a
b"
RESOURCES = audit_logs # and why
ACME=${S3_BUCKET}-${OUTSIDE}
NAME_ALONE
S3_PREFIX=one/
S3_PREFIX=two/
HTTP_RETRIES=
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a current folder of its own."""
    monkeypatch.chdir(tmp_path)


def _run(
    command: tuple[str, ...], folder: Path, environment: Mapping[str, str], *, really: bool = False
) -> "subprocess.CompletedProcess[str]":
    """A program of this environment in a folder, with these variables exported: forked, or really started."""
    (folder / "home").mkdir(exist_ok=True)
    others = {"DAGSTER_HOME": str(folder / "home"), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]] if really else forked.command(*command),
        env={**os.environ, **others, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _lines(environment: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in environment.items())


# What is read


def test_a_file_is_read_as_dagster_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes, comments, export, blanks, names filled in, names alone, and the last of two lines."""
    monkeypatch.setenv("OUTSIDE", "eu")
    (tmp_path / ".env").write_text(AWKWARD)
    read = env_file.read(tmp_path / ".env")
    assert read == get_env_var_dict(str(tmp_path))
    assert read == {
        "S3_BUCKET": "acme",
        "ALERT_URLS": "slack://token mailto://ada@example.com",
        "REDACTION_KEY": "a\nb",
        "RESOURCES": "audit_logs",
        "ACME": "acme-eu",
        "S3_PREFIX": "two/",
        "HTTP_RETRIES": "",
    }


def test_a_command_reads_the_file_of_its_folder_and_says_so(tmp_path: Path) -> None:
    """The file wins over the environment; where it does, the names are told, and no value."""
    (tmp_path / ".env").write_text("S3_BUCKET=of-the-file\nS3_PREFIX=logs/\nAUTH_MODE=token\n")
    writer = ("zendesk-pipeline", "iam-policy", "writer")
    done = _run(writer, tmp_path, {"S3_BUCKET": "of-the-shell", "AUTH_MODE": "token"}, really=True)
    assert done.returncode == 0
    assert "arn:aws:s3:::of-the-file/logs/*" in done.stdout
    assert done.stderr == f"Read {tmp_path}/.env: 3 variables, in place of the environment's S3_BUCKET.\n"


def test_without_a_file_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment alone counts."""
    monkeypatch.setenv("S3_BUCKET", "acme")
    done = CliRunner().invoke(main, ["iam-policy", "writer"])
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["doctor", "--help"], ["simulate", "--since", "yesterday"], ["--version"]])
def test_what_needs_no_settings_does_not_read_it(tmp_path: Path, arguments: list[str]) -> None:
    """Help, the version, and commands without an account work whatever is in it."""
    (tmp_path / ".env").write_bytes(b"S3_BUCKET=\xff\n")
    assert "UTF-8" not in CliRunner().invoke(main, arguments).output


def test_a_file_that_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    """With its path."""
    (tmp_path / ".env").write_bytes(b"S3_BUCKET=\xff\n")
    done = CliRunner().invoke(main, ["iam-policy", "writer"])
    assert (done.exit_code, done.stderr) == (1, f"Error: {tmp_path}/.env is not text in UTF-8: write it again.\n")


def test_a_missing_variable_is_found_where_its_line_is_empty(tmp_path: Path) -> None:
    """A copy of the example that nobody has filled in takes an exported bucket away, and both are named."""
    (tmp_path / ".env").write_text(EXAMPLE)
    done = _run(("zendesk-pipeline", "iam-policy", "writer"), tmp_path, {"S3_BUCKET": "of-the-shell"})
    assert done.returncode == 1
    assert "its empty lines take S3_BUCKET away from the environment." in done.stderr
    assert f"Error: S3_BUCKET is not set (the line S3_BUCKET= of {tmp_path}/.env is empty): the bucket" in done.stderr


# Empty lines


def test_every_optional_variable_is_refused_where_its_line_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing is exported: the same file would take it away elsewhere. What a run needs may be empty."""
    (tmp_path / ".env").write_text(_lines(dict.fromkeys(NEEDED, "")))
    assert settings.load() == Settings()
    for name in OPTIONAL:
        monkeypatch.setenv(name, "")
        (tmp_path / ".env").write_text(f"{name}=\n")
        with pytest.raises(
            SettingsError, match=rf"^{tmp_path}/\.env has an empty line: {name}=\. .+ fill in a value\."
        ):
            settings.load()
    assert {"REDACTION_RULES", "REDACTION_KEY", "RESOURCES", "ALERT_URLS"} <= OPTIONAL


@pytest.mark.parametrize("command", [["redact", "audit_logs"], ["heartbeat"], ["iam-policy", "reader"]])
def test_every_command_refuses_it(tmp_path: Path, command: list[str]) -> None:
    """Also one that reads a variable by itself."""
    (tmp_path / ".env").write_text("REDACTION_RULES=\nHEARTBEAT_URL=\n")
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"Error: {tmp_path}/.env has empty lines: HEARTBEAT_URL=, REDACTION_RULES=." in done.stderr


def test_doctor_tells_it_among_all_else(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a check that failed, in its JSON as well."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".env").write_text("RESOURCES=\n")
    checks = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)["checks"]
    assert [each["found"].partition(". ")[0] for each in checks if each["status"] == "failed"] == [
        f"{tmp_path}/.env has an empty line: RESOURCES="
    ]


@pytest.mark.parametrize("line", ["REDACTION_RULES=''", "export REDACTION_RULES=", "REDACTION_RULES=${NOWHERE}"])
def test_a_line_is_empty_in_more_ways_than_one(tmp_path: Path, line: str) -> None:
    """Quotes with nothing between them, and a name that is filled in with nothing."""
    (tmp_path / ".env").write_text(f"{line}\nRESOURCES=\n")
    with pytest.raises(SettingsError, match="empty lines: REDACTION_RULES=, RESOURCES="):
        settings.load()


def test_a_name_alone_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster passes over it."""
    monkeypatch.setenv("RESOURCES", "audit_logs")
    (tmp_path / ".env").write_text("RESOURCES\n")
    assert settings.load().resources == ("audit_logs",)


def test_the_files_that_dg_names_are_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each project of a workspace; what `dg` says of its own folder is that one."""
    (tmp_path / "projects").mkdir()
    (tmp_path / "projects" / ".env").write_text("RESOURCES=\n")
    monkeypatch.setenv(env_file.FOLDERS_OF_DG, json.dumps({"one": ".", "two": "projects"}))
    with pytest.raises(SettingsError, match=r"projects/\.env has an empty line"):
        settings.load()
    monkeypatch.setenv(env_file.FOLDERS_OF_DG, "nonsense")
    assert settings.load() == Settings()


@pytest.mark.parametrize("command", LOADING)
def test_exported_rules_are_never_taken_away_in_silence(
    environment: dict[str, str], zendesk: SimulatedZendesk, store: Store, layout: Layout, tmp_path: Path, command: str
) -> None:
    """Wherever Dagster loads the definitions: it ends with a sentence, nothing is asked of Zendesk, nothing written."""
    (tmp_path / ".env").write_text(f"{_lines(environment)}REDACTION_RULES=\nREDACTION_KEY=\n")
    rules = {"REDACTION_RULES": "builtin:without-personal-data", "REDACTION_KEY": KEY}
    done = _run(LOADING[command], tmp_path, rules, really=command == "validate")
    assert done.returncode != 0
    assert f"{tmp_path}/.env has empty lines: REDACTION_KEY=, REDACTION_RULES=." in done.stdout + done.stderr
    assert zendesk.control.requests() == []
    assert Bucket(store=store, layout=layout).stored() == []


@pytest.mark.parametrize("command", LOADING)
def test_rules_that_leave_a_collected_stream_out_load_nowhere(
    environment: dict[str, str], zendesk: SimulatedZendesk, store: Store, layout: Layout, tmp_path: Path, command: str
) -> None:
    """RESOURCES has grown, the file of rules has not: a sentence, nothing is asked of Zendesk, nothing written."""
    (tmp_path / "rules.yaml").write_text("audit_logs: whole\nincremental_tickets:\n  - drop: subject\n")
    grown = {"RESOURCES": "audit_logs,incremental_tickets,incremental_users", "REDACTION_RULES": "rules.yaml"}
    done = _run(LOADING[command], tmp_path, {**environment, **grown})
    assert done.returncode != 0
    assert "REDACTION_RULES says nothing of incremental_users, whose records would be" in done.stdout + done.stderr
    assert zendesk.control.requests() == []
    assert Bucket(store=store, layout=layout).stored() == []


def test_exported_rules_count_beside_a_copy_of_the_example(
    environment: dict[str, str], store: Store, layout: Layout, tmp_path: Path
) -> None:
    """As docs/redaction.md leads there: no ticket leaves this machine in clear."""
    (tmp_path / ".env").write_text(f"{EXAMPLE}\n{_lines(environment)}")
    rules = {"REDACTION_RULES": "builtin:without-personal-data", "REDACTION_KEY": KEY}
    done = _run(LOADING["materialize"], tmp_path, rules)
    assert done.returncode == 0
    lines = Bucket(store=store, layout=layout).lines()
    assert lines
    assert [line for line in lines if b'"subject"' in line] == []


# The example


def test_the_example_sets_nothing_and_shows_the_defaults(tmp_path: Path) -> None:
    """What has to be filled in is an empty line; every other setting is a comment with its default, or without one."""
    filled = env_file.read(ROOT / ".env.example")
    assert set(filled) <= NEEDED
    assert set(filled.values()) == {""}
    shown = dict(re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    (tmp_path / ".env").write_text("")
    chosen = {name.lower(): value for name, value in shown.items() if name.lower() in Settings.model_fields and value}
    examples = {"asset_owners"}
    assert Settings(**{name: value for name, value in chosen.items() if name not in examples}) == Settings()
    assert set(shown) >= OPTIONAL


# The documentation


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_pages_know_one_way_to_the_settings(page: Path) -> None:
    """The file of the current folder, which every command reads: no shell loads it, and no wrapper does."""
    text = page.read_text()
    assert re.findall(r"dotenv run|set -a\b|source \.env|\. \./\.env|not `?\.env`?[,;) ]|no `\.env`", text) == []
