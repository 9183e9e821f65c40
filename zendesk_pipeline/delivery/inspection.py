"""Does the bucket hold what the ledgers say, and nothing else?

Reads only. Each method yields findings; none means that nothing is wrong.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

import msgspec

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.batches import OTHER_BYTES, content_of, encode, examined, records_in
from zendesk_pipeline.delivery.bucket import Listed, Store
from zendesk_pipeline.delivery.ledger import Delivered, Ledger
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.delivery.object_keys import Layout, is_batch, is_ours
from zendesk_pipeline.delivery.recipe_keys import recipe_object
from zendesk_pipeline.delivery.tally import LEFT_OUT_SHARE
from zendesk_pipeline.model.errors import DeniedError
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Window

WEEKS = 4
"""The usual volume of an hour is that of the same hour in so many weeks before."""
FEWEST_WEEKS = 3
"""So many of these weeks have to be delivered: with one or two, a single odd week would be the usual."""
USUAL_ENOUGH = 20
"""Records; where fewer are usual, no hour is too quiet."""
IN_FLIGHT = 600
"""Seconds that an object may exist before a ledger names it: a run may be writing it."""
EMPTY_DAYS = 3
"""A stream without any record is a finding once so many days of windows are delivered."""
LONGEST_EMPTY_LEDGER = 16
"""Bytes by which one empty ledger may be longer than another; the name of an object takes a hundred."""
ASKED_AFTER, ASKED_BEFORE = 300, 60
"""Seconds after an hour's start and before its end: a window finished between them was asked for in that hour."""
SILENCE = 0.1
"""Less than this share of the usual volume is a finding."""
RECIPE_IS_OFF = 2 * HOUR
"""Seconds. The recipe writes every hour: an older object of it may be from before it was switched off."""
NO_LEDGER = "no ledger says that the window is complete"
MOST_NAMED = 3
"""Malformed records that a finding names."""
NEW_FIELDS, UNRULED_FIELDS = "new_fields", "unruled_fields"
"""Names in a run's metadata: fields and values seen first in a window; fields that go past the redaction rules."""
MOST_FIELDS_NAMED = 20
LEFT_OUT, TAKEN = ("older_than_asked", "ahead_of_the_clock"), ("delivered_by_this_run", "duplicates_removed")
"""Names in a run's metadata: records left out because of their time, and the others that Zendesk showed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a window, as a sentence."""

    window: Window
    text: str


