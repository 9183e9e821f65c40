"""Histories of records, runs, faults and crashes that hypothesis draws; after every run the promise has to hold.

`model` says how they are played in one process and what must hold. `soak` does the like with real processes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, product
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from msgspec.structs import replace as replace_fields

from zendesk_pipeline.delivery import batches
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.ledger import Delivered, Ledger
from zendesk_pipeline.delivery.ledger_store import LedgerStore, StoredLedger
from zendesk_pipeline.delivery.quarantine import Quarantine
from zendesk_pipeline.delivery.unnamed_objects import UnnamedObjects
from zendesk_pipeline.delivery.window_storage import OpenWindow, WindowStorage
from zendesk_pipeline.delivery.window_writer import Delivery
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline.local.simulator.faults import MALFORMED, Rule
from zendesk_pipeline.model.paging import CursorList, Params
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, TimeRange, Window
from zendesk_pipeline.zendesk.page_order import PageOrder
from zendesk_pipeline.zendesk.settled_range import SettledRange
from zendesk_pipeline.zendesk.walk import Walk
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.fakes.memory_s3 import MemoryBucket, MemoryS3, Trouble
from zendesk_pipeline_tests.promise.histories import BEGIN, LONGEST_LINE, Run, World

T = TypeVar("T")
NumberOf = Callable[[str], int | None]
"""The sequence number that a key of the window has."""

EXAMPLES, THOROUGH = 300, 3000
STEPS = 14

SECONDS = st.sampled_from([0, HOUR - 1, HOUR // 2 - 1, HOUR // 2, 1234, 1234])
"""Of an hour: both its ends, its middle (where a look-back of half an hour begins), and one that many records share."""
LENGTHS = st.sampled_from([3, 3, 3, 60, 1000])
"""Of a record's text; the longest is too long for a line."""
DELAYS = st.sampled_from([0, 0, 0, 90, 3000, 5000, 3 * HOUR])
"""Until an audit log shows: at once, within the look-back, or later than it reaches."""


def _mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    return st.sampled_from([usual] * (2 * len(others) + 2) + [*others])


def _paged(stream: Stream, size: int) -> Stream:
    return replace(stream, page_size=size)


def _last_hours(back: int, hours: int) -> Span:
    return Span(-back * HOUR, (hours - back) * HOUR)


