"""What the UI shows of a window: docs/operations.md explains each name."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.model.windows import Window

Metadata = Mapping[str, Any]

MOST_OBJECTS_LISTED = 100


def window_metadata(window: Window, tally: Tally, *, bucket: str, ledger: str, redacted: bool, now: float) -> Metadata:
    """The metadata of a materialization.

    Args:
        window: The window.
        tally: What the run did for it.
        bucket: The bucket's name.
        ledger: The key of the window's ledger.
        redacted: Whether there are redaction rules.
        now: Seconds since the epoch, for a window that is not finished.
    """
    objects = [f"s3://{bucket}/{key}" for key in tally.objects]
    times = {"first_record": tally.first, "last_record": tally.last}
    return {
        "records": tally.total,
        "dagster/partition_row_count": tally.total,  # the same, where Dagster itself looks for it
        "bytes": tally.bytes,
        **({} if tally.raw_bytes is None else {"raw_bytes": tally.raw_bytes}),
        "object_count": len(objects),
        "delivered_by_this_run": tally.records,
        "duplicates_removed": tally.duplicates,
        "late_arrivals": tally.late,
        "quarantined": tally.quarantined,
        "older_than_asked": tally.older,
        "ahead_of_the_clock": tally.ahead,
        "malformed": tally.malformed,
        **({"malformed_records": dg.MetadataValue.json(tally.malformed_ones)} if tally.malformed else {}),
        **(_redactions(tally) if redacted else {}),
        "pages": tally.pages,
        "requests": tally.requests,
        "s3_puts": tally.s3.put,
        "s3_gets": tally.s3.get,
        "s3_lists": tally.s3.list,
        "rate_limit_wait_seconds": round(tally.waited, 3),
        "lag_seconds": round((tally.finished_at or now) - window.end, 1),
        **{name: dg.MetadataValue.timestamp(float(at)) for name, at in times.items() if at is not None},
        "ledger": f"s3://{bucket}/{ledger}",
        "objects": dg.MetadataValue.json(objects[:MOST_OBJECTS_LISTED]),
    }


def _redactions(tally: Tally) -> Metadata:
    """What the rules took away or replaced, in sum and by rule."""
    by_rule = dict(sorted(tally.redactions.items()))
    return {
        "redacted_records": tally.redacted,
        "redacted_values": tally.redactions.total(),
        "redacted_by_rule": dg.MetadataValue.json(by_rule),
    }
