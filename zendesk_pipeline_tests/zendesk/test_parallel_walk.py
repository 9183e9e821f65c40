"""Several cursors over one range: what they show is what one shows, within the same limit and a bound of memory.

Time is a `TickingClock`: whoever looks at it moves it on, so that requests take time without anybody waiting.
"""

import io
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.local.simulator.further_records import ulid
from zendesk_pipeline.local.simulator.history import HistoryOptions
from zendesk_pipeline.local.simulator.messages import Request
from zendesk_pipeline.local.simulator.settings import Settings
from zendesk_pipeline.local.simulator.source import Source
from zendesk_pipeline.local.simulator.zendesk import Zendesk
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PageLimitError, ProtocolError, RefusedError, TransientError
from zendesk_pipeline.model.paging import AccessLogList
from zendesk_pipeline.model.records import BYTES_BESIDE_A_LINE, Page
from zendesk_pipeline.model.streams import ACCESS_LOGS, AUDIT_LOGS, STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.zendesk import parallel_walk, range_parts
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.range_parts import (
    LONGEST_PART,
    MOST_CURSORS,
    MOST_PAGES_WAITING,
    PAGES_OF_A_PART,
    PARTS_PER_CURSOR,
    cursors_for,
)
from zendesk_pipeline.zendesk.rate_limits import MINUTE, RateLimiter
from zendesk_pipeline.zendesk.walk import Walk
from zendesk_pipeline_tests.asking import DAY, NOW, client_for, walk_with
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries, walk

HOURS = 6
SPAN = Span(DAY.start, DAY.start + HOURS * HOUR)
PATIENT = 1e6
"""The looks of other threads move the clock while a body is read: that is no body that takes too long."""
LONG = 30.0
"""Seconds after which a test that would hang fails instead."""


