"""Receipts of what SecOps has read: deliveries into a real bucket, and the log that S3 would keep of its reads."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg
import pytest

from zendesk_pipeline.alerts.dagster_problems import failed_checks
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration import receipt_check
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.conftest import SINCE
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.access_log import ROLE, WRITER, Request, partitioned, simple, written
from zendesk_pipeline_tests.runs import QUIET, Project, metadata

pytestmark = QUIET

FEED, LOGS = dg.AssetKey("secops_feed"), dg.AssetKey("audit_logs")
KEY = dg.AssetCheckKey(FEED, "secops_receipts")
FIRST = Window.of(int(datetime.fromisoformat(SINCE).timestamp()))
SECOND = Window(FIRST.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """A pipeline whose bucket keeps an access log."""

    environment: dict[str, str]
    instance: dg.DagsterInstance
    bucket: Bucket
    monkeypatch: pytest.MonkeyPatch
    logs: str
    named: Callable[[float], str]
    """The key of a log object that comes at a time."""

    def build(self, hours: float = 0, **changed: str) -> dg.Definitions:
        for name, value in {**self.environment, **changed}.items():
            self.monkeypatch.setenv(name, value)
        return build(settings.load(), Clock(now=lambda: time.time() + hours * HOUR))

    def collect(self, *windows: Window, **config: Any) -> list[str]:
        """Deliver windows; the keys of all objects that are in the feed then."""
        span = Span(windows[0].start, windows[-1].end)
        assert Project(definitions=self.build(), instance=self.instance).run("audit_logs", span, **config).success
        return self.bucket.stored()

    def look(self, hours: float = 0, **changed: str) -> dg.AssetCheckEvaluation:
        """The hourly job, some hours from now."""
        job = self.build(hours, **changed).resolve_job_def("feed_inspection")
        result = job.execute_in_process(instance=self.instance)
        (verdict,) = [each for each in result.get_asset_check_evaluations() if each.check_name == KEY.name]
        return verdict

    def read(self, key: str, *, hours: float = 0.3, **changed: Any) -> Request:
        """The reader's read of an object."""
        size = len(self.bucket.store.client.get_object(Bucket=self.bucket.store.bucket, Key=key)["Body"].read())
        request = Request(bucket=self.bucket.store.bucket, key=key, at=int(time.time() + hours * HOUR), size=size)
        return request.changed(**changed)

    def log(self, *requests: Request | str) -> str:
        """Have a log object come; its key."""
        key = self.named(time.time())
        self.bucket.put(key, written(requests))
        return key

    def others(self, hours: float) -> Request:
        """A request that is in the log whatever the reader does."""
        return Request(
            bucket=self.bucket.store.bucket,
            key=f"{self.bucket.layout.state}account.json",
            at=int(time.time() + hours * HOUR),
            size=40,
            requester=WRITER,
        )

    def receipts(self, asset: dg.AssetKey = LOGS) -> dict[str, dict[str, Any]]:
        """The metadata of the receipts, by partition."""
        events = [each.asset_observation for each in self.instance.fetch_observations(asset, limit=99).records]
        return {
            each.partition or "": metadata(each) for each in reversed(events) if each and "secops_read" in each.metadata
        }

    def told(self) -> list[str]:
        snapshot = Snapshot(instance=self.instance, now=0, automation=Automation(checks=[KEY]))
        return [problem.text for problem in failed_checks(snapshot)]


@pytest.fixture(params=["partitioned"])
def receipts(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    store: Store,
    layout: Layout,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Receipts]:
    root = layout.feed.partition("/")[0]
    logs = f"{root}/logs/"
    names: dict[str, Callable[[float], str]] = {
        "partitioned": lambda at: partitioned(logs, store.bucket, at),
        "simple": lambda at: simple(f"{logs}of-zendesk-", at),
    }
    prefix = logs if request.param == "partitioned" else f"{logs}of-zendesk-"
    looking = {"SECOPS_ACCESS_LOGS": f"s3://{store.bucket}/{prefix}", "SECOPS_READER": ROLE, "RESOURCES": "audit_logs"}
    with dg.DagsterInstance.ephemeral() as instance:
        yield Receipts(
            environment={**environment, **looking, "BATCH_BYTES": "4096"},
            instance=instance,
            bucket=Bucket(store=store, layout=layout),
            monkeypatch=monkeypatch,
            logs=prefix,
            named=names[request.param],
        )


