"""`zendesk-pipeline metrics`, by the records of real Dagster instances."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
from click.testing import CliRunner
from prometheus_client import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics  # pyright: ignore[reportUnknownVariableType]  # it has no types
from prometheus_client.parser import text_string_to_metric_families as classic
from sqlalchemy import event as sql
from sqlalchemy.engine import Engine

from zendesk_pipeline.alerts.dagster_problems import TOKENS_END
from zendesk_pipeline.cli import main
from zendesk_pipeline.commands.metrics.exposition import registry
from zendesk_pipeline.commands.metrics.facts import FEED_STATES, KEPT, OLD_VERDICT, Reader
from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up import GRACE
from zendesk_pipeline.orchestration.missing_windows import COUNTED_EVERY
from zendesk_pipeline.orchestration.secops_check import CHECK, NO_FEED, READ_ONLY, STATE
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.project.foreign import TYPE
from zendesk_pipeline_tests.promise import kept_runs
from zendesk_pipeline_tests.reported import event, run_that_says
from zendesk_pipeline_tests.runs import QUIET, damage, undamage

pytestmark = QUIET

Numbers = Mapping[tuple[str, ...], float]
"""By the name, and `label=value` of each label that is not the account without a name."""
ONE = {"resources": "audit_logs", "start_date": "2026-11-12T05:00Z", "catch_up_hours": 24}
SECOPS = {
    "secops_customer_id": "0ddba11a-0000-4000-8000-00000000c0de",
    "secops_project": "acme-secops",
    "secops_region": "eu",
    "s3_bucket": "soc",
}
PLACE = {"zendesk_base_url": "https://acme.zendesk.com", "s3_bucket": "soc-logs"}


class Watch:
    """A reader of an instance in a folder, its clock in hand."""

    def __init__(self, home: Path, *accounts: Account, now: float) -> None:
        self.home, self.now, self.said = home, now, list[str]()
        clock = Clock(now=lambda: self.now, monotonic=lambda: self.now)
        self.reader = Reader(home=home, accounts=accounts, clock=clock, say=self.said.append)

    def numbers(self, after: float = KEPT) -> Numbers:
        """What Prometheus gets so long after the last time."""
        self.now += after
        return parsed(generate_latest(registry(self.reader.read)).decode())

    @contextmanager
    def instance(self) -> Generator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.home)) as opened:
            yield opened


def parsed(text: str, parser: Any = classic) -> Numbers:
    return {
        (each.name, *(f"{name}={value}" for name, value in each.labels.items() if value != "zendesk")): each.value
        for family in parser(text)
        for each in family.samples
    }


def account(name: str = "", **chosen: Any) -> Account:
    return Account(name=name, settings=Settings.model_validate({**ONE, **chosen}), minute=5)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return kept_runs.home(tmp_path / "dagster")


@pytest.fixture
def watch(home: Path) -> Watch:
    """Of audit logs alone, half an hour after the first 30 windows."""
    return Watch(home, account(), now=float(hours(30).end) + 1800)


def deliver(watch: Watch, windows: Sequence[Window] | Span, asset: str = "audit_logs", **tally: Any) -> None:
    with watch.instance() as instance:
        run_that_says(instance, [event(asset, each, Tally(**tally)) for each in windows])


STREAM = "stream=audit_logs"


def test_a_stream_is_told_in_numbers(watch: Watch) -> None:
    """Age, windows and records of the newest, and of the last day; what was not delivered is said by its reason."""
    deliver(watch, hours(27), total=10, bytes=500, late=1, quarantined=2, malformed=3, ahead=4)
    deliver(watch, hours(1, skip=28), total=7, bytes=70)
    found = watch.numbers()
    day = 22  # of the last 24 windows, the last but two and the last are missing
    assert {name: value for (name, *labels), value in found.items() if STREAM in labels and len(labels) == 1} == {
        "zendesk_newest_whole_window_age_seconds": HOUR + 1800 + KEPT,
        "zendesk_newest_whole_window_records": 7,
        "zendesk_newest_whole_window_bytes": 70,
        "zendesk_missing_windows": 2,
        "zendesk_last_day_records": 10 * (day - 1) + 7,
        "zendesk_last_day_bytes": 500 * (day - 1) + 70,
        "zendesk_last_day_late_records": day - 1,
        "zendesk_last_day_quarantined_records": 2 * (day - 1),
        "zendesk_last_hour_rate_limit_wait_seconds": 0,
    }
    held_back = "zendesk_last_day_held_back_records"
    assert found[held_back, "reason=malformed", STREAM] == 3 * (day - 1)
    assert found[held_back, "reason=ahead_of_the_clock", STREAM] == 4 * (day - 1)
    assert found["zendesk_up",] == 1
    assert found["zendesk_read_timestamp_seconds",] == watch.now


def test_a_stream_that_delivered_nothing_is_as_old_as_its_first_window(watch: Watch) -> None:
    """And all of its windows are missing: an absence that an alert on the age hears of."""
    found = watch.numbers()
    assert found["zendesk_newest_whole_window_age_seconds", STREAM] == watch.now - FIRST.start
    assert found["zendesk_missing_windows", STREAM] == 30
    assert ("zendesk_newest_whole_window_records", STREAM) not in found


def test_a_newest_window_of_long_ago_shows_no_numbers(watch: Watch) -> None:
    """They would look like those of now; its age is told."""
    deliver(watch, hours(3), total=9)
    found = watch.numbers()
    assert found["zendesk_newest_whole_window_age_seconds", STREAM] == watch.now - hours(3).end
    assert ("zendesk_newest_whole_window_records", STREAM) not in found
    assert found["zendesk_last_day_records", STREAM] == 0


def test_a_window_may_be_on_its_way_for_some_minutes(watch: Watch) -> None:
    """As the catch-up sensor leaves it to the schedule: only then it is missing; later if an account begins later."""
    deliver(watch, hours(29))
    watch.now = float(hours(30).end) + GRACE - 2 * KEPT
    assert watch.numbers()["zendesk_missing_windows", STREAM] == 0
    assert watch.numbers()["zendesk_missing_windows", STREAM] == 1
    watch.reader = Reader(
        home=watch.home,
        accounts=[Account(settings=account().settings, minute=25)],
        clock=watch.reader.clock,
        say=watch.said.append,
    )
    assert watch.numbers()["zendesk_missing_windows", STREAM] == 0
    assert watch.numbers(after=20 * 60)["zendesk_missing_windows", STREAM] == 1


def test_what_is_delivered_is_seen_at_the_next_look(watch: Watch) -> None:
    """A window of the last days half a minute later; an old one, which costs a count of all, within ten minutes."""
    watch.numbers()
    deliver(watch, hours(30))
    found = watch.numbers()
    assert found["zendesk_newest_whole_window_age_seconds", STREAM] == 1800 + 2 * KEPT
    assert found["zendesk_missing_windows", STREAM] == 30 - 24
    assert watch.numbers(after=COUNTED_EVERY)["zendesk_missing_windows", STREAM] == 0


def test_waits_for_the_rate_limit_are_those_of_the_last_hour(watch: Watch) -> None:
    """By when they were reported: Dagster's clock, which is the real one."""
    newest = Window.of(int(time.time()) - HOUR)
    watch.now = time.time() + 60
    deliver(watch, [newest], waited=123.5)
    assert watch.numbers()["zendesk_last_hour_rate_limit_wait_seconds", STREAM] == 123.5
    assert watch.numbers(after=2 * HOUR)["zendesk_last_hour_rate_limit_wait_seconds", STREAM] == 0