class TickingClock:
    """Each look at it moves it on by `tick` seconds, sleeping by what is slept; any thread may look."""

    def __init__(self, tick: float) -> None:
        self._time, self._tick, self._lock = float(NOW), tick, threading.Lock()
        self.clock = Clock(now=lambda: NOW, monotonic=lambda: self._pass(self._tick), sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self._pass(seconds)

    def _pass(self, seconds: float) -> float:
        with self._lock:
            self._time += seconds
            return self._time


class Kept(deque[float]):
    """The times of a limiter's requests, and all of them once more, since it forgets those of a minute ago."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[float] = []

    def append(self, x: float, /) -> None:
        self.all.append(x)
        super().append(x)

    def most_in_a_minute(self) -> int:
        """The most requests that any sixty seconds hold."""
        return max(sum(start <= at < start + MINUTE for at in self.all) for start in self.all)


@dataclass(slots=True)
class InProcess(BaseAdapter):
    """Carries requests to the simulator's functions, and counts those that are answered at the same time."""

    zendesk: Zendesk
    meet: threading.Barrier | None = None
    """Where the second and later requests wait for each other, until one finds nobody."""
    met: int = 0
    """How many did not wait in vain."""
    queries: list[list[tuple[str, str]]] = field(default_factory=list[list[tuple[str, str]]])

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        asked = Request(method="GET", path=parts.path, query=parts.query, headers=headers)
        self.queries.append(asked.pairs)
        if self.meet is not None and len(self.queries) > 1:
            with suppress(threading.BrokenBarrierError):
                self.meet.wait()
                self.met += 1
        answer, rule = self.zendesk.answer(asked)
        if rule and rule.kind == "reset":
            raise requests.ConnectionError
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update([*self.zendesk.headers(asked, rule), *answer.headers])
        response.raw = HTTPResponse(io.BytesIO(answer.body), status=answer.status, preload_content=False)
        return response

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A simulated account without a socket, and a client whose latency is four looks at the clock."""

    adapter: InProcess
    kept: Kept
    client: ZendeskClient

    def walk(self, stream: Stream = AUDIT_LOGS, *, max_pages: int | None = None, lookback: int = 0) -> Walk:
        return walk_with(self.client, stream, SPAN, lookback=lookback, max_pages=max_pages)


def _account(times: Sequence[int], *, tick: float = 0.2, share: float = 1.0, **switches: object) -> Account:
    """With an audit log at each of these seconds of the span."""
    nothing = HistoryOptions(since=DAY.end, audit_logs_per_hour=0, tickets_per_hour=0)
    source = Source(nothing)
    lines = [b'{"id":%d,"created_at":"%b"}' % (n, timestamp(SPAN.start + at).encode()) for n, at in enumerate(times)]
    limits = Settings(account_limit=100_000)
    zendesk = Zendesk(source, replace(limits, **switches), frozen_at=NOW)  # pyright: ignore[reportArgumentType]  # by name
    source.add("audit_logs", lines, None)
    clock, kept = TickingClock(tick).clock, Kept()
    limiters = {"account": RateLimiter(clock=clock, share=share, sent=kept), "export": RateLimiter(clock=clock)}
    limiters["access_logs"] = RateLimiter(clock=clock)
    client = client_for("http://127.0.0.1", clock, timeout=PATIENT, limiters=limiters)
    adapter = InProcess(zendesk)
    client.transport.session.mount("http://", adapter)
    return Account(adapter=adapter, kept=kept, client=client)


def _identities(pages: Iterator[Page]) -> list[str]:
    return [record.identity for page in pages for record in page.records]


def _once(identities: list[str]) -> list[str]:
    return list(dict.fromkeys(identities))


# What they show

BURSTS = st.lists(
    st.tuples(st.integers(-2, HOURS * HOUR + 1), st.integers(1, 90), st.sampled_from([0, 1, 3, 600, 7000])),
    min_size=1,
    max_size=8,
)
FAULTS = st.builds(
    Rule,
    kind=st.sampled_from(["status", "reset", "empty_page", "repeat_record", "html"]),
    code=st.sampled_from([503, 504, 429]),
    retry_after=st.sampled_from([None, "seconds:7"]),
    skip=st.integers(0, 9),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    bursts=BURSTS,
    size=st.integers(1, 9),
    tick=st.sampled_from([0.05, 0.3, 2.0]),
    ends=st.sampled_from(["inclusive", "exclusive"]),
    faults=st.lists(FAULTS, max_size=2, unique_by=lambda rule: rule.kind),
)
def test_several_cursors_show_what_one_shows(
    bursts: list[tuple[int, int, int]], size: int, tick: float, ends: str, faults: list[Rule]
) -> None:
    """Whatever the history and wherever it is cut: the same records in the same order, each once.

    Parts begin and end anywhere, within a crowded second as well; empty pages, repeated records, refusals and smaller
    pages change nothing.
    """
    times = [start + spread * number // count for start, count, spread in bursts for number in range(count)]
    stream = replace(AUDIT_LOGS, page_size=size)
    one = _identities(_account(times, tick=tick, filter_ends=ends).walk(stream).pages())
    wide = 1 if ends == "inclusive" else 0
    assert len(one) == sum(-wide <= at <= HOURS * HOUR + wide for at in times)

    account = _account(times, tick=tick, filter_ends=ends)
    account.adapter.zendesk.faults.add([rule for rule in faults if rule.code != 504 or size > 3])
    several = _identities(parallel_walk.pages(account.walk(stream)))
    assert _once(several) == one
    assert faults or several == one


def test_several_cursors_deliver_the_same_bytes(zendesk: SimulatedZendesk, store: Store, layout: Layout) -> None:
    """Over the wire and into a bucket: the same objects under the same keys, and the parts were asked for."""
    walks: dict[str, Callable[[Walk], Iterator[Page]]] = {"one": Walk.pages, "several": parallel_walk.pages}
    feeds: dict[str, dict[str, bytes]] = {}
    starts: dict[str, int] = {}
    zendesk.control.set(account_limit=100_000)
    for name, pages in walks.items():
        zendesk.control.forget_requests()
        root = layout.feed.split("/")[0]
        bucket = Bucket(store=store, layout=Layout(feed=f"{root}/{name}/", state=f"{root}/{name}-s/", quarantine="q/"))
        clock = TickingClock(0.3).clock
        client = client_for(zendesk.url, clock, limiters={"account": RateLimiter(clock=clock, share=1.0)})
        deliveries = Deliveries(bucket=bucket, clock=clock).formed(limit=20_000)
        deliveries.run(DAY, pages(walk_with(client, replace(AUDIT_LOGS, page_size=20), lookback=HOUR)), lookback=HOUR)
        feeds[name] = {key.removeprefix(bucket.layout.feed): body for key, body in bucket.feed().items()}
        starts[name] = len({dict(seen.pairs[:1])["filter[created_at][]"] for seen in zendesk.control.requests()})
        assert bucket.complete(DAY) == [True] * len(DAY)
    assert feeds["several"] == feeds["one"]
    assert feeds["one"]
    assert starts["one"] == 1
    assert starts["several"] > 1


@pytest.mark.parametrize("order", ["newest_first", "hours_mixed"])
@pytest.mark.parametrize("read", [1, 2, 4])
def test_nothing_is_green_that_was_not_read(
    order: str, read: int, zendesk: SimulatedZendesk, store: Store, layout: Layout
) -> None:
    """Pages in another order than was asked for, and a failure: no window is finished; a later run has all of them."""
    bucket = Bucket(store=store, layout=layout)
    deliveries, span = Deliveries(bucket=bucket), Span(DAY.start, DAY.start + 12 * HOUR)
    zendesk.control.set(audit_log_order=order)
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500, skip=read, times=0))
    client = client_for(zendesk.url, TickingClock(0.0).clock)
    failed = deliveries.delivery(span)
    with pytest.raises(TransientError):
        walk(failed, parallel_walk.pages(walk_with(client, AUDIT_LOGS, span)))
    assert failed.finished == []
    assert bucket.complete(span) == [False] * 12
    zendesk.control.clear_faults()
    deliveries.run(span, parallel_walk.pages(walk_with(client, AUDIT_LOGS, span)))
    assert bucket.complete(span) == [True] * 12
    assert bucket.lines() == sorted(zendesk.control.source("audit_logs", span.start, span.end))


def test_pages_are_numbered_through_and_their_requests_add_up() -> None:
    """What is reported of a range is what was asked, whichever cursor it was."""
    account = _account(range(0, HOURS * HOUR, 20))
    pages = list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert sum(page.requests for page in pages) == len(account.adapter.queries) == len(account.kept.all)


def test_a_part_costs_less_than_a_page() -> None:
    """The last page of a part is not full; there are about `PAGES_OF_A_PART` to one that is not."""
    account = _account(range(0, HOURS * HOUR, 6))
    one = len(list(account.walk(replace(AUDIT_LOGS, page_size=10)).pages()))
    account.adapter.queries.clear()
    list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))
    parts = one / PAGES_OF_A_PART + 4 * MOST_CURSORS  # the small ones at the end
    assert len(account.adapter.queries) < one + parts


# Who may join in


@pytest.mark.parametrize(
    ("latency", "per_minute", "count"),
    [
        pytest.param(0.2, 350, 2, id="half-of-enterprise"),
        pytest.param(0.2, 595, 2, id="most-of-enterprise"),
        pytest.param(0.2, 700, 3, id="all-of-enterprise"),
        pytest.param(0.2, 1250, 5, id="half-of-the-largest"),
        pytest.param(1.0, 1250, MOST_CURSORS, id="never-more"),
        pytest.param(0.2, 10, 1, id="slower-than-one"),
        pytest.param(0.0, 350, 1, id="no-latency"),
        pytest.param(0.002, 1_000_000, 1, id="a-limit-that-is-none"),
        pytest.param(0.2, None, 1, id="unknown"),
    ],
)
def test_as_many_cursors_as_latency_asks_for(latency: float, per_minute: float | None, count: int) -> None:
    """The seconds that an answer takes, times the requests a second that are allowed, rounded up."""
    assert cursors_for(latency, per_minute) == count


def test_cursors_ask_at_the_same_time() -> None:
    """Requests of several cursors are under way together: each waits for another one to come."""
    account = _account(range(0, HOURS * HOUR, 30), tick=0.002)  # a few ms at 2,500 a minute are not yet two
    list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))
    assert len({query[0] for query in account.adapter.queries}) == 1

    account = _account(range(0, HOURS * HOUR, 30), tick=0.3)
    account.adapter.meet = threading.Barrier(2, timeout=1)  # the very last one may be alone
    list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))
    assert len({query[0] for query in account.adapter.queries}) > 2
    assert account.adapter.met > 20


@pytest.mark.parametrize("name", sorted(set(STREAMS) - {"audit_logs"}))
def test_other_streams_are_walked_by_one_cursor(name: str) -> None:
    """An export has no end to ask for, and ten requests a minute are slower than any latency."""
    assert not STREAMS[name].in_parts


def test_a_bounded_walk_keeps_to_one_cursor() -> None:
    """MAX_PAGES counts the pages of one."""
    account = _account(range(0, HOURS * HOUR, 60))
    stream = replace(AUDIT_LOGS, page_size=10)
    assert len(list(parallel_walk.pages(account.walk(stream, max_pages=37)))) == 37
    assert len({query[0] for query in account.adapter.queries}) == 1


def test_one_page_is_one_request() -> None:
    """A quiet hour costs what it always did."""
    account = _account([10, 20, 30])
    assert len(_identities(parallel_walk.pages(account.walk()))) == 3
    assert len(account.adapter.queries) == 1


# Limits


@settings(max_examples=15, deadline=None)
@given(limit=st.sampled_from([30, 120, 400]), share=st.sampled_from([0.25, 0.5, 1.0]))
def test_all_cursors_together_keep_to_the_share(limit: int, share: float) -> None:
    """In no sixty seconds do more requests go out than the share allows, and every request is counted."""
    account = _account(range(0, HOURS * HOUR, 40), tick=0.5, share=share, account_limit=limit)
    _never_used_up(account)
    list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=5))))
    assert len(account.kept.all) == len(account.adapter.queries)
    assert account.kept.most_in_a_minute() <= max(1, limit * share)


def _never_used_up(account: Account) -> None:
    """The simulator counts real minutes: without this its headers would say that nothing is left."""
    limits = account.adapter.zendesk.limits
    limits._times["account"] = deque(maxlen=0)


def test_threads_at_one_limiter_keep_to_the_limit() -> None:
    """Eight threads ask for as much as they get."""
    clock, kept = TickingClock(0.01).clock, Kept()
    limiter = RateLimiter(clock=clock, per_minute=20, sent=kept)
    threads = [threading.Thread(target=lambda: [limiter.acquire() for _ in range(25)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert len(kept.all) == 200
    assert kept.most_in_a_minute() <= 20


@pytest.mark.parametrize(
    ("code", "told", "pause"), [(429, "seconds:90", 90), (429, None, MINUTE), (503, "seconds:90", 90)]
)
def test_who_is_told_to_wait_waits_for_all(code: int, told: str | None, pause: float) -> None:
    """A 429, or a 503 that says when: no cursor sends a request until the time is over; then all is there."""
    times = range(0, HOURS * HOUR, 30)
    account = _account(times, tick=0.3)
    account.adapter.zendesk.faults.add(
        [Rule(path="audit_logs", kind="status", code=code, retry_after=told, skip=12)]  # pyright: ignore[reportArgumentType]  # Rule checks
    )
    assert len(_identities(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))) == len(times)
    gaps = [later - earlier for earlier, later in zip(account.kept.all, account.kept.all[1:], strict=False)]
    assert max(gaps) >= pause


# What goes wrong


@pytest.mark.parametrize("order", ["newest_first", "hours_mixed"])
def test_the_order_of_the_pages_plays_no_part(order: str) -> None:
    """A server that does not sort: every record once, and nothing is proven but by a part that has come to its end."""
    times = range(0, HOURS * HOUR, 30)
    account = _account(times, tick=0.3, audit_log_order=order)
    pages = list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))
    shown = [record for page in pages for record in page.records]
    assert len({record.identity for record in shown}) == len(times)
    behind = 0
    for page in reversed(pages):
        assert page.passed <= min((each.time for each in shown[len(shown) - behind :]), default=SPAN.end)
        behind += len(page.records)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    times=st.lists(st.integers(0, HOURS * HOUR - 1), min_size=20, max_size=150),
    order=st.sampled_from(["as_asked", "newest_first", "hours_mixed"]),
    tick=st.sampled_from([0.002, 0.3]),
    skip=st.integers(0, 12),
    alone=st.integers(1, 4),
)
def test_what_is_proven_when_a_walk_breaks_was_shown(
    times: list[int], order: str, tick: float, skip: int, alone: int
) -> None:
    """In whatever order, with one cursor or several: what counts as passed when requests begin to fail is all there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(range_parts, "PAGES_OF_A_PART_ALONE", alone)
        account = _account(times, tick=tick, audit_log_order=order)
        account.adapter.zendesk.faults.add([Rule(kind="status", code=500, skip=skip, times=9, probability=0.9)])
        shown, passed = set[str](), 0
        with suppress(TransientError):
            for page in parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=5))):
                shown.update(record.identity for record in page.records)
                passed = max(passed, page.passed)
        assert {f"{n}" for n, at in enumerate(times) if SPAN.start + at < passed} <= shown


