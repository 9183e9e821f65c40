"""A page split into its records, byte for byte as Zendesk sent them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from zendesk_pipeline.model.errors import TransientError
from zendesk_pipeline.model.json_text import REPLACED, in_one_line, without_halves
from zendesk_pipeline.model.malformed import SHARE, Line, Malformed, sorted_out, split_with_care
from zendesk_pipeline.model.stream import Stream
from zendesk_pipeline.model.windows import LAST_TIME, seconds_of

BYTES_BESIDE_A_LINE = 200
"""Memory that a record takes beside its bytes, about."""
LONGEST_IDENTITY = 100
"""Characters; Zendesk's are numbers or as short as a UUID, and a ledger holds them all."""
PAGES_OF_PROOF = 3
"""All before a time counts as read once so many pages of an export, in a row and in order, are later than it.

Exports by cursor ascend by time, as recorded answers do; one record, or one page, that is shown early is noticed by
then. Together they hold more records than a full page: where pages were too heavy, three of them may be three records.
"""


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
    malformed: Sequence[Malformed] = ()
    """Records that are on the page and cannot be delivered."""
    size: int = field(default=0, compare=False)
    """Bytes of memory that it holds, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One HTTP answer of a walk."""

    number: int
    """1 for the first."""
    records: list[Record]
    requests: int
    """HTTP requests it took, retries included."""
    waited: float
    """Seconds of them spent waiting for the rate limit."""
    more: bool = False
    """Whether Zendesk says that there is another one behind it."""
    passed: int = 0
    """The time before which every record has been shown, as far as that is proven."""
    older: int = 0
    """Of the records, those from before the time that was asked for, which Zendesk lists by another time than ours."""
    ahead: int = 0
    """Records of the future, which are not among `records`."""
    malformed: Sequence[Malformed] = ()
    """Records that cannot be delivered, which are not among them either."""
    size: int = 0
    """Bytes of memory that it holds, about, until its user clears `records`."""


def page_reader(stream: Stream) -> Callable[[bytes], PageBody]:
    """A function that splits the stream's pages.

    It raises TransientError for a body that is not such a page: broken JSON, HTML, `{}`, an error object with
    status 200, or one most of whose records are malformed. Such a body is never taken for an empty page.
    """
    decoder, record_of = _decoder(stream, stream.paging.envelope), record_reader(stream)

    def read(body: bytes) -> PageBody:
        try:
            page, lines = _split(body, decoder, stream)
            try:
                records, malformed = [record_of(line) for line in lines], list[Malformed]()
            except (ValueError, RecursionError):
                records, malformed = sorted_out(lines, record_of, stream)
            if len(malformed) > max(1, SHARE * len(lines)):
                count = f"{len(malformed)} of {len(lines)} records are malformed"
                raise msgspec.ValidationError(f"{count}, the first because of this: {malformed[0].why}")
            if b"\n" in body or b"\r" in body:
                records = [*map(_in_one_line, records)]
        except UnicodeDecodeError:
            raise TransientError(f"{stream.path} answered with something that is not UTF-8.") from None
        except (msgspec.MsgspecError, RecursionError) as problem:
            # msgspec names the place and the types, never the value
            raise TransientError(
                f"{stream.path} answered 200 with a body that is not a page of {stream.items}: {problem}."
            ) from None
        size = len(body) + BYTES_BESIDE_A_LINE * len(lines)
        return PageBody(records, *stream.paging.following(page), tuple(malformed), size)

    return read


def records_of_envelope(stream: Stream) -> Callable[[bytes], list[bytes]]:
    """A function that splits an object with the stream's records into these; it raises ValueError for any other."""
    decoder = _decoder(stream, ())
    return lambda body: list(map(bytes, _split(body, decoder, stream)[1]))


def _decoder(stream: Stream, envelope: Sequence[Any]) -> msgspec.json.Decoder[Any]:
    """Of an object with the stream's records, which stay as they are, and the fields of an envelope."""
    records = ("records", list[msgspec.Raw], msgspec.field(name=stream.items))
    return msgspec.json.Decoder(msgspec.defstruct("Page", [records, *envelope]))


def _split(body: bytes, decoder: msgspec.json.Decoder[Any], stream: Stream) -> tuple[Any, Sequence[Line]]:
    """The page, and its records as they stand; raises what msgspec does where the page itself is none."""
    try:
        page = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        return split_with_care(body, decoder, stream.items, problem)
    return page, page.records


def record_reader(stream: Stream) -> Callable[[Line], Record]:
    """A function that finds identity and event time in a record, whose line it keeps as it is.

    It raises ValueError where they are missing or cannot be meant (msgspec's) and for what is not UTF-8
    (UnicodeDecodeError), and RecursionError. Half of a surrogate pair may stand in any other field.
    """
    types = stream.key_types
    decode = msgspec.json.Decoder(msgspec.defstruct("Record", list(types.items()))).decode
    values_of = msgspec.structs.astuple
    identity_of = ":".join("%s" for _ in stream.identity).__mod__
    time_at, identity_ends = list(types).index(stream.event_time), len(stream.identity)

    def read(raw: Line) -> Record:
        line = bytes(raw)
        if not line.isascii():
            line.decode()  # a line has to be UTF-8, and the decoder does not look into what it skips
        try:
            values, halved = values_of(decode(line)), False
        except msgspec.DecodeError:
            if (whole := without_halves(line)) == line:
                raise
            values, halved = values_of(decode(whole)), True
        time = values[time_at]
        if isinstance(time, datetime):
            time = seconds_of(time)
            values = (*values[:time_at], time, *values[time_at + 1 :])  # one moment, one text
        if not 0 <= time <= LAST_TIME:
            raise msgspec.ValidationError("Event time out of range")
        identity = identity_of(values[:identity_ends])
        if len(identity) > LONGEST_IDENTITY:
            raise msgspec.ValidationError(f"Identity longer than {LONGEST_IDENTITY} characters")
        if halved and REPLACED in identity:
            raise msgspec.ValidationError("Half of a letter in the identity")
        return Record(line, identity, time)

    return read


def _in_one_line(record: Record) -> Record:
    """A record is one line: white space between its fields goes, nothing else does."""
    if b"\n" in record.line or b"\r" in record.line:
        return msgspec.structs.replace(record, line=in_one_line(record.line))
    return record
