"""What a page of a list by cursor holds and where it leads, faults included."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from zendesk_pipeline.local.simulator.history import Entry, place
from zendesk_pipeline.local.simulator.source import Source


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a cursor continues. `again` tells two cursors of one place apart: those that a fault makes."""

    place: tuple[int, int]
    again: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """A page."""

    shown: list[Entry]
    more: bool
    after: Asked | None
    """What its cursor says; None where the list is empty."""


def cut_page(found: Iterator[Entry], size: int, asked: Asked | None, first: tuple[int, int], twist: str | None) -> Cut:
    """The next page of `found`, which begins past `asked`, or past `first`; a full one says there is more."""
    shown = list(islice(found, size))
    if twist in {"empty_page", "early_page"}:
        start = asked or Asked(first, again=True)
        early = [] if twist == "empty_page" else [*shown, *found][-size:]
        return Cut(early, more=True, after=Asked(start.place, again=not start.again))
    if twist == "repeat_cursor" and asked:
        return Cut(shown, more=True, after=asked)
    after = Asked(place(shown[-1]), again=False) if shown else None
    return Cut(shown, more=len(shown) == size, after=after)


def with_early(shown: list[Entry], source: Source, stream: str, now: float, twist: str | None) -> list[Entry]:
    """The page's records, and with the fault `early_record` the very last one that shows behind them, too early."""
    return [*shown, *source.latest(stream, 1, now)] if twist == "early_record" else shown


def last_before(source: Source, stream: str, position: tuple[int, int], now: float) -> list[Entry]:
    """The last record of the page before the one that continues from a position."""
    past = (position[0], position[1] + 1)
    return list(islice((entry for entry in source.before(stream, past, now) if entry.visible(now)), 1))
