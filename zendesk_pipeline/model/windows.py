"""Hourly windows and ranges of them, in whole seconds since the epoch, UTC."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

HOUR = 3600
DAY = 24 * HOUR
LAST_TIME = 253_402_300_799
"""The end of the year 9999: no later window has a name."""
MOST_SHOWN = 5
"""Of a list that goes into a sentence."""
PARTITION_KEY_FORMAT = "%Y-%m-%d-%H:%M"
"""What Dagster's HourlyPartitionsDefinition writes, such as `2026-11-12-05:00`."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One hour `[start, end)`: a record belongs to the window of its event time."""

    start: int

    @classmethod
    def of(cls, time: int) -> "Window":
        """The window that `time` falls into."""
        return cls(time - time % HOUR)

    @classmethod
    def of_partition(cls, key: str) -> "Window":
        """The window of a Dagster partition key; raises ValueError for anything else."""
        time = datetime.fromisoformat(f"{key[:10]}T{key[11:]}+00:00")  # four times as fast as strptime
        window = cls.of(int(time.timestamp()))
        if window.partition_key != key:
            raise ValueError(f"{key} is not the key of an hourly window")
        return window

    @classmethod
    def if_hour(cls, key: str | None) -> "Window | None":
        """The window of a partition key; None for what is no hour, such as a day, a name or half past seven.

        Dagster itself takes a time between two hours for the hour after it (`has_partition_key`, 1.13.29).
        """
        try:
            return None if key is None else cls.of_partition(key)
        except ValueError:
            return None

    @classmethod
    def around(cls, key: str) -> "Window":
        """The window of the time that a key names, on the hour or not; raises ValueError for what is no time."""
        return cls.of(int(datetime.strptime(key, PARTITION_KEY_FORMAT).replace(tzinfo=UTC).timestamp()))

    @property
    def end(self) -> int:
        return self.start + HOUR

    @property
    def starts_at(self) -> datetime:
        return datetime.fromtimestamp(self.start, UTC)

    @property
    def partition_key(self) -> str:
        return f"{self.starts_at:{PARTITION_KEY_FORMAT}}"

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Seconds `[start, end)`, on the hour or not: what a query asks for."""

    start: int
    end: int

    @property
    def seconds(self) -> int:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Span:
    """A range of whole windows `[start, end)`, which it iterates over and counts."""

    start: int
    end: int

    def __iter__(self) -> Iterator[Window]:
        return map(Window, range(self.start, self.end, HOUR))

    def __len__(self) -> int:
        return (self.end - self.start) // HOUR

    def __contains__(self, window: Window) -> bool:
        return self.start <= window.start < self.end

    @property
    def time_range(self) -> TimeRange:
        return TimeRange(self.start, self.end)

    def __str__(self) -> str:
        first, last = Window(self.start), Window(self.end - HOUR)
        return f"{first}" if first == last else f"{first} to {last}"


def timestamp(seconds: int) -> str:
    """`2026-11-12T05:00:00Z`, the only form Zendesk's time filters accept."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def seconds_of(time: datetime) -> int:
    """Whole seconds since the epoch of a date and time, which is UTC where it names no zone."""
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def ranges(windows: Iterable[Window]) -> Iterator[Span]:
    """Windows as ranges of neighbours, in order."""
    numbered = enumerate(sorted(windows))
    for _, group in groupby(numbered, lambda item: item[1].start - item[0] * HOUR):
        members = [window for _, window in group]
        yield Span(members[0].start, members[-1].end)


def some(items: Sequence[str]) -> str:
    """The first few of a list, in words."""
    more = len(items) - MOST_SHOWN
    return ", ".join(items[:MOST_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
