"""Several accounts in one Dagster: what is called how, what keeps them apart, and that none holds up another."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.alerts.sensor import detected
from zendesk_pipeline.alerts.snapshot import Snapshot
from zendesk_pipeline.components import account_of
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.orchestration import resources
from zendesk_pipeline.orchestration.accounts import (
    FIRST_MINUTE,
    LAST_MINUTE,
    Account,
    checked,
    checked_name,
    checked_source,
    minute_of,
)
from zendesk_pipeline.orchestration.catch_up_sensor import MOST_REQUESTS, catch_up_sensor
from zendesk_pipeline.orchestration.freshness import freshness_sensor
from zendesk_pipeline.orchestration.run_history import Ours, ours
from zendesk_pipeline.orchestration.schedules import hourly_collection
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.wiring import accounts_definitions, build
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.runs import QUIET, description

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]
LOCATION = Settings(dagster_ui_url="http://dagster.example")
MINUTE = 60
URL = "https://acme.zendesk.com"


def _account(name: str, secrets: dict[str, str] | None = None, **values: Any) -> Account:
    given = {"zendesk_base_url": URL, "s3_bucket": "logs", "start_date": "2026-11-12T05:00Z", **values}
    return account_of(name, given, secrets or {})


def _names(definitions: dg.Definitions) -> dict[str, set[str]]:
    """Everything that Dagster or its users remember by name."""
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    streams = [graph.get(key) for key in graph.materializable_asset_keys]
    return {
        "assets": {key.to_user_string() for key in definitions.resolve_all_asset_keys()},
        "steps": {str(node.name) for node in definitions.resolve_job_def("hourly_collection").nodes},
        "groups": {str(node.group_name) for node in streams},
        "pools": {pool for node in streams for pool in node.pools or ()},
        "jobs": {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "resources": set(definitions.resources or {}),
    }


SHARED = {
    "jobs": (JOBS := {"hourly_collection", "feed_inspection", "reconciliation", "run_log_pruning"}),
    "schedules": {f"{job}_schedule" for job in JOBS},
    "sensors": {"catch_up_sensor", "freshness_sensor", "alert_sensor"},
}


def test_the_account_of_the_environment_is_called_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster remembers by these names what was delivered and what is switched on."""
    monkeypatch.setenv("RESOURCES", "audit_logs,incremental_tickets")
    assert _names(build(environment.load())) == {
        "assets": {
            "audit_logs",
            "incremental_tickets",
            "zendesk/audit_logs_api",
            "zendesk/incremental_tickets_api",
            "secops_feed",
            "secops/audit_logs_in_secops",
            "secops/incremental_tickets_in_secops",
        },
        "steps": {"audit_logs", "audit_logs_checks", "incremental_tickets", "incremental_tickets_checks"},
        "groups": {"zendesk"},
        "pools": {"zendesk_audit_logs", "zendesk_incremental_export"},
        "resources": {"zendesk", "s3_io_manager", "alert_channels"},
        **SHARED,
    }


def test_named_accounts_are_called_after_their_names() -> None:
    """Assets, steps, groups and pools are an account's own; jobs, schedules and sensors are there once."""
    accounts = [_account("acme"), _account("beta", resources=["audit_logs"])]
    assert _names(accounts_definitions(accounts, LOCATION)) == {
        "assets": {
            "acme/audit_logs",
            "acme/incremental_tickets",
            "acme/zendesk/audit_logs_api",
            "acme/zendesk/incremental_tickets_api",
            "acme/secops_feed",
            "acme/secops/audit_logs_in_secops",
            "acme/secops/incremental_tickets_in_secops",
            "beta/audit_logs",
            "beta/zendesk/audit_logs_api",
            "beta/secops_feed",
            "beta/secops/audit_logs_in_secops",
        },
        "steps": {
            "acme__audit_logs",
            "acme__audit_logs_checks",
            "acme__incremental_tickets",
            "acme__incremental_tickets_checks",
            "beta__audit_logs",
            "beta__audit_logs_checks",
        },
        "groups": {"acme", "beta"},
        "pools": {"acme__zendesk_audit_logs", "acme__zendesk_incremental_export", "beta__zendesk_audit_logs"},
        "resources": {"zendesk_accounts", "zendesk_buckets", "alert_channels"},
        **SHARED,
    }


# What is refused


@pytest.mark.parametrize("name", ["", "Acme", "acme-eu", "acme__eu", "1acme", "acme_", "a" * 41, "acme/eu"])
def test_a_name_that_nothing_can_be_called_after_is_refused(name: str) -> None:
    """Dagster's names, pools and variables are made of it."""
    with pytest.raises(ValueError, match="an account's name is made of a-z 0-9"):
        checked_name(name)


