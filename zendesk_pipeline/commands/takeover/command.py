"""`zendesk-pipeline takeover`: from Google's recipe to this pipeline, without a gap and without a repeat."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import click

from zendesk_pipeline.commands import past_range
from zendesk_pipeline.commands.past_range import Ends, ProgressLine
from zendesk_pipeline.commands.takeover.recipe import Index, Left, TakeOver, others, read
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.programs import backfills

MOST_NAMED = 10
"""Keys of a kind."""


@dataclass(slots=True, kw_only=True)
class Part:
    """What is known of one stream."""

    stream: Stream
    index: Index = field(default_factory=Index)
    left: Left = field(default_factory=Left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done, and where."""

    chosen: Settings
    account: Ends
    prefix: str
    source: bool
    parts: list[Part]

    @property
    def store(self) -> Store:
        return self.account.bucket.inspector(self.parts[0].stream).store

    def read(self, part: Part) -> None:
        """What the recipe left of a stream."""
        store, told = self.store, time.monotonic()
        for left in read(store, part.stream, self.prefix, part.index):
            part.left = left
            if time.monotonic() - told > past_range.REPORT_EVERY:
                told = time.monotonic()
                click.echo(f"{part.stream.name}: reading the recipe's objects, {part.left.objects:,} so far", err=True)
        left = part.left
        click.echo(f"{part.stream.name}: {left.objects:,} objects of the recipe's with {left.copies:,} records")
        _name(store, left.unreadable, "hold something that is no page; what was in them counts as not delivered")
        _name(store, left.too_long, "are a line of more than 4 MB, which fails a feed; their records count as missing")

    def takeover(self, part: Part) -> TakeOver:
        inspector = self.account.bucket.inspector(part.stream)
        return TakeOver(stream=part.stream, store=inspector.store, layout=inspector.layout, index=part.index)

    def compare(self, part: Part, span: Span) -> None:
        """Say window by window what lacks and what is there several times."""
        takeover, told = (
            self.takeover(part),
            ProgressLine(part.stream.name, span, lambda text: click.echo(text, err=True)),
        )
        click.echo(f"\n{part.stream.name}: {len(span):,} windows, {span}, UTC")
        at_source = by_recipe = by_pipeline = missing = again = 0
        for window, shown in self._windows(part.stream, span):
            standing = takeover.standing(window, shown)
            told.reached(window)
            at_source += standing.at_source or 0
            by_recipe, by_pipeline = by_recipe + standing.by_recipe, by_pipeline + standing.by_pipeline
            missing, again = missing + standing.missing, again + standing.again
            if standing.missing or standing.again:
                lacks = f"{standing.missing:>6,} of {standing.at_source:,} missing, " if self.source else ""
                click.echo(f"  {window}  {lacks}{standing.again:,} copies too many")
        sums = f"{by_recipe:,} delivered by the recipe, with {again:,} copies too many; {by_pipeline:,} by the pipeline"
        click.echo(f"  {at_source:,} records at Zendesk, {missing:,} missing; {sums}" if self.source else f"  {sums}")

    def note(self, part: Part) -> None:
        """Write the ledgers."""
        takeover, windows = self.takeover(part), part.index.windows()
        counts: list[int] = []
        if windows:
            told = ProgressLine(
                part.stream.name, Span(windows[0].start, windows[-1].end), lambda text: click.echo(text, err=True)
            )
            for window in windows:
                counts.append(takeover.note(window))
                told.reached(window)
        ledgers = sum(count > 0 for count in counts)
        click.echo(f"{part.stream.name}: noted {sum(counts):,} records as delivered, in {ledgers:,} ledgers.")

    def _windows(self, stream: Stream, span: Span) -> Iterator[tuple[Window, set[str] | None]]:
        if self.source:
            yield from past_range.shown(self.account.zendesk, stream, span)
            return
        yield from ((window, None) for window in span)


