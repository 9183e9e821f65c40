"""The command as a whole: order, times, forms of output, exit statuses, the page that explains it, and no secret."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.doctor import command
from zendesk_pipeline.commands.doctor.check_list import CHECKS
from zendesk_pipeline.commands.doctor.command import document, exit_status, lines, summary
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.runner import run_checks
from zendesk_pipeline.commands.doctor.verdicts import (
    SEVERITY,
    Check,
    Verdict,
    failed,
    not_visible,
    ok,
    together,
    warning,
)
from zendesk_pipeline.commands.iam_policy import writer_policy
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, CLIENT_ID, CLIENT_SECRET, EMAIL
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeliveryError
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.fakes.tunnels import silent_host
from zendesk_pipeline_tests.root import ROOT

PAGE = (ROOT / "docs" / "doctor.md").read_text()
BUCKET = "zendesk-raw"
CONTEXT = Context(clock=Clock(), seconds=1)
FINE = ok("It is.")


def _check(name: str, verdict: Verdict | Callable[[Context], Verdict], *needs: str) -> Check:
    def run(context: Context) -> Verdict:
        return verdict if isinstance(verdict, Verdict) else verdict(context)

    return Check(name=name, area="S3", run=run, needs=needs)


def _statuses(*checks: Check, seconds: float = 30) -> dict[str, str]:
    return {check.name: verdict.status for check, verdict in run_checks(checks, CONTEXT, seconds)}


# Making the checks


def test_what_needs_something_that_failed_is_not_checked() -> None:
    """Nor what needs that; a warning and what cannot be seen hold up nobody. The order is that of the list."""
    found = _statuses(
        _check("a", failed("no", "do")),
        _check("b", FINE, "a"),
        _check("c", FINE, "b"),
        _check("d", warning("hm", "do")),
        _check("e", not_visible("?", "")),
        _check("f", FINE, "d", "e"),
    )
    assert list(found.items()) == [
        ("a", "failed"),
        ("b", "not checked"),
        ("c", "not checked"),
        ("d", "warning"),
        ("e", "not visible"),
        ("f", "ok"),
    ]


def test_what_does_not_wait_for_each_other_goes_on_at_the_same_time() -> None:
    """Two checks that can only end together, and a third that needs both."""
    together_now = threading.Barrier(2, timeout=30)

    def meet(_: Context) -> Verdict:
        together_now.wait()
        return FINE

    assert set(_statuses(_check("a", meet), _check("b", meet), _check("c", FINE, "a", "b")).values()) == {"ok"}


def test_a_check_that_hangs_is_given_up_and_the_others_are_told() -> None:
    """What comes later than its time is not heard."""
    never = threading.Event()

    def hang(_: Context) -> Verdict:
        never.wait()
        return FINE

    try:
        found = {
            check.name: verdict
            for check, verdict in run_checks(
                [_check("a", hang), _check("b", FINE), _check("c", FINE, "a")], CONTEXT, 0.05
            )
        }
    finally:
        never.set()
    assert [verdict.status for verdict in found.values()] == ["failed", "ok", "not checked"]
    assert "no answer within 0 s" in found["a"].found


def test_a_check_that_breaks_takes_nobody_with_it() -> None:
    """An error of ours is its sentence; any other is told by its kind alone, as its text may hold anything."""

    def refuse(_: Context) -> Verdict:
        raise DeliveryError("S3 refuses it.")

    def break_down(_: Context) -> Verdict:
        raise ValueError("secret-4711")

    found = [verdict for _, verdict in run_checks([_check("a", refuse), _check("b", break_down)], CONTEXT, 30)]
    assert found == [failed("S3 refuses it.", ""), failed("The check ended with ValueError.", "Please report it.")]


def test_every_check_stands_behind_what_it_needs() -> None:
    """Names are unique, and needs point backwards: no check waits for ever."""
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert [check.name for check in CHECKS if not set(check.needs) <= set(names[: names.index(check.name)])] == []


def test_several_verdicts_are_as_bad_as_the_worst() -> None:
    """What is fine is left out where something is not, and a remedy is said once."""
    assert together([FINE, FINE]) == ok("It is. It is.")
    assert together([FINE, warning("a.", "x."), failed("b.", "x.")]) == failed("a. b.", "x.")


# Telling


MADE = [(check, Verdict(status, "Found.", "Do.")) for check, status in zip(CHECKS, SEVERITY, strict=False)]


@pytest.mark.parametrize(
    ("status", "usual", "strict"),
    [("ok", 0, 0), ("not checked", 0, 0), ("not visible", 0, 0), ("warning", 0, 1), ("failed", 1, 1)],
)
def test_exit_statuses_fit_pipelines(status: Any, usual: int, strict: int) -> None:
    """Failures count, warnings with --strict; what cannot be seen never does."""
    made = [(CHECKS[0], Verdict(status, "a"))]
    assert (exit_status(made, strict=False), exit_status(made, strict=True)) == (usual, strict)


def test_the_json_document_is_as_pinned() -> None:
    """Whoever reads it by a program relies on these fields."""
    assert document(MADE[:2], strict=False) == {
        "version": 1,
        "passed": True,
        "checks": [
            {"check": "settings", "area": "Settings", "status": "ok", "found": "Found.", "remedy": "Do."},
            {"check": "credentials", "area": "Settings", "status": "not checked", "found": "Found.", "remedy": "Do."},
        ],
    }
    assert document(MADE, strict=False)["passed"] is False


def test_lines_for_people_are_narrow_and_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, name and what was found in columns, the remedy below with an arrow, within the terminal."""
    monkeypatch.setenv("COLUMNS", "90")
    text = click.unstyle(lines(CHECKS[0], warning("word " * 40, "act " * 30)))
    assert max(map(len, text.splitlines())) <= 90
    assert re.match(r"  warning +settings +word word", text)
    assert max(len(check.name) for check in CHECKS) <= command.NAMES
    assert re.search(r"\n {30,}→ act act", text)
    assert summary(MADE) == "1 failed, 1 warning, 1 not visible, 1 not checked, 1 ok."


