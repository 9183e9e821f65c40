"""Thousands of windows, collected by real processes while everything goes wrong, and then every record is counted.

`make soak` prints the figures of an account that is simulated over HTTP and a SeaweedFS behind `s3_proxy`. The clock
of the account moves on; its hours are collected one by one as they end, or as backlogs in ranges and in any order. All
the while Zendesk and S3 fail, pages come out of turn or out of an old memory, the ticket export lags, runs are killed
(kill -9) or have a twin at the same moment, and the feed deletes what it has read. A run that fails is started again,
as Dagster would, until it succeeds; nothing mends a window after that. In a share of the rounds Zendesk takes its time
to answer, so that audit logs are read by several cursors at once.
"""

import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.batches import content_of, records_in
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.local.simulator import accounts
from zendesk_pipeline.local.simulator.faults import MALFORMED, Rule
from zendesk_pipeline.model.records import Record
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, Fate, S3Proxy, S3Request, s3_proxy
from zendesk_pipeline_tests.promise.collector_process import KILLED, Collection, collecting
from zendesk_pipeline_tests.several_cursors import LATENCY_MS, cursors_at_once

SINCE = "2026-01-01T00:00:00Z"
BEGIN = int(datetime.fromisoformat(SINCE).timestamp())
ACCOUNT = (
    *("--since", SINCE, "--now", SINCE, "--ticket-bytes", "300", "--late-share", "0.2"),
    *("--audit-logs-per-hour", "30", "--tickets-per-hour", "10", "--bulk-update", "150"),
    *("--account-limit", "1000000", "--cut-texts", "0.03"),
)
"""A fifth of the audit logs show late, by up to 50 minutes: hours after the hour they belong to was collected."""
SETTLED = 300
LAYOUT = Layout(feed="soak/crm/", state="soak/state/", quarantine="soak/long/")
PATHS = {"audit_logs": "/audit_logs", "incremental_tickets": "/incremental/"}
OAUTH = {
    "AUTH_MODE": "oauth",
    "ZENDESK_CLIENT_ID": accounts.CLIENT_ID,
    "ZENDESK_CLIENT_SECRET": accounts.CLIENT_SECRET,
}
TRIES = 12
"""A range that fails so often in a row, the last times without any fault, fails for good."""
SLOW_SHARE = 0.25
"""Of the rounds, in which answers take their time."""
STUCK = 180
"""Seconds after which a run counts as one that never ends."""

COPED_WITH = (
    Rule(kind="status", code=429, retry_after="seconds:2"),
    Rule(kind="status", code=429, body="text"),
    Rule(kind="status", code=429, body="html", retry_after="seconds:2"),
    Rule(kind="status", code=500, body="html"),
    Rule(kind="status", code=503, retry_after="date:2"),
    Rule(kind="status", code=504),
    Rule(kind="status", code=502, body="html"),
    Rule(kind="status", code=503, body="upstream", larger_than=30),
    Rule(kind="reset"),
    Rule(kind="reset_mid_body"),
    Rule(kind="truncate"),
    Rule(kind="html"),
    Rule(kind="empty_object"),
    Rule(kind="empty_page"),
    Rule(kind="repeat_record"),
    Rule(kind="early_record"),
    Rule(kind="early_page"),
    Rule(kind="stale", seconds=10 * 24 * HOUR),
    Rule(kind="malformed_record", form="no_time"),
    Rule(kind="malformed_record", form="no_json"),
    Rule(kind="expire_token"),
)
"""A page of an old memory that is the first one fails its run, which is started again."""
ORDERS = ("as_asked", "as_asked", "newest_first", "hours_mixed")
"""Of the audit logs, whatever they are asked for."""
LAGS = (0, 0, 1200, 2400)
"""Seconds by which the ticket export is behind: less than a look-back."""
FATAL = (
    Rule(kind="status", code=503, times=0),
    Rule(kind="status", code=401, times=0),
    Rule(kind="status", code=401, body="html", times=0),
    Rule(kind="status", code=403, body="html", times=0),
    Rule(kind="empty_object", times=0),
    Rule(kind="malformed_page", times=0),
    Rule(kind="repeat_cursor"),
    Rule(kind="redirect"),
)
S3_ERRORS: tuple[Fate, ...] = (
    Answer(status=503, code="SlowDown"),
    Answer(status=500, code="InternalError"),
    Answer(status=409, code="ConditionalRequestConflict"),
    "reset_before",
    "reset_after",
)


