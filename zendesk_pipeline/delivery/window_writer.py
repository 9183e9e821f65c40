"""Records into the bucket, each once, window by window.

The order that the delivery promise rests on (docs/delivery.md): a window is opened by reading its ledger, and the
objects that a crash left in the feed without one; what both name is delivered. The rest goes out as write-once
objects, and only when all of them are stored the ledger is, and only then the window counts as finished.
"""

import dataclasses
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, filterfalse, groupby
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.batches import Batch, BatchFormat, Encoded, content_of, encode, examined
from zendesk_pipeline.delivery.bucket import RequestCount, Store
from zendesk_pipeline.delivery.ledger import Delivered, Ledger
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.oversized_records import MARK, shortened
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeliveryError, DeniedError, RedactionError
from zendesk_pipeline.model.malformed import Malformed
from zendesk_pipeline.model.records import PAGES_OF_PROOF, Page, Record
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, LAST_TIME, Span, Window

T = TypeVar("T")

WRITERS = 4
"""Threads that talk to S3."""
IN_FLIGHT = 2
"""Batches on their way to S3, beside those that grow: what memory depends on. The other threads see to ledgers."""
MOST_GROWING = 32 * 1024 * 1024
"""Bytes of all batches that grow, where each page has records of many windows; of more, the largest are stored."""
REDACTION, REDELIVERY, ACCOUNT = "redaction", "redelivery", "account"
"""What is noted beside an object for a run that finds it without a ledger: the digest of the rules, the first run of a
redelivery, and the host that the records come from."""
MOST_KNOWN = 200_000
"""Identities of open windows in memory; of more, windows that a page has no records of are noted in their ledgers."""
LEFT_OUT_SHARE = 0.01
"""Of the records shown that are not delivered because of their time: more are told of."""
PAGES_BETWEEN_LOOKS = 16
"""At how many there are."""
MOST_NAMED = 20
"""Malformed records of a window that are named one by one."""
RACES = 20
"""How often a ledger is read again after another run replaced it in between."""


@dataclass(slots=True)
class Tally:
    """What a run did for one window."""

    records: int = 0
    """Delivered by this run: stored, and noted in the ledger."""
    duplicates: int = 0
    """Read, and delivered before."""
    late: int = 0
    """Delivered by this run although the window was complete before."""
    quarantined: int = 0
    redacted: int = 0
    """Records delivered by this run that the redaction rules changed."""
    redactions: Counter[str] = field(default_factory=Counter[str])
    """Values that each rule took away or replaced in them."""
    pages: int = 0
    """Pages that held records of the window."""
    requests: int = 0
    """Requests made while the window was the earliest one under way."""
    waited: float = 0.0
    """Seconds of them spent waiting for the rate limit."""
    first: int | None = None
    """Event time of the first record seen, whether delivered now or before."""
    last: int | None = None
    total: int = 0
    """Records that the window has delivered by now, in all runs."""
    s3: RequestCount = field(default_factory=RequestCount)
    """Requests to S3 for the window; a listing covers a day, and counts for the window that needed it first."""
    bytes: int = 0
    """What its objects hold, as stored."""
    objects: list[str] = field(default_factory=list[str])
    """Their keys."""
    older: int = 0
    """Records shown and not delivered, because they are of a time before what was asked for."""
    ahead: int = 0
    """Records shown and not delivered, because their time has not come yet."""
    malformed: int = 0
    """Records shown and not delivered, because they are malformed; each is in quarantine."""
    malformed_ones: list[str] = field(default_factory=list[str])
    """Where the first of them stood, and where they are, as sentences."""
    finished_at: float | None = None
    """Seconds since the epoch; None until every record of the window is in S3, as far as this run was shown them."""

    def saw(self, times: Sequence[int]) -> None:
        """Records of these times, at least one."""
        first, last = min(times), max(times)
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


