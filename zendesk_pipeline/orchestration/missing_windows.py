"""Windows since START_DATE that are missing and that nothing asks for: those before the catch-up sensor's hours.

To count them is to ask for all windows of an asset that are materialized, of ten years 87,600. So what was counted is
remembered: an asset is counted again after a while, or at each look as long as something is missing, and a look counts
so many assets and no more.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import dagster as dg
import msgspec

from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window, ranges

COUNTED_EVERY = 10 * 60
"""Seconds after which an asset of which nothing is missing is counted again."""
MOST_COUNTED = 20
"""Assets in one look, those first that have waited longest."""


class Counted(msgspec.Struct, array_like=True):
    """What is missing of an asset."""

    at: float
    """When it was counted, seconds since the epoch."""
    spans: list[tuple[int, int]]
    """Missing windows as ranges of seconds."""


def to_count(known: Mapping[str, Counted], assets: Iterable[str], now: float) -> set[str]:
    """The assets to count in this look."""
    waiting = [(known[name].at if name in known else 0.0, name) for name in assets]
    due = sorted((at, name) for at, name in waiting if now - at >= COUNTED_EVERY or known[name].spans)
    return {name for _, name in due[:MOST_COUNTED]}


def count(instance: dg.DagsterInstance, key: dg.AssetKey, span: Span, now: float) -> Counted:
    """What is missing of an asset's windows of a span, which begins and ends on the hour; one query."""
    held = instance.get_materialized_partitions(key)
    return Counted(at=now, spans=list(_missing(held, span)))


def _missing(held: Collection[str], span: Span) -> Iterator[tuple[int, int]]:
    begun: int | None = None
    for start, name in _names(span):
        if name in held:
            if begun is not None:
                yield begun, start
            begun = None
        elif begun is None:
            begun = start
    if begun is not None:
        yield begun, span.end


def _names(span: Span) -> Iterator[tuple[int, str]]:
    """The windows of a span and their partition keys: a date is written once a day, which is most of the work."""
    for midnight in range(span.start - span.start % DAY, span.end, DAY):
        date = f"{datetime.fromtimestamp(midnight, UTC):%Y-%m-%d}"
        for start in range(max(midnight, span.start), min(midnight + DAY, span.end), HOUR):
            yield start, f"{date}-{(start - midnight) // HOUR:02}:00"


def missing_before(counted: Counted | None, edge: int, under_way: Sequence[Span]) -> list[Span]:
    """Of what was counted, what is before `edge` and in no run."""
    clipped = [Span(start, min(end, edge)) for start, end in (counted.spans if counted else ()) if start < edge]
    if not any(span.start < each.end and each.start < span.end for span in clipped for each in under_way):
        return clipped
    windows = (window for span in clipped for window in span)
    return list(ranges(window for window in windows if not any(window in each for each in under_way)))


def began(instance: dg.DagsterInstance, key: dg.AssetKey) -> float | None:
    """When an asset was materialized for the first time, seconds since the epoch; None if it never was."""
    wanted = dg.AssetRecordsFilter(asset_key=key)
    first = instance.fetch_materializations(wanted, limit=1, ascending=True).records
    return first[0].timestamp if first else None


def split(spans: Iterable[Span], at: float) -> tuple[list[Span], list[Span]]:
    """Ranges before and after a time; a window that ends after it belongs to the latter."""
    edge = Window.of(int(max(0.0, at))).start
    parts = list(spans)
    before = [Span(span.start, min(span.end, edge)) for span in parts if span.start < edge]
    after = [Span(max(span.start, edge), span.end) for span in parts if span.end > edge]
    return before, after