def _write_access_log(account: Account, number: int, at: int, delay: int = 0) -> str:
    """One that is written down so many seconds after its time in the span; its id."""
    time, identity = SPAN.start + at, ulid((SPAN.start + at) * 1000, number)
    line = b'{"id":"%b","timestamp":"%b"}' % (identity.encode(), timestamp(time).encode())
    account.adapter.zendesk.source.add("access_logs", [line], time + delay, listed_at=time + delay)
    return identity


LATE = AccessLogList.late
"""Seconds after its time that an access log is written down, at most."""


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    logs=st.lists(st.tuples(st.integers(0, HOURS * HOUR - 1), st.sampled_from([0, 0, 5, LATE - 1])), min_size=30),
    skip=st.integers(4, 30),
    alone=st.integers(1, 4),
)
def test_what_is_proven_of_access_logs_was_shown(logs: list[tuple[int, int]], skip: int, alone: int) -> None:
    """They are listed by when they were written down: the next part, and the hours asked for again, bring earlier ones.

    So the start of a part proves nothing of the minutes before it, and where requests fail, no such window is green.
    """
    account = _account([])
    times = {_write_access_log(account, n, at, delay): SPAN.start + at for n, (at, delay) in enumerate(logs)}
    account.adapter.zendesk.faults.add([Rule(kind="status", code=500, skip=skip, times=4)])
    shown, passed = set[str](), 0
    with pytest.MonkeyPatch.context() as patch, suppress(TransientError):
        patch.setattr(range_parts, "PAGES_OF_A_PART_ALONE", alone)
        for page in parallel_walk.pages(account.walk(replace(ACCESS_LOGS, page_size=2))):
            shown.update(record.identity for record in page.records)
            passed = max(passed, page.passed)
    assert {identity for identity, at in times.items() if at < passed} <= shown


