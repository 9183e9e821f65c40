"""What `make cluster` stands on, as far as it needs no server."""

from pathlib import Path

import pytest
import yaml

from zendesk_pipeline_tests.deploy.cluster import servers
from zendesk_pipeline_tests.deploy.cluster.servers import NoServerError, program
from zendesk_pipeline_tests.deploy.cluster.stage import DEPLOYED, deployed, found


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "PLACES", ())
    return tmp_path


def test_without_a_server_the_error_says_how_to_get_it(programs: Path) -> None:
    """It is an error and never a skip."""
    with pytest.raises(NoServerError, match="apt-get install postgresql redis-server") as raised:
        program("redis-server")
    assert "redis-server was not found" in raised.value.message
    (programs / "redis-server").touch(mode=0o755)
    assert program("redis-server") == str(programs / "redis-server")


def test_programs_beside_path_are_found(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Debian puts those of PostgreSQL, by version."""
    for version in ("15", "16"):
        (programs / version).mkdir()
        (programs / version / "initdb").touch(mode=0o755)
    monkeypatch.setattr(servers, "PLACES", (f"{programs}/*",))
    assert program("initdb") == str(programs / "16" / "initdb")


def test_the_tests_change_of_the_deployed_file_what_they_name() -> None:
    """At any depth, and nothing else."""
    written = yaml.safe_load(DEPLOYED.read_text())
    changed = yaml.safe_load(deployed({"run_monitoring": {"poll_interval_seconds": 1}}, without=("run_launcher",)))
    assert changed["run_monitoring"] == {**written["run_monitoring"], "poll_interval_seconds": 1}
    assert written.keys() - changed.keys() == {"run_launcher"}
    assert changed["storage"] == written["storage"]


def test_what_comes_later_is_waited_for() -> None:
    """`found` looks again until there is something, and no longer than it may."""
    looks = iter([None, "it"])
    assert found(lambda: next(looks), within=60) == "it"
    with pytest.raises(TimeoutError, match="within 0 s"):
        found(lambda: "it", within=0)