FAULTS = st.builds(
    Rule,
    kind=st.sampled_from(["status", "reset", "truncate", "html", "empty_object"])
    | st.sampled_from(["empty_page", "repeat_cursor", "repeat_record", "repeat_record"])
    | st.sampled_from(["early_record", "early_record", "early_page", "stale"])
    | st.sampled_from(["malformed_record", "malformed_record", "malformed_page"]),
    form=st.sampled_from([*MALFORMED]),
    seconds=st.just(6 * HOUR),
    code=st.sampled_from([503, 504, 502, 429]),
    retry_after=st.sampled_from([None, "seconds:7"]),
    larger_than=st.sampled_from([0, 0, 1, 3]),
    times=st.integers(1, 3),
    skip=st.integers(0, 3),
).map(lambda rule: replace_fields(rule, times=1) if rule.kind == "early_page" else rule)
"""Zendesk's. The client here tries each request twice, and so survives some of them.

Of pages that stand before their turn there is one in a row: what more of them can do to an export, ADR 17 says.
"""
TROUBLES: st.SearchStrategy[Trouble] = st.sampled_from([
    "crash before", "crash after", "error before", "error after", "outage", "sent twice", "conflict", "meanwhile",
])  # fmt: skip
NUMBERS = st.integers(0, 12)
"""Of the request to S3 that meets the trouble."""
RUNS = st.builds(
    Run,
    stream=st.builds(_paged, st.sampled_from([*COLLECTED.values()]), st.sampled_from([1, 2, 5, 100])),
    span=st.builds(_last_hours, st.integers(0, 3), st.integers(1, 4)),
    early=_mostly(0, 700, 2000),
    lookback=_mostly(HOUR, 0, HOUR // 2, 2 * HOUR),
    batch_bytes=_mostly(200, 400, 8 << 20),
    envelope=st.booleans(),
    compress=st.booleans(),
    max_pages=_mostly(None, 2),
    exclusive=st.booleans(),
    order=_mostly("as_asked", "newest_first", "hours_mixed"),
    lag=_mostly(0, 20 * 60, 2 * HOUR),
    tick=_mostly(0, 1, 40, 700),
    skew=_mostly(0, -100, 100),
    turns=st.integers(0, 1000),
)
"""Their ranges are relative to the hour that it is."""
FRESH = st.sampled_from([0, 2, 9])
"""Records created in the windows that a run is going to read."""


class Histories(RuleBasedStateMachine):
    """One history, and at its end a run over all of it that nothing disturbs."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.broken = False

    @rule(back=st.integers(-1, 3), second=SECONDS, count=st.integers(1, 5), delay=DELAYS, length=LENGTHS)
    def audit_logs_are_created(self, back: int, second: int, count: int, delay: int, length: int) -> None:
        at = max(BEGIN, self._hour - back * HOUR) + second
        for _ in range(count):
            self.world.add_audit_log(at, delay, length)

    @rule(numbers=st.sets(st.integers(1, 6), min_size=1), ahead=st.integers(0, 1), second=SECONDS, length=LENGTHS)
    def tickets_change(self, numbers: set[int], ahead: int, second: int, length: int) -> None:
        for number in sorted(numbers):
            self.world.change_ticket(number, self._hour + ahead * HOUR + second, length)

    @rule(seconds=st.sampled_from([30, 100, 700, HOUR, 5 * HOUR]))
    def time_passes(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule(keep=st.integers(0, 3))
    def the_feed_deletes_what_it_has_read(self, keep: int) -> None:
        feed = self.world.feed()
        self.world.feed_deletes(feed[: len(feed) - keep])

    @rule(run=RUNS, fresh=FRESH)
    def a_run(self, run: Run, fresh: int) -> None:
        self._execute(run, fresh)

    @rule(run=RUNS, fresh=FRESH, trouble=TROUBLES, at=NUMBERS)
    def a_run_while_s3_is_in_trouble(self, run: Run, fresh: int, trouble: Trouble, at: int) -> None:
        self._execute(replace(run, trouble=trouble, at=at), fresh)

    @rule(
        run=RUNS,
        fresh=st.sampled_from([4, 9]),
        faults=st.lists(FAULTS, min_size=1, max_size=2, unique_by=lambda rule: rule.kind),
    )
    def a_run_while_zendesk_is_in_trouble(self, run: Run, fresh: int, faults: list[Rule]) -> None:
        stream = _paged(run.stream, min(run.stream.page_size, 5))  # for more than one page
        self._execute(replace(run, stream=stream, faults=tuple(faults)), fresh)

    @rule(run=RUNS, trouble=_mostly("nothing", "crash after", "error after", "meanwhile"), at=NUMBERS)
    def a_run_that_redelivers(self, run: Run, trouble: Trouble, at: int) -> None:
        self._execute(replace(run, redeliver=True, trouble=trouble, at=at))

    @rule(
        run=RUNS,
        fresh=FRESH,
        at=NUMBERS,
        back=st.integers(0, 1),
        crash=_mostly(None, 2, 5),
        stirred=st.sampled_from([0, 3]),
    )
    def two_runs_at_once(self, run: Run, fresh: int, at: int, back: int, crash: int | None, stirred: int) -> None:
        span = self._span(run)
        other = replace(run, span=Span(max(BEGIN, span.start - back * HOUR), span.end), turns=run.turns + 1)
        if crash is not None:
            other = replace(other, trouble="crash after", at=crash)
        if stirred:
            other = replace(other, tick=1)
        self._execute(replace(run, trouble="meanwhile", at=at, other=other, stirred=stirred), fresh)

    def teardown(self) -> None:
        """Whatever happened, a run over all of it makes it exact."""
        if not self.broken:
            for stream in COLLECTED.values():
                self.world.execute(Run(stream=stream, span=Span(BEGIN, self._hour + 2 * HOUR)))

    def _execute(self, run: Run, fresh: int = 0) -> None:
        run = replace(run, span=self._span(run))
        for number in range(fresh):
            at = run.span.start + len(run.span) * HOUR * number // fresh
            length = 3 if number % 3 else 70  # so that batches are full at different sizes
            self.world.add_audit_log(at, 0, length)
            self.world.change_ticket(number, at, length)
        if fresh:  # and one behind the range, which shows by the time that it is read
            self.world.change_ticket(fresh, run.span.end + 30, 3)
        self.broken = True
        self.world.execute(run)
        self.broken = False

    def _span(self, run: Run) -> Span:
        start = max(BEGIN, self._hour + run.span.start)
        return Span(start, start + len(run.span) * HOUR)

    @property
    def _hour(self) -> int:
        return Window.of(self.world.now).start


def _settings(examples: int, **others: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        **others,
    )


@pytest.fixture(autouse=True)
def _short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest line is a short one."""
    monkeypatch.setattr(batches, "LONGEST_LINE", LONGEST_LINE)


def test_the_promise_holds_in_every_history(request: pytest.FixtureRequest) -> None:
    """Whatever happens in whatever order: what is finished was sent, nothing is sent twice, nothing is foreign.

    Every test run tries the same histories, with --thorough ten times as many and new ones.
    """
    thorough = request.config.getoption("--thorough")
    examples = THOROUGH if thorough else EXAMPLES
    run_state_machine_as_test(Histories, settings=_settings(examples, derandomize=not thorough))


def test_a_record_that_was_malformed_alone_on_its_page_comes_with_the_next_look() -> None:
    """It is whole in quarantine, where it is told of; the run over all of it, at the end, shows it as it is."""
    history = Histories()
    faults = [Rule(kind="malformed_page", times=1)]
    run = Run(stream=_paged(COLLECTED["audit_logs"], 1), span=_last_hours(0, 1), batch_bytes=200)
    history.a_run_while_zendesk_is_in_trouble(run=run, fresh=4, faults=faults)
    assert any(each.key.startswith("long/") for each in history.world.bucket.writes)
    history.teardown()


def test_two_runs_at_once_write_what_one_would_write() -> None:
    """Whenever the second run begins, and in whatever order objects land: over the same source, the same objects."""
    alone = _objects(TICKETS_OF_AN_HOUR)

    assert len(alone) > 5
    assert _objects_of_two() == {alone}


TICKETS_OF_AN_HOUR = Run(stream=COLLECTED["incremental_tickets"], span=Span(BEGIN, BEGIN + HOUR), batch_bytes=200)


def _objects_of_two() -> set[frozenset[str]]:
    """What two runs at once write, for many moments at which the second begins and orders of their writers."""
    run = TICKETS_OF_AN_HOUR
    return {
        _objects(replace(run, turns=turns, trouble="meanwhile", at=at, other=replace(run, turns=turns + 1)))
        for turns, at in product(range(12), range(2, 12))
    }


def _objects(run: Run) -> frozenset[str]:
    """The bucket after a run over an hour with tickets of several sizes, of which one is too long for a line."""
    world = World()
    for number, length in enumerate([3, 60, 3, 3, 60, 3, 1000, 3, 3]):
        world.change_ticket(number, BEGIN + 60 * number, length)
    world.execute(run)
    return frozenset(world.bucket.objects)


# The model can fail


def _ledger_first(patch: pytest.MonkeyPatch) -> None:
    """The ledger is written before the objects that it names."""
    commit, waiting = WindowStorage.commit, defaultdict[tuple[Any, Window], list[Any]](list)

    def put(self: Any, window: Window, batch: batches.Batch, numbers: Iterator[int]) -> Delivered:
        job, encoded = self._job, batches.encode(batch.content(), compress=self._job.form.compress)
        key = job.layout.batch(job.stream.name, window, next(numbers), encoded.sha256, job.form.suffix)
        waiting[self, window].append((key, encoded))
        return Delivered(key=key, sha256=encoded.sha256, bytes=len(encoded.body), identities=batch.identities)

    def committed(self: Any, opened: OpenWindow, *, finished: bool) -> None:
        commit(self, opened, finished=finished)
        for key, encoded in waiting.pop((self, opened.window), []):
            self._job.store.put_new(key, encoded.body, checksum=encoded.checksum, content_type="")

    patch.setattr(WindowStorage, "put", put)
    patch.setattr(WindowStorage, "commit", committed)


def _no_adoption(patch: pytest.MonkeyPatch) -> None:
    """What a crash left in the feed is not looked at."""

    def adopt(*_: object) -> None:
        return None

    patch.setattr(UnnamedObjects, "_adopted", adopt)


def _no_lookback(patch: pytest.MonkeyPatch) -> None:
    """Late records are read and not delivered."""

    patch.setattr(DeliveryJob, "reach", property(lambda job: job.span))


def _complete_too_early(patch: pytest.MonkeyPatch) -> None:
    """A run that fails takes every window that it has begun for complete."""
    commit = WindowStorage.commit

    def committed(self: Any, opened: OpenWindow, **_: bool) -> None:
        commit(self, opened, finished=opened.window in self._job.span)

    patch.setattr(WindowStorage, "commit", committed)


def _blind_ledgers(patch: pytest.MonkeyPatch) -> None:
    """A ledger is replaced whatever another run has written."""

    def put_over(self: Any, key: str, body: bytes, _: str | None) -> str | None:
        return self._put(key, body, {})

    patch.setattr(Store, "put_over", put_over)


def _exact_ends(patch: pytest.MonkeyPatch) -> None:
    """Zendesk is asked for the range itself, without the second more at both ends."""
    params = CursorList.params

    def asked(self: CursorList, wanted: TimeRange, cursor: str | None, size: int) -> Params:
        return params(self, TimeRange(wanted.start + 1, wanted.end - 1), cursor, size)

    patch.setattr(CursorList, "params", asked)


def _impatience(patch: pytest.MonkeyPatch) -> None:
    """A window is read before it has settled."""

    def had_to_wait(*_: object) -> bool:
        return False

    patch.setattr(SettledRange, "_wait", had_to_wait)


def _last_record_as_proof(patch: pytest.MonkeyPatch) -> None:
    """What is earlier than the last record of a page counts as read."""
    pages = Walk.pages

    def proving(self: Walk) -> Iterator[Page]:
        for page in pages(self):
            yield replace(page, passed=page.records[-1].time) if page.records else page

    patch.setattr(Walk, "pages", proving)


def _one_record_as_end(patch: pytest.MonkeyPatch) -> None:
    """An export is left at the first record behind the range."""
    patch.setattr(PageOrder, "ended", property(lambda order: order.behind > 0))


def _old_pages_believed(patch: pytest.MonkeyPatch) -> None:
    """Only the first page's `Date` is looked at."""

    def settled(*_: object) -> bool:
        return True

    patch.setattr(SettledRange, "_is_still_settled", settled)


def _nothing_taken_back(patch: pytest.MonkeyPatch) -> None:
    """A record of a window that was finished is delivered late; so it is where the order alone is a proof."""

    def let_it_be(*_: object) -> None:
        """Do nothing."""

    _last_record_as_proof(patch)
    patch.setattr(Delivery, "_take_back", let_it_be)


def _malformed_dropped(patch: pytest.MonkeyPatch) -> None:
    """What cannot be delivered is left out without a word."""

    def let_it_go(*_: object) -> tuple[()]:
        return ()

    patch.setattr(Quarantine, "malformed", let_it_go)


def _empty_page_as_end(patch: pytest.MonkeyPatch) -> None:
    """A page without records ends the walk."""
    following = CursorList.following

    def ended(self: CursorList, page: Any) -> tuple[bool, str | None]:
        more, cursor = following(self, page)
        return more and bool(page.records), cursor

    patch.setattr(CursorList, "following", ended)


def _feed_as_memory(patch: pytest.MonkeyPatch) -> None:
    """What the feed has deleted was never delivered."""
    read_ledger = LedgerStore.read

    def read(self: LedgerStore, window: Window) -> StoredLedger:
        stored = read_ledger(self, window)
        feed = self.store.keys(self.layout.day(window))
        there = [delivered for delivered in stored.ledger.objects if delivered.key in feed]
        return replace(stored, ledger=replace_fields(stored.ledger, objects=there))

    patch.setattr(LedgerStore, "read", read)


def _objects_written_over(patch: pytest.MonkeyPatch) -> None:
    """Objects are put without a condition."""

    def put_new(self: Any, key: str, body: bytes, **_: str) -> bool:
        return bool(self._put(key, body, {}))

    patch.setattr(Store, "put_new", put_new)


def _lost_races_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What another run wrote into a ledger in between is dropped."""

    def merged(self: Ledger, _: Ledger) -> Ledger:
        return self

    patch.setattr(Ledger, "merged", merged)


def _known_once_opened(patch: pytest.MonkeyPatch) -> None:
    """A record that comes twice within a run is sent twice."""
    _with_opened(patch, lambda opened, _: setattr(opened, "known", _Unchanging(opened.known)))


def _numbers_go_up(patch: pytest.MonkeyPatch) -> None:
    """Objects are numbered from the highest number found."""

    def renumber(opened: OpenWindow, number_of: NumberOf) -> None:
        objects = [*opened.stored.ledger.objects, *opened.unnamed]
        taken = (number_of(delivered.key) for delivered in objects)
        opened.numbers = count(1 + max((number for number in taken if number is not None), default=-1))

    _with_opened(patch, renumber)


def _batches_run_on(patch: pytest.MonkeyPatch) -> None:
    """A batch goes on where another run's object lies in between."""
    _with_opened(patch, lambda opened, _: setattr(opened, "adopted", _Hiding(opened.adopted)))


class _Unchanging(set[str]):
    def add(self, element: str, /) -> None:
        """Learn nothing."""


class _Hiding(set[str]):
    def __contains__(self, _: object) -> bool:
        return False


def _with_opened(patch: pytest.MonkeyPatch, change: Callable[[OpenWindow, NumberOf], object]) -> None:
    """Have each window changed as soon as it is open."""
    read_window = WindowStorage.read

    def read(self: Any, window: Window) -> OpenWindow:
        opened, job = read_window(self, window), self._job
        change(opened, lambda key: job.layout.sequence(key, job.stream.name, window))
        return opened

    patch.setattr(WindowStorage, "read", read)


SHOWN_BY_ZENDESK = {
    _known_once_opened,
    _empty_page_as_end,
    _last_record_as_proof,
    _one_record_as_end,
    _old_pages_believed,
    _nothing_taken_back,
    _malformed_dropped,
}
"""What is seen only where Zendesk does what it should not."""
_STEPS = {name for name in vars(Histories) if not name.startswith("_")} - {"teardown"}


def _histories_of_trouble_with_zendesk() -> type[Histories]:
    """Histories of one step alone: some of all there are, and a tenth of the time until one shows what is broken."""
    others = _STEPS - {"a_run_while_zendesk_is_in_trouble"}
    return cast("type[Histories]", type("Histories", (Histories,), dict.fromkeys(others)))


@pytest.mark.parametrize(
    "broken",
    [
        _ledger_first,
        _no_adoption,
        _no_lookback,
        _complete_too_early,
        _blind_ledgers,
        _lost_races_forgotten,
        _objects_written_over,
        _feed_as_memory,
        _known_once_opened,
        _exact_ends,
        _impatience,
        _empty_page_as_end,
        _last_record_as_proof,
        _one_record_as_end,
        _old_pages_believed,
        _nothing_taken_back,
        _malformed_dropped,
    ],
)
def test_a_broken_pipeline_is_found(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None], request: pytest.FixtureRequest
) -> None:
    """Whatever the promise rests on, taken away: some history shows that it is missing.

    Which histories come first changes with any constant of the code, so some need more than a test run tries. What
    Zendesk alone shows is looked for where Zendesk is in trouble; with --thorough in all histories, as the rest is.
    """
    broken(monkeypatch)
    alone = broken in SHOWN_BY_ZENDESK and not request.config.getoption("--thorough")
    histories = _histories_of_trouble_with_zendesk() if alone else Histories
    budget = _settings(THOROUGH, derandomize=True, phases=[Phase.generate], print_blob=False)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(histories, settings=budget)