# What it costs


@contextmanager
def statements() -> Generator[list[str]]:
    """The SQL that is sent meanwhile, but for SQLite's own settings."""
    sent: list[str] = []

    def note(*told: Any) -> None:
        if not told[2].startswith("PRAGMA"):
            sent.append(told[2])

    sql.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sql.remove(Engine, "before_cursor_execute", note)


def test_a_look_costs_a_few_statements_whatever_else_is_in_the_instance(watch: Watch) -> None:
    """Eight for a stream and one for the account; other people's runs and assets none; within KEPT seconds none."""
    deliver(watch, hours(30), total=1)
    watch.numbers()
    with statements() as sent:
        watch.numbers()
    alone = len(sent)
    assert alone == 9, sent
    deliver(watch, hours(9), asset="somebody/elses")
    for _ in range(5):
        with watch.instance() as instance:
            run_that_says(instance, [])
    with statements() as sent:
        watch.numbers()
        assert len(sent) == alone
        watch.numbers(after=KEPT - 1)
        assert len(sent) == alone


# What cannot be read


def test_an_account_that_cannot_be_read_is_not_up_and_shows_no_number(home: Path) -> None:
    """Nothing stale either; the others go on, and so does the account once it can be read again."""
    watch = Watch(home, account("acme"), account("beta"), now=float(hours(30).end) + 1800)
    for name in ("acme", "beta"):
        deliver(watch, hours(30), asset=f"{name}/audit_logs", total=4)
    before = watch.numbers()
    damage(home, "acme/audit_logs")
    found = watch.numbers()
    assert (found["zendesk_up", "account=acme"], found["zendesk_up", "account=beta"]) == (0, 1)
    assert [key for key in found if "account=acme" in key] == [("zendesk_up", "account=acme")]
    assert found["zendesk_last_day_records", "account=beta", STREAM] == 96
    assert "records of acme cannot be read" in watch.said[-1]
    undamage(home, "acme/audit_logs")
    assert watch.numbers().keys() == before.keys()