@dataclass(slots=True, kw_only=True)
class OpenWindow:
    """A window under way."""

    window: Window
    ledger: Ledger
    version: str | None
    """Of the ledger as read; None where there was none."""
    known: set[str]
    """Identities that must not be delivered (again)."""
    sequences: Iterator[int]
    """Of the objects to come."""
    batch: Batch
    puts: list[Future[Delivered]] = field(default_factory=list[Future[Delivered]])
    adopted: set[str] = field(default_factory=set[str])
    """Identities in objects that no ledger named: a crash left those behind, or another run is writing just now."""


class Delivery:
    """One run's deliveries: `take` each page, then leave the `with` block.

    Left without an exception, every window of the span is finished. Left with one, the windows that were finished
    stay finished, and what is stored of others is noted in their ledgers. Before that, a window is finished once the
    walk is proven to have passed it (`Page.passed`, ADR 17).
    """

    def __init__(
        self,
        *,
        stream: Stream,
        span: Span,
        lookback: int,
        store: Store,
        layout: Layout,
        form: BatchFormat,
        redeliver: bool,
        clock: Clock,
        warn: Callable[[str], object],
        redaction: Redaction | None = None,
        account: str = "",
        redelivery: str = "",
    ) -> None:
        self._stream = stream
        self._span = span
        self._again = Span(Window.of(span.start - lookback).start, span.start)
        self._store = store
        self._layout = layout
        self._form = form
        self._longest = form.longest_record
        self._redeliver = redeliver
        self._redaction = redaction
        self._redelivery = redelivery if redeliver else ""
        notes = {
            REDACTION: redaction.digest if redaction else "",
            REDELIVERY: self._redelivery,
            ACCOUNT: account,
        }
        self._notes = {name: value for name, value in notes.items() if value}
        self._clock = clock
        self._warn = warn
        self._ahead = deque(span)
        self._opening: dict[Window, Future[OpenWindow]] = {}
        self._commits: dict[Window, Future[None]] = {}
        self._shown = 0
        """Records of all pages."""
        self._passed = 0
        """The time up to which windows are finished."""
        self._filling: set[Window] = set()
        """Those that the latest page with records has shown: their batches may grow."""
        self._finished: set[Window] = set()
        """Windows of the span that are, or are about to be."""
        self.in_turn = True
        """Whether no page has shown a new record of a window that was finished."""
        self._completed: dict[Window, str] = {}
        """Those whose ledgers this run has made complete, and the versions it wrote."""
        self._failed: list[Future[Any]] = []
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="writer")
        self._room = threading.BoundedSemaphore(IN_FLIGHT)
        self._listing = threading.Lock()
        self._days: dict[str, list[str]] = {}
        self._written: set[str] = set()
        self._set_aside: set[tuple[str, int]] = set()
        """Malformed records that this run has met, by key and hash."""
        self._are_new = False
        """Whether the last empty window had no ledger: then the next one may well have none."""
        self.tallies: dict[Window, Tally] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._abandon()
            self._pool.shutdown()

    def take(self, page: Page) -> None:
        """Deliver a page's records; windows that the walk is proven to have passed are finished.

        Where the page shows a new record of a window that was finished, the proof was none: what was finished is taken
        back, and nothing is finished before the `with` block is left without an exception.
        """
        self._raise_failure()
        hours = groupby(page.records, lambda record: record.time // HOUR)
        groups = [(Window(hour * HOUR), list(records)) for hour, records in hours]
        wanted = [(window, records) for window, records in groups if self._wants(window)]
        self._account(page, {window for window, _ in wanted})
        self._quarantine_malformed(page)
        for window, _ in wanted:
            self._open(window)
        for window, records in wanted:
            self._deliver(self._open(window).result(), records)
        self._leave(page, {window for window, _ in groups})

    @property
    def finished(self) -> list[Window]:
        """The windows of the span whose records are all in S3, in order."""
        return [window for window in self._span if self._tally(window).finished_at is not None]

    # Windows

    def _wants(self, window: Window) -> bool:
        return window in self._span or window in self._again

    def _open(self, window: Window) -> Future[OpenWindow]:
        if window not in self._opening:
            if window in self._commits:
                self._commits.pop(window).result()  # a record out of turn: take up the window again
            self._opening[window] = self._pool.submit(self._read_window, window)
        return self._opening[window]

    def _leave(self, page: Page, shown: set[Window]) -> None:
        """Finish what is proven to be passed, and hold no more of the other windows than has to be held."""
        if self.in_turn:
            self._finish_before(page.passed)
        if shown:
            for window in self._filling - shown:
                if window in self._opening:
                    self._flush(self._opening[window].result())
            self._filling = shown
            self._bound_growing()
        if page.number % PAGES_BETWEEN_LOOKS == 0 and self._known() > MOST_KNOWN:
            for window in [window for window in self._opening if window not in shown]:
                self._note(window)

    def _bound_growing(self) -> None:
        """Store the largest batches where all that grow are too much, down to half of it: objects stay large."""
        opened = [self._opening[window].result() for window in self._filling if window in self._opening]
        held = sum(each.batch.size for each in opened)
        if held <= max(MOST_GROWING, self._form.size_limit):
            return
        for each in sorted(opened, key=lambda each: (-each.batch.size, each.window)):
            held -= each.batch.size
            self._flush(each)
            if held <= MOST_GROWING // 2:
                return

    def _known(self) -> int:
        return sum(len(opening.result().known) for opening in self._opening.values())

    def _finish_before(self, time: int) -> None:
        if time <= self._passed:
            return
        self._passed = time
        while self._ahead and self._ahead[0].end <= time:
            self._finish_window(self._ahead.popleft())
        for window in [window for window in self._opening if window.end <= time]:
            self._note(window)  # looked back into, or finished and shown once more

    def _finish_window(self, window: Window) -> None:
        """Once all that was shown of the window is stored, it is finished."""
        self._finished.add(window)
        opening = self._opening.pop(window, None)
        if opening is None:
            noted = self._commits.pop(window, None)
            if noted is not None:
                noted.result()
            self._commits[window] = self._watched(self._pool.submit(self._commit_empty, window))
            return
        opened = opening.result()
        self._flush(opened)
        self._commits[window] = self._watched(self._pool.submit(self._commit, opened, finished=True))

    def _note(self, window: Window) -> None:
        """Note in its ledger what is stored of a window, and let go of it; it is read again where it is needed."""
        opened = self._opening.pop(window).result()
        self._flush(opened)
        self._commits[window] = self._watched(self._pool.submit(self._commit, opened, finished=False))

    def _finish(self) -> None:
        self._finish_before(LAST_TIME)
        for commit in self._commits.values():
            commit.result()
        self._tell_what_was_left_out()

    def _tell_what_was_left_out(self) -> None:
        older = sum(tally.older for tally in self.tallies.values()) if self._stream.lists_by_event_time else 0
        ahead = sum(tally.ahead for tally in self.tallies.values())
        if older + ahead > LEFT_OUT_SHARE * (self._shown + ahead):
            self._warn(
                f"{self._stream.name} {self._span}: of {self._shown + ahead:,} records that Zendesk showed, by their"
                f" {self._stream.event_time} {older:,} are from before what was asked for and {ahead:,} of the future."
                " They belong to other windows and were not delivered by this run: collect those windows again if they"
                " may be missing there."
            )

    def _abandon(self) -> None:
        """Note in the ledgers what is stored of windows that were not finished; let the others finish."""
        for window, opening in self._opening.items():
            if opening.exception() is None:
                opened = opening.result()
                opened.puts = [put for put in opened.puts if put.exception() is None]
                if opened.puts:
                    self._commits[window] = self._pool.submit(self._commit, opened, finished=False)
        for commit in self._commits.values():
            commit.exception()
        self._opening.clear()

    def _raise_failure(self) -> None:
        """Stop the walk soon after a write failed."""
        if self._failed:
            self._failed[0].result()

    def _watched(self, write: Future[T]) -> Future[T]:
        """A write whose failure stops the walk."""

        def note(done: Future[T]) -> None:
            if done.exception() is not None:
                self._failed.append(done)

        write.add_done_callback(note)
        return write

    # Records

    def _deliver(self, opened: OpenWindow, records: Sequence[Record]) -> None:
        window, tally = opened.window, self._tally(opened.window)
        if window not in self._span and not opened.ledger.complete:
            return  # its own run delivers it whole
        tally.saw([record.time for record in records])
        known = opened.known
        for record in records:
            if record.identity in known:
                tally.duplicates += 1
                if record.identity in opened.adopted:
                    self._flush(opened)  # end where the one who wrote it did: then its other batches are ours as well
                continue
            if window in self._finished:
                self._take_back(window)
            known.add(record.identity)
            self._append(opened, record)

    def _append(self, opened: OpenWindow, record: Record) -> None:
        if self._redaction is not None:
            record = self._redacted(self._redaction, opened.window, record)
        line = record.line
        if len(line) > self._longest:
            line = self._quarantine(opened, record)
        if not opened.batch.has_room(line):
            self._flush(opened)
        opened.batch.add(record, line)

    def _redacted(self, redaction: Redaction, window: Window, record: Record) -> Record:
        """The record as it may leave this machine: everything that is stored of it is made of this."""
        try:
            line, hits = redaction.apply(record.line)
        except RedactionError as problem:
            raise RedactionError(
                f"{self._stream.name} {window}: the redaction rules cannot be applied, because {problem}. It was not"
                " delivered, nor was anything behind it. Look at the window's records in Zendesk."
            ) from None
        tally = self._tally(window)
        tally.redacted += bool(hits)
        tally.redactions.update(hits)
        return msgspec.structs.replace(record, line=line)

    def _quarantine(self, opened: OpenWindow, record: Record) -> bytes:
        """Store the record whole outside the feed; what the feed gets of it."""
        encoded = encode(record.line, compress=False)
        key = self._layout.quarantined(self._stream.name, opened.window, encoded.sha256)
        self._store_for(opened.window).put_new(
            key, encoded.body, checksum=encoded.checksum, content_type="application/json", notes=self._notes
        )
        self._tally(opened.window).quarantined += 1
        self._warn(
            f"{self._stream.name} {opened.window}: a record of {len(record.line):,} bytes is too long for a line of the"
            f" feed. It lies whole at {self._store.uri(key)}; the feed gets it shortened."
        )
        whole = self._store.uri(key)
        # in a writer's thread: its stack is as short as the one the page was read on, if lists lie in lists in lists
        return self._pool.submit(shortened, self._stream, record.line, whole=whole, longest=self._longest).result()

    def _quarantine_malformed(self, page: Page) -> None:
        """Store a page's malformed records whole outside the feed, and name them; the same one is stored once.

        One that has a time is left to its own window's run. One without is of the window that it stands in; so it is
        left to a later run where an export, which goes on behind the range, shows it among records of later windows; a
        single one may stand early.
        """
        latest = max((record.time for record in page.records), default=0)
        ours = Span(self._again.start, self._span.end)
        puts: list[tuple[Window, Malformed, Future[tuple[str, bool]]]] = []
        for number, malformed in enumerate(page.malformed, 1):
            time = malformed.time
            if time is None:
                near = self._span.start if malformed.near is None else malformed.near
                follows = malformed.position > number and not self._stream.paging.bounded
                follows = follows and (malformed.behind is None or malformed.behind >= ours.end)
                if follows and ours.end <= near <= latest:  # a record of the future is none of these
                    continue
                time = min(max(near, ours.start), ours.end - 1)
            window = Window.of(time)
            if window in ours:
                puts.append((window, malformed, self._pool.submit(self._put_malformed, window, malformed)))
        new: list[str] = []
        for window, malformed, put in puts:
            key, is_new = put.result()
            met = (key, hash(malformed.line))
            if met in self._set_aside or (window not in self._span and not is_new):
                continue  # a run before this one has told of it, or this one
            self._set_aside.add(met)
            told = self._tally(window if window in self._span else self._current)
            told.malformed += 1
            new.append(
                f"{window}, page {page.number}, record {malformed.position}, id {malformed.identity or 'unknown'}:"
                f" {malformed.why}; {self._store.uri(key)}"
            )
            if len(told.malformed_ones) < MOST_NAMED:
                told.malformed_ones.append(new[-1])
        if new:
            self._warn(
                f"{self._stream.name}: {len(new)} malformed records cannot be delivered. They are in quarantine; all"
                f" others are delivered. {' | '.join(new[:MOST_NAMED])}"
            )

    def _put_malformed(self, window: Window, malformed: Malformed) -> tuple[str, bool]:
        """The key of a malformed record in quarantine, and whether it was not there before."""
        encoded = encode(self._allowed(malformed), compress=False)
        key = self._layout.quarantined(self._stream.name, window, encoded.sha256)
        is_new = self._store_for(window).put_new(
            key, encoded.body, checksum=encoded.checksum, content_type="application/octet-stream", notes=self._notes
        )
        return key, is_new

    def _allowed(self, malformed: Malformed) -> bytes:
        """What the redaction rules let out of a malformed record; of one that they cannot be applied to, nothing."""
        if self._redaction is None:
            return malformed.line
        with suppress(RedactionError):
            if malformed.is_json:
                return self._redaction.apply(malformed.line)[0]
        withheld = {"withheld": True, "bytes": len(malformed.line), "id": malformed.identity, "why": malformed.why}
        return msgspec.json.encode({MARK: withheld})

    def _flush(self, opened: OpenWindow) -> None:
        batch = opened.batch
        if not batch.identities:
            return
        self._room.acquire()
        put = self._pool.submit(self._put, opened, next(opened.sequences), batch)
        opened.puts.append(self._watched(put))
        opened.batch = Batch(self._form)

    def _put(self, opened: OpenWindow, sequence: int, batch: Batch) -> Delivered:
        try:
            encoded = encode(batch.content(), compress=self._form.compress)
            key, size = self._stored(opened, sequence, encoded)
            self._written.add(key)
            return Delivered(
                key=key,
                sha256=encoded.sha256,
                bytes=size,
                identities=batch.identities,
                redaction=self._notes.get(REDACTION, ""),
                redelivery=self._redelivery,
            )
        finally:
            self._room.release()

    def _stored(self, opened: OpenWindow, sequence: int, encoded: Encoded) -> tuple[str, int]:
        """Store an object, under the next number where something else lies at its name; its key and size."""
        store = self._store_for(opened.window)
        while True:
            key = self._layout.batch(self._stream.name, opened.window, sequence, encoded.sha256, self._form.suffix)
            if store.put_new(
                key,
                encoded.body,
                checksum=encoded.checksum,
                content_type=self._form.content_type,
                notes=self._notes,
            ):
                return key, len(encoded.body)
            size = self._size_if_same(store, key, encoded)
            if size is not None:
                return key, size
            self._warn(
                f"{self._store.uri(key)} has a name of ours and other bytes than its name says: see who wrote it, and"
                " move it out of the feed. What belongs there is delivered beside it."
            )
            sequence = next(opened.sequences)

    def _size_if_same(self, store: Store, key: str, encoded: Encoded) -> int | None:
        """The size of what lies at a key where it is the same: then an earlier try, or another run, stored it."""
        try:
            stored = store.get(key)
        except DeniedError:
            return len(encoded.body)  # nobody else may write there, as far as can be told
        if stored is None:
            return len(encoded.body)  # the feed has read it
        try:
            same = encode(content_of(key, stored.body), compress=False).sha256 == encoded.sha256
        except ValueError:
            same = False
        return len(stored.body) if same else None

    # Ledgers

    def _read_window(self, window: Window) -> OpenWindow:
        ledger, version = self._read_ledger(window)
        named = {delivered.key for delivered in ledger.objects}
        unnamed = [*filter(None, (self._adopt(window, key) for key in self._listed(window) if key not in named))]
        ledger = msgspec.structs.replace(ledger, objects=[*ledger.objects, *unnamed])
        taken = {self._layout.sequence(delivered.key, self._stream.name, window) for delivered in ledger.objects}
        counted = ledger
        if self._redeliver and window in self._span:  # only what this very redelivery has sent counts
            counted = msgspec.structs.replace(ledger, objects=[*filter(self._is_of_this_redelivery, ledger.objects)])
        return OpenWindow(
            window=window,
            ledger=ledger,
            version=version,
            known=counted.identities(),
            sequences=filterfalse(taken.__contains__, count()),
            batch=Batch(self._form),
            adopted={identity for delivered in unnamed for identity in delivered.identities},
        )

    def _is_of_this_redelivery(self, delivered: Delivered) -> bool:
        """This run has sent it, or one that this run repeats."""
        return delivered.key in self._written or (delivered.redelivery == self._redelivery != "")

    def _read_ledger(self, window: Window) -> tuple[Ledger, str | None]:
        key, empty = self._layout.ledger(self._stream.name, window), ledgers.empty(self._stream.name, window)
        try:
            stored = self._store_for(window).get(key)
        except DeniedError:
            # Without ListBucket, AWS answers 403 for a missing key. Writing it tells the two apart.
            version = self._store_for(window).put_over(key, ledgers.encode(empty), None)
            if version is None:
                raise
            return empty, version
        if stored is None:
            return empty, None
        try:
            return ledgers.decode(stored.body, empty), stored.version
        except ValueError as problem:
            raise DeliveryError(
                f"{self._stream.name} {window}: the ledger {self._store.uri(key)} cannot be read ({problem})."
                " Nothing was delivered. Restore its last good version (docs/delivery.md)."
            ) from None

    def _listed(self, window: Window) -> list[str]:
        """The keys of this stream's batches of the window that are in the feed now; one LIST covers a day."""
        day, name = self._layout.day(window), self._stream.name
        with self._listing:
            if day not in self._days:
                try:
                    self._days[day] = self._store_for(window).keys(day)
                except DeniedError as denied:
                    self._days[day] = []
                    self._warn(f"{denied} Without it a crash between two writes can repeat a batch.")
            return [key for key in self._days[day] if self._layout.sequence(key, name, window) is not None]

    def _adopt(self, window: Window, key: str) -> Delivered | None:
        """An object in the feed that no ledger names: a run died between the two writes. Its lines are delivered."""
        try:
            stored = self._store_for(window).get(key)
        except DeniedError as denied:
            self._warn(f"{denied} Without it a crash between two writes can repeat a batch.")
            return None
        if stored is None:
            return None
        account = stored.notes.get(ACCOUNT, "")
        if account and account != self._notes.get(ACCOUNT, account):
            self._warn(
                f"{self._store.uri(key)} holds records of {account}: it counts for nothing here. Give each account"
                " prefixes of its own (S3_PREFIX, STATE_PREFIX, QUARANTINE_PREFIX)."
            )
            return None
        found = examined(self._stream, window, key, stored.body)
        if found.flaws:
            self._warn(
                f"{self._store.uri(key)} has a name of ours and is not ours: it {' and '.join(found.flaws)}. It counts"
                " for nothing here, and SecOps reads it all the same: see who wrote it, and move it out of the feed."
            )
            return None
        sha256 = encode(content_of(key, stored.body), compress=False).sha256
        redacted = stored.notes.get(REDACTION, "")  # by the rules of the run that wrote it
        return Delivered(
            key=key,
            sha256=sha256,
            bytes=len(stored.body),
            identities=found.identities,
            redaction=redacted,
            redelivery=stored.notes.get(REDELIVERY, ""),
        )

    def _commit(self, opened: OpenWindow, *, finished: bool) -> None:
        """Once every object is stored, the ledger; then the window is finished, if it is to be."""
        objects = [put.result() for put in opened.puts]
        complete = opened.ledger.complete or finished
        after = msgspec.structs.replace(opened.ledger, objects=[*opened.ledger.objects, *objects], complete=complete)
        if objects or opened.adopted or complete != opened.ledger.complete:
            after = self._save(opened, after)
        tally, new = self._tally(opened.window), sum(len(delivered.identities) for delivered in objects)
        tally.records += new
        tally.late += new if opened.ledger.complete and not self._redeliver else 0
        tally.objects = [delivered.key for delivered in after.objects]
        tally.bytes = sum(delivered.bytes for delivered in after.objects)
        tally.total = sum(len(delivered.identities) for delivered in after.objects)
        if finished:
            tally.finished_at = self._clock.now()

    def _commit_empty(self, window: Window) -> None:
        """Finish a window that is not open: no page had records of it, or they are noted.

        Where no ledger is expected, none is read: the write that makes one fails if there is one after all.
        """
        if self._are_new and not self._listed(window):
            key, blank = self._layout.ledger(self._stream.name, window), ledgers.empty(self._stream.name, window)
            complete = msgspec.structs.replace(blank, complete=True)
            version = self._store_for(window).put_over(key, ledgers.encode(complete), None)
            if version is not None:
                self._completed[window] = version
                self._tally(window).finished_at = self._clock.now()
                return
        opened = self._read_window(window)
        self._are_new = opened.version is None
        self._commit(opened, finished=True)

    def _save(self, opened: OpenWindow, ledger: Ledger) -> Ledger:
        key, version = self._layout.ledger(self._stream.name, opened.window), opened.version
        for _ in range(RACES):
            written = self._store_for(opened.window).put_over(key, ledgers.encode(ledger), version)
            if written is not None:
                if ledger.complete and (not opened.ledger.complete or opened.window in self._completed):
                    self._completed[opened.window] = written
                return ledger
            theirs, version = self._read_ledger(opened.window)
            ledger = ledger.merged(theirs)
        raise DeliveryError(
            f"{self._stream.name} {opened.window}: other runs replaced its ledger {RACES} times. The records are"
            " stored; run the window again when nothing else does."
        )

    def _take_back(self, window: Window) -> None:
        """A window that was finished is shown a new record of: then no window of this run is, until the walk has ended.

        Windows that were complete before this run stay it; of the others the flag is taken out of the ledger again,
        unless another run has replaced that since.
        """
        self._warn(
            f"{self._stream.name} {window}: Zendesk shows a new record of this window behind {PAGES_OF_PROOF} pages of"
            " later ones, so its order is not to be relied on. No window of this run counts as finished before the walk"
            " has come to its end."
        )
        for commit in self._commits.values():
            commit.exception()  # of one that failed later: the flags of the others are wrong as well
        for taken in self._finished:
            self._tally(taken).finished_at = None
        withdrawn = {each: self._pool.submit(self._withdraw, *each) for each in self._completed.items()}
        for (taken, _), withdrawal in withdrawn.items():
            version = withdrawal.result()
            if version is not None and taken in self._opening:
                opened = self._opening[taken].result()
                opened.ledger, opened.version = msgspec.structs.replace(opened.ledger, complete=False), version
        self._completed.clear()
        self._finished.clear()
        self._ahead, self.in_turn = deque(self._span), False
        self._raise_failure()

    def _withdraw(self, window: Window, version: str) -> str | None:
        """Take the flag out of the ledger of this version; the new version, or None where it is another one by now."""
        key, blank = self._layout.ledger(self._stream.name, window), ledgers.empty(self._stream.name, window)
        stored = self._store_for(window).get(key)
        if stored is None or stored.version != version:
            return None
        incomplete = msgspec.structs.replace(ledgers.decode(stored.body, blank), complete=False)
        return self._store_for(window).put_over(key, ledgers.encode(incomplete), version)

    # Accounts

    def _store_for(self, window: Window) -> Store:
        """The bucket, with its requests counted for the window."""
        return dataclasses.replace(self._store, spent=self._tally(window).s3)

    def _tally(self, window: Window) -> Tally:
        return self.tallies.setdefault(window, Tally())

    @property
    def _current(self) -> Window:
        """The earliest window that is not finished."""
        return self._ahead[0] if self._ahead else Window.of(self._span.end - 1)

    def _account(self, page: Page, windows: Iterable[Window]) -> None:
        current = self._tally(self._current)
        current.requests += page.requests
        current.waited += page.waited
        self._shown += len(page.records)
        current.older += page.older
        current.ahead += page.ahead
        for window in windows:
            self._tally(window).pages += 1
