"""The demo's proof: it holds for what is right, and finds each kind of wrong."""

from datetime import datetime

import msgspec
import pytest

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, Proof, prove
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span, Window

START = int(datetime.fromisoformat("2026-11-13T06:00:00Z").timestamp())
SPAN = Span(START, START + 2 * HOUR)


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(stream=INCREMENTAL_TICKETS, store=store, layout=layout)


@pytest.fixture
def records(zendesk: SimulatedZendesk) -> dict[Window, list[bytes]]:
    """What Zendesk shows in each window."""
    control = zendesk.control
    return {window: control.source(INCREMENTAL_TICKETS.name, window.start, window.end) for window in SPAN}


def _deliver(bucket: Bucket, window: Window, lines: list[bytes], sequence: int = 0) -> None:
    """An object with these lines, and a ledger that says the window is complete."""
    key = bucket.layout.batch(bucket.stream.name, window, sequence, f"{sequence:032x}", ".json")
    body = b"".join(line + b"\n" for line in lines)
    bucket.store.client.put_object(Bucket=bucket.store.bucket, Key=key, Body=body)
    complete = msgspec.structs.replace(ledgers.empty(bucket.stream.name, window), complete=True)
    ledger = bucket.layout.ledger(bucket.stream.name, window)
    bucket.store.client.put_object(Bucket=bucket.store.bucket, Key=ledger, Body=ledgers.encode(complete))


def _proof(bucket: Bucket, zendesk: SimulatedZendesk) -> Proof:
    return prove(bucket, SPAN, zendesk.control)


def test_it_holds_for_every_record_once_in_its_window(
    bucket: Bucket, zendesk: SimulatedZendesk, records: dict[Window, list[bytes]]
) -> None:
    """All that Zendesk shows, each line in the object of its window, nothing else."""
    for window, lines in records.items():
        _deliver(bucket, window, lines)
    proof = _proof(bucket, zendesk)
    assert proof.holds
    assert proof.in_s3 == proof.at_source == sum(map(len, records.values())) > 0
    assert (proof.objects, proof.complete, proof.windows) == (2, 2, 2)


def test_it_finds_what_is_wrong(bucket: Bucket, zendesk: SimulatedZendesk, records: dict[Window, list[bytes]]) -> None:
    """A record that lacks or differs by a byte, one that is there twice, one of nobody's, one in the wrong window."""
    first, second = SPAN
    lacking, altered, twice, elsewhere, *rest = records[first]
    _deliver(bucket, first, [altered.replace(b'"url":', b'"url": ', 1), twice, *rest])
    _deliver(bucket, first, [twice], sequence=1)
    _deliver(bucket, second, [*records[second], elsewhere])
    proof = _proof(bucket, zendesk)
    assert not proof.holds
    assert lacking != altered
    assert (proof.missing, proof.repeated, proof.foreign, proof.misplaced) == (2, 1, 1, 1)


def test_a_window_that_is_not_complete_fails_it(
    bucket: Bucket, zendesk: SimulatedZendesk, records: dict[Window, list[bytes]]
) -> None:
    """All the records may be there: as long as no ledger says so, a window does not count."""
    for window, lines in records.items():
        _deliver(bucket, window, lines)
    bucket.store.client.delete_object(
        Bucket=bucket.store.bucket, Key=bucket.layout.ledger(bucket.stream.name, Window(START))
    )
    proof = _proof(bucket, zendesk)
    assert (proof.missing, proof.complete, proof.holds) == (0, 1, False)


def test_a_state_that_was_replaced_since_is_right(
    bucket: Bucket, zendesk: SimulatedZendesk, records: dict[Window, list[bytes]]
) -> None:
    """A ticket that changes after its window was read leaves an old state in S3; one before it is never seen."""
    for window, lines in records.items():
        _deliver(bucket, window, lines)
    before = _proof(bucket, zendesk)
    ticket = msgspec.json.decode(records[Window(START)][0])
    later = {**ticket, "generated_timestamp": SPAN.end + HOUR}
    zendesk.control.add_records(INCREMENTAL_TICKETS.name, [msgspec.json.encode(later)])
    proof = _proof(bucket, zendesk)
    assert proof.holds
    assert (proof.replaced, proof.unseen) == (before.replaced + 1, before.unseen)
    assert (proof.at_source, proof.in_s3) == (before.at_source - 1, before.in_s3)


def test_streams_are_told_apart(bucket: Bucket, zendesk: SimulatedZendesk, records: dict[Window, list[bytes]]) -> None:
    """Objects of the other stream, in the same folder of the feed, are none of this one's."""
    for window, lines in records.items():
        _deliver(bucket, window, lines)
    other = Bucket(stream=AUDIT_LOGS, store=bucket.store, layout=bucket.layout)
    assert other.objects(SPAN) == []
    assert prove(other, SPAN, zendesk.control).missing > 0
    assert prove(other, SPAN, zendesk.control).in_s3 == 0
