"""The pictures of the documentation, taken of a UI with a day collected and a failed run."""

from collections.abc import Iterator
from pathlib import Path

import click
from playwright.sync_api import Page, expect

from zendesk_pipeline.alerts.notifications import INTERVAL
from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline_tests.browser import driving as ui
from zendesk_pipeline_tests.browser.driving import browser, shown
from zendesk_pipeline_tests.browser.stage import Stage, found, stage
from zendesk_pipeline_tests.root import ROOT

FOLDER = ROOT / "docs" / "images"


@click.command()
@click.option("--folder", default=FOLDER, type=click.Path(path_type=Path, file_okay=False), help="For the pictures.")
def main(folder: Path) -> None:
    """Take the pictures of the documentation again."""
    folder.mkdir(parents=True, exist_ok=True)
    ui.executable()
    click.echo("Starting Zendesk, S3 and Dagster on this machine, and collecting a day …")
    with local.one_interruption(), stage(collected=True) as running, browser(running.url) as page:
        for name in _scenes(page, running):
            page.wait_for_load_state("networkidle")
            expect(page.get_by_text("Loading…")).to_have_count(0)
            picture = page.screenshot(path=folder / f"{name}.png", animations="disabled")
            click.echo(f"{folder / name}.png: {len(picture):,} bytes")


def _scenes(page: Page, running: Stage) -> Iterator[str]:
    """Each scene while it is open, by the name of its picture."""
    refused = Window(running.half().end + 4 * HOUR)
    running.refuse(refused)
    ui.materialize(page, AUDIT_LOGS.name, Span(refused.start, refused.end))
    expect(shown(page, "Failure")).to_be_visible(timeout=ui.RUN_PATIENCE)

    ui.open_lineage(page)
    page.get_by_role("button", name="panel_show_right", exact=True).click()  # the list beside the graph
    expect(shown(page, "secops_feed")).to_be_visible()
    page.mouse.dblclick(ui.WIDTH // 2, ui.HEIGHT - 8)  # beside the nodes: brings the graph into the middle
    yield "lineage"

    ui.open_partitions(page, AUDIT_LOGS.name)
    ui.choose(page, Span(running.half().end - 5 * HOUR, running.half().end + 7 * HOUR))
    shown(page, Window(running.half().end - HOUR).partition_key).click()
    expect(shown(page, "delivered_by_this_run")).to_be_visible()
    yield "partitions"

    ui.open_plots(page, INCREMENTAL_TICKETS.name)
    page.get_by_role("button", name="Plots").evaluate("button => button.scrollIntoView()")
    yield "plots"

    found(lambda: _alert_log(page), within=5 * INTERVAL)
    yield "alert"


def _alert_log(page: Page) -> bool | None:
    """The log of the alert sensor's latest tick, if it tells of the failure already."""
    ui.navigate(page, "Automation")
    page.get_by_role("link", name="alert_sensor").first.click()
    page.get_by_role("button", name="View logs").first.click()
    dialog = page.get_by_role("dialog")
    told, empty = dialog.get_by_text("Zendesk answered 401"), dialog.get_by_text("No logs to display")
    expect(told.or_(empty).first).to_be_visible()
    return told.count() > 0 or None


if __name__ == "__main__":
    main()