@pytest.mark.parametrize(("broken", "proven"), [(5 * HOUR + 400, 4 * HOUR), (5 * HOUR + 800, 5 * HOUR)])
def test_an_hour_of_access_logs_is_proven_with_what_is_written_down_behind_it(broken: int, proven: int) -> None:
    """Where a page cannot be read, the hours before are asked for by themselves, and ten minutes on for late ones."""
    account = _account([])
    for number, at in enumerate(range(0, HOURS * HOUR, 60)):
        _write_access_log(account, number, at)
    late = _write_access_log(account, 9999, 5 * HOUR - 100, delay=500)
    unreadable = (SPAN.start + broken, SPAN.start + broken + 60)
    account.adapter.zendesk.change_settings({"unreadable": {"access_logs": unreadable}})
    shown, passed = set[str](), 0
    with suppress(TransientError):
        for page in parallel_walk.pages(account.walk(replace(ACCESS_LOGS, page_size=2))):
            shown.update(record.identity for record in page.records)
            passed = max(passed, page.passed)
    assert passed == SPAN.start + proven
    assert (late in shown) == (proven == 5 * HOUR)


def test_one_cursor_reads_a_long_range_in_parts() -> None:
    """So that a range that breaks off is not all read again: what lies before the part is proven, by its own end."""
    times = range(0, HOURS * HOUR, 4)
    account = _account(times, tick=0.0001)
    broken = SPAN.start + 5 * HOUR + 600
    account.adapter.zendesk.change_settings({"unreadable": {"audit_logs": (broken, broken + 1)}})
    passed = list[int]()
    with pytest.raises(TransientError, match="on Zendesk's side"):
        passed.extend(page.passed for page in parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))
    assert max(passed) == SPAN.start + 5 * HOUR
    assert len({dict(reversed(query))["filter[created_at][]"] for query in account.adapter.queries}) > 3
    assert passed.index(max(passed)) - next(n for n, at in enumerate(passed) if at > SPAN.start + HOUR) > 100


