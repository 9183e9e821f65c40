"""The ledgers of one stream in the bucket: the one place that reads and writes them.

A ledger that cannot be read never counts as an empty one, which would deliver its records again. Neither does one of
another window, such as a copied file, or of a version that this release does not know: all three raise the same error.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.ledger import Ledger
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import DeliveryError, DeniedError
from zendesk_pipeline.model.windows import Window

T = TypeVar("T")

RACES = 20
"""How often a ledger is read again after another run has replaced it."""
READERS = 8
"""Threads that read many ledgers."""


class UnreadableLedgerError(DeliveryError):
    """What is stored under a ledger's key is no ledger of this window; `why` is the reason alone."""

    def __init__(self, message: str, *, why: str) -> None:
        super().__init__(message)
        self.why = why


@dataclass(frozen=True, slots=True)
class StoredLedger:
    """A ledger, and which one it is."""

    ledger: Ledger
    version: str
    """The ETag, for replacing just this one; empty where there is no ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStore:
    """The ledgers of one stream. Its methods raise what `Store` does."""

    stream: str
    store: Store
    layout: Layout

    def read(self, window: Window) -> StoredLedger:
        """A window's ledger, an empty one where there is none.

        Raises UnreadableLedgerError, and DeniedError, which without s3:ListBucket may mean that there is none.
        """
        key, empty = self._key(window), ledgers.empty(self.stream, window)
        stored = self.store.get(key)
        if stored is None:
            return StoredLedger(empty, "")
        try:
            return StoredLedger(ledgers.decode(stored.body, empty), stored.version)
        except ValueError as problem:
            raise UnreadableLedgerError(
                f"{self.stream} {window}: the ledger {self.store.uri(key)} cannot be read ({problem})."
                " Restore its last good version (docs/delivery.md).",
                why=str(problem),
            ) from None

    def read_or_create(self, window: Window) -> StoredLedger:
        """The same for a writer without s3:ListBucket: after a 403 only a write shows whether it is missing."""
        try:
            return self.read(window)
        except DeniedError:
            created = self.create(window, complete=False)
            if created is None:
                raise
            return created

    def readable(self, window: Window) -> Ledger | None:
        """A window's ledger; None where there is none, or none that can be read."""
        try:
            found = self.read(window)
        except (DeniedError, UnreadableLedgerError):
            return None
        return found.ledger if found.version else None

    def create(self, window: Window, *, complete: bool) -> StoredLedger | None:
        """Write a ledger without objects; None where there is one already."""
        ledger = msgspec.structs.replace(ledgers.empty(self.stream, window), complete=complete)
        return self._put(window, ledger, "")

    def replace(self, window: Window, before: StoredLedger, change: Callable[[Ledger], Ledger]) -> StoredLedger:
        """Replace the ledger by what `change` makes of it, or of the one that another run has written since."""
        for _ in range(RACES):
            written = self._put(window, change(before.ledger), before.version)
            if written is not None:
                return written
            before = self.read_or_create(window)
        raise DeliveryError(
            f"{self.stream} {window}: other runs replaced its ledger {RACES} times. What is stored stays. Run this"
            " again when no other run collects the window; the schedule and the sensor can be switched off until then."
        )

    def take_back(self, window: Window, version: str) -> StoredLedger | None:
        """Take the mark that the window is complete out of this version; None where another run has replaced it."""
        found = self.read(window)
        if found.version != version:
            return None
        return self._put(window, msgspec.structs.replace(found.ledger, complete=False), version)

    def _put(self, window: Window, ledger: Ledger, version: str) -> StoredLedger | None:
        """Write a ledger over this version, or where none is; None where something else is there."""
        written = self.store.put_over(self._key(window), ledgers.encode(ledger), version or None)
        return None if written is None else StoredLedger(ledger, written)

    def _key(self, window: Window) -> str:
        return self.layout.ledger(self.stream, window)


def of_each(read: Callable[[Window], T], windows: Iterable[Window]) -> list[T]:
    """What `read` gives for each window, in their order, read in parallel."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as readers:
        return list(readers.map(read, windows))
