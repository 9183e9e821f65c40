"""`zendesk-pipeline verify`: source, ledgers and objects of a past range, reconciled. Writes nothing anywhere."""

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import click
import msgspec

from zendesk_pipeline.commands import past_range
from zendesk_pipeline.commands.past_range import Ends
from zendesk_pipeline.commands.verify.comparison import Kind, Shown, Verification, WindowReport
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window, ranges
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.programs import backfills

DIFFERS, NOT_LOOKED_AT, INTERRUPTED = 1, 3, 130
"""Exit status; 2 is a wrong option."""
MOST_COMMANDS = 5
"""Of a stream; more ranges than that are collected as one."""

COLLECTED_AGAIN: frozenset[Kind] = frozenset({"no_ledger", "incomplete", "not_delivered", "unnamed_object"})
"""What collecting the window again mends."""
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
    "repeated": "SecOps has these records twice: let one Dagster alone collect the account.",
    "in_two_windows": "SecOps has these records twice, and no window changes by itself: please report it.",
}

NOT_COMPARED = (
    "The content of {:,} records was not compared with Zendesk's: stored by other redaction rules, or of windows too"
    " large to be held (docs/verify.md)."
)


class NotLookedAtError(click.ClickException):
    """The reason, and a status that is not that of a difference."""

    exit_code = NOT_LOOKED_AT


@dataclass(slots=True, kw_only=True)
class Sums:
    """Of one stream."""

    windows: int = 0
    at_source: int = 0
    delivered: int = 0
    objects: int = 0
    objects_gone: int = 0
    replaced: int = 0
    reworded: int = 0
    sent_again: int = 0
    not_compared: int = 0
    differing: list[Window] = field(default_factory=list[Window])
    to_collect: list[Window] = field(default_factory=list[Window])
    counts: Counter[Kind] = field(default_factory=Counter[Kind])

    def add(self, report: WindowReport) -> None:
        """Count a window."""
        self.windows += 1
        self.at_source += report.at_source or 0
        for name in ("delivered", "objects", "objects_gone", "replaced", "reworded", "sent_again", "not_compared"):
            setattr(self, name, getattr(self, name) + getattr(report, name))
        for difference in report.differences:
            self.counts[difference.kind] += difference.count
        if report.differences:
            self.differing.append(report.window)
        if any(difference.kind in COLLECTED_AGAIN for difference in report.differences):
            self.to_collect.append(report.window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How it is looked at, and how it is said."""

    chosen: Settings
    span: Span
    source: bool
    sample: int | None
    identities: bool
    as_json: bool

    def stream(self, account: Ends, stream: Stream) -> Sums:
        """Look at all windows of a stream, and say what differs as it is found."""
        sums, told = Sums(), past_range.ProgressLine(stream.name, self.span, lambda text: click.echo(text, err=True))
        sampled = None if self.sample is None else set(_drawn(self.span, self.sample))
        verification = Verification(
            inspector=account.bucket.inspector(stream),
            reads=lambda window: sampled is None or window in sampled,
            redaction=account.bucket.rules(stream) if self.source else None,
        )
        self._say(f"{stream.name}: {len(self.span):,} windows, {self.span}, UTC")
        for window, shown in self._windows(account, stream):
            report = verification.look(window, *((shown.identities, shown.lines) if shown else (None, None)))
            sums.add(report)
            self._tell(stream, report)
            told.reached(window)
        self._say(self._summary(sums))
        return sums

    def _windows(self, account: Ends, stream: Stream) -> Iterator[tuple[Window, Shown | None]]:
        if self.source:
            yield from past_range.contents(account.zendesk, stream, self.span)
            return
        yield from ((window, None) for window in self.span)

    def _tell(self, stream: Stream, report: WindowReport) -> None:
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
        counted = {
            "records at Zendesk": sums.at_source if self.source else None,
            "delivered": sums.delivered,
            "ticket states replaced since (as they should)": sums.replaced or None,
            "of states that Zendesk words differently now": sums.reworded or None,
            "sent again on purpose": sums.sent_again or None,
            "whose content was not compared": sums.not_compared or None,
            "objects": sums.objects,
            "of them gone from the feed (it may delete what it has read)": sums.objects_gone or None,
        }
        return "  " + ", ".join(f"{count:,} {name}" for name, count in counted.items() if count is not None)

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
def verify(
    *,
    begin: int,
    end: int | None,
    names: tuple[str, ...],
    as_json: bool,
    without_source: bool,
    sample: int | None,
    identities: bool,
) -> None:
    """Compare Zendesk, ledgers and objects of a past range.

    Says what differs, window by window, and writes nothing. Exit status: 0 nothing differs, 1 something does, 2 a wrong
    option, 3 it could not be looked at.
    """
    try:
        chosen = environment.load()
        look = Look(
            chosen=chosen,
            span=_settled(chosen, begin, end),
            source=not without_source,
            sample=sample,
            identities=identities,
            as_json=as_json,
        )
        wanted = past_range.streams(chosen, names)
        with past_range.ends(chosen) as account:
            account.bucket.check_account()
            found = {stream.name: look.stream(account, stream) for stream in wanted}
    except PipelineError as problem:
        raise NotLookedAtError(f"It could not be looked at: {problem}") from None
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    _say_verdict(look, found)
    sys.exit(DIFFERS if any(sums.differing for sums in found.values()) else 0)


def _settled(chosen: Settings, begin: int, end: int | None) -> Span:
    """The part of the range that can be looked at; says what is left out."""
    first, last = int(chosen.start_date.timestamp()), past_range.settled_until(chosen, time.time())
    if end is not None and begin >= end:
        raise click.UsageError("--to has to be later than --from.")
    if begin < first:
        raise click.UsageError(f"The first window is {Window(first)}: START_DATE says so.")
    if begin >= last:
        raise click.UsageError(f"No window from {Window(begin)} on has settled yet: look again in an hour.")
    if end is not None and end > last:
        left_out = Span(last, end)
        click.echo(f"Left out, since not settled yet or just being collected: {left_out}.", err=True)
    return Span(begin, min(end or last, last))


def _drawn(span: Span, count: int) -> list[Window]:
    return random.sample(list(span), min(count, len(span)))


def _say_verdict(look: Look, found: dict[str, Sums]) -> None:
    windows = sum(sums.windows for sums in found.values())
    differing = sum(len(sums.differing) for sums in found.values())
    delivered = sum(sums.delivered for sums in found.values())
    against = "Zendesk, ledgers and objects agree" if look.source else "ledgers and objects agree"
    verdict = (
        f"{differing:,} of {windows:,} windows differ."
        if differing
        else f"Nothing differs: {against} on {windows:,} windows with {delivered:,} records."
    )
    commands = [
        command
        for name, sums in found.items()
        for span in _to_collect(sums)
        for command in backfills(name, span, past_range.named().account)
    ]
    kinds = {kind for sums in found.values() for kind in sums.counts}
    advice = [text for kind, text in OTHERWISE.items() if kind in kinds]
    if unclear := sum(sums.not_compared for sums in found.values()):
        advice.append(NOT_COMPARED.format(unclear))
    if look.as_json:
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
