"""The two ways Zendesk pages what we collect: which parameters ask for a page, and where the next one is.

Pure: no HTTP, no waiting. A stream names one of them.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from zendesk_pipeline.windows import Span, timestamp

Params = list[tuple[str, str]]
"""Query parameters in order; a list, because `filter[created_at][]` has to be sent twice."""


class Paging(Protocol):
    """How one kind of Zendesk list is read in ascending order."""

    @property
    def envelope(self) -> Sequence[tuple[str, object]]:
        """The fields around the records that decide where the next page is: name and type."""
        ...

    def params(self, span: Span, cursor: str | None, size: int) -> Params:
        """The query for the page after `cursor`, or for the first one."""
        ...

    def following(self, page: Any) -> tuple[bool, str | None]:
        """Whether there is more, and the cursor that leads there."""
        ...


class _Meta(msgspec.Struct):
    has_more: bool
    after_cursor: str | None = None


class CursorList:
    """Cursor lists (JSON:API), bounded by a filter on the creation time.

    Neither end of `filter[created_at]` is documented as inclusive or exclusive, so both are asked for a second wider
    and cut on our side. `links.next` is set on the last page too: only `meta.has_more` tells the end.
    https://developer.zendesk.com/api-reference/introduction/pagination/
    """

    envelope = (("meta", _Meta),)

    def params(self, span: Span, cursor: str | None, size: int) -> Params:
        """The filter and the sort are sent with every page: a cursor is only good for its own query."""
        ends = [
            ("filter[created_at][]", timestamp(span.start - 1)),
            ("filter[created_at][]", timestamp(span.end + 1)),
        ]
        after = [] if cursor is None else [("page[after]", cursor)]
        return [*ends, ("sort", "created_at"), ("page[size]", str(size)), *after]

    def following(self, page: Any) -> tuple[bool, str | None]:
        """`meta` decides."""
        return page.meta.has_more, page.meta.after_cursor


class CursorExport:
    """Incremental exports by cursor: a start, no end, and a cursor that stays set at the end of the stream.

    `support_type_scope` has to be `all`, or tickets handled by AI agents are left out silently.
    https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/
    """

    envelope = (("end_of_stream", bool), ("after_cursor", str | None))

    def params(self, span: Span, cursor: str | None, size: int) -> Params:
        """The start is sent for the first page only."""
        position = ("start_time", str(span.start)) if cursor is None else ("cursor", cursor)
        return [position, ("per_page", str(size)), ("support_type_scope", "all")]

    def following(self, page: Any) -> tuple[bool, str | None]:
        """`end_of_stream` decides."""
        return not page.end_of_stream, page.after_cursor
