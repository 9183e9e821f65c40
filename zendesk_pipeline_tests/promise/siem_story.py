"""To the SIEM and back, told by a command: `python -m zendesk_pipeline_tests.promise.siem_story`.

Four things go wrong between the bucket and SecOps, one after another, while everything is green on this side: the feed
stops, one object is never read, the feed reads again what it has read, and Google puts another parser in place. Each
hour the job `feed_inspection` and the alert sensor run as they are; the clock of both is moved by hand. SecOps is a
stand-in over HTTP, Zendesk is simulated, S3 is SeaweedFS, its access log is written here, and alerts go to a webhook.

Two clocks cannot be moved: S3's, so all is delivered at the beginning; and that of Dagster's database, by which
messages count since when a check fails: their `Since` is the beginning of the story.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import dagster as dg

from zendesk_pipeline.alerts.sensor import AlertChannels, alert_sensor
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests import engines, read_once
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.access_log import ROLE, WRITER, Request, partitioned, written
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering
from zendesk_pipeline_tests.fakes.secops_server import CODE, LOG_TYPE, OLD_CODE, SecopsServer, secops
from zendesk_pipeline_tests.promise.kept_runs import home
from zendesk_pipeline_tests.promise.time_lapse import dagsters_time
from zendesk_pipeline_tests.runs import Project

BEGIN = int(datetime(2026, 11, 12, tzinfo=UTC).timestamp())
WINDOWS = Span(BEGIN, BEGIN + 3 * HOUR)
ACCOUNT = ("--since", timestamp(BEGIN), "--now", timestamp(BEGIN + 48 * HOUR))
CHECKS = ("secops_reads", "secops_receipts", "secops_counts", "secops_parser")
MOST_UNNOTICED = 10
"""Records by which the counts may differ: an object of no more is found by its receipt alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What the webhook received."""

    title: str
    text: str


@dataclass(slots=True, kw_only=True)
class Story:
    """The pipeline, SecOps, and those who are alerted; `hours` from the beginning."""

    server: SecopsServer
    instance: dg.DagsterInstance
    bucket: Bucket
    webhook: ScriptedServer
    logs: str
    log_file: Path
    """Takes what Dagster prints."""
    say: Callable[[str], object]
    hours: float = 0.0
    cursor: str | None = None
    checks: list[tuple[str, bool]] = field(default_factory=list[tuple[str, bool]])
    """What has to hold, in words, and whether it does."""

    @property
    def now(self) -> float:
        return time.time() + self.hours * HOUR

    @property
    def holds(self) -> bool:
        return all(holds for _, holds in self.checks)

    def check(self, sentence: str, *, holds: bool) -> None:
        """Note whether something holds, and say so."""
        self.checks.append((sentence, holds))
        self.say(f"       {'yes' if holds else 'NO '} {sentence}")

    def messages(self) -> list[Message]:
        """Everything that was sent so far."""
        bodies: list[dict[str, Any]] = [json.loads(each.body) for each in self.webhook.received]
        return [Message(title=body["title"], text=body["message"]) for body in bodies]

    def note(self, what: str) -> None:
        """A line of the timeline."""
        self.say(f"{self.hours:4g} h  {what}")

    # What happens at SecOps

    def reads(self, *keys: str, again: bool = False) -> None:
        """The feed reads objects: S3 logs it, SecOps counts it. What is read again shows in the counts alone here."""
        if not again:
            self.log(*(self._read(key) for key in keys))
        self.server.ingests(sum(self.records(key) for key in keys), at=self.now)

    def log(self, *requests: Request) -> None:
        """An object of the access log comes."""
        self.bucket.put(partitioned(self.logs, self.bucket.store.bucket, time.time()), written(requests))

    def records(self, key: str) -> int:
        return self.bucket.body(key).count(b"\n")

    def _read(self, key: str) -> Request:
        where = self.bucket.store.bucket
        size = len(self.bucket.store.client.get_object(Bucket=where, Key=key)["Body"].read())
        return Request(bucket=where, key=key, at=self.now, size=size)

    # What happens here

    def deliver(self) -> list[str]:
        """A run collects the windows; the keys of their objects."""
        with self._quietly():
            ran = Project(definitions=build(settings.load()), instance=self.instance).run("audit_logs", WINDOWS)
        self.check(f"{len(WINDOWS)} windows are delivered", holds=ran.success)
        return self.bucket.stored()

    def look(self, hours: float) -> Mapping[str, dg.AssetCheckEvaluation]:
        """So many hours later: the hourly job, then the alert sensor; what each check says."""
        self.hours += hours
        self.log(self._other_request())
        for feed in self.server.feeds:
            if feed["state"] == "SUCCEEDED":
                feed["lastFeedInitiationTime"] = datetime.fromtimestamp(self.now, UTC).isoformat()
        clock = Clock(now=lambda: self.now)
        base = build(settings.load(), clock)
        seen = len(self.webhook.received)
        with self._quietly():
            result = base.resolve_job_def("feed_inspection").execute_in_process(instance=self.instance)
            self._alert(base, clock)
        for message in self.messages()[seen:]:
            self.note(f"message: {message.title}")
            for line in message.text.splitlines():
                self.say(f"            {line}")
        return {each.check_name: each for each in result.get_asset_check_evaluations()}

    @contextmanager
    def _quietly(self) -> Generator[None]:
        """Dagster goes by the story's clock, and prints into a file."""
        with self.log_file.open("a") as log, redirect_stderr(log), dagsters_time(lambda: self.now):
            yield

    def _alert(self, base: dg.Definitions, clock: Clock) -> None:
        """A tick of the alert sensor that watches the checks; of windows, which do not go on here, others tell."""
        sensor = alert_sensor([], ui_url="", clock=clock)
        checks = dg.Definitions(
            assets=base.assets, asset_checks=base.asset_checks, resources=base.resources, sensors=[sensor]
        )
        result: Any = sensor(
            dg.build_sensor_context(
                instance=self.instance,
                cursor=self.cursor,
                repository_def=checks.get_repository_def(),
                resources={"alert_channels": AlertChannels(urls=os.environ["ALERT_URLS"])},
            )
        )
        self.cursor = result.cursor

    def _other_request(self) -> Request:
        """One that is in the log whatever the reader does: it shows how far the log has come."""
        key = f"{self.bucket.layout.state}account.json"
        return Request(bucket=self.bucket.store.bucket, key=key, at=self.now, size=40, requester=WRITER)

    # An act

    def goes_wrong(self, check: str, sentence: str, remedy: str, *, after: float, still: float = 1) -> None:
        """The check fails so many hours later, and one message tells of it with the remedy, however long it lasts."""
        before = len(self.messages())
        verdicts = self.look(after)
        said = verdicts[check].description or ""
        self.note(f"{check}: {said}")
        self.check(f"{check} fails: {sentence}", holds=not verdicts[check].passed and sentence in said)
        others = [name for name in CHECKS if name != check and not verdicts[name].passed]
        self.check("the other three pass", holds=not others)
        lasting = self.look(still)
        told = self.messages()[before:]
        self.check(
            f"later it still fails, and one message was sent, with the remedy: {remedy}",
            holds=not lasting[check].passed and len(told) == 1 and check in told[0].text and remedy in told[0].text,
        )

    def is_solved(self, check: str, *, after: float) -> None:
        """The check passes so many hours later, and one message says that it is over."""
        before = len(self.messages())
        verdicts = self.look(after)
        self.note(f"{check}: {verdicts[check].description}")
        self.look(1)
        told = self.messages()[before:]
        self.check("all four pass", holds=all(verdicts[name].passed for name in CHECKS))
        self.check(
            "one message says that it is solved",
            holds=len(told) == 1 and "SOLVED after" in told[0].text and f"{check} passes again" in told[0].text,
        )


