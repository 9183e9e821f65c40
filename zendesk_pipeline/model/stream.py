"""What a stream is: one Zendesk source as data, and how its pages are asked for. Which there are: `model.streams`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from zendesk_pipeline.model.rate_budgets import Budget
from zendesk_pipeline.model.windows import TimeRange

Params = list[tuple[str, str]]
"""Query parameters in order; a list, because `filter[created_at][]` has to be sent twice."""


class Paging(Protocol):
    """How one kind of Zendesk list is read in ascending order; `model.paging` has those we know."""

    @property
    def envelope(self) -> Sequence[tuple[str, object] | tuple[str, object, object]]:
        """The fields around the records that say where the next page is: name, type, perhaps a default."""
        ...

    @property
    def bounded(self) -> bool:
        """Whether the query names the range's end. Then Zendesk's flag alone ends a walk, whatever the last time is."""
        ...

    @property
    def spread(self) -> int:
        """Seconds beyond the ends asked for in which a list with both ends can show records."""
        ...

    @property
    def late(self) -> int:
        """Seconds after its event time in which a list with both ends takes up a record: later pages can show it."""
        ...

    def params(self, asked: TimeRange, cursor: str | None, size: int) -> Params:
        """The query for the page after `cursor`, or for the first one."""
        ...

    def following(self, page: Any) -> tuple[bool, str | None]:
        """Whether there is more, and the cursor that leads there."""
        ...

    def repeated(self, cursor: str) -> str:
        """What it means that `cursor` came twice, and what to do, as a sentence or two."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One Zendesk source, as data."""

    name: str
    """The asset's name and part of every object key: `[a-z_]+`."""
    path: str
    """Below the account's address."""
    documentation: str
    """The address of the API's description."""
    items: str
    """The key of the page that holds the records."""
    paging: Paging
    page_size: int
    """Records a page, the most that is good to ask for."""
    identity: tuple[str, ...]
    """The fields that make a record the same one again; a date and time among them counts in whole seconds."""
    event_time: str
    """The field that decides the window: whole seconds since the epoch, or an ISO date and time."""
    shows_late: bool
    """Whether records can turn up after their window was read (then LOOKBACK_SECONDS are read again)."""
    budget: Budget
    """Which rate limit of Zendesk's the requests count against."""
    pool: str
    """The Dagster pool that keeps runs apart which share that limit, or the stream itself."""
    scope: str
    """The OAuth scope that should be enough."""
    forbidden: str
    """What a 403 to an admin means, as a sentence."""
    description: str
    lists_by_event_time: bool = False
    """Whether Zendesk's list is sorted by `event_time`: then pages of an export prove what was before them; else it
    shows older records again, and is proven at its end."""
    in_parts: bool = False
    """Whether several cursors may read parts of a range at once: its query names both ends, by the event time."""
    late_by: int = 0
    """Seconds by which Zendesk says that records can be late: no look-back is shorter, whatever LOOKBACK_SECONDS is."""
    kept: int | None = None
    """Seconds for which Zendesk keeps records; None where it names no end."""
    catalogued: tuple[str, ...] = ()
    """Fields of a record whose values are few and known, such as `action`: the first sight of another one is told."""
    switch: str = ""
    """Where an admin switches it on, if it is off at first. Once it is on, each request to the account is a record."""

    @property
    def key_types(self) -> dict[str, Any]:
        """The fields that every record has to have, identity first, and their types."""
        return {**dict.fromkeys(self.identity, int | str), self.event_time: int | datetime}

    def lookback(self, chosen: int) -> int:
        """Seconds before a range that are read again, where LOOKBACK_SECONDS is `chosen`."""
        return max(chosen, self.late_by) if self.shows_late else 0
