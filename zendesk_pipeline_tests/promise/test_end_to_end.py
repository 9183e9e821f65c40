"""The pipeline as its users run it: `dagster` processes, a Zendesk over HTTP, S3 over HTTP."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.root import ROOT
from zendesk_pipeline_tests.runs import QUIET, project

pytestmark = QUIET
WHAT = ("asset", "materialize", "-m", "zendesk_pipeline.definitions")
COMMAND = (str(Path(sys.executable).with_name("dagster")), *WHAT)
SPAN = hours(12)
RANGE = f"{FIRST.partition_key}...{Window(SPAN.end - HOUR).partition_key}"
HOLDS = 30.0
"""Seconds that the simulator holds a request; the run is killed long before."""


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    """Where `environment` delivers to."""
    return Bucket(store=store, layout=layout)


@pytest.fixture
def dagster(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `dagster asset materialize` with some settings changed; an empty one counts as not set."""

    def run(
        stream: str, *what: str, command: Sequence[str] | None = None, **changed: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(command or forked.command("dagster", *WHAT)), "--select", stream, *what],
            env={**os.environ, **environment, **changed},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def _sent(zendesk: SimulatedZendesk, stream: str, span: Span) -> list[bytes]:
    return sorted(zendesk.control.source(stream, span.start, span.end))