@pytest.mark.parametrize(
    ("quiet", "order", "costs"),
    [
        pytest.param(range(0, 5 * HOUR, 150), "as_asked", 1.6, id="behind-a-quiet-beginning"),
        pytest.param(range(0, 1200, 30), "as_asked", 1.6, id="behind-a-gap"),
        pytest.param(range(0, 5 * HOUR, 150), "newest_first", 2.3, id="newest-first"),
    ],
)
def test_what_turns_out_to_be_long_is_read_in_parts_all_the_same(quiet: range, order: str, costs: float) -> None:
    """A quiet beginning promises few pages; who has read many of them and sees as many to come cuts what is left.

    Else a backfill that broke off would have to begin again with all of it.
    """
    times = [*quiet, *(5 * HOUR + number * HOUR // 7_000 for number in range(7_000))]
    account = _account(times, tick=0.0001, audit_log_order=order)
    broken = SPAN.start + 5 * HOUR + (3000 if order == "as_asked" else 600)
    account.adapter.zendesk.change_settings({"unreadable": {"audit_logs": (broken, broken + 1)}})
    pages, walk = list[Page](), account.walk(replace(AUDIT_LOGS, page_size=10))
    with pytest.raises(TransientError, match="on Zendesk's side"):
        pages.extend(parallel_walk.pages(walk))
    assert broken - HOUR // 2 < max(page.passed for page in pages) <= broken
    account.adapter.zendesk.change_settings({"unreadable": {}})
    account.adapter.queries.clear()
    assert len(set(_identities(parallel_walk.pages(walk)))) == len(times)
    assert len(account.adapter.queries) < costs * len(times) / 10


@pytest.mark.parametrize("tick", [0.0001, 0.3], ids=["one-cursor", "several"])
def test_what_a_page_tells_is_seen_before_it_is_used_up(tick: float) -> None:
    """Whoever takes a page may empty it: parts are cut, and learn of ends that are ignored, as where nobody does."""
    times = range(0, HOURS * HOUR + 20 * HOUR, 30)
    account = _account(times, tick=tick, filter_ends="end_ignored")
    shown = set[str]()
    for page in parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=3))):
        shown.update(record.identity for record in page.records)
        page.records.clear()
    assert len(shown) == len(times)
    assert len({str(query[:2]) for query in account.adapter.queries}) > 1
    assert len(account.adapter.queries) < 3 * len(times) / 3