@pytest.mark.parametrize("name", ["acme", "acme_eu", "a1", "a" * 40])
def test_a_plain_name_is_taken(name: str) -> None:
    """Letters, digits and single underscores."""
    assert checked_name(name) == name


@pytest.mark.parametrize(
    ("others", "words"),
    [
        pytest.param({"s3_prefix": "zendesk/acme/crm/"}, "s3_prefix=zendesk/acme/crm/ of beta", id="same feed"),
        pytest.param({"s3_prefix": "zendesk/acme/crm/beta/"}, "lies in s3_prefix=zendesk/acme/crm/ of acme", id="in"),
        pytest.param({"state_prefix": "zendesk/acme/"}, "lies in state_prefix=zendesk/acme/ of beta", id="around"),
        pytest.param({"quarantine_prefix": "zendesk/acme/crm/q/"}, "quarantine_prefix=zendesk/acme/crm/q/", id="other"),
    ],
)
def test_accounts_that_overlap_are_refused(others: dict[str, Any], words: str) -> None:
    """One would take the other's records for its own; in another bucket the same prefixes are no overlap."""
    with pytest.raises(SettingsError, match="overlap in the bucket logs") as refused:
        checked([_account("acme"), _account("beta", **others)])
    assert words in str(refused.value)
    assert len(checked([_account("acme"), _account("beta", **others, s3_bucket="other")])) == 2


PREFIXES = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3).map(lambda parts: "/".join(parts) + "/")


@given(st.lists(PREFIXES, min_size=2, max_size=6, unique=True))
def test_no_overlap_is_overlooked(prefixes: list[str]) -> None:
    """Whatever lies between two prefixes in alphabetical order."""
    accounts = [_account(f"a{number}", s3_prefix=prefix) for number, prefix in enumerate(prefixes)]
    overlap = any(one != other and other.startswith(one) for one in prefixes for other in prefixes)
    try:
        checked(accounts)
    except SettingsError:
        assert overlap
    else:
        assert not overlap


def test_two_accounts_of_one_name_are_refused() -> None:
    """Also where their prefixes lie apart."""
    with pytest.raises(SettingsError, match="two accounts 'acme'"):
        checked([_account("acme"), _account("acme", s3_bucket="other")])


def test_settings_that_are_wrong_name_their_account() -> None:
    """One sentence for each."""
    with pytest.raises(SettingsError) as wrong:
        _account("acme", settle_seconds=1, resources=["audit_log"])
    assert str(wrong.value).startswith("The account acme: RESOURCES is wrong: there is no stream audit_log; there are ")
    assert "SETTLE_SECONDS is wrong: " in str(wrong.value)


def test_nothing_of_an_account_is_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of another deployment would otherwise move an account's objects."""
    monkeypatch.setenv("S3_PREFIX", "elsewhere/")
    monkeypatch.setenv("COMPRESSION", "gzip")
    made = _account("acme").settings
    assert (made.s3_prefix, made.state_prefix, made.compression) == ("zendesk/acme/crm/", "zendesk/acme/state/", "none")


@pytest.mark.parametrize("source", ["ACME_SECRET", "aws-sm:zendesk/acme#secret", "aws-ssm:/zendesk/acme"])
def test_a_secret_is_named(source: str) -> None:
    """By its variable, or by where it lies in a store."""
    assert checked_source("ZENDESK_CLIENT_SECRET", source) == source


@pytest.mark.parametrize("source", ["s3cr3t-value", "{{ env.ACME_SECRET }}", "aws-sm:", "Mixed"])
def test_a_secret_itself_is_refused_and_not_repeated(source: str) -> None:
    """It would be on everybody's screen."""
    with pytest.raises(ValueError, match="wanted") as refused:
        checked_source("ZENDESK_CLIENT_SECRET", source)
    assert source not in str(refused.value) or source == "aws-sm:"


# When


