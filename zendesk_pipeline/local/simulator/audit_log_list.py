"""Answers of the audit log list: JSON:API cursor paging, or offset paging without `page[size]`.

https://developer.zendesk.com/api-reference/ticketing/account-configuration/audit_logs/ and
https://developer.zendesk.com/api-reference/introduction/pagination/. As recorded on sibling lists: `links.next` is
set on the last page too, and a full last page says has_more and is followed by an empty one.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from urllib.parse import urlencode
from zlib import crc32

import msgspec

from zendesk_pipeline.local.simulator.history import AUDIT_LOGS, FOREVER, HOUR, Entry, place
from zendesk_pipeline.local.simulator.messages import Answer, Request, error
from zendesk_pipeline.local.simulator.settings import Settings
from zendesk_pipeline.local.simulator.source import Source

PATH = "/api/v2/audit_logs"
PAGE_SIZE = 100
OFFSET_WALL = 10_000  # records; https://support.zendesk.com/hc/en-us/articles/5591904358938
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_WRONG_FILTER = (
    "Invalid filter[created_at] specified; format is "
    "?filter[created_at][]=YYYY-MM-DDTHH:MM:SSZ&filter[created_at][]=YYYY-MM-DDTHH:MM:SSZ"
)


class _Cursor(msgspec.Struct, forbid_unknown_fields=True):
    """What a cursor says when decoded: its order and the place it continues from, [created_at, id]."""

    o: str
    v: tuple[int, int]
    again: bool = False


class RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What was asked for: event times in [start, end] seconds, newest first or not."""

    start: int
    end: int
    descending: bool

    def entries(self, source: Source, now: float, position: tuple[int, int] | None = None) -> Iterator[Entry]:
        """The visible entries past a position, in the listing's order."""
        if self.descending:
            found = source.before(AUDIT_LOGS, min(position or (FOREVER, 0), (self.end + 1, 0)), now)
        else:
            found = source.after(AUDIT_LOGS, max(position or (0, 0), (self.start - 1, FOREVER)), now)
        for entry in found:
            if not self.start <= entry.at <= self.end:
                return
            if entry.visible(now):
                yield entry

    def mixed(self, source: Source, now: float, position: tuple[int, int] | None) -> list[Entry]:
        """All that is past a position, hour after hour in an order that has nothing to do with time."""

        def turn(position: tuple[int, int]) -> tuple[int, tuple[int, int]]:
            return crc32(b"%d" % (position[0] // HOUR)), position

        found = sorted(self.entries(source, now), key=lambda entry: turn(place(entry)))
        return [entry for entry in found if position is None or turn(place(entry)) > turn(position)]

    def last(self, source: Source, now: float, count: int) -> list[Entry]:
        """The last records of the listing, which is by time; as many as are asked for."""
        entries = [*self.entries(source, now)]
        return entries[-count:]


def audit_log_page(
    request: Request, source: Source, settings: Settings, now: float, twist: str | None = None
) -> Answer:
    """One page of audit logs; `twist` is a fault that changes what the page holds or where it leads."""
    try:
        if request.value("page[size]") is None:
            return _offset_page(request, source, settings, now)
        return _cursor_page(request, source, settings, now, twist)
    except RefusedError as refused:
        return refused.answer


def _cursor_page(request: Request, source: Source, settings: Settings, now: float, twist: str | None) -> Answer:
    sort = request.value("sort") or "-created_at"
    newest_first = sort.startswith("-") or settings.audit_log_order == "newest_first"
    listing = _listing(request, settings, descending=newest_first)
    size = _number(request, "page[size]", PAGE_SIZE)
    asked = request.value("page[after]")
    position = _position(asked, sort) if asked else None
    if settings.audit_log_order == "hours_mixed":
        shown = listing.mixed(source, now, position)[:size]
    else:
        shown = list(islice(listing.entries(source, now, position), size))
    more = len(shown) == size
    cursor = _cursor(sort, place(shown[-1])) if shown else None
    if twist in {"empty_page", "early_page"}:
        start = position or ((FOREVER, 0) if listing.descending else (0, 0))
        more, shown = True, [] if twist == "empty_page" else listing.last(source, now, size)
        cursor = _cursor(sort, start, again=asked == _cursor(sort, start))
    elif twist == "repeat_cursor":
        more, cursor = True, asked or cursor
    elif twist == "repeat_record" and position:
        shown = [*_entry_at(source, position, now), *shown]
    elif twist == "early_record":
        shown = [*shown, *listing.last(source, now, 1)]
    if settings.spoils(AUDIT_LOGS, (entry.at for entry in shown)):
        raise RefusedError(error(500, "InternalError", "This page cannot be shown"))
    first = _cursor(sort, place(shown[0])) if shown else None
    return _envelope(request, settings, source.joined(AUDIT_LOGS, shown), (cursor, first), more=more)


def _listing(request: Request, settings: Settings, *, descending: bool) -> Listing:
    ends = request.values("filter[created_at][]")
    if not ends and request.value("filter[created_at]") is None:
        return Listing(start=0, end=FOREVER - 1, descending=descending)
    if len(ends) != 2 or not all(_TIME.fullmatch(end) for end in ends):  # noqa: PLR2004 - a start and an end
        raise RefusedError(error(400, "InvalidValue", _WRONG_FILTER))
    if settings.filter_ends == "ignored":
        return Listing(start=0, end=FOREVER - 1, descending=descending)
    start, end = (_epoch(text) for text in ends)
    if settings.filter_ends == "end_ignored":
        end = FOREVER - 1
    inset = 1 if settings.filter_ends == "exclusive" else 0
    return Listing(start=start + inset, end=end - inset, descending=descending)


def _epoch(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError as wrong:
        raise RefusedError(error(400, "InvalidValue", _WRONG_FILTER)) from wrong


def _number(request: Request, name: str, most: int) -> int:
    text = request.value(name) or str(most)
    if not text.isdecimal() or int(text) == 0:
        raise RefusedError(error(400, "InvalidValue", f"Invalid {name}"))
    return min(int(text), most)


def _cursor(sort: str, position: tuple[int, int], *, again: bool = False) -> str:
    cursor = _Cursor(o=f"{sort},id", v=position, again=again)
    return urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def _position(text: str, sort: str) -> tuple[int, int]:
    """Where a cursor continues; one that was made for another order is refused."""
    try:
        cursor = msgspec.json.decode(urlsafe_b64decode(text), type=_Cursor)
    except ValueError as wrong:
        raise RefusedError(error(400, "InvalidPaginationParameter", "page[after] is not valid")) from wrong
    if cursor.o != f"{sort},id":
        raise RefusedError(error(400, "InvalidPaginationParameter", "page[after] does not match sort"))
    return cursor.v


def _entry_at(source: Source, position: tuple[int, int], now: float) -> list[Entry]:
    found = islice(source.after(AUDIT_LOGS, (position[0], position[1] - 1), now), 1)
    return [entry for entry in found if place(entry) == position]


def _envelope(
    request: Request,
    settings: Settings,
    records: bytes,
    cursors: tuple[str | None, str | None],
    *,
    more: bool,
) -> Answer:
    after, before = cursors
    tail = {
        "meta": {"has_more": more, "after_cursor": after, "before_cursor": before},
        "links": {
            "prev": before and _link(request, settings, {"page[before]": before}),
            "next": after and _link(request, settings, {"page[after]": after}),
        },
    }
    return Answer(parts=(b'{"audit_logs":[', records, b"],", msgspec.json.encode(tail)[1:]))


def _link(request: Request, settings: Settings, changed: dict[str, str]) -> str:
    replaced = {"page", "page[after]", "page[before]"}
    kept = [(name, value) for name, value in request.pairs if name not in replaced]
    return f"{settings.canonical_host}{PATH}.json?{urlencode(sorted([*kept, *changed.items()]))}"


def _offset_page(request: Request, source: Source, settings: Settings, now: float) -> Answer:
    size, page = _number(request, "per_page", PAGE_SIZE), _number(request, "page", 1 << 30)
    if request.value("page") is None:
        page = 1
    if page * size > OFFSET_WALL:
        raise RefusedError(error(400, "InvalidValue", "Pagination limit reached for offset model"))
    listing = _listing(request, settings, descending=request.value("sort_order") != "asc")
    found = list(listing.entries(source, now))
    tail = {
        "next_page": _link(request, settings, {"page": str(page + 1)}) if page * size < len(found) else None,
        "previous_page": _link(request, settings, {"page": str(page - 1)}) if page > 1 else None,
        "count": len(found),
    }
    records = source.joined(AUDIT_LOGS, found[(page - 1) * size : page * size])
    return Answer(parts=(b'{"audit_logs":[', records, b"],", msgspec.json.encode(tail)[1:]))
