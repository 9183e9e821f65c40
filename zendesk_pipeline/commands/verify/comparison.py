"""Source, ledgers and objects of a past range, compared window by window. Reads only."""

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from zendesk_pipeline.commands.source_windows import Shown
from zendesk_pipeline.delivery.batches import LONGEST_LINE, BatchFormat
from zendesk_pipeline.delivery.bucket import Listed
from zendesk_pipeline.delivery.inspection import Inspector
from zendesk_pipeline.delivery.ledger import Delivered, Ledger
from zendesk_pipeline.delivery.ledger_store import UnreadableLedgerError
from zendesk_pipeline.delivery.object_keys import is_ours
from zendesk_pipeline.model.errors import RedactionError
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.windows import Window

LONGEST_HEAD = 100
"""Bytes that an envelope may add to a line."""

Kind = Literal[
    "no_ledger",
    "incomplete",
    "unreadable_ledger",
    "not_delivered",
    "not_at_source",
    "object_differs",
    "unnamed_object",
    "foreign_object",
    "content_differs",
    "repeated",
    "in_two_windows",
    "not_read",
    "read_twice",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something of a window that is not as it should be."""

    kind: Kind
    text: str
    count: int = 1
    """Of records, or of objects."""
    identities: tuple[str, ...] = ()
    """Of the records that it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReport:
    """One window, compared."""

    window: Window
    at_source: int | None
    """Records that Zendesk shows; None where it was not asked."""
    delivered: int = 0
    """Records that the ledger says."""
    objects: int = 0
    """Objects that the ledger names."""
    objects_gone: int = 0
    """Of them, those that are no longer in the feed: it may delete what it has read."""
    replaced: int = 0
    """Ticket states that were delivered and that newer ones have replaced at Zendesk since."""
    reworded: int = 0
    """Ticket states that Zendesk does not write now as they were delivered: their custom fields change, for one."""
    sent_again: int = 0
    """Records beyond the first of each identity that a redelivery sent on purpose."""
    not_compared: int = 0
    """Records that Zendesk shows, and whose objects cannot be compared with what it shows: they are too many to be
    held, or were stored by other redaction rules."""
    objects_read: int = 0
    """Objects that SecOps has read, by the access log, where that was looked at."""
    not_in_log: int = 0
    """Objects of which the access log says nothing: they are older than it, or so new that its line may yet come."""
    differences: tuple[Difference, ...] = ()


class Seen:
    """In which window each identity was seen first: on disk, in a file that is gone with the process."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.executescript(
            "PRAGMA journal_mode=OFF; CREATE TABLE seen (identity TEXT PRIMARY KEY, start INTEGER) WITHOUT ROWID"
        )

    def elsewhere(self, identities: Collection[str], window: Window) -> list[str]:
        """Those that were seen in another window before."""
        before = self._database.total_changes
        rows = [(identity, window.start) for identity in identities]
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", rows)
        if self._database.total_changes - before == len(rows):
            return []
        find = "SELECT identity FROM seen WHERE identity = ? AND start <> ?"
        return [identity for row in rows for (identity,) in self._database.execute(find, row)]


@dataclass(slots=True, kw_only=True)
class Verification:
    """Compares one stream's windows, one after another in ascending order."""

    inspector: Inspector
    reads: Callable[[Window], bool]
    """Whether the objects of a window are read again; names and sizes are compared for all."""
    redaction: Redaction | None = None
    """The rules by which records are stored."""
    _seen: Seen = field(default_factory=Seen)

    def compare(self, window: Window, source: Shown | None) -> WindowReport:
        """Compare a window with what Zendesk shows of it (None: not asked); raises what the store does."""
        shown, lines = (source.identities, source.lines) if source else (None, None)
        listed = self.inspector.listed(window)
        try:
            stored = self.inspector.ledgers.read(window)  # denied: who may not read must not say "missing"
        except UnreadableLedgerError as problem:
            wrong = Difference(kind="unreadable_ledger", text=f"its ledger cannot be read ({problem.why})")
            return WindowReport(window=window, at_source=_size(shown), differences=(wrong,))
        ledger = stored.ledger
        if not stored.version:
            wrong = Difference(kind="no_ledger", text="no ledger: the window was never collected")
        elif not ledger.complete:
            wrong = Difference(kind="incomplete", text="its ledger is not complete: it was never read to its end")
        else:
            wrong = None
        identities = ledger.identities()
        lost = identities - shown if shown is not None else set[str]()
        stream = self.inspector.stream
        states = stream.event_time in stream.identity  # a newer one takes its place at Zendesk
        objects, gone = self._objects(window, ledger, listed)
        again, repeats = _repeats(ledger)
        made = [(each, self._is_made_of(each, lines)) for each in ledger.objects if shown]
        reworded = [each for each, is_made in made if is_made is False]
        unclear = [each for each, is_made in made if is_made is None and is_ours(each.key)]
        elsewhere = self._seen.elsewhere(identities, window)
        found = (
            wrong,
            _records("not_delivered", (shown or set()) - identities, "not delivered", "that Zendesk shows"),
            _records("not_at_source", () if states else lost, "no longer at Zendesk", "of its ledger"),
            *objects,
            *(() if states else map(self._reworded, reworded)),
            *self._unnamed(window, ledger, listed),
            _records("repeated", repeats, "in two objects, by two runs at once", ""),
            _records("in_two_windows", elsewhere, "in another window as well", ""),
        )
        return WindowReport(
            window=window,
            at_source=_size(shown),
            delivered=len(identities),
            objects=len(ledger.objects),
            objects_gone=gone,
            replaced=len(lost) if states else 0,
            reworded=sum(len(each.identities) for each in reworded) if states else 0,
            sent_again=again,
            not_compared=0 if states else sum(len(each.identities) for each in unclear),
            differences=tuple(filter(None, found)),
        )

    def _objects(self, window: Window, ledger: Ledger, listed: Mapping[str, Listed]) -> tuple[list[Difference], int]:
        """How the objects differ from what the ledger says, and how many are gone."""
        inspector, gone = self.inspector, 0
        texts = [*(of_other_size := inspector.of_other_size(ledger, listed)).values()]
        for delivered in ledger.objects:
            if delivered.key not in listed and is_ours(delivered.key):
                gone += 1
            elif delivered.key not in of_other_size and self.reads(window):
                wrong = inspector.wrong_lines(window, delivered)
                gone += wrong is None
                texts += [f"{inspector.store.uri(delivered.key)} {text}" for text in wrong or ()]
        return [Difference(kind="object_differs", text=text) for text in texts], gone

    def _unnamed(self, window: Window, ledger: Ledger, listed: Mapping[str, Listed]) -> Iterator[Difference]:
        """Objects that a crash left, or somebody else put there."""
        for key in self.inspector.in_no_ledger(window, ledger, listed):
            uri, flaws = self.inspector.store.uri(key), self.inspector.flaws(window, key)
            if flaws:
                text = f"{uri} is in no ledger, and not ours: it {' and '.join(flaws)}"
                yield Difference(kind="foreign_object", text=text)
            else:
                yield Difference(kind="unnamed_object", text=f"{uri} is in no ledger")

    def _is_made_of(self, delivered: Delivered, lines: Mapping[str, bytes] | None) -> bool | None:
        """Whether an object has, by its ledger, the content that Zendesk's own records give; None where none can tell.

        Whether it is still in the feed makes no difference: the ledger is compared with the source.
        """
        rules = self.redaction.digest if self.redaction else ""
        if not is_ours(delivered.key) or delivered.redaction != rules or lines is None:
            return None
        if not lines.keys() >= {*delivered.identities}:
            return True  # what is no longer at Zendesk is a difference of its own
        found = [lines[identity] for identity in delivered.identities]
        try:
            made = [self.redaction.apply(line)[0] for line in found] if self.redaction else found
        except RedactionError:
            return None
        if any(len(line) > LONGEST_LINE - LONGEST_HEAD for line in made):  # shortened, and whole in quarantine
            return True
        items = self.inspector.stream.items
        forms = [BatchFormat(items=items, envelope=each, compress=False, limit=0) for each in (False, True)]
        contents = (form.head + form.separator.join(made) + form.tail for form in forms)
        return any(hashlib.sha256(content).hexdigest() == delivered.sha256 for content in contents)

    def _reworded(self, delivered: Delivered) -> Difference:
        uri, count = self.inspector.store.uri(delivered.key), len(delivered.identities)
        text = f"{uri} was not made of what Zendesk shows of its {count:,} record{'s' if count > 1 else ''}"
        return Difference(kind="content_differs", text=text, count=count, identities=tuple(delivered.identities))


def _repeats(ledger: Ledger) -> tuple[int, list[str]]:
    """Records that were sent again on purpose, and those that were by accident.

    A redelivery goes on with the numbers of the window's objects. Two runs at once that did not see each other both
    began with the same one; and no object ever holds a record twice.
    """
    counts = Counter(identity for delivered in ledger.objects for identity in delivered.identities)
    repeated = [identity for identity, count in counts.items() if count > 1]
    ours = [delivered.key for delivered in ledger.objects if is_ours(delivered.key)]
    numbers = {key.rpartition("-")[0] for key in ours}
    twice_in_one = any(len(set(each.identities)) < len(each.identities) for each in ledger.objects)
    if len(numbers) < len(ours) or twice_in_one:
        return 0, repeated
    return sum(counts.values()) - len(counts), []


def _records(kind: Kind, identities: Collection[str], what: str, which: str) -> Difference | None:
    if not identities:
        return None
    text = f"{what}: {len(identities):,} record{'s' if len(identities) > 1 else ''} {which}".rstrip()
    return Difference(kind=kind, text=text, count=len(identities), identities=tuple(sorted(identities)))


def _size(shown: set[str] | None) -> int | None:
    return None if shown is None else len(shown)
