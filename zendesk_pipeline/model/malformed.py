r"""Records that are not as they should be: found on their page, told apart, and named.

A text that Zendesk has cut inside an emoji ends in half of a surrogate pair, `\ud83d`. That is JSON by its grammar
(RFC 8259, section 8.2) and a line that SecOps reads, but no text that a strict parser takes, and the whole page with
it. Such a record is delivered as it was sent. One without a usable id or time, or whose line is no JSON, is malformed:
it belongs to no window and no ledger, and is kept whole outside the feed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec

SHARE = 0.5
"""Of a page's records, more than one: if more are malformed, it is not the records that are odd but the page."""
REPLACED, REPLACEMENT = "\ufffd", rb"\ufffd"
"""What stands for half of a pair where a text has to be read."""

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_MARK = re.compile(_STRING + rb'|["\[\]{},]', re.DOTALL)
"""What says where a value ends: whole strings, brackets and commas; a quotation mark alone opens one without an end."""
_BLANK = rb"[ \t\n\r]*+"
_MEMBER = re.compile(
    _BLANK + rb"(" + _STRING + rb")" + _BLANK + rb":" + _BLANK + rb"(" + _STRING + rb"|[-+.\w]++)?", re.DOTALL
)
_LIST = re.compile(_BLANK + rb":" + _BLANK + rb"\[")
_SURROGATE = re.compile(rb"\\u[dD](?:[89abAB]..\\u[dD][c-fC-F]..|[89a-fA-F]..)", re.DOTALL)
_STRING_OR_BLANK = re.compile(rb"(" + _STRING + rb")|[ \t\n\r]++", re.DOTALL)
_NAME = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_OPENING, _CLOSING, _BEFORE_MEMBERS = frozenset(b"[{"), frozenset(b"]}"), frozenset(b"{,")
_COMMA, _QUOTE, _BACKSLASH = b',"\\'


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


def split(body: bytes, name: str) -> tuple[bytes, list[bytes]]:
    """A page without its records, and each of those as it stands; raises ValueError where brackets do not close.

    What a record holds does not matter: where it ends is told by strings, brackets and commas alone.
    """
    begin = _begin_of_list(body, b'"%b"' % name.encode())
    cuts = [begin - 1]
    for mark, depth in _marks(body, begin):
        first = body[mark.start()]
        if depth < 0 or (depth == 0 and first == _COMMA):
            cuts.append(mark.start())
        if depth < 0:
            break
    else:
        raise ValueError("the list has no end")
    records = [body[start + 1 : end].strip(b" \t\r\n") for start, end in pairwise(cuts)]
    if records == [b""]:
        records = []
    if not all(records):
        raise ValueError("nothing stands where a record should")
    return body[:begin] + body[cuts[-1] :], records


def top_fields(line: bytes, names: Sequence[str]) -> bytes:
    """An object with no more than these fields of a record: plain values as they stand, null for all others."""
    wanted, kept = {name.encode() for name in names}, list[bytes]()
    with suppress(ValueError):
        for mark, depth in _marks(line):
            if depth == 1 and line[mark.start()] in _BEFORE_MEMBERS and (member := _MEMBER.match(line, mark.end())):
                name = _name(member[1])
                if name in wanted:
                    kept.append(b'"%b":%b' % (name, member[2] or b"null"))
    return b"{" + b",".join(kept) + b"}"


def _begin_of_list(body: bytes, key: bytes) -> int:
    """Behind the bracket that opens the list of this name."""
    for mark, depth in _marks(body):
        if depth == 1 and mark.group() == key and (found := _LIST.match(body, mark.end())):
            return found.end()
    raise ValueError("there is no list")


def _marks(text: bytes, begin: int = 0) -> Iterator[tuple[re.Match[bytes], int]]:
    """Strings, brackets and commas, and how many brackets are open behind each."""
    depth = 0
    for mark in _MARK.finditer(text, begin):
        first = text[mark.start()]
        depth += (first in _OPENING) - (first in _CLOSING)
        if first == _QUOTE and mark.end() == mark.start() + 1:
            raise ValueError("a string has no end")
        yield mark, depth


def without_halves(text: bytes) -> bytes:
    r"""JSON with U+FFFD, written `\ufffd`, in the place of every half of a surrogate pair: as long as it was."""
    return _SURROGATE.sub(_whole, text) if rb"\ud" in text or rb"\uD" in text else text


def as_sent(parts: Iterable[bytes], whole: bytes, body: bytes) -> list[bytes]:
    """Of a page without halves the records, as they stand in the page that has them."""
    lines, end = list[bytes](), 0
    for part in parts:
        begin = whole.index(part, end)  # at once, since nothing but a comma and blanks lies between two
        end = begin + len(part)
        lines.append(body[begin:end])
    return lines


def _whole(found: re.Match[bytes]) -> bytes:
    """What stands for an escape of a surrogate, or a pair of them; a backslash before it makes the first plain text."""
    at, pair = found.start(), found[0]
    before = at
    while before and found.string[before - 1] == _BACKSLASH:
        before -= 1
    is_text = (at - before) % 2 == 1
    if len(pair) == len(REPLACEMENT):
        return pair if is_text else REPLACEMENT
    return pair[: len(REPLACEMENT)] + REPLACEMENT if is_text else pair


def in_one_line(line: bytes) -> bytes:
    """The record without white space between its parts."""
    return _STRING_OR_BLANK.sub(rb"\1", line)


def described(
    line: bytes, position: int, problem: Exception, read: Callable[[bytes], tuple[str | None, int | None]]
) -> Malformed:
    """What can be said of a record that could not be read, because of `problem`.

    `read` gives the identity and the event time of an object with these fields, each as far as it is usable.
    """
    identity, time = read(line)
    if isinstance(problem, UnicodeDecodeError):
        why = "it is not UTF-8"
    elif isinstance(problem, RecursionError):
        why = "its values lie too deep in each other"
    else:
        why = str(problem)  # msgspec names the place and the types, never the value
    return Malformed(
        line=line,
        position=position,
        why=why,
        identity=identity if identity and _NAME.fullmatch(identity) else None,
        time=time,
        near=None,
        behind=None,
        is_json=_is_json(line),
    )


def _name(quoted: bytes) -> bytes:
    """What a name reads as; empty where it cannot be read."""
    if b"\\" not in quoted:
        return quoted[1:-1]
    try:
        return msgspec.json.decode(without_halves(quoted), type=str).encode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return b""


def _is_json(line: bytes) -> bool:
    try:
        line.decode()
        msgspec.json.decode(without_halves(line), type=dict[str, msgspec.Raw])
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return False
    return True
