"""`zendesk-pipeline takeover`: from Google's recipe to this pipeline, without a gap and without a repeat."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice

import click

from zendesk_pipeline.commands import past_range
from zendesk_pipeline.commands.past_range import Ends
from zendesk_pipeline.commands.takeover.recipe import Index, Left, TakeOver, others, read
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings

MOST_NAMED = 10
"""Keys of a kind."""


@dataclass(slots=True, kw_only=True)
class RecipeStream:
    """What the recipe left of one stream."""

    stream: Stream
    ledgers: LedgerStore
    index: Index = field(default_factory=Index)
    left: Left = field(default_factory=Left)

    @property
    def takeover(self) -> TakeOver:
        return TakeOver(ledgers=self.ledgers, index=self.index)

    def read(self, prefix: str) -> None:
        """Read the recipe's objects into the index."""
        store, progress = self.ledgers.store, past_range.ProgressLines()
        left = self.left
        for left in read(store, self.stream, prefix, self.index):
            progress.say(f"{self.stream.name}: reading the recipe's objects, {left.objects:,} so far")
        self.left = left
        click.echo(f"{self.stream.name}: {left.objects:,} objects of the recipe's with {left.copies:,} records")
        _name(store, left.unreadable, "hold something that is no page; what was in them counts as not delivered")
        _name(store, left.too_long, "are a line of more than 4 MB, which fails a feed; their records count as missing")

    def compare(self, ends: Ends, span: Span, *, source: bool) -> None:
        """Say window by window what is missing and what is there several times."""
        click.echo(f"\n{self.stream.name}: {len(span):,} windows, {span}, UTC")
        sums = Counter[str]()
        for window, shown in past_range.windows(ends, self.stream, span, source=source):
            standing = self.takeover.standing(window, shown.identities if shown else None)
            sums.update({name: number for name, number in asdict(standing).items() if isinstance(number, int)})
            if standing.missing or standing.again:
                missing = f"{standing.missing:>6,} of {standing.at_source:,} missing, " if source else ""
                click.echo(f"  {window}  {missing}{standing.again:,} copies too many")
        at_source = f"{sums['at_source']:,} records at Zendesk, {sums['missing']:,} missing; " if source else ""
        click.echo(
            f"  {at_source}{sums['by_recipe']:,} delivered by the recipe, with {sums['again']:,} copies too many;"
            f" {sums['by_pipeline']:,} by the pipeline"
        )

    def note(self) -> None:
        """Write the ledgers."""
        windows, progress = self.index.windows(), past_range.ProgressLines()
        counts: list[int] = []
        for window in windows:
            counts.append(self.takeover.note(window))
            progress.reached(self.stream, Span(windows[0].start, windows[-1].end), window)
        ledgers = sum(count > 0 for count in counts)
        click.echo(f"{self.stream.name}: noted {sum(counts):,} records as delivered, in {ledgers:,} ledgers.")


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
@click.option("--without-source", is_flag=True, help="Do not ask Zendesk what is missing; only one page with --yes.")
@click.option("--yes", is_flag=True, help="Write the ledgers. Without it, nothing is written.")
def takeover(
    *, prefix: str | None, begin: int | None, end: int | None, names: tuple[str, ...], without_source: bool, yes: bool
) -> None:
    """Take over from Google's recipe: say what is missing in its objects, and note what they hold as delivered.

    A backfill then adds what is missing, and repeats nothing. Can be run again at any time.
    """
    chosen = environment.load()
    streams = past_range.streams(chosen, names)
    with past_range.ends(chosen) as ends:
        ends.bucket.check_account()
        prefix = chosen.s3_prefix if prefix is None else prefix
        recipe = [RecipeStream(stream=stream, ledgers=ends.bucket.ledgers(stream)) for stream in streams]
        for each in recipe:
            each.read(prefix)
        begun = [each.left.first for each in recipe if each.left.first is not None]
        store = ends.bucket.store()
        if not begun:
            click.echo(f"Nothing of the recipe's is under {store.uri(prefix)}: there is nothing to take over.")
            return
        span = past_range.settled(chosen, Window.of(min(begun)).start if begin is None else begin, end)
        for each in recipe:
            each.compare(ends, span, source=not without_source)
        click.echo()
        if yes:
            if without_source:
                _see_that_zendesk_answers(ends, streams[0], span)
            ends.bucket.claim()
            for each in recipe:
                each.note()
        for number, (text, commands) in enumerate(_steps(chosen, store, prefix, recipe, span, noted=yes), 1):
            click.echo(f"{number}. {text}")
            for command in commands:
                click.echo(f"     {command}")


def _see_that_zendesk_answers(ends: Ends, stream: Stream, span: Span) -> None:
    """Have Zendesk show a page: at an address that is mistyped there is none, and the right one would be refused."""
    next(ends.zendesk.pages(stream, Span(span.end - HOUR, span.end), lookback=0))


def _name(store: Store, keys: list[str], what: str) -> None:
    if keys:
        click.echo(f"  {len(keys):,} of them {what}:")
        for key in keys[:MOST_NAMED]:
            click.echo(f"    {store.uri(key)}")


def _steps(
    chosen: Settings, store: Store, prefix: str, recipe: Sequence[RecipeStream], span: Span, *, noted: bool
) -> Iterator[tuple[str, list[str]]]:
    """The rest of the way, and the commands of each step."""
    program = past_range.named().program
    newest = timestamp(int(max(each.left.newest or 0 for each in recipe)))
    first, end = (f"{timestamp(time)[:16]}Z" for time in (span.start, span.end))
    if noted:
        yield f"Is the recipe's rule disabled? Its newest object is of {newest}. If it wrote on, do this again.", []
    else:
        yield (
            f"Disable the rule that starts the recipe, and wait until it has ended. Its newest object is of {newest}.",
            ["aws events disable-rule --name NAME_OF_THE_RULE"],
        )
        elsewhere = "" if prefix == chosen.s3_prefix else f" --prefix {prefix}"
        yield (
            "Note what it delivered; this writes ledgers, and nothing under the feed prefix.",
            [f"{program} takeover --yes{elsewhere}"],
        )
    if foreign := list(islice(others(store, prefix), MOST_NAMED)):
        yield (
            "Delete what is no log, once nothing needs it: the recipe's state is where SecOps reads it.",
            [f"aws s3 rm {store.uri(entry.key)}" for entry in foreign],
        )
    is_earlier = span.start < chosen.start_date.timestamp()
    yield f"Set START_DATE={first} or earlier, and start Dagster." if is_earlier else "Start Dagster.", []
    yield (
        "Add what is missing; what the recipe delivered is not delivered again.",
        [line for each in recipe for line in past_range.commands(each.stream.name, span)],
    )
    yield "See that nothing differs.", [f"{program} verify --from {first} --to {end}"]
