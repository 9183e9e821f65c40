"""The names of Dagster's that are not public: those that this package uses are here, and in no other module.

Dagster promises nothing for them, so pyproject.toml bounds it below its next minor version. What a user would miss
without each one is in zendesk_pipeline_tests/project/test_dagster_names.py, which `make newest` runs with Dagster's
newest release. Those of `dagster_celery` are in `celery.dagster_names`: it is not installed everywhere.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorTick,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickStatus,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._utils.schedules import get_latest_completed_cron_tick
from dagster.components.resolved.errors import ResolutionException
from dagster_shared.error import SerializableErrorInfo

__all__ = [
    "ASSET_CHECK_EVENTS",
    "ASSET_EVENTS",
    "EVENT_TYPE_TO_PIPELINE_RUN_STATUS",
    "AssetCheckExecutionRecord",
    "AssetCheckExecutionRecordStatus",
    "CheckRunHealthResult",
    "FreshnessState",
    "FreshnessStateChange",
    "InstanceRef",
    "InstigatorState",
    "InstigatorStatus",
    "InstigatorTick",
    "LocalComputeLogManager",
    "ModuleCodePointer",
    "ResolutionException",
    "ScheduleInstigatorData",
    "SensorInstigatorData",
    "SerializableErrorInfo",
    "SqlEventLogStorageTable",
    "TickStatus",
    "WorkerStatus",
    "get_latest_completed_cron_tick",
]

# Values of Dagster's that the same test compares with Dagster

PARTITION_TAG = "dagster/partition"
RANGE_START_TAG, RANGE_END_TAG = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
"""The tags of a run by which Dagster knows its partition, or the first and the last of its range."""
WILL_RETRY_TAG = "dagster/will_retry"
"""The tag of a run that failed and that Dagster starts again."""
GRPC_INFO_TAG = ".dagster/grpc_info"
"""The tag of a run that a code server started; it says on which host."""
STAMPED_VERSION = "5771160a95ad"
"""The version by which Dagster 1.13 knows SQLite tables that have none."""


def stamped_version() -> str:
    """The version by which this release of Dagster knows SQLite tables that have none."""
    try:
        from dagster._core.storage.sqlite import (  # noqa: PLC0415 - slow to import, and seldom asked for
            LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION,
        )
    except ImportError:
        return STAMPED_VERSION
    return LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION


def add_metadata_at_once(context: dg.AssetExecutionContext, given: Mapping[str, Mapping[str, Any]]) -> bool:
    """Give partitions of the run their metadata, by partition key; whether that could be done.

    `add_asset_metadata` makes a list of all of the range's keys and a copy of all metadata so far for each partition:
    40 seconds for the 8,760 windows of a year (dagster 1.13.27). Where Dagster keeps metadata in another way, nothing
    is done.
    """
    try:
        from dagster._core.execution.context.metadata_logging import (  # noqa: PLC0415  # may be gone
            AssetMetadataHandle,
            OutputMetadataAccumulator,
        )

        step = context.get_step_execution_context()
        before = step._metadata_accumulator.per_output_metadata  # noqa: SLF001  # no public way takes more than one
        added = {AssetMetadataHandle(asset_key=context.asset_key, partition_key=key): given[key] for key in given}
        after = OutputMetadataAccumulator(per_output_metadata={**before, **added})
    except (ImportError, AttributeError, TypeError):
        return False
    step._metadata_accumulator = after  # noqa: SLF001  # the same
    return True