def tell(told: Story) -> None:
    """The four acts."""
    bucket, server = told.bucket, told.server
    feed = server.holds(f"s3://{bucket.store.bucket}/{bucket.layout.feed}", displayName="Zendesk CRM")
    verdicts = told.look(0)
    told.check("at the beginning all four pass", holds=all(verdicts[name].passed for name in CHECKS))
    keys = told.deliver()
    unread = min(keys, key=told.records)
    told.check(f"one object has no more than {MOST_UNNOTICED} records", holds=told.records(unread) <= MOST_UNNOTICED)

    told.note("The feed stops: the key may not list the bucket any more.")
    denied = {"errorCode": "ACCESS_DENIED", "httpErrorCode": 403, "errorCause": "The key may not list the bucket."}
    feed.update(state="FAILED", failureDetails=denied)
    told.goes_wrong("secops_reads", "FAILED ACCESS_DENIED", "give the reader s3:GetObject and s3:ListBucket", after=1)
    told.note("The reader gets its rights back, and reads what waits; but for one object.")
    feed.update(state="SUCCEEDED")
    feed.pop("failureDetails")
    told.reads(*(key for key in keys if key != unread))
    told.is_solved("secops_reads", after=0.5)

    told.note("That object is never read: of the counts it is too small a part.")
    told.goes_wrong("secops_receipts", "No read seen of 1 object of audit_logs", "send again", after=7)
    told.note("It is read.")
    told.reads(unread)
    told.is_solved("secops_receipts", after=0.5)

    told.note("The feed reads again what it has read.")
    told.reads(*keys, again=True)
    told.look(0.5)  # what is under way is no difference: it is told at the second look
    told.goes_wrong("secops_counts", "so some are there twice", "second feed reads the prefix", after=1)
    told.note("It does so no more; a day later the count begins anew.")
    told.is_solved("secops_counts", after=26)

    told.note("Google puts a parser in place that does not recognise the records.")
    before, after = ({"name": f"{LOG_TYPE}/parsers/{name}", "type": "PREBUILT"} for name in ("pa_now", "pa_next"))
    server.parsers = [{**before, "state": "INACTIVE", "cbn": OLD_CODE}, {**after, "state": "ACTIVE", "cbn": CODE}]
    server.understands = "pages"
    told.goes_wrong("secops_parser", "recognises 0 of 3 sample records", "pin the version before", after=24)
    told.note("The version before is pinned.")
    server.parsers = [{**before, "state": "ACTIVE", "cbn": CODE}, {**after, "state": "INACTIVE", "cbn": OLD_CODE}]
    server.understands = "records"
    told.is_solved("secops_parser", after=24)

    told.check("SecOps was read, and nothing in it was changed", holds=not _changes(server))
    told.check("eight messages in all: each fault once, each cure once", holds=len(told.messages()) == 2 * len(CHECKS))


