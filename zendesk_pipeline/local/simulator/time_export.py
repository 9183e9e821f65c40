"""Answers of the incremental exports by time: ticket events, organizations, and metric events that are not paged.

https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api/ and recorded
answers of the ticket export by time: a page smaller than the largest goes on to the end of its last second, and
`end_time` is the next record's; a page of the largest size is cut within a second, and `end_time` is the last record's.
So a second with more records than that repeats for ever. `next_page` is set at the end of the stream too.
"""

from collections.abc import Sequence
from itertools import islice
from urllib.parse import urlencode

import msgspec

from zendesk_pipeline.local.simulator.history import FOREVER, METRIC_EVENTS, ORGANIZATIONS, TICKET_EVENTS, Entry
from zendesk_pipeline.local.simulator.messages import Answer, Request, error
from zendesk_pipeline.local.simulator.settings import Settings
from zendesk_pipeline.local.simulator.source import Source
from zendesk_pipeline.local.simulator.ticket_export import PAGE_SIZE, page_size, started_at, wanted

PATHS = {
    "/api/v2/incremental/ticket_events": (TICKET_EVENTS, "ticket_events"),
    "/api/v2/incremental/organizations": (ORGANIZATIONS, "organizations"),
    "/api/v2/incremental/ticket_metric_events": (METRIC_EVENTS, "ticket_metric_events"),
}
"""Stream and name of the records, by path."""


def time_page(request: Request, source: Source, settings: Settings, now: float, twist: str | None = None) -> Answer:
    """One page; `twist` is a fault that changes what the page holds or where it leads."""
    stream, items = PATHS[request.endpoint]
    start = started_at(request, now)
    if isinstance(start, Answer):
        return start
    size = page_size(request)
    if isinstance(size, Answer):
        return size
    now = settings.shown_at(stream, now)
    found = source.after(stream, (start - 1, FOREVER), now)
    visible = (entry for entry in found if entry.visible(now) and wanted(request, entry))
    shown, end_time, more = cut(list(islice(visible, PAGE_SIZE + 1)), min(size, PAGE_SIZE))
    if twist in {"empty_page", "early_page"}:
        early = [] if twist == "empty_page" else source.latest(stream, size, now)
        shown, end_time, more = early, start - 1, True  # the same place by another start
    elif twist == "early_record":
        shown = [*shown, *source.latest(stream, 1, now)]
    elif twist == "repeat_cursor":
        end_time, more = start, True
    elif twist == "repeat_record":
        earlier = source.before(stream, (start, 0), now)
        before = (entry for entry in earlier if entry.visible(now) and wanted(request, entry))
        shown = [*islice(before, 1), *shown]
    if settings.spoils(stream, (entry.at for entry in shown)):
        return error(500, "InternalError", "This page cannot be shown")
    query = urlencode([("per_page", size), ("start_time", start if end_time is None else end_time)])
    tail = {
        "count": len(shown),
        "end_of_stream": not more,
        "end_time": end_time,
        "next_page": f"{settings.canonical_host}{request.endpoint}.json?{query}",
    }
    records = source.joined(stream, shown)
    return Answer(parts=(b'{"%b":[' % items.encode(), records, b"],", msgspec.json.encode(tail)[1:]))


def cut(found: Sequence[Entry], size: int) -> tuple[list[Entry], int | None, bool]:
    """A page's records, its `end_time`, and whether there are more.

    `found` is what follows, up to one more than the largest page holds.
    """
    if len(found) <= size:
        return list(found), found[-1].at if found else None, False
    last = found[size - 1].at
    whole = [entry for entry in found if entry.at <= last]
    if size == PAGE_SIZE or len(whole) > PAGE_SIZE:
        return list(found[:PAGE_SIZE]), found[PAGE_SIZE - 1].at, True
    if len(whole) == len(found):
        return whole, last, False
    return whole, found[len(whole)].at, True
