"""The simulated account's records: when each shows, and its exact bytes."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TypeVar
from zlib import crc32

import msgspec

from zendesk_pipeline.local.simulator.audit_log_records import audit_log_record
from zendesk_pipeline.local.simulator.further_history import StateMaker, events_of_hour
from zendesk_pipeline.local.simulator.further_records import FURTHER_RECORDS, ulid_parts
from zendesk_pipeline.local.simulator.history import (
    ACCESS_LOGS,
    AUDIT_LOGS,
    FOREVER,
    HIDDEN_SECONDS,
    HOUR,
    METRIC_EVENTS,
    ORGANIZATIONS,
    TICKET_EVENTS,
    TICKETS,
    USERS,
    Entry,
    HistoryOptions,
    TicketMaker,
    Timeline,
    audit_logs_of_hour,
)
from zendesk_pipeline.local.simulator.ticket_records import ticket_record

T = TypeVar("T")

CACHE_BYTES = 256 << 20


class _GivenTicket(msgspec.Struct):
    """What must be read from a ticket record that was given."""

    id: int
    generated_timestamp: int
    status: str | None = None
    support_type: str | None = None


class _GivenAuditLog(msgspec.Struct):
    """What must be read from an audit log record that was given."""

    id: int
    created_at: datetime


class _GivenOther(msgspec.Struct):
    """What must be read from a record of another stream that was given."""

    id: int | str
    timestamp: int | datetime | None = None
    updated_at: datetime | None = None
    time: datetime | None = None
    support_type: str | None = None
    """Of a ticket event, whose ticket's: no field of Zendesk's, which knows the ticket."""

    def moment(self) -> int:
        """Its event time."""
        moment = self.timestamp or self.updated_at or self.time
        if moment is None:
            raise ValueError("the record has no time")
        return moment if isinstance(moment, int) else int(moment.timestamp())


class _RecordedBody(msgspec.Struct):
    tickets: list[msgspec.Raw]


class _RecordedAnswer(msgspec.Struct):
    body: _RecordedBody


class Source:
    """The streams of one account."""

    def __init__(self, options: HistoryOptions, replay: Sequence[Path] = ()) -> None:
        """With `replay`, the tickets of these recorded answers are the whole ticket history."""
        self._options = options
        first = options.since // HOUR
        tickets = TicketMaker(options)
        self._timelines = {
            AUDIT_LOGS: Timeline(first, lambda hour: audit_logs_of_hour(options, hour)),
            TICKETS: replayed(replay) if replay else Timeline(first, tickets),
            **{
                stream: Timeline(first, partial(events_of_hour, options, stream))
                for stream in (ACCESS_LOGS, TICKET_EVENTS, METRIC_EVENTS)
            },
            **{stream: Timeline(first, StateMaker(options, stream)) for stream in (USERS, ORGANIZATIONS)},
        }
        self._pages: OrderedDict[tuple[Entry, ...], bytes] = OrderedDict()
        self._pages_bytes = 0
        self._lock = Lock()

    def after(self, stream: str, position: tuple[int, int], now: float) -> Iterator[Entry]:
        """Entries past a position, oldest first."""
        return self._timelines[stream].after(position, now)

    def before(self, stream: str, position: tuple[int, int], now: float) -> Iterator[Entry]:
        """Entries ahead of a position, newest first."""
        return self._timelines[stream].before(position, now)

    def latest(self, stream: str, count: int, now: float) -> list[Entry]:
        """The last records that show, oldest first."""
        found = (entry for entry in self.before(stream, (FOREVER, 0), now) if entry.visible(now))
        return [*islice(found, count)][::-1]

    def record(self, stream: str, entry: Entry) -> bytes:
        """The record's bytes, always the same for the same entry."""
        if entry.raw is not None:
            return entry.raw
        cut = _drawn(entry) < self._options.cut_texts
        if stream == TICKETS:
            return ticket_record(entry, self._options.ticket_bytes, plain=self._options.plain_text, cut=cut)
        if stream == AUDIT_LOGS:
            return audit_log_record(entry, self._options.audit_log_bytes, cut=cut)
        return FURTHER_RECORDS[stream](entry)

    def joined(self, stream: str, entries: Sequence[Entry]) -> bytes:
        """The records with commas between them; pages asked for again come from memory."""
        key = tuple(entries)
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
                return self._pages[key]
        text = b",".join([self.record(stream, entry) for entry in entries])
        self._remember(key, text)
        return text

    def visible(self, stream: str, start: int, end: int, now: float, *, ever: bool) -> Iterator[bytes]:
        """Records with an event time in [start, end), as shown now, or `ever`: in every state shown up to now."""
        for entry in self.after(stream, (start - 1, FOREVER), now):
            if entry.at >= end:
                return
            if entry.ever_visible(now) if ever else entry.visible(now):
                yield self.record(stream, entry)

    def add(
        self, stream: str, records: Iterable[bytes], visible_at: int | None, *, listed_at: int | None = None
    ) -> None:
        """Put in records by hand, shown from `visible_at`, or as soon as the stream would show them.

        They stand where their event time, or `listed_at`, puts them.
        """
        for record in records:
            entry = given_entry(stream, record, visible_at)
            self._timelines[stream].add(entry if listed_at is None else entry._replace(at=listed_at))

    def forget_added(self) -> None:
        """Back to the records of the history alone."""
        for timeline in self._timelines.values():
            timeline.forget_added()

    def _remember(self, key: tuple[Entry, ...], text: bytes) -> None:
        with self._lock:
            self._pages_bytes += len(text) - len(self._pages.pop(key, b""))
            self._pages[key] = text
            while self._pages_bytes > CACHE_BYTES:
                self._pages_bytes -= len(self._pages.popitem(last=False)[1])


