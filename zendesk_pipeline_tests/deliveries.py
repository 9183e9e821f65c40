"""Deliveries of pages made by hand, and what lies in the bucket afterwards, read without the code under test."""

import gzip
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from zendesk_pipeline.delivery.batches import BatchFormat
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.window_writer import Delivery
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.records import Page, Record
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.streams import AUDIT_LOGS, Stream
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline_tests.by_hand import lines, paged

SMALL = BatchFormat(items="audit_logs", envelope=False, compress=False, limit=400)
"""Three of the audit logs made by hand fit into one object."""
FORMS = pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="ndjson"),
        pytest.param({"compress": True}, id="gzip"),
        pytest.param({"envelope": True}, id="page"),
        pytest.param({"envelope": True, "compress": True}, id="page-gzip"),
    ],
)
_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A place of a test's own in a real bucket."""

    store: Store
    layout: Layout

    def stored(self, prefix: str = "") -> list[str]:
        """The keys of the feed, or of another prefix."""
        found = self.store.client.list_objects_v2(Bucket=self.store.bucket, Prefix=prefix or self.layout.feed)
        return [entry.get("Key", "") for entry in found.get("Contents", [])]

    def body(self, key: str) -> bytes:
        """An object's content, decompressed."""
        body = self.store.client.get_object(Bucket=self.store.bucket, Key=key)["Body"].read()
        return gzip.decompress(body) if key.endswith(".gz") else body

    def feed(self) -> dict[str, bytes]:
        """Every object of the feed."""
        return {key: self.body(key) for key in self.stored()}

    def lines(self) -> list[bytes]:
        """Every line of the feed, sorted."""
        return sorted(line for body in self.feed().values() for line in body.split(b"\n")[:-1])

    def ledger(self, window: Window, stream: Stream = AUDIT_LOGS) -> dict[str, Any]:
        """What a window's ledger says; empty where there is none."""
        key = self.layout.ledger(stream.name, window)
        return json.loads(self.body(key)) if key in self.stored(self.layout.state) else {}

    def complete(self, span: Span) -> list[bool]:
        """Whether each window's ledger says so."""
        return [self.ledger(window).get("complete", False) for window in span]

    def put(self, key: str, body: bytes) -> None:
        """Write an object as somebody else would."""
        self.store.client.put_object(Bucket=self.store.bucket, Key=key, Body=body)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, as a feed does after their transfer."""
        for key in keys:
            self.store.client.delete_object(Bucket=self.store.bucket, Key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """Runs that deliver one stream into a bucket."""

    bucket: Bucket
    stream: Stream = AUDIT_LOGS
    form: BatchFormat = SMALL
    clock: Clock = field(default_factory=Clock)
    warnings: list[str] = field(default_factory=list[str])
    redaction: Redaction | None = None
    account: str = ""
    redelivery: str = ""

    def formed(self, **changes: Any) -> "Deliveries":
        """The same with another form of its objects."""
        return replace(self, form=replace(self.form, **changes))

    def delivery(self, span: Span, *, lookback: int = 0, redeliver: bool = False) -> Delivery:
        """One run, not yet under way."""
        job = DeliveryJob(
            stream=self.stream,
            span=span,
            lookback=lookback,
            store=self.bucket.store,
            layout=self.bucket.layout,
            form=self.form,
            redeliver=redeliver,
            clock=self.clock,
            warn=self.warnings.append,
            redaction=self.redaction,
            account=self.account,
            redelivery=self.redelivery,
        )
        return Delivery(job)

    def run(self, span: Span, pages: Iterable[Page], *, lookback: int = 0, redeliver: bool = False) -> Delivery:
        """One run from its first page to its last."""
        delivery = self.delivery(span, lookback=lookback, redeliver=redeliver)
        walk(delivery, pages)
        return delivery

    def records(self, span: Span, records: Sequence[Record], **arguments: Any) -> Delivery:
        """One run over records, a few a page."""
        return self.run(span, paged(records), **arguments)


def walk(delivery: Delivery, pages: Iterable[Page]) -> None:
    """Deliver the pages; raises what breaks the run."""
    with delivery:
        for page in pages:
            delivery.take(page)


def holds_once(bucket: Bucket, records: Iterable[Record]) -> bool:
    """Whether the feed holds each of the records once, and nothing else."""
    return bucket.lines() == lines(records)


def without_ledgers(bucket: Bucket) -> list[str]:
    """Delete every ledger, as if each run had died just before it wrote one; the keys that are left in the feed."""
    bucket.delete(bucket.stored(bucket.layout.state))
    return bucket.stored()


def decoded(content: bytes) -> list[Any]:
    """The records of an object in either format."""
    values = [msgspec.json.decode(line) for line in content.splitlines()]
    return [record for value in values for record in value.get("audit_logs", [value])]


def fresh(bucket: Bucket) -> Bucket:
    """A place that no earlier example has written to."""
    root = f"fresh-{next(_numbers)}/"
    return replace(bucket, layout=Layout(feed=f"{root}crm/", state=f"{root}state/", quarantine=f"{root}quarantine/"))
