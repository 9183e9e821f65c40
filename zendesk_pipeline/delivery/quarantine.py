"""What the feed cannot take: oversized records, of which it gets a short form, and malformed ones."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from zendesk_pipeline.delivery.batches import encode
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.oversized_records import MARK, shortened
from zendesk_pipeline.delivery.tally import MOST_NAMED
from zendesk_pipeline.model.errors import RedactionError
from zendesk_pipeline.model.malformed import Malformed
from zendesk_pipeline.model.records import Page, Record
from zendesk_pipeline.model.windows import Window


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Stores records whole, outside the feed, for one run of one stream."""

    job: DeliveryJob
    store_for: Callable[[Window], Store]
    _met: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    """Malformed records of this run, by key and hash."""

    def oversized(self, window: Window, record: Record, longest: int, pool: Executor) -> bytes:
        """Store a record that is too long for a line, after redaction; returns the short line for the feed."""
        stream, size = self.job.stream, len(record.line)
        key, _ = self._put(window, record.line, "application/json")
        whole = self.job.store.uri(key)
        self.job.warn(
            f"{stream.name} {window}: a record of {size:,} bytes is too long for a line of the feed. It is stored whole"
            f" at {whole}; the feed gets it shortened."
        )
        # in another thread, whose stack is almost empty: a list that was not too deep to be read is not too deep here
        return pool.submit(shortened, stream, record.line, whole=whole, longest=longest).result()

    def malformed(self, page: Page, pool: Executor) -> list[tuple[Window, str]]:
        """Store a page's malformed records; returns those not reported before: their windows, and sentences."""
        ours = [(window, each) for window, each in self._windows(page) if window in self.job.reach]
        puts = [(window, each, pool.submit(self._put_malformed, window, each)) for window, each in ours]
        new: list[tuple[Window, str]] = []
        for window, malformed, put in puts:
            key, is_new = put.result()
            met = (key, hash(malformed.line))
            if met in self._met or (window not in self.job.span and not is_new):
                continue  # an earlier run has reported it, or this one
            self._met.add(met)
            where = f"{window}, page {page.number}, record {malformed.position}, id {malformed.identity or 'unknown'}"
            new.append((window, f"{where}: {malformed.why}; {self.job.store.uri(key)}"))
        if new:
            self.job.warn(
                f"{self.job.stream.name}: {len(new)} malformed records cannot be delivered. They are in quarantine; all"
                f" others are delivered. {' | '.join(text for _, text in new[:MOST_NAMED])}"
            )
        return new

    def _windows(self, page: Page) -> Iterator[tuple[Window, Malformed]]:
        """A page's malformed records and the windows they belong to.

        One without a time belongs to the window of its neighbours. An export goes on after the range: a
        record among those of later windows is left to a later run. One later record before it is no proof of that.
        """
        latest = max((record.time for record in page.records), default=0)
        for number, malformed in enumerate(page.malformed, 1):
            time = malformed.time
            if time is None:
                near = self.job.span.start if malformed.near is None else malformed.near
                follows = malformed.position > number and not self.job.stream.paging.bounded
                follows = follows and (malformed.behind is None or malformed.behind >= self.job.span.end)
                if follows and self.job.span.end <= near <= latest:  # a record of the future is not among them
                    continue
                time = min(max(near, self.job.reach.start), self.job.reach.end - 1)
            yield Window.of(time), malformed

    def _put(self, window: Window, content: bytes, content_type: str) -> tuple[str, bool]:
        """The key that a record is stored under, and whether it is new there."""
        encoded = encode(content, compress=False)
        key = self.job.layout.quarantined(self.job.stream.name, window, encoded.sha256)
        store, checksum = self.store_for(window), encoded.checksum
        return key, store.put_new(key, content, checksum=checksum, content_type=content_type, notes=self.job.notes)

    def _put_malformed(self, window: Window, malformed: Malformed) -> tuple[str, bool]:
        return self._put(window, self._allowed(malformed), "application/octet-stream")

    def _allowed(self, malformed: Malformed) -> bytes:
        """A malformed record after redaction; a note without its content where the rules cannot be applied."""
        if self.job.redaction is None:
            return malformed.line
        with suppress(RedactionError):
            if malformed.is_json:
                return self.job.redaction.apply(malformed.line)[0]
        withheld = {"withheld": True, "bytes": len(malformed.line), "id": malformed.identity, "why": malformed.why}
        return msgspec.json.encode({MARK: withheld})
