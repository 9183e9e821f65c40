"""`zendesk-pipeline verify` as somebody types it, against a Zendesk and an S3 server."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.past_range import ProgressLines
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.streams import AUDIT_LOGS
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, hours
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, Fate, S3Proxy, S3Request, s3_proxy
from zendesk_pipeline_tests.runs import QUIET, Project, project

pytestmark = QUIET
PROGRAM = Path(sys.executable).with_name("zendesk-pipeline")
SPAN = hours(3)
SECOND = Window(FIRST.end)
RANGE = ("--from", "2026-11-12T05:00Z", "--to", "2026-11-12T08:00Z")


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


@pytest.fixture
def collected(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project, with both streams of the span collected."""
    with project(environment, monkeypatch) as running:
        for stream in ("audit_logs", "incremental_tickets"):
            assert running.run(stream, SPAN).success
        yield running


@pytest.fixture
def proxy(s3: LocalS3) -> Iterator[S3Proxy]:
    """What stands between a command and S3, and remembers the requests."""
    with s3_proxy(s3.endpoint) as running:
        yield running


@pytest.fixture
def verify(environment: dict[str, str], proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command, some settings changed; S3 hears nothing but reading."""

    def run(*arguments: str, **changed: str) -> Result:
        with monkeypatch.context() as patched:
            for name, value in {**environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint, **changed}.items():
                patched.setenv(name, value)
            said = CliRunner().invoke(main, ["verify", *arguments])
        assert {request.method for request in proxy.seen} <= {"GET", "LIST"}
        assert said.exception is None or isinstance(said.exception, SystemExit)
        return said

    return run


@pytest.mark.usefixtures("collected")
def test_nothing_differs(
    verify: Callable[..., Result], bucket: Bucket, proxy: S3Proxy, zendesk: SimulatedZendesk
) -> None:
    """After a collection: exit status 0, one sentence, nothing written, and one walk a stream over the range."""
    everything = bucket.stored(bucket.layout.feed.removesuffix("crm/"))
    zendesk.control.forget_requests()

    said = verify(*RANGE)

    count = sum(
        len(zendesk.control.source(stream, SPAN.start, SPAN.end)) for stream in ("audit_logs", "incremental_tickets")
    )
    assert said.exit_code == 0, said.stderr
    assert said.stdout.endswith(
        f"Nothing differs: Zendesk, ledgers and objects agree on 6 windows with {count:,} records.\n"
    )
    assert bucket.stored(bucket.layout.feed.removesuffix("crm/")) == everything
    assert proxy.count("GET") > 0
    firsts = [
        dict(seen.pairs)
        for seen in zendesk.control.requests()
        if not {"page[after]", "cursor"} & dict(seen.pairs).keys()
    ]
    assert [(first.get("sort"), first.get("start_time")) for first in firsts] == [
        ("created_at", None),
        (None, str(SPAN.start)),
    ]
    asked = [value for seen in zendesk.control.requests() for name, value in seen.pairs if name.startswith("filter")]
    assert min(asked) == timestamp(SPAN.start - 1)


@pytest.mark.usefixtures("collected")
def test_a_marker_that_is_not_shown_is_passed_over(
    verify: Callable[..., Result], bucket: Bucket, proxy: S3Proxy
) -> None:
    """S3 hides what is missing from whoever may not list: the runs of such a writer go on, and so does a look."""
    hidden = Answer(status=403, code="AccessDenied")
    proxy.decide = lambda request: hidden if request.key == bucket.layout.account else "pass"
    assert verify(*RANGE).exit_code == 0


@pytest.mark.usefixtures("collected")
def test_only_a_comparison_with_zendesk_needs_the_redaction_key(verify: Callable[..., Result]) -> None:
    """Ledgers and objects are compared as they are stored, by whoever has no key."""
    rules = {"REDACTION_RULES": "builtin:without-personal-data", "REDACTION_KEY": ""}
    said = verify(*RANGE, "--without-source", **rules)
    assert (said.exit_code, "ledgers and objects agree" in said.stdout) == (0, True)
    said = verify(*RANGE, **rules)
    assert (said.exit_code, "REDACTION_KEY is not set" in said.stderr) == (3, True)


def test_the_program_ends_with_the_status_that_a_shell_sees(environment: dict[str, str], tmp_path: Path) -> None:
    """A process of its own: 1 where windows differ, and no secret in what it prints."""
    said = subprocess.run(
        [PROGRAM, "verify", *RANGE, "--stream", "audit_logs"],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 1, said.stderr
    assert "\n3 of 3 windows differ.\n" in said.stdout
    assert list(tmp_path.iterdir()) == []
    for secret in ("ZENDESK_API_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        assert environment[secret] not in said.stdout + said.stderr


def test_what_lacks_is_collected_by_the_command_that_is_named(
    verify: Callable[..., Result],
    collected: Project,
    zendesk: SimulatedZendesk,
    bucket: Bucket,
) -> None:
    """A late audit log and a window without a ledger: found, collected as advised, and found no more."""
    zendesk.control.add_records("audit_logs", [audit_log(77_001, SECOND.start + 9, "a secret change").line])
    bucket.delete([bucket.layout.ledger("incremental_tickets", FIRST)])

    said = verify(*RANGE)

    assert said.exit_code == 1
    assert "  2026-11-12 06:00  not delivered: 1 record that Zendesk shows\n" in said.stdout
    assert "  2026-11-12 05:00  no ledger: the window was never collected\n" in said.stdout
    assert "\n2 of 6 windows differ.\n" in said.stdout
    assert "77001" not in said.stdout
    assert "secret" not in said.stdout + said.stderr
    commands = [shlex.split(line) for line in said.stdout.splitlines() if " asset materialize " in line]
    assert [command[-2:] for command in commands] == [
        ["--partition", SECOND.partition_key],
        ["--partition", FIRST.partition_key],
    ]
    for command in commands:
        stream, window = command[command.index("--select") + 1], Window.of_partition(command[-1])
        assert collected.run(stream, Span(window.start, window.end)).success
    assert verify(*RANGE).exit_code == 0


def test_identities_are_shown_where_asked(
    verify: Callable[..., Result], collected: Project, zendesk: SimulatedZendesk
) -> None:
    """`--identities` names the records; their contents are never shown."""
    zendesk.control.add_records("audit_logs", [audit_log(77_002, SECOND.start + 9, "a secret change").line])

    said = verify(*RANGE, "--stream", "audit_logs", "--identities")

    assert "77002" in said.stdout
    assert "secret" not in said.stdout + said.stderr
    assert "incremental_tickets" not in said.stdout
    assert collected


def test_json_is_a_line_for_each_window_and_a_verdict(
    verify: Callable[..., Result], collected: Project, zendesk: SimulatedZendesk
) -> None:
    """For programs: windows by their partition keys, differences by kind, and the commands."""
    zendesk.control.add_records("audit_logs", [audit_log(77_003, SECOND.start + 9).line])

    said = verify(*RANGE, "--stream", "audit_logs", "--json")

    *windows, verdict = map(json.loads, said.stdout.splitlines())
    assert [window["window"] for window in windows] == [window.partition_key for window in SPAN]
    assert [window["differences"] for window in windows] == [
        [],
        [{"kind": "not_delivered", "text": "not delivered: 1 record that Zendesk shows", "count": 1}],
        [],
    ]
    assert (verdict["windows"], verdict["differing"], verdict["counts"]) == (3, 1, {"not_delivered": 1})
    assert len(verdict["commands"]) == 1
    assert collected


def test_without_the_source_zendesk_is_not_asked(
    verify: Callable[..., Result], collected: Project, zendesk: SimulatedZendesk
) -> None:
    """Ledgers and objects alone, which needs no credential of Zendesk's."""
    zendesk.control.forget_requests()

    said = verify(*RANGE, "--without-source", ZENDESK_API_TOKEN="")

    assert said.exit_code == 0, said.stderr
    assert "ledgers and objects agree on 6 windows" in said.stdout
    assert zendesk.control.requests() == []
    assert collected


def test_a_sample_reads_so_many_windows(
    verify: Callable[..., Result], collected: Project, proxy: S3Proxy, bucket: Bucket
) -> None:
    """Ledgers are read for all, objects for as many windows as `--sample` says."""
    verify(*RANGE, "--without-source", "--stream", "audit_logs", "--sample", "1")

    keys = [request.key for request in proxy.seen if request.method == "GET"]
    assert sum(key.startswith(bucket.layout.ledgers("audit_logs")) for key in keys) == 3
    assert len({key[:45] for key in keys if key.startswith(bucket.layout.feed)}) == 1
    assert collected


def test_what_has_not_settled_is_left_out(verify: Callable[..., Result]) -> None:
    """A window that is being collected just now would look like a loss: a sentence, and no look at it."""
    now = Window.of(int(time.time()))
    begin, end = timestamp(now.start - 3 * HOUR), timestamp(now.end)

    part = verify("--from", begin, "--to", end, "--without-source", START_DATE=begin[:10])
    nothing = verify("--from", timestamp(now.start), "--without-source", START_DATE=begin[:10])

    assert re.search(rf"Left out, since not settled yet or just being collected: .*{now}", part.stderr)
    assert str(now) not in part.stdout
    assert (nothing.exit_code, "has settled yet" in nothing.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("--from", "yesterday"), "2026-11-12T05:00Z", id="no-time"),
        pytest.param(("--from", "2026-11-12T05:30Z"), "full hour", id="no-full-hour"),
        pytest.param(("--from", "2026-11-12T05:00Z", "--to", "2026-11-12T05:00Z"), "later than --from", id="empty"),
        pytest.param(("--from", "2026-11-01"), "START_DATE", id="before-the-first-window"),
        pytest.param(("--from", "2026-11-12", "--stream", "users"), "RESOURCES=", id="no-stream"),
        pytest.param((), "--from", id="no-start"),
    ],
)
def test_a_wrong_option_is_a_sentence(verify: Callable[..., Result], arguments: tuple[str, ...], words: str) -> None:
    """Exit status 2, and what is wanted instead."""
    said = verify(*arguments)

    assert (said.exit_code, words in said.stderr) == (2, True), said.stderr


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        pytest.param({"ZENDESK_API_TOKEN": "wrong-token"}, "Check ZENDESK_EMAIL and ZENDESK_API_TOKEN", id="token"),
        pytest.param({"S3_BUCKET": "no-such-bucket"}, "S3_BUCKET=no-such-bucket does not exist", id="bucket"),
        pytest.param({"SETTLE_SECONDS": "5"}, "SETTLE_SECONDS is wrong", id="setting"),
    ],
)
def test_what_cannot_be_looked_at_is_no_difference(
    verify: Callable[..., Result], changed: dict[str, str], words: str
) -> None:
    """Exit status 3, the sentence that says what to do, and no verdict."""
    said = verify(*RANGE, **changed)

    assert (said.exit_code, words in said.stderr) == (3, True), said.stderr
    assert "differ" not in said.stdout
    assert "Traceback" not in said.stderr
    assert "wrong-token" not in said.stdout + said.stderr


def test_who_may_not_read_ledgers_hears_so(verify: Callable[..., Result], proxy: S3Proxy, bucket: Bucket) -> None:
    """A ledger that may not be read is not taken for a missing one."""

    def decide(request: S3Request) -> Fate:
        refused = request.method == "GET" and request.key.startswith(bucket.layout.state)
        return Answer(status=403, code="AccessDenied") if refused else "pass"

    proxy.decide = decide

    said = verify(*RANGE, "--without-source")

    assert (said.exit_code, "AccessDenied" in said.stderr) == (3, True)


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A long look says from time to time how far it is."""
    times = iter([0.0, 3.0, 11.0, 11.0, 12.0])
    progress = ProgressLines(lambda: next(times))
    for window in hours(3):
        progress.reached(AUDIT_LOGS, Span(FIRST.start, FIRST.start + 4 * HOUR), window)

    assert capsys.readouterr().err == "audit_logs: 2 of 4 windows, at 2026-11-12 06:00\n"
