"""What the feed cannot take: a record too long for a line."""

import pytest

from zendesk_pipeline.delivery.batches import LONGEST_LINE
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours
from zendesk_pipeline_tests.deliveries import FORMS, Deliveries, decoded, without_ledgers

SPAN = hours(3)
RECORDS = audit_logs(SPAN)


@FORMS
@pytest.mark.parametrize(
    "text",
    [pytest.param("ü" * 2_500_000, id="long-text"), pytest.param('"' * 2_500_000, id="escapes")],
)
def test_a_record_too_long_for_a_line_is_shortened_and_kept_whole(
    deliveries: Deliveries, text: str, changes: dict[str, bool]
) -> None:
    """The feed gets a marked line that it takes, with identity and time; the whole record lies in quarantine."""
    long = audit_log(1, FIRST.start + 5, text)
    deliveries = deliveries.formed(**changes)
    done = deliveries.records(hours(1), [*RECORDS[:2], long, *RECORDS[2:6]])
    quarantined = deliveries.bucket.stored(deliveries.bucket.layout.quarantine)
    assert [deliveries.bucket.body(key) for key in quarantined] == [long.line]
    assert max(len(line) for body in deliveries.bucket.feed().values() for line in body.split(b"\n")) <= LONGEST_LINE
    found = {record["id"]: record for body in deliveries.bucket.feed().values() for record in decoded(body)}
    assert found[1]["created_at"] == "2026-11-12T05:00:05Z"
    assert found[1]["zendesk_pipeline"]["whole"] == f"s3://{deliveries.bucket.store.bucket}/{quarantined[0]}"
    assert len(found) == 7
    assert done.tallies[FIRST].quarantined == 1
    assert quarantined[0] in deliveries.warnings[0]


def test_a_shortened_record_is_delivered_once(deliveries: Deliveries) -> None:
    """A shortened record counts as delivered: by the ledger, and after a crash by its own line."""
    long = audit_log(1, FIRST.start + 5, "x" * 5_000_000)
    deliveries.records(hours(1), [long])
    keys = without_ledgers(deliveries.bucket)
    for _ in range(2):
        deliveries.records(hours(1), [long])
    assert deliveries.bucket.stored() == keys
