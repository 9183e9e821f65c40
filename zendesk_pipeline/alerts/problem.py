"""A problem, and the words that texts about problems have in common."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from zendesk_pipeline.alerts.messages import some_words
from zendesk_pipeline.model.windows import Span, Window, ranges, some

Severity = Literal["info", "warning", "error"]

MINUTE = 60
LONGEST_SENTENCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that a person should know. Its texts never hold an exception's own words: those may quote a record."""

    cause: str
    """The same for the same problem, tick after tick, however many windows and runs it has hit."""
    title: str
    text: str
    link_path: str
    """Below the UI's address."""
    since: float = math.inf
    """Seconds since the epoch, as everywhere here; if it is not known, when the problem was found first."""
    severity: Severity = "error"
    size: int = 1
    """How much of it there is; growth is reported."""
    asset: str = ""
    windows: tuple[Span, ...] = ()
    """Of the asset: the problem is solved when they are delivered."""
    once: bool = False
    """Whether it is reported once, without reminders."""
    over: str = ""
    """The title when it has ended; for windows it is that they are delivered."""


def moment(at: float) -> str:
    """`2026-11-12 05:00 UTC`."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """`2 h 10 min`."""
    minutes = round(seconds / MINUTE)
    hours, days = minutes // 60, minutes // (24 * 60)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def listed(windows: Collection[Window]) -> str:
    """The first few ranges, and how many windows there are."""
    return f"{some([str(span) for span in ranges(windows)])} ({count(windows, 'window')}, UTC)"


def count(items: Collection[object], name: str) -> str:
    """`1 window`, `1,200 windows`."""
    return f"{len(items)} {name}" if len(items) == 1 else f"{len(items):,} {name}s"


def first_line(text: str) -> str:
    """What of a longer text goes into a message."""
    return some_words(text.strip().split("\n", 1)[0], LONGEST_SENTENCE)


def asset_path(asset: str, window: Window | None = None) -> str:
    """Where the UI shows an asset, or one of its windows."""
    partition = f"?view=partitions&partition={quote(window.partition_key, safe='')}" if window else ""
    return f"/assets/{quote(asset)}{partition}"