@pytest.fixture
def begun(receipts: Receipts) -> Receipts:
    """What is delivered from now on is awaited."""
    assert receipts.look().passed
    return receipts


@pytest.mark.parametrize("receipts", ["partitioned", "simple"], indirect=True)
def test_a_window_that_is_read_gets_its_receipt(begun: Receipts) -> None:
    """With the time of each object; until the log has come it is awaited, and that is no alarm."""
    keys = begun.collect(FIRST)
    assert len(keys) > 1
    waiting = begun.look()
    assert waiting.passed
    assert waiting.metadata["secops_windows_awaited"].value == 1
    reads = [begun.read(key, hours=0.1 * number) for number, key in enumerate(keys, 1)]
    begun.log(*reads)
    verdict = begun.look()
    assert verdict.passed
    assert verdict.metadata["secops_windows_awaited"].value == 0
    (receipt,) = begun.receipts().values()
    assert begun.receipts().keys() == {FIRST.partition_key}
    assert receipt["secops_read_at"] == reads[-1].at
    assert (
        receipt["secops_read"] == f"read by SecOps at {time.strftime('%Y-%m-%d %H:%M', time.gmtime(reads[-1].at))} UTC"
    )
    assert receipt["secops_read_objects"] == {each.key: each.at for each in reads}


def test_an_object_that_is_never_read_is_told_once_with_the_remedy_and_solved_when_it_is(begun: Receipts) -> None:
    """As the story goes: of two windows one object stays unread; the alert names its window, and ends with its read."""
    keys = begun.collect(FIRST, SECOND)
    mine = [key for key in keys if f"{SECOND.starts_at:%H%M%S}" in key]
    begun.log(*(begun.read(key) for key in keys if key != mine[0]), begun.others(2))
    assert begun.look(hours=8).passed
    begun.log(begun.others(9.5))
    late = begun.look(hours=10)
    assert not late.passed
    assert late.severity is dg.AssetCheckSeverity.WARN
    said = late.description or ""
    assert f"No read seen of 1 object of audit_logs {SECOND}, delivered 10 hours ago or less" in said
    assert "send again (docs/operations.md, Send records again)" in said
    assert begun.receipts().keys() == {FIRST.partition_key}
    assert len(begun.told()) == 1
    begun.log(begun.read(mine[0], hours=10.2))
    assert begun.look(hours=11).passed
    assert begun.told() == []
    assert begun.receipts().keys() == {FIRST.partition_key, SECOND.partition_key}


def test_how_long_it_may_take_is_a_setting(begun: Receipts) -> None:
    """ALERT_STALE_HOURS, and six more in which the log may come."""
    begun.collect(FIRST)
    begun.log(begun.others(9.5))
    assert begun.look(hours=10, ALERT_STALE_HOURS="5").passed
    assert not begun.look(hours=10, ALERT_STALE_HOURS="3").passed


@pytest.mark.parametrize(
    "what",
    [
        {"requester": WRITER},
        {"sent": 10},
        {"status": 206, "sent": 10},
        {"status": 403, "error": "AccessDenied", "sent": 200},
        {"operation": "REST.HEAD.OBJECT"},
        {"bucket": "another"},
    ],
    ids=str,
)
def test_what_is_no_whole_read_by_the_reader_is_no_receipt(begun: Receipts, what: dict[str, Any]) -> None:
    """Not our own read, not one that ended early, not a refusal."""
    keys = begun.collect(FIRST)
    begun.log(*(begun.read(key, **what) for key in keys))
    begun.look()
    assert begun.receipts() == {}


