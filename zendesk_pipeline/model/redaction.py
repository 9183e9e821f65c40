r"""Fields of a record taken out, hashed or masked before the record leaves this machine.

Works on the record's bytes: what no rule names stays byte for byte as Zendesk sent it, every occurrence of a repeated
key is seen, and a key is compared as it reads (`"\u0069d"` is `id`). docs/redaction.md has the rules as users know
them, docs/adr/0012-redaction.md why it is done like this.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import msgspec

from zendesk_pipeline.model.errors import RedactionError
from zendesk_pipeline.model.json_text import BLANK, STRING, in_one_line

Action = Literal["drop", "hash", "mask", "keep"]
Step = bytes | Literal["*", "[*]"]
"""One step of a path: a field by its name (UTF-8), any field, or any item of an array."""
Path = tuple[Step, ...]
_Group = tuple[int, str]
"""The rules of `keep` for one place: how deep that is, and their label."""

MASKED = b'"[redacted]"'
HASH_PREFIX = "hmac:"
HASH_LENGTH = 32
"""Hexadecimal digits of an HMAC-SHA-256: 128 bits."""
DIGEST_LENGTH = 32
MEANING = "zendesk_pipeline redaction 2"
"""Raised when the same rules come to mean something else."""

COMMA = ord(",")
_STRICTEST_FIRST: tuple[Action, ...] = ("drop", "mask", "hash")

_SCALAR = rb"(?:(" + STRING + rb"|[-+.\w]++)" + BLANK
_MEMBER = re.compile(BLANK + rb"(" + STRING + rb")" + BLANK + rb":" + BLANK + _SCALAR + rb"[,}])?", re.DOTALL)
_ITEM = re.compile(BLANK + rb"()" + _SCALAR + rb"[,\]])?", re.DOTALL)
_END_OF_MEMBER, _END_OF_ITEM = re.compile(BLANK + rb"[,}]"), re.compile(BLANK + rb"[,\]]")
_NOTHING = re.compile(BLANK + rb"[\]}]")
_FLAT = rb'[\[{](?:[^"\[\]{}]++|' + STRING + rb")*+[\]}]"
_FLAT_CONTAINER = re.compile(_FLAT, re.DOTALL)
_TOKEN = re.compile(_FLAT + rb"|" + STRING + rb"|[\[\]{}]", re.DOTALL)
_text = json.JSONDecoder(strict=False).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRule:
    """What happens to the values at a path; of `keep`, what becomes of everything else beside it."""

    action: Action
    path: Path
    """From the record's top, or from `within`."""
    within: Path = ()
    """Of `keep`: the object or array that loses everything else."""

    @property
    def whole(self) -> Path:
        """From the record's top."""
        return (*self.within, *self.path)

    @property
    def label(self) -> str:
        """As it is counted: all that `keep` takes away within one place is one."""
        if self.action == "keep":
            return f"keep in {written(self.within)}" if self.within else "keep"
        return f"{self.action} {written(self.path)}"


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of a value. None in place of a fate: it stays as it is."""

    action: Literal["drop", "hash", "mask", "inside"]
    label: str
    """Of the rule that is to be counted; of `inside`, where a value that is no container goes. Empty: it stays."""
    inside: "_Fates | None" = None


@dataclass(frozen=True, slots=True)
class _Fates:
    """What becomes of the values in an object, by key, or in an array."""

    names: dict[bytes, _Fate | None]
    other: _Fate | None
    item: _Fate | None


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A path and what reaching its end means; `within` marks the place that a group of `keep` rules speaks of."""

    steps: Path
    meaning: Action | Literal["within"]
    group: _Group

    @property
    def label(self) -> str:
        return self.group[1]

    def keeps(self, group: _Group) -> bool:
        """Whether a value at the end is kept for a group: for its own, and for all of places further up."""
        return self.meaning == "keep" and (group == self.group or group[0] < self.group[0])


