"""The ways Zendesk pages what we collect: which parameters ask for a page, and where the next one is.

Pure: no HTTP, no waiting. A stream names one of them; each is a `Paging`.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Optional
from urllib.parse import parse_qsl, urlsplit

import msgspec

from zendesk_pipeline.model.stream import Paging, Params
from zendesk_pipeline.model.windows import LAST_TIME, TimeRange, timestamp

__all__ = ["AccessLogList", "CursorExport", "CursorList", "CursorListFrom", "Paging", "Params", "TimeExport"]


class _Meta(msgspec.Struct):
    has_more: bool
    after_cursor: str | None = None


class _Links(msgspec.Struct):
    next: str | None = None


_Position: Any = Optional[Annotated[int, msgspec.Meta(ge=0, le=LAST_TIME)]]  # noqa: UP045  # a value here
"""A second; None where there was no record at all."""


def _same_cursor_twice(cursor: str) -> str:  # noqa: ARG001  # exports by time name it
    return (
        "Zendesk gave the same cursor twice; following it would never end."
        " Finished windows stay. Run the range again; if it happens again, tell Zendesk's support."
    )


@dataclass(frozen=True, slots=True)
class CursorList:
    """Cursor lists (JSON:API), bounded by a filter on the creation time.

    Neither end of `filter[created_at]` is documented as inclusive or exclusive, so both are asked for a second wider
    and cut on our side. `links.next` is set on the last page too: only `meta.has_more` tells the end.
    https://developer.zendesk.com/api-reference/introduction/pagination/
    """

    envelope = (("meta", _Meta),)
    bounded = True
    spread = 1
    late = 0
    repeated = staticmethod(_same_cursor_twice)

    def params(self, asked: TimeRange, cursor: str | None, size: int) -> Params:
        """The filter and the sort are sent with every page: a cursor is only good for its own query."""
        ends = [
            ("filter[created_at][]", timestamp(asked.start - 1)),
            ("filter[created_at][]", timestamp(asked.end + 1)),
        ]
        after = [] if cursor is None else [("page[after]", cursor)]
        return [*ends, ("sort", "created_at"), ("page[size]", str(size)), *after]

    def following(self, page: Any) -> tuple[bool, str | None]:
        """`meta` decides."""
        return page.meta.has_more, page.meta.after_cursor


@dataclass(frozen=True, slots=True)
class CursorListFrom:
    """Cursor lists (JSON:API) in the order of time that have a `start_time` and no end.

    https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_metric_events/
    """

    envelope = (("meta", _Meta),)
    bounded = False
    spread = late = 0
    repeated = staticmethod(_same_cursor_twice)

    def params(self, asked: TimeRange, cursor: str | None, size: int) -> Params:
        """The start is sent with every page: a cursor is only good for its own query."""
        after = [] if cursor is None else [("page[after]", cursor)]
        return [("start_time", str(asked.start)), ("page[size]", str(size)), *after]

    def following(self, page: Any) -> tuple[bool, str | None]:
        """`meta` decides."""
        return page.meta.has_more, page.meta.after_cursor


@dataclass(frozen=True, slots=True)
class AccessLogList:
    """The access logs' own paging: a start and an end, oldest first, and a cursor under one of two names.

    Zendesk's table of parameters calls it `filter[after]`, the `links.next` of its example `page[after]`; which of the
    two the account's answers name is sent. A wrong one would bring the first page again, and with it the same cursor.
    The ends filter by the time of creation and are exclusive by their wording. A request is written down when it is
    over, so a minute more is asked for at the end, and a second at the start.
    https://developer.zendesk.com/api-reference/ticketing/account-configuration/access_logs/
    """

    envelope = (("meta", _Meta), ("links", _Links | None, None))
    bounded = True
    spread = late = 600  # what is written down within the range can be a request that began so long before
    repeated = staticmethod(_same_cursor_twice)

    NAMES = ("filter[after]", "page[after]")
    LATER = 60
    """Seconds."""

    def params(self, asked: TimeRange, cursor: str | None, size: int) -> Params:
        """The filter is sent with every page; `cursor` is the parameter's name and its value with `=` between."""
        ends = [("filter[start]", timestamp(asked.start - 1)), ("filter[end]", timestamp(asked.end + self.LATER))]
        name, _, value = (cursor or "").partition("=")
        return [*ends, ("page[size]", str(size)), *([(name, value)] if cursor else [])]

    def following(self, page: Any) -> tuple[bool, str | None]:
        """`meta` decides; the link is asked for the parameter's name only, and never followed."""
        after = page.meta.after_cursor
        return page.meta.has_more, after and f"{self._name(page.links)}={after}"

    def _name(self, links: _Links | None) -> str:
        try:
            linked = {name for name, _ in parse_qsl(urlsplit((links and links.next) or "").query)}
        except ValueError:
            linked = set[str]()
        return next((name for name in self.NAMES if name in linked), self.NAMES[0])


@dataclass(frozen=True, slots=True)
class CursorExport:
    """Incremental exports by cursor: a start, no end, and a cursor that stays set at the end of the stream.

    https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/
    """

    always: tuple[tuple[str, str], ...] = ()
    """Parameters that are sent with every page."""

    envelope = (("end_of_stream", bool), ("after_cursor", str | None))
    bounded = False
    spread = late = 0
    repeated = staticmethod(_same_cursor_twice)

    def params(self, asked: TimeRange, cursor: str | None, size: int) -> Params:
        """The start is sent for the first page only."""
        position = ("start_time", str(asked.start)) if cursor is None else ("cursor", cursor)
        return [position, ("per_page", str(size)), *self.always]

    def following(self, page: Any) -> tuple[bool, str | None]:
        """`end_of_stream` decides."""
        return not page.end_of_stream, page.after_cursor


@dataclass(frozen=True, slots=True)
class TimeExport:
    """Incremental exports by time: each page starts at a second and names the one to go on from, `end_time`.

    The start is inclusive, so the records of that second come again, and drop out by their identity. Where one second
    has more records than a page can hold, `end_time` is that very second again, and so on for ever: no parameter leads
    past it, and a later start would leave out the rest of it. `next_page` is set at the end of the stream too.
    https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api/
    """

    always: tuple[tuple[str, str], ...] = ()
    """Parameters that are sent with every page."""

    envelope = (("end_of_stream", bool), ("end_time", _Position))
    bounded = False
    spread = late = 0

    def params(self, asked: TimeRange, cursor: str | None, size: int) -> Params:
        """A page is asked for by its start alone: here a cursor is a second."""
        start = str(asked.start) if cursor is None else cursor
        return [("start_time", start), ("per_page", str(size)), *self.always]

    def following(self, page: Any) -> tuple[bool, str | None]:
        """`end_of_stream` decides."""
        return not page.end_of_stream, None if page.end_time is None else str(page.end_time)

    def repeated(self, cursor: str) -> str:
        """Which second cannot be passed."""
        return (
            f"Zendesk's export does not get past the second {timestamp(int(cursor))}: it holds more records than a"
            " page, and an export by time repeats that page for ever. To go on after it would lose the rest of the"
            " second, so its window stays open; others can be collected. Ask Zendesk's support for the records of"
            " that second."
        )
