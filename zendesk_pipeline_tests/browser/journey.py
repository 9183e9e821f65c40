"""What a person on call does in the UI, by clicks: see, collect, understand a failure, follow an alert.

`make browser` runs it; `make test` does not, because it needs a Chromium. All of it happens on one stage: the backfill
and the run that fails are launched at once, and each test looks at its part.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import pytest
from dagster_aws.s3 import S3Resource
from playwright.sync_api import Locator, Page, expect

from zendesk_pipeline.alerts.notifications import INTERVAL
from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.delivery_proof import prove
from zendesk_pipeline.local.simulator.control import SimulatorControl
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration.io_manager import S3IOManager
from zendesk_pipeline_tests.browser import driving as ui
from zendesk_pipeline_tests.browser.driving import NoChromiumError, browser, shown
from zendesk_pipeline_tests.browser.stage import Stage, found, stage
from zendesk_pipeline_tests.collected import COLLECTED

SENTENCE = "Zendesk answered 401 to /api/v2/audit_logs"
REMEDY = "the credential is not accepted. Check ZENDESK_EMAIL and ZENDESK_API_TOKEN."


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What was launched by clicks, by the paths of its pages."""

    collected: Span
    backfill: str
    refused: Window
    run: str


@pytest.fixture(scope="module", autouse=True)
def _chromium() -> None:
    """Without a browser nothing can be tested: the sentence that says so is all there is to read."""
    try:
        ui.executable()
    except NoChromiumError as missing:
        pytest.exit(missing.message, returncode=1)


@pytest.fixture(scope="module")
def project() -> Iterator[Stage]:
    """The project, with nothing collected."""
    with stage() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Seen:
    """What the browser did besides."""

    addresses: list[SplitResult]
    errors: list[str]


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen([], [])


@pytest.fixture(scope="module")
def page(project: Stage, seen: Seen) -> Iterator[Page]:
    """The browser."""
    with browser(project.url) as opened:
        opened.on("request", lambda request: seen.addresses.append(urlsplit(request.url)))
        opened.on("pageerror", lambda error: seen.errors.append(str(error)))
        yield opened


@pytest.fixture(scope="module")
def launched(project: Stage, page: Page) -> Launched:
    """A backfill of the older windows of one stream, and a run of one window of the other that Zendesk refuses."""
    collected = project.half()
    refused = Window(collected.end + 4 * HOUR)
    project.refuse(refused)
    backfill = ui.materialize(page, INCREMENTAL_TICKETS.name, collected)
    run = ui.materialize(page, AUDIT_LOGS.name, Span(refused.start, refused.end))
    return Launched(collected=collected, backfill=backfill, refused=refused, run=run)


def test_the_lineage_leads_to_every_stream(page: Page) -> None:
    """Each stream is a node, and behind it a page that says what the stream is."""
    for stream in COLLECTED.values():
        ui.open_lineage(page)
        ui.open_from_lineage(page, stream.name)
        expect(shown(page, stream.description)).to_be_visible()


def test_a_range_is_collected_by_clicking(project: Stage, page: Page, launched: Launched) -> None:
    """24 windows chosen in the dialog are one backfill that ends green: all of their records are in S3, each once."""
    count = len(launched.collected)
    page.goto(launched.backfill)
    expect(shown(page, "100% completed")).to_be_visible(timeout=ui.RUN_PATIENCE)
    expect(shown(page, "Succeeded")).to_be_visible()
    ui.open_partitions(page, INCREMENTAL_TICKETS.name)
    ui.choose(page, launched.collected)
    expect(shown(page, f"Materialized ({count})")).to_be_visible()
    proof = prove(local.buckets(project.pipeline)[INCREMENTAL_TICKETS.name], launched.collected, _control(project))
    assert (count, proof.holds) == (24, True), proof
    assert proof.at_source > 24 * 50


def test_a_window_shows_its_numbers(project: Stage, page: Page, launched: Launched) -> None:
    """What the UI says of a window is what Zendesk has of it."""
    window = Window(launched.collected.end - HOUR)
    ui.open_partitions(page, INCREMENTAL_TICKETS.name)
    ui.open_window(page, window)
    expect(shown(page, "delivered_by_this_run")).to_be_visible()
    at_source = _control(project).source(INCREMENTAL_TICKETS.name, window.start, window.end)
    assert ui.number(page, "records") == len(at_source)
    assert ui.number(page, "bytes") == sum(len(record) + 1 for record in at_source)


def test_every_number_is_plotted(page: Page, launched: Launched) -> None:
    """Each number of a window's metadata has its plot."""
    manager = S3IOManager(s3=S3Resource())
    metadata = manager.metadata(INCREMENTAL_TICKETS, Window(launched.collected.start), Tally())
    names = [name for name, value in metadata.items() if isinstance(value, int | float)]
    ui.open_plots(page, INCREMENTAL_TICKETS.name)
    for name in names:
        expect(shown(page, name)).to_be_visible()
    assert page.locator("canvas").count() == len(names) > 5


def test_a_failed_run_says_what_happened(page: Page, launched: Launched) -> None:
    """Among the failed runs stands the one that Zendesk refused; its page says so in a sentence, with the remedy."""
    ui.navigate(page, "Runs")
    page.get_by_role("tab", name="Failed").click()
    run_id = launched.run.rpartition("/")[2]
    page.get_by_role("link", name=run_id.partition("-")[0]).click(timeout=ui.RUN_PATIENCE)
    expect(shown(page, "Failure")).to_be_visible()
    expect(shown(page, f"partition: {launched.refused.partition_key}")).to_be_visible()
    expect(_sentence(page)).to_contain_text(REMEDY)


def test_an_alert_leads_to_the_run(project: Stage, page: Page, launched: Launched) -> None:
    """The alert sensor tells the webhook at one of its next ticks; the link of the message opens the failed run."""

    def told() -> str | None:
        messages = [json.loads(request.body)["message"] for request in project.alerts.received]
        return next((message for message in messages if SENTENCE in message), None)

    message = found(told, within=5 * INTERVAL)
    assert f"Windows: {launched.refused} (1 window, UTC)." in message
    (link,) = re.findall(r"^http\S+$", message, re.MULTILINE)
    assert link == f"{project.url}{launched.run}"
    page.goto(link)
    expect(shown(page, "Failure")).to_be_visible()
    expect(_sentence(page)).to_be_visible()


def test_the_ui_asks_nobody_else(project: Stage, page: Page, seen: Seen) -> None:
    """In all of this the browser loaded nothing from another host, and no script of the UI broke."""
    ui.open_lineage(page)
    hosts = {address.netloc for address in seen.addresses if address.scheme not in {"data", "blob"}}
    assert hosts == {urlsplit(project.url).netloc}
    assert seen.errors == []


def _control(project: Stage) -> SimulatorControl:
    return project.pipeline.zendesk.control


def _sentence(page: Page) -> Locator:
    """Where the open run's log says what Zendesk answered."""
    return page.get_by_text(SENTENCE).filter(visible=True).first
