"""The daily digest: what each address hears, by the alert sensor as Dagster evaluates it."""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._daemon.types import DaemonHeartbeat
from dagster._grpc.impl import get_external_sensor_execution
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.alerts.channels import addresses, send
from zendesk_pipeline.alerts.digest import AccountDay, Digest, StreamDay, due, message
from zendesk_pipeline.alerts.memory import AlertMemory
from zendesk_pipeline.alerts.messages import Message, NoticeKind, Room, SendResult, fitted
from zendesk_pipeline.alerts.sensor import NAME
from zendesk_pipeline.alerts.snapshot import SETTLING
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.window_numbers import WindowNumbers
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.fakes.receivers import Incidents, abroad
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering
from zendesk_pipeline_tests.reported import event, run_that_says
from zendesk_pipeline_tests.runs import QUIET, damage
from zendesk_pipeline_tests.watched import LOCATION, UI, Watched, watched

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]

FIRST = Window.of_partition("2026-11-12-04:00")
EIGHT = FIRST.start + 4 * HOUR
"""Three windows have to be there by then, and the fourth has only just ended."""
STEP = 9 * 60
"""Between two ticks: hardly less than what would look like a time without any."""


@pytest.fixture
def web() -> Generator[ScriptedServer]:
    with answering(Reply(b"ok")) as server:
        yield server


@contextmanager
def running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *servers: ScriptedServer, **environment: str
) -> Generator[Watched]:
    """The project with two webhooks; its first tick is that of 07:42."""
    given = {"START_DATE": "2026-11-12T04:00Z", "RESOURCES": "audit_logs", "ALERT_DIGEST_HOUR": "8", **environment}
    with watched(tmp_path, monkeypatch, [webhook(each) for each in servers], **given) as project:
        project.now = float(EIGHT - 3 * STEP)
        with project.instance() as instance:
            for kind in instance.get_required_daemon_types():
                instance.add_daemon_heartbeat(DaemonHeartbeat(float(EIGHT), kind, "id", []))
        yield project


def webhook(server: ScriptedServer) -> str:
    return f"json://{server.url.removeprefix('http://')}/"


def deliver(project: Watched, *skip: int) -> None:
    """Three windows, less those of these numbers."""
    windows = [Window(FIRST.start + hour * HOUR) for hour in range(3) if hour not in skip]
    with project.instance() as instance:
        run_that_says(instance, [event("audit_logs", each, Tally(total=1200, late=2)) for each in windows])


def until(project: Watched, at: float) -> None:
    """Ticks up to a time."""
    while project.now < at:
        project.tick(after=min(STEP, at - project.now))


def heard(server: ScriptedServer) -> list[tuple[str, str, str]]:
    """Title, text and kind of each digest."""
    bodies = [json.loads(seen.body) for seen in server.received]
    return [
        (body["title"].removeprefix("Zendesk collection, the last day: "), body["message"], body["type"])
        for body in bodies
        if body["title"].startswith("Zendesk collection, the last day")
    ]


@given(hour=st.integers(0, 23), now=st.floats(1.7e9, 2e9))
def test_a_digest_was_due_within_the_last_day(hour: int, now: float) -> None:
    """At the hour, in UTC."""
    at = due(hour, now)
    assert now - DAY < at <= now
    assert at % DAY == hour * HOUR


def test_all_is_well_is_said_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: ScriptedServer) -> None:
    """At the hour and not before, to each address, with numbers and since when; not again in the same day."""
    with answering(Reply(b"ok")) as other, running(tmp_path, monkeypatch, web, other) as project:
        deliver(project)
        until(project, EIGHT - 1)
        assert heard(web) == []
        until(project, EIGHT)
        ((title, text, kind),) = heard(web)
        assert heard(other) == [(title, text, kind)]
        assert (title, kind) == ("all is well", "success")
        assert text.splitlines() == [
            "All streams: 3 of 3 windows whole, 3,600 records, 6 late",
            "audit_logs: 3 of 3 windows whole, 3,600 records, 6 late.",
            f"{UI}/assets",
            "",
            "All is well. It has been for 0 min.",
        ]
        until(project, EIGHT + STEP)
        assert len(heard(web)) == len(heard(other)) == 1


def test_it_waits_until_everything_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: ScriptedServer
) -> None:
    """After a time without ticks, missing windows are left to the catch-up sensor for a while: nobody knows yet."""
    with running(tmp_path, monkeypatch, web) as project:
        deliver(project)
        project.now = float(EIGHT - 120)
        project.tick(after=60)
        until(project, EIGHT - 60 + SETTLING - 1)
        assert heard(web) == []
        until(project, EIGHT - 60 + SETTLING)
        assert len(heard(web)) == 1


def test_an_open_problem_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: ScriptedServer) -> None:
    """Also one that has just gone: whether it is solved is not known before five minutes."""
    with running(tmp_path, monkeypatch, web) as project:
        deliver(project)

        def judge(*, passed: bool) -> None:
            verdict = dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey("audit_logs"),
                check_name="lines_are_readable",
                passed=passed,
                severity=dg.AssetCheckSeverity.WARN,
            )
            with project.instance() as instance:
                instance.report_runless_asset_event(verdict)

        judge(passed=False)
        until(project, EIGHT - 60)
        judge(passed=True)
        until(project, EIGHT)
    ((title, text, kind),) = heard(web)
    assert (title, kind) == ("1 open problem", "warning")
    assert text.startswith("NOT YET SOLVED: audit_logs: the check lines_are_readable failed\nSince 20")
    assert "3 of 3 windows whole" in text
    assert "All is well" not in text


