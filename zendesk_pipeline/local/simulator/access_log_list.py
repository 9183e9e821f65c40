"""Answers of the access logs, which keep none of the other lists' conventions.

https://developer.zendesk.com/api-reference/ticketing/account-configuration/access_logs/: oldest first, both ends of
the filter exclusive, cursors that are ULIDs, errors of their own form. `filter[graphql]=true` leaves GraphQL out.
"""

import re
from datetime import datetime
from itertools import takewhile
from urllib.parse import urlencode

import msgspec

from zendesk_pipeline.local.simulator.cursor_pages import Asked, cut_page, last_before, with_early
from zendesk_pipeline.local.simulator.further_records import ulid, ulid_parts
from zendesk_pipeline.local.simulator.history import ACCESS_LOGS, DAY, FOREVER, Entry
from zendesk_pipeline.local.simulator.messages import Answer, Request, json_answer
from zendesk_pipeline.local.simulator.settings import Settings
from zendesk_pipeline.local.simulator.source import Source

PATH = "/api/v2/access_logs"
PAGE_SIZE = 1000
LARGEST_PAGE = 2500
KEPT = 90 * DAY
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_CURSORS = ("filter[after]", "page[after]")


def access_log_error(status: int, title: str, detail: str) -> Answer:
    """An error in the form of this list alone."""
    return json_answer({"errors": [{"detail": detail, "title": title}]}, status=status)


def access_log_page(request: Request, source: Source, settings: Settings, now: float, twist: str | None) -> Answer:
    """One page of access logs; `twist` is a fault that changes what the page holds or where it leads."""
    if request.value("sort") == "-created_at":
        return access_log_error(400, "Malformed query params", "the simulator lists oldest first only")
    try:
        size = _size(request.value("page[size]"))
        start, end = _epoch(request.value("filter[start]"), 0), _epoch(request.value("filter[end]"), FOREVER)
        asked = _asked(request.value(settings.access_log_cursor))
    except ValueError as wrong:
        return access_log_error(400, "Malformed query params", str(wrong))
    first = (max(start, int(now) - KEPT), FOREVER)
    found = source.after(ACCESS_LOGS, max(first, asked.place) if asked else first, now)
    without_graphql = request.value("filter[graphql]") == "true"
    visible = (
        entry
        for entry in takewhile(lambda entry: entry.at < end, found if settings.access_log else ())
        if entry.visible(now) and not (without_graphql and _is_graphql(source, entry))
    )
    page = cut_page(visible, size, asked, first, twist)
    shown = with_early(page.shown, source, ACCESS_LOGS, now, twist)
    if twist == "repeat_record" and asked:
        shown = [*last_before(source, ACCESS_LOGS, asked.place, now), *shown]
    if settings.spoils(ACCESS_LOGS, (entry.at for entry in shown)):
        return access_log_error(500, "Internal Service Error", "Failed to process request")
    cursor = page.after and ulid(page.after.place[0] * 1000 + page.after.again, page.after.place[1])
    kept = [(name, value) for name, value in request.pairs if name not in _CURSORS]
    link = f"{settings.canonical_host}{PATH}?{urlencode([*kept, (settings.access_log_cursor, cursor or '')])}"
    tail = {
        "links": {"next": link if cursor else None, "prev": None},
        "meta": {"after_cursor": cursor, "before_cursor": None, "has_before": asked is not None, "has_more": page.more},
    }
    return Answer(parts=(b'{"access_logs":[', source.joined(ACCESS_LOGS, shown), b"],", msgspec.json.encode(tail)[1:]))


def _is_graphql(source: Source, entry: Entry) -> bool:
    return b'"graphql":null' not in source.record(ACCESS_LOGS, entry)


def _size(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if not text.isdecimal() or int(text) == 0:
        raise ValueError("page size is not a number")
    if int(text) > LARGEST_PAGE:
        raise ValueError(f"max allowed page size is {LARGEST_PAGE}")
    return int(text)


def _epoch(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not _TIME.fullmatch(text):
        raise ValueError("filter is not in the format yyyy-mm-ddThh:mm:ssZ")
    return int(datetime.fromisoformat(text).timestamp())


def _asked(text: str | None) -> Asked | None:
    if text is None:
        return None
    milliseconds, number = ulid_parts(text)
    return Asked((milliseconds // 1000, number), again=milliseconds % 1000 == 1)
