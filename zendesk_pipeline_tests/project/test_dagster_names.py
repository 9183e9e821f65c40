"""The names of Dagster's that it promises nothing for: where they may be used, and what a user misses without each.

`make newest` runs this with the newest release of Dagster: what fails is what has to change before it is admitted.
"""

import ast
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import dagster as dg
import pytest
from dagster._annotations import is_public

from zendesk_pipeline_tests.root import ROOT

PACKAGE = ROOT / "zendesk_pipeline"
MODULES = {str(path.relative_to(PACKAGE)): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}
HOMES = "orchestration/instance.py", "orchestration/celery/dagster_names.py"
PRIVATE = "dagster_shared", "dagster_celery"
"""Packages of which nothing is promised."""

CHECKS_ARE_READ = "alerts and checks cannot see whether a check failed or never began"
AUTOMATION_IS_READ = "nobody is told of a schedule or sensor that fails, does not run or is switched off"
FRESHNESS_IS_SET = "assets show no freshness, and nobody is told of a window that is late"
LOGS_ARE_PRUNED = "`run_log_pruning` fails, and Dagster's records grow for ever"
PREPARES = "`zendesk-pipeline prepare` fails, and services do not start"
CELERY = "Celery workers and the daemon that feeds them do not start"
FAST = "nothing fails: a range of a year takes 40 seconds more to report"

IMPORTED = {
    "dagster._core.code_pointer:ModuleCodePointer": "runs of the command line that a crash left are never ended",
    "dagster._core.definitions.freshness:FreshnessState": FRESHNESS_IS_SET,
    "dagster._core.definitions.freshness:FreshnessStateChange": FRESHNESS_IS_SET,
    "dagster._core.events:ASSET_CHECK_EVENTS": LOGS_ARE_PRUNED,
    "dagster._core.events:ASSET_EVENTS": LOGS_ARE_PRUNED,
    "dagster._core.events:EVENT_TYPE_TO_PIPELINE_RUN_STATUS": LOGS_ARE_PRUNED,
    "dagster._core.execution.context.metadata_logging:AssetMetadataHandle": FAST,
    "dagster._core.execution.context.metadata_logging:OutputMetadataAccumulator": FAST,
    "dagster._core.instance.ref:InstanceRef": PREPARES,
    "dagster._core.launcher:CheckRunHealthResult": CELERY,
    "dagster._core.launcher:WorkerStatus": CELERY,
    "dagster._core.scheduler.instigation:InstigatorState": AUTOMATION_IS_READ,
    "dagster._core.scheduler.instigation:InstigatorStatus": AUTOMATION_IS_READ,
    "dagster._core.scheduler.instigation:InstigatorTick": AUTOMATION_IS_READ,
    "dagster._core.scheduler.instigation:ScheduleInstigatorData": AUTOMATION_IS_READ,
    "dagster._core.scheduler.instigation:SensorInstigatorData": AUTOMATION_IS_READ,
    "dagster._core.scheduler.instigation:TickStatus": AUTOMATION_IS_READ,
    "dagster._core.storage.asset_check_execution_record:AssetCheckExecutionRecord": CHECKS_ARE_READ,
    "dagster._core.storage.asset_check_execution_record:AssetCheckExecutionRecordStatus": CHECKS_ARE_READ,
    "dagster._core.storage.event_log.schema:SqlEventLogStorageTable": LOGS_ARE_PRUNED,
    "dagster._core.storage.local_compute_log_manager:LocalComputeLogManager": LOGS_ARE_PRUNED,
    "dagster._core.storage.sqlite:LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION": "`prepare` knows no newer version",
    "dagster._utils.schedules:get_latest_completed_cron_tick": AUTOMATION_IS_READ,
    "dagster.components.resolved.errors:ResolutionException": "`--defs` ends with a traceback at a template",
    "dagster_celery.launcher:CeleryRunLauncher": CELERY,
    "dagster_celery.tasks:create_execute_job_task": CELERY,
    "dagster_shared.error:SerializableErrorInfo": "an alert cannot say why a run or a tick failed",
}
"""By name, what a user misses without it. Where no fallback is named, the definitions do not even load."""

