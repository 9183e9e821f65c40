#!/usr/bin/env bash
# dagster 1.13.29, run 2026-11-30.
#
# One expects an asset check to keep its verdict when a later run breaks before the check begins: nothing was looked at,
# and the data that passed is still there. Dagster notes at the start of a run that its checks are planned. If the run
# fails before them, the check's latest state becomes "execution failed", and an asset whose data are sound shows
# "0 / 1 passed".
#
# Seen:
#   after a run that succeeds: SUCCEEDED
#   after a run whose asset fails: EXECUTION_FAILED, check steps begun: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check dagster==1.13.29

DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - 2>/dev/null >"$folder/seen" <<'PYTHON'
import asyncio

import dagster as dg
from dagster._core.loader import LoadingContextForTest

answers = iter(["sound", "broken"])


@dg.asset
def table():
    if next(answers) == "broken":
        raise RuntimeError("the source does not answer")


@dg.asset_check(asset=table)
def is_sound():
    return dg.AssetCheckResult(passed=True)


def state(instance):
    (record,) = instance.event_log_storage.get_latest_asset_check_execution_by_key([is_sound.check_key]).values()
    return asyncio.run(record.resolve_status(LoadingContextForTest(instance))).value


def begun(instance, run):
    steps = instance.get_run_step_stats(run.run_id)
    return sum(step.step_key == "table_is_sound" and step.start_time is not None for step in steps)


with dg.DagsterInstance.ephemeral() as instance:
    dg.materialize([table, is_sound], instance=instance)
    print("after a run that succeeds:", state(instance))
    broken = dg.materialize([table, is_sound], instance=instance, raise_on_error=False)
    print(f"after a run whose asset fails: {state(instance)}, check steps begun: {begun(instance, broken)}")
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'SEEN'
after a run that succeeds: SUCCEEDED
after a run whose asset fails: EXECUTION_FAILED, check steps begun: 0
SEEN
