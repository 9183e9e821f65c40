"""`zendesk-pipeline dev`: what the UI opens on, what stays, and that nothing else does."""

import fcntl
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from zendesk_pipeline.local.dev import trouble
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline_tests.by_hand import hours
from zendesk_pipeline_tests.local_processes import Started, started
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.runs import QUIET, description, project

LOCATION = '{repositoryName: "__repository__", repositoryLocationName: "zendesk_pipeline"}'
QUESTION = f"""{{
  assetNodes {{ assetKey {{ path }} partitionStats {{ numMaterialized numPartitions }} }}
  schedulesOrError(repositorySelector: {LOCATION}) {{
    ... on Schedules {{ results {{ name scheduleState {{ status }} }} }}
  }}
}}"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One start of `dev`, from its first line to its end."""

    output: str
    answer: dict[str, Any]
    code: int
    last: str
    descendants: list[str]
    left: list[Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dev")


@pytest.fixture(scope="module")
def first(folder: Path) -> Seen:
    """The first start, in an empty folder."""
    return _seen(folder)


@pytest.fixture(scope="module")
def second(folder: Path, first: Seen) -> Seen:
    """The next one, in the same folder."""
    assert first.code == 0
    return _seen(folder)


def _seen(folder: Path) -> Seen:
    port = lasting_port()
    with started(folder, "dev", "--port", str(port)) as dev:
        output = "".join(dev.read_to("Ctrl-C ends all of it"))
        answer = requests.post(f"http://127.0.0.1:{port}/graphql", json={"query": QUESTION}, timeout=60).json()
        return _ended(dev, output, answer["data"])


def _ended(dev: Started, output: str, answer: dict[str, Any]) -> Seen:
    dev.process.send_signal(signal.SIGINT)
    *_, last = dev.lines()
    return Seen(output, answer, dev.process.wait(), last, dev.descendants(), list(dev.temporary.iterdir()))


def _materialized(seen: Seen) -> list[int]:
    return [node["partitionStats"]["numMaterialized"] for node in seen.answer["assetNodes"] if node["partitionStats"]]


def test_the_ui_opens_on_hours_that_are_collected(first: Seen) -> None:
    """At the first start, half of the hours of both streams are there; the schedule is on."""
    assert min(_materialized(first)) >= 24
    assert {each["scheduleState"]["status"] for each in first.answer["schedulesOrError"]["results"]} == {"RUNNING"}


def test_it_never_uses_the_account_of_the_environment(first: Seen) -> None:
    """Nothing of the environment's account or of a `.env` in the folder gets through, and it says so.

    Their MAX_PAGES would break the collecting off, their START_DATE would make thousands of windows.
    """
    assert "dev uses a simulated account" in first.output
    assert "24 of 24 windows" in first.output
    counted = [node["partitionStats"] for node in first.answer["assetNodes"] if node["partitionStats"]]
    assert {each["numPartitions"] for each in counted} <= {48, 49}
    assert len(counted) == 2


def test_it_says_where_things_are(first: Seen) -> None:
    """The addresses of the UI, the simulated Zendesk and S3 are printed."""
    for name in ("Dagster UI", "simulated Zendesk", "S3 (SeaweedFS)"):
        (line,) = [line for line in first.output.splitlines() if line.startswith(name)]
        assert "http://127.0.0.1:" in line


@pytest.mark.parametrize("start", ["first", "second"])
def test_ctrl_c_ends_everything(start: str, request: pytest.FixtureRequest) -> None:
    """Servers, daemon, code servers and services end with it; it is a sentence, and no failure."""
    seen: Seen = request.getfixturevalue(start)
    assert seen.last.startswith("Stopped: nothing is left running.")
    assert seen.code == 0
    assert seen.descendants == []
    assert seen.left == []


def test_the_next_start_goes_on_where_the_last_one_ended(first: Seen, second: Seen, folder: Path) -> None:
    """History, bucket and Dagster's own records stay in .local/; nothing is collected at the start again."""
    assert "Collecting the first" in first.output
    assert "Collecting the first" not in second.output
    assert min(_materialized(second)) >= 24
    assert {path.name for path in (folder / ".local").iterdir()} >= {"start", "seaweedfs", "dagster"}


@QUIET
def test_the_fault_on_demand_fails_one_run(
    environment: dict[str, str], zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page says: a run fails with one sentence, and the next one collects the hour."""
    zendesk.control.add_faults(*msgspec.convert(trouble(), list[Rule]))
    with project(environment, monkeypatch) as collector:
        failed, good = (collector.run("audit_logs", hours(1)) for _ in range(2))
    assert not failed.success
    assert "Zendesk answered 503 to /api/v2/audit_logs" in description(failed)
    assert good.success


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    """Two servers on one folder of data would spoil it."""
    (tmp_path / ".local").mkdir()
    with (tmp_path / ".local" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with started(tmp_path, "dev", "--port", str(lasting_port())) as dev:
            *_, last = dev.lines()
            assert dev.process.wait() == 1
    assert last.startswith("Error: Another `dev` is using ")
