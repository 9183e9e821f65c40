"""A page split into its records, byte for byte as Zendesk sent them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from zendesk_pipeline.errors import TransientError
from zendesk_pipeline.streams import Stream
from zendesk_pipeline.windows import LAST_TIME

LONGEST_IDENTITY = 100
"""Characters; Zendesk's are numbers or as short as a UUID, and a ledger holds them all."""


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record of a stream; `gc=False` because it cannot be part of a cycle, and there are very many of them."""

    line: bytes
    """The JSON object as sent, without a line end."""
    identity: str
    """What makes it the same record again, such as `29000000001` or `4711:1763956800`."""
    time: int
    """Event time, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class PageBody:
    """What one page's body says."""

    records: list[Record]
    has_more: bool
    cursor: str | None


def page_reader(stream: Stream) -> Callable[[bytes], PageBody]:
    """A function that splits the stream's pages.

    It raises TransientError for a body that is not such a page: broken JSON, HTML, `{}`, an error object with
    status 200. Such a body is never taken for an empty page.
    """
    fields = [("records", list[msgspec.Raw], msgspec.field(name=stream.items)), *stream.paging.envelope]
    decoder = msgspec.json.Decoder(msgspec.defstruct("Page", fields))
    record_of = record_reader(stream)

    def read(body: bytes) -> PageBody:
        try:
            page: Any = decoder.decode(body)
            records = [record_of(raw) for raw in page.records]
            if b"\n" in body or b"\r" in body:
                records = [*map(_in_one_line, records)]
        except UnicodeDecodeError:
            raise TransientError(f"{stream.path} answered with something that is not UTF-8.") from None
        except (msgspec.MsgspecError, RecursionError) as problem:
            # msgspec names the place and the types, never the value
            raise TransientError(
                f"{stream.path} answered 200 with a body that is not a page of {stream.items}: {problem}."
            ) from None
        return PageBody(records, *stream.paging.following(page))

    return read


def record_reader(stream: Stream) -> Callable[[bytes | msgspec.Raw], Record]:
    """A function that finds identity and event time in a record, whose line it keeps as it is.

    It raises msgspec.MsgspecError where they lack or cannot be meant, and UnicodeDecodeError for what is not UTF-8.
    """
    types: dict[str, object] = dict.fromkeys(stream.identity, int | str)
    types[stream.event_time] = int | datetime
    decode = msgspec.json.Decoder(msgspec.defstruct("Record", list(types.items()))).decode
    values_of = msgspec.structs.astuple
    identity_of = ":".join("%s" for _ in stream.identity).__mod__
    time_at, identity_ends = list(types).index(stream.event_time), len(stream.identity)

    def read(raw: bytes | msgspec.Raw) -> Record:
        line = bytes(raw)
        if not line.isascii():
            line.decode()  # a line has to be UTF-8, and the decoder does not look into what it skips
        values = values_of(decode(line))
        time = values[time_at]
        if isinstance(time, datetime):
            time = _seconds(time)
            values = (*values[:time_at], time, *values[time_at + 1 :])  # one moment, one text
        if not 0 <= time <= LAST_TIME:
            raise msgspec.ValidationError("Event time out of range")
        identity = identity_of(values[:identity_ends])
        if len(identity) > LONGEST_IDENTITY:
            raise msgspec.ValidationError(f"Identity longer than {LONGEST_IDENTITY} characters")
        return Record(line, identity, time)

    return read


def _in_one_line(record: Record) -> Record:
    """A record is one line: white space between its fields goes, nothing else does."""
    if b"\n" in record.line or b"\r" in record.line:
        return msgspec.structs.replace(record, line=msgspec.json.format(record.line, indent=-1))
    return record


def _seconds(time: datetime) -> int:
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
