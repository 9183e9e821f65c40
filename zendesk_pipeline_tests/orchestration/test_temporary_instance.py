"""Collecting without DAGSTER_HOME: said loudly, and made good by the same command in the right instance."""

import os
import subprocess
from pathlib import Path

import dagster as dg

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.by_hand import FIRST
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET
TOLD = "DAGSTER_HOME is not set: Dagster notes this run in "


def _collect(folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    what = ("-m", "zendesk_pipeline.definitions", "--select", "audit_logs", "--partition", FIRST.partition_key)
    return subprocess.run(
        forked.command("dagster", "asset", "materialize", *what),
        env={**os.environ, "DAGSTER_DISABLE_TELEMETRY": "yes", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_a_run_without_a_home_says_that_nothing_turns_green(
    environment: dict[str, str], store: Store, layout: Layout, tmp_path: Path
) -> None:
    """At the start and the end, on stderr; with the home in `.env` the window is noted, and nothing is repeated."""
    bucket = Bucket(store=store, layout=layout)
    lost = _collect(tmp_path, environment)
    assert (lost.returncode, lost.stderr.count(TOLD)) == (0, 2)
    delivered = bucket.feed()
    assert delivered
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / ".env").write_text(f"DAGSTER_HOME={home}\n")
    kept = _collect(tmp_path, environment)
    assert (kept.returncode, TOLD in kept.stderr) == (0, False)
    assert bucket.feed() == delivered
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("audit_logs")) == {FIRST.partition_key}
