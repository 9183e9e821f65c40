"""A window in the bucket: read when it is opened, filled with objects, and closed with its ledger.

What is here runs in the threads of the writers; it asks S3, and counts what it asks in the window's tally.
"""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count, filterfalse

import msgspec

from zendesk_pipeline.delivery.batches import Batch, Encoded, content_of, encode
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import REDACTION, REDELIVERY, DeliveryJob
from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.delivery.ledger_store import LedgerStore, StoredLedger
from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.delivery.unnamed_objects import UnnamedObjects
from zendesk_pipeline.model.errors import DeniedError
from zendesk_pipeline.model.windows import Window


@dataclass(slots=True, kw_only=True)
class OpenWindow:
    """A window under way. Only the main thread uses it while it is open, only one writer before and after."""

    window: Window
    stored: StoredLedger
    """Its ledger as it was read."""
    unnamed: list[Delivered]
    """Objects that no ledger named: a crash left them, or another run is writing just now."""
    known: set[str]
    """Identities that must not be delivered (again)."""
    numbers: Iterator[int]
    """Of the objects to come."""
    batch: Batch
    puts: list[Future[Delivered]] = field(default_factory=list[Future[Delivered]])
    adopted: set[str] = field(default_factory=set[str])
    """Identities in the unnamed objects."""


class WindowStorage:
    """The windows of one run in the bucket."""

    def __init__(self, job: DeliveryJob) -> None:
        self._job = job
        self._notes = job.notes
        self._redelivery = self._notes.get(REDELIVERY, "")
        self._unnamed = UnnamedObjects(job)
        self._written: set[str] = set()
        """Keys of this run's objects."""
        self._are_new = False
        """Whether the last empty window had no ledger: then the next one may well have none."""
        self.completed: dict[Window, str] = {}
        """Windows whose ledgers this run has made complete, and the versions it wrote."""
        self.tallies: dict[Window, Tally] = {}

    def tally(self, window: Window) -> Tally:
        """What the run has done for a window so far."""
        found = self.tallies.get(window)
        return self.tallies.setdefault(window, Tally()) if found is None else found  # several threads may make it

    def store_for(self, window: Window) -> Store:
        """The bucket, with its requests counted for the window."""
        return dataclasses.replace(self._job.store, spent=self.tally(window).s3)

    def read(self, window: Window) -> OpenWindow:
        """Open a window: what its ledger names, and what a crash left without one, is delivered."""
        job, stored = self._job, self._ledgers(window).read_or_create(window)
        named = {delivered.key for delivered in stored.ledger.objects}
        unnamed = self._unnamed.of(self.store_for(window), window, named)
        objects = [*stored.ledger.objects, *unnamed]
        taken = {job.layout.sequence(delivered.key, job.stream.name, window) for delivered in objects}
        if job.redeliver and window in job.span:  # only what this very redelivery has sent counts
            objects = [*filter(self._is_of_this_redelivery, objects)]
        return OpenWindow(
            window=window,
            stored=stored,
            unnamed=unnamed,
            known={identity for delivered in objects for identity in delivered.identities},
            numbers=filterfalse(taken.__contains__, count()),
            batch=Batch(job.form),
            adopted={identity for delivered in unnamed for identity in delivered.identities},
        )

    def put(self, window: Window, batch: Batch, numbers: Iterator[int]) -> Delivered:
        """Store a batch under the first of `numbers` whose key no other content has."""
        job, store = self._job, self.store_for(window)
        content, compress = batch.content(), job.form.compress
        encoded = encode(content, compress=compress)
        for number in numbers:
            key = job.layout.batch(job.stream.name, window, number, encoded.sha256, job.form.suffix)
            size = self._put_once(store, key, encoded)
            if size is not None:
                self._written.add(key)
                return Delivered(
                    key=key,
                    sha256=encoded.sha256,
                    bytes=size,
                    content_bytes=len(content) if compress else 0,
                    identities=batch.identities,
                    redaction=self._notes.get(REDACTION, ""),
                    redelivery=self._redelivery,
                )
            job.warn(
                f"{store.uri(key)} has a name of ours and other bytes than its name says: see who wrote it, and move it"
                " out of the feed. What belongs there is delivered beside it."
            )
        raise AssertionError("the numbers never end")

    def commit(self, opened: OpenWindow, *, finished: bool) -> None:
        """Write the ledger once every object is stored; then the window is finished, if `finished`."""
        window, before, objects = opened.window, opened.stored.ledger, [put.result() for put in opened.puts]
        complete = before.complete or finished
        ours = msgspec.structs.replace(before, objects=[*before.objects, *opened.unnamed, *objects], complete=complete)
        after = ours
        if objects or opened.adopted or complete != before.complete:
            stored = self._ledgers(window).replace(
                window, opened.stored, lambda theirs: ours if theirs is before else ours.merged(theirs)
            )
            after = stored.ledger
            if after.complete and (not before.complete or window in self.completed):
                self.completed[window] = stored.version
        tally, new = self.tally(window), sum(len(delivered.identities) for delivered in objects)
        tally.records += new
        tally.late += new if before.complete and not self._job.redeliver else 0
        tally.holds(after.objects)
        if finished:
            tally.finished_at = self._job.clock.now()

    def commit_unopened(self, window: Window) -> None:
        """Finish a window that is not open: no page had records of it, or their batches are stored.

        Where no ledger is expected, none is read: the write that makes one fails if there is one after all.
        """
        if self._are_new and not self._unnamed.listed(self.store_for(window), window):
            created = self._ledgers(window).create(window, complete=True)
            if created is not None:
                self.completed[window] = created.version
                self.tally(window).finished_at = self._job.clock.now()
                return
        opened = self.read(window)
        self._are_new = not opened.stored.version
        self.commit(opened, finished=True)

    def take_back(self, window: Window) -> StoredLedger | None:
        """Take the mark that a window is complete out of this run's ledger, unless another run has replaced it."""
        return self._ledgers(window).take_back(window, self.completed[window])

    def _ledgers(self, window: Window) -> LedgerStore:
        return LedgerStore(stream=self._job.stream.name, store=self.store_for(window), layout=self._job.layout)

    def _is_of_this_redelivery(self, delivered: Delivered) -> bool:
        """Whether this run has sent it, or one that this run continues."""
        return delivered.key in self._written or (delivered.redelivery == self._redelivery != "")

    def _put_once(self, store: Store, key: str, encoded: Encoded) -> int | None:
        """The size of the object under this key, stored now or before; None where it is another content."""
        form = self._job.form
        if store.put_new(
            key, encoded.body, checksum=encoded.checksum, content_type=form.content_type, notes=self._notes
        ):
            return len(encoded.body)
        try:
            stored = store.get(key)
        except DeniedError:
            return len(encoded.body)  # it cannot be compared: nobody else should write there
        if stored is None:
            return len(encoded.body)  # the feed has read and deleted it
        try:
            is_same = encode(content_of(key, stored.body), compress=False).sha256 == encoded.sha256
        except ValueError:
            return None
        return len(stored.body) if is_same else None
