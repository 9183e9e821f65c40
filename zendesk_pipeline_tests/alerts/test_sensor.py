"""Alerts as people on call get them: real runs on a real instance, the sensor as Dagster's code server evaluates it."""

import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
)
from dagster._daemon.types import DaemonHeartbeat
from dagster_shared.serdes import serialize_value

from zendesk_pipeline.alerts import snapshot
from zendesk_pipeline.alerts.instance_settings import FRESHNESS, MONITORING, RETRIES
from zendesk_pipeline.alerts.notifications import DEAD
from zendesk_pipeline.alerts.sensor import AlertChannels
from zendesk_pipeline.alerts.snapshot import SETTLING
from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window
from zendesk_pipeline.orchestration.catch_up import GRACE
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.fakes.receivers import post_office, silence
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering
from zendesk_pipeline_tests.promise import other_people
from zendesk_pipeline_tests.runs import QUIET, damage
from zendesk_pipeline_tests.watched import HOURS, REPOSITORY, UI, Watched, watched

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]
SPAN = hours(3)
WRONG_TOKEN = "a-wrong-one"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Iterator[Watched]:
    """The project over the simulated Zendesk and SeaweedFS, without an address for alerts."""
    with watched(tmp_path, monkeypatch, **environment, HTTP_RETRIES="0") as running:
        yield running


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """The project without any service, its clock at the end of the first window."""
    with watched(tmp_path, monkeypatch, START_DATE="2026-11-12T05:00Z") as running:
        running.now = float(FIRST.end)
        yield running


def _webhook(server: ScriptedServer) -> str:
    return f"json://{server.url.removeprefix('http://')}/"


def _heard(server: ScriptedServer) -> list[tuple[str, str, str]]:
    """Title, text and kind of what a webhook received."""
    bodies: list[dict[str, Any]] = [json.loads(seen.body) for seen in server.received]
    return [(body["title"].removeprefix("Zendesk collection: "), body["message"], body["type"]) for body in bodies]


def _fail(project: Watched, monkeypatch: pytest.MonkeyPatch, first: int = 0, count: int = 3) -> str:
    """A run with a wrong credential; its id."""
    with monkeypatch.context() as changed, project.project() as running:
        changed.setenv("ZENDESK_API_TOKEN", WRONG_TOKEN)
        return running.run("audit_logs", hours(count, skip=first)).run_id


def _deliver(project: Watched, *windows: Window) -> None:
    """What a run of somebody's reports."""
    with project.instance() as instance:
        for window in windows:
            for asset in ("audit_logs", "incremental_tickets"):
                instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=window.partition_key))


# From the failure to the message