def test_max_pages_counts_the_pages_of_all_parts() -> None:
    """A range that needs far more is read in parts, so that each run gets on; the bound holds as a whole."""
    account = _account(range(0, HOURS * HOUR, 20))
    passed = list[int]()
    with pytest.raises(PageLimitError, match="MAX_PAGES=40"):
        passed.extend(
            p.passed for p in parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10), max_pages=40))
        )
    assert len(account.adapter.queries) == 40


def test_parts_learn_that_the_filter_is_ignored() -> None:
    """Each part would show the whole list: as soon as one does, a single cursor reads the rest, and all is there."""
    times = range(-20 * HOUR, HOURS * HOUR + 20 * HOUR, 120)
    one = _account(times, tick=0.3, filter_ends="ignored")
    every = _identities(one.walk(replace(AUDIT_LOGS, page_size=20)).pages())
    account = _account(times, tick=0.3, filter_ends="ignored")
    assert set(_identities(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=20))))) == set(every)
    assert len(account.adapter.queries) <= 2 * len(one.adapter.queries)


def test_parts_learn_that_the_end_of_the_filter_is_ignored() -> None:
    """The beginning is kept to: a part shows what lies behind it, which another one would show as well."""
    times = range(0, HOURS * HOUR + 4 * HOUR, 30)
    one = _account(times, tick=0.3, filter_ends="end_ignored")
    every = _identities(one.walk(replace(AUDIT_LOGS, page_size=20)).pages())
    account = _account(times, tick=0.3, filter_ends="end_ignored")
    assert set(_identities(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=20))))) == set(every)
    assert len(account.adapter.queries) <= 3 * len(one.adapter.queries)


def test_an_error_comes_in_its_place() -> None:
    """What lies before a page that breaks is shown, nothing behind it is, and nothing is swallowed."""
    times = range(0, HOURS * HOUR, 30)
    broken = SPAN.start + 4 * HOUR
    account = _account(times, tick=0.3, unreadable={"audit_logs": (broken, broken + 1)})
    pages, shown = parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))), list[int]()
    with pytest.raises(TransientError, match="on Zendesk's side"):
        shown.extend(record.time for page in pages for record in page.records)
    shown = sorted(set(shown))
    assert shown == [SPAN.start + at for at in times][: len(shown)]
    assert broken - 10 * 30 <= shown[-1] < broken


