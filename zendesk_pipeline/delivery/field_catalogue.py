"""Which fields and values a stream's records were ever seen to have: one small object under the state prefix.

Zendesk adds fields, event sources and actions without a word. What is seen first is told; where redaction rules take
single fields away, one that no rule speaks of would leave this machine as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.state_object import StateObject
from zendesk_pipeline.model.errors import DeniedError, RedactionError
from zendesk_pipeline.model.fields_seen import FieldsSeen, is_value
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.redaction_rules import path
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import DAY, Window

MOST_SEEN = 4000
"""Names of a stream; of one whose records have ever new ones, more would say nothing."""
RACES = 20
"""How often the catalogue is read again after another run has replaced it."""
MOST_LOOKED_AT = 250
"""Records of a page, where no redaction rules are in question."""
LEARNING = 7 * DAY
"""Seconds since it was begun in which what is seen first is noted and not told: many fields are rare."""


class Catalogue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was seen of one stream."""

    stream: str
    begun: float
    """Seconds since the epoch."""
    seen: dict[str, str] = {}
    """Fields (`via.source.rel`) and values (`action=create`), and the window of the first record that had it."""
    unruled: list[str] = []
    """Fields that came later than the catalogue and that no redaction rule speaks of, until somebody accepts them."""
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueStore:
    """The catalogue of one stream. Its methods raise what `Store` does."""

    stream: str
    store: Store
    layout: Layout

    def read(self) -> tuple[Catalogue | None, str | None]:
        """The catalogue and its version; None where there is none, or an empty one was put in its place.

        Raises DeliveryError where it cannot be read.
        """
        found, version = self._object.read()
        return (found if found and found.seen else None), version

    def write(self, catalogue: Catalogue, version: str | None) -> bool:
        """Write it over this version, or where there is none; False where another run has written since."""
        return self._object.write(catalogue, version)

    @property
    def _object(self) -> StateObject[Catalogue]:
        return StateObject(
            store=self.store,
            key=self.layout.catalogue(self.stream),
            shape=Catalogue,
            meaning=f"which names the fields of {self.stream}",
            made_by="run begins",
            check=lambda found: [path(name) for name in found.unruled],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What is to be told after a run."""

    new: Mapping[Window, list[str]]
    """Fields and values that were seen first in a window; none in the first week."""
    unruled: list[str]
    """Fields that came later than the catalogue and that no rule speaks of."""


NOTHING = Noted(new={}, unruled=[])


@dataclass(slots=True, kw_only=True)
class FieldWatch:
    """What one run sees, beside what was seen before it."""

    stream: Stream
    catalogues: CatalogueStore
    redaction: Redaction | None
    holds: bool
    """Whether a field that no rule speaks of holds up the delivery."""
    now: float
    """Seconds since the epoch."""
    _before: Catalogue | None = None
    _fields: FieldsSeen = field(init=False)

    def __post_init__(self) -> None:
        self._fields = FieldsSeen(self.stream)

    def begin(self) -> None:
        """Read what was seen before, where that decides what may be delivered."""
        if not self.holds or not self.redaction:
            return
        try:
            self._before, _ = self.catalogues.read()
        except DeniedError:  # without the right to list, S3 says so of a missing one too: then an empty one can be made
            if not self.catalogues.write(Catalogue(stream=self.stream.name, begun=self.now), None):
                raise

    def look(self, page: Page) -> None:
        """Note what the page has; raises RedactionError, before it is delivered, for what is held.

        All of its records where there are redaction rules, which take a hundred times as long; else some of a large
        page, other ones when it is read again.
        """
        before = self._fields.seen
        step = 1 if self.redaction else -(-len(page.records) // MOST_LOOKED_AT) or 1
        for record in page.records[page.number % step :: step]:
            self._fields.look(record.line, record.time)
        for each in page.malformed if self.redaction else ():  # which go into quarantine as the rules leave them
            if each.is_json:
                time = each.near if each.time is None else each.time
                self._fields.look(each.line, int(self.now) if time is None else time)
        self._fields.grow()
        if self._fields.seen is not before and self.holds and self.redaction and self._before:
            self._hold({name: time for name, time in self._fields.seen.items() if name not in before})

    def _hold(self, new: Mapping[str, int]) -> None:
        """Raise RedactionError for what was never seen or is not accepted, and no rule speaks of."""
        known = self._before.seen.keys() - self._before.unruled if self._before else frozenset[str]()
        held = sorted(name for name in new if name not in known and self._is_unruled(name))
        if held:
            first = Window.of(min(new[name] for name in held))
            accept = " ".join(f"--accept {name}" for name in held)
            raise RedactionError(
                f"{self.stream.name} {first}: Zendesk shows for the first time {', '.join(held)}, and no redaction rule"
                " speaks of it. REDACTION_NEW_FIELDS=hold: nothing was delivered from here on. Give it a rule in"
                f" REDACTION_RULES, or let it pass with `zendesk-pipeline fields --stream {self.stream.name} {accept}`;"
                " the windows are then collected by themselves."
            )

    def note_unruled(self) -> None:
        """Write down what no rule speaks of, and leave the rest to a run that can tell it; raises what `Store` does."""
        if any(map(self._is_unruled, self._fields.seen)):
            self._note(only_unruled=True)

    def note(self) -> Noted:
        """Write down what was seen; raises what `Store` does."""
        return self._note() if self._fields.seen or self.redaction else NOTHING

    def _note(self, *, only_unruled: bool = False) -> Noted:
        for _ in range(RACES):
            denied = False
            try:
                before, version = self.catalogues.read()
            except DeniedError:  # without the right to list, S3 says so of a missing one too
                before, version, denied = None, None, True
            if only_unruled and not before:
                return NOTHING  # a run that comes to its end begins it
            catalogue = before or Catalogue(stream=self.stream.name, begun=self.now)
            new = {
                name: time
                for name, time in self._fields.seen.items()
                if name not in catalogue.seen and (self._is_unruled(name) if only_unruled else self._may_be_named(name))
            }
            new = dict(list(new.items())[: MOST_SEEN - len(catalogue.seen)])
            unruled = [*catalogue.unruled, *(new if before else ())]
            after = msgspec.structs.replace(
                catalogue,
                seen=catalogue.seen | {name: Window.of(time).partition_key for name, time in new.items()},
                unruled=sorted(filter(self._is_unruled, unruled)),
            )
            if after == before or self.catalogues.write(after, version):
                is_told = before is not None and self.now - before.begun >= LEARNING
                return Noted(new=_by_window(new) if is_told else {}, unruled=after.unruled)
            if denied:
                return NOTHING  # it is there and may not be read
        return NOTHING

    def _is_unruled(self, name: str) -> bool:
        return not is_value(name) and self.redaction is not None and not self.redaction.speaks_of(path(name))

    def _may_be_named(self, name: str) -> bool:
        """Whether it is a field, or a value that no rule takes away or replaces."""
        if self.redaction is None or not is_value(name):
            return True
        key, _, value = name.partition("=")
        _, hits = self.redaction.apply(msgspec.json.encode({key: value}))
        return not hits


def _by_window(new: Mapping[str, int]) -> Mapping[Window, list[str]]:
    told: dict[Window, list[str]] = {}
    for name, time in sorted(new.items()):
        told.setdefault(Window.of(time), []).append(name)
    return told