def test_lines_may_come_late_twice_out_of_order_and_among_malformed_ones(begun: Receipts) -> None:
    """Over several looks; the parts of an object count together, and a part that comes twice counts once."""
    first, *rest = begun.collect(FIRST)
    size = begun.read(first).size
    half = begun.read(first, status=206, sent=size - size // 2, request_id="HALF")
    begun.log("no line of a log", *(begun.read(key) for key in reversed(rest)), half)
    begun.log(half)
    seen = begun.look()
    assert seen.metadata["access_log_malformed"].value == 1
    assert begun.receipts() == {}
    begun.log(half)
    begun.look(hours=1)
    assert begun.receipts() == {}
    begun.log(begun.read(first, hours=0.1, status=206, sent=size // 2))
    begun.look(hours=5)
    assert begun.receipts().keys() == {FIRST.partition_key}


def test_reads_that_are_logged_before_the_window_is_reported_count(begun: Receipts) -> None:
    """A run over a long range reports its windows when SecOps has read their objects already."""
    with dg.DagsterInstance.ephemeral() as unheard:
        project = Project(definitions=begun.build(), instance=unheard)
        assert project.run("audit_logs", Span(FIRST.start, FIRST.end)).success
    begun.log(*(begun.read(key) for key in begun.bucket.stored()))
    begun.look()
    assert begun.receipts() == {}
    begun.collect(FIRST)
    begun.look()
    assert begun.receipts().keys() == {FIRST.partition_key}


def test_a_window_that_gets_more_later_is_awaited_again_for_what_is_new(begun: Receipts) -> None:
    """A redelivery writes new objects: the receipt is complete again with their reads alone."""
    before = begun.collect(FIRST)
    begun.log(*(begun.read(key) for key in before))
    begun.look()
    new = set(begun.collect(FIRST, redeliver=True)) - set(before)
    assert new
    again = begun.look()
    assert again.metadata["secops_windows_awaited"].value == 1
    begun.log(*(begun.read(key, hours=2) for key in new))
    assert begun.look(hours=3).metadata["secops_windows_awaited"].value == 0
    (receipt,) = begun.receipts().values()
    assert set(receipt["secops_read_objects"]) == {*before, *new}


def test_a_window_that_is_collected_again_without_anything_new_is_not_awaited(begun: Receipts) -> None:
    """Nothing was delivered, so nothing is to be read."""
    begun.log(*(begun.read(key) for key in begun.collect(FIRST)))
    begun.look()
    begun.collect(FIRST)
    assert begun.look().metadata["secops_windows_awaited"].value == 0


def test_what_the_feed_deletes_after_its_read_still_gets_a_receipt(receipts: Receipts) -> None:
    """The ledger names it, and the log its read, although it is gone before anybody looks."""
    receipts.look(hours=(FIRST.end - time.time()) / HOUR)
    keys = receipts.collect(FIRST)
    reads = [receipts.read(key) for key in keys]
    receipts.bucket.delete(keys)
    assert receipts.look().metadata["secops_windows_awaited"].value == 1
    receipts.log(*reads)
    receipts.look()
    assert receipts.receipts().keys() == {FIRST.partition_key}


def test_what_was_delivered_before_is_not_awaited(receipts: Receipts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody logged its reads: no alarm for what nobody can know, also where its window is collected once more."""
    receipts.collect(FIRST)
    receipts.look()
    assert receipts.look().metadata["secops_windows_awaited"].value == 0
    monkeypatch.setattr(receipt_check, "CLOCKS_APART", -HOUR)  # as if the objects had been there for an hour
    receipts.collect(FIRST)
    assert receipts.look().metadata["secops_windows_awaited"].value == 0


def test_a_log_that_stops_is_told_as_that(begun: Receipts) -> None:
    """And not as objects that nobody has read."""
    begun.collect(FIRST)
    verdict = begun.look(hours=10)
    assert not verdict.passed
    assert (verdict.description or "").startswith(
        f"The access log under s3://{begun.bucket.store.bucket}/{begun.logs} has no"
    )


def test_a_reader_that_reads_nothing_while_others_do_is_told_as_that(begun: Receipts) -> None:
    """SECOPS_READER may be wrong: who reads is named."""
    keys = begun.collect(FIRST)
    begun.log(*(begun.read(key, requester=WRITER) for key in keys), begun.others(9.5))
    said = begun.look(hours=10).description or ""
    assert f"{ROLE} has read nothing at all, while {WRITER.rpartition('/')[0]} did" in said
    assert "See whether SECOPS_READER is right" in said


def test_a_reader_that_is_refused_is_told_at_once(begun: Receipts) -> None:
    """With what it needs; and it is over with the next look."""
    keys = begun.collect(FIRST)
    begun.log(begun.read(keys[0], status=403, error="AccessDenied", sent=200))
    verdict = begun.look()
    assert not verdict.passed
    assert "S3 refused 1 request of the reader: give it s3:GetObject" in (verdict.description or "")
    assert begun.look().passed


def test_a_log_in_another_form_is_told(begun: Receipts) -> None:
    """Such as JSON, or what somebody else writes there."""
    begun.log('{"bucket_name": "acme-zendesk"}')
    verdict = begun.look()
    assert "1 of 1 lines under" in (verdict.description or "")


def test_what_nobody_reads_for_a_week_is_awaited_no_longer(begun: Receipts) -> None:
    """S3 may have lost the line: an alarm that never ends is none."""
    begun.collect(FIRST)
    begun.log(begun.others(24 * 6.9))
    assert not begun.look(hours=24 * 6.99).passed
    begun.log(begun.others(24 * 7.01))
    after = begun.look(hours=24 * 7.02)
    assert after.passed
    assert after.metadata["secops_windows_awaited"].value == 0


@pytest.mark.parametrize("missing", ["SECOPS_ACCESS_LOGS", "SECOPS_READER"])
def test_without_the_settings_nobody_looks_and_that_is_said(receipts: Receipts, missing: str) -> None:
    """One sentence; where somebody looked before, told for an hour."""
    without: dict[str, Any] = {missing: ""}
    verdict = receipts.look(**without)
    assert verdict.passed
    assert verdict.description == f"Receipts are not looked for: {missing} is not set."
    receipts.look()
    gone = receipts.look(**without)
    assert not gone.passed
    assert "were looked for until an hour ago" in (gone.description or "")
    assert receipts.look(**without).passed


def test_where_the_log_cannot_be_read_what_is_known_stays(begun: Receipts) -> None:
    """And that it could not be looked at is told."""
    keys = begun.collect(FIRST)
    begun.look()
    broken = begun.look(SECOPS_ACCESS_LOGS="s3://no-such-bucket-here/logs/")
    assert not broken.passed
    assert "no-such-bucket-here" in (broken.description or "")
    begun.log(*(begun.read(key) for key in keys))
    begun.look()
    assert begun.receipts().keys() == {FIRST.partition_key}


def test_a_look_reads_each_log_object_once(begun: Receipts) -> None:
    """However often it looks: what was read is remembered."""
    begun.collect(FIRST)
    begun.log(begun.others(0))
    assert begun.look().metadata["access_log_objects"].value == 1
    assert begun.look().metadata["access_log_objects"].value == 0
    begun.log(begun.others(0))
    assert begun.look().metadata["access_log_objects"].value == 1


def test_windows_wait_for_their_turn_where_many_are_awaited(begun: Receipts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, and nothing is forgotten: the next is taken up when there is room."""
    monkeypatch.setattr(receipt_check, "MOST_WINDOWS", 1)
    keys = begun.collect(FIRST, SECOND)
    assert begun.look().metadata["secops_windows_awaited"].value == 1
    begun.log(*(begun.read(key) for key in keys))
    for _ in range(2):
        begun.look()
    assert begun.receipts().keys() == {FIRST.partition_key, SECOND.partition_key}


def test_objects_of_any_form_are_awaited_by_their_stored_size(receipts: Receipts) -> None:
    """Pages, compressed: what the ledger says is what S3 sends."""
    receipts.environment.update(OUTPUT_FORMAT="page", COMPRESSION="gzip")
    receipts.look()
    keys = receipts.collect(FIRST)
    assert all(key.endswith(".json.gz") for key in keys)
    receipts.log(*(receipts.read(key) for key in keys))
    receipts.look()
    assert receipts.receipts().keys() == {FIRST.partition_key}
