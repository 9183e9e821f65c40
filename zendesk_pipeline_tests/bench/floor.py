"""The least that Dagster does for a range of windows: an asset with nothing to do, and metadata of the same size."""

from typing import Any

import dagster as dg

from zendesk_pipeline.orchestration.assets import hourly_windows
from zendesk_pipeline.settings import environment

START = environment.load().start_date
METADATA: dict[str, Any] = {
    **dict.fromkeys(("records", "bytes", "object_count", "delivered_by_this_run", "duplicates_removed"), 0),
    "dagster/partition_row_count": 0,
    **dict.fromkeys(
        (
            "late_arrivals",
            "quarantined",
            "older_than_asked",
            "ahead_of_the_clock",
            "malformed",
            "pages",
            "requests",
            "s3_puts",
            "s3_gets",
            "s3_lists",
        ),
        0,
    ),
    **dict.fromkeys(("rate_limit_wait_seconds", "lag_seconds"), 0.5),
    "ledger": f"s3://zendesk-raw/year-of-audit-logs/state/audit_logs/{START:%Y/%m/%d/%H}.json.gz",
    "objects": dg.MetadataValue.json([]),
}
"""That of an empty window."""


class Nowhere(dg.IOManager):
    """Stores nothing."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None: ...

    def load_input(self, context: dg.InputContext) -> None: ...


@dg.asset(
    deps=["before"],
    partitions_def=hourly_windows(START),
    backfill_policy=dg.BackfillPolicy.single_run(),
    io_manager_key="nowhere",
)
def nothing(context: dg.AssetExecutionContext) -> int:
    """The same metadata at each window."""
    context.add_output_metadata(METADATA)
    return 0


defs = dg.Definitions([nothing], resources={"nowhere": Nowhere()}, executor=dg.in_process_executor)
