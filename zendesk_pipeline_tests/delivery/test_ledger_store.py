"""Ledgers that other runs replace, that are damaged, and that may not be read."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from botocore.awsrequest import AWSResponse

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.ledger_store import RACES
from zendesk_pipeline.model.errors import DeliveryError, DeniedError
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline_tests.by_hand import FIRST, audit_logs, hours, lines, paged
from zendesk_pipeline_tests.deliveries import Deliveries, holds_once
from zendesk_pipeline_tests.fakes.s3_wire import Sent, Wire, denying, refusal

SECOND = Window(FIRST.end)
SPAN = hours(3)
RECORDS = audit_logs(SPAN)


def test_a_ledger_that_another_run_wrote_in_between_is_merged(deliveries: Deliveries) -> None:
    """A lost race for the ledger loses no entry: what both runs delivered is in it, and both count as delivered."""
    other = replace(deliveries, bucket=replace(deliveries.bucket, store=replace(deliveries.bucket.store)))
    mine, theirs = RECORDS[:3], RECORDS[3:6]
    with deliveries.delivery(hours(1)) as delivery:
        delivery.take(paged(mine)[0])
        other.records(hours(1), theirs)
    assert len(deliveries.bucket.ledger(FIRST)["objects"]) == 2
    assert holds_once(deliveries.bucket, RECORDS[:6])
    deliveries.records(hours(1), RECORDS[:6])
    assert holds_once(deliveries.bucket, RECORDS[:6])


def test_a_ledger_deleted_in_between_is_written_anew(deliveries: Deliveries) -> None:
    """Where the ledger vanishes while a run works, the run's own knowledge becomes the new one."""
    deliveries.records(hours(1), RECORDS[:3])
    with deliveries.delivery(hours(1)) as delivery:
        delivery.take(paged(RECORDS[:6], 6)[0])
        deliveries.bucket.delete(deliveries.bucket.stored(deliveries.bucket.layout.state))
    assert len(deliveries.bucket.ledger(FIRST)["objects"]) == 2
    assert holds_once(deliveries.bucket, RECORDS[:6])


def test_a_race_without_end_is_an_error(deliveries: Deliveries) -> None:
    """Where others keep replacing a ledger the run gives up in words; what it stored is not repeated later."""

    def always_lost(sent: Sent, _: Callable[[], AWSResponse]) -> AWSResponse | None:
        lost = sent.operation == "PutObject" and sent.key.startswith(deliveries.bucket.layout.state)
        return refusal(412, "PreconditionFailed") if lost else None

    wire = Wire(deliveries.bucket.store.client, fault=always_lost)
    with pytest.raises(DeliveryError, match=f"other runs replaced its ledger {RACES} times"):
        deliveries.records(hours(1), RECORDS[:6])
    wire.fault = None
    deliveries.records(hours(1), RECORDS[:6])
    assert holds_once(deliveries.bucket, RECORDS[:6])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"not a ledger", id="foreign"),
        pytest.param(ledgers.encode(ledgers.empty("audit_logs", SECOND))[:-5], id="cut-off"),
        pytest.param(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x01garbage!", id="damaged"),
    ],
)
def test_a_ledger_that_cannot_be_read_stops_its_window(deliveries: Deliveries, content: bytes) -> None:
    """Without its ledger nothing is known of a window: nothing goes into it, and the error names the ledger."""
    key = deliveries.bucket.layout.ledger("audit_logs", SECOND)
    deliveries.bucket.put(key, content)
    with pytest.raises(DeliveryError, match=rf"the ledger s3://.*{key} cannot be read .*docs/delivery.md"):
        deliveries.records(SPAN, RECORDS)
    assert set(deliveries.bucket.lines()) <= set(lines(RECORDS[:6]))
    assert deliveries.bucket.stored(key) == [key]


def test_a_ledger_of_another_window_is_refused(deliveries: Deliveries) -> None:
    """A ledger that was copied to another key says of which window it is: it is not believed for this one."""
    deliveries.records(hours(1), RECORDS[:6])
    (held,) = deliveries.bucket.stored(deliveries.bucket.layout.state)
    body = deliveries.bucket.store.client.get_object(Bucket=deliveries.bucket.store.bucket, Key=held)["Body"].read()
    deliveries.bucket.put(deliveries.bucket.layout.ledger("audit_logs", SECOND), body)
    with pytest.raises(DeliveryError, match="cannot be read"):
        deliveries.records(hours(1, skip=1), RECORDS[6:12])
    assert holds_once(deliveries.bucket, RECORDS[:6])


def test_a_ledger_that_may_not_be_read_stops_its_window(deliveries: Deliveries) -> None:
    """403 for a ledger that exists is an error that names the right that is missing, and nothing is delivered."""
    deliveries.records(SPAN, RECORDS[:2])
    Wire(deliveries.bucket.store.client, fault=denying("GetObject", within=deliveries.bucket.layout.state))
    with pytest.raises(DeniedError, match=r"s3:GetObject"):
        deliveries.records(SPAN, RECORDS)
    assert len(deliveries.bucket.lines()) == 2


def test_a_missing_ledger_may_be_answered_with_403(deliveries: Deliveries) -> None:
    """Without s3:ListBucket AWS answers 403 for a key that is not there: runs work all the same."""

    def as_without_list_bucket(sent: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
        answer = send() if sent.operation == "GetObject" else None
        return refusal(403, "AccessDenied") if answer and answer.status_code == 404 else answer

    Wire(deliveries.bucket.store.client, fault=as_without_list_bucket)
    for _ in range(2):
        deliveries.records(SPAN, RECORDS)
    assert holds_once(deliveries.bucket, RECORDS)
    assert deliveries.bucket.complete(SPAN) == [True] * 3
