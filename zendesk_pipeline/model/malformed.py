"""Records that cannot be delivered: without a usable id or time, or whose line is no JSON.

Such a record belongs to no window and no ledger. It is found on its page, described without anything of its content,
and kept whole outside the feed. If most records of a page are malformed, the page is (`SHARE`).
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from zendesk_pipeline.model.json_text import as_sent, split, top_fields, without_halves
from zendesk_pipeline.model.stream import Stream
from zendesk_pipeline.model.windows import LAST_TIME, seconds_of

SHARE = 0.5
"""Of a page's records, more than one: if more are malformed, the page is refused as a whole."""

Line = bytes | msgspec.Raw
"""A record as it stands on its page."""
_NAME = re.compile(r"[\w.:-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A record that cannot be delivered."""

    line: bytes = field(repr=False)
    """As sent."""
    position: int
    """On its page, 1 for the first."""
    why: str
    """In words of ours, without anything of the record."""
    identity: str | None
    """Its id, if it has a plain one."""
    time: int | None
    """Its event time, if it has a usable one."""
    near: int | None
    """The event time of the record before it on the page, or else of the one behind it, if there is one."""
    behind: int | None
    """The event time of the one behind it."""
    is_json: bool
    """Whether redaction rules can be applied to it."""


class _HasTime(Protocol):
    @property
    def time(self) -> int: ...


R = TypeVar("R", bound=_HasTime)


def split_with_care(
    body: bytes, decoder: msgspec.json.Decoder[Any], items: str, problem: Exception
) -> tuple[Any, Sequence[Line]]:
    """A page that `decoder` refuses with `problem`, and its records as sent, where one of these may be the cause.

    Raises `problem` where the page itself is.
    """
    if (whole := without_halves(body)) != body:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            page = decoder.decode(whole)
            return page, as_sent(map(bytes, page.records), whole, body)
    try:
        envelope, lines = split(body, items)
    except ValueError:
        raise problem from None
    page = decoder.decode(envelope)
    if page.records:  # the list is there twice
        raise problem
    return page, lines


def sorted_out(
    lines: Sequence[Line], record_of: Callable[[Line], R], stream: Stream
) -> tuple[list[R], list[Malformed]]:
    """The records that can be delivered, and those that cannot, each with the times of its neighbours."""
    records, malformed, near, describe = list[R](), list[Malformed](), None, _describer(stream)
    for position, line in enumerate(lines, 1):
        try:
            records.append(record_of(line))
        except (ValueError, RecursionError) as problem:
            malformed.append(replace(describe(bytes(line), position, problem), near=near))
        else:
            near = records[-1].time
    times = [record.time for record in records]
    behind = [next(iter(times[each.position - 1 - number :]), None) for number, each in enumerate(malformed)]
    return records, [
        replace(each, near=time if each.near is None else each.near, behind=time)
        for each, time in zip(malformed, behind, strict=True)
    ]


def _describer(stream: Stream) -> Callable[[bytes, int, Exception], Malformed]:
    """A function that says what can be said of a record which could not be read, because of a problem."""
    types = stream.key_types
    decoders = {
        name: msgspec.json.Decoder(msgspec.defstruct("Field", [(name, kind)])).decode for name, kind in types.items()
    }

    def value(name: str, fields: bytes) -> Any:
        try:
            return msgspec.structs.astuple(decoders[name](without_halves(fields)))[0]
        except msgspec.MsgspecError:
            return None

    def describe(line: bytes, position: int, problem: Exception) -> Malformed:
        fields = top_fields(line, list(types))
        time = value(stream.event_time, fields)
        time = seconds_of(time) if isinstance(time, datetime) else time
        return Malformed(
            line=line,
            position=position,
            why=_why(problem),
            identity=_plain(value(stream.identity[0], fields)),
            time=time if time is not None and 0 <= time <= LAST_TIME else None,
            near=None,
            behind=None,
            is_json=_is_json(line),
        )

    return describe


def _why(problem: Exception) -> str:
    if isinstance(problem, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(problem, RecursionError):
        return "its values are nested too deeply"
    return str(problem)  # msgspec names the place and the types, never the value


def _plain(identity: int | str | None) -> str | None:
    """An identity that can go into a message; None for any other."""
    try:
        text = str(identity)
    except ValueError:  # an integer of thousands of digits
        return None
    return text if identity is not None and _NAME.fullmatch(text) else None


def _is_json(line: bytes) -> bool:
    try:
        line.decode()
        msgspec.json.decode(without_halves(line), type=dict[str, msgspec.Raw])
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return False
    return True
