"""Objects of the feed that no ledger names: of a crash, of a run that is still at work, of somebody else."""

from dataclasses import replace

import pytest

from zendesk_pipeline.delivery.batches import LONGEST_LINE, encode
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours, lines
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries, holds_once, without_ledgers
from zendesk_pipeline_tests.fakes.s3_wire import Wire, denying

SPAN = hours(3)
RECORDS = audit_logs(SPAN)


def test_an_object_written_by_another_run_is_taken_up(deliveries: Deliveries) -> None:
    """Whoever wrote it: an object under a key of ours holds delivered records, and its number is not used again."""
    body = b"".join(record.line + b"\n" for record in RECORDS[:2])
    key = deliveries.bucket.layout.batch("audit_logs", FIRST, 1, encode(body, compress=False).sha256, ".json")
    deliveries.bucket.put(key, body)
    deliveries.records(SPAN, RECORDS)
    assert holds_once(deliveries.bucket, RECORDS)
    named = [each["key"] for each in deliveries.bucket.ledger(FIRST)["objects"]]
    numbers = [deliveries.bucket.layout.sequence(each, "audit_logs", FIRST) for each in named]
    assert key in named
    assert len(set(numbers)) == len(named) > 1


@pytest.mark.parametrize("found", range(3))
def test_the_rest_of_what_another_run_writes_is_made_alike(deliveries: Deliveries, found: int) -> None:
    """Where an object of a run that is still at work is found, the others come out under its keys: none is repeated."""
    sizes = ("short", "short", "long" * 70, "short")
    records = [audit_log(number, FIRST.start + number, text) for number, text in enumerate(sizes)]
    deliveries.records(hours(1), records)
    keys = without_ledgers(deliveries.bucket)
    assert len(keys) == 3
    deliveries.bucket.delete(key for key in keys if key != keys[found])
    deliveries.records(hours(1), records)
    assert deliveries.bucket.stored() == keys


def test_foreign_files_in_the_feed_are_left_alone(deliveries: Deliveries) -> None:
    """Files of others below the feed prefix are neither read nor touched."""
    foreign = f"{deliveries.bucket.layout.day(FIRST)}050000-zendesk-audit_logs.json"
    deliveries.bucket.put(foreign, b'{"audit_logs":[]}')
    deliveries.records(SPAN, RECORDS)
    assert deliveries.bucket.body(foreign) == b'{"audit_logs":[]}'
    assert foreign not in {each["key"] for window in SPAN for each in deliveries.bucket.ledger(window)["objects"]}


def test_an_object_of_another_account_counts_for_nothing(deliveries: Deliveries) -> None:
    """Two accounts that share a feed prefix by mistake hold back none of each other's records; the runs say so."""
    sandbox, production = (replace(deliveries, account=f"{name}.zendesk.com") for name in ("sandbox", "production"))
    sandbox.records(SPAN, RECORDS)
    without_ledgers(deliveries.bucket)
    own = [audit_log(int(record.identity), record.time, "in production") for record in RECORDS]
    production.records(SPAN, own)
    assert deliveries.bucket.lines() == sorted(lines(RECORDS) + lines(own))
    assert any("holds records of sandbox.zendesk.com" in text for text in deliveries.warnings)
    replace(deliveries, account="production.zendesk.com").records(SPAN, own)
    assert deliveries.bucket.lines() == sorted(lines(RECORDS) + lines(own))


OURS = b"".join(record.line + b"\n" for record in RECORDS[:3])
FORGERIES: dict[str, tuple[bytes, str]] = {
    "another digest": (OURS, "holds other bytes than its name says"),
    "another hour": (b"".join(record.line + b"\n" for record in RECORDS[6:8]), "holds records of another window"),
    "a record five times": ((RECORDS[0].line + b"\n") * 5, "holds a record twice"),
    "no line end": (RECORDS[0].line, "does not end with a line end"),
    "a line no feed takes": (
        audit_log(int(RECORDS[0].identity), FIRST.start, "x" * LONGEST_LINE).line + b"\n",
        "has a line that is too long for the feed",
    ),
    "no records": (b"<html></html>\n", "holds something that is no record"),
}


def _forged(bucket: Bucket, kind: str) -> str:
    """Somebody puts an object under a name of ours; its digest is right, unless that is what is wrong."""
    content, _ = FORGERIES[kind]
    digest = "0" * 64 if kind == "another digest" else encode(content, compress=False).sha256
    key = bucket.layout.batch("audit_logs", FIRST, 0, digest, ".json")
    bucket.put(key, content)
    return key


@pytest.mark.parametrize("kind", FORGERIES)
def test_what_is_not_ours_counts_for_nothing(deliveries: Deliveries, kind: str) -> None:
    """Digest, window and form are compared before an unnamed object counts: it holds no record back, and is named."""
    bucket = deliveries.bucket
    forged = _forged(bucket, kind)
    for _ in range(2):
        deliveries.records(SPAN, RECORDS)
    own = {key: body for key, body in bucket.feed().items() if key != forged}
    assert sorted(line for body in own.values() for line in body.split(b"\n")[:-1]) == lines(RECORDS)
    assert bucket.body(forged) == FORGERIES[kind][0]
    assert [each["key"] for each in bucket.ledger(FIRST)["objects"]] == sorted(key for key in own if "/05" in key)
    assert bucket.complete(SPAN) == [True] * 3
    assert len(deliveries.warnings) == 2
    assert all(forged in text and FORGERIES[kind][1] in text for text in deliveries.warnings)


def test_an_object_that_may_not_be_read_is_warned_of(deliveries: Deliveries) -> None:
    """With the right to list the feed but not to read it an unnamed object is warned of by name."""
    deliveries.records(SPAN, RECORDS)
    keys = without_ledgers(deliveries.bucket)
    Wire(deliveries.bucket.store.client, fault=denying("GetObject", within=deliveries.bucket.layout.feed))
    deliveries.records(SPAN, RECORDS)
    assert [key for key in keys if not any(key in warning for warning in deliveries.warnings)] == []
