"""Answers of the ticket metric events: by cursor with `page[size]`, by time without.

https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_metric_events/. As on other lists `links.next` is
set on the last page too, and a full last page says has_more and is followed by an empty one.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from urllib.parse import urlencode

import msgspec

from zendesk_pipeline.local.simulator.cursor_pages import Asked, cut_page, last_before, with_early
from zendesk_pipeline.local.simulator.history import FOREVER, METRIC_EVENTS
from zendesk_pipeline.local.simulator.messages import Answer, Request, error
from zendesk_pipeline.local.simulator.settings import Settings
from zendesk_pipeline.local.simulator.source import Source
from zendesk_pipeline.local.simulator.ticket_export import started_at, wanted
from zendesk_pipeline.local.simulator.time_export import time_page

PATH = "/api/v2/incremental/ticket_metric_events"
PAGE_SIZE = 100
_CURSOR = re.compile(r"(\d+),(\d+),([01])")


def metric_event_page(
    request: Request, source: Source, settings: Settings, now: float, twist: str | None = None
) -> Answer:
    """One page; `twist` is a fault that changes what the page holds or where it leads."""
    text = request.value("page[size]")
    if text is None:
        return time_page(request, source, settings, now, twist)
    start = started_at(request, now)
    if isinstance(start, Answer):
        return start
    if not text.isdecimal() or int(text) == 0:
        return error(400, "InvalidValue", "Invalid page[size]")
    asked = _asked(request.value("page[after]"))
    if isinstance(asked, Answer):
        return asked
    first = (start - 1, FOREVER)
    now = settings.shown_at(METRIC_EVENTS, now)
    found = source.after(METRIC_EVENTS, max(first, asked.place) if asked else first, now)
    visible = (entry for entry in found if entry.visible(now) and wanted(request, entry))
    page = cut_page(visible, min(int(text), PAGE_SIZE), asked, first, twist)
    shown = with_early(page.shown, source, METRIC_EVENTS, now, twist)
    if twist == "repeat_record" and asked:
        shown = [*last_before(source, METRIC_EVENTS, asked.place, now), *shown]
    if settings.spoils(METRIC_EVENTS, (entry.at for entry in shown)):
        return error(500, "InternalError", "This page cannot be shown")
    cursor = page.after and _cursor(page.after)
    kept = [(name, value) for name, value in request.pairs if name != "page[after]"]
    link = f"{settings.canonical_host}{PATH}.json?{urlencode([*kept, ('page[after]', cursor or '')])}"
    tail = {
        "meta": {"has_more": page.more, "after_cursor": cursor, "before_cursor": None},
        "links": {"prev": None, "next": link if cursor else None},
    }
    records = source.joined(METRIC_EVENTS, shown)
    return Answer(parts=(b'{"ticket_metric_events":[', records, b"],", msgspec.json.encode(tail)[1:]))


def _cursor(asked: Asked) -> str:
    return urlsafe_b64encode(b"%d,%d,%d" % (*asked.place, asked.again)).decode()


def _asked(text: str | None) -> Asked | Answer | None:
    if text is None:
        return None
    try:
        match = _CURSOR.fullmatch(urlsafe_b64decode(text).decode())
    except ValueError:
        match = None
    if match is None:
        return error(400, "InvalidPaginationParameter", "page[after] is not valid")
    return Asked((int(match[1]), int(match[2])), again=match[3] == "1")
