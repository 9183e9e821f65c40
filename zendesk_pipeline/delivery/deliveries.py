"""What was delivered since an earlier look, by the ledgers. Only those are read that were written since.

A ledger does not say when each of its objects was delivered. So what it held at the look before is remembered, and the
rest is new. What was in it before anybody looked is told from what is new by the times of the objects in the feed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.delivery.ledger_store import LedgerStore, of_each
from zendesk_pipeline.delivery.object_keys import is_batch
from zendesk_pipeline.model.windows import DAY, HOUR, Window

BACK = 2 * DAY
"""Seconds before a count begins, whose windows are looked at when it does: the comparison delivers into them."""
OVERLAP = 300
"""Seconds that a list of ledgers may take, in which others are written."""

Held = Mapping[str, int]
"""Logs in the ledger of each window, by the number of its hour since the epoch (as JSON takes it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenLedger:
    """A ledger that was written since the look before."""

    window: Window
    at: float
    """When, seconds since the epoch."""
    logs: int
    """What it holds now."""
    new: int
    """What it did not hold then."""
    known: bool = True
    """Whether that can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliveries:
    """What one stream has delivered. `logs` says of an object how many logs it is for SecOps."""

    ledgers: LedgerStore
    logs: Callable[[Delivered], int]

    def at_first(self, now: float) -> list[WrittenLedger]:
        """The ledgers of the last two days, nothing in them being new."""
        listed = [(window, at) for window, at in self._listed() if window.end > now - BACK]
        return [
            WrittenLedger(window=window, at=at, logs=self._sum(objects), new=0)
            for (window, at), objects in zip(listed, self._objects(listed), strict=True)
        ]

    def since(self, newest: float, held: Held, *, start: float) -> list[WrittenLedger]:
        """What was written since a look, which left `held` and saw `newest`; `start` is when the first look was."""
        listed = [(window, at) for window, at in self._listed() if at > newest - OVERLAP]
        objects = self._objects(listed)
        return [self._new(window, at, each, held, start) for (window, at), each in zip(listed, objects, strict=True)]

    def _new(self, window: Window, at: float, objects: list[Delivered], held: Held, start: float) -> WrittenLedger:
        logs, before = self._sum(objects), held.get(hour_of(window))
        if before is not None:
            return WrittenLedger(window=window, at=at, logs=logs, new=max(0, logs - before))
        if window.end > start:
            return WrittenLedger(window=window, at=at, logs=logs, new=logs)
        day = self.ledgers.layout.day(window)
        stored = {entry.key: entry.modified for entry in self.ledgers.store.listing(day)}
        gone = [each for each in objects if each.key not in stored]
        recent = window.end > start - BACK  # it had no ledger then
        new = [each for each in objects if stored.get(each.key, start if recent else 0.0) >= start]
        return WrittenLedger(window=window, at=at, logs=logs, new=self._sum(new), known=recent or not gone)

    def _listed(self) -> Iterable[tuple[Window, float]]:
        layout, stream = self.ledgers.layout, self.ledgers.stream
        for entry in self.ledgers.store.listing(layout.ledgers(stream)):
            if window := layout.window_of_ledger(entry.key, stream):
                yield window, entry.modified

    def _objects(self, listed: Iterable[tuple[Window, float]]) -> list[list[Delivered]]:
        """What each ledger names under the feed prefix; what the recipe wrote before is not ours to count."""
        feed = self.ledgers.layout.feed

        def read(window: Window) -> list[Delivered]:
            return [each for each in self.ledgers.read(window).ledger.objects if is_batch(each.key, feed)]

        return of_each(read, [window for window, _ in listed])

    def _sum(self, objects: Iterable[Delivered]) -> int:
        return sum(map(self.logs, objects))


def hour_of(window: Window) -> str:
    """The window as `Held` names it."""
    return str(window.start // HOUR)
