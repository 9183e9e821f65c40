"""`zendesk-pipeline verify`: Zendesk, ledgers and objects of a past range, compared. Writes nothing."""

import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import click
import msgspec

from zendesk_pipeline.commands import past_range
from zendesk_pipeline.commands.past_range import Ends
from zendesk_pipeline.commands.verify.comparison import Kind, Verification, WindowReport
from zendesk_pipeline.commands.verify.read_by_secops import SecopsReads, secops_reads
from zendesk_pipeline.delivery.inspection import Inspector
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window, ranges
from zendesk_pipeline.settings import environment

DIFFERS, NOT_COMPARABLE, INTERRUPTED = 1, 3, 130
"""Exit status; 2 is a wrong option."""
MOST_COMMANDS = 5
"""Of a stream; more ranges than that are collected as one."""

COLLECTED_AGAIN: frozenset[Kind] = frozenset({"no_ledger", "incomplete", "not_delivered", "unnamed_object"})
"""What collecting the window again fixes."""
OTHERWISE: dict[Kind, str] = {
    "unreadable_ledger": "Restore the last good version of a ledger that cannot be read (docs/delivery.md).",
    "object_differs": "Somebody else writes under the feed prefix: see who may; bring back the object's first version,"
    " or send the window again (docs/operations.md).",
    "foreign_object": "Somebody else writes under the feed prefix, and SecOps reads it: see who may, and take the"
    " object away (docs/security.md).",
    "content_differs": "Zendesk words old records anew, or an object or a ledger is somebody else's: compare a record"
    " with Zendesk's, and send the window again if it differs in what it says (docs/operations.md).",
    "not_at_source": "Zendesk keeps audit logs for good: see that ZENDESK_BASE_URL is still the same account, then ask"
    " Zendesk's support.",
    "not_read": "S3 need not log every request: look for these windows in SecOps, and at `feed show`; what is missing"
    " there, send again (docs/operations.md).",
    "read_twice": "What was read twice may be in SecOps twice: see whether two feeds read the prefix, or one was made"
    " anew (docs/feed.md).",
    "repeated": "SecOps has these records twice: let one Dagster alone collect the account.",
    "in_two_windows": "SecOps has these records twice, and no window changes by itself: please report it.",
}

SUMMARY = {
    "at_source": "records at Zendesk",
    "delivered": "delivered",
    "replaced": "ticket states replaced since (as they should)",
    "reworded": "of states that Zendesk words differently now",
    "sent_again": "sent again on purpose",
    "not_compared": "whose content was not compared",
    "objects": "objects",
    "objects_gone": "of them gone from the feed (it may delete what it has read)",
    "objects_read": "of them read by SecOps",
    "not_in_log": "of them of which the access log says nothing (older than it, or too new)",
}
"""The numbers of a stream, in words; those of `ALWAYS_SHOWN` also where they are 0."""
ALWAYS_SHOWN = frozenset({"at_source", "delivered", "objects"})
MOST_HELD = 64 * 1024 * 1024
"""Bytes of records that are held for the comparison."""
NOT_COMPARED = (
    "The content of {:,} records was not compared with Zendesk's: stored by other redaction rules, or of windows too"
    " large to be held (docs/verify.md)."
)


class NotComparableError(click.ClickException):
    """The reason, and a status that is not that of a difference."""

    exit_code = NOT_COMPARABLE