ASKED = {
    "add_run_tags": "long runs are ended while they work, and a run that failed for good is tried again and again",
    "all_instigator_state": AUTOMATION_IS_READ,
    "all_logs": "runs that a crash left are never ended",
    "compute_log_manager": LOGS_ARE_PRUNED,
    "daemon_cursor_storage": LOGS_ARE_PRUNED,
    "dispose": "`metrics` that could not be read once are never read again",
    "event_log_storage": CHECKS_ARE_READ,
    "freshness_enabled": FRESHNESS_IS_SET,
    "from_config": "`heartbeat` cannot look at the daemon",
    "from_ref": PREPARES,
    "get_concurrency_config": "nobody is told of a pool with the wrong limit",
    "get_daemon_heartbeats": "`heartbeat` and the alerts cannot look at the daemon",
    "get_freshness_state_records": FRESHNESS_IS_SET,
    "get_latest_storage_id_by_partition": "the catch-up sensor asks for nothing that is missing",
    "get_materialized_partitions": "nobody is told of old windows that are missing",
    "get_records_for_run": "a retry reads a long range from its beginning",
    "get_required_daemon_types": "`heartbeat` and the alerts cannot look at the daemon",
    "get_run_step_stats": CHECKS_ARE_READ,
    "get_runs": "the daily comparison with Zendesk does not know when to wait",
    "get_ticks": AUTOMATION_IS_READ,
    "report_run_canceled": "runs that a crash left are never ended",
    "report_run_canceling": "a run that a person ends on a Celery worker is started again",
    "report_run_failed": "runs that a crash left are never ended",
    "root_directory": "`doctor` and runs do not say that DAGSTER_HOME is not set",
    "run_launcher": CELERY,
    "run_monitoring_enabled": "long runs are ended while they work",
    "run_monitoring_max_runtime_seconds": "long runs are ended while they work",
    "run_monitoring_settings": "nobody is told that run monitoring is off",
    "run_retries_enabled": "nobody is told that retries of runs are off",
    "run_storage": PREPARES,
    "schedule_storage": PREPARES,
    "upgrade": PREPARES,
}
"""What a `DagsterInstance` is asked without a promise of Dagster's, and what a user misses without it."""

STORED = {
    "base:EventLogStorage.free_concurrency_slots_for_run": "the pool of a run that a crash ended stays taken",
    "base:EventLogStorage.get_asset_check_execution_history": CHECKS_ARE_READ,
    "base:EventLogStorage.get_latest_asset_check_execution_by_key": CHECKS_ARE_READ,
    "base:EventLogStorage.is_run_sharded": LOGS_ARE_PRUNED,
    "sql_event_log:SqlEventLogStorage.index_connection": LOGS_ARE_PRUNED,
    "sqlite.sqlite_event_log:SqliteEventLogStorage.get_all_run_ids": LOGS_ARE_PRUNED,
    "sqlite.sqlite_event_log:SqliteEventLogStorage.path_for_shard": LOGS_ARE_PRUNED,
}
"""The same of the event log."""


def found(name: str) -> Any:
    """What `module:attribute.attribute` leads to; raises what importing and looking raise."""
    module, _, path = name.partition(":")
    held: Any = import_module(module)
    for each in path.split("."):
        held = getattr(held, each)
    return held


def private_imports(tree: ast.Module) -> Iterator[str]:
    """The names that a module imports from below Dagster's packages, as `module:name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            yield from (f"{each}:" for each in modules if each.startswith("dagster.") or each.startswith(PRIVATE))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [alias.name for alias in node.names]
            below = node.module.startswith("dagster.") or node.module.startswith(PRIVATE)
            yield from (
                f"{node.module}:{name}" for name in names if below or (node.module, name[0]) == ("dagster", "_")
            )


def asked(tree: ast.Module) -> Iterator[str]:
    """What a module asks an instance of Dagster, by the names that it has for one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            whose = ast.unparse(node.value)
            if whose in {"instance", "opened", "self._instance", "DagsterInstance"} or whose.endswith(
                "context.instance"
            ):
                yield node.attr


@pytest.mark.parametrize("name", IMPORTED)
def test_dagster_has_the_name(name: str) -> None:
    """A name that is imported is there; what a user misses without it is in the message."""
    try:
        found(name)
    except (ImportError, AttributeError) as gone:
        pytest.fail(f"{name} is gone ({gone}). Without it {IMPORTED[name]}.")