def test_a_window_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: ScriptedServer
) -> None:
    """It is no problem yet: nobody is alarmed before ALERT_STALE_HOURS. But all is not well."""
    with running(tmp_path, monkeypatch, web) as project:
        deliver(project, 2)
        until(project, EIGHT)
    ((title, text, _),) = heard(web)
    assert title == "1 window not delivered"
    assert "2 of 3 windows whole, 2,400 records" in text
    assert "Not delivered: 2026-11-12 06:00 (1 window, UTC)." in text
    assert "All is well" not in text


def test_what_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: ScriptedServer) -> None:
    """Nobody knows that it is well."""
    with running(tmp_path, monkeypatch, web) as project:
        deliver(project)
        until(project, EIGHT - 60)
        damage(tmp_path, "audit_logs")
        until(project, EIGHT)
    ((title, text, _),) = heard(web)
    assert title == "1 open problem, not all of it can be read"
    assert "ERROR: The alerts cannot see the runs and windows of audit_logs" in text
    assert "audit_logs: its numbers cannot be read." in text
    assert "All is well" not in text


def test_how_long_all_has_been_well_begins_with_the_end_of_a_problem() -> None:
    """And anew after a time in which nobody looked; see the sensor's memory."""
    account = Account(settings=Settings())
    made = Digest(due=EIGHT, days=[AccountDay(account=account, streams=[], unreadable=[])])
    memory = AlertMemory(salt="s", well_since=EIGHT - 3 * DAY - 4 * HOUR)
    assert "It has been for 3 d 4 h." in message(made, memory, [], UI, EIGHT).body
    assert message(made, AlertMemory(salt="s"), [], UI, EIGHT).text == "All is well."


def test_an_address_that_failed_gets_it_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next tick; the other one is not told twice meanwhile."""
    with answering(Reply(b"ok")) as other, answering(Reply(b"no", status=500), Reply(b"ok")) as web:
        with running(tmp_path, monkeypatch, web, other) as project:
            deliver(project)
            until(project, EIGHT - 1)
            assert "did not take the digest: HTTP 500" in project.tick(after=1)
            project.tick()
            project.tick()
        assert [title for title, _, _ in heard(web)] == ["all is well"] * 2
        assert len(heard(other)) == 1


def test_the_hour_is_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: ScriptedServer) -> None:
    """None without it, at another hour with another one; who sets it in the afternoon hears of it in the morning."""
    with running(tmp_path, monkeypatch, web, ALERT_DIGEST_HOUR="") as project:
        deliver(project)
        until(project, EIGHT + 60)
        monkeypatch.setenv("ALERT_DIGEST_HOUR", "9")
        project.tick()
        monkeypatch.setenv("ALERT_DIGEST_HOUR", "8")
        project.tick()
        assert heard(web) == []


@pytest.mark.parametrize("hour", ["8", "7"])
def test_the_definitions_hand_the_setting_to_the_sensor(
    hour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: ScriptedServer
) -> None:
    """As Dagster loads them, of the environment."""
    with running(tmp_path, monkeypatch, web, ALERT_DIGEST_HOUR=hour) as project:
        deliver(project)
        now, cursor = [0.0], None
        repository = build(settings.load(), Clock(now=lambda: now[0])).get_repository_def()
        for at in (EIGHT - 2 * STEP, EIGHT - STEP, EIGHT):
            now[0] = float(at)
            with project.instance() as instance:
                place = (LOCATION, instance.get_ref(), NAME, None, None)
                result = get_external_sensor_execution(repository, *place, cursor, [f"{at}"], None)
            assert isinstance(result, SensorExecutionData), result
            cursor = result.cursor
    assert len(heard(web)) == (1 if hour == "8" else 0)


@pytest.mark.parametrize("service", ["pagerduty://integrationkey@apikey?verify=no{}", "opsgenie://apikey?verify=no"])
def test_a_digest_opens_and_closes_no_incident(service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good or bad, not even of an address that names one incident for everything."""
    incidents = Incidents(open={"zendesk": "a real one"})
    with abroad(tmp_path, incidents) as host:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, host.proxy)
        kinds: tuple[tuple[NoticeKind, str], ...]
        kinds = (("success", ""), ("warning", "&action=map&dedup=zendesk"), ("success", "&dedup=zendesk"))
        for kind, more in kinds:
            told = Message(title="a digest", kind=kind, text="All is well.", digest=True)
            assert send([(addresses(service.format(more))[0], told)], 60) == [SendResult("sent")]
        assert host.posts == []
    assert incidents.open == {"zendesk": "a real one"}


# Its form


def _day(name: str, streams: Sequence[str], *, missing: int = 0) -> AccountDay:
    windows = [Window(EIGHT - hour * HOUR) for hour in range(1, 25)]
    held = {window: WindowNumbers(records=10) for window in windows[missing:]}
    return AccountDay(
        account=Account(name=name, settings=Settings()),
        streams=[StreamDay(stream=stream, windows=windows, held=held) for stream in streams],
        unreadable=[],
    )


def test_many_accounts_are_a_line_each_and_the_bad_ones_first() -> None:
    """Where there is room for few, those that need a look are shown; a radio message says in how many words it can."""
    days = [_day(f"acme_{number}", ["audit_logs", "incremental_tickets"]) for number in range(40)]
    days.append(_day("zeta", ["audit_logs"], missing=5))
    told = message(Digest(due=EIGHT, days=days), AlertMemory(salt="s"), [], UI, EIGHT)
    assert told.body.startswith("zeta: 19 of 24 windows whole, 190 records\n")
    assert "acme_0: 48 of 48 windows whole, 480 records" in told.body
    assert "And 31 more" in told.body
    title, body = fitted(told, Room(body=67))
    assert (title, body) == ("", "Zendesk collection, the last day: 5 windows not delivered")
