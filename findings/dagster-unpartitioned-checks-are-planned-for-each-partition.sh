#!/usr/bin/env bash
# dagster 1.13.29, run 2026-11-30, with SQLite held to the limits of its authors.
#
# One expects a check without partitions to be noted once in a run, however many partitions of its asset the run is over.
# With time partitions Dagster writes a row "planned" for each of them; when the check has passed, its verdict is one row
# more and those stay "planned". All rows go into one statement with eight values each, so that where SQLite takes 32,766
# values, as its authors ship it, a run over 4,096 hours cannot be created: five and a half months. Debian's build takes
# 250,000, and shows it at three and a half years.
#
# Seen:
#   a run over 3 hours: 3 x PLANNED, 1 x SUCCEEDED
#   a run over 4095 hours: created
#   a run over 4096 hours: OperationalError, too many SQL variables
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check dagster==1.13.29

DAGSTER_DISABLE_TELEMETRY=1 "$folder/venv/bin/python" - 2>/dev/null >"$folder/seen" <<'PYTHON'
import sqlite3
from collections import Counter
from datetime import datetime, timedelta

import dagster as dg
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as checks
from sqlalchemy import event, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

FIRST = datetime(2026, 1, 1)


@event.listens_for(Engine, "connect")
def as_shipped(connection, _):
    connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 32_766)


@dg.asset(
    partitions_def=dg.HourlyPartitionsDefinition(start_date="2026-01-01-00:00"),
    backfill_policy=dg.BackfillPolicy.single_run(),
)
def table() -> None:
    return None


@dg.asset_check(asset=table)
def is_sound():
    return dg.AssetCheckResult(passed=True)


def tags(hours):
    last = FIRST + timedelta(hours=hours - 1)
    return {
        "dagster/asset_partition_range_start": f"{FIRST:%Y-%m-%d-%H:%M}",
        "dagster/asset_partition_range_end": f"{last:%Y-%m-%d-%H:%M}",
    }


job = dg.Definitions(assets=[table], asset_checks=[is_sound]).resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.ephemeral() as instance:
    job.execute_in_process(instance=instance, tags=tags(3))
    with instance.event_log_storage.index_connection() as connection:
        states = Counter(row[0] for row in connection.execute(select(checks.c.execution_status)))
    print("a run over 3 hours:", ", ".join(f"{count} x {state}" for state, count in sorted(states.items())))
    for hours in (4095, 4096):
        try:
            instance.create_run_for_job(job_def=job, tags=tags(hours))
            print(f"a run over {hours} hours: created")
        except OperationalError as error:
            print(f"a run over {hours} hours: OperationalError, {error.orig}")
PYTHON
cat "$folder/seen"
diff "$folder/seen" - <<'SEEN'
a run over 3 hours: 3 x PLANNED, 1 x SUCCEEDED
a run over 4095 hours: created
a run over 4096 hours: OperationalError, too many SQL variables
SEEN