@pytest.mark.parametrize("broken", [_numbers_go_up, _batches_run_on])
def test_two_runs_that_do_not_write_the_same_are_found(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """Each of the two things that make a second run write the same objects is needed for it."""
    broken(monkeypatch)

    with pytest.raises(AssertionError, match="was sent 2 times, 1 are right"):
        _objects_of_two()


# The S3 in memory

KEYS = st.sampled_from(["a", "b"])
BODIES = st.sampled_from([b"1\n", b"2\n"])
STEPS_AT_S3 = st.lists(
    st.tuples(st.sampled_from(["new", "new", "over", "get", "list", "delete"]), KEYS, BODIES, st.integers(0, 3)),
    min_size=4,
    max_size=12,
)


@pytest.fixture(scope="module")
def prefixes() -> Iterator[str]:
    return (f"model-{number}/" for number in count())


@given(steps=STEPS_AT_S3)
@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_s3_in_memory_is_like_real_ones(
    s3: LocalS3, moto: LocalS3, prefixes: Iterator[str], steps: list[tuple[str, str, bytes, int]]
) -> None:
    """Conditions hold and fail in memory as they do at SeaweedFS and at moto, which answers as AWS does."""
    bucket, prefix, memory = MemoryBucket(), next(prefixes), cast("Any", MemoryS3)
    stores: list[tuple[Store, Callable[[str], object]]] = [
        (
            Store(client=memory(bucket), bucket="memory", encryption={}, sleep=lambda _: None),
            lambda key: bucket.objects.pop(key, None),
        ),
        *(_real(server) for server in (s3, moto)),
    ]
    told = [_told(store, delete, prefix, steps) for store, delete in stores]

    assert told == [told[0]] * 3


def _real(server: LocalS3) -> tuple[Store, Callable[[str], object]]:
    client = server.client()

    def delete(key: str) -> object:
        return client.delete_object(Bucket=server.bucket, Key=key)

    return Store(client=client, bucket=server.bucket, encryption={}), delete


def _told(
    store: Store, delete: Callable[[str], object], prefix: str, steps: list[tuple[str, str, bytes, int]]
) -> list[object]:
    """What a store answers to each step; versions by their number, since each server has names of its own."""
    versions: list[str | None] = [None]
    told: list[object] = []
    for action, name, body, choice in steps:
        key = prefix + name
        match action:
            case "new":
                checksum = batches.encode(body, compress=False).checksum
                told.append(store.put_new(key, body, checksum=checksum, content_type="text/plain"))
            case "over":
                version = store.put_over(key, body, versions[choice % len(versions)])
                told.append(version is not None)
                versions += [version] if version else []
            case "get":
                found = store.get(key)
                told.append(found and found.body)
                versions += [found.version] if found else []
            case "list":
                told.append(store.keys(prefix))
            case _:
                delete(key)
    return told