class Redaction:
    """The rules of one stream, ready to be applied."""

    def __init__(self, rules: Sequence[RedactionRule], *, always: Sequence[str], key: bytes = b"") -> None:
        """Make it of rules.

        Args:
            rules: In any order: where several fit a value the strictest counts (drop, mask, hash).
            always: Fields that are kept without being named: identity and event time.
            key: Of the hashes.
        """
        self._key, self._rules = key, tuple(rules)
        self._always = {(name.encode(),) for name in always}
        self.digest = digest(rules, key)
        """Of what the rules mean and of the key: the same digest, the same bytes out of the same record."""
        patterns: list[_Pattern] = []
        for rule in rules:
            group = len(rule.within), rule.label
            patterns.append(_Pattern(rule.whole, rule.action, group))
            if rule.action == "keep":
                patterns.append(_Pattern(rule.within, "within", group))
                if not rule.within:
                    patterns += [_Pattern((name.encode(),), "keep", group) for name in always]
        top = _fate(frozenset(patterns), 0, frozenset())
        self._top = top.inside if top else None

    def apply(self, line: bytes) -> tuple[bytes, list[str]]:
        """The record without what the rules take away, and the label of a rule for each value it took or replaced.

        Raises RedactionError where the record cannot be taken apart; its contents are in no error.
        """
        hits: list[str] = []
        if self._top is None:
            return line, hits
        try:
            changed, end = self._walked(line, len(line) - len(line.lstrip()), self._top, hits)
        except (ValueError, RecursionError):
            raise RedactionError("a record cannot be taken apart") from None
        if line[end:].strip():
            raise RedactionError("a record does not end where it should")
        return (line if changed is None else changed), hits

    def speaks_of(self, path: Path) -> bool:
        """Whether a rule says what becomes of a value at this path, even if that is to keep it.

        `*` and `[*]` in the path stand for any field and any item.
        """
        return path[:1] in self._always or any(
            _leads_to(rule.within if rule.action == "keep" else rule.path, path) for rule in self._rules
        )

    def _walked(self, text: bytes, at: int, fates: _Fates, hits: list[str]) -> tuple[bytes | None, int]:
        """An object or array that begins at `at`: what is left of it (None: all), and where it ends."""
        begin, is_object = at, text.startswith(b"{", at)
        pattern, between = (_MEMBER, _END_OF_MEMBER) if is_object else (_ITEM, _END_OF_ITEM)
        if not is_object and not text.startswith(b"[", at):
            raise ValueError("neither an object nor an array")
        if nothing := _NOTHING.match(text, at + 1):
            return None, nothing.end()
        kept: list[bytes] = []
        seen = len(hits)
        while True:
            found = _found(pattern, text, at + 1)
            key, scalar = found.group(1, 2)
            fate = fates.names.get(_name(key) if b"\\" in key else key[1:-1], fates.other) if is_object else fates.item
            if scalar is None:
                value = found.end()
                left, after = self._container(text, value, fate, hits)
                at = _found(between, text, after).end() - 1
            else:
                value, after = found.span(2)
                left = None if fate is None else self._scalar(scalar, fate, hits)
                at = found.end() - 1
            if left is None:
                kept.append(text[found.start(1) : after])
            elif left:
                kept.append(text[found.start(1) : value] + left)
            if text[at] != COMMA:
                break
        if len(hits) == seen:
            return None, at + 1
        return text[begin : begin + 1] + b",".join(kept) + text[at : at + 1], at + 1

    def _scalar(self, value: bytes, fate: _Fate, hits: list[str]) -> bytes | None:
        """What replaces it: nothing (b"") where it goes, None where it stays."""
        if fate.action == "drop":
            hits.append(fate.label)
            return b""
        if not fate.label or (fate.action != "inside" and value == b"null"):
            return None
        hits.append(fate.label)
        return self._replaced(value, fate)

    def _container(self, text: bytes, at: int, fate: _Fate | None, hits: list[str]) -> tuple[bytes | None, int]:
        """The same for an object or array, and where it ends."""
        if fate and fate.inside:
            return self._walked(text, at, fate.inside, hits)
        end = _end_of(text, at)
        if fate is None:
            return None, end
        hits.append(fate.label)
        return self._replaced(text[at:end], fate), end

    def _replaced(self, value: bytes, fate: _Fate) -> bytes:
        match fate.action:
            case "hash":
                return b'"%s"' % hashed(value, self._key)
            case "mask":
                return MASKED
            case "drop" | "inside":
                return b""
            case _:
                assert_never(fate.action)


