"""`prepare`, and what is left of old runs, where Dagster's records are in PostgreSQL."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline_tests.deploy.cluster.servers import Postgres, postgres
from zendesk_pipeline_tests.deploy.cluster.stage import deployed, needed
from zendesk_pipeline_tests.orchestration.test_run_logs import KEY, collected, known, prunes
from zendesk_pipeline_tests.runs import QUIET, Project

pytestmark = QUIET
PROGRAM = Path(sys.executable).with_name("zendesk-pipeline")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    needed()
    with postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, database: Postgres, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME whose records are in that database."""
    for name, value in database.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text(deployed({}, without=("run_launcher",)))
    return tmp_path


@pytest.fixture
def collector(
    home: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, zendesk: SimulatedZendesk
) -> Iterator[Project]:
    for name, value in {**environment, "HTTP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield collected(instance, zendesk)


def test_several_services_at_once_make_the_tables(home: Path, database: Postgres) -> None:
    """Each goes well on an empty database, whose tables have one version; the next one finds nothing to do."""
    environment = {"PATH": os.environ["PATH"], "DAGSTER_HOME": str(home), **database.environment}
    command = [PROGRAM, "prepare"]
    starts = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [(start.communicate(timeout=300)[0], start.returncode) for start in starts]
    assert [code for _, code in ends] == [0, 0, 0], ends
    assert len(database.rows("SELECT version_num FROM alembic_version")) == 1
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert again.stdout == f"{home} is ready: Dagster's services may start.\n"


def test_old_runs_leave_everything_about_windows_and_nothing_else(collector: Project, database: Postgres) -> None:
    """Colours, numbers, verdicts and links stay; of the rows of our old runs, what is about no asset and no end goes.

    Rows of somebody else's run stay, and a second look finds nothing more.
    """
    mine = [run.run_id for run in collector.instance.get_runs() if run.asset_selection == {KEY}]
    counted = "SELECT run_id, count(*), sum(length(event)) FROM event_logs GROUP BY run_id"
    rows = {run: (count, size) for run, count, size in database.rows(counted)}
    before = known(collector)
    assert prunes(collector).success
    assert known(collector) == before
    left = {run: (count, size) for run, count, size in database.rows(counted)}
    assert all(left[run][1] < 0.7 * rows[run][1] for run in mine), (rows, left)
    assert {run: left[run] for run in rows if run not in mine} == {run: rows[run] for run in rows if run not in mine}
    assert prunes(collector).success
    again = {run: (count, size) for run, count, size in database.rows(counted)}
    assert {run: again[run] for run in rows} == {run: left[run] for run in rows}
