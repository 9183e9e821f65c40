"""Which parameters ask for a page, and where the next one is; on the wire they are in test_pages."""

import pytest

from zendesk_pipeline.model.paging import Params
from zendesk_pipeline.model.records import page_reader
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS, Stream
from zendesk_pipeline.model.windows import HOUR, TimeRange, Window

START = Window.of_partition("2026-11-12-05:00").start
ASKED = TimeRange(START, START + HOUR)
FILTER = [
    ("filter[created_at][]", "2026-11-12T04:59:59Z"),
    ("filter[created_at][]", "2026-11-12T06:00:01Z"),
    ("sort", "created_at"),
]


@pytest.mark.parametrize(
    ("stream", "cursor", "size", "expected"),
    [
        pytest.param(AUDIT_LOGS, None, 100, [*FILTER, ("page[size]", "100")], id="list-first"),
        pytest.param(AUDIT_LOGS, "eyJ=", 50, [*FILTER, ("page[size]", "50"), ("page[after]", "eyJ=")], id="list-later"),
        pytest.param(
            INCREMENTAL_TICKETS,
            None,
            1000,
            [("start_time", str(START)), ("per_page", "1000"), ("support_type_scope", "all")],
            id="export-first",
        ),
        pytest.param(
            INCREMENTAL_TICKETS,
            "MTY5",
            500,
            [("cursor", "MTY5"), ("per_page", "500"), ("support_type_scope", "all")],
            id="export-later",
        ),
    ],
)
def test_parameters(stream: Stream, cursor: str | None, size: int, expected: Params) -> None:
    """The list is asked for with both ends a second wider on every page, the export from its start once."""
    assert stream.paging.params(ASKED, cursor, size) == expected


@pytest.mark.parametrize(
    ("stream", "body", "expected"),
    [
        pytest.param(
            AUDIT_LOGS,
            b'{"audit_logs":[],"meta":{"has_more":true,"after_cursor":"a"},"links":{"next":null}}',
            (True, "a"),
            id="list-more",
        ),
        pytest.param(
            AUDIT_LOGS,
            b'{"audit_logs":[],"meta":{"has_more":false,"after_cursor":"a"},"links":{"next":"https://x.example/n"}}',
            (False, "a"),
            id="list-last-with-links",
        ),
        pytest.param(
            AUDIT_LOGS,
            b'{"audit_logs":[],"meta":{"has_more":false,"after_cursor":null},"links":{"next":null}}',
            (False, None),
            id="list-last",
        ),
        pytest.param(AUDIT_LOGS, b'{"audit_logs":[],"meta":{"has_more":true}}', (True, None), id="list-no-cursor"),
        pytest.param(
            INCREMENTAL_TICKETS,
            b'{"tickets":[],"after_cursor":"a","end_of_stream":false,"after_url":null}',
            (True, "a"),
            id="export-more-without-url",
        ),
        pytest.param(
            INCREMENTAL_TICKETS,
            b'{"tickets":[],"after_cursor":"a","end_of_stream":true,"after_url":"https://x.example/n"}',
            (False, "a"),
            id="export-end-with-cursor",
        ),
        pytest.param(
            INCREMENTAL_TICKETS,
            b'{"tickets":[],"after_cursor":null,"end_of_stream":false}',
            (True, None),
            id="export-no-cursor",
        ),
    ],
)
def test_only_the_end_flag_tells_the_end(stream: Stream, body: bytes, expected: tuple[bool, str | None]) -> None:
    """Not an empty page, not a link or cursor that is set or missing: `has_more` and `end_of_stream` alone."""
    page = page_reader(stream)(body)
    assert (page.has_more, page.cursor) == expected
