"""`verify --secops`: what S3's access log says of the objects of a past range."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.model.windows import DAY, HOUR
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.access_log import ROLE, WRITER, Request, partitioned, simple, written
from zendesk_pipeline_tests.runs import QUIET, project

pytestmark = QUIET
RANGE = ("--from", "2026-11-12T05:00Z", "--to", "2026-11-12T06:00Z", "--stream", "audit_logs", "--without-source")


class LoggedRange:
    """A window that is delivered, and the log of its bucket."""

    def __init__(self, bucket: Bucket, logs: str, run: Callable[..., Result]) -> None:
        self.bucket, self.logs, self.verify = bucket, logs, run
        self.keys = bucket.stored()

    def log(self, *requests: Request | str, at: float = FIRST.end, form: str = "partitioned") -> None:
        """Have a log object come."""
        named = partitioned(self.logs, self.bucket.store.bucket, at) if form == "partitioned" else simple(self.logs, at)
        self.bucket.put(named, written(requests))

    def read(self, key: str, *, at: float = FIRST.end + 600, **changed: Any) -> Request:
        """The reader's read of an object; by its time it is of the month in which the window was delivered."""
        size = len(self.bucket.store.client.get_object(Bucket=self.bucket.store.bucket, Key=key)["Body"].read())
        return Request(bucket=self.bucket.store.bucket, key=key, at=at, size=size).changed(**changed)

    def reaches(self, at: float, *, since: float = FIRST.start) -> None:
        """Let the log reach from one time to another by requests of others."""
        one = self.read(self.keys[0], at=since, requester=WRITER)
        self.log(one, one.changed(at=at))

    def keep_only_ledgers(self) -> None:
        """As a feed that deletes what it has read: then the ledger's window alone says when an object was written."""
        self.bucket.delete(self.keys)


@pytest.fixture
def logged(
    environment: dict[str, str],
    store: Store,
    layout: Layout,
    zendesk: SimulatedZendesk,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[LoggedRange]:
    logs = f"{layout.feed.partition('/')[0]}/logs/"
    chosen = {
        **environment,
        "BATCH_BYTES": "4096",
        "SECOPS_ACCESS_LOGS": f"s3://{store.bucket}/{logs}",
        "SECOPS_READER": ROLE,
    }
    with project(chosen, monkeypatch) as running:
        assert running.run("audit_logs", hours(1)).success
    zendesk.control.forget_requests()

    def run(*arguments: str, **changed: str) -> Result:
        with monkeypatch.context() as patched:
            for name, value in changed.items():
                patched.setenv(name, value)
            said = CliRunner().invoke(main, ["verify", *RANGE, "--secops", *arguments])
        assert said.exception is None or isinstance(said.exception, SystemExit)
        return said

    made = LoggedRange(Bucket(store=store, layout=layout), logs, run)
    assert len(made.keys) > 1
    yield made
    assert zendesk.control.requests() == []


@pytest.mark.parametrize("form", ["partitioned", "simple"])
def test_what_is_read_agrees(logged: LoggedRange, form: str) -> None:
    """Exit status 0, and how many objects were read; neither Zendesk nor Google is asked."""
    logged.log(*(logged.read(key) for key in logged.keys), form=form)
    said = logged.verify()
    assert said.exit_code == 0, said.output
    assert f"{len(logged.keys)} objects, {len(logged.keys)} of them read by SecOps" in said.output


def test_what_was_never_read_is_a_difference(logged: LoggedRange) -> None:
    """Named, with what to do, once the log reaches beyond the time in which it should have been read."""
    first, *rest = logged.keys
    reads = [logged.read(key) for key in rest]
    logged.reaches(FIRST.end + DAY)
    logged.log(*reads, at=FIRST.end + HOUR)
    logged.keep_only_ledgers()
    said = logged.verify()
    assert said.exit_code == 1
    assert f"{logged.bucket.store.uri(first)}: no read by SecOps seen" in said.output
    assert "S3 need not log every request" in said.output
    assert "1 of 1 windows differ." in said.output


def test_what_was_read_twice_is_a_difference(logged: LoggedRange) -> None:
    """With the times; a repeated try at once is none, and neither is a line that comes twice."""
    first, second, *rest = logged.keys
    once = [logged.read(key, request_id=f"ONCE{number}") for number, key in enumerate(rest)]
    again = [logged.read(second), logged.read(second, at=FIRST.end + 7800)]
    tried = [logged.read(first), logged.read(first, at=FIRST.end + 610)]
    logged.log(*again, *tried, *once)
    logged.log(*once, at=FIRST.end + HOUR)
    said = logged.verify()
    assert said.exit_code == 1
    uri = logged.bucket.store.uri(second)
    assert f"{uri} was read by SecOps at 2026-11-12 06:10:00 UTC, and again at 2026-11-12 08:10:00 UTC" in said.output
    assert said.output.count("and again at") == 1
    assert "see whether two feeds read the prefix" in said.output


@pytest.mark.parametrize(
    ("since", "until"),
    [
        pytest.param(FIRST.end + HOUR, FIRST.end + DAY, id="older than the log"),
        pytest.param(FIRST.start, FIRST.end + HOUR, id="newer than the log"),
    ],
)
def test_where_the_log_does_not_reach_nothing_is_said(logged: LoggedRange, since: float, until: float) -> None:
    """No difference, and counted."""
    logged.reaches(until, since=since)
    logged.keep_only_ledgers()
    said = logged.verify()
    assert said.exit_code == 0, said.output
    assert f"{len(logged.keys)} of them of which the access log says nothing" in said.output


def test_what_was_written_just_now_is_not_judged(logged: LoggedRange) -> None:
    """Its line may yet come, however far the log reaches."""
    logged.reaches(FIRST.end + 365 * DAY)
    said = logged.verify()
    assert said.exit_code == 0, said.output


def test_json_has_the_numbers_and_the_kinds(logged: LoggedRange) -> None:
    """For scripts."""
    first, *rest = logged.keys
    logged.log(*(logged.read(key) for key in rest))
    logged.reaches(FIRST.end + DAY)
    logged.keep_only_ledgers()
    window, verdict = map(json.loads, logged.verify("--json").stdout.splitlines())
    assert (window["objects_read"], window["not_in_log"]) == (len(rest), 0)
    assert [each["kind"] for each in window["differences"]] == ["not_read"]
    assert verdict["counts"] == {"not_read": 1}
    assert first


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"SECOPS_ACCESS_LOGS": ""}, "SECOPS_ACCESS_LOGS is not set"),
        ({"SECOPS_READER": ""}, "SECOPS_READER is not set"),
        ({"SECOPS_ACCESS_LOGS": "s3://no-such-bucket-here/x/"}, "no-such-bucket-here"),
        ({}, "There is no log of requests to"),
    ],
    ids=["no log", "no reader", "another bucket", "an empty log"],
)
def test_what_cannot_be_looked_at_is_no_difference(logged: LoggedRange, changed: dict[str, str], words: str) -> None:
    """Exit status 3, and a sentence."""
    said = logged.verify(**changed)
    assert said.exit_code == 3
    assert words in said.output


def test_malformed_lines_hide_nothing(logged: LoggedRange) -> None:
    """Whatever stands beside the lines."""
    logged.log("no line", *(logged.read(key) for key in logged.keys), '"')
    assert logged.verify().exit_code == 0
