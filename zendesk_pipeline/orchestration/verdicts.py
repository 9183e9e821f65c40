"""The verdicts of asset checks: made, and read back from Dagster's instance."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from zendesk_pipeline.orchestration.instance import AssetCheckExecutionRecord, AssetCheckExecutionRecordStatus

MOST_SHOWN = 10
"""Findings in a verdict."""


def verdict(
    key: dg.AssetCheckKey,
    severity: dg.AssetCheckSeverity,
    findings: Sequence[str],
    metadata: Mapping[str, Any],
    otherwise: str = "All is well.",
) -> dg.AssetCheckResult:
    """The result of a check, which passes without findings; `otherwise` is what it says then."""
    more = f"; and {len(findings) - MOST_SHOWN:,} more" if len(findings) > MOST_SHOWN else ""
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=not findings,
        severity=severity,
        description="; ".join(findings[:MOST_SHOWN]) + more if findings else otherwise,
        metadata={"findings": len(findings), **metadata},
    )


def latest_verdict(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """The latest result of a check that came to its end."""
    record = latest_done(instance, key)
    return record.evaluation if record else None


def latest_done(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> AssetCheckExecutionRecord | None:
    """The latest record of a check that came to its end."""
    done = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=done)
    return records[0] if records else None


def latest_records(
    instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]
) -> Mapping[dg.AssetCheckKey, AssetCheckExecutionRecord]:
    """The latest of each check, whether it came to its end or not."""
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)


def is_planned(record: AssetCheckExecutionRecord) -> bool:
    """Whether there is no verdict yet: Dagster (1.13.29) notes at the start of a run that its checks are planned."""
    return record.status is AssetCheckExecutionRecordStatus.PLANNED


def keep(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> list[dg.AssetCheckKey]:
    """Report latest verdicts again where a run ended before these checks began; those of the checks.

    The UI shows such checks as failed, "0 / 5 passed", although nothing was checked. What was true before is still.
    """
    kept = [key for key, record in latest_records(instance, keys).items() if _never_began(instance, record)]
    for key in kept:
        instance.report_runless_asset_event(latest_verdict(instance, key) or _no_verdict(key))
    return kept


def _never_began(instance: dg.DagsterInstance, record: AssetCheckExecutionRecord) -> bool:
    """Whether the run was to collect, and is over, and the check in it did not even begin."""
    if not is_planned(record):
        return False
    run = instance.get_run_by_id(record.run_id)
    if run is None:
        return True
    step = record.event.step_key if record.event else None
    if not run.is_finished or step is None or (run.asset_check_selection and not run.asset_selection):
        return False
    return not any(stats.start_time for stats in instance.get_run_step_stats(run.run_id, [step]))


def _no_verdict(key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation:
    text = "Not looked at yet: nothing was collected."
    return dg.AssetCheckEvaluation(asset_key=key.asset_key, check_name=key.name, passed=True, description=text)
