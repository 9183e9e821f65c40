"""What commands about past windows have in common: their options, and the account and bucket of the settings."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import click

from zendesk_pipeline.commands.source_windows import Shown, by_window
from zendesk_pipeline.delivery.bucket import Store, encryption, prepared
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.catch_up import GRACE
from zendesk_pipeline.settings import aws_clients
from zendesk_pipeline.settings.environment import Settings, full_hour, not_set
from zendesk_pipeline.settings.programs import PACKAGE, backfills, called
from zendesk_pipeline.zendesk.prefetch import prefetched

if TYPE_CHECKING:
    from datetime import datetime

    from zendesk_pipeline.orchestration.io_manager import S3IOManager
    from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource

SECONDS_BETWEEN_LINES = 10.0


def hour(_: click.Context, __: click.Parameter, typed: str | None) -> int | None:
    """A callback for options: a full hour in ISO form, as seconds since the epoch."""
    try:
        return None if typed is None else int(cast("datetime", full_hour(typed)).timestamp())
    except ValueError as wrong:
        raise click.BadParameter(f"{typed}: {wrong}.") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The account that a command is about, as it was asked for."""

    account: str = ""
    """Its name; empty for that of the environment."""
    delay: int = 0
    """Seconds by which its collection begins later than the earliest may."""
    program: str = field(default_factory=lambda: called(PACKAGE))
    """How another command about the same account begins."""


def named() -> Named:
    """What the command line says of it."""
    context = click.get_current_context(silent=True)
    return (context and context.find_object(Named)) or Named()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The two ends of an account: where its records come from and where they go."""

    zendesk: "ZendeskResource"
    bucket: "S3IOManager"


@contextmanager
def ends(chosen: Settings) -> Generator[Ends]:
    """The resources that a run would have, secrets from the environment."""
    import dagster as dg  # noqa: PLC0415 - slow to import

    from zendesk_pipeline.wiring import build  # noqa: PLC0415 - the same

    defined = build(chosen).resources or {}
    wanted: dict[str, Any] = {name: defined[name] for name in ("zendesk", "s3_io_manager")}
    with dg.build_resources(wanted) as resources:
        made: Any = resources
        yield Ends(zendesk=made.zendesk, bucket=made.s3_io_manager)


def store_of(chosen: Settings, what: str) -> Store:
    """The bucket, without Dagster; raises SettingsError where none is set, `what` being what it holds."""
    if not chosen.s3_bucket:
        raise not_set("S3_BUCKET", what)
    asked = encryption(chosen.s3_sse, chosen.s3_kms_key_id)
    return Store(client=prepared(aws_clients.client("s3")), bucket=chosen.s3_bucket, encryption=asked)


def streams(chosen: Settings, names: Sequence[str]) -> list[Stream]:
    """The streams that were named, or all that are collected; raises UsageError."""
    unknown = [name for name in names if name not in chosen.resources]
    if unknown:
        raise click.UsageError(f"{', '.join(unknown)} is not collected: RESOURCES={','.join(chosen.resources)}.")
    return [STREAMS[name] for name in names or chosen.resources]


def windows(
    of: Ends, stream: Stream, span: Span, *, source: bool, keep: int = 0
) -> Iterator[tuple[Window, Shown | None]]:
    """Each window of a range, with what Zendesk shows of it where the `source` is asked.

    That is one walk, as a run makes it, without a look-back. At most `keep` bytes of records are held at a time. From
    time to time a line on standard error says how far it is.
    """
    progress = ProgressLines()
    found: Iterator[tuple[Window, Shown | None]] = ((window, None) for window in span)
    if source:
        found = by_window(prefetched(of.zendesk.pages(stream, span, lookback=0)), span, keep=keep)
    for window, shown in found:
        yield window, shown
        progress.reached(stream, span, window)


def settled_until(chosen: Settings, now: float) -> int:
    """The end of the last window that has been collected by now, if all went well."""
    return Window.of(int(now - named().delay - max(GRACE, chosen.settle_seconds))).start


def settled(chosen: Settings, begin: int, end: int | None) -> Span:
    """The part of a range whose windows have settled; says what is left out, and raises UsageError where it is none."""
    last = settled_until(chosen, time.time())
    if end is not None and begin >= end:
        raise click.UsageError("--to has to be later than --from.")
    if begin >= last:
        raise click.UsageError(f"No window from {Window(begin)} on has settled yet: try again in an hour.")
    if end is not None and end > last:
        click.echo(f"Left out, since not settled yet or just being collected: {Span(last, end)}.", err=True)
    return Span(begin, min(end or last, last))


def commands(stream: str, span: Span) -> list[str]:
    """The commands that collect a range of the account that this command is about."""
    return backfills(stream, span, named().account)


@dataclass(slots=True)
class ProgressLines:
    """Lines on standard error that say how far a command is, ten seconds apart at least."""

    monotonic: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.monotonic()

    def say(self, text: str) -> None:
        """Say it, unless something was said just now."""
        if self.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = self.monotonic()
            click.echo(text, err=True)

    def reached(self, stream: Stream, span: Span, window: Window) -> None:
        """Say that a window of a range is done."""
        done = (window.end - span.start) * len(span) // (span.end - span.start)
        self.say(f"{stream.name}: {done:,} of {len(span):,} windows, at {window}")