def test_a_failed_run_is_told_and_so_is_its_recovery(project: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """By webhook and by mail: what happened, which windows, since when, where to look; and that it is over."""
    with answering(Reply(b"ok")) as web, post_office() as office:
        mail = f"mailto://127.0.0.1:{office.port}?from=dagster@example.com&to=oncall@example.com"
        monkeypatch.setenv("ALERT_URLS", f"{_webhook(web)}, {mail}")
        run_id = _fail(project, monkeypatch)
        assert project.tick() == "1 problem: audit_logs: 3 windows failed"
        assert project.tick() == "1 problem: audit_logs: 3 windows failed"
        with project.project() as running:
            assert running.run("audit_logs", SPAN).success
        assert project.tick(after=7800) == "Nothing is wrong"
    (title, text, kind), solved = _heard(web)
    assert (title, kind) == ("audit_logs: 3 windows failed", "warning")
    lines = text.splitlines()
    assert lines[0] == "WARNING: audit_logs: 3 windows failed"
    assert lines[1].startswith("Zendesk answered 401 to /api/v2/audit_logs (")
    assert lines[2] == "Windows: 2026-11-12 05:00 to 2026-11-12 07:00 (3 windows, UTC)."
    assert lines[3].startswith("One run failed.")
    assert lines[4].startswith("Since 20")
    assert lines[5] == f"{UI}/runs/{run_id}"
    assert solved[0] == "Delivered now: 3 windows of audit_logs that had failed"
    assert solved[1].startswith("SOLVED after 2 h 1")
    assert solved[2] == "success"
    assert [_subject(mail) for mail in office.mails] == [title, solved[0]]
    assert office.mails[0].get_content().strip() == text


def _subject(mail: EmailMessage) -> str:
    return str(mail["Subject"]).removeprefix("Zendesk collection: ")


def test_a_failure_that_grows_is_told_again(project: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of its windows; more of the same cause is no alert of its own."""
    with answering(Reply(b"ok")) as web:
        monkeypatch.setenv("ALERT_URLS", _webhook(web))
        _fail(project, monkeypatch)
        project.tick()
        _fail(project, monkeypatch, first=10, count=4)
        project.tick()
    (_, _, _), (title, text, _) = _heard(web)
    assert title == "audit_logs: 7 windows failed"
    assert text.startswith("WARNING (it has grown): audit_logs: 7 windows failed\n")
    assert "2026-11-12 05:00 to 2026-11-12 07:00, 2026-11-12 15:00 to 2026-11-12 18:00 (7 windows, UTC)" in text


def test_several_problems_are_one_message(quiet: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that failed and a schedule that somebody switched off: one look, one message."""
    with answering(Reply(b"ok")) as web:
        monkeypatch.setenv("ALERT_URLS", _webhook(web))
        with quiet.instance() as instance:
            origin = REPOSITORY.get_instigator_origin("hourly_collection_schedule")
            data = ScheduleInstigatorData("5 * * * *")
            instance.add_instigator_state(
                InstigatorState(origin, InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, data)
            )
        quiet.now += 4 * HOUR
        for _ in range(SETTLING // 300 + 1):
            quiet.tick(after=300)
    first, second = _heard(web)
    assert first[0] == "The schedule hourly_collection_schedule is switched off"
    assert second[0].endswith(" problems")
    assert "ERROR: audit_logs is behind: " in second[1]
    assert "ERROR: incremental_tickets is behind: " in second[1]


def test_windows_that_nobody_collects_are_told(quiet: Watched) -> None:
    """Three hours after their end; not while the sensors have just begun to run; until they are delivered."""
    quiet.now += 3 * HOUR
    ticks = [quiet.tick(after=300) for _ in range(SETTLING // 300 + 1)]
    assert not any(" is behind" in tick for tick in ticks[:-1])
    assert "audit_logs is behind: 1 window missing for more than 3 h" in ticks[-1]
    _deliver(quiet, FIRST)
    assert "is behind" not in quiet.tick()


# What the catch-up sensor does not ask for


def _asleep(quiet: Watched, hours_later: float) -> str:
    """Time without a tick, then ticks until missing windows are looked for; what the last one has logged."""
    quiet.now += hours_later * HOUR
    with quiet.instance() as instance:  # whose daemon lives: its silence would be more than a message shows
        for kind in instance.get_required_daemon_types():
            instance.add_daemon_heartbeat(DaemonHeartbeat(quiet.now + SETTLING, kind, "id", []))
    for _ in range(SETTLING // 300 + 1):
        quiet.tick(after=300)
    return quiet.log


def test_windows_that_an_outage_made_too_old_are_told_with_the_command_until_they_are_delivered(quiet: Watched) -> None:
    """The daemon was down for 30 h with CATCH_UP_HOURS=24: what the sensor collects then does not solve the rest."""
    with quiet.instance() as instance:
        event = dg.AssetMaterialization("audit_logs", partition=FIRST.partition_key)
        instance.report_runless_asset_event(event)
    quiet.now = max(quiet.now, time.time())  # when the first window was delivered, by Dagster's own clock
    begin = Window.of(int(quiet.now))
    _deliver_audit_logs(quiet, Span(FIRST.start, begin.start))
    log = _asleep(quiet, 30)
    lost = [*Span(begin.start, Window.of(int(quiet.now) - GRACE).start - HOURS * HOUR)]
    assert len(lost) > 3
    command = (
        "dagster asset materialize -m zendesk_pipeline.definitions --select audit_logs --partition-range"
        f' "{lost[0].partition_key}...{lost[-1].partition_key}"'
    )
    assert f"{len(lost)} of them are older than CATCH_UP_HOURS (24): nothing asks for them. Collect them:" in log
    assert _logged(command) in log

    _deliver_audit_logs(quiet, Span(lost[-1].end, int(quiet.now) // HOUR * HOUR))
    quiet.tick()
    assert f"audit_logs is behind: {len(lost)} windows missing for more than 3 h" in quiet.log
    assert _logged(command) in quiet.log

    _deliver_audit_logs(quiet, Span(lost[0].start, lost[-1].end))
    quiet.tick()
    assert "audit_logs is behind" not in quiet.log


def test_windows_from_before_the_collection_was_on_are_a_hint_and_told_once(
    quiet: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """START_DATE lies weeks back and nobody has launched a backfill: no error, and no reminder."""
    quiet.now = time.time()
    with answering(Reply(b"ok")) as web:
        monkeypatch.setenv("ALERT_URLS", _webhook(web))
        begin = Window.of(int(quiet.now)).start - HOURS * HOUR
        _deliver_audit_logs(quiet, Span(begin, begin + HOURS * HOUR))
        log = _asleep(quiet, 0)
        _asleep(quiet, 1)
    never = (begin - FIRST.start) // HOUR
    assert f"audit_logs: {never:,} windows since START_DATE not collected yet. Not asked for since" in log
    assert _logged(f'audit_logs --partition-range "{FIRST.partition_key}...') in log
    told = [text for _, text, _ in _heard(web) if "audit_logs: " in text and "since START_DATE" in text]
    assert [text.count("WARNING: audit_logs: ") for text in told] == [1]
    assert not any("ERROR: audit_logs" in text for _, text, _ in _heard(web))


def test_windows_whose_records_zendesk_keeps_no_longer_are_not_asked_for(
    quiet: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Access logs are kept for 90 days: the command begins where they still are, whatever START_DATE says."""
    monkeypatch.setenv("RESOURCES", "access_logs")
    quiet.now = float(FIRST.start + 200 * DAY)
    log = _asleep(quiet, 0)
    first = Window(FIRST.start + 111 * DAY + HOUR)
    assert _logged(f'access_logs --partition-range "{first.partition_key}...') in log
    assert FIRST.partition_key not in log


def test_what_a_person_cancelled_is_called_so(quiet: Watched) -> None:
    """It is missing all the same."""
    with quiet.instance() as instance:
        tags = {"dagster/partition": FIRST.partition_key}
        run = dg.DagsterRun(job_name="__ASSET_JOB", tags=tags, asset_selection=frozenset({dg.AssetKey("audit_logs")}))
        instance.add_run(run)
        instance.report_run_canceling(run)
        instance.report_run_canceled(run)
    log = _asleep(quiet, 3)
    assert "that is delivered: none. 1 of them was cancelled by a person: launch again what is wanted." in log


def _logged(text: str) -> str:
    """As it stands in a log whose lines are JSON."""
    return json.dumps(text)[1:-1]


def _deliver_audit_logs(project: Watched, span: Span) -> None:
    with project.instance() as instance:
        for window in span:
            event = dg.AssetMaterialization("audit_logs", partition=window.partition_key)
            instance.report_runless_asset_event(event)


# What is not ours


def test_other_peoples_failures_are_not_told_and_hush_nothing(quiet: Watched) -> None:
    """Runs of each kind that failed, and one of an hourly job of theirs at work on the hour that we miss."""
    with quiet.instance() as instance:
        other_people.run_assets(instance)
        tags = {"dagster/partition": FIRST.partition_key}
        for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED):
            instance.add_run(dg.DagsterRun(job_name="their_job", status=status, tags=tags))
    assert quiet.tick() == "Nothing is wrong"
    quiet.now += 3 * HOUR
    ticks = [quiet.tick(after=300) for _ in range(SETTLING // 300 + 1)]
    assert "audit_logs is behind: 1 window missing for more than 3 h" in ticks[-1]
    assert "theirs" not in quiet.log


def test_partitions_that_are_no_hours_end_no_look(quiet: Watched) -> None:
    """A failed run of ours for half past five, and half hours that an older release has delivered."""
    with quiet.instance() as instance:
        run = dg.DagsterRun(
            job_name="__ASSET_JOB",
            tags={"dagster/partition": "2026-11-12-05:30"},
            asset_selection=frozenset({dg.AssetKey("audit_logs")}),
        )
        instance.add_run(run)
        instance.report_run_failed(run)
        for key in ("2026-11-12-05:30", "2026-11-12"):
            instance.report_runless_asset_event(dg.AssetMaterialization("audit_logs", partition=key))
    quiet.now += 3 * HOUR
    ticks = [quiet.tick(after=300) for _ in range(SETTLING // 300 + 1)]
    assert "cannot see" not in ticks[-1]
    assert "audit_logs is behind: 1 window missing for more than 3 h" in ticks[-1]
    assert "The newest window that is delivered: none." in quiet.log


def test_an_asset_that_cannot_be_looked_at_does_not_hide_the_others(quiet: Watched) -> None:
    """Its row in the database is damaged: that is told by name, and so is what is wrong with the others."""
    quiet.now += 3 * HOUR
    for _ in range(SETTLING // 300 + 1):
        quiet.tick(after=300)
    with quiet.instance() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization("audit_logs", partition=FIRST.partition_key))
    damage(quiet.folder, "audit_logs")
    quiet.tick()
    assert "The alerts cannot see the runs and windows of audit_logs" in quiet.log
    assert "incremental_tickets is behind: 1 window missing for more than 3 h" in quiet.log


# No address, wrong addresses


def test_without_an_address_problems_are_in_the_log(project: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the tick counts them."""
    monkeypatch.setenv("ALERT_URLS", " ")
    assert project.tick() == "Nothing is wrong"
    _fail(project, monkeypatch)
    assert project.tick() == "1 problem: audit_logs: 3 windows failed"
    assert "audit_logs: 3 windows failed. Zendesk answered 401" in project.log
    assert WRONG_TOKEN not in project.log


def test_an_address_that_cannot_be_understood_is_named(project: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its place and scheme, before there is anything to tell; the other addresses get their alerts."""
    with answering(Reply(b"ok")) as web:
        monkeypatch.setenv("ALERT_URLS", f"slakc://s3cret-1, {_webhook(web)}, s3cret-2")
        said = project.tick()
        _fail(project, monkeypatch)
        project.tick()
    for address in ("address 1 of ALERT_URLS (slakc)", "address 3 of ALERT_URLS (no scheme)"):
        assert f"{address} did not take the alert: Apprise does not understand it" in said
    assert [title for title, _, _ in _heard(web)] == ["audit_logs: 3 windows failed"]


def test_without_an_address_that_can_be_understood_the_tick_fails(
    quiet: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else could show it."""
    monkeypatch.setenv("ALERT_URLS", "slakc://s3cret-1 s3cret-2")
    assert quiet.evaluate() == (
        "zendesk_pipeline.model.errors.SettingsError: ALERT_URLS: Apprise does not understand address 1 (slakc),"
        " 2 (no scheme). https://appriseit.com/services/ says how addresses are written.\n"
    )


# The instance


def test_an_instance_without_limits_is_told_once_and_when_they_are_set(
    quiet: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning with what to set; no reminder; and a word when it is done."""
    whole = (quiet.folder / "dagster.yaml").read_text()
    with answering(Reply(b"ok")) as web:
        monkeypatch.setenv("ALERT_URLS", _webhook(web))
        rules = ["telemetry: {enabled: false}", MONITORING, RETRIES, FRESHNESS]
        (quiet.folder / "dagster.yaml").write_text("\n".join([*rules, ""]))
        assert quiet.tick() == "1 problem: This Dagster instance has no limit for 2 pools"
        assert quiet.tick() == "1 problem: This Dagster instance has no limit for 2 pools"
        (quiet.folder / "dagster.yaml").write_text(whole)
        assert [quiet.tick() for _ in range(6)] == ["Nothing is wrong"] * 6
    (title, text, kind), (over, _, _) = _heard(web)
    assert (title, kind) == ("This Dagster instance has no limit for 2 pools", "warning")
    assert "\ndagster instance concurrency set zendesk_audit_logs 1\n" in text
    assert over == "The pools of the streams have limits now"


# Addresses that fail


def test_what_an_address_missed_it_gets_after_a_restart(project: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next tick, and the address that had it is not told twice: the cursor knows them apart."""
    with answering(Reply(status=503), Reply(b"ok")) as failing, answering(Reply(b"ok")) as web:
        monkeypatch.setenv("ALERT_URLS", f"{_webhook(failing)} {_webhook(web)}")
        _fail(project, monkeypatch)
        assert project.tick().endswith("address 1 of ALERT_URLS (json) did not take the alert: HTTP 503")
        restarted = Watched(project.folder, now=project.now, cursor=project.cursor)
        assert restarted.tick() == "1 problem: audit_logs: 3 windows failed"
        restarted.tick()
    assert [len(server.received) for server in (failing, web)] == [2, 1]
    (first, again), (told,) = _heard(failing), _heard(web)
    assert first == told
    assert again[0] == told[0]


def test_an_address_that_hangs_holds_nobody_up(project: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are told, and the tick ends long before Dagster would give it up."""
    with answering(Reply(b"ok")) as web, silence() as silent:
        monkeypatch.setenv("ALERT_URLS", f"json://127.0.0.1:{silent} {_webhook(web)}")
        _fail(project, monkeypatch)
        said = project.tick()
    assert "address 1 of ALERT_URLS (json) did not take the alert: " in said
    assert len(web.received) == 1


def test_that_an_address_is_dead_is_told_to_the_others(quiet: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """And tries to reach it become rarer."""
    with answering(Reply(b"ok")) as web:
        monkeypatch.setenv("ALERT_URLS", f"slakc://s3cret {_webhook(web)}")
        said = [quiet.tick() for _ in range(DEAD + 1)]
    assert [tick.count("did not take the alert") for tick in said] == [1, 1, 1, 0]
    ((title, text, _),) = _heard(web)
    assert title == "Alerts do not reach address 1 of ALERT_URLS (slakc)"
    assert "3 tries in a row failed; of the latest: Apprise does not understand it." in text


# What must not happen


def test_no_address_is_written_anywhere(
    project: Watched,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither when it works nor when it fails, whatever Apprise logs: in no file, log, cursor, error or repr."""
    monkeypatch.setattr(logging.root, "level", 1)
    caplog.set_level(1)
    with answering(Reply(b"ok")) as web, answering(Reply(b"s3cret", status=500)) as failing:
        urls = [
            f"json://user:s3cret@{web.url.removeprefix('http://')}/s3cret?+X-Key=s3cret",
            f"json://user:s3cret@{failing.url.removeprefix('http://')}/s3cret",
            "json://user:s3cret@127.0.0.1:1/s3cret",
            "mailto://user:s3cret@127.0.0.1:1?from=a@example.com&to=b@example.com",
            "slakc://s3cret",
            "s3cret",
        ]
        monkeypatch.setenv("ALERT_URLS", " ".join(urls))
        _fail(project, monkeypatch)
        said = project.tick()
        with project.project() as running:
            snapshot = serialize_value(RepositorySnap.from_def(running.definitions.get_repository_def()))
            definitions = repr(running.definitions)
        monkeypatch.setenv("ALERT_URLS", "slakc://s3cret")
        error = project.evaluate()
    assert len(web.received) == len(failing.received) == 1
    assert said.count("did not take the alert") == 5
    assert "understand" in str(error)
    output = capfd.readouterr()
    shown = [said, str(error), project.cursor or "", snapshot, definitions, caplog.text, output.out, output.err]
    shown += [repr(AlertChannels(urls="s3cret")), str(AlertChannels(urls="s3cret"))]
    stored = [path.read_bytes() for path in project.folder.rglob("*") if path.is_file()]
    assert [text for text in shown if "s3cret" in text] == []
    assert [body for body in stored if b"s3cret" in body] == []
    assert b"ALERT_URLS" in b"".join(stored)


def test_a_failed_run_is_told_where_other_facts_cannot_be_read(
    project: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that the database gives up, about the asset's windows of years, hides no run of the last hour."""
    _fail(project, monkeypatch)

    def gives_up(*_: object) -> float:
        raise TimeoutError

    with monkeypatch.context() as broken:
        broken.setattr(snapshot, "rate_limit_waits", gives_up)
        said = project.tick()
    assert "audit_logs: 3 windows failed" in said
    assert "The alerts cannot see the runs and windows of audit_logs" in said
    assert project.tick() == "1 problem: audit_logs: 3 windows failed"


def test_what_cannot_be_looked_at_does_not_silence_the_rest(project: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of Dagster that has changed or is broken is a problem itself."""
    _fail(project, monkeypatch)
    project.tick()
    with sqlite3.connect(project.folder / "schedules" / "schedules.db") as database:
        for table in ("instigators", "jobs"):
            database.execute(f"DROP TABLE {table}")
    said = project.tick()
    assert said == "2 problems (1 ERROR): audit_logs: 3 windows failed, The alerts cannot see schedules and sensors"