# The command


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedZendesk]:
    """A simulated account whose clock is the real one."""
    since = datetime.fromtimestamp(time() - 4 * 3600, UTC).isoformat()
    with simulated_zendesk(tmp_path_factory.mktemp("today"), "--since", since) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """SeaweedFS with the writer's policy in force for its user `writer-4711`."""
    users = {"writer-4711": writer_policy(Settings(s3_bucket=BUCKET))}
    with local_s3(tmp_path_factory.mktemp("guarded"), BUCKET, users=users) as running:
        yield running


Run = Callable[..., Result]


@pytest.fixture
def run(today: SimulatedZendesk, guarded: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command with the environment of a pipeline that is set up as the documentation says."""
    today.control.reset()
    environment = {
        **guarded.environment,
        "AWS_ACCESS_KEY_ID": "writer-4711",
        "AWS_SECRET_ACCESS_KEY": "writer-4711",
        "ZENDESK_BASE_URL": today.url,
        "ZENDESK_CLIENT_ID": CLIENT_ID,
        "ZENDESK_CLIENT_SECRET": CLIENT_SECRET,
        "ALERT_URLS": "json://ada:password-4711@localhost/",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def invoke(*arguments: str, **others: str) -> Result:
        return CliRunner().invoke(main, ["doctor", *arguments], env=others)

    return invoke


def test_a_pipeline_that_is_set_up_as_documented_passes(run: Run) -> None:
    """Even strictly: with OAuth and the writer's policy nothing is worse than `not visible`."""
    said = run("--strict")
    assert said.exit_code == 0, said.output
    statuses = re.findall(r"^  (ok|warning|failed|not \w+) +(\w+)", said.output, re.MULTILINE)
    assert [name for _, name in statuses] == [check.name for check in CHECKS]
    hidden = {name for status, name in statuses if status != "ok"}
    assert hidden == {
        *("s3_region", "s3_public_access", "s3_encryption", "s3_versioning", "s3_object_lock", "s3_lifecycle"),
        *("s3_bucket_rights", "secops_feed", "secops_counts"),
    }
    assert re.search(r"\n9 not visible, \d+ ok\.\n$", said.output)


def test_warnings_count_when_asked_to(run: Run) -> None:
    """An API token is one."""
    token = {"AUTH_MODE": "token", "ZENDESK_EMAIL": EMAIL, "ZENDESK_API_TOKEN": API_TOKEN}
    assert (run(**token).exit_code, run("--strict", **token).exit_code) == (0, 1)


def test_the_document_is_all_that_is_printed(run: Run) -> None:
    """`--json` prints JSON and nothing else, with every check, and the same exit status."""
    said = run(
        "--json",
        S3_BUCKET="no-such-bucket",
        AWS_ACCESS_KEY_ID="local-access-key",
        AWS_SECRET_ACCESS_KEY="local-secret-key",
    )
    found = json.loads(said.output)
    assert (said.exit_code, found["version"], found["passed"]) == (1, 1, False)
    assert [each["check"] for each in found["checks"]] == [check.name for check in CHECKS]
    assert {tuple(each) for each in found["checks"]} == {("check", "area", "status", "found", "remedy")}
    assert {each["status"] for each in found["checks"]} <= set(SEVERITY)


def test_a_dead_host_holds_up_nothing(run: Run) -> None:
    """What does not need it is told, and the whole takes not much longer than a check may."""
    with silent_host() as silent:
        began = monotonic()
        said = run("--json", "--timeout", "6", ZENDESK_BASE_URL=silent.url)
        took = monotonic() - began
    statuses = {each["check"]: each["status"] for each in json.loads(said.output)["checks"]}
    assert (said.exit_code, statuses["zendesk_host"], statuses["zendesk_streams"]) == (1, "failed", "not checked")
    assert statuses["s3_bucket"] == "ok"
    assert took < 60


def test_other_commands_do_not_wait_for_dagster() -> None:
    """The command line loads neither Dagster nor boto3 to print a policy."""
    asked = "import sys, zendesk_pipeline.cli; print([name for name in ('dagster', 'boto3') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_usage_is_another_status(run: Run) -> None:
    """2, as everywhere."""
    assert run("--timeout", "0").exit_code == 2
    assert run("--no-such-option").exit_code == 2


def test_nothing_secret_is_printed(run: Run, today: SimulatedZendesk, guarded: LocalS3) -> None:
    """No credential, no person, nothing of a record: whether all is well or everything is refused."""
    key = "zendesk/crm/2026/11/12/foreign"
    guarded.client().put_object(Bucket=BUCKET, Key=key, Body=b"content-of-a-record")
    wrong = {
        "ZENDESK_CLIENT_SECRET": "wrong-secret-4711",
        "AWS_SECRET_ACCESS_KEY": "aws-4711",
        "AWS_SESSION_TOKEN": "session-4711",
        "ALERT_URLS": "nonsense://password-4711@there",
    }
    outputs = [run(*form, **others).output for form in ((), ("--json",)) for others in ({}, wrong)]
    guarded.client().delete_object(Bucket=BUCKET, Key=key)
    records = [json.loads(line) for line in today.control.source("audit_logs")]
    tokens = {seen.authorization.removeprefix("Bearer ") for seen in today.control.requests()} - {""}
    people = {str(record["actor_name"]) for record in records if record["actor_id"] != -1} | {EMAIL, "Simulated Admin"}
    secrets = {CLIENT_SECRET, "4711", "content-of-a-record", *tokens, *people}
    assert len(tokens) > 1
    assert [(secret, text) for secret in secrets for text in outputs if secret in text] == []


# The page


def _rows() -> dict[str, str]:
    table = PAGE[PAGE.index("## What is checked") : PAGE.index("## What is proved")]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))


def test_every_check_has_its_row() -> None:
    """docs/doctor.md says of each what it means and what to do, in the order in which they are told."""
    assert list(_rows()) == [check.name for check in CHECKS]


def test_the_page_names_every_option_and_status() -> None:
    """As the command has them."""
    options = {option for parameter in command.doctor.params for option in parameter.opts}
    assert [word for word in (*options, *SEVERITY) if f"`{word}" not in PAGE] == []
