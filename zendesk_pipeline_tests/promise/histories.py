"""The pipeline in one process that does the same for the same choices, and what must hold after each of its runs.

Walk, client, transport, delivery and store are the real ones. Where they meet the world stand the simulator's own
functions (an adapter of `requests` in a socket's place), an S3 in memory (in boto3's client's place), and one thread
whose tasks take turns by a seeded draw. So a history of runs that crash takes milliseconds and can be played again.
"""

import gzip
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from random import Random
from typing import Any, Literal, ParamSpec, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from zendesk_pipeline.delivery import writers
from zendesk_pipeline.delivery.batches import BatchFormat
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.delivery.window_writer import Delivery
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, EMAIL
from zendesk_pipeline.local.simulator.faults import MALFORMED, Rule
from zendesk_pipeline.local.simulator.further_records import ulid
from zendesk_pipeline.local.simulator.history import Entry, HistoryOptions
from zendesk_pipeline.local.simulator.messages import Request
from zendesk_pipeline.local.simulator.settings import Settings
from zendesk_pipeline.local.simulator.source import Source
from zendesk_pipeline.local.simulator.zendesk import Zendesk
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.rate_budgets import BUDGETS
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline.zendesk import parallel_walk
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import ApiToken
from zendesk_pipeline.zendesk.rate_limits import RateLimiter
from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline.zendesk.walk import Walk
from zendesk_pipeline_tests.fakes.memory_s3 import Around, CrashError, MemoryBucket, MemoryS3, Trouble, Write, troubled

P = ParamSpec("P")
T = TypeVar("T")

BEGIN = Window.of_partition("2026-11-12-20:00").start
"""Nothing happened before; a few hours on is the midnight that parts two listings."""
SETTLE = 300
LONGEST_LINE = 1_600
"""In the place of SecOps' 4 MB, so that a record that is too long is still a small one."""
LAYOUT = Layout(feed="crm/", state="state/", quarantine="long/")


# Threads that take turns


class _Turn(Future[T]):
    """What a task gives; asking for it gives tasks their turns until it is there."""

    turns: "Turns"

    def result(self, timeout: float | None = None) -> T:
        self.turns.until(self.done)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.turns.until(self.done)
        return super().exception(timeout)


