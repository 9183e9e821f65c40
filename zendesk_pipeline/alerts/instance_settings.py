"""What the collection needs of a Dagster instance: what an instance of somebody else's is missing is a problem.

The `dagster.yaml` of this project has all of it.
https://docs.dagster.io/deployment/oss/oss-instance-configuration (Dagster 1.13)
"""

from collections.abc import Iterator, Sequence

import dagster as dg

from zendesk_pipeline.alerts.problem import Problem
from zendesk_pipeline.alerts.snapshot import Snapshot

FREE_SLOTS = "free_slots_after_run_end_seconds"
POOLS = """\
concurrency:
  pools:
    default_limit: 1
    granularity: op"""
MONITORING = f"""\
run_monitoring:
  enabled: true
  start_timeout_seconds: 1200
  max_runtime_seconds: 86400
  {FREE_SLOTS}: 30"""
RETRIES = """\
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false"""

FRESHNESS = """\
freshness:
  enabled: false"""


def instance_settings(snapshot: Snapshot) -> Iterator[Problem]:
    """What the instance is missing for the accounts that it collects."""
    pools = [account.called(stream.pool) for account in snapshot.accounts for stream in account.streams]
    yield from missing_settings(snapshot.instance, pools)


def missing_settings(instance: dg.DagsterInstance, pools: Sequence[str]) -> Iterator[Problem]:
    """What the instance is missing; `pools` are those of the streams."""
    if unlimited := _unlimited(instance, pools):
        commands = "\n".join(f"dagster instance concurrency set {pool} 1" for pool in unlimited)
        what = f"the pool {unlimited[0]}" if len(unlimited) == 1 else f"{len(unlimited)} pools"
        yield _problem(
            "pools",
            title=f"This Dagster instance has no limit for {what}",
            text="Several runs of a stream may work at the same time and take each other's share of Zendesk's rate"
            f" limit. Set it where Dagster's services run:\n{commands}\n"
            f"Or for all pools of the instance at once, in its dagster.yaml:\n{POOLS}",
            over="The pools of the streams have limits now",
            size=len(unlimited),
        )
    if not instance.run_monitoring_enabled:
        yield _problem(
            "run_monitoring",
            title="This Dagster instance does not notice runs that died",
            text=f"A run that the machine took down with it keeps its stream waiting. {_set(MONITORING)}",
            over="This Dagster instance notices runs that died",
        )
    elif instance.run_monitoring_settings.get(FREE_SLOTS) is None:
        yield _problem(
            "slots",
            title="This Dagster instance does not give back the pools of runs that died",
            text=f"Their streams wait for ever. {_set(MONITORING)}",
            over="This Dagster instance gives back the pools of runs that died",
        )
    if not instance.run_retries_enabled:
        yield _problem(
            "run_retries",
            title="This Dagster instance does not repeat runs whose worker crashed",
            text=f"What they were to collect waits for the catch-up sensor. {_set(RETRIES)}",
            over="This Dagster instance repeats runs whose worker crashed",
        )
    if instance.freshness_enabled:
        yield _problem(
            "freshness",
            title="This Dagster instance judges freshness by itself",
            text="It takes any materialization for fresh, that of an old window in a backfill too, and this pipeline"
            f" leaves it to it. {_set(FRESHNESS)}",
            over="This Dagster instance leaves freshness to the pipeline",
        )


def _unlimited(instance: dg.DagsterInstance, pools: Sequence[str]) -> list[str]:
    """The pools without a limit: neither one of their own (`dagster instance concurrency set`) nor the default."""
    storage, chosen = instance.event_log_storage, instance.get_concurrency_config().pool_config
    if not storage.supports_global_concurrency_limits or chosen.default_pool_limit is not None:
        return []
    return sorted(set(pools) - {each.name for each in storage.get_pool_limits() if not each.from_default})


def _set(block: str) -> str:
    return f"Set, in its dagster.yaml, and restart its services:\n{block}"


def _problem(what: str, *, title: str, text: str, over: str, size: int = 1) -> Problem:
    return Problem(
        cause=f"instance {what}",
        title=title,
        text=text,
        link_path="/deployment/concurrency" if what == "pools" else "/deployment/config",
        severity="warning",
        size=size,
        once=True,
        over=over,
    )
