"""The command, and its two forms of output: lines for people, and JSON."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import click

from zendesk_pipeline.commands.doctor.verdicts import SEVERITY, Check, Status, Verdict
from zendesk_pipeline.model.clock import Clock

VERSION = 1
"""Of the JSON document; rises when a field goes or changes its meaning."""
COLOURS: dict[Status, str] = {"ok": "green", "warning": "yellow", "failed": "red"}
NAMES, STATES = 21, max(map(len, SEVERITY))
"""Characters of the two columns; no check has a longer name."""
NARROWEST, WIDEST = 60, 120

Found = tuple[Check, Verdict]


@click.command
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines for people.")
@click.option("--strict", is_flag=True, help="Warnings count as failures.")
@click.option("--admin-profile", metavar="NAME", help="The AWS profile that reads the bucket's configuration.")
@click.option("--feed-max-age", default=180, show_default=True, metavar="DAYS", type=click.IntRange(1, 180))
@click.option("--send-test-alert", is_flag=True, help="Really send a message to every address of ALERT_URLS.")
@click.option("--timeout", default=20.0, show_default=True, type=click.FloatRange(1, 600), help="Seconds for a check.")
def doctor(
    *,
    as_json: bool,
    strict: bool,
    admin_profile: str | None,
    feed_max_age: int,
    send_test_alert: bool,
    timeout: float,
) -> None:
    """Check settings, Zendesk account, bucket and alerts, and say what is wrong with them. Collects nothing."""
    # Dagster and boto3 are slow to import, and no other command has to wait for them
    from zendesk_pipeline.commands.doctor.check_list import CHECKS  # noqa: PLC0415  # as above
    from zendesk_pipeline.commands.doctor.context import Context  # noqa: PLC0415  # as above
    from zendesk_pipeline.commands.doctor.runner import run_checks  # noqa: PLC0415  # as above

    context = Context(
        clock=Clock(),
        seconds=timeout / 2,
        admin_profile=admin_profile,
        feed_days=feed_max_age,
        send_test_alert=send_test_alert,
    )
    with suppress(Exception):  # a check reports it; loading it now keeps the time for it out of theirs
        _ = context.zendesk
    found = run_checks(CHECKS, context, timeout)
    made = list(found) if as_json else list(_printed(found))
    if as_json:
        click.echo(json.dumps(document(made, strict=strict), indent=2))
    else:
        click.echo(f"\n{summary(made)}")
    sys.exit(exit_status(made, strict=strict))


def exit_status(found: Iterable[Found], *, strict: bool) -> int:
    """1 if something failed, or with `strict` if there is a warning."""
    bad = {"failed", "warning"} if strict else {"failed"}
    return int(any(verdict.status in bad for _, verdict in found))


def document(found: Iterable[Found], *, strict: bool) -> dict[str, Any]:
    """The JSON document; docs/doctor.md describes it."""
    made = list(found)
    return {
        "version": VERSION,
        "passed": exit_status(made, strict=strict) == 0,
        "checks": [
            {
                "check": check.name,
                "area": check.area,
                "status": verdict.status,
                "found": verdict.found,
                "remedy": verdict.remedy,
            }
            for check, verdict in made
        ],
    }


def summary(found: Iterable[Found]) -> str:
    """How many there are of each, the worst first."""
    counts = dict.fromkeys(reversed(SEVERITY), 0)
    for _, verdict in found:
        counts[verdict.status] += 1
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) + "."


def _printed(found: Iterable[Found]) -> Iterable[Found]:
    """Each as it comes, under the heading of its area."""
    area = None
    for check, verdict in found:
        if check.area != area:
            click.secho(f"{'' if area is None else chr(10)}{check.area}", bold=True)
            area = check.area
        click.echo(lines(check, verdict))
        yield check, verdict


def lines(check: Check, verdict: Verdict) -> str:
    """A verdict for people: status, name, what was found, and below it the remedy."""
    margin = " " * (STATES + NAMES + 6)
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))
    text = [_filled(verdict.found, width, margin).lstrip()]
    if verdict.remedy:
        text.append(_filled(f"→ {verdict.remedy}", width, margin))
    status = click.style(f"{verdict.status:<{STATES}}", fg=COLOURS.get(verdict.status))
    return f"  {status}  {check.name:<{NAMES}}  " + "\n".join(text)


def _filled(text: str, width: int, margin: str) -> str:
    return textwrap.fill(text, width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)