@click.command
@click.option("--prefix", help="Where the recipe wrote to: its S3_PREFIX; that of the settings, if not given.")
@click.option(
    "--from",
    "begin",
    callback=past_range.hour,
    help="The first window to compare; the hour of the recipe's first object.",
)
@click.option(
    "--to", "end", callback=past_range.hour, help="The end of the last one; all that have settled, if not given."
)
@click.option("--stream", "names", multiple=True, help="Only this stream; may be given several times.")
@click.option("--without-source", is_flag=True, help="Do not ask Zendesk what lacks, only for one page with --yes.")
@click.option("--yes", is_flag=True, help="Write the ledgers. Without it, nothing is written.")
def takeover(
    *, prefix: str | None, begin: int | None, end: int | None, names: tuple[str, ...], without_source: bool, yes: bool
) -> None:
    """Take over from Google's recipe: say what its objects lack, and note what they hold as delivered.

    A backfill then adds what lacks, and repeats nothing. Can be run again at any time.
    """
    chosen = environment.load()
    parts = [Part(stream=stream) for stream in past_range.streams(chosen, names)]
    with past_range.ends(chosen) as account:
        account.bucket.check_account()
        where = chosen.s3_prefix if prefix is None else prefix
        task = Task(chosen=chosen, account=account, prefix=where, source=not without_source, parts=parts)
        for part in parts:
            task.read(part)
        begun = [part.left.first for part in parts if part.left.first is not None]
        if not begun:
            click.echo(f"Nothing of the recipe's lies under {task.store.uri(where)}: there is nothing to take over.")
            return
        span = _span(chosen, Window.of(min(begun)).start if begin is None else begin, end)
        for part in parts:
            task.compare(part, span)
        click.echo()
        if yes:
            if without_source:
                _hear_of(account, parts[0].stream, span)
            account.bucket.claim()
            for part in parts:
                task.note(part)
        _say_what_next(task, span, noted=yes)


def _hear_of(account: Ends, stream: Stream, span: Span) -> None:
    """Have Zendesk show a page: at an address that is mistyped there is none, and the right one would be refused."""
    next(account.zendesk.pages(stream, Span(span.end - HOUR, span.end), lookback=0))


def _span(chosen: Settings, begin: int, end: int | None) -> Span:
    last = min(end or past_range.settled_until(chosen, time.time()), past_range.settled_until(chosen, time.time()))
    if begin >= last:
        raise click.UsageError(f"No window from {Window(begin)} on has settled yet, or --to is not later than --from.")
    return Span(begin, last)


def _name(store: Store, keys: list[str], what: str) -> None:
    if keys:
        click.echo(f"  {len(keys):,} of them {what}:")
        for key in keys[:MOST_NAMED]:
            click.echo(f"    {store.uri(key)}")


def _say_what_next(task: Task, span: Span, *, noted: bool) -> None:
    """The rest of the way, as commands."""
    for number, (text, commands) in enumerate(_steps(task, span, noted=noted), 1):
        click.echo(f"{number}. {text}")
        for command in commands:
            click.echo(f"     {command}")


def _steps(task: Task, span: Span, *, noted: bool) -> Iterator[tuple[str, list[str]]]:
    newest = timestamp(int(max(part.left.newest or 0 for part in task.parts)))
    first = Window(span.start)
    if not noted:
        yield (
            f"Disable the rule that starts the recipe, and wait until it has ended. Its newest object is of {newest}.",
            ["aws events disable-rule --name NAME_OF_THE_RULE"],
        )
        yield (
            "Note what it delivered; this writes ledgers, and nothing under the feed prefix.",
            [
                f"{past_range.named().program} takeover --yes"
                + ("" if task.prefix == task.chosen.s3_prefix else f" --prefix {task.prefix}")
            ],
        )
    else:
        yield (f"Is the recipe's rule disabled? Its newest object is of {newest}. If it wrote on, do this again.", [])
    if left := list(islice(others(task.store, task.prefix), MOST_NAMED)):
        yield (
            "Delete what is no log, once nothing needs it: the recipe's state lies where SecOps reads it.",
            [f"aws s3 rm {task.store.uri(entry.key)}" for entry in left],
        )
    if first.start < task.chosen.start_date.timestamp():
        yield (f"Set START_DATE={timestamp(first.start)[:16]}Z or earlier, and start Dagster.", [])
    else:
        yield ("Start Dagster.", [])
    yield (
        "Add what lacks; what the recipe delivered is not delivered again.",
        [line for part in task.parts for line in backfills(part.stream.name, span, past_range.named().account)],
    )
    yield (
        "See that nothing differs.",
        [f"{past_range.named().program} verify --from {timestamp(span.start)[:16]}Z --to {timestamp(span.end)[:16]}Z"],
    )
