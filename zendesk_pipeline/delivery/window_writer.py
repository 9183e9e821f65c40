"""Records into the bucket, each once, window by window.

The order that the delivery promise rests on (docs/delivery.md): opening a window reads its ledger, and the objects that
a crash left in the feed without one; what both name is delivered. The rest is written as write-once objects. The
ledger is written when all of them are stored, and only then the window is finished.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from itertools import chain, groupby
from types import TracebackType
from typing import Self

import msgspec

from zendesk_pipeline.delivery.batches import Batch
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.quarantine import Quarantine
from zendesk_pipeline.delivery.tally import left_out
from zendesk_pipeline.delivery.window_storage import OpenWindow, WindowStorage
from zendesk_pipeline.delivery.writers import Writers
from zendesk_pipeline.model.errors import RedactionError
from zendesk_pipeline.model.records import PAGES_OF_PROOF, Page, Record
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.windows import HOUR, LAST_TIME, Span, Window

MOST_GROWING = 32 * 1024 * 1024
"""Bytes of all batches that grow, where each page has records of many windows; above it, the largest are stored."""
MOST_KNOWN = 200_000
"""Identities of open windows in memory; above it, windows that a page has no records of are closed."""
PAGES_BETWEEN_COUNTS = 16
"""After so many pages the identities are counted."""


class Delivery:
    """One run's deliveries: `take` each page, then leave the `with` block.

    Left without an exception, every window of the span is finished. Left with one, the windows that were finished
    stay finished, and what is stored of others is noted in their ledgers. Before that, a window is finished once the
    walk is proven to have passed it (`Page.passed`, ADR 17).
    """

    def __init__(self, job: DeliveryJob) -> None:
        self._job, self._span, self._reach = job, job.span, job.reach
        self._storage = WindowStorage(job)
        self._quarantine = Quarantine(job, self._storage.store_for)
        self._redaction, self._longest = job.redaction, job.form.longest_record
        self._opening: dict[Window, Future[OpenWindow]] = {}
        self._commits: dict[Window, Future[None]] = {}
        self._writers = Writers()
        self._growing: set[Window] = set()
        """The windows that the latest page with records has shown."""
        self._shown = 0
        """Records of all pages."""
        self._passed = 0
        """The time up to which windows are finished, or about to be."""
        self.in_turn = True
        """Whether no page has shown a new record of a window that was finished."""
        self.tallies = self._storage.tallies

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._note_unfinished()
            self._writers.pool.shutdown()

    def take(self, page: Page) -> None:
        """Deliver a page's records; windows that the walk is proven to have passed are finished.

        Where the page shows a new record of a window that was finished, the proof was none: what was finished is taken
        back, and nothing is finished before the `with` block is left without an exception.
        """
        self._writers.raise_failure()
        hours = groupby(page.records, lambda record: record.time // HOUR)
        groups = [(Window(hour * HOUR), list(records)) for hour, records in hours]
        wanted = [(window, records) for window, records in groups if window in self._reach]
        self._count(page, {window for window, _ in wanted})
        for window, text in self._quarantine.malformed(page, self._writers.pool) if page.malformed else ():
            self._storage.tally(window if window in self._span else self._earliest).saw_malformed(text)
        for window, _ in wanted:
            self._open(window)
        for window, records in wanted:
            self._deliver(self._open(window).result(), records)
        self._finish_or_close(page, {window for window, _ in groups})

    def store_for(self, window: Window) -> Store:
        """The bucket, with requests that are made of it counted for the window."""
        return self._storage.store_for(window)

    @property
    def finished(self) -> list[Window]:
        """The windows of the span whose records are all in S3, in order."""
        return [window for window in self._span if self._storage.tally(window).finished_at is not None]

    # A window is opened

    def _open(self, window: Window) -> Future[OpenWindow]:
        if window not in self._opening:
            if window in self._commits:
                self._commits.pop(window).result()  # a record out of order: open the window again
            self._opening[window] = self._writers.pool.submit(self._storage.read, window)
        return self._opening[window]

    # Its records are delivered

    def _deliver(self, opened: OpenWindow, records: Sequence[Record]) -> None:
        window, tally = opened.window, self._storage.tally(opened.window)
        if window not in self._span and not opened.stored.ledger.complete:
            return  # its own run delivers it whole
        tally.saw([record.time for record in records])
        known, is_finished = opened.known, window in self._span and window.end <= self._passed
        for record in records:
            if record.identity in known:
                tally.duplicates += 1
                if record.identity in opened.adopted:
                    self._flush(opened)  # end the batch where the other run's ends: the next ones are the same then
                continue
            if is_finished:
                self._take_back(window)
                is_finished = False
            known.add(record.identity)
            self._append(opened, record)

    def _append(self, opened: OpenWindow, record: Record) -> None:
        if self._redaction is not None:
            record = self._redacted(self._redaction, opened.window, record)
        line = record.line
        if len(line) > self._longest:
            line = self._quarantine.oversized(opened.window, record, self._longest, self._writers.pool)
            self._storage.tally(opened.window).quarantined += 1
        if not opened.batch.has_room(line):
            self._flush(opened)
        opened.batch.add(record, line)

    def _redacted(self, redaction: Redaction, window: Window, record: Record) -> Record:
        """The record after redaction: everything that is stored of it is made of this."""
        try:
            line, hits = redaction.apply(record.line)
        except RedactionError as problem:
            raise RedactionError(
                f"{self._job.stream.name} {window}: the redaction rules cannot be applied, because {problem}. It was"
                " not delivered, nor was anything behind it. Look at the window's records in Zendesk."
            ) from None
        tally = self._storage.tally(window)
        tally.redacted += bool(hits)
        tally.redactions.update(hits)
        return msgspec.structs.replace(record, line=line)

    def _flush(self, opened: OpenWindow) -> None:
        """Have the batch stored as an object, and begin the next one."""
        if not opened.batch.identities:
            return
        numbers = chain([next(opened.numbers)], opened.numbers)
        opened.puts.append(self._writers.write_batch(self._storage.put, opened.window, opened.batch, numbers))
        opened.batch = Batch(self._job.form)

    # It is finished, or closed until a page has records of it again

    def _finish_or_close(self, page: Page, shown: set[Window]) -> None:
        """Finish the windows that the walk has passed, and bound the memory that the others take."""
        if self.in_turn:
            self._finish_before(page.passed)
        if shown:
            for window in self._growing - shown:
                if window in self._opening:
                    self._flush(self._opening[window].result())
            self._growing = shown
            self._bound_growing()
        if page.number % PAGES_BETWEEN_COUNTS == 0 and self._known() > MOST_KNOWN:
            for window in [window for window in self._opening if window not in shown]:
                self._close(window)

    def _bound_growing(self) -> None:
        """Where growing batches exceed the bound, store the largest down to half of it: objects stay large."""
        opened = [self._opening[window].result() for window in self._growing if window in self._opening]
        held = sum(each.batch.size for each in opened)
        if held <= max(MOST_GROWING, self._job.form.size_limit):
            return
        for each in sorted(opened, key=lambda each: (-each.batch.size, each.window)):
            held -= each.batch.size
            self._flush(each)
            if held <= MOST_GROWING // 2:
                return

    def _known(self) -> int:
        return sum(len(opening.result().known) for opening in self._opening.values())

    def _finish_before(self, time: int) -> None:
        """Finish the windows that end at this time or before, and close those that are open once more."""
        if time <= self._passed:
            return
        begin = max(self._span.start, Window.of(self._passed).start)
        finishing = Span(begin, min(self._span.end, Window.of(time).start))
        self._passed = time
        for window in finishing:
            if window in self._opening:
                self._close(window, finished=True)
            else:
                self._finish_unopened(window)
        for window in [window for window in self._opening if window.end <= time]:
            self._close(window)

    def _close(self, window: Window, *, finished: bool = False) -> None:
        """Store a window's last batch, then its ledger, and forget the window."""
        opened = self._opening.pop(window).result()
        self._flush(opened)
        self._commits[window] = self._writers.write(self._storage.commit, opened, finished=finished)

    def _finish_unopened(self, window: Window) -> None:
        closing = self._commits.pop(window, None)
        if closing is not None:
            closing.result()
        self._commits[window] = self._writers.write(self._storage.commit_unopened, window)

    def _finish(self) -> None:
        self._finish_before(LAST_TIME)
        for commit in self._commits.values():
            commit.result()
        if warning := left_out(self._job.stream, self._span, self.tallies, self._shown):
            self._job.warn(warning)

    def _note_unfinished(self) -> None:
        """Note in the ledgers what is stored of windows that were not finished; let the others finish."""
        for window, opening in self._opening.items():
            if opening.exception() is None:
                opened = opening.result()
                opened.puts = [put for put in opened.puts if put.exception() is None]
                if opened.puts:
                    self._commits[window] = self._writers.pool.submit(self._storage.commit, opened, finished=False)
        for commit in self._commits.values():
            commit.exception()
        self._opening.clear()

    def _take_back(self, window: Window) -> None:
        """A page shows a new record of a finished window: no window of this run is finished until the walk has ended.

        Windows that were complete before this run stay so; of the others the mark is taken out of the ledger again,
        unless another run has replaced that since.
        """
        self._job.warn(
            f"{self._job.stream.name} {window}: Zendesk shows a new record of this window behind {PAGES_OF_PROOF} pages"
            " of later ones, so its order is not to be relied on. No window of this run counts as finished before the"
            " walk has come to its end."
        )
        for commit in self._commits.values():
            commit.exception()  # where one failed, the marks of the others are wrong as well
        for tally in self.tallies.values():
            tally.finished_at = None
        taking = {each: self._writers.pool.submit(self._storage.take_back, each) for each in self._storage.completed}
        for each, taken in taking.items():
            stored = taken.result()
            if stored is not None and each in self._opening:
                self._opening[each].result().stored = stored
        self._storage.completed.clear()
        self._passed, self.in_turn = 0, False
        self._writers.raise_failure()

    # Numbers

    @property
    def _earliest(self) -> Window:
        """The earliest window that is not finished; the last one of the span where all are."""
        return Window(min(max(self._span.start, Window.of(self._passed).start), self._span.end - HOUR))

    def _count(self, page: Page, windows: Iterable[Window]) -> None:
        self._storage.tally(self._earliest).asked(page)
        self._shown += len(page.records)
        for window in windows:
            self._storage.tally(window).pages += 1
