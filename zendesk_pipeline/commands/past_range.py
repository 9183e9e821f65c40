"""What commands about windows of the past share: their options, and the account and bucket of the settings."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import click

from zendesk_pipeline.commands.verify import comparison
from zendesk_pipeline.commands.verify.comparison import Shown, by_window
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.catch_up import GRACE
from zendesk_pipeline.settings.environment import Settings, full_hour
from zendesk_pipeline.settings.programs import PACKAGE, called
from zendesk_pipeline.zendesk.prefetch import prefetched

if TYPE_CHECKING:
    from datetime import datetime

    from zendesk_pipeline.orchestration.io_manager import S3IOManager
    from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource

MOST_HELD = 64 * 1024 * 1024
"""Bytes of records that are held for a comparison."""
REPORT_EVERY = 10.0
"""Seconds between two lines of progress."""


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
    """Where a command reads and where it looks: the Zendesk and the bucket that a run would have."""

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


def streams(chosen: Settings, names: Sequence[str]) -> list[Stream]:
    """The streams that were named, or all that are collected; raises UsageError."""
    unknown = [name for name in names if name not in chosen.resources]
    if unknown:
        raise click.UsageError(f"{', '.join(unknown)} is not collected: RESOURCES={','.join(chosen.resources)}.")
    return [STREAMS[name] for name in names or chosen.resources]


def shown(zendesk: "ZendeskResource", stream: Stream, span: Span) -> Iterator[tuple[Window, set[str]]]:
    """What Zendesk shows of each window: one walk, as a run makes it, without a look-back."""
    return by_window(prefetched(zendesk.pages(stream, span, lookback=0)), span)


def contents(zendesk: "ZendeskResource", stream: Stream, span: Span) -> Iterator[tuple[Window, Shown]]:
    """The same with the records, as many as may be held."""
    return comparison.contents(prefetched(zendesk.pages(stream, span, lookback=0)), span, keep=MOST_HELD)


def settled_until(chosen: Settings, now: float) -> int:
    """The end of the last window that has been collected by now, if all went well."""
    return Window.of(int(now - named().delay - max(GRACE, chosen.settle_seconds))).start


@dataclass(slots=True)
class ProgressLine:
    """A line of progress from time to time."""

    name: str
    span: Span
    say: Callable[[str], object]
    monotonic: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.monotonic()

    def reached(self, window: Window) -> None:
        """A window was looked at."""
        if self.monotonic() - self._last >= REPORT_EVERY:
            self._last = self.monotonic()
            done = (window.end - self.span.start) * len(self.span) // (self.span.end - self.span.start)
            self.say(f"{self.name}: {done:,} of {len(self.span):,} windows, at {window}")
