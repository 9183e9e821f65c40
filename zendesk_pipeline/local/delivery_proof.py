"""The delivery promise, checked from outside: the bytes in the bucket against what the simulated Zendesk has.

The pipeline's own code for reading is not used: objects are what a LIST of the feed shows, lines are compared as
bytes, and identities come from Python's own JSON reader. Only whether a window is complete is read from its ledger.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.ledger import Ledger
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window

if TYPE_CHECKING:
    from zendesk_pipeline.local.simulator.control import SimulatorControl


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One stream and range of windows: what Zendesk shows, and what is in S3."""

    at_source: int
    """Records that Zendesk shows now."""
    in_s3: int
    missing: int
    """Shown by Zendesk now and not in S3, byte for byte."""
    repeated: int
    """Lines whose identity is in S3 already."""
    foreign: int
    """Lines in S3 that Zendesk never showed."""
    misplaced: int
    """Lines in the object of another window than that of their event time."""
    replaced: int
    """Ticket states in S3 that Zendesk has replaced since: still right."""
    unseen: int
    """Ticket states that are not in S3 because Zendesk replaced them before their window was read."""
    objects: int
    complete: int
    """Windows that were read to their end."""
    windows: int

    @property
    def holds(self) -> bool:
        """Whether every record is there once, in its window, and nothing else."""
        wrong = self.missing + self.repeated + self.foreign + self.misplaced
        return not wrong and self.complete == self.windows


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """How much of a range is collected."""

    windows: int
    """Complete ones."""
    records: int
    """In complete windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One stream in the bucket."""

    stream: Stream
    store: Store
    layout: Layout
    _complete: dict[Window, int] = field(default_factory=dict[Window, int])
    """Records of the windows found complete: these are not read again."""

    def objects(self, span: Span) -> list[str]:
        """The keys in the feed that belong to the range."""
        keys = self.store.keys(self.layout.feed)
        return [key for key in keys if f"-zendesk-{self.stream.name}-" in key and self.window(key) in span]

    def lines(self, key: str) -> Iterator["StoredLine"]:
        """The lines of an object, read on the spot."""
        stored, window = self.store.get(key), self.window(key)
        for content in stored.body.split(b"\n")[:-1] if stored else []:
            record = json.loads(content)
            at = record[self.stream.event_time]
            seconds = at if isinstance(at, int) else datetime.fromisoformat(at).timestamp()
            identity = tuple(record[name] for name in self.stream.identity)
            yield StoredLine(content=content, identity=identity, at_home=window.start <= seconds < window.end)

    def ledger(self, window: Window) -> Ledger | None:
        """What the window's ledger says by now."""
        stored = self.store.get(self.layout.ledger(self.stream.name, window))
        return ledgers.decode(stored.body) if stored else None

    def progress(self, span: Span) -> Collected:
        """What the ledgers of the range say by now."""
        stored = set(self.store.keys(self.layout.ledgers(self.stream.name)))
        for window in span:
            if window in self._complete or self.layout.ledger(self.stream.name, window) not in stored:
                continue
            if (ledger := self.ledger(window)) and ledger.complete:
                self._complete[window] = len(ledger.identities())
        records = [count for window, count in self._complete.items() if window in span]
        return Collected(windows=len(records), records=sum(records))

    def window(self, key: str) -> Window:
        """The window that an object's key names."""
        year, month, day, name = key.removeprefix(self.layout.feed).split("/")
        return Window(int(datetime(int(year), int(month), int(day), int(name[:2]), tzinfo=UTC).timestamp()))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLine:
    """One line of an object."""

    content: bytes
    identity: tuple[Any, ...]
    at_home: bool
    """Whether its event time is in the window that the object's key names."""


def prove(bucket: Bucket, span: Span, zendesk: "SimulatorControl") -> Proof:
    """Read every object of the range and compare."""
    keys = bucket.objects(span)
    lines = [line for key in keys for line in bucket.lines(key)]
    shown, ever = (set(zendesk.source(bucket.stream.name, span.start, span.end, ever=ever)) for ever in (False, True))
    contents = {line.content for line in lines}
    return Proof(
        at_source=len(shown),
        in_s3=len(lines),
        missing=len(shown - contents),
        repeated=len(lines) - len({line.identity for line in lines}),
        foreign=len(contents - ever),
        misplaced=sum(not line.at_home for line in lines),
        replaced=len((contents & ever) - shown),
        unseen=len(ever - shown - contents),
        objects=len(keys),
        complete=bucket.progress(span).windows,
        windows=len(span),
    )