def _changes(server: SecopsServer) -> list[str]:
    return [each.path for each in server.changes() if not each.path.endswith(":runParser")]


@contextmanager
def story(
    folder: Path, zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout, say: Callable[[str], object]
) -> Generator[Story]:
    """A story that has not begun; the process lives in its environment meanwhile."""
    logs = f"{layout.feed.partition('/')[0]}/logs/"
    with secops() as server, answering(Reply(b"ok")) as webhook:
        environment = {
            **zendesk.environment,
            **s3.environment,
            **server.environment(folder),
            "S3_PREFIX": layout.feed,
            "STATE_PREFIX": layout.state,
            "QUARANTINE_PREFIX": layout.quarantine,
            "START_DATE": timestamp(BEGIN),
            "RESOURCES": "audit_logs",
            "BATCH_BYTES": "4096",
            "SECOPS_ACCESS_LOGS": f"s3://{s3.bucket}/{logs}",
            "SECOPS_READER": ROLE,
            "ALERT_URLS": f"json://{webhook.url.removeprefix('http://')}/",
        }
        store = Store(client=s3.client(), bucket=s3.bucket, encryption={})
        with (
            patch.dict(os.environ, environment),
            dg.DagsterInstance.from_config(str(home(folder / "dagster"))) as instance,
        ):
            yield Story(
                server=server,
                instance=instance,
                bucket=Bucket(store=store, layout=layout),
                webhook=webhook,
                logs=logs,
                log_file=folder / "dagster.log",
                say=say,
            )


@click.command()
def main() -> None:
    """Tell what goes wrong between the bucket and SecOps; exit status 1 unless each is told once, and solved."""
    local.forget_account()
    read_once.from_now_on()
    engines.keep(connected=True)
    layout = Layout(feed="siem/crm/", state="siem/state/", quarantine="siem/long/")
    with (
        tempfile.TemporaryDirectory() as name,
        local_s3(Path(name)) as s3,
        simulated_zendesk(Path(name), *ACCOUNT) as zendesk,
        story(Path(name), zendesk, s3, layout, click.echo) as told,
    ):
        tell(told)
    click.echo("Each was told once, and solved." if told.holds else "It did not end well.")
    sys.exit(0 if told.holds else 1)


if __name__ == "__main__":
    main()
