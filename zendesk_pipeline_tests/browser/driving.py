"""Dagster's UI as a person uses it: what is clicked, and what is waited for.

Things are found by role and text, as people find them. Every wait has a condition and ends, without it, in an error.
"""

import os
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Page, expect, sync_playwright

from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.windows import HOUR, Span, Window

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--disable-gpu", "--disable-quic", "--disable-sync")
"""Beside what Playwright sets: Chromium opens no connection of its own."""
WIDTH, HEIGHT = 1280, 800
PATIENCE = 60_000
"""Milliseconds that a page may take to show something, on a machine that has other things to do."""
RUN_PATIENCE = 300_000
"""Milliseconds for a run, and for the daemon to begin it."""


class NoChromiumError(PipelineError):
    """There is no browser to drive; the message says how to get one."""


def executable() -> str:
    """The installed Chromium; raises NoChromiumError. None is ever downloaded."""
    chosen = os.environ.get("CHROMIUM")
    found = [path for name in ([chosen] if chosen else NAMES) if (path := shutil.which(name))]
    if not found:
        missing = f"CHROMIUM names {chosen}, which is no program" if chosen else "No Chromium was found"
        raise NoChromiumError(
            f"{missing}: install one (Debian: apt-get install chromium), or set CHROMIUM to the path of a Chromium or"
            " Chrome that is there."
        )
    return found[0]


@contextmanager
def browser(url: str) -> Generator[Page]:
    """A page of a headless Chromium, not yet opened; its addresses are relative to `url`."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable(), args=QUIET)
        context = chromium.new_context(
            base_url=url,
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="light",
            locale="en-US",
            timezone_id="UTC",
        )
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context.new_page()
        chromium.close()


def shown(page: Page | Locator, text: str | re.Pattern[str]) -> Locator:
    """The first place where the text can be seen; Dagster keeps hidden copies of many, to measure them."""
    return page.get_by_text(text, exact=True).filter(visible=True).first


def navigate(page: Page, place: str) -> None:
    """From anywhere, by the list on the left; a link's name begins with that of its icon."""
    page.goto("/")
    page.get_by_role("navigation").get_by_role("link", name=re.compile(rf"\b{place}$")).click()


def open_lineage(page: Page) -> None:
    """The graph of all assets."""
    navigate(page, "Lineage")
    expect(page.get_by_role("button", name="Materialize all")).to_be_visible()


def open_from_lineage(page: Page, asset: str) -> None:
    """From the lineage, by its node."""
    shown(page, asset).click()
    page.get_by_role("link", name=re.compile("view in .*catalog", re.IGNORECASE)).click()
    expect(page.get_by_role("tab", name="Partitions")).to_be_visible()


def materialize(page: Page, asset: str, span: Span) -> str:
    """Launch the windows from the asset's page; ends on the page of the run, or of the backfill. Gives its path."""
    page.goto(f"/assets/{asset}")
    page.get_by_role("button", name=re.compile("Materialize")).click()
    dialog = page.get_by_role("dialog")
    choose(dialog, span)
    dialog.get_by_role("button", name=re.compile("^Launch")).click()
    shown(page, "View").click()
    page.wait_for_url("**/runs/**")
    return urlsplit(page.url).path


def choose(place: Page | Locator, span: Span) -> None:
    """Write a range of windows where Dagster wants it."""
    first, last = Window(span.start).partition_key, Window(span.end - HOUR).partition_key
    box = place.get_by_role("textbox").first
    box.fill(first if first == last else f"[{first}...{last}]")
    box.press("Enter")
    expect(place.get_by_text(re.compile(rf"^{len(span)} partitions?( selected)?$", re.IGNORECASE))).to_be_visible()


def open_partitions(page: Page, asset: str) -> None:
    """The asset's windows, with the state of each."""
    page.goto(f"/assets/{asset}")
    page.get_by_role("tab", name="Partitions").click()
    expect(page.get_by_placeholder("Filter by name")).to_be_visible()


def open_window(page: Page, window: Window) -> None:
    """One window in the list of `open_partitions`: its numbers."""
    page.get_by_placeholder("Filter by name").fill(window.partition_key)
    shown(page, window.partition_key).click()


def number(page: Page, name: str) -> int:
    """A number in the table of the window that is open."""
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
    return int(row.get_by_role("cell").nth(1).inner_text())


def open_plots(page: Page, asset: str) -> None:
    """The numbers of the asset's windows, drawn over the windows."""
    page.goto(f"/assets/{asset}")
    page.get_by_role("button", name="Plots").click()
    expect(shown(page, "records")).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()
