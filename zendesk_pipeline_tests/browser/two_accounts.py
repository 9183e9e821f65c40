"""A project of somebody else's with two Zendesk accounts by YAML, used from its own UI: `make browser`.

The project is scaffolded by Dagster's command line, and its UI is that of `dg dev`. Each account has a Zendesk of its
own here, so that a record of the one in the bucket of the other would be seen.
"""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local import dev
from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.local.services import LOOPBACK, LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS, STREAMS
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline_tests.browser import driving as ui
from zendesk_pipeline_tests.browser.driving import browser, shown
from zendesk_pipeline_tests.browser.stage import found
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.project.foreign import TYPE, Foreign, foreign

HOURS = 12
ACCOUNTS = {"acme": "soc-acme", "beta": "soc-beta"}
"""The bucket of each."""
START_SECONDS = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The project's UI, and what is behind each account."""

    url: str
    windows: Span
    zendesk: dict[str, SimulatedZendesk]
    s3: LocalS3

    def bucket(self, account: str, stream: str) -> Bucket:
        """Where the account's stream is delivered to, by the defaults of a named account."""
        root = f"zendesk/{account}"
        layout = Layout(feed=f"{root}/crm/", state=f"{root}/state/", quarantine=f"{root}/quarantine/")
        store = Store(client=self.s3.client(), bucket=ACCOUNTS[account], encryption={})
        return Bucket(stream=STREAMS[stream], store=store, layout=layout)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`dg dev` in the project, from when its UI answers."""
    folder = tmp_path_factory.mktemp("foreign")
    local.forget_account()
    settled = local.settled_until()
    windows, since = Span(settled - HOURS * HOUR, settled), timestamp(settled - 2 * HOURS * HOUR)
    with ExitStack() as services:
        s3 = services.enter_context(local_s3(folder, ACCOUNTS["acme"]))
        s3.client().create_bucket(Bucket=ACCOUNTS["beta"])
        zendesk: dict[str, SimulatedZendesk] = {}
        for seed, name in enumerate(ACCOUNTS, start=1):
            (folder / name).mkdir()
            of_its_own = simulated_zendesk(folder / name, "--since", since, "--seed", str(seed))
            zendesk[name] = services.enter_context(of_its_own)
        made = _project(folder, windows, zendesk, s3)
        url = services.enter_context(_ui(made))
        yield Running(url=url, windows=windows, zendesk=zendesk, s3=s3)


def _project(folder: Path, windows: Span, zendesk: dict[str, SimulatedZendesk], s3: LocalS3) -> Foreign:
    secrets = {
        f"{name.upper()}_{variable}": source.environment[variable]
        for name, source in zendesk.items()
        for variable in ("ZENDESK_EMAIL", "ZENDESK_API_TOKEN")
    }
    made = foreign(folder, {**s3.environment, **secrets})
    (folder / "home" / "dagster.yaml").write_text(local.SETTINGS_OF_THE_INSTANCE)
    for name, source in zendesk.items():
        scaffolded = made.dg("scaffold", "defs", TYPE, name)
        assert scaffolded.returncode == 0, scaffolded.stderr
        made.write(
            name,
            zendesk_base_url=source.url,
            auth_mode="token",
            s3_bucket=ACCOUNTS[name],
            start_date=timestamp(windows.start),
            catch_up_hours=0,
        )
    return made


@contextmanager
def _ui(project: Foreign) -> Generator[str]:
    """The address of its UI, from when that answers; the processes have ended with all their children afterwards."""
    port = lasting_port()
    url = f"http://{LOOPBACK}:{port}"
    program = str(Path(sys.executable).with_name("dg"))
    with (project.folder / "dg-dev.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "dev", "--host", LOOPBACK, "--port", str(port)],
            cwd=project.folder,
            env={**os.environ, **project.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        found(lambda: (dev.answers(f"{url}/server_info") or process.poll() is not None) or None, within=START_SECONDS)
        yield url
    finally:
        local.stop(process)


@pytest.fixture(scope="module")
def page(project: Running) -> Iterator[Page]:
    """The browser."""
    with browser(project.url) as opened:
        yield opened


def test_two_accounts_by_yaml_are_collected_by_clicking(project: Running, page: Page) -> None:
    """A range of each account, launched from the UI, is in the account's bucket: all of its own, and nothing else."""
    asked = [(name, stream.name) for name in ACCOUNTS for stream in (AUDIT_LOGS, INCREMENTAL_TICKETS)]
    backfills = [ui.materialize(page, f"{name}/{stream}", project.windows) for name, stream in asked]
    for path in backfills:
        page.goto(path)
        expect(shown(page, "100% completed")).to_be_visible(timeout=ui.RUN_PATIENCE)
        expect(shown(page, "Succeeded")).to_be_visible()
    proofs = {
        (name, stream): prove(project.bucket(name, stream), project.windows, project.zendesk[name].control)
        for name, stream in asked
    }
    assert {which: proof for which, proof in proofs.items() if not proof.holds} == {}
    assert {which: proof.at_source > 0 for which, proof in proofs.items()} == dict.fromkeys(asked, True)
    of_acme, of_beta = (proofs[name, INCREMENTAL_TICKETS.name].at_source for name in ACCOUNTS)
    assert of_acme != of_beta


def test_the_lineage_has_a_group_for_each_account(page: Page) -> None:
    """Folded up it is one node an account, which is how two hundred of them stay readable."""
    ui.open_lineage(page)
    for name in ACCOUNTS:
        expect(shown(page, name)).to_be_visible()
