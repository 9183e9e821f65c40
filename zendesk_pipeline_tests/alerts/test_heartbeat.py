"""The dead man's signal: what services outside hear, by the alert sensor as Dagster evaluates it."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from zendesk_pipeline.alerts.heartbeat import failing
from zendesk_pipeline.alerts.snapshot import SETTLING
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline_tests.by_hand import FIRST
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering
from zendesk_pipeline_tests.runs import QUIET
from zendesk_pipeline_tests.watched import Watched, watched

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]

NOTHING: list[tuple[str, str]] = []
UP, DOWN = [("status", "up"), ("msg", "OK"), ("ping", "")], [("status", "down"), ("msg", "2 problems"), ("ping", "")]
SERVICES = {
    "Healthchecks": ("/ping/2d6d8a47", ("/ping/2d6d8a47", NOTHING), ("/ping/2d6d8a47/fail", NOTHING)),
    "Better Stack": ("/api/v1/heartbeat/s", ("/api/v1/heartbeat/s", NOTHING), ("/api/v1/heartbeat/s/fail", NOTHING)),
    "Uptime Kuma": ("/api/push/s?status=up&msg=OK&ping=", ("/api/push/s", UP), ("/api/push/s", DOWN)),
}
"""The address of each, and what it is asked while all is well, and with two problems."""


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("https://hc-ping.com/2d6d8a47", "https://hc-ping.com/2d6d8a47/fail"),
        ("https://hc-ping.com/key/zendesk", "https://hc-ping.com/key/zendesk/fail"),
        ("https://hc.example.com/checks/ping/2d6d8a47/", "https://hc.example.com/checks/ping/2d6d8a47/fail"),
        ("https://uptime.betterstack.com/api/v1/heartbeat/a", "https://uptime.betterstack.com/api/v1/heartbeat/a/fail"),
        ("https://kuma.example.com/api/push/a", "https://kuma.example.com/api/push/a?status=down&msg=2+problems"),
        ("https://cronitor.link/p/key/zendesk", "https://cronitor.link/p/key/zendesk?state=fail&message=2+problems"),
        (
            "https://cronitor.link/p/key/zendesk?env=prod&state=complete",
            "https://cronitor.link/p/key/zendesk?env=prod&state=fail&message=2+problems",
        ),
        ("https://hc-ping.com/2d6d8a47/start", "https://hc-ping.com/2d6d8a47/fail"),
        ("https://hc-ping.com/2d6d8a47/0", "https://hc-ping.com/2d6d8a47/fail"),
        ("https://cronitor.link/abc/complete", None),
        ("https://example.com/shopping/list", None),
        ("https://nosnch.in/c2354d53d2", None),
        ("https://example.com/hook?status=up", None),
    ],
)
def test_a_failure_is_said_as_the_service_wants_it(address: str, asked: str | None) -> None:
    """By the address alone; nothing where a request could only say that all is well."""
    assert failing(address, "2 problems") == asked


def _watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, *alerts: str) -> Watched:
    environment = {"START_DATE": "2026-11-12T05:00Z", "HEARTBEAT_URL": url}
    with watched(tmp_path, monkeypatch, alerts, **environment) as running:
        running.now = float(FIRST.end)
        return running


def _stale(running: Watched) -> None:
    """Hours pass, and nothing is collected; the daemon lives."""
    running.now += 4 * HOUR
    with running.instance() as instance:
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(running.now + SETTLING, kind, "id", []))
    for _ in range(SETTLING // 300 + 1):
        running.tick(after=300)


def _deliver(running: Watched, hours: int) -> None:
    with running.instance() as instance:
        for hour in range(hours):
            for asset in ("audit_logs", "incremental_tickets"):
                key = Window(FIRST.start + hour * HOUR).partition_key
                instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


def _asked(service: ScriptedServer) -> list[tuple[str, list[tuple[str, str]]]]:
    return [(request.path, list(request.query)) for request in service.received]


@pytest.mark.parametrize("name", SERVICES)
def test_each_tick_says_that_all_is_well_or_that_it_is_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address while nothing is an error; that of a failure once something is."""
    address, well, failed = SERVICES[name]
    with answering(*[Reply(b"OK")] * 20) as service:
        running = _watched(tmp_path, monkeypatch, f"{service.url}{address}")
        running.tick()
        running.tick()
        assert _asked(service) == [well, well]
        _stale(running)
        assert _asked(service)[-1] == failed


def test_a_service_that_knows_no_failure_hears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alarms when the sign of life stays away, and hears it again when the problem is over."""
    with answering(*[Reply(b"OK")] * 20) as service:
        running = _watched(tmp_path, monkeypatch, f"{service.url}/a-secret")
        running.tick()
        _stale(running)
        before = len(service.received)
        assert "2 problems" in running.tick()
        assert len(service.received) == before
        _deliver(running, hours=9)
        assert running.tick().startswith("Nothing is wrong")
        assert _asked(service)[before:] == [("/a-secret", NOTHING)]


def test_an_address_that_does_not_answer_stops_no_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tick says so, without the address, and goes on."""
    with answering(*[Reply(b"no", status=500)] * 9) as service:
        running = _watched(tmp_path, monkeypatch, f"{service.url}/ping/a-secret")
        assert "HEARTBEAT_URL does not answer as it should" in running.tick()
    assert "a-secret" not in running.log
    for wrong in ("nonsense", "https://[hc-ping.com/nonsense", "https://"):
        running = _watched(tmp_path, monkeypatch, wrong)
        said = running.tick()
        assert "HEARTBEAT_URL is wrong" in said
        assert "nonsense" not in said


def test_where_no_alert_can_be_sent_no_sign_of_life_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would hear of a problem: that is not well."""
    with answering(Reply(b"OK")) as service:
        running = _watched(tmp_path, monkeypatch, f"{service.url}/ping/a-secret", "nonsense://there")
        assert isinstance(running.evaluate(), str)
        assert service.received == []
