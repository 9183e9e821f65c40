"""Answers of the incremental exports of tickets and users, cursor paged: feeds of current states.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/ and recorded answers:
exactly six keys, `after_cursor` set on the last page too, `after_url` on another host than the one asked.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlencode

import msgspec

from zendesk_pipeline.local.simulator.history import FOREVER, HIDDEN_SECONDS, TICKETS, USERS, Entry, place
from zendesk_pipeline.local.simulator.messages import Answer, Request, error
from zendesk_pipeline.local.simulator.settings import Settings
from zendesk_pipeline.local.simulator.source import Source

PAGE_SIZE = 1000
_CURSOR = re.compile(r"(\d+)\.\d+\|\|(\d+)\|")


@dataclass(frozen=True, slots=True)
class Export:
    """One of the exports."""

    path: str
    stream: str
    items: str
    kept: tuple[str, ...]
    """Parameters that `after_url` carries on."""


TICKET_EXPORT = Export(
    "/api/v2/incremental/tickets/cursor",
    TICKETS,
    "tickets",
    ("exclude_deleted", "include", "per_page", "support_type_scope"),
)
USER_EXPORT = Export("/api/v2/incremental/users/cursor", USERS, "users", ("include", "per_page"))
EXPORTS = {export.path: export for export in (TICKET_EXPORT, USER_EXPORT)}


def cursor_of(position: tuple[int, int], fraction: int = 0) -> str:
    """`<generated_timestamp>.0||<id>|` in base64: the answer after it starts past this position."""
    return b64encode(b"%d.%d||%d|" % (position[0], fraction, position[1])).decode()


def export_page(request: Request, source: Source, settings: Settings, now: float, twist: str | None = None) -> Answer:
    """One page of an export; `twist` is a fault that changes what the page holds or where it leads."""
    export = EXPORTS[request.endpoint]
    position = asked_position(request, now)
    if isinstance(position, Answer):
        return position
    size = page_size(request)
    if isinstance(size, Answer):
        return size
    now = settings.shown_at(export.stream, now)
    found = list(islice(_matching(export, request, source, position, now), size + 1))
    shown, more = found[:size], len(found) > size
    reached = place(shown[-1]) if shown else position
    cursor = cursor_of(reached)
    if twist in {"empty_page", "early_page"}:
        early = [] if twist == "empty_page" else source.latest(export.stream, size, now)
        shown, more, cursor = early, True, _another_cursor(request, position)
    elif twist == "early_record":
        shown = [*shown, *source.latest(export.stream, 1, now)]
    elif twist == "repeat_cursor":
        more, cursor = True, request.value("cursor") or cursor_of(position)
    elif twist == "repeat_record":
        shown = [*_last_before(export, request, source, position, now), *shown]
    if settings.spoils(export.stream, (entry.at for entry in shown)):
        return error(500, "InternalError", "This page cannot be shown")
    return _page(export, request, settings, source.joined(export.stream, shown), cursor, more=more)


def asked_position(request: Request, now: float) -> tuple[int, int] | Answer:
    """What the page is to start after: the cursor's place, or everything before the start time."""
    if (cursor := request.value("cursor")) is not None:
        return _cursor_position(cursor)
    start = started_at(request, now)
    return start if isinstance(start, Answer) else (start - 1, FOREVER)


def started_at(request: Request, now: float) -> int | Answer:
    """The second that an export is to start at."""
    text = request.value("start_time") or ""
    if not text.isdecimal():
        return error(400, "InvalidValue", "Invalid start_time or cursor: one of them is required")
    if int(text) > now - HIDDEN_SECONDS:
        description = "Too recent start_time. Use a start_time older than 5 minutes"
        return error(422, "InvalidValue", description)
    return int(text)


def page_size(request: Request) -> int | Answer:
    """Records a page, at most 1000."""
    text = request.value("per_page") or str(PAGE_SIZE)
    if not text.isdecimal() or int(text) == 0:
        return error(400, "InvalidValue", "Invalid per_page")
    return min(int(text), PAGE_SIZE)


def _matching(
    export: Export, request: Request, source: Source, position: tuple[int, int], now: float
) -> Iterator[Entry]:
    """The current states past a position that the request's parameters let through."""
    found = source.after(export.stream, position, now)
    return (entry for entry in found if entry.visible(now) and wanted(request, entry))


def wanted(request: Request, entry: Entry) -> bool:
    """Whether the request's parameters, or their defaults, let a record through: `support_type_scope` is `agent`."""
    scope = request.value("support_type_scope") or "agent"
    in_scope = scope == "all" or entry.ai_agent == (scope == "ai_agent")
    return in_scope and not (entry.deleted and request.value("exclude_deleted") == "true")


def _cursor_position(cursor: str) -> tuple[int, int] | Answer:
    try:
        match = _CURSOR.fullmatch(b64decode(cursor, validate=True).decode())
    except (NotBase64, UnicodeDecodeError):
        match = None
    return (int(match[1]), int(match[2])) if match else error(400, "InvalidValue", "Invalid cursor")


def _another_cursor(request: Request, position: tuple[int, int]) -> str:
    """A cursor that leads on from the same place but is not the one asked with."""
    plain = cursor_of(position)
    return cursor_of(position, fraction=1) if request.value("cursor") == plain else plain


def _last_before(
    export: Export, request: Request, source: Source, position: tuple[int, int], now: float
) -> list[Entry]:
    """The last record of the page before, if the request continues one."""
    if request.value("cursor") is None:
        return []
    past = (position[0], position[1] + 1)
    found = source.before(export.stream, past, now)
    shown = (entry for entry in found if entry.visible(now) and wanted(request, entry))
    return list(islice(shown, 1))


def _page(export: Export, request: Request, settings: Settings, records: bytes, cursor: str, *, more: bool) -> Answer:
    kept = [(name, value) for name in export.kept if (value := request.value(name)) is not None]
    query = urlencode(sorted([("cursor", cursor), *kept]))
    tail: dict[str, object] = {
        "after_url": f"{settings.canonical_host}{export.path}.json?{query}",
        "before_url": None,
        "after_cursor": cursor,
        "before_cursor": None,
        "end_of_stream": not more,
    }
    return Answer(parts=(b'{"%b":[' % export.items.encode(), records, b"],", msgspec.json.encode(tail)[1:]))