# What is counted


@dataclass(slots=True, kw_only=True)
class Figures:
    """What happened, and what came of it."""

    seed: int
    windows: int = 0
    """Of both streams."""
    runs: int = 0
    twins: int = 0
    """Of the runs, those that had another run of the same windows beside them."""
    several: int = 0
    """Rounds in which several cursors were seen at the same time."""
    kills: int = 0
    failures: int = 0
    """Runs that gave up in words."""
    zendesk_faults: int = 0
    s3_faults: int = 0
    deleted: int = 0
    """Objects that the feed has read and deleted."""
    at_source: int = 0
    in_s3: int = 0
    """Records that went into the feed, whether they were deleted since or not."""
    missing: int = 0
    repeated: int = 0
    malformed: int = 0
    """Malformed records that lie in quarantine."""
    foreign: int = 0
    incomplete: int = 0
    """Windows whose ledger does not say that they are complete."""
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list[str])
    """Some of what is wrong."""

    @property
    def exact(self) -> bool:
        return self.at_source > 0 and not (self.missing or self.repeated or self.foreign or self.incomplete)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A record as the feed got it."""

    key: str
    """Of its object."""
    record: Record


def judge(figures: Figures, lines: Iterable[Line], shown: Iterable[bytes], ever: Iterable[bytes]) -> None:
    """Add to the figures what a stream's lines are against the records that Zendesk shows now, and has ever shown."""
    lines, shown, ever = [*lines], {*shown}, {*ever}
    found = {line.record.line for line in lines}
    copies = Counter(line.record.identity for line in lines)
    repeated = [line for line in lines if copies[line.record.identity] > 1]
    foreign = [line for line in lines if line.record.line not in ever or not _at_home(line)]
    figures.at_source += len(shown)
    figures.in_s3 += len(lines)
    figures.missing += len(shown - found)
    figures.repeated += len(lines) - len(copies)
    figures.foreign += len(foreign)
    figures.examples += [f"missing: {record[:100]!r}" for record in sorted(shown - found)[:3]]
    figures.examples += [f"repeated: {line.record.identity} in {line.key}" for line in repeated[:6]]
    figures.examples += [f"foreign: {line.record.identity} in {line.key}" for line in foreign[:3]]


def _at_home(line: Line) -> bool:
    """Whether the record's time lies in the window that its object's key names."""
    return f"/{Window.of(line.record.time).starts_at:%Y/%m/%d/%H%M%S}-" in line.key


# Where it happens


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A simulated Zendesk, SeaweedFS, and the proxy before it."""

    zendesk: SimulatedZendesk
    s3: LocalS3
    proxy: S3Proxy
    store: Store
    """The bucket, without the proxy."""
    log: Path
    """Of all runs."""


@contextmanager
def stage() -> Generator[Stage]:
    """Everything started, in a folder that is gone at the end."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulated_zendesk(Path(folder), *ACCOUNT) as zendesk,
        local_s3(Path(folder)) as s3,
        s3_proxy(s3.endpoint) as proxy,
    ):
        store = Store(client=s3.client(), bucket=s3.bucket, encryption={})
        yield Stage(zendesk=zendesk, s3=s3, proxy=proxy, store=store, log=Path(folder, "runs.log"))