@dataclass(slots=True, kw_only=True)
class Sums:
    """Of one stream."""

    windows: int = 0
    numbers: Counter[str] = field(default_factory=Counter[str])
    """The sums of the numbers in the windows' reports, by their names."""
    differing: list[Window] = field(default_factory=list[Window])
    to_collect: list[Window] = field(default_factory=list[Window])
    counts: Counter[Kind] = field(default_factory=Counter[Kind])

    def add(self, report: WindowReport) -> None:
        """Count a window."""
        self.windows += 1
        self.numbers.update({name: getattr(report, name) or 0 for name in SUMMARY})
        for difference in report.differences:
            self.counts[difference.kind] += difference.count
        if report.differences:
            self.differing.append(report.window)
        if any(difference.kind in COLLECTED_AGAIN for difference in report.differences):
            self.to_collect.append(report.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """What is compared, and how it is said."""

    span: Span
    source: bool
    sample: int | None
    identities: bool
    as_json: bool
    reads: SecopsReads | None

    def stream(self, ends: Ends, stream: Stream) -> Sums:
        """Compare all windows of a stream, and say what differs as it is found."""
        sums = Sums()
        sampled = None if self.sample is None else set(_drawn(self.span, self.sample))
        verification = Verification(
            inspector=ends.bucket.inspector(stream),
            reads=lambda window: sampled is None or window in sampled,
            redaction=ends.bucket.rules(stream) if self.source else None,
        )
        self._say(f"{stream.name}: {len(self.span):,} windows, {self.span}, UTC")
        for window, shown in past_range.windows(ends, stream, self.span, source=self.source, keep=MOST_HELD):
            report = self._with_reads(verification.compare(window, shown), verification.inspector)
            sums.add(report)
            self._show(stream, report)
        self._say(self._summary(sums))
        return sums

    def _with_reads(self, report: WindowReport, inspector: Inspector) -> WindowReport:
        """The report, with what the access log says where that is looked at."""
        if self.reads is None or not report.objects:
            return report
        ledger = inspector.ledger(report.window)
        return self.reads.added(report, ledger.objects if ledger else (), inspector.listed(report.window))

    def _show(self, stream: Stream, report: WindowReport) -> None:
        if self.as_json:
            values: dict[str, Any] = {**asdict(report), "window": report.window.partition_key}
            for each in values["differences"]:
                if not self.identities:
                    del each["identities"]
            click.echo(msgspec.json.encode({"stream": stream.name, **values}))
            return
        for number, difference in enumerate(report.differences):
            click.echo(f"  {'' if number else report.window!s:<16}  {difference.text}")
            if self.identities and difference.identities:
                click.echo(f"  {'':<16}    {', '.join(difference.identities)}")

    def _summary(self, sums: Sums) -> str:
        names = [name for name in SUMMARY if name in ALWAYS_SHOWN or sums.numbers[name]]
        shown = (f"{sums.numbers[name]:,} {SUMMARY[name]}" for name in names if self.source or name != "at_source")
        return "  " + ", ".join(shown)

    def _say(self, text: str) -> None:
        if not self.as_json:
            click.echo(text)


@click.command
@click.option(
    "--from", "begin", required=True, callback=past_range.hour, help="The first window: an ISO date or hour, UTC."
)
@click.option(
    "--to", "end", callback=past_range.hour, help="The end of the last window; all that have settled, if not given."
)
@click.option("--stream", "names", multiple=True, help="Only this stream; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line: each window, and the verdict.")
@click.option("--without-source", is_flag=True, help="Do not ask Zendesk: ledgers against objects only.")
@click.option(
    "--sample", type=click.IntRange(min=0), help="Read the objects of so many windows only, chosen by chance."
)
@click.option("--identities", is_flag=True, help="Show which records differ, by identity.")
@click.option(
    "--secops", is_flag=True, help="Look in S3's access log as well: which objects SecOps never read, or read twice."
)
def verify(
    *,
    begin: int,
    end: int | None,
    names: tuple[str, ...],
    as_json: bool,
    without_source: bool,
    sample: int | None,
    identities: bool,
    secops: bool,
) -> None:
    """Compare Zendesk, ledgers and objects of a past range; with --secops, what SecOps has read of it too.

    Says what differs, window by window, and writes nothing. Exit status: 0 nothing differs, 1 something does, 2 a wrong
    option, 3 it could not be looked at.
    """
    try:
        chosen = environment.load()
        if begin < (first := int(chosen.start_date.timestamp())):
            raise click.UsageError(f"The first window is {Window(first)}: START_DATE says so.")
        span, wanted = past_range.settled(chosen, begin, end), past_range.streams(chosen, names)
        with past_range.ends(chosen) as ends:
            ends.bucket.check_account()
            command = Verify(
                span=span,
                source=not without_source,
                sample=sample,
                identities=identities,
                as_json=as_json,
                reads=secops_reads(chosen, ends.bucket.store(), span, time.time()) if secops else None,
            )
            found = {stream.name: command.stream(ends, stream) for stream in wanted}
    except PipelineError as problem:
        raise NotComparableError(f"It could not be looked at: {problem}") from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    _say_verdict(command, found)
    sys.exit(DIFFERS if any(sums.differing for sums in found.values()) else 0)


def _drawn(span: Span, count: int) -> list[Window]:
    return random.sample(list(span), min(count, len(span)))


def _say_verdict(chosen: Verify, found: dict[str, Sums]) -> None:
    windows = sum(sums.windows for sums in found.values())
    differing = sum(len(sums.differing) for sums in found.values())
    delivered = sum(sums.numbers["delivered"] for sums in found.values())
    against = "Zendesk, ledgers and objects agree" if chosen.source else "ledgers and objects agree"
    verdict = (
        f"{differing:,} of {windows:,} windows differ."
        if differing
        else f"Nothing differs: {against} on {windows:,} windows with {delivered:,} records."
    )
    commands = [
        command
        for name, sums in found.items()
        for span in _to_collect(sums)
        for command in past_range.commands(name, span)
    ]
    kinds = {kind for sums in found.values() for kind in sums.counts}
    advice = [text for kind, text in OTHERWISE.items() if kind in kinds]
    if unclear := sum(sums.numbers["not_compared"] for sums in found.values()):
        advice.append(NOT_COMPARED.format(unclear))
    if chosen.as_json:
        totals: Counter[Kind] = sum((sums.counts for sums in found.values()), Counter[Kind]())
        said = {"verdict": verdict, "windows": windows, "differing": differing, "counts": totals}
        click.echo(msgspec.json.encode({**said, "commands": commands, "advice": advice}))
        return
    click.echo(f"\n{verdict}")
    if commands:
        click.echo("Collect what is missing; what was delivered is not delivered again:")
    for command in commands:
        click.echo(f"  {command}")
    for text in advice:
        click.echo(text)


def _to_collect(sums: Sums) -> list[Span]:
    found = list(ranges(sums.to_collect))
    return found if len(found) <= MOST_COMMANDS else [Span(found[0].start, found[-1].end)]