class Turns:
    """Stands for a delivery's thread pool and for its semaphore; a seed decides in which order tasks run."""

    def __init__(self, seed: int, room: int) -> None:
        self._random = Random(seed)
        self._tasks: list[Callable[[], None]] = []
        self._room = room

    def submit(self, task: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        turn = _Turn[T]()
        turn.turns = self

        def run() -> None:
            try:
                turn.set_result(task(*args, **kwargs))
            except BaseException as problem:  # noqa: BLE001  # as a thread pool does
                turn.set_exception(problem)

        self._tasks.append(run)
        while self._tasks and self._random.random() < 0.5:
            self._next()
        return turn

    def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._next()

    def acquire(self) -> None:
        self.until(lambda: self._room > 0)
        self._room -= 1

    def release(self) -> None:
        self._room += 1

    def shutdown(self) -> None:
        self.until(lambda: not self._tasks)

    def _next(self) -> None:
        """A task that one of the threads would have begun by now."""
        self._tasks.pop(self._random.randrange(min(writers.WRITERS, len(self._tasks))))()


# Zendesk without a socket


class _InProcess(BaseAdapter):
    """Carries requests to the simulator's functions; each takes `tick` seconds by its clock."""

    def __init__(self, zendesk: Zendesk, tick: int) -> None:
        super().__init__()
        self._zendesk, self._tick = zendesk, tick
        self.walk_began = 0.0
        """When the first page was asked for, for the last time."""
        self._first: list[tuple[str, str]] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        zendesk, parts = self._zendesk, urlsplit(str(request.url))
        zendesk.clock = zendesk.now() + self._tick
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        asked = Request(method=str(request.method), path=parts.path, query=parts.query, headers=headers)
        place = [pair for pair in asked.pairs if pair[0] not in {"per_page", "page[size]"}]
        self._first = self._first or place
        answer, rule = zendesk.answer(asked)
        if place == self._first and not (rule and rule.kind == "stale"):
            self.walk_began = zendesk.now()
        if rule and rule.kind == "reset":
            raise requests.ConnectionError
        body = answer.body[: len(answer.body) // 2] if rule and rule.kind == "truncate" else answer.body
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update([*zendesk.headers(asked, rule), *answer.headers])
        response.raw = HTTPResponse(io.BytesIO(body), status=answer.status, preload_content=False)
        return response

    def close(self) -> None:
        """Nothing is open."""


# Runs

EXPORTS = ("incremental_tickets", "incremental_ticket_events", "ticket_metric_events")
Order = Literal["as_asked", "newest_first", "hours_mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as Dagster would start it, what goes wrong in it, and when it happens."""

    stream: Stream
    """Its page size may be any."""
    span: Span
    early: int = 0
    """Seconds by which it comes too early, if the range has not settled already."""
    lookback: int = HOUR
    batch_bytes: int = 8 << 20
    envelope: bool = False
    compress: bool = False
    redeliver: bool = False
    max_pages: int | None = None
    exclusive: bool = False
    """Whether Zendesk leaves out the ends of its filter."""
    order: Order = "as_asked"
    """In which Zendesk lists audit logs, whatever it was asked for."""
    lag: int = 0
    """Seconds by which the exports are behind."""
    tick: int = 0
    """Seconds that each request to Zendesk takes; the source goes on changing in them."""
    skew: int = 0
    """Seconds that this machine's clock is ahead of Zendesk's."""
    faults: tuple[Rule, ...] = ()
    """Zendesk's."""
    trouble: Trouble = "nothing"
    """S3's."""
    at: int = 0
    """The request to S3 that meets it."""
    other: "Run | None" = None
    """What runs from beginning to end "meanwhile"; the feed deletes all it has read, if None."""
    stirred: int = 0
    """How many records are created just before the other run."""
    turns: int = 0
    """Decides in which order the writers get their turns."""

    @property
    def looks_back(self) -> int:
        return self.lookback if self.stream.shows_late else 0

    @property
    def form(self) -> BatchFormat:
        return BatchFormat(
            items=self.stream.items, envelope=self.envelope, compress=self.compress, limit=self.batch_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a run."""

    run: Run
    finished: list[Window]
    """Reported as such."""
    tallies: Mapping[Window, Tally]
    failure: BaseException | None
    began: float
    """Zendesk's time when the first page was made; 0 if there was none."""
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A record as Zendesk shows it."""

    at: int
    raw: bytes


class World:
    """A Zendesk, a bucket, and the time."""

    def __init__(self) -> None:
        options = HistoryOptions(
            since=BEGIN, audit_logs_per_hour=0, tickets_per_hour=0, bulk_update=0, further_per_hour=0
        )
        self.zendesk = Zendesk(Source(options), Settings(account_limit=1 << 40), frozen_at=float(BEGIN))
        self.bucket = MemoryBucket()
        self.records: dict[tuple[str, str], Shown] = {}
        """All there ever were, by stream and identity."""
        self.deleted_unnamed: list[str] = []
        """Objects that the feed deleted while no ledger named them: the exception of the promise."""
        self._numbers = itertools.count(1)
        self._changed: dict[int, int] = {}

    # Zendesk

    @property
    def now(self) -> int:
        return int(self.zendesk.now())

    def wait(self, seconds: float) -> None:
        self.zendesk.clock = self.zendesk.now() + seconds

    def add_audit_log(self, at: int, delay: int, length: int) -> None:
        """An audit log that shows so many seconds after its time, and not before now."""
        number = next(self._numbers)
        raw = _text_cut(number, {"id": number, "created_at": timestamp(at), "change_description": "ü" * length})
        self.records["audit_logs", str(number)] = Shown(at=at, raw=raw)
        self.zendesk.source.add("audit_logs", [raw], max(at + delay, self.now + 1))

    def add_event(self, stream: str, at: int, delay: int) -> None:
        """A record of a stream of events that shows so many seconds after its time, and not before now."""
        number = next(self._numbers)
        identity = ulid(at * 1000, number) if stream == "access_logs" else str(number)
        record: Mapping[str, object] = {
            "access_logs": {"id": identity, "timestamp": timestamp(at)},
            "incremental_ticket_events": {"id": number, "timestamp": at, "child_events": [{"id": number}]},
            "ticket_metric_events": {"id": number, "time": timestamp(at)},
        }[stream]
        raw = _json(record)
        self.records[stream, identity] = Shown(at=at, raw=raw)
        self.zendesk.source.add(stream, [raw], max(at + delay, self.now + 1))

    def add_user(self, at: int, delay: int) -> None:
        """A user whose `updated_at` is so many seconds before the time that the export lists and shows them at."""
        number = next(self._numbers)
        raw = _json({"id": number, "updated_at": timestamp(at)})
        self.records["incremental_users", f"{number}:{at}"] = Shown(at=at, raw=raw)
        listed = at + delay
        self.zendesk.source.add("incremental_users", [raw], max(listed + 60, self.now + 1), listed_at=listed)

    def change_ticket(self, number: int, at: int, length: int) -> None:
        """A new state of a ticket, which hides the one before."""
        at = max(at, self.now + 1, self._changed.get(number, 0) + 1)
        self._changed[number] = at
        raw = _text_cut(number, {"id": number, "subject": "é" * length, "generated_timestamp": at})
        self.records["incremental_tickets", f"{number}:{at}"] = Shown(at=at, raw=raw)
        self.zendesk.source.add("incremental_tickets", [raw], None)

    def shown(self, stream: str, *moments: float) -> dict[str, Shown]:
        """The records that show at all of these moments, by identity."""
        seen = [self.zendesk.settings.shown_at(stream, moment) for moment in moments]
        entries = self._entries(stream, max(seen))
        return {i: self.records[stream, i] for i, entry in entries if all(map(entry.visible, seen))}

    def shown_within(self, stream: str, began: float, ended: float) -> set[str]:
        """The identities of the records that show at some moment of a run."""
        began, ended = (self.zendesk.settings.shown_at(stream, moment) for moment in (began, ended))
        entries = self._entries(stream, ended)
        return {i for i, entry in entries if entry.visible_from <= ended and entry.visible_until > began}

    def changes(self, stream: str, began: float, ended: float) -> bool:
        """Whether Zendesk shows something else at one moment of a run than at another."""
        began, ended = (self.zendesk.settings.shown_at(stream, moment) for moment in (began, ended))
        moments = (at for _, entry in self._entries(stream, ended) for at in (entry.visible_from, entry.visible_until))
        return any(began < moment <= ended for moment in moments)

    def _entries(self, stream: str, now: float) -> Iterator[tuple[str, Entry]]:
        for entry in self.zendesk.source.after(stream, (0, 0), now):
            if stream == "incremental_tickets":
                yield f"{entry.id}:{entry.at}", entry
            else:
                identity = _IDENTITY[stream][1]
                yield str(entry.id) if stream == "audit_logs" else identity(json.loads(entry.raw or b"")), entry

    # S3

    def feed(self) -> list[str]:
        """What lies in the feed."""
        return sorted(key for key in self.bucket.objects if key.startswith(LAYOUT.feed))

    def feed_deletes(self, keys: Iterable[str]) -> None:
        """SecOps has read these objects and deletes them."""
        named = self.seen().named
        for key in keys:
            del self.bucket.objects[key]
            if key not in named:
                self.deleted_unnamed.append(key)

    def seen(self) -> "Seen":
        """The bucket as it is now."""
        ledgers = [_ledger(body) for key, body in self.bucket.objects.items() if key.startswith(LAYOUT.state)]
        return Seen(
            ledgers={(ledger.stream, ledger.window): ledger for ledger in ledgers},
            feed=frozenset(self.feed()),
            writes=len(self.bucket.writes),
            deletions=len(self.deleted_unnamed),
        )

    # Runs

    def execute(self, run: Run) -> list[Outcome]:
        """Do a run, and the other in the middle of it, if any; raises AssertionError where a promise is broken."""
        self.wait(max(0, run.span.end + SETTLE - run.early - self.zendesk.now()))
        self.zendesk.faults.clear()
        self.zendesk.faults.add(run.faults)
        ends = "exclusive" if run.exclusive else "inclusive"
        lag = dict.fromkeys(EXPORTS, run.lag)
        self.zendesk.change_settings({"filter_ends": ends, "audit_log_order": run.order, "lag": lag})
        before = self.seen()
        outcomes = self._run(run)
        Judgement(self, before, outcomes).judge()
        return outcomes

    def _run(self, run: Run) -> list[Outcome]:
        others: list[Outcome] = []

        def meanwhile() -> None:
            if run.other is None:
                self.feed_deletes(self.feed())
                return
            for number in range(run.stirred):
                self.add_audit_log(run.span.start + number, 0, 3)
                self.change_ticket(number, 0, 3)
            others.extend(self._run(run.other))

        clock = Clock(now=lambda: self.zendesk.now() + run.skew, monotonic=self.zendesk.now, sleep=self.wait)
        zendesk, failure = _InProcess(self.zendesk, run.tick), None
        delivery = self._delivery(run, clock, troubled(run.trouble, run.at, meanwhile))
        try:
            with delivery:
                for page in parallel_walk.pages(_walk(run, clock, zendesk)):
                    delivery.take(page)
        except (PipelineError, CrashError) as problem:
            failure = problem
        outcome = Outcome(
            run=run,
            finished=[] if isinstance(failure, CrashError) else delivery.finished,
            tallies=delivery.tallies,
            failure=failure,
            began=zendesk.walk_began,
            ended=self.zendesk.now(),
        )
        return [outcome, *others]

    def _delivery(self, run: Run, clock: Clock, around: Around) -> Delivery:
        client: Any = MemoryS3(self.bucket, run, around)
        job = DeliveryJob(
            stream=run.stream,
            span=run.span,
            lookback=run.looks_back,
            store=Store(client=client, bucket="memory", encryption={}, sleep=lambda _: None),
            layout=LAYOUT,
            form=run.form,
            redeliver=run.redeliver,
            clock=clock,
            warn=lambda _: None,
        )
        delivery = Delivery(job)
        turns: Any = Turns(run.turns, room=writers.IN_FLIGHT)
        delivery._writers.pool.shutdown()
        delivery._writers = writers.Writers(turns, turns)
        return delivery


def _walk(run: Run, clock: Clock, zendesk: _InProcess) -> Walk:
    transport = Transport(base_url="http://127.0.0.1", timeout=60, clock=clock)
    transport.session.mount("http://", zendesk)
    transport.session.trust_env = False
    client = ZendeskClient(
        transport=transport,
        credential=ApiToken(EMAIL, API_TOKEN),
        retries=1,
        limiters={budget: RateLimiter(clock=clock) for budget in BUDGETS},
        clock=clock,
    )
    return Walk(
        stream=run.stream,
        client=client,
        span=run.span,
        lookback=run.looks_back,
        settle=SETTLE,
        max_pages=run.max_pages,
        clock=clock,
    )


def _text_cut(number: int, record: Mapping[str, object]) -> bytes:
    """The record; in every fourth one the text ends in half of an emoji."""
    raw = _json(record)
    return re.sub(rb'(\xc3[\xbc\xa9])"', rb'\1\\ud83d"', raw) if number % 4 == 0 else raw


def _json(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


# The bucket, read without the code under test


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSeen:
    """A ledger."""

    stream: str
    window: Window
    complete: bool
    objects: Mapping[str, list[str]]
    """The identities in each object that it names."""


@lru_cache(10_000)
def _ledger(body: bytes) -> LedgerSeen:
    found = json.loads(gzip.decompress(body))
    names = [each["key"] for each in found["objects"]]
    assert len(names) == len(set(names)), "a ledger names an object twice"
    return LedgerSeen(
        stream=found["stream"],
        window=Window.of_partition(found["window"].replace("T", "-").removesuffix(":00Z")),
        complete=found["complete"],
        objects={each["key"]: each["identities"] for each in found["objects"]},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The bucket at one moment."""

    ledgers: Mapping[tuple[str, Window], LedgerSeen]
    feed: frozenset[str]
    writes: int
    """How many there had been."""
    deletions: int
    """How many objects the feed had deleted that no ledger named."""

    @property
    def named(self) -> set[str]:
        """The objects that ledgers name."""
        return {key for ledger in self.ledgers.values() for key in ledger.objects}

    def complete(self, stream: str, window: Window) -> bool:
        """Whether the window's ledger says so."""
        return (stream, window) in self.ledgers and self.ledgers[stream, window].complete


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSeen:
    """An object of the feed."""

    stream: str
    window: Window
    content: bytes
    identities: list[str]


def _epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


_KEY = re.compile(r"crm/(\d{4})/(\d\d)/(\d\d)/(\d\d)0000-zendesk-([a-z_]+)-\d{4}-[0-9a-f]{32}\.json(\.gz)?")
_IDENTITY: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "audit_logs": ("audit_logs", lambda record: f"{record['id']}"),
    "incremental_tickets": ("tickets", lambda record: f"{record['id']}:{record['generated_timestamp']}"),
    "access_logs": ("access_logs", lambda record: record["id"]),
    "incremental_ticket_events": ("ticket_events", lambda record: f"{record['id']}"),
    "ticket_metric_events": ("ticket_metric_events", lambda record: f"{record['id']}"),
    "incremental_users": ("users", lambda record: f"{record['id']}:{_epoch(record['updated_at'])}"),
}


@lru_cache(10_000)
def _object(key: str, body: bytes) -> ObjectSeen:
    match = _KEY.fullmatch(key)
    assert match, f"{key} is no key of the feed"
    year, month, day, hour, stream, zipped = match.groups()
    content = gzip.decompress(body) if zipped else body
    assert content.endswith(b"\n"), f"{key} does not end with its last line"
    items, identity = _IDENTITY[stream]
    values = [json.loads(line) for line in content[:-1].split(b"\n")]
    return ObjectSeen(
        stream=stream,
        window=Window.of_partition(f"{year}-{month}-{day}-{hour}:00"),
        content=content,
        identities=[identity(record) for value in values for record in value.get(items, [value])],
    )


def _seen(write: Write) -> ObjectSeen:
    return _object(write.key, write.body)


# What must hold


@dataclass(frozen=True)
class Judgement:
    """Whether a run, or two at once, kept what docs/delivery.md promises."""

    world: World
    before: Seen
    """The bucket when they began."""
    outcomes: Sequence[Outcome]

    def judge(self) -> None:
        """Raise AssertionError where a promise is broken."""
        for write in self.written:
            self._judge_object(write)
        self._judge_ledgers()
        self._judge_repeats()
        for window in {window for outcome in self.outcomes for window in outcome.run.span}:
            self._judge_completeness(window)
        for outcome in self.outcomes:
            self._judge_report(outcome)
            self._judge_memory(outcome)
        if len(self.outcomes) == 1:
            self._judge_tallies()
            self._judge_quarantine()

    @cached_property
    def run(self) -> Run:
        return self.outcomes[0].run

    @cached_property
    def stream(self) -> str:
        return self.run.stream.name

    @cached_property
    def after(self) -> Seen:
        return self.world.seen()

    @cached_property
    def written(self) -> list[Write]:
        """What was written into the feed."""
        writes = self.world.bucket.writes[self.before.writes :]
        return [write for write in writes if write.key.startswith(LAYOUT.feed)]

    @cached_property
    def sent(self) -> Counter[str]:
        """How often each identity was sent into the feed now."""
        return Counter(identity for write in self.written for identity in _seen(write).identities)

    @cached_property
    def ever_sent(self) -> set[str]:
        """What was sent, now or before, wherever it is by now."""
        keys = {write.key: write.body for write in self.world.bucket.writes if write.key.startswith(LAYOUT.feed)}
        objects = (_object(key, body) for key, body in keys.items())
        return {identity for each in objects if each.stream == self.stream for identity in each.identities}

    @cached_property
    def quarantined(self) -> set[bytes]:
        """What ever was written into quarantine."""
        return {each.body for each in self.world.bucket.writes if each.key.startswith(LAYOUT.quarantine)}

    @cached_property
    def withheld(self) -> set[bytes]:
        """Records that were shown alone on a page and without their times now, and are in quarantine: as they are."""
        writes = self.world.bucket.writes[self.before.writes :]
        bodies = {each.body for each in writes if each.key.startswith(LAYOUT.quarantine)}
        return {body.replace(b'"no_', b'"') for body in bodies if b'"no_' in body}

    @cached_property
    def shown_meanwhile(self) -> set[str]:
        """The identities of the records that Zendesk showed at some moment of the runs."""
        began = min(outcome.began for outcome in self.outcomes)
        return self.world.shown_within(self.stream, began, self.outcomes[0].ended)

    def _judge_object(self, write: Write) -> None:
        """It holds records that Zendesk showed just then, of one window, and nothing else."""
        seen = _seen(write)
        assert not write.over, f"{write.key} was written over"
        assert isinstance(write.by, Run)
        again = Span(Window.of(write.by.span.start - write.by.looks_back).start, write.by.span.start)
        assert seen.window in write.by.span or seen.window in again, f"{write.key} is none of the run's windows"
        for identity in seen.identities:
            assert identity in self.shown_meanwhile, f"{write.key} holds {identity}, which Zendesk did not show"
            record = self.world.records[self.stream, identity]
            assert Window.of(record.at) == seen.window, f"{write.key} holds {identity} of another window"
            long = len(record.raw) > LONGEST_LINE - 100
            whole = record.raw in seen.content or (long and record.raw in self.quarantined)
            assert whole, f"{write.key} does not hold {identity} as Zendesk showed it"

    def _judge_ledgers(self) -> None:
        """Ledgers name what was stored, just as it was, and forget nothing."""
        stored = {write.key: write.body for write in self.world.bucket.writes}
        for (stream, window), ledger in self.after.ledgers.items():
            for key, identities in ledger.objects.items():
                assert key in stored, f"a ledger names {key}, which was never stored"
                seen = _object(key, stored[key])
                assert (seen.stream, seen.window, seen.identities) == (stream, window, identities)
        for place, ledger in self.before.ledgers.items():
            now = self.after.ledgers[place]
            assert ledger.objects.keys() <= now.objects.keys(), f"the ledger of {place} forgot an object"
            assert ledger.complete <= now.complete, f"the ledger of {place} is no longer complete"

    def _judge_repeats(self) -> None:
        """What a ledger knows, or what lay in the feed all the time, is not sent again, and nothing is sent twice."""
        gone = self.world.deleted_unnamed[self.before.deletions :]
        bodies = {write.key: write.body for write in self.world.bucket.writes}
        safe = [_object(key, bodies[key]) for key in self.before.named | (self.before.feed - {*gone})]
        known = {identity for each in safe if each.stream == self.stream for identity in each.identities}
        for identity, count in self.sent.items():
            window = Window.of(self.world.records[self.stream, identity].at)
            again = self.run.redeliver and window in self.run.span
            most = 0 if identity in known and not again else self._copies
            assert count <= most, f"{identity} was sent {count} times, {most} are right"

    @cached_property
    def _copies(self) -> int:
        """How often an identity may be sent: more than once by two runs at once over a source that changes."""
        first, last = min(outcome.began for outcome in self.outcomes), self.outcomes[0].ended
        at_odds = self.run.looks_back % HOUR > 0 or self.world.changes(self.stream, first, last)
        return len(self.outcomes) if at_odds else 1

    def _judge_completeness(self, window: Window) -> None:
        """A window is complete only if all that was shown of it was sent."""
        if self.before.complete(self.stream, window) or not self.after.complete(self.stream, window):
            return
        readers = [outcome for outcome in self.outcomes if window in outcome.run.span]
        moments = [moment for outcome in readers for moment in (outcome.began, outcome.ended)]
        self._judge_sent(self.world.shown(self.stream, *moments), [window], self.ever_sent)

    def _judge_report(self, outcome: Outcome) -> None:
        """What a run reports as finished has settled and was sent, and a run that does not fail finishes all."""
        run, sent = outcome.run, self.sent.keys() if outcome.run.redeliver else self.ever_sent
        shown = self.world.shown(self.stream, outcome.began, outcome.ended)
        self._judge_sent(shown, outcome.finished, sent)
        assert not outcome.finished or outcome.began >= run.span.end + SETTLE, "read before it had settled"
        if outcome.failure is None:
            assert outcome.finished == list(run.span), "a run that did not fail left windows unfinished"
            late = {i: record for i, record in shown.items() if run.span.start - run.looks_back <= record.at}
            again = Span(Window.of(run.span.start - run.looks_back).start, run.span.start)
            self._judge_sent(late, [w for w in again if self.before.complete(self.stream, w)], self.ever_sent)

    def _judge_memory(self, outcome: Outcome) -> None:
        """What a run sent into a window that it finished is in the ledger, so that the feed may delete it."""
        sent = [write for write in self.written if write.by is outcome.run]
        finished = {write.key for write in sent if _seen(write).window in outcome.finished}
        assert finished <= self.after.named, "the ledger of a finished window lacks an object"

    def _judge_quarantine(self) -> None:
        """A malformed record that a run has met without failing lies in quarantine, as it was shown, and is counted."""
        outcome = self.outcomes[0]
        faults = self.world.zendesk.faults.shown()
        met = [rule for rule, each in zip(self.run.faults, faults, strict=True) if each["fired"]]
        answers_count = len(self.run.faults) == 1 and not (self.run.early or self.run.skew)
        if outcome.failure is None and answers_count and [rule.kind for rule in met] == ["malformed_record"]:
            stored = {body for key, body in self.world.bucket.objects.items() if key.startswith(LAYOUT.quarantine)}
            assert MALFORMED[met[0].form] in stored, "a malformed record was dropped"

    def _judge_sent(self, shown: Mapping[str, Shown], windows: Iterable[Window], sent: Iterable[str]) -> None:
        wanted = {*windows}
        due = {i for i, record in shown.items() if Window.of(record.at) in wanted and record.raw not in self.withheld}
        missing = due - {*sent}
        assert not missing, f"{self.stream} {missing} of {wanted} were shown and not sent"

    def _judge_tallies(self) -> None:
        """The numbers of a run's report are those of the bucket."""
        outcome, sent = self.outcomes[0], Counter[Window]()
        for write in self.written:
            sent[_seen(write).window] += len(_seen(write).identities)
        for window in outcome.finished:
            objects = self.after.ledgers[self.stream, window].objects
            tally = outcome.tallies[window]
            assert (tally.records, tally.total) == (sent[window], sum(map(len, objects.values())))