def test_each_account_may_have_an_aws_identity_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket of one is asked with its profile, that of the other with what the process has."""
    config = tmp_path / "config"
    config.write_text("[profile of-acme]\naws_access_key_id = KEYOFACME\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYOFPROCESS")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with answering(Reply(b"{}")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        for account in (_account("acme", aws_profile="of-acme"), _account("beta")):
            resources.bucket(account).s3.get_client().get_object(Bucket="logs", Key=account.name)
    asked = {received.path: received.headers["authorization"] for received in server.received}
    assert {path: re.findall(r"Credential=(\w+)/", signed) for path, signed in asked.items()} == {
        "/logs/acme": ["KEYOFACME"],
        "/logs/beta": ["KEYOFPROCESS"],
    }


def test_an_aws_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its runs fail with a sentence, before anything is asked of Zendesk."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    account = _account("acme", aws_profile="of-acme")
    with pytest.raises(SettingsError, match=r"of-acme.*AWS_PROFILE"):
        resources.bucket(account).store()


def test_minutes_are_spread_and_stay() -> None:
    """The same for a name for ever, within bounds, and no minute is crowded."""
    minutes = [minute_of(f"customer_{number:03d}") for number in range(200)]
    assert set(minutes) <= set(range(FIRST_MINUTE, LAST_MINUTE + 1))
    assert max(minutes.count(minute) for minute in minutes) <= 12
    assert (minute_of("acme"), minute_of("beta")) == (46, 39)


def _asked(accounts: Sequence[Account], at: datetime) -> list[tuple[str, str | None, str | None]]:
    schedule: Any = hourly_collection(accounts)
    found = schedule(dg.build_schedule_context(scheduled_execution_time=at))
    return [
        (key.to_user_string(), each.partition_key, each.tags.get("zendesk_pipeline/account"))
        for each in found
        if isinstance(each, dg.RunRequest)
        for key in each.asset_selection or ()
    ]


def test_each_account_is_collected_at_its_minute() -> None:
    """One schedule for all, which asks for those whose minute it is."""
    accounts = [_account("acme", minute=7), _account("beta", minute=20, resources=["audit_logs"])]
    assert hourly_collection(accounts).cron_schedule == "7,20 * * * *"
    at = datetime(2026, 11, 12, 6, tzinfo=UTC)
    assert _asked(accounts, at.replace(minute=20)) == [("beta/audit_logs", "2026-11-12-05:00", "beta")]
    assert _asked(accounts, at.replace(minute=7)) == [
        ("acme/audit_logs", "2026-11-12-05:00", "acme"),
        ("acme/incremental_tickets", "2026-11-12-05:00", "acme"),
    ]
    assert _asked(accounts, at.replace(hour=5, minute=7)) == []


@pytest.mark.parametrize(("minute", "grace"), [(5, 15), (45, 55)])
def test_a_window_is_left_to_the_schedule_until_after_the_account_s_minute(minute: int, grace: int) -> None:
    """Otherwise the catch-up sensor would come before it."""
    account = _account("acme", minute=minute)
    with dg.DagsterInstance.ephemeral() as instance:
        for now, asked in ((FIRST.end + grace * MINUTE - 1, 0), (FIRST.end + grace * MINUTE, 2)):
            sensor = catch_up_sensor([account], FakeClock(now).clock)
            result: Any = sensor(dg.build_sensor_context(instance=instance))
            assert len(result.run_requests or []) == asked


@pytest.mark.parametrize(("minute", "late"), [(5, 60), (35, 60), (45, 120)])
def test_an_account_is_late_after_its_minute(minute: int, late: int) -> None:
    """Freshness leaves it an hour, and one more where its collection begins late in the hour."""
    account = _account("acme", minute=minute, resources=["audit_logs"])
    with dg.DagsterInstance.ephemeral(settings={"freshness": {"enabled": False}}) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(["acme", "audit_logs"], partition=_KEY))
        said: list[str] = []
        for now in (FIRST.end + HOUR + late * MINUTE - 1, FIRST.end + HOUR + late * MINUTE):
            sensor = freshness_sensor([account], FakeClock(float(now)).clock)
            result: Any = sensor(dg.build_sensor_context(instance=instance))
            said.append(result.skip_message.split(",")[0])
    assert said == ["acme/audit_logs: PASS", "acme/audit_logs: WARN"]


_KEY = FIRST.partition_key


def test_no_account_waits_for_all_windows_of_another() -> None:
    """A look asks for so many runs, the first of each stream before the second of any."""
    gaps = [Window(FIRST.start + number * HOUR) for number in range(1, 240, 2)]
    accounts = [_account(name, resources=["audit_logs"], catch_up_hours=300, minute=5) for name in ("acme", "beta")]
    with dg.DagsterInstance.ephemeral() as instance:
        for account in accounts:
            for window in gaps:
                event = dg.AssetMaterialization(account.key("audit_logs"), partition=window.partition_key)
                instance.report_runless_asset_event(event)
        sensor = catch_up_sensor(accounts, FakeClock(FIRST.start + 241 * HOUR).clock)
        result: Any = sensor(dg.build_sensor_context(instance=instance))
    assert len(result.run_requests) == MOST_REQUESTS
    assert [request.asset_selection[0].path[0] for request in result.run_requests[:4]] == ["acme", "beta"] * 2


# What one does to another


def _ours(accounts: Iterable[Account]) -> Ours:
    return ours(key for account in accounts for key in account.stream_keys)


def _placed(name: str, zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout) -> Account:
    root = layout.feed.removesuffix("crm/") + name
    return _account(
        name,
        {"ZENDESK_EMAIL": "ZENDESK_EMAIL"},
        auth_mode="token",
        zendesk_base_url=zendesk.url,
        s3_bucket=s3.bucket,
        s3_prefix=f"{root}/crm/",
        state_prefix=f"{root}/state/",
        quarantine_prefix=f"{root}/quarantine/",
    )


def test_an_account_that_fails_fails_alone_and_is_named(
    zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing secret is the failure of that account's runs; the other is delivered exactly, and no alert is of it."""
    for name, value in {**s3.environment, **zendesk.environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACME_ZENDESK_API_TOKEN", zendesk.environment["ZENDESK_API_TOKEN"])
    accounts = [_placed(name, zendesk, s3, layout) for name in ("acme", "beta")]
    definitions = accounts_definitions(accounts, LOCATION)
    with dg.DagsterInstance.ephemeral() as instance:
        results = {
            account.name: definitions.resolve_job_def("hourly_collection").execute_in_process(
                asset_selection=[account.key("audit_logs")],
                partition_key=_KEY,
                instance=instance,
                raise_on_error=False,
            )
            for account in accounts
        }
        now = float(FIRST.end + 2 * HOUR)
        found, _ = detected(
            Snapshot(instance=instance, now=now, mine=_ours(accounts), accounts=accounts, awake_since=now)
        )
    assert results["acme"].success
    acme = accounts[0].settings
    place = Layout(feed=acme.s3_prefix, state=acme.state_prefix, quarantine=acme.quarantine_prefix)
    source = sorted(zendesk.control.source("audit_logs", FIRST.start, FIRST.end))
    assert source
    assert Bucket(store=store, layout=place).lines() == source
    assert description(results["beta"]).startswith("BETA_ZENDESK_API_TOKEN is not set, and AUTH_MODE=token needs it: ")
    failed = [problem.title for problem in found if problem.cause.startswith("run-failure")]
    assert failed == ["beta/audit_logs: 1 window failed"]
    assert [problem.title for problem in found if "acme" in problem.title and "audit_logs" in problem.title] == []


def test_a_window_of_a_named_account_is_read_back(
    zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Assets downstream get its records, and the checks look into its own bucket."""
    for name, value in {**s3.environment, **zendesk.environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACME_ZENDESK_API_TOKEN", zendesk.environment["ZENDESK_API_TOKEN"])
    account = _placed("acme", zendesk, s3, layout)
    made = accounts_definitions([account], LOCATION)
    read: list[bytes] = []

    @dg.asset(
        ins={"records": dg.AssetIn(account.key("audit_logs"), input_manager_key="zendesk_buckets")},
        partitions_def=dg.HourlyPartitionsDefinition(start_date=datetime(2026, 11, 12, 5, tzinfo=UTC), timezone="UTC"),
    )
    def downstream(records: Any) -> None:
        read.extend(records)

    definitions = dg.Definitions.merge(made, dg.Definitions(assets=[downstream]))
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[account.key("audit_logs"), dg.AssetKey("downstream")],
            partition_key=_KEY,
            instance=instance,
        )
        checks = definitions.resolve_job_def("feed_inspection").execute_in_process(instance=instance)
        nightly = definitions.resolve_job_def("reconciliation").execute_in_process(instance=instance)
    verdicts = [each for done in (result, checks, nightly) for each in done.get_asset_check_evaluations()]
    assert {verdict.asset_key.path[0] for verdict in verdicts} == {"acme"}
    assert [verdict.check_name for verdict in verdicts if not verdict.passed] == []
    assert sorted(read) == sorted(zendesk.control.source("audit_logs", hours(1).start, hours(1).end))


def test_an_account_s_credential_that_ends_is_told_by_its_name() -> None:
    """Of several, each is a problem of its own."""
    accounts = [_account("acme", auth_mode="bearer"), _account("beta", auth_mode="bearer"), _account("gamma")]
    with dg.DagsterInstance.ephemeral() as instance:
        found, _ = detected(Snapshot(instance=instance, now=float(FIRST.end), mine=_ours(accounts), accounts=accounts))
    told = [problem for problem in found if problem.cause.startswith("credential")]
    assert [problem.title.partition(":")[0] for problem in told] == ["acme", "beta"]
    assert len({problem.cause for problem in told}) == 2


def test_an_account_s_settings_are_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account of the environment stands beside named ones, if both are in one code location."""
    monkeypatch.setenv("S3_BUCKET", "logs")
    alone = Account(settings=Settings())
    both = accounts_definitions([alone, _account("acme")], LOCATION)
    assert {"audit_logs", "acme/audit_logs"} <= {key.to_user_string() for key in both.resolve_all_asset_keys()}
    assert set(both.resources or {}) >= {"zendesk", "s3_io_manager", "zendesk_accounts", "zendesk_buckets"}