def hashed(value: bytes, key: bytes) -> bytes:
    """The keyed hash of a JSON value: `hmac:` and 32 hexadecimal digits.

    It covers a string's text in UTF-8, a number, true and false as they are written, an object or array as written
    without the blanks between its parts.
    """
    if value.startswith(b'"'):
        value = _name(value)
    elif value[:1] in b"{[":
        value = in_one_line(value)
    return f"{HASH_PREFIX}{hmac.digest(key, value, 'sha256').hex()[:HASH_LENGTH]}".encode()


def digest(rules: Sequence[RedactionRule], key: bytes) -> str:
    """What is remembered of the rules: 32 hexadecimal digits; their order does not count, the key of a hash does."""
    texts = sorted([rule.action, written(rule.within), written(rule.path)] for rule in rules)
    check = hmac.digest(key, MEANING.encode(), "sha256").hex() if any(rule.action == "hash" for rule in rules) else ""
    return hashlib.sha256(msgspec.json.encode([MEANING, texts, check])).hexdigest()[:DIGEST_LENGTH]


def written(path: Path) -> str:
    """A path as it is written in a file of rules."""
    text = ""
    for step in path:
        if isinstance(step, bytes):
            plain = re.fullmatch(rb"[\w-]+", step)
            text += f".{step.decode()}" if plain else "[" + msgspec.json.encode(step.decode()).decode() + "]"
        else:
            text += ".*" if step == "*" else step
    return text.removeprefix(".")


def _fate(live: frozenset[_Pattern], depth: int, pending: frozenset[_Group]) -> _Fate | None:
    """What becomes of a value that these patterns have led to.

    Args:
        live: All patterns whose first `depth` steps lead here.
        depth: How deep here is.
        pending: The groups of `keep` rules under way for which nothing has yet said that this stays.
    """
    ending = [pattern for pattern in live if len(pattern.steps) == depth]
    for action in _STRICTEST_FIRST:
        if labels := sorted(pattern.label for pattern in ending if pattern.meaning == action):
            return _Fate(action, labels[0])  # pyright: ignore[reportArgumentType]  # keep is none of them
    pending = _not_kept(pending, ending)
    deeper = frozenset(pattern for pattern in live if len(pattern.steps) > depth)
    changing = any(pattern.meaning in {"hash", "mask"} for pattern in deeper)
    if not changing and (unwanted := _not_kept(pending, deeper)):
        return _Fate("drop", min(unwanted)[1])
    pending |= {pattern.group for pattern in ending if pattern.meaning == "within"}
    if not deeper:
        return None
    names = {step for pattern in deeper if isinstance(step := pattern.steps[depth], bytes)}

    def led_by(*steps: Step) -> _Fate | None:
        return _fate(frozenset(each for each in deeper if each.steps[depth] in steps), depth + 1, pending)

    inside = _Fates({name: led_by(name, "*") for name in names}, led_by("*"), led_by("[*]"))
    return _Fate("inside", min(pending, default=(0, ""))[1], inside)


def _leads_to(steps: Path, path: Path) -> bool:
    """Whether a value at `path` is at the end of these steps, or inside of what is."""
    return len(steps) <= len(path) and all(
        step == there or (step == "*" and there != "[*]") for step, there in zip(steps, path, strict=False)
    )


def _not_kept(groups: frozenset[_Group], patterns: Iterable[_Pattern]) -> frozenset[_Group]:
    """The groups for which none of the patterns keeps anything."""
    return frozenset(group for group in groups if not any(pattern.keeps(group) for pattern in patterns))


def _found(pattern: re.Pattern[bytes], text: bytes, at: int) -> re.Match[bytes]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError("no JSON")
    return found


def _name(quoted: bytes) -> bytes:
    """The text of a JSON string in UTF-8; half of a letter, which UTF-8 has no form for, is taken as it comes."""
    if b"\\" not in quoted:
        return quoted[1:-1]
    return str(_text(quoted.decode())).encode(errors="surrogatepass")


def _end_of(text: bytes, at: int) -> int:
    """Where the object or array ends that begins at `at`, however deep it is."""
    if flat := _FLAT_CONTAINER.match(text, at):
        return flat.end()
    depth = 0
    for token in _TOKEN.finditer(text, at):
        first, last = text[token.start()], text[token.end() - 1]
        depth += (first in b"[{") - (last in b"]}")
        if not depth:
            return token.end()
    raise ValueError("no end")
