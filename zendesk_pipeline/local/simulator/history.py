"""What exists in the simulated account, and from when to when it shows.

A history is a function of its options alone. It is made hour by hour and only as far as the simulated clock has
come, so whenever a server starts, the same past gives the same records, and asking later shows more of them.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from threading import RLock
from typing import NamedTuple
from zlib import crc32

AUDIT_LOGS = "audit_logs"
TICKETS = "incremental_tickets"
ACCESS_LOGS = "access_logs"
TICKET_EVENTS = "incremental_ticket_events"
USERS = "incremental_users"
ORGANIZATIONS = "incremental_organizations"
METRIC_EVENTS = "ticket_metric_events"
SIMULATED = (AUDIT_LOGS, TICKETS, ACCESS_LOGS, TICKET_EVENTS, USERS, ORGANIZATIONS, METRIC_EVENTS)

HOUR = 3600
DAY = 86400
FOREVER = 1 << 62
AI_AGENT_SHARE = 0.05
DELETED_SHARE = 0.06
HIDDEN_SECONDS = 60  # the export holds back the most recent minute


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOptions:
    """What the account looks like. Times are epoch seconds, shares are 0..1.

    Attributes:
        seed: Another seed, another account.
        since: Nothing happened before; a whole hour.
        audit_logs_per_hour: Records of an hour that is not empty.
        tickets_per_hour: Tickets created in an hour that is not empty; their later changes come on top.
        ticket_bytes: About the size of one ticket record.
        plain_text: Whether texts are plain English; else they are of many scripts, with escapes.
        bulk_update: Old tickets changed in one single second a day, 0 for none.
        changes_per_ticket: Mean number of later changes; each one replaces the state the export showed before.
        further_per_hour: Records of an hour of each of the other streams; users' and organizations' changes on top.
        empty_hours: Share of hours without any record, for each stream by itself.
        late_share: Share of the audit logs, access logs and metric events that show late, not within a few seconds.
        late_by: The most seconds they are late.
        cut_texts: Share of the tickets and audit logs with a text that was cut inside an emoji.
        audit_log_bytes: About the size of one audit log; 0 for a usual one.
    """

    seed: int = 1
    since: int
    audit_logs_per_hour: int = 40
    tickets_per_hour: int = 150
    ticket_bytes: int = 2000
    plain_text: bool = False
    bulk_update: int = 2500
    changes_per_ticket: float = 0.6
    further_per_hour: int = 60
    empty_hours: float = 0.05
    late_share: float = 0.02
    late_by: int = 3000
    cut_texts: float = 0
    audit_log_bytes: int = 0


class Entry(NamedTuple):
    """One record's place in time; its text is made from this when it is asked for.

    `at` is its event time (audit log: created_at, ticket: generated_timestamp, and so on). It shows in answers while
    visible_from <= now < visible_until. `raw` is the text of a record that was given, not made.
    """

    at: int
    id: int
    visible_from: int
    visible_until: int = FOREVER
    created: int = 0
    version: int = 0
    deleted: bool = False
    ai_agent: bool = False
    raw: bytes | None = None

    def visible(self, now: float) -> bool:
        """Whether an answer given now shows it."""
        return self.visible_from <= now < self.visible_until

    def ever_visible(self, now: float) -> bool:
        """Whether any answer given up to now could have shown it."""
        return self.visible_from <= now and self.visible_from < self.visible_until


def place(entry: Entry) -> tuple[int, int]:
    """What records are ordered by, and what a cursor names."""
    return entry.at, entry.id


class Timeline:
    """One stream's entries in order, by hour."""

    def __init__(self, first_hour: int, make: Callable[[int], Iterable[Entry]]) -> None:
        """`make` gives what an hour brings: entries of that hour, or of later ones."""
        self._make = make
        self._next_hour = first_hour
        self._made: dict[int, list[Entry]] = {}
        self._shown: dict[int, list[Entry]] = {}
        self._states: dict[int, list[Entry]] | None = None
        """What the hours hold of each record, in order; None until a record is put in after a change of the hours."""
        self._lock = RLock()

    def grow(self, now: float) -> None:
        """Make every hour up to the one that holds `now`."""
        with self._lock:
            while self._next_hour * HOUR <= now:
                for entry in self._make(self._next_hour):
                    self._made.setdefault(entry.at // HOUR, []).append(entry)
                    self._states = None
                self._made.setdefault(self._next_hour, []).sort(key=place)
                self._next_hour += 1

    def after(self, position: tuple[int, int], now: float) -> Iterator[Entry]:
        """Entries past a position, oldest first, whether they show or not."""
        for hour in self._hours(now):
            if hour >= position[0] // HOUR:
                bucket = self._bucket(hour)
                yield from bucket[bisect_right(bucket, position, key=place) :]

    def before(self, position: tuple[int, int], now: float) -> Iterator[Entry]:
        """Entries ahead of a position, newest first, whether they show or not."""
        for hour in reversed(self._hours(now)):
            if hour <= position[0] // HOUR:
                bucket = self._bucket(hour)
                yield from reversed(bucket[: bisect_left(bucket, position, key=place)])

    def add(self, entry: Entry) -> None:
        """Put in a record by hand; of one ticket's records, each hides those with an earlier time."""
        with self._lock:
            self._insert(entry)
            for older, newer in pairwise([*self._states_of(entry.id)]):
                replaced_at = min(older.visible_until, _replaces_at(newer))
                self._replace(older, older._replace(visible_until=replaced_at))

    def forget_added(self) -> None:
        """Back to what was made."""
        with self._lock:
            self._shown.clear()
            self._states = None

    def keep_added(self) -> None:
        """Make what was added part of the history."""
        with self._lock:
            self._made |= self._shown
            self._shown.clear()

    def _hours(self, now: float) -> list[int]:
        with self._lock:
            self.grow(now)
            return sorted(hour for hour in self._made.keys() | self._shown.keys() if hour * HOUR <= now)

    def _bucket(self, hour: int) -> list[Entry]:
        return self._shown.get(hour) or self._made.get(hour, [])

    def _all(self) -> Iterator[list[Entry]]:
        return (self._bucket(hour) for hour in self._made.keys() | self._shown.keys())

    def _own_bucket(self, hour: int) -> list[Entry]:
        """The hour's list as a copy that may differ from what was made."""
        self.grow(hour * HOUR)
        return self._shown.setdefault(hour, list(self._made.get(hour, [])))

    def _insert(self, entry: Entry) -> None:
        insort(self._own_bucket(entry.at // HOUR), entry, key=place)
        if self._states is not None:
            insort(self._states.setdefault(entry.id, []), entry, key=place)

    def _replace(self, old: Entry, new: Entry) -> None:
        for entries in (self._own_bucket(old.at // HOUR), self._states_of(old.id)):
            entries[entries.index(old)] = new

    def _states_of(self, record: int) -> list[Entry]:
        if self._states is None:
            self._states = {}
            for bucket in self._all():
                for entry in bucket:
                    insort(self._states.setdefault(entry.id, []), entry, key=place)
        return self._states[record]


def _replaces_at(entry: Entry) -> int:
    """When a ticket's state ousts the one before: with its change, unless it was told to show at a time of its own."""
    return entry.at if entry.visible_from == entry.at + HIDDEN_SECONDS else entry.visible_from


def is_empty(options: HistoryOptions, stream: str, hour: int) -> bool:
    """Whether an hour was drawn to hold no record of the stream."""
    drawn = crc32(f"{options.seed}/{stream}/{hour}".encode()) / (1 << 32)
    bulk = stream == TICKETS and options.bulk_update > 0 and bulk_second(options, hour * HOUR // DAY) // HOUR == hour
    return drawn < options.empty_hours and not bulk


def bulk_second(options: HistoryOptions, day: int) -> int:
    """The second (epoch) in which a day's bulk update happens."""
    return day * DAY + crc32(f"{options.seed}/bulk/{day}".encode()) % DAY


def seconds_of_hour(rng: Random, count: int) -> list[int]:
    """Times within an hour, in order: both edges, a burst within one second, the rest anywhere."""
    edges = [0, HOUR - 1][:count]
    burst = [rng.randrange(HOUR)] * min(1 + count // 20, count - len(edges))
    rest = count - len(edges) - len(burst)
    return sorted(edges + burst + [rng.randrange(HOUR) for _ in range(rest)])


def audit_logs_of_hour(options: HistoryOptions, hour: int) -> Iterator[Entry]:
    """The audit logs created in an hour; some of them show late."""
    if is_empty(options, AUDIT_LOGS, hour):
        return
    rng = Random(f"{options.seed}/{AUDIT_LOGS}/{hour}")
    for number, second in enumerate(seconds_of_hour(rng, options.audit_logs_per_hour)):
        at = hour * HOUR + second
        late = rng.random() < options.late_share
        delay = rng.randint(min(60, options.late_by), options.late_by) if late else rng.randint(0, 3)
        identity = 28_900_000_000_000 + hour * 1_000_000 + number * 19 + rng.randrange(19)
        yield Entry(at=at, id=identity, visible_from=at + delay, created=at)


class TicketMaker:
    """The tickets created in each hour, with every change they will ever see.

    Called once for each hour, in order: ids count up.
    """

    def __init__(self, options: HistoryOptions) -> None:
        self._options = options
        self._next_id = 5_000_000  # ids below are tickets older than the history: bulk updates change those

    def __call__(self, hour: int) -> Iterator[Entry]:
        """All states of the tickets that came into being in an hour, and the day's bulk update."""
        yield from self._bulk(hour)
        if is_empty(self._options, TICKETS, hour):
            return
        rng = Random(f"{self._options.seed}/{TICKETS}/{hour}")
        for second in seconds_of_hour(rng, self._options.tickets_per_hour):
            self._next_id += 1
            yield from self._states(rng, self._next_id, hour * HOUR + second)

    def _states(self, rng: Random, ticket: int, created: int) -> Iterator[Entry]:
        ai_agent = rng.random() < AI_AGENT_SHARE
        times = [created, *self._change_times(rng, created)]
        deleted = rng.random() < DELETED_SHARE
        for version, at in enumerate(times):
            last = version == len(times) - 1
            yield Entry(
                at=at,
                id=ticket,
                visible_from=at + HIDDEN_SECONDS,
                visible_until=FOREVER if last else times[version + 1],
                created=created,
                version=version,
                deleted=deleted and last,
                ai_agent=ai_agent,
            )

    def _change_times(self, rng: Random, created: int) -> Iterator[int]:
        """Increasing times of change: soon, within hours or within days; never in an hour drawn empty."""
        mean, at = self._options.changes_per_ticket, created
        while rng.random() < mean / (1 + mean):
            at += 1 + int(rng.expovariate(1 / rng.choice((200, 200, 4 * HOUR, 4 * HOUR, 2 * DAY))))
            if not is_empty(self._options, TICKETS, at // HOUR):
                yield at

    def _bulk(self, hour: int) -> Iterator[Entry]:
        """Old tickets changed all at once; a block of its own each day, so no bulk update hides another."""
        day = hour * HOUR // DAY
        at = bulk_second(self._options, day)
        if at // HOUR != hour:
            return
        first = 1 + (day * self._options.bulk_update) % 4_000_000
        for ticket in range(first, first + self._options.bulk_update):
            created = at - 30 * DAY - ticket % DAY
            yield Entry(at=at, id=ticket, visible_from=at + HIDDEN_SECONDS, created=created, version=1)