def _drawn(entry: Entry) -> float:
    """From 0 to 1, always the same for the same entry."""
    return crc32(b"%d/%d" % (entry.id, entry.at)) / (1 << 32)


def _given(record: bytes, kind: type[T]) -> T:
    """Fields of a record, whatever its texts hold."""
    return msgspec.convert(json.loads(record), kind)


def given_entry(stream: str, record: bytes, visible_at: int | None) -> Entry:
    """The place of a record that was given as text."""
    if stream == AUDIT_LOGS:
        log = _given(record, _GivenAuditLog)
        at = int(log.created_at.timestamp())
        return Entry(at=at, id=log.id, visible_from=at if visible_at is None else visible_at, raw=record)
    if stream != TICKETS:
        return _given_other(stream, record, visible_at)
    ticket = _given(record, _GivenTicket)
    at = ticket.generated_timestamp
    return Entry(
        at=at,
        id=ticket.id,
        visible_from=at + HIDDEN_SECONDS if visible_at is None else visible_at,
        deleted=ticket.status == "deleted",
        ai_agent=ticket.support_type == "ai_agent",
        raw=record,
    )


def _given_other(stream: str, record: bytes, visible_at: int | None) -> Entry:
    given = _given(record, _GivenOther)
    at = given.moment()
    shown = at if stream == ACCESS_LOGS else at + HIDDEN_SECONDS
    return Entry(
        at=at,
        id=given.id if isinstance(given.id, int) else ulid_parts(given.id)[1],
        visible_from=shown if visible_at is None else visible_at,
        ai_agent=given.support_type == "ai_agent",
        raw=record,
    )


def replayed(files: Sequence[Path]) -> Timeline:
    """The tickets of recorded answers, each byte for byte as it stands in its file."""
    decoder = msgspec.json.Decoder(_RecordedAnswer)
    timeline = Timeline(FOREVER // HOUR, lambda _hour: ())
    entries = {
        given_entry(TICKETS, bytes(raw), None)
        for file in files
        for raw in decoder.decode(file.read_bytes()).body.tickets
    }
    for entry in entries:
        timeline.add(entry)
    timeline.keep_added()
    return timeline
