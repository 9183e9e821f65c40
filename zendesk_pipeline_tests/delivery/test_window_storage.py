"""What is there already under the key that a batch has."""

import gzip
from dataclasses import replace

from zendesk_pipeline_tests.by_hand import FIRST, audit_logs, hours, lines
from zendesk_pipeline_tests.deliveries import Deliveries, fresh, holds_once, without_ledgers
from zendesk_pipeline_tests.fakes.s3_wire import Wire, refusal

SPAN = hours(3)
RECORDS = audit_logs(SPAN)


def test_what_lies_at_our_very_name_is_compared(deliveries: Deliveries) -> None:
    """Other bytes under the key that a batch has are said, and the batch goes beside them under the next number."""
    elsewhere = replace(deliveries, bucket=fresh(deliveries.bucket))
    elsewhere.records(SPAN, RECORDS)
    there, here = elsewhere.bucket, deliveries.bucket
    taken = [key.replace(there.layout.feed, here.layout.feed) for key in there.stored()]
    for key in taken:
        here.put(key, b"{}\n")
    deliveries.records(SPAN, RECORDS)
    own = {key: body for key, body in here.feed().items() if key not in taken}
    assert sorted(line for body in own.values() for line in body.split(b"\n")[:-1]) == lines(RECORDS)
    assert [key for key in taken if not any(key in text for text in deliveries.warnings)] == []


def test_what_was_compressed_elsewhere_is_the_same(deliveries: Deliveries) -> None:
    """A batch that lies there in another compression is ours: its content counts, and its ledger says its own size."""
    deliveries = deliveries.formed(compress=True)
    deliveries.records(hours(1), RECORDS[:6])
    bucket = deliveries.bucket
    stored = {key: gzip.compress(body, 1, mtime=0) for key, body in bucket.feed().items()}
    without_ledgers(bucket)
    for key, body in stored.items():
        bucket.put(key, body)
    refused = iter([refusal(403, "AccessDenied")])
    Wire(bucket.store.client, fault=lambda sent, _: next(refused, None) if sent.operation == "ListObjectsV2" else None)
    deliveries.records(hours(1), RECORDS[:6])
    assert {each["key"]: each["bytes"] for each in bucket.ledger(FIRST)["objects"]} == {
        key: len(body) for key, body in stored.items()
    }
    assert holds_once(bucket, RECORDS[:6])