@dataclass(slots=True, kw_only=True)
class Inspector:
    """Reads one stream's part of the bucket, each ledger once."""

    stream: Stream
    store: Store
    layout: Layout
    now: float
    """Seconds since the epoch."""
    reported: Mapping[Window, Mapping[str, object]] = field(default_factory=dict[Window, Mapping[str, object]])
    """The metadata that the latest run of a window has reported."""
    asked: Collection[float] = ()
    """Seconds since the epoch: times shortly before which the collector sent Zendesk a request."""
    _read: dict[Window, Ledger | None] = field(default_factory=dict[Window, Ledger | None])
    _day: tuple[str, Mapping[str, Listed]] = ("", {})

    @property
    def ledgers(self) -> LedgerStore:
        """Where the stream's ledgers are."""
        return LedgerStore(stream=self.stream.name, store=self.store, layout=self.layout)

    def ledger(self, window: Window) -> Ledger | None:
        """The window's ledger, if it has one; raises UnreadableLedgerError."""
        if window not in self._read:
            try:
                stored = self.ledgers.read(window)
            except DeniedError:  # without the right to list, S3 answers 403 for a missing object
                self._read[window] = None
            else:
                self._read[window] = stored.ledger if stored.version else None
        return self._read[window]

    def listed(self, window: Window) -> Mapping[str, Listed]:
        """What is in the feed of the window's day; one listing covers it."""
        day = self.layout.day(window)
        if self._day[0] != day:
            self._day = (day, {entry.key: entry for entry in self.store.listing(day)})
        return self._day[1]

    def of_other_size(self, ledger: Ledger, listed: Mapping[str, Listed]) -> dict[str, str]:
        """Objects whose size differs from the one in their ledger, by key, and how; deleted ones are left out."""
        return {
            each.key: f"{self.store.uri(each.key)} has {listed[each.key].size:,} bytes, its ledger says {each.bytes:,}"
            for each in ledger.objects
            if each.key in listed and listed[each.key].size != each.bytes
        }

    def in_no_ledger(self, window: Window, ledger: Ledger, listed: Mapping[str, Listed]) -> Iterator[str]:
        """Keys of the window's objects that its ledger does not name, without those that a run may be writing now."""
        named = {delivered.key for delivered in ledger.objects}
        for key, entry in listed.items():
            is_ours = self.layout.sequence(key, self.stream.name, window) is not None
            if is_ours and key not in named and entry.modified < self.now - IN_FLIGHT:
                yield key

    def objects(self, windows: Sequence[Window]) -> Iterator[Finding]:
        """Objects that differ from what the ledgers say, and ledgers that are missing or unfinished.

        A deleted object is no finding: a feed may delete what it has transferred.
        """
        for window in windows:
            listed, ledger = self.listed(window), self.ledger(window)
            if ledger is None or not ledger.complete:
                yield Finding(window, NO_LEDGER)
                continue
            yield from (
                Finding(window, text) for key, text in self.of_other_size(ledger, listed).items() if is_ours(key)
            )
            for key in self.in_no_ledger(window, ledger, listed):
                yield Finding(window, f"{self.store.uri(key)} is in no ledger")

    def lines(self, windows: Sequence[Window], *, most_bytes: float) -> Iterator[Finding]:
        """Objects whose lines differ from their ledger, or that the feed cannot read, newest windows first.

        Reads at most `most_bytes`. A deleted object is no finding.
        """
        for window in sorted(windows, reverse=True):
            ledger = self.ledger(window)
            for delivered in ledger.objects if ledger else []:
                most_bytes -= delivered.bytes
                if most_bytes < 0:
                    return
                for text in self.wrong_lines(window, delivered) or ():
                    yield Finding(window, f"{self.store.uri(delivered.key)} {text}")

    def left_out(self, windows: Sequence[Window]) -> Iterator[Finding]:
        """The first window with records left out because of their time, if the windows together have more than a few.

        Where Zendesk lists by another time, older records are usual: their change did not move the event time.
        """
        names = LEFT_OUT if self.stream.lists_by_event_time else LEFT_OUT[1:]
        left = {window: _sum(self.reported.get(window, {}), names) for window in windows}
        total = sum(left.values()) + sum(_sum(self.reported.get(window, {}), TAKEN) for window in windows)
        if sum(left.values()) > LEFT_OUT_SHARE * total:
            first = min(window for window, count in left.items() if count)
            text = (
                f"{sum(left.values()):,} of {total:,} records that Zendesk showed were left out because of their time"
            )
            yield Finding(first, text)

    def malformed(self, windows: Sequence[Window]) -> Iterator[Finding]:
        """Windows with malformed records, and where each of those is."""
        for window in windows:
            reported = self.reported.get(window, {})
            if count := _sum(reported, ["malformed"]):
                named = reported.get("malformed_records")
                ones = [str(each) for each in named][:MOST_NAMED] if isinstance(named, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # metadata
                text = f"{count:,} malformed records are in quarantine and not in the feed"
                yield Finding(window, ": ".join([text, *filter(None, ["; ".join(ones)])]))

    def new_fields(self, windows: Sequence[Window]) -> Iterator[Finding]:
        """Windows with fields or values that were never seen before, and fields that no redaction rule speaks of."""
        for window in windows:
            reported = self.reported.get(window, {})
            if new := _listed(reported.get(NEW_FIELDS)):
                yield Finding(window, f"seen for the first time: {new}")
            if unruled := _listed(reported.get(UNRULED_FIELDS)):
                text = f"no redaction rule speaks of these new fields, which are stored as they are: {unruled}"
                yield Finding(window, text)

    def own_requests(self, windows: Sequence[Window]) -> Iterator[Finding]:
        """Windows without a record in which the collector itself asked Zendesk, where each request makes a record.

        The hour before each window is checked too: its records may have come late.
        """
        before = {Window(window.start - HOUR) for window in windows}
        for window in sorted(before.union(windows)):
            if window.end + self.stream.late_by > self.now or self.records(window) != 0:
                continue
            if any(window.start + ASKED_AFTER <= at <= window.end - ASKED_BEFORE for at in self.asked):
                yield Finding(
                    window, "no record, although the collector itself asked Zendesk in this hour: the log is off"
                )

    def volume(self, windows: Sequence[Window]) -> Iterator[Finding]:
        """Windows with far fewer records than this hour of the week usually has; a stream that never had a record."""
        for window in windows:
            weeks = (Window(window.start - week * 7 * 24 * HOUR) for week in range(1, WEEKS + 1))
            earlier = [records for week in weeks if (records := self.records(week)) is not None]
            records, usual = self.records(window), median(earlier) if len(earlier) >= FEWEST_WEEKS else 0
            if records is not None and usual >= USUAL_ENOUGH and records < SILENCE * usual:
                yield Finding(window, f"{records} records, where this hour of the week usually has {usual:.0f}")
        newest = max(windows, default=None, key=lambda window: window.start)
        if newest is None or newest.end < self.now - EMPTY_DAYS * 24 * HOUR:
            return  # a backfill may begin long before the account did
        if all(self.records(window) == 0 for window in windows) and (count := self._all_empty(newest)):
            yield Finding(newest, f"not one record in this or any other of {count:,} windows")

    def _all_empty(self, window: Window) -> int:
        """How many ledgers the stream has, if none names an object and each hour of the last days has one; else 0.

        No ledger is read: its size shows whether it names an object. The first that does ends the listing.
        """
        expected = {Window(window.start - back * HOUR) for back in range(EMPTY_DAYS * 24)}
        blank = ledgers.encode(msgspec.structs.replace(ledgers.empty(self.stream.name, window), complete=True))
        count = 0
        try:
            for entry in self.store.listing(self.layout.ledgers(self.stream.name)):
                hour = self.layout.window_of_ledger(entry.key, self.stream.name)
                if hour is None:  # somebody else's
                    continue
                if entry.size > len(blank) + LONGEST_EMPTY_LEDGER:
                    return 0
                count += 1
                expected.discard(hour)
        except DeniedError:  # without the right to list, nothing can be said
            return 0
        return 0 if expected else count

    def records(self, window: Window) -> int | None:
        """How many records a complete window has; None for any other."""
        ledger = self.ledger(window)
        return len(ledger.identities()) if ledger and ledger.complete else None

    def wrong_lines(self, window: Window, delivered: Delivered) -> list[str] | None:
        """What is wrong with an object that the window's ledger names; None where it is deleted."""
        stored = self.store.get(delivered.key)
        if stored is None:
            return None
        if not is_ours(delivered.key):
            return self._wrong_page(window, delivered, stored.body)
        found = examined(self.stream, window, delivered.key, stored.body)
        if found.identities and found.identities != delivered.identities:
            others = [text for text in found.flaws if text != OTHER_BYTES]
            return [*others, "does not hold the records that its ledger says"]
        if found.flaws:
            return found.flaws
        differs = encode(content_of(delivered.key, stored.body), compress=False).sha256 != delivered.sha256
        return ["holds other bytes than its ledger says"] if differs else []

    def _wrong_page(self, window: Window, delivered: Delivered, body: bytes) -> list[str]:
        """The same for a page of the recipe's, which holds records of many windows in one line without a line end."""
        try:
            records = records_in(self.stream, content_of(delivered.key, body))
            here = {record.identity for record in records if Window.of(record.time) == window}
        except (ValueError, RecursionError, msgspec.MsgspecError):
            return ["holds something that is no record"]
        return [] if here.issuperset(delivered.identities) else ["does not hold the records that its ledger says"]

    def flaws(self, window: Window, key: str) -> list[str]:
        """Why an object that no ledger names is not ours; nothing where it may be ours, or is deleted."""
        try:
            stored = self.store.get(key)
        except DeniedError:
            return []
        return examined(self.stream, window, key, stored.body).flaws if stored else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What was found under the feed prefix."""

    objects: int
    bytes: int
    oldest: float | None
    """When the oldest of them was written, seconds since the epoch."""
    whole: bool
    """Whether everything was listed; else the oldest windows were."""
    foreign: Sequence[str]
    """Keys that are not ours: SecOps reads each of these objects as logs.

    What the recipe wrote before it was switched off is not among them.
    """


def feed(store: Store, layout: Layout, *, newest: Iterable[Window], most: int, now: float) -> Waiting:
    """List the feed: the first `most` objects, the days of the `newest` windows, and what sorts after the years."""
    listed = list(islice(store.listing(layout.feed), most + 1))
    first = listed[:most]
    behind_years = islice(store.listing(layout.feed, after=f"{layout.feed}:"), most)
    days = dict.fromkeys(layout.day(window) for window in newest)
    elsewhere = [] if len(listed) <= most else [*behind_years, *(each for day in days for each in store.listing(day))]
    others = {entry.key: entry for entry in (*first, *elsewhere) if not is_batch(entry.key, layout.feed)}
    ours: list[Listed] = [entry for entry in first if is_batch(entry.key, layout.feed)]
    return Waiting(
        objects=len(ours),
        bytes=sum(entry.size for entry in ours),
        oldest=min((entry.modified for entry in ours), default=None),
        whole=len(listed) <= most,
        foreign=[
            key
            for key, entry in others.items()
            if recipe_object(key, layout.feed) is None or entry.modified > now - RECIPE_IS_OFF
        ],
    )


def written_after(store: Store, layout: Layout, moment: float, windows: Iterable[Window]) -> list[float]:
    """When batches were written, of the days of some windows: those after a moment, the oldest first."""
    days = dict.fromkeys(layout.day(window) for window in windows)
    listed = (entry for day in days for entry in store.listing(day))
    return sorted(entry.modified for entry in listed if entry.modified > moment and is_batch(entry.key, layout.feed))


def _listed(names: object) -> str:
    if not isinstance(names, list):
        return ""
    every = [str(each) for each in names]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # metadata
    more = len(every) - MOST_FIELDS_NAMED
    return ", ".join(every[:MOST_FIELDS_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _sum(reported: Mapping[str, object], names: Iterable[str]) -> int:
    return sum(count for name in names if isinstance(count := reported.get(name, 0), int))
