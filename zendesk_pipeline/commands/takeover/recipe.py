"""What Google's recipe left in the bucket, noted as delivered, so that a backfill adds what is missing and no more.

The recipe writes Zendesk's pages as they come, `{"audit_logs":[…],"next_page":…}`, under keys of the time of writing. A
page holds records of many windows, and many pages hold the same record. Each record is noted once, in the ledger of its
window, with the first object that holds it.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from zendesk_pipeline.delivery.batches import content_of, encode, records_in
from zendesk_pipeline.delivery.bucket import Listed, Store
from zendesk_pipeline.delivery.ledger import Delivered, Ledger
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.delivery.object_keys import is_batch, is_ours
from zendesk_pipeline.delivery.recipe_keys import recipe_object
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Window

LONGEST_READ = 4_000_000
"""Bytes. A feed fails on a line above 4 MB: what is in it SecOps never had (see `batches.LONGEST_LINE`)."""


@dataclass(slots=True, kw_only=True)
class Left:
    """The recipe's objects of one stream."""

    objects: int = 0
    copies: int = 0
    """Records in them, each as often as it is there."""
    first: int | None = None
    """When the first was written, by its key; seconds since the epoch, as everywhere."""
    newest: float | None = None
    """When the newest was written."""
    unreadable: list[str] = field(default_factory=list[str])
    """Keys of objects that hold something else than a page."""
    too_long: list[str] = field(default_factory=list[str])
    """Keys of objects that no feed reads."""


class Index:
    """Which object holds which record, on disk: in a file that is gone with the process."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.executescript(
            "PRAGMA journal_mode=OFF;"
            "CREATE TABLE object (number INTEGER PRIMARY KEY, key TEXT, sha256 TEXT, bytes INTEGER);"
            "CREATE TABLE held (start INTEGER, identity TEXT, number INTEGER, line INTEGER, copies INTEGER,"
            " PRIMARY KEY (start, identity)) WITHOUT ROWID"
        )

    def add(self, key: str, sha256: str, size: int, records: Sequence[tuple[Window, str]]) -> None:
        """An object with its records, in their order; of each, the first object counts."""
        insert = "INSERT INTO object (key, sha256, bytes) VALUES (?, ?, ?)"
        number = self._database.execute(insert, (key, sha256, size)).lastrowid
        self._database.executemany(
            "INSERT INTO held VALUES (?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET copies = copies + 1",
            [(window.start, identity, number, line) for line, (window, identity) in enumerate(records)],
        )

    def windows(self) -> list[Window]:
        """Those that a record belongs to, in order."""
        return [Window(start) for (start,) in self._database.execute("SELECT DISTINCT start FROM held ORDER BY start")]

    def copies(self, window: Window) -> dict[str, int]:
        """How often each record of a window is there."""
        found = self._database.execute("SELECT identity, copies FROM held WHERE start = ?", (window.start,))
        return dict(found.fetchall())

    def delivered(self, window: Window) -> list[Delivered]:
        """A window's records, as its ledger is to name them."""
        found = self._database.execute(
            "SELECT key, sha256, bytes, identity FROM held JOIN object USING (number) WHERE start = ?"
            " ORDER BY number, line",
            (window.start,),
        )
        objects: dict[str, Delivered] = {}
        for key, sha256, size, identity in found:
            each = objects.setdefault(key, Delivered(key=key, sha256=sha256, bytes=size, identities=[]))
            each.identities.append(identity)
        return list(objects.values())


def read(store: Store, stream: Stream, prefix: str, index: Index) -> Iterator[Left]:
    """Read every object of the recipe's into the index; what is known so far after each."""
    left = Left()
    for entry in store.listing(prefix):
        named = recipe_object(entry.key, prefix)
        if named is None or named[0] != stream.name:
            continue
        stored = store.get(entry.key)
        if stored is None:
            continue  # the feed deleted it just now
        left.objects += 1
        left.first = min(named[1], left.first or named[1])
        left.newest = max(entry.modified, left.newest or entry.modified)
        try:
            content = content_of(entry.key, stored.body)
            records = [(Window.of(record.time), record.identity) for record in records_in(stream, content)]
        except (ValueError, RecursionError, msgspec.MsgspecError):
            left.unreadable.append(entry.key)
            continue
        if any(len(line) > LONGEST_READ for line in content.splitlines()):
            left.too_long.append(entry.key)
            continue
        left.copies += len(records)
        index.add(entry.key, encode(content, compress=False).sha256, len(stored.body), records)
        yield left
    yield left


def others(store: Store, prefix: str) -> Iterator[Listed]:
    """What else is under the prefix, the recipe's state among it: a feed reads it as logs."""
    for entry in store.listing(prefix):
        if recipe_object(entry.key, prefix) is None and not is_batch(entry.key, prefix):
            yield entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What has become of a window."""

    window: Window
    at_source: int | None
    """Records that Zendesk shows; None where it was not asked."""
    by_recipe: int
    by_pipeline: int
    missing: int
    """Shown by Zendesk, and delivered by neither."""
    again: int
    """Copies beyond the first that the recipe delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """Ledgers of one stream, before and after."""

    ledgers: LedgerStore
    index: Index

    def standing(self, window: Window, shown: set[str] | None) -> Standing:
        """A window's records; raises UnreadableLedgerError."""
        ledger, copies = self.ledgers.read(window).ledger, self.index.copies(window)
        ours = {each for delivered in ledger.objects if is_ours(delivered.key) for each in delivered.identities}
        earlier = ledger.identities() - ours - copies.keys()  # in objects that the feed has deleted since
        return Standing(
            window=window,
            at_source=None if shown is None else len(shown),
            by_recipe=len(copies) + len(earlier),
            by_pipeline=len(ours - copies.keys()),
            missing=len((shown or set[str]()) - copies.keys() - ledger.identities()),
            again=sum(copies.values()) - len(copies),
        )

    def note(self, window: Window) -> int:
        """Note what the recipe delivered of a window in its ledger; how many records are new in it.

        What the ledger says already stays.
        """
        held, before, new = self.index.delivered(window), self.ledgers.read_or_create(window), 0

        def noted(ledger: Ledger) -> Ledger:
            nonlocal new
            after = _noted(ledger, held)
            new = len(after.identities()) - len(ledger.identities())
            return after

        if noted(before.ledger) != before.ledger:
            self.ledgers.replace(window, before, noted)
        return new


def _noted(ledger: Ledger, held: Sequence[Delivered]) -> Ledger:
    """The ledger with what is missing in it; it stays complete if it was, and does not become so."""
    known = ledger.identities()
    objects = {delivered.key: delivered for delivered in ledger.objects}
    for each in held:
        new = [identity for identity in each.identities if identity not in known]
        if new:
            before = objects[each.key].identities if each.key in objects else []
            objects[each.key] = msgspec.structs.replace(each, identities=[*before, *new])
    return msgspec.structs.replace(ledger, objects=list(objects.values()))