@pytest.mark.parametrize("name", ASKED)
def test_an_instance_can_be_asked(name: str) -> None:
    """What an instance is asked is there."""
    assert hasattr(dg.DagsterInstance, name), f"DagsterInstance.{name} is gone. Without it {ASKED[name]}."


@pytest.mark.parametrize("name", STORED)
def test_the_event_log_can_be_asked(name: str) -> None:
    """What the event log is asked is there."""
    try:
        found(f"dagster._core.storage.event_log.{name}")
    except (ImportError, AttributeError) as gone:
        pytest.fail(f"{name} is gone ({gone}). Without it {STORED[name]}.")


@pytest.mark.parametrize(
    ("ours", "dagsters"),
    [
        ("orchestration.instance:PARTITION_TAG", "dagster._core.storage.tags:PARTITION_NAME_TAG"),
        ("orchestration.instance:RANGE_START_TAG", "dagster._core.storage.tags:ASSET_PARTITION_RANGE_START_TAG"),
        ("orchestration.instance:RANGE_END_TAG", "dagster._core.storage.tags:ASSET_PARTITION_RANGE_END_TAG"),
        ("orchestration.instance:WILL_RETRY_TAG", "dagster._core.storage.tags:WILL_RETRY_TAG"),
        ("orchestration.instance:GRPC_INFO_TAG", "dagster._core.storage.tags:GRPC_INFO_TAG"),
        (
            "orchestration.instance:STAMPED_VERSION",
            "dagster._core.storage.sqlite:LAST_KNOWN_STAMPED_SQLITE_ALEMBIC_REVISION",
        ),
        ("orchestration.celery.dagster_names:TASK_ID_TAG", "dagster_celery.tags:DAGSTER_CELERY_TASK_ID_TAG"),
    ],
)
def test_values_are_those_of_dagster(ours: str, dagsters: str) -> None:
    """A value of Dagster's that is written down here is the one that Dagster has.

    By the tags of partitions a run is known to be at work on a window; without them each minute brings a run of it.
    """
    assert found(f"zendesk_pipeline.{ours}") == found(dagsters)


def test_finished_runs_are_those_of_dagster() -> None:
    """The states in which a run has ended: the logs of others are never deleted."""
    ended = found("dagster._core.storage.dagster_run:FINISHED_STATUSES")
    assert set(found("zendesk_pipeline.orchestration.run_history:FINISHED")) == set(ended)


def test_private_names_are_in_one_place() -> None:
    """No other module imports what is not public, and each that is imported is in the table above."""
    imported = {name: [*private_imports(tree)] for name, tree in MODULES.items()}
    elsewhere = {name: found for name, found in imported.items() if found and name not in HOMES}
    assert elsewhere == {}
    assert sorted(name for home in HOMES for name in imported[home]) == sorted(IMPORTED)


def test_private_names_are_reached_by_no_other_way() -> None:
    """No other module reads a private attribute of Dagster's package, of a run's context or of its step."""
    read = [
        f"{name}: {ast.unparse(node)}"
        for name, tree in MODULES.items()
        if name not in HOMES
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
        if ast.unparse(node.value) in {"dg", "dagster", "step", "context"}
    ]
    assert read == []


def test_private_names_are_used() -> None:
    """What the one home offers, another module imports: nothing is kept for nobody."""
    imported = {
        alias.name
        for tree in MODULES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        if node.module
        in {"zendesk_pipeline.orchestration.instance", "zendesk_pipeline.orchestration.celery.dagster_names"}
        for alias in node.names
    }
    offered = {name for home in HOMES for name in found(f"zendesk_pipeline.{home[:-3].replace('/', '.')}:__all__")}
    assert offered - imported == set()


def test_what_an_instance_is_asked_is_known() -> None:
    """Whatever an instance is asked is public, or is in the table above; and nothing of that table is asked no more."""
    unpromised = {
        name
        for tree in MODULES.values()
        for name in asked(tree)
        if hasattr(dg.DagsterInstance, name) and not is_public(getattr(dg.DagsterInstance, name))
    }
    assert unpromised == ASKED.keys()