class Feed:
    """SecOps: reads objects and may delete them; remembers what it has read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: list[Line] = []

    def read_and_delete(self, keys: Iterable[str]) -> int:
        """Take these objects out of the bucket; how many there were."""
        count = 0
        for key in keys:
            if found := self._lines(key):
                self._read += found
                self._store.client.delete_object(Bucket=self._store.bucket, Key=key)
                count += 1
        return count

    def everything(self, stream: str) -> list[Line]:
        """A stream's lines in what was deleted and in what is there."""
        keys = [key for key in self._store.keys(LAYOUT.feed) if f"-zendesk-{stream}-" in key]
        with ThreadPoolExecutor(8) as pool:
            there = [line for lines in pool.map(self._lines, keys) for line in lines]
        return [line for line in self._read if f"-zendesk-{stream}-" in line.key] + there

    def _lines(self, key: str) -> list[Line]:
        stream = next(stream for name, stream in COLLECTED.items() if f"-zendesk-{name}-" in key)
        stored = self._store.get(key)
        content = content_of(key, stored.body) if stored else b""
        return [Line(key=key, record=record) for record in records_in(stream, content)]


# What goes wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """kill -9 at a stream's n-th request to S3: when it arrives, or once S3 has done it."""

    stream: str
    number: int
    late: bool
    kill: Callable[[], None]