def test_behind_a_part_that_broke_nothing_is_asked_for() -> None:
    """A credential that is revoked is shown once more by each cursor, not once for each part that there is room for."""
    account = _account(range(0, HOURS * HOUR, 5), tick=5.0)
    account.adapter.zendesk.faults.add([Rule(kind="revoke", skip=30)])
    pages = parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10)))
    next(pages)
    next(pages)
    _until_quiet(account)
    assert 30 < len(account.adapter.queries) <= 30 + 1 + MOST_CURSORS
    with pytest.raises(RefusedError, match="credential is not accepted"):
        list(pages)


def test_cursors_that_cannot_be_started_are_an_error_and_those_that_were_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is out of threads fails the run, and leaves none of them behind."""
    start, started = threading.Thread.start, list[threading.Thread]()

    def few(thread: threading.Thread) -> None:
        if thread.name == "cursor" and len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    account = _account(range(0, HOURS * HOUR, 30), tick=0.3)
    with pytest.raises(RuntimeError, match="start new thread"):
        list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))
    for thread in started:
        thread.join(LONG)
    assert _cursor_threads() == []


def test_a_cursor_that_repeats_is_an_error_in_any_part() -> None:
    """As with one cursor."""
    account = _account(range(0, HOURS * HOUR, 30), tick=0.3)
    account.adapter.zendesk.faults.add([Rule(path="page.+after", kind="repeat_cursor", skip=9, times=0)])
    with pytest.raises(ProtocolError, match="same cursor twice"):
        list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10))))


def test_who_stops_early_leaves_no_cursor_behind() -> None:
    """The threads end with the walk, after the request they are in."""
    account = _account(range(0, HOURS * HOUR, 5), tick=0.3)
    pages = parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=10)))
    for _ in range(5):
        next(pages)
    pages.close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # it is a generator
    for thread in _cursor_threads():
        thread.join(LONG)
    asked = len(account.adapter.queries)
    assert _cursor_threads() == []
    assert asked < HOURS * HOUR / 5 / 10


def _cursor_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cursor"]


# Memory


def test_what_is_read_ahead_is_bounded() -> None:
    """Where nobody takes pages the cursors stop: at so many parts, and in a crowded second at so many pages."""
    for times in (range(0, HOURS * HOUR, 8), [*range(0, HOURS * HOUR, 200), *([9000] * 2_000)]):
        account = _account(times, tick=5.0)
        pages = parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=2)))
        assert len(next(pages).records) == 2
        next(pages)
        _until_quiet(account)
        assert PARTS_PER_CURSOR * LONGEST_PART < len(account.adapter.queries) <= MOST_PAGES_WAITING + MOST_CURSORS + 1
        pages.close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # it is a generator


def test_what_is_read_ahead_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody takes pages, the cursors stop at so many bytes, whatever the number of pages; none is lost by it."""
    page = 2 * BYTES_BESIDE_A_LINE + 200  # two records, and what is around them
    monkeypatch.setattr(range_parts, "MOST_BYTES", 20 * page)
    times = range(0, HOURS * HOUR, 8)
    account = _account(times, tick=5.0)
    pages = parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=2)))
    first = [next(pages), next(pages)]
    _until_quiet(account)
    assert MOST_CURSORS < len(account.adapter.queries) <= 20 + MOST_CURSORS
    shown = [*first, *pages]
    assert len({record.identity for each in shown for record in each.records}) == len(times)


def test_one_of_several_cursors_takes_no_giant_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks for fewer records; one record that is larger still is read when it is wanted next. None is lost."""
    monkeypatch.setattr(range_parts, "LARGEST_OF_SEVERAL", 100)  # less than a page of one record
    times = range(0, HOURS * HOUR, 20)
    account = _account(times, tick=5.0)
    shown = list(parallel_walk.pages(account.walk(replace(AUDIT_LOGS, page_size=20))))
    sizes = {int(dict(query)["page[size]"]) for query in account.adapter.queries}
    assert {20, 10, 5, 2, 1} <= sizes
    assert len({record.identity for each in shown for record in each.records}) == len(times)


def _until_quiet(account: Account) -> None:
    """Until no cursor asks any more."""
    asked, quiet = -1, threading.Event()
    while asked != len(account.adapter.queries):
        asked = len(account.adapter.queries)
        quiet.wait(0.5)
