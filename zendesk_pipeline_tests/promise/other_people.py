"""Assets and jobs of other people in the same Dagster instance, one of each kind; every run of them fails."""

import dagster as dg

HOURS = dg.HourlyPartitionsDefinition("2026-11-01-00:00", timezone="UTC")
DAYS = dg.DailyPartitionsDefinition("2026-11-01")
REGIONS = dg.StaticPartitionsDefinition(["eu", "us"])
CUSTOMERS = dg.DynamicPartitionsDefinition(name="customers")
HOUR_KEY = "2026-11-12-05:00"

ASSETS: dict[str, tuple[dg.PartitionsDefinition[str] | None, str | None]] = {
    "daily": (DAYS, "2026-11-12"),
    "static": (REGIONS, "eu"),
    "multi": (dg.MultiPartitionsDefinition({"day": DAYS, "region": REGIONS}), "2026-11-12|eu"),
    "dynamic": (CUSTOMERS, HOUR_KEY),
    "hourly": (HOURS, HOUR_KEY),
    "unpartitioned": (None, None),
}
"""By kind, the partitions and the key that is run; that of the dynamic ones looks like an hour of ours."""


def _asset(kind: str, partitions: dg.PartitionsDefinition[str] | None) -> dg.AssetsDefinition:
    @dg.asset(name=f"theirs_{kind}", partitions_def=partitions)
    def theirs() -> None:
        raise ValueError("theirs")

    return theirs


@dg.op
def fail() -> None:
    """Fail."""
    raise ValueError("theirs")


@dg.job(name="hourly_collection", partitions_def=HOURS)
def of_our_name() -> None:
    """A job without an asset that is called as ours."""
    fail()


@dg.sensor(job=of_our_name, default_status=dg.DefaultSensorStatus.RUNNING, minimum_interval_seconds=30)
def theirs_sensor() -> dg.RunRequest:
    """Asks for one run of their job."""
    return dg.RunRequest(run_key="once", partition_key=HOUR_KEY)


defs = dg.Definitions(
    assets=[_asset(kind, partitions) for kind, (partitions, _) in ASSETS.items()],
    jobs=[of_our_name],
    sensors=[theirs_sensor],
    executor=dg.in_process_executor,
)


def run_assets(instance: dg.DagsterInstance) -> None:
    """A run of each of their assets, as the UI launches them."""
    instance.add_dynamic_partitions("customers", [HOUR_KEY])
    job = defs.resolve_implicit_global_asset_job_def()
    for kind, (_, key) in ASSETS.items():
        done = job.execute_in_process(
            instance=instance,
            partition_key=key,
            asset_selection=[dg.AssetKey(f"theirs_{kind}")],
            raise_on_error=False,
        )
        assert not done.success
