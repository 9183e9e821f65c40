"""Records and pages made by hand, for tests that put them into a bucket without a Zendesk."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from zendesk_pipeline.model.records import Page, Record, record_reader
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp

FIRST = Window.of_partition("2026-11-12-05:00")
"""The first of the windows that tests deliver."""


def hours(count: int, *, skip: int = 0) -> Span:
    """So many windows, from the first one on."""
    start = FIRST.start + skip * HOUR
    return Span(start, start + count * HOUR)


def audit_log(number: int, at: int, text: str = "Role changed") -> Record:
    """An audit log with an id and a time of its own."""
    return _audit_log(
        msgspec.json.encode({"id": number, "created_at": timestamp(at), "change_description": text, "source_id": None})
    )


def ticket(number: int, at: int, subject: str = "Où est ma commande ?") -> Record:
    """A ticket in the state that it was given at a time."""
    return _ticket(msgspec.json.encode({"id": number, "subject": subject, "generated_timestamp": at}))


def audit_logs(span: Span, each: int = 6) -> list[Record]:
    """So many audit logs in every window of a span: at both ends of it and between."""
    return [
        audit_log(window.start // HOUR * 1000 + number, window.start + (HOUR - 1) * number // max(1, each - 1))
        for window in span
        for number in range(each)
    ]


def paged(records: Sequence[Record], size: int = 4) -> list[Page]:
    """The records on pages of a size; without a record there is one empty page, as Zendesk answers."""
    cuts = range(0, max(1, len(records)), size)
    return numbered(records[cut : cut + size] for cut in cuts)


def numbered(contents: Iterable[Sequence[Record]]) -> list[Page]:
    """A page for each sequence of records, each proof that all before its first record has been shown."""
    return [
        Page(
            number=number,
            records=list(records),
            requests=1,
            waited=0.0,
            passed=min((record.time for record in records), default=0),
        )
        for number, records in enumerate(contents, 1)
    ]


def lines(records: Iterable[Record]) -> list[bytes]:
    """What the feed is to hold of the records, sorted."""
    return sorted(record.line for record in records)


_audit_log, _ticket = record_reader(AUDIT_LOGS), record_reader(INCREMENTAL_TICKETS)


def leaves(value: Any, at: str = "") -> set[str]:
    """The fields of JSON that hold something, found by a walk of the tests' own: `via.source.rel`, `tags[*]`."""
    match value:
        case dict():
            members: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]  # JSON
            return {leaf for name, each in members.items() for leaf in leaves(each, f"{at}.{name}".removeprefix("."))}
        case list():
            items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]  # JSON
            return {leaf for each in items for leaf in leaves(each, f"{at}[*]")}
        case _:
            return set() if value is None else {at}
