"""`zendesk-pipeline heartbeat`, by the records of a daemon."""

import time
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._daemon.types import DaemonHeartbeat

from zendesk_pipeline.cli import main
from zendesk_pipeline_tests.deploy.unit_files import unit, values
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.promise import kept_runs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return kept_runs.home(tmp_path / "dagster")


def beats(home: Path, age: float, *, without: str = "") -> None:
    """The daemon gave its signs of life so many seconds ago."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for kind in instance.get_required_daemon_types():
            if kind != without:
                beat = DaemonHeartbeat(timestamp=time.time() - age, daemon_type=kind, daemon_id="one", errors=None)
                instance.add_daemon_heartbeat(beat)


def said(home: Path, url: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["heartbeat"], env={"DAGSTER_HOME": str(home), "HEARTBEAT_URL": url})
    return result.exit_code, result.output


def test_a_daemon_that_lives_says_so_itself(home: Path) -> None:
    """Its sensor does, which knows more: a word from here would take back what that has said of a problem."""
    beats(home, 60)
    with answering(Reply(b"OK")) as service:
        assert said(home, f"{service.url}/ping/a-secret") == (0, "Dagster's daemon lives.\n")
        assert service.received == []


@pytest.mark.parametrize("without", ["", "SENSOR"])
def test_a_daemon_that_is_dead_is_told_of_as_a_failure(home: Path, without: str) -> None:
    """Wholly, or in a part: it is said which and since when, the exit status is 1, and the service hears of it."""
    beats(home, 60 if without else 3600, without=without)
    with answering(Reply(b"OK")) as service:
        code, output = said(home, f"{service.url}/ping/a-secret")
        assert [request.path for request in service.received] == ["/ping/a-secret/fail"]
    assert code == 1
    assert ("its sensor is silent since ever" if without else "its sensor is silent for 60 minutes") in output


def test_a_daemon_that_is_dead_is_silence_where_a_failure_is_unknown(home: Path) -> None:
    """A request to such an address would say that all is well."""
    beats(home, 3600)
    with answering(Reply(b"OK")) as service:
        assert said(home, f"{service.url}/a-secret")[0] == 1
        assert service.received == []


def test_an_address_that_does_not_answer_hides_no_dead_daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried three times; the exit status is that of the daemon; nothing of the address is shown."""
    monkeypatch.setattr("zendesk_pipeline.commands.heartbeat.PAUSE", 0)
    beats(home, 3600)
    with answering(*[Reply(b"no", status=500)] * 3) as service:
        code, output = said(home, f"{service.url}/ping/a-secret")
        assert len(service.received) == 3
    assert (code, "a-secret" in output, "HEARTBEAT_URL does not answer as it should" in output) == (1, False, True)
    assert said(home, "nonsense")[0] == 1
    assert values(unit("heartbeat.service"), "SuccessExitStatus") == ["2"]


def test_a_database_that_does_not_answer_is_no_dead_daemon(home: Path) -> None:
    """Exit status 2, so the daemon is not restarted; nothing of the database's address is shown, nobody is told."""
    storage = "storage: {postgres: {postgres_url: 'postgresql://someone:a-secret@127.0.0.1:1/dagster'}}\n"
    (home / "dagster.yaml").write_text(storage)
    with answering(Reply(b"OK")) as service:
        code, output = said(home, service.url)
        assert service.received == []
    assert (code, "Dagster's records cannot be read" in output, "a-secret" in output) == (2, True, False)


def test_without_an_address_it_says_that_nobody_is_told(home: Path) -> None:
    """The look itself works all the same."""
    beats(home, 60)
    code, output = said(home, "")
    assert (code, "HEARTBEAT_URL is not set" in output) == (0, True)