def test_a_database_that_does_not_answer_shows_no_number(home: Path) -> None:
    """A scrape is answered all the same, by `zendesk_up 0`; the exit status is 1; nothing of the address is shown."""
    storage = "storage: {postgres: {postgres_url: 'postgresql://someone:a-secret@127.0.0.1:1/dagster'}}\n"
    (home / "dagster.yaml").write_text(storage)
    code, output = printed(home)
    assert code == 1
    assert 'zendesk_up{account="zendesk"} 0.0' in output
    assert "zendesk_missing_windows{" not in output
    assert "a-secret" not in output
    assert "Dagster's records of zendesk cannot be read" in output


# Checks, the feed, the credential


def judge(watch: Watch, key: dg.AssetCheckKey, severity: dg.AssetCheckSeverity | None, **metadata: Any) -> None:
    verdict = dg.AssetCheckEvaluation(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=severity is None,
        severity=severity or dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )
    with watch.instance() as instance:
        instance.report_runless_asset_event(verdict)


def test_failing_checks_are_named_and_counted(watch: Watch) -> None:
    """By their latest verdict; one that was never evaluated is not shown, and one of somebody else's neither."""
    names = ("volume_is_usual", "objects_match_ledgers", "lines_are_readable")
    volume, objects, readable = (dg.AssetCheckKey(dg.AssetKey("audit_logs"), name) for name in names)
    judge(watch, readable, dg.AssetCheckSeverity.ERROR)
    judge(watch, readable, None)
    judge(watch, volume, dg.AssetCheckSeverity.WARN)
    judge(watch, objects, dg.AssetCheckSeverity.ERROR)
    judge(watch, dg.AssetCheckKey(dg.AssetKey("theirs"), "fails"), dg.AssetCheckSeverity.ERROR)
    found = watch.numbers()
    asset = "asset=audit_logs"
    assert {key[1:]: value for key, value in found.items() if key[0] == "zendesk_check_failing"} == {
        (asset, "check=volume_is_usual"): 1,
        (asset, "check=objects_match_ledgers"): 1,
        (asset, "check=lines_are_readable"): 0,
    }
    counted = [found["zendesk_failing_checks", f"severity={each}"] for each in ("warning", "error")]
    assert counted == [1, 1]


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("ACTIVE", "active"),
        ("INACTIVE", "inactive"),
        ("FAILED", "failed"),
        ("IN_PROGRESS", "in_progress"),
        ("COMPLETED", "completed"),
        (f"ACTIVE, {READ_ONLY}", "read_only"),
        (NO_FEED, "none"),
        ("STATE_UNSPECIFIED", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_feed_has_one_state(home: Path, said: str | None, state: str) -> None:
    """The one that SecOps said last; where it did not answer, or nobody has asked it for hours, it is not known."""
    watch = Watch(home, account(**SECOPS), now=time.time())
    key = dg.AssetCheckKey(dg.AssetKey("secops_feed"), CHECK)
    judge(watch, key, dg.AssetCheckSeverity.WARN, **({STATE: said} if said else {}))

    def state_of(found: Numbers) -> list[str]:
        return [each for each in FEED_STATES if found["zendesk_feed_state", f"zendesk_feed_state={each}"]]

    assert state_of(watch.numbers()) == [state]
    assert state_of(watch.numbers(after=OLD_VERDICT)) == ["unknown"]


def test_a_feed_that_nobody_watches_has_no_state(watch: Watch) -> None:
    """Without the settings of SecOps: silence is not a good state."""
    assert not any(name == "zendesk_feed_state" for name, *_ in watch.numbers())


def test_the_credential_that_ends_says_when(home: Path) -> None:
    """An API token does; one that renews itself has no end to tell."""
    at = TOKENS_END.timestamp() - 9 * 24 * HOUR
    watch = Watch(home, account("acme", auth_mode="token"), account("beta", auth_mode="oauth"), now=at - KEPT)
    found = watch.numbers()
    assert found["zendesk_credential_left_seconds", "account=acme"] == 9 * 24 * HOUR
    assert ("zendesk_credential_left_seconds", "account=beta") not in found


# The command


def printed(home: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    given = {"DAGSTER_HOME": str(home), "RESOURCES": "audit_logs", "START_DATE": "2026-11-12", **environment}
    result = CliRunner().invoke(main, ["metrics", *arguments], env=given)
    return result.exit_code, result.output


def test_all_of_it_is_openmetrics_by_prometheus_own_reader(home: Path) -> None:
    """Served by the command to whoever asks for OpenMetrics, whose reader is strict about names, units and states."""
    deliver(Watch(home, now=0), [Window.of(int(time.time()) - 2 * HOUR)], total=5)
    with served(home) as url:
        answer = requests.get(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"}, timeout=30)
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        text = answer.text
        assert parsed(text, openmetrics)["zendesk_up",] == 1
        assert parsed(text, openmetrics)["zendesk_newest_whole_window_records", STREAM] == 5
        units = {family.name: family.unit for family in openmetrics(text) if family.unit}
        assert set(units.values()) == {"seconds", "records", "bytes", "windows"}
        assert {family.type for family in openmetrics(text)} == {"gauge", "stateset"}
        older = requests.get(url, headers={"Accept": "text/plain"}, timeout=30).text
        assert parsed(older).keys() == parsed(text, openmetrics).keys()


@contextmanager
def served(home: Path) -> Generator[str]:
    """The command, serving; its address."""
    port = lasting_port()
    environment = {"DAGSTER_HOME": str(home), "RESOURCES": "audit_logs", "START_DATE": timestamp(int(time.time()))[:10]}
    command = [*forked.command("zendesk-pipeline"), "metrics", "--listen", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert line.startswith(f"Metrics are at http://127.0.0.1:{port}/metrics")
            yield f"http://127.0.0.1:{port}/metrics"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def test_labels_hold_names_alone(home: Path) -> None:
    """No bucket, address or text: each label is one of these."""
    deliver(Watch(home, now=0), hours(2), total=5)
    _, output = printed(home, **{name.upper(): value for name, value in SECOPS.items()})
    names = {label for family in classic(output) for sample in family.samples for label in sample.labels}
    assert names <= {"account", "stream", "asset", "check", "severity", "reason", "zendesk_feed_state"}
    assert "soc" not in output.replace("associated", "")


def test_a_file_is_written_at_once(home: Path, tmp_path: Path) -> None:
    """Beside it and renamed, for node_exporter's textfile collector: in the older format, without times of samples."""
    folder = tmp_path / "textfile"
    folder.mkdir()
    path = folder / "zendesk.prom"
    path.write_text("old")
    before = path.stat().st_ino
    assert printed(home, "--file", str(path)) == (0, "")
    assert path.stat().st_ino != before
    assert [each.name for each in folder.iterdir()] == ["zendesk.prom"]
    text = path.read_text()
    assert parsed(text)["zendesk_up",] == 1
    assert {line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")} == {"gauge"}
    assert all(len(line.rsplit("}", 1)[-1].split()) <= 2 for line in text.splitlines() if line[0] != "#")
    code, output = printed(home, "--file", str(folder / "zendesk.txt"))
    assert (code, "end in .prom" in output) == (2, True)
    code, output = printed(home, "--file", str(folder / "nowhere" / "zendesk.prom"))
    assert (code, "cannot be written: No such file or directory" in output) == (1, True)


def test_a_file_of_what_cannot_be_read_says_so(home: Path, tmp_path: Path) -> None:
    """The old numbers are replaced, and the exit status is 1: a timer's service fails."""
    path = tmp_path / "zendesk.prom"
    printed(home, "--file", str(path))
    assert "zendesk_missing_windows{" in path.read_text()
    (home / "dagster.yaml").write_text("storage: {sqlite: {base_dir: 7}}\n")
    code, _ = printed(home, "--file", str(path))
    assert (code, parsed(path.read_text())["zendesk_up",]) == (1, 0)
    assert "zendesk_missing_windows{" not in path.read_text()


def test_accounts_of_components_are_told_apart(home: Path, tmp_path: Path) -> None:
    """Those of several files together; one alone by --defs and --account, as with the other commands."""
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file, names in zip(files, (["acme", "beta"], ["gamma"]), strict=True):
        described = [{"type": TYPE, "attributes": {"account": name, **PLACE}} for name in names]
        file.write_text("\n---\n".join(map(json.dumps, described)))

    def accounts(*arguments: str) -> set[str]:
        result = CliRunner().invoke(main, arguments, env={"DAGSTER_HOME": str(home)})
        assert result.exit_code == 0, result.output
        return {line for line in result.stdout.splitlines() if line.startswith("zendesk_up{")}

    def up(*names: str) -> set[str]:
        return {f'zendesk_up{{account="{name}"}} 1.0' for name in names}

    assert accounts("metrics", *map(str, files)) == up("acme", "beta", "gamma")
    assert accounts("--defs", str(files[0]), "--account", "beta", "metrics") == up("beta")


def test_a_wrong_way_to_hand_them_out_is_refused(home: Path) -> None:
    """In a sentence, before anything is read."""
    for arguments, sentence in (
        (["--listen", "9464"], "an address and a port are wanted"),
        (["--listen", "127.0.0.1:0"], "an address and a port are wanted"),
        (["--listen", "127.0.0.1:99999"], "an address and a port are wanted"),
        (["--listen", "127.0.0.1:9464", "--file", "a.prom"], "choose one"),
    ):
        code, output = printed(home, *arguments)
        assert (code, sentence in output) == (2, True), output
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, output = printed(home, "--listen", f"127.0.0.1:{port}")
    assert (code, f"127.0.0.1:{port} cannot be listened at" in output) == (1, True)
    code, output = printed(home, DAGSTER_HOME="")
    assert (code, "DAGSTER_HOME is not set" in output) == (1, True)
