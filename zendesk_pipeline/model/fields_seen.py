"""Which fields records have, and which values of the fields that a stream names.

A parse that is told which fields are known fails at any other, in a microsecond or two. Only a record at which it does
is taken apart.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from zendesk_pipeline.model.redaction import Path, written
from zendesk_pipeline.model.stream import Stream

Seen = Mapping[str, int]
"""What was seen, and the event time of the first record that had it: `via.source.rel`, `tags[*]`, `action=create`.

A field that was always null, or always empty, was not seen: nothing was in it.
"""

DEEPEST = 12
"""Steps of a path; what is deeper is not told apart."""
MOST_PATHS = 2000
MOST_FIELDS = 200
"""Of one object; one with more is a table, whose keys are data."""
MOST_VALUES = 500
LONGEST_VALUE = 60
ENOUGH_TO_GROW = 16
"""Records taken apart, before the parse is told what they have shown."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""The name of a field; a key of another form is data, such as an id or an address, and never shown."""
_VALUE = re.compile(r"[\w.:/ -]+")
_Scalar = str | int | float | bool | None


@dataclass(slots=True)
class _Place:
    """What was seen at one place of the records."""

    fields: dict[str, "_Place"] | None = None
    """Of the objects that were seen here, if any were."""
    items: "_Place | None" = None
    """Of the arrays."""
    is_scalar: bool = False
    """Whether texts, numbers or truth values were seen here; null is anything's."""
    is_table: bool = False
    """Whether anything may be in it."""

    @property
    def type(self) -> Any:
        """What the parse is told: exactly this, in any order."""
        if self.is_table:
            return msgspec.Raw
        union: Any = _Scalar if self.is_scalar else None | msgspec.UnsetType
        if self.fields is not None:
            union |= _struct(self.fields)
        if self.items:
            union |= list[self.items.type]
        return union


@dataclass(frozen=True, slots=True)
class _Members:
    """An object of a record; a name may stand in it more than once, and the rules mean each."""

    pairs: list[tuple[str, Any]]


_members_of = json.JSONDecoder(object_pairs_hook=_Members).decode


class FieldsSeen:
    """What was seen so far."""

    def __init__(self, stream: Stream) -> None:
        self._catalogued = stream.catalogued
        self._top = _Place()
        self._values: set[Sequence[object]] = set()
        self._places = self._taken_apart = 0
        self._has_grown = False
        self._decode: Callable[[bytes], Any] | None = None
        self._values_of = _getter(len(self._catalogued))
        self.seen: Seen = {}

    def look(self, line: bytes, time: int) -> None:
        """Note what a record has; `time` is its event time."""
        if not self._knows(line):
            self._take_apart(line, time)

    def grow(self) -> None:
        """Have the parse know what was found."""
        self._taken_apart = 0
        if self._has_grown:
            self._has_grown = False
            struct = _struct(self._top.fields or {}, self._catalogued, open_ended=self._top.is_table)
            self._decode = msgspec.json.Decoder(struct).decode

    def _knows(self, line: bytes) -> bool:
        if self._decode is None:
            return False
        try:
            found = self._decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        return not self._catalogued or len(self._values) >= MOST_VALUES or self._values_of(found) in self._values

    def _take_apart(self, line: bytes, time: int) -> None:
        try:
            record = _members_of(
                line.decode()
            )  # which takes half of a letter and numbers of any size, as others do not
        except (ValueError, RecursionError):
            return
        new: dict[str, int] = {}
        before = self._places
        if isinstance(record, _Members):
            self._note(self._top, record, (), new)
            self._note_values(dict(record.pairs), new)
        self._taken_apart += 1
        self._has_grown = self._has_grown or self._places > before
        if new:
            self.seen = {**self.seen, **dict.fromkeys(new, time)}
        if self._taken_apart >= ENOUGH_TO_GROW:
            self.grow()

    def _note(self, place: _Place, value: Any, path: Path, new: dict[str, int]) -> None:
        if place.is_table:
            return
        if isinstance(value, _Members):
            self._note_object(place, value.pairs, path, new)
        elif isinstance(value, list):
            self._note_array(place, value, path, new)  # pyright: ignore[reportUnknownArgumentType]  # JSON
        elif value is not None and not place.is_scalar:
            place.is_scalar = True
            self._places += 1
            if (name := written(path)) not in self.seen:
                new[name] = 0

    def _note_object(self, place: _Place, members: Sequence[tuple[str, Any]], path: Path, new: dict[str, int]) -> None:
        if not self._tells_apart(place, dict(members), path):
            self._make_table(place, (*path, "*"), new)
            return
        if place.fields is None:
            place.fields = {}
            self._places += 1
        for name, value in members:
            if name not in place.fields:
                place.fields[name] = _Place()
                self._places += 1
            self._note(place.fields[name], value, (*path, name.encode()), new)

    def _note_array(self, place: _Place, items: Sequence[Any], path: Path, new: dict[str, int]) -> None:
        if len(path) >= DEEPEST:
            self._make_table(place, (*path, "[*]"), new)
            return
        if place.items is None:
            place.items = _Place()
            self._places += 1
        for each in items:
            self._note(place.items, each, (*path, "[*]"), new)

    def _make_table(self, place: _Place, path: Path, new: dict[str, int]) -> None:
        place.is_table = True
        self._places += 1
        new[written(path)] = 0

    def _tells_apart(self, place: _Place, members: Mapping[str, Any], path: Path) -> bool:
        if len(path) >= DEEPEST or len((place.fields or {}).keys() | members.keys()) > MOST_FIELDS:
            return False
        return len(self.seen) < MOST_PATHS and all(map(_PLAIN.fullmatch, members))

    def _note_values(self, record: Mapping[str, Any], new: dict[str, int]) -> None:
        found = tuple(record.get(name) for name in self._catalogued)
        if not self._catalogued or not all(isinstance(value, _Scalar) for value in found):
            return
        self._values.add(found)
        for name, value in zip(self._catalogued, found, strict=True):
            if isinstance(value, str) and len(value) <= LONGEST_VALUE and _VALUE.fullmatch(value):
                text = f"{name}={value}"
                if text not in self.seen:
                    new[text] = 0


def is_value(name: str) -> bool:
    """Whether something seen is a value of a field, and no field."""
    return re.match(r"[\w-]+=", name) is not None


def _getter(count: int) -> Callable[[Any], tuple[object, ...]]:
    names = [f"f{number}" for number in range(count)]
    return attrgetter(*names) if count > 1 else lambda found: tuple(getattr(found, name) for name in names)


def _struct(places: Mapping[str, _Place], first: Sequence[str] = (), *, open_ended: bool = False) -> type[Any]:
    """A type of exactly these fields, each of which may be missing; those that come `first` hold a scalar at most."""
    types = dict.fromkeys(first, _Scalar) | {name: each.type for name, each in places.items() if name not in first}
    names = enumerate(types.items())
    fields = [(f"f{number}", kind, msgspec.field(name=name, default=None)) for number, (name, kind) in names]
    return msgspec.defstruct("Known", fields, forbid_unknown_fields=not open_ended, gc=False)
