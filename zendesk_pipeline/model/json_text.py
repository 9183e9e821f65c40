r"""JSON that a strict parser refuses: a page of it is split, and a record of it read, by strings and brackets alone.

A text that Zendesk has cut inside an emoji ends in half of a surrogate pair, `\ud83d`. That is JSON by its grammar
(RFC 8259, section 8.2) and a line that SecOps reads, but no text that a strict parser takes, and the whole page with
it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise

import msgspec

REPLACED, REPLACEMENT = "\ufffd", rb"\ufffd"
"""What stands for half of a pair where a text has to be read."""

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_MARK = re.compile(STRING + rb'|["\[\]{},]', re.DOTALL)
"""What says where a value ends: whole strings, brackets and commas; a quotation mark alone opens one without an end."""
BLANK = rb"[ \t\n\r]*+"
_MEMBER = re.compile(
    BLANK + rb"(" + STRING + rb")" + BLANK + rb":" + BLANK + rb"(" + STRING + rb"|[-+.\w]++)?", re.DOTALL
)
_LIST = re.compile(BLANK + rb":" + BLANK + rb"\[")
_SURROGATE = re.compile(rb"\\u[dD](?:[89abAB]..\\u[dD][c-fC-F]..|[89a-fA-F]..)", re.DOTALL)
_STRING_OR_BLANK = re.compile(rb"(" + STRING + rb")|[ \t\n\r]++", re.DOTALL)
_OPENING, _CLOSING, _BEFORE_MEMBERS = frozenset(b"[{"), frozenset(b"]}"), frozenset(b"{,")
_COMMA, _QUOTE, _BACKSLASH = b',"\\'


def split(body: bytes, name: str) -> tuple[bytes, list[bytes]]:
    """A page without its records, and each of those as sent; raises ValueError where brackets do not close.

    Strings, brackets and commas alone tell where a record ends.
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
        raise ValueError("a record is missing between two commas")
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


def without_halves(text: bytes) -> bytes:
    r"""JSON with U+FFFD, written `\ufffd`, in the place of every half of a surrogate pair: as long as it was."""
    return _SURROGATE.sub(_whole, text) if rb"\ud" in text or rb"\uD" in text else text


def as_sent(parts: Iterable[bytes], whole: bytes, body: bytes) -> list[bytes]:
    """Of a page without halves the records, as they stand in the page that has them."""
    lines, end = list[bytes](), 0
    for part in parts:
        begin = whole.index(part, end)  # at once: only a comma and blanks are between two
        end = begin + len(part)
        lines.append(body[begin:end])
    return lines


def in_one_line(line: bytes) -> bytes:
    """A JSON value without white space between its parts."""
    return _STRING_OR_BLANK.sub(rb"\1", line)


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


def _name(quoted: bytes) -> bytes:
    """What a name reads as; empty where it cannot be read."""
    if b"\\" not in quoted:
        return quoted[1:-1]
    try:
        return msgspec.json.decode(without_halves(quoted), type=str).encode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return b""
