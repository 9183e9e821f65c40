"""Source, ledgers and objects of a past range, compared window by window. Reads only."""

import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from zendesk_pipeline import ledger as ledgers
from zendesk_pipeline.errors import ProtocolError
from zendesk_pipeline.inspection import IN_FLIGHT, Inspector
from zendesk_pipeline.keys import is_ours
from zendesk_pipeline.ledger import Ledger
from zendesk_pipeline.pages import Page
from zendesk_pipeline.programs import called
from zendesk_pipeline.store import Listed
from zendesk_pipeline.windows import HOUR, Span, Window

Kind = Literal[
    "no_ledger",
    "incomplete",
    "unreadable_ledger",
    "not_delivered",
    "not_at_source",
    "object_differs",
    "unnamed_object",
    "repeated",
    "in_two_windows",
]

MOST_OF_A_RUN = 4000
"""Windows. Dagster (1.13.27) notes each check of a run for each window in one statement, eight values a window, and
SQLite takes 32,766 values at once where it was not built for more: https://www.sqlite.org/limits.html ."""


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
    """One window, looked at again."""

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
    sent_again: int = 0
    """Records beyond the first of each identity that a redelivery sent on purpose."""
    differences: tuple[Difference, ...] = ()


def by_window(pages: Iterable[Page], span: Span) -> Iterator[tuple[Window, set[str]]]:
    """The identities that a walk shows of each window of its span, in order, each as soon as it is proven to be passed.

    Raises what the walk does, and ProtocolError where a record comes after that.
    """
    shown: dict[Window, set[str]] = {}
    ahead = deque(span)
    for page in pages:
        for record in page.records:
            window = Window.of(record.time)
            if window not in span:
                continue
            if window not in shown and (not ahead or window < ahead[0]):
                raise ProtocolError(f"Zendesk shows a record of {window} behind later ones: look again.")
            shown.setdefault(window, set()).add(record.identity)
        while ahead and ahead[0].end <= page.passed:
            window = ahead.popleft()
            yield window, shown.pop(window, set())
    for window in ahead:
        yield window, shown.pop(window, set())


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
    """Looks at one stream's windows, one after another in ascending order."""

    inspector: Inspector
    reads: Callable[[Window], bool]
    """Whether the objects of a window are read again; names and sizes are compared for all."""
    _seen: Seen = field(default_factory=Seen)
    _day: tuple[str, dict[str, Listed]] = ("", {})

    def look(self, window: Window, shown: set[str] | None) -> WindowReport:
        """Compare a window with what Zendesk shows of it (None: not asked). Raises what the store does."""
        listed = self._listed(window)
        try:
            ledger = self._ledger(window)
        except ValueError as problem:
            wrong = Difference(kind="unreadable_ledger", text=f"its ledger cannot be read ({problem})")
            return WindowReport(window=window, at_source=_size(shown), differences=(wrong,))
        if ledger is None:
            wrong = Difference(kind="no_ledger", text="no ledger: the window was never collected")
            ledger = ledgers.empty(self.inspector.stream.name, window)
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
        elsewhere = self._seen.elsewhere(identities, window)
        found = (
            wrong,
            _records("not_delivered", (shown or set()) - identities, "not delivered", "that Zendesk shows"),
            _records("not_at_source", () if states else lost, "no longer at Zendesk", "of its ledger"),
            *objects,
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
            sent_again=again,
            differences=tuple(filter(None, found)),
        )

    def _ledger(self, window: Window) -> Ledger | None:
        """Raises ValueError where it cannot be read, and DeniedError: who may not look must not say "missing"."""
        name, inspector = self.inspector.stream.name, self.inspector
        stored = inspector.store.get(inspector.layout.ledger(name, window))
        return ledgers.decode(stored.body, ledgers.empty(name, window)) if stored else None

    def _listed(self, window: Window) -> dict[str, Listed]:
        """What lies in the feed of the window's day; one listing covers it."""
        day = self.inspector.layout.day(window)
        if self._day[0] != day:
            self._day = (day, {entry.key: entry for entry in self.inspector.store.listing(day)})
        return self._day[1]

    def _objects(self, window: Window, ledger: Ledger, listed: dict[str, Listed]) -> tuple[list[Difference], int]:
        """How the objects differ from what the ledger says, and how many are gone."""
        found: list[Difference] = []
        gone = 0
        for delivered in ledger.objects:
            entry, uri = listed.get(delivered.key), self.inspector.store.uri(delivered.key)
            if entry is None and is_ours(delivered.key):
                gone += 1
            elif entry is not None and entry.size != delivered.bytes:
                text = f"{uri} has {entry.size:,} bytes, its ledger says {delivered.bytes:,}"
                found.append(Difference(kind="object_differs", text=text))
            elif self.reads(window):
                texts = self.inspector.wrong_lines(window, delivered)
                gone += texts is None
                found += [Difference(kind="object_differs", text=f"{uri} {text}") for text in texts or ()]
        return found, gone

    def _unnamed(self, window: Window, ledger: Ledger, listed: dict[str, Listed]) -> Iterator[Difference]:
        """Objects that a crash left, or somebody else put there."""
        named = {delivered.key for delivered in ledger.objects}
        for key, entry in listed.items():
            of_window = self.inspector.layout.sequence(key, self.inspector.stream.name, window) is not None
            if of_window and key not in named and entry.modified < self.inspector.now - IN_FLIGHT:
                yield Difference(kind="unnamed_object", text=f"{self.inspector.store.uri(key)} is in no ledger")


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


def backfills(stream: str, span: Span, account: str = "") -> list[str]:
    """The commands that collect a range, run by run; of a named account, in the project that describes it."""
    starts = range(span.start, span.end, MOST_OF_A_RUN * HOUR)
    return [_backfill(stream, Span(start, min(span.end, start + MOST_OF_A_RUN * HOUR)), account) for start in starts]


def _backfill(stream: str, span: Span, account: str) -> str:
    first, last = Window(span.start).partition_key, Window(span.end - HOUR).partition_key
    which = f"--partition {first}" if first == last else f'--partition-range "{first}...{last}"'
    if account:
        return f"{called('dg')} launch --assets key:{account}/{stream} {which}"
    return f"{called('dagster')} asset materialize -m zendesk_pipeline.definitions --select {stream} {which}"