class Trouble:
    """What the proxy does to the requests of a round."""

    def __init__(self, seed: int, *, share: float, outage: int | None, kills: Iterable[Kill]) -> None:
        """So large a share of the requests meets an error; from request number `outage` on all of them do."""
        self._random = random.Random(seed)
        self._share, self._outage, self._kills = share, outage, [*kills]
        self._requests: Counter[str] = Counter()
        self._numbers: dict[int, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self.fired = 0

    def decide(self, request: S3Request) -> Fate:
        stream = next((name for name in COLLECTED if name in request.key), "")
        with self._lock:
            self._requests[stream] += 1
            self._numbers[request.number] = stream, self._requests[stream]
            fate = self._fate(request)
            self.fired += fate != "pass"
        return "reset_before" if self._killed(request, late=False) else fate

    def after(self, request: S3Request) -> None:
        self._killed(request, late=True)

    def _fate(self, request: S3Request) -> Fate:
        if self._outage is not None and request.number >= self._outage:
            return Answer(status=500, code="InternalError")
        if self._random.random() >= self._share:
            return "pass"
        fate = self._random.choice(S3_ERRORS)
        conflict = isinstance(fate, Answer) and fate.status == 409
        return "reset_before" if conflict and request.method != "PUT" else fate

    def _killed(self, request: S3Request, *, late: bool) -> bool:
        number = self._numbers.get(request.number)
        kills = [kill for kill in self._kills if (kill.stream, kill.number) == number and kill.late == late]
        for kill in kills:
            kill.kill()
        return bool(kills)


# The soak


class Soak:
    """One account, collected from its first hour on."""

    def __init__(
        self, stage: Stage, seed: int, tell: Callable[[Figures], object], *, slow_share: float = SLOW_SHARE
    ) -> None:
        self._stage = stage
        self._slow_share, self._slow = slow_share, random.Random(seed)
        self._random = random.Random(seed)
        self._tell = tell
        self.feed = Feed(stage.store)
        self._began = time.monotonic()
        self._end = BEGIN
        """Of the windows that were begun."""
        self._collected: set[Window] = set()
        self.figures = Figures(seed=seed)

    def run(self, *, windows: int, seconds: float) -> Figures:
        """Collect so many windows, or for so long, whichever is less; then count."""
        while self.figures.windows < windows and time.monotonic() - self._began < seconds:
            left = (windows - self.figures.windows) // len(COLLECTED)
            for span in self._some_hours() if self._random.random() < 0.4 else self._a_backlog(left):
                self._collect(span, calm=False)
                if self._random.random() < 0.2:
                    self._delete_some()
        self._delete_some()  # however the draws were, this happens once
        judged = Span(BEGIN, self._end)
        for span in self._some_hours(1):
            self._collect(span, calm=True)  # it finds what shows late of the last window
        count(self._stage, self.feed, judged, self.figures)
        self.figures.seconds = time.monotonic() - self._began
        return self.figures

    def _some_hours(self, count: int = 0) -> Iterator[Span]:
        """Hours one by one, each soon after its end, as a schedule does."""
        for _ in range(count or self._random.randint(1, 3)):
            span = Span(self._end, self._end + HOUR)
            self._end = span.end
            self._stage.zendesk.control.set_clock(span.end + SETTLED + self._random.randint(0, 900))
            yield span

    def _a_backlog(self, most: int) -> Iterator[Span]:
        """Days in ranges and in any order, as a backfill does; now and then a range that was collected before."""
        hours = max(2, min(most, self._random.randint(24, 96)))
        starts, end = [self._end], self._end + hours * HOUR
        while (following := starts[-1] + self._random.choice((1, 12, 24, 36, 48)) * HOUR) < end:
            starts.append(following)
        spans = [Span(start, following) for start, following in zip(starts, [*starts[1:], end], strict=True)]
        if self._random.random() < 0.3:
            spans.append(self._done(self._random.randint(1, 24)))
        self._random.shuffle(spans)
        self._end = end
        self._stage.zendesk.control.set_clock(end + SETTLED + self._random.randint(0, 900))
        yield from spans

    def _done(self, hours: int) -> Span:
        """A range that was collected before, or the first hour if nothing was."""
        start = self._random.randrange(BEGIN, max(self._end - hours * HOUR, BEGIN + 1), HOUR)
        return Span(start, max(BEGIN + HOUR, min(start + hours * HOUR, self._end)))

    def _collect(self, span: Span, *, calm: bool) -> None:
        """Run both streams over a range, again and again, until each has succeeded."""
        pending = set(COLLECTED)
        form = self._form()
        for number in range(TRIES):
            if not pending:
                break
            pending -= self._round(span, sorted(pending), form, calm=calm or number > TRIES // 2)
            control = self._stage.zendesk.control
            control.set_clock(control.now() + self._random.randint(0, 600))
        if pending:
            raise RuntimeError(
                f"{span} failed {TRIES} times; the end of the log:\n{self._stage.log.read_text()[-3000:]}"
            )
        self._collected |= {*span}
        self.figures.windows = len(self._collected) * len(COLLECTED)
        self.figures.seconds = time.monotonic() - self._began
        self._tell(self.figures)

    def _form(self) -> dict[str, str]:
        """Settings that may change from range to range."""
        draw = self._random.choice
        return {
            "BATCH_BYTES": draw(("1500", "6000", "1000000")),
            "COMPRESSION": draw(("none", "gzip")),
            "OUTPUT_FORMAT": draw(("ndjson", "ndjson", "page")),
            **draw(({}, OAUTH)),
        }

    def _round(self, span: Span, streams: list[str], form: Mapping[str, str], *, calm: bool) -> set[str]:
        """One attempt at a range; the streams that succeeded."""
        draw, control, proxy = self._random, self._stage.zendesk.control, self._stage.proxy
        twins = {stream for stream in streams if not calm and draw.random() < 0.15}
        control.clear_faults()
        control.forget_requests()
        slow = self._slow.random() < self._slow_share
        order, lag = ("as_asked", 0) if calm else (self._slow.choice(ORDERS), self._slow.choice(LAGS))
        lagging = {"incremental_tickets": lag}
        control.set(latency_ms=LATENCY_MS if slow else 0, audit_log_order=order, lag=lagging)
        if not calm:
            control.add_faults(*(rule for stream in streams for rule in self._rules(stream)))
        proxy.reset()
        with ExitStack() as running:
            started = [
                (stream, running.enter_context(collecting(self._collection(stream, span, form))))
                for stream in streams
                for _ in range(2 if stream in twins else 1)
            ]
            outage = not (calm or twins) and draw.random() < 0.05
            trouble = Trouble(
                draw.randrange(1 << 30),
                share=0.0 if calm else draw.choice((0.0, 0.02, 0.05)),
                outage=draw.randint(1, 60) if outage else None,
                kills=[] if calm else self._kills(span, started),
            )
            proxy.decide, proxy.after = trouble.decide, trouble.after
            codes = [(stream, _exit_code(process)) for stream, process in started]
            proxy.reset()
        self.figures.runs += len(codes)
        self.figures.twins += 2 * len(twins)
        self.figures.several += slow and cursors_at_once(control.requests()) > 1
        self.figures.kills += sum(code in KILLED for _, code in codes)
        self.figures.failures += sum(code == 1 for _, code in codes)
        self.figures.s3_faults += trouble.fired
        self.figures.zendesk_faults += sum(rule.fired for rule in control.faults())
        return {stream for stream, code in codes if code == 0}

    def _rules(self, stream: str) -> Iterator[Rule]:
        """Zendesk's faults of one attempt."""
        draw = self._random
        for rule in draw.sample(COPED_WITH, draw.choice((0, 1, 2, 3))):
            skip, times = draw.randint(0, 4), draw.randint(1, 3)
            times = 0 if rule.larger_than else 1 if rule.kind == "early_page" else times
            yield _on(rule, stream, skip=skip, times=times)
        if draw.random() < 0.05:
            rule = draw.choice(FATAL)
            yield _on(rule, stream, skip=draw.randint(0, 4), times=rule.times)

    def _kills(self, span: Span, started: list[tuple[str, BaseProcess]]) -> Iterator[Kill]:
        draw = self._random
        for stream, process in started:
            if draw.random() < 0.35:
                number = draw.randint(1, 4 + 3 * len(span))
                yield Kill(stream=stream, number=number, late=draw.random() < 0.5, kill=process.kill)

    def _collection(self, stream: str, span: Span, form: Mapping[str, str]) -> Collection:
        environment = {
            **self._stage.zendesk.environment,
            **self._stage.s3.environment,
            "AWS_ENDPOINT_URL_S3": self._stage.proxy.endpoint,
            "S3_PREFIX": LAYOUT.feed,
            "STATE_PREFIX": LAYOUT.state,
            "QUARANTINE_PREFIX": LAYOUT.quarantine,
            "START_DATE": SINCE,
            "ZENDESK_EXPORT_RATE": "100000",
            **form,
        }
        return Collection(stream=stream, span=span, environment=environment, log=self._stage.log)

    def _delete_some(self) -> None:
        """The feed deletes what it has read of some windows, as far as ledgers name it: the promise asks for that."""
        span = self._done(self._random.randint(1, 36))
        for stream in COLLECTED:
            for window in span:
                stored = self._stage.store.get(LAYOUT.ledger(stream, window))
                named = [delivered.key for delivered in ledgers.decode(stored.body).objects] if stored else []
                self.figures.deleted += self.feed.read_and_delete(named)


def count(stage: Stage, feed: Feed, span: Span, figures: Figures) -> None:
    """Add to the figures what is at the source in the range, against every line that went into the feed."""
    store, control = stage.store, stage.zendesk.control
    for stream in COLLECTED:
        lines = [line for line in feed.everything(stream) if line.record.time < span.end]
        shown = control.source(stream, span.start, span.end)
        judge(figures, lines, shown, control.source(stream, span.start, span.end, ever=True))
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(store.get, (LAYOUT.ledger(stream, window) for window in span))
            complete = sum(ledgers.decode(stored.body).complete for stored in found if stored)
        figures.incomplete += len(span) - complete
    stored = [found.body for key in store.keys(LAYOUT.quarantine) if (found := store.get(key))]
    figures.malformed = len(stored)
    figures.foreign += sum(body not in MALFORMED.values() for body in stored)


def _on(rule: Rule, stream: str, *, skip: int, times: int) -> Rule:
    """The fault on a stream's pages."""
    return msgspec.structs.replace(rule, path=PATHS[stream], skip=skip, times=times)


def _exit_code(process: BaseProcess) -> int:
    process.join(STUCK)
    if process.exitcode is None:
        raise RuntimeError(f"a run has not ended after {STUCK} s")
    return process.exitcode


# The command


def table(figures: Figures) -> Table:
    """The figures, one a line."""
    rows = {
        "windows, of both streams": figures.windows,
        "runs": figures.runs,
        "runs of the same windows at once": figures.twins,
        "rounds with several cursors at once": figures.several,
        "runs killed (kill -9)": figures.kills,
        "runs that gave up in words": figures.failures,
        "faults of Zendesk": figures.zendesk_faults,
        "faults of S3": figures.s3_faults,
        "objects deleted by the feed": figures.deleted,
        "records at the source": figures.at_source,
        "records in S3, with what the feed deleted": figures.in_s3,
        "missing": figures.missing,
        "repeated": figures.repeated,
        "malformed records in quarantine": figures.malformed,
        "foreign": figures.foreign,
        "windows not complete": figures.incomplete,
        "seconds": round(figures.seconds),
    }
    drawn = Table("", "", show_header=False, title=f"seed {figures.seed}", title_justify="left")
    drawn.columns[1].justify = "right"
    for name, value in rows.items():
        drawn.add_row(name, f"{value:,}")
    return drawn


class _Live:
    """The live line: where a person watches it stays one, else there is a new one now and then."""

    def __init__(self, console: Console) -> None:
        self._console, self._told = console, 0.0

    def tell(self, figures: Figures) -> None:
        if not self._console.is_terminal and figures.seconds - self._told < 15:
            return
        self._told = figures.seconds
        faults = figures.zendesk_faults + figures.s3_faults
        self._console.print(
            f"{figures.seconds:4.0f} s  {figures.windows:>6,} windows  {figures.runs:>5,} runs  {faults:>5,} faults"
            f"  {figures.kills:>4,} kills",
            end="\r" if self._console.is_terminal else "\n",
        )


def soaked(seed: int, *, windows: int, seconds: float, slow_share: float, tell: Callable[[Figures], object]) -> Figures:
    """A whole soak, on a stage of its own."""
    with stage() as running:
        return Soak(running, seed, tell, slow_share=slow_share).run(windows=windows, seconds=seconds)


@click.command()
@click.option("--minutes", default=5.0, show_default=True, help="At most; counting comes on top.")
@click.option("--windows", default=10_000, show_default=True, help="At most, of both streams together.")
@click.option(
    "--slow-share",
    type=click.FloatRange(0, 1),
    default=SLOW_SHARE,
    show_default=True,
    help="Of the rounds: Zendesk takes its time, and several cursors read.",
)
@click.option("--seed", type=int, help="Of everything that is drawn.  [default: another one each time]")
def main(minutes: float, windows: int, slow_share: float, seed: int | None) -> None:
    """Collect windows while everything goes wrong, and count every record; exit status 1 unless each is there once."""
    console = Console(highlight=False)
    seed = random.randrange(1 << 30) if seed is None else seed
    console.print(f"seed {seed}")
    figures = soaked(seed, windows=windows, seconds=60 * minutes, slow_share=slow_share, tell=_Live(console).tell)
    console.print(table(figures))
    for example in figures.examples:
        console.print(example, markup=False, soft_wrap=True)
    console.print("exact" if figures.exact else f"NOT EXACT (again: --seed {seed})")
    sys.exit(0 if figures.exact else 1)


if __name__ == "__main__":
    main()