def test_a_window_is_collected_by_one_command(
    dagster: Callable[..., subprocess.CompletedProcess[str]],
    zendesk: SimulatedZendesk,
    bucket: Bucket,
    environment: Mapping[str, str],
) -> None:
    """`--partition` puts the records of an hour into the feed, exits with 0 and prints no secret."""
    done = dagster("audit_logs", "--partition", FIRST.partition_key, command=COMMAND)
    assert done.returncode == 0
    assert bucket.lines() == _sent(zendesk, "audit_logs", hours(1))
    for secret in ("ZENDESK_API_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        assert environment[secret] not in done.stdout + done.stderr


def test_a_run_that_is_killed_is_completed_by_the_next(
    dagster: Callable[..., subprocess.CompletedProcess[str]],
    zendesk: SimulatedZendesk,
    bucket: Bucket,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """kill -9 in the middle of a range: the same command again delivers the rest, a third time it writes nothing."""
    zendesk.control.add_faults(Rule(path="cursor=", kind="hang", skip=1, seconds=HOLDS))
    environment |= {"BATCH_BYTES": "65536", "COMPRESSION": "gzip"}
    what = ("incremental_tickets", "--partition-range", RANGE)
    with subprocess.Popen(
        [*COMMAND, "--select", *what],
        env={**os.environ, **environment},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _until(process, lambda: any(seen.fault for seen in zendesk.control.requests()) and len(bucket.stored()) > 3)
        process.send_signal(signal.SIGKILL)
    zendesk.control.clear_faults()
    sent, kept = _sent(zendesk, "incremental_tickets", SPAN), bucket.feed()
    assert 0 < len(bucket.lines()) < len(sent)
    assert dagster(*what).returncode == 0
    assert bucket.lines() == sent
    assert kept.items() <= bucket.feed().items()
    everything = bucket.stored(bucket.layout.feed.removesuffix("crm/"))
    assert dagster(*what).returncode == 0
    assert bucket.stored(bucket.layout.feed.removesuffix("crm/")) == everything


def _until(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    """Wait for something that a running process does."""
    while process.poll() is None and not happened():
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"


# What people get wrong


@pytest.mark.parametrize(
    ("changed", "switches", "words"),
    [
        pytest.param({"ZENDESK_BASE_URL": ""}, {}, ["ZENDESK_BASE_URL is not set", "https://"], id="no-address"),
        pytest.param({"S3_BUCKET": ""}, {}, ["S3_BUCKET is not set", "the bucket that"], id="no-bucket"),
        pytest.param({"ZENDESK_API_TOKEN": ""}, {}, ["ZENDESK_API_TOKEN is not set", "AUTH_MODE="], id="no-credential"),
        pytest.param(
            {"ZENDESK_BASE_URL": "acme.zendesk.com"}, {}, ["ZENDESK_BASE_URL is wrong", "https://"], id="bad-address"
        ),
        pytest.param(
            {"STATE_PREFIX": "zendesk/crm/state/", "S3_PREFIX": "zendesk/crm/"},
            {},
            ["STATE_PREFIX=zendesk/crm/state/ lies inside S3_PREFIX", "such as zendesk/state/"],
            id="state-in-the-feed",
        ),
        pytest.param(
            {"ZENDESK_API_TOKEN": "wrong-token"},
            {},
            ["answered 401", "Check ZENDESK_EMAIL and ZENDESK_API_TOKEN"],
            id="wrong-token",
        ),
        pytest.param(
            {"ZENDESK_API_TOKEN": "wrong-token"},
            {"refuse": True},
            ["answered 403", "Zendesk does not know the credential", "Check ZENDESK_EMAIL"],
            id="anonymous",
        ),
        pytest.param(
            {"S3_BUCKET": "no-such-bucket"}, {}, ["S3_BUCKET=no-such-bucket does not exist", "create it"], id="bucket"
        ),
        pytest.param({}, {"plan": "professional"}, ["Enterprise plan", "take audit_logs out of RESOURCES"], id="plan"),
    ],
)
def test_what_is_wrong_is_one_clear_sentence(
    dagster: Callable[..., subprocess.CompletedProcess[str]],
    zendesk: SimulatedZendesk,
    bucket: Bucket,
    changed: dict[str, str],
    switches: dict[str, object],
    words: list[str],
) -> None:
    """The terminal names the setting and the remedy in one line, before any frame; nothing is stored."""
    if switches.pop("refuse", False):
        zendesk.control.add_faults(Rule(path="/api/v2/audit_logs", kind="status", code=403, times=0))
    zendesk.control.set(**switches)
    failed = dagster("audit_logs", "--partition", FIRST.partition_key, **changed)
    said = failed.stderr.splitlines()
    (first, *_) = [number for number, line in enumerate(said) if words[0] in line]
    assert failed.returncode == 1
    assert [word for word in words if word not in said[first]] == []
    assert not any(line.startswith("  File ") for line in said[:first])
    assert "caused by" not in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "wrong-token" not in failed.stdout + failed.stderr
    assert bucket.stored() == []


# Answers that the real Zendesk gave


def _recorded() -> dict[str, list[Path]]:
    """The recorded answers, by the walk that they belong to."""
    folder = Path(os.environ.get("ZENDESK_RECORDED") or ROOT.parent / "shared" / "recorded")
    found = sorted(folder.glob("tickets_*.json"))
    return {name: list(files) for name, files in itertools.groupby(found, lambda path: path.stem.rpartition("_")[0])}


class _Ticket(msgspec.Struct):
    generated_timestamp: int


class _Body(msgspec.Struct):
    tickets: list[msgspec.Raw]


class _Answer(msgspec.Struct):
    body: _Body


if RECORDED := _recorded():

    @pytest.mark.parametrize("files", RECORDED.values(), ids=RECORDED.keys())
    def test_what_the_real_zendesk_answered_lands_byte_for_byte(
        tmp_path: Path, s3: LocalS3, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, files: list[Path]
    ) -> None:
        """Tickets of recorded answers go through the whole pipeline without a byte changed."""
        answers = [msgspec.json.decode(file.read_bytes(), type=_Answer) for file in files]
        tickets = [bytes(ticket) for answer in answers for ticket in answer.body.tickets]
        windows = sorted({Window.of(msgspec.json.decode(each, type=_Ticket).generated_timestamp) for each in tickets})
        options = [option for file in files for option in ("--replay", str(file))]
        with simulated_zendesk(tmp_path, *options) as zendesk:
            environment = {
                **zendesk.environment,
                **s3.environment,
                "S3_PREFIX": bucket.layout.feed,
                "STATE_PREFIX": bucket.layout.state,
                "QUARANTINE_PREFIX": bucket.layout.quarantine,
                "START_DATE": "2023-09-01",
                "ZENDESK_EXPORT_RATE": "100000",
            }
            with project(environment, monkeypatch) as running:
                for window in windows:
                    assert running.run("incremental_tickets", Span(window.start, window.end)).success
        assert bucket.lines() == sorted(tickets)
