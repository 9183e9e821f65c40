"""A page split into its records, byte for byte as Zendesk sent them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from zendesk_pipeline.model.errors import TransientError
from zendesk_pipeline.model.malformed import (
    REPLACED,
    SHARE,
    Malformed,
    as_sent,
    described,
    in_one_line,
    split,
    top_fields,
    without_halves,
)
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import LAST_TIME

BYTES_BESIDE_A_LINE = 200
"""That a record takes in memory, about."""
LONGEST_IDENTITY = 100
"""Characters; Zendesk's are numbers or as short as a UUID, and a ledger holds them all."""


Line = bytes | msgspec.Raw
"""A record as it stands on its page."""


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


def page_reader(stream: Stream) -> Callable[[bytes], PageBody]:
    """A function that splits the stream's pages.

    It raises TransientError for a body that is not such a page: broken JSON, HTML, `{}`, an error object with
    status 200, or one most of whose records are malformed. Such a body is never taken for an empty page.
    """
    decoder = msgspec.json.Decoder(msgspec.defstruct("Page", _fields(stream, stream.paging.envelope)))
    record_of, described = record_reader(stream), _describer(stream)

    def read(body: bytes) -> PageBody:
        try:
            page, lines = _taken_apart(body, decoder, stream)
            try:
                records, malformed = [record_of(line) for line in lines], list[Malformed]()
            except (ValueError, RecursionError):
                records, malformed = _sorted_out(lines, record_of, described)
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
    decoder = msgspec.json.Decoder(msgspec.defstruct("Envelope", _fields(stream, ())))
    return lambda body: list(map(bytes, _taken_apart(body, decoder, stream)[1]))


def _fields(stream: Stream, others: Sequence[Any]) -> list[Any]:
    return [("records", list[msgspec.Raw], msgspec.field(name=stream.items)), *others]


def _taken_apart(body: bytes, decoder: msgspec.json.Decoder[Any], stream: Stream) -> tuple[Any, Sequence[Line]]:
    """The page, and its records as they stand; raises what msgspec does where the page itself is none."""
    try:
        page = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        return _taken_apart_by_hand(body, decoder, stream, problem)
    return page, page.records


def _taken_apart_by_hand(
    body: bytes, decoder: msgspec.json.Decoder[Any], stream: Stream, problem: Exception
) -> tuple[Any, Sequence[Line]]:
    """The same where perhaps not the page is at fault but one of its records."""
    if (whole := without_halves(body)) != body:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            page = decoder.decode(whole)
            return page, as_sent(map(bytes, page.records), whole, body)
    try:
        envelope, lines = split(body, stream.items)
    except ValueError:
        raise problem from None
    page = decoder.decode(envelope)
    if page.records:  # the list is there twice
        raise problem
    return page, lines


def _sorted_out(
    lines: Sequence[Line],
    record_of: Callable[[Line], Record],
    described: Callable[[bytes, int, Exception], Malformed],
) -> tuple[list[Record], list[Malformed]]:
    """The records that can be delivered, and those that cannot, each with the times of its neighbours."""
    records, malformed, near = list[Record](), list[Malformed](), None
    for position, line in enumerate(lines, 1):
        try:
            records.append(record_of(line))
        except (ValueError, RecursionError) as problem:
            malformed.append(replace(described(bytes(line), position, problem), near=near))
        else:
            near = records[-1].time
    times = [record.time for record in records]
    behind = [next(iter(times[each.position - 1 - number :]), None) for number, each in enumerate(malformed)]
    return records, [
        replace(each, near=time if each.near is None else each.near, behind=time)
        for each, time in zip(malformed, behind, strict=True)
    ]


def record_reader(stream: Stream) -> Callable[[Line], Record]:
    """A function that finds identity and event time in a record, whose line it keeps as it is.

    It raises ValueError where they are missing or cannot be meant (msgspec's) and for what is not UTF-8
    (UnicodeDecodeError), and RecursionError. Half of a surrogate pair may stand in any other field.
    """
    types = _types(stream)
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
            time = _seconds(time)
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


def _describer(stream: Stream) -> Callable[[bytes, int, Exception], Malformed]:
    """A function that says what can be said of a record which the stream's reader refuses."""
    types = _types(stream)
    decoders = {
        name: msgspec.json.Decoder(msgspec.defstruct("Field", [(name, kind)])).decode for name, kind in types.items()
    }

    def value(name: str, fields: bytes) -> Any:
        try:
            return msgspec.structs.astuple(decoders[name](without_halves(fields)))[0]
        except msgspec.MsgspecError:
            return None

    def plain(identity: int | str | None) -> str | None:
        try:
            return None if identity is None else str(identity)
        except ValueError:  # an integer of thousands of digits
            return None

    def usable(line: bytes) -> tuple[str | None, int | None]:
        fields = top_fields(line, list(types))
        time = value(stream.event_time, fields)
        time = _seconds(time) if isinstance(time, datetime) else time
        identity = value(stream.identity[0], fields)
        return plain(identity), time if time is not None and 0 <= time <= LAST_TIME else None

    return lambda line, position, problem: described(line, position, problem, usable)


def _types(stream: Stream) -> dict[str, Any]:
    """The types of the fields that have to be there."""
    return {**dict.fromkeys(stream.identity, int | str), stream.event_time: int | datetime}


def _in_one_line(record: Record) -> Record:
    """A record is one line: white space between its fields goes, nothing else does."""
    if b"\n" in record.line or b"\r" in record.line:
        return msgspec.structs.replace(record, line=in_one_line(record.line))
    return record


def _seconds(time: datetime) -> int:
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


PAGES_OF_PROOF = 3
"""So many pages of an export in a row lie behind a moment, each in its turn, before all that is earlier counts as read.

Exports by cursor ascend by time, as recorded answers do; who shows one record, or one page, early is found out by then.
Together they hold more records than a full page: where pages were too heavy, three of them may be three records.
"""


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
    """A time before which every record has been shown, as far as that is proven."""
    older: int = 0
    """Of the records, those from before the time that was asked for: Zendesk lists them by another time than ours."""
    ahead: int = 0
    """Records of the future, which are not among `records`."""
    malformed: Sequence[Malformed] = ()
    """Records that cannot be delivered, which are not among them either."""
    size: int = 0
    """Bytes of memory that it holds, about, until whoever uses it up clears `records`: others may still name it."""
