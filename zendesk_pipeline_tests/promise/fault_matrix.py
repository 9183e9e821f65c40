"""The fault matrix: what Zendesk, the network and S3 do wrong, and what must be in S3 afterwards.

Each cell is a real process that collects two windows while one thing goes wrong. Either it copes by itself, or it fails
with a sentence that says what to do; then the cause is removed and it runs once more. Every cell ends with the same
check. `make faults` prints the matrix; `test_faults.py` runs a part of it with every test run.

The faults of `SEVERAL` meet audit logs that are read by several cursors at once, in an account that makes them need it.
"""

import re
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.local.simulator import accounts
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline_tests.by_hand import audit_log
from zendesk_pipeline_tests.fakes.s3_proxy import Answer, Fate, S3Proxy, S3Request, s3_proxy
from zendesk_pipeline_tests.ports import lasting_port
from zendesk_pipeline_tests.promise.collector_process import Collection, collect
from zendesk_pipeline_tests.reconcile import Verdict, reconcile
from zendesk_pipeline_tests.several_cursors import CURSORS, SLOW, cursors_at_once

FURTHER = ("access_logs", "incremental_ticket_events", "ticket_metric_events")
"""One for each way of paging that those collected by default do not have."""
SPAN = Span(1_794_456_000, 1_794_456_000 + 2 * HOUR)  # from 2026-11-12T04:00Z
NOW = SPAN.end + 2 * HOUR
HISTORY = (
    *("--since", "2026-11-12T00:00:00Z", "--tickets-per-hour", "1400", "--audit-logs-per-hour", "130"),
    *("--further-per-hour", "2600", "--cut-texts", "0.05"),
)
"""Enough for three pages and more on each stream."""
BATCH_BYTES = {"audit_logs": "20000", "incremental_tickets": "400000", **dict.fromkeys(FURTHER, "200000")}
PAGE_PATHS = "audit_logs|access_logs|incremental"
OAUTH = {
    "AUTH_MODE": "oauth",
    "ZENDESK_CLIENT_ID": accounts.CLIENT_ID,
    "ZENDESK_CLIENT_SECRET": accounts.CLIENT_SECRET,
}


@dataclass(frozen=True, slots=True)
class Services:
    """What a cell runs against."""

    zendesk: SimulatedZendesk
    s3: LocalS3
    proxy: S3Proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    name: str
    zendesk: tuple[Rule, ...] = ()
    s3: Callable[[S3Request], Fate] | None = None
    """What the proxy does with each request to S3."""
    limits: Mapping[str, object] = field(default_factory=dict[str, object])
    """Switches of the simulator."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    clock: int = NOW
    """Zendesk's, in the first run."""
    ours: int | None = None
    """The collector's, which stands still; None: this machine's."""
    meanwhile: Callable[[SimulatedZendesk], None] | None = None
    """Happens once, when the third PUT is done; then the windows are collected once more."""
    span: Span = SPAN
    cursors: int = 0
    """So many have to be seen at once; only those of the audit logs are counted."""
    says: str | None = None
    """The run fails at first, with a message that matches this; None: it copes by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What came of one fault on one stream."""

    fault: Fault
    stream: str
    first_exit: int
    log: str
    requests: int
    """To Zendesk, in both runs."""
    at_once: int
    """Cursors that were seen at the same time in the first run."""
    gaps: int
    """Records that were missing, after a first run that failed, in windows that it called complete."""
    verdict: Verdict

    @property
    def passed(self) -> bool:
        expected = 0 if self.fault.says is None else 1
        said = self.fault.says is None or re.search(self.fault.says, self.log) is not None
        as_expected = self.first_exit == expected and said and self.at_once >= self.fault.cursors
        return self.verdict.exact and self.verdict.source > 0 and not self.gaps and as_expected


def _catches_up(zendesk: SimulatedZendesk) -> None:
    zendesk.control.set(lag={})


def _puts(numbers: range, fate: Fate) -> Callable[[S3Request], Fate]:
    """The fate of the PUTs with these numbers (1 for the first); the others pass."""
    put = iter(range(1, 1_000_000))
    return lambda request: fate if request.method == "PUT" and next(put) in numbers else "pass"


def _each(method: str, fate: Fate) -> Callable[[S3Request], Fate]:
    """The first request of this kind for every key meets the fate, the next one passes."""
    met: set[str] = set()

    def decide(request: S3Request) -> Fate:
        if request.method != method or request.key in met:
            return "pass"
        met.add(request.key)
        return fate

    return decide


def _ledgers_once(fate: Fate) -> Callable[[S3Request], Fate]:
    """The first write of every ledger meets the fate."""
    meet = _each("PUT", fate)
    return lambda request: meet(request) if "/state/" in request.key else "pass"


def _page(kind: str, **parameters: object) -> tuple[Rule, ...]:
    """The fault on the second page of the walk."""
    return (Rule(path=PAGE_PATHS, kind=kind, skip=1, **parameters),)  # pyright: ignore[reportArgumentType]  # Rule checks


def _heavy(kind: str, larger_than: int = 40, **parameters: object) -> tuple[Rule, ...]:
    """The fault on every page that is asked for with more records."""
    return (Rule(path=PAGE_PATHS, kind=kind, times=ENDLESS, larger_than=larger_than, **parameters),)  # pyright: ignore[reportArgumentType]  # Rule checks


def _status(code: int, times: int = 2, **parameters: object) -> tuple[Rule, ...]:
    return _page("status", code=code, times=times, **parameters)


ENDLESS = 0
GIVES_UP = 1000

FAULTS = [
    Fault(name="nothing"),
    Fault(name="429, Retry-After in seconds", zendesk=_status(429, retry_after="seconds:2")),
    Fault(name="429, Retry-After as a date", zendesk=_status(429, retry_after="date:2")),
    Fault(name="429, Retry-After as a list", zendesk=_status(429, retry_after="list")),
    Fault(name="429, no Retry-After", zendesk=_status(429)),
    Fault(name="429 in plain text", zendesk=_status(429, body="text")),
    Fault(name="a storm of forty 429", zendesk=_status(429, times=40, retry_after="seconds:1")),
    Fault(
        name="429 without end",
        zendesk=_status(429, times=ENDLESS, retry_after="seconds:600"),
        says="rate limit let no request",
    ),
    Fault(name="429 of a firewall, in HTML", zendesk=_status(429, body="html", retry_after="seconds:1")),
    Fault(
        name="403 of a firewall to everything",
        zendesk=(Rule(path="/api/", kind="status", code=403, body="html", times=ENDLESS),),
        says="in front of Zendesk refuses this machine",
    ),
    Fault(
        name="403 to everything in the middle",
        zendesk=(Rule(path="/api/", kind="status", code=403, times=ENDLESS, skip=1),),
        says="Whatever is asked is refused",
    ),
    Fault(name="401 of a proxy", zendesk=_status(401, body="html"), says="wants a credential of its own"),
    Fault(name="500", zendesk=_status(500)),
    Fault(name="500 in HTML", zendesk=_status(500, body="html")),
    Fault(name="502", zendesk=_status(502)),
    Fault(name="503", zendesk=_status(503)),
    Fault(name="503 with Retry-After", zendesk=_status(503, retry_after="seconds:3")),
    Fault(
        name="503 for longer than HTTP_RETRIES", zendesk=_status(503, times=GIVES_UP), says="a fault on Zendesk's side"
    ),
    Fault(name="504 until the page is small", zendesk=_status(504, times=3)),
    Fault(name="503 of a proxy until the page is small", zendesk=_heavy("status", code=503, body="upstream")),
    Fault(name="502 until the page is small", zendesk=_heavy("status", code=502, body="html")),
    Fault(
        name="no answer in time until the page is small",
        zendesk=_heavy("hang", seconds=30),
        environment={"HTTP_TIMEOUT": "0.5"},
    ),
    Fault(name="502 without end", zendesk=_heavy("status", code=502, larger_than=0), says="and fewer, 1 at last"),
    Fault(name="reset before the body", zendesk=_page("reset", times=2)),
    Fault(name="reset in the body", zendesk=_page("reset_mid_body", times=2)),
    Fault(name="hangs past HTTP_TIMEOUT", zendesk=_page("hang", seconds=30), environment={"HTTP_TIMEOUT": "0.3"}),
    Fault(name="cut JSON", zendesk=_page("truncate", times=2)),
    Fault(name="HTML with 200", zendesk=_page("html", times=2)),
    Fault(name="{} with 200", zendesk=_page("empty_object", times=2)),
    Fault(name="{} with 200 without end", zendesk=_page("empty_object", times=ENDLESS), says="is not a page of"),
    Fault(name="an empty page in the middle", zendesk=_page("empty_page")),
    Fault(name="a cursor twice", zendesk=_page("repeat_cursor"), says="same cursor twice|does not get past"),
    Fault(name="a record on two pages", zendesk=_page("repeat_record", times=2)),
    Fault(name="a record that stands early", zendesk=_page("early_record")),
    Fault(
        name="a record that stands early, then 500 without end",
        zendesk=(Rule(path=PAGE_PATHS, kind="early_record"), *_status(500, times=GIVES_UP)),
        says="a fault on Zendesk's side",
    ),
    Fault(name="a page that stands early", zendesk=_page("early_page")),
    Fault(
        name="a page that stands early, then 500 without end",
        zendesk=(Rule(path=PAGE_PATHS, kind="early_page"), *_status(500, times=GIVES_UP)),
        says="a fault on Zendesk's side",
    ),
    Fault(name="a later page out of an old memory", zendesk=_page("stale", seconds=3 * HOUR)),
    Fault(
        name="later pages out of an old memory",
        zendesk=_page("stale", seconds=3 * HOUR, times=ENDLESS),
        says="proxy that answers from its memory|422",
    ),
    Fault(
        name="an export that lags, and catches up",
        limits={"lag": dict.fromkeys(("incremental_tickets", *FURTHER), 1200)},
        clock=SPAN.end + 310,
        meanwhile=_catches_up,
    ),
    Fault(name="audit logs newest first", limits={"audit_log_order": "newest_first"}),
    Fault(
        name="audit logs newest first, then 500 without end",
        limits={"audit_log_order": "newest_first"},
        zendesk=_status(500, times=GIVES_UP),
        says="a fault on Zendesk's side",
    ),
    Fault(
        name="audit logs in no order, then 500 without end",
        limits={"audit_log_order": "hours_mixed"},
        zendesk=_status(500, times=GIVES_UP),
        says="a fault on Zendesk's side",
    ),
    Fault(name="audit logs without regard to the filter", limits={"filter_ends": "ignored"}),
    Fault(name="a record without a time", zendesk=_page("malformed_record", form="no_time")),
    Fault(name="a record without a field", zendesk=_page("malformed_record", form="no_fields", times=2)),
    Fault(name="a record that is not UTF-8", zendesk=_page("malformed_record", form="not_utf8")),
    Fault(name="a record that is no JSON", zendesk=_page("malformed_record", form="no_json")),
    Fault(
        name="pages of records without a time",
        zendesk=_page("malformed_page", times=GIVES_UP),
        says="records are malformed",
    ),
    Fault(name="a redirect", zendesk=_page("redirect"), says="credentials follow no redirect"),
    Fault(name="token ends in the walk", zendesk=_page("expire_token"), environment=OAUTH),
    Fault(name="credential revoked in the walk", zendesk=_page("revoke"), says="credential is not accepted"),
    Fault(name="connection refused", environment={"ZENDESK_BASE_URL": "closed"}, says="gave no complete answer"),
    Fault(name="filter ends exclusive", limits={"filter_ends": "exclusive"}),
    Fault(name="Zendesk's clock stands behind ours", clock=SPAN.end + 200, says="clock does not go on"),
    Fault(name="Zendesk's clock is far behind ours", clock=SPAN.end - HOUR, says="by Zendesk's clock"),
    Fault(name="Zendesk's clock is ahead of ours", clock=NOW + 24 * HOUR, ours=NOW),
    Fault(name="S3: every ledger loses a race", s3=_ledgers_once(Answer(status=412, code="PreconditionFailed"))),
    Fault(name="S3: 503 SlowDown", s3=_puts(range(2, 4), Answer(status=503, code="SlowDown"))),
    Fault(name="S3: 500", s3=_puts(range(1, 3), Answer(status=500, code="InternalError"))),
    Fault(name="S3: 500 for every key once", s3=_each("PUT", Answer(status=500, code="InternalError"))),
    Fault(name="S3: ledgers answer 500 once", s3=_each("GET", Answer(status=500, code="InternalError"))),
    Fault(
        name="S3: 500 without end", s3=_puts(range(2, 999), Answer(status=500, code="InternalError")), says="S3 refuses"
    ),
    Fault(name="S3: ledgers are cut off once", s3=_each("GET", "cut")),
    Fault(name="S3: every write is aborted once", s3=_each("PUT", Answer(status=409, code="OperationAborted"))),
    Fault(
        name="S3: somebody else answers 200",
        s3=_puts(range(3, 999), Answer(status=200, code="", page=b"<html>sign in</html>")),
        says="somebody else did",
    ),
    Fault(
        name="S3: another region",
        s3=_puts(
            range(3, 999),
            Answer(status=400, code="AuthorizationHeaderMalformed", more="<Region>eu-central-1</Region>"),
        ),
        says="AWS_DEFAULT_REGION to eu-central-1",
    ),
    Fault(
        name="S3: the clock is refused",
        s3=_puts(range(3, 999), Answer(status=403, code="RequestTimeTooSkewed")),
        says="NTP",
    ),
    Fault(name="S3: reset before it is done", s3=_each("PUT", "reset_before")),
    Fault(name="S3: reset once it is done", s3=_each("PUT", "reset_after")),
    Fault(name="S3: no answer in time", s3=_puts(range(2, 3), "hang")),
    Fault(
        name="S3: 403 in the middle",
        s3=_puts(range(2, 999), Answer(status=403, code="AccessDenied")),
        says="s3:PutObject",
    ),
    Fault(name="S3: conflict", s3=_each("PUT", Answer(status=409, code="ConditionalRequestConflict"))),
    Fault(
        name="S3: full",
        s3=_puts(range(3, 999), Answer(status=507, code="InsufficientStorage")),
        says="InsufficientStorage",
    ),
    Fault(
        name="S3: credentials end",
        s3=_puts(range(2, 999), Answer(status=400, code="ExpiredToken")),
        says="AWS credentials",
    ),
]


# Several cursors

LONG_SPAN = Span(SPAN.start, SPAN.start + 4 * HOUR)
BROKEN = LONG_SPAN.start + 2 * HOUR + 600
"""Where no page can be made of, or no cursor is let through: in the third of four windows."""
THIRD_HOUR = r"audit_logs\?[^=]*=2026-11-12T06"
"""The requests of parts that begin in it."""


def _several(
    name: str,
    *zendesk: Rule,
    limits: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    **parameters: object,
) -> Fault:
    return Fault(
        name=name,
        zendesk=zendesk,
        limits={**SLOW, **(limits or {})},
        environment={"BATCH_BYTES": "200000", **(environment or {})},
        **{"span": LONG_SPAN, "clock": LONG_SPAN.end + 2 * HOUR, "cursors": CURSORS, **parameters},  # pyright: ignore[reportArgumentType]  # Fault's own names
    )


def _amidst(kind: str, skip: int = 12, path: str = PAGE_PATHS, **parameters: object) -> Rule:
    """The fault while all cursors are under way."""
    return Rule(path=path, kind=kind, skip=skip, **parameters)  # pyright: ignore[reportArgumentType]  # Rule checks


def _more_shows(zendesk: SimulatedZendesk) -> None:
    """Time goes on: late records show in every part, those that were read as well, and new ones are made there."""
    zendesk.control.set_clock(LONG_SPAN.end + 2 * HOUR)
    times = range(LONG_SPAN.start, LONG_SPAN.end, 97)
    zendesk.control.add_records("audit_logs", [audit_log(number, at).line for number, at in enumerate(times)])


SEVERAL = [
    _several("nothing"),
    _several("429, Retry-After in seconds", _amidst("status", code=429, retry_after="seconds:2", times=3)),
    _several("a storm of forty 429", _amidst("status", code=429, retry_after="seconds:1", times=40)),
    _several(
        "429 without end",
        _amidst("status", code=429, times=ENDLESS, retry_after="seconds:600"),
        says="rate limit let no request",
    ),
    _several("503", _amidst("status", times=3)),
    _several("503 with Retry-After", _amidst("status", times=3, retry_after="seconds:3")),
    _several("503 for longer than HTTP_RETRIES", _amidst("status", times=GIVES_UP), says="a fault on Zendesk's side"),
    _several("500 on one part", _amidst("status", 1, THIRD_HOUR, code=500, times=2)),
    _several(
        "500 on one part without end",
        limits={"unreadable": {"audit_logs": (BROKEN, BROKEN + 60)}},
        says="a fault on Zendesk's side",
    ),
    _several("504 on one part until the page is small", _amidst("status", 1, THIRD_HOUR, code=504, times=3)),
    _several(
        "a cursor is refused on one part", _amidst("status", 1, THIRD_HOUR, code=400, times=0), says="answered 400"
    ),
    _several("502 until pages are small", *_heavy("status", code=502, larger_than=60)),
    _several("reset before the body", _amidst("reset", times=3)),
    _several("reset in the body", _amidst("reset_mid_body", times=3)),
    _several("cut JSON", _amidst("truncate", times=3)),
    _several("hangs past HTTP_TIMEOUT", _amidst("hang", seconds=30), environment={"HTTP_TIMEOUT": "1"}),
    # one at a time: two in a row on the same part are the same cursor twice, which is another fault
    _several("an empty page in the middle", *(_amidst("empty_page", skip) for skip in (12, 22, 32))),
    _several("a record on two pages", _amidst("repeat_record", times=9)),
    _several("newest first", limits={"audit_log_order": "newest_first"}, cursors=1),
    _several("in no order", limits={"audit_log_order": "hours_mixed"}, cursors=1),
    _several(
        "in no order, then 500 without end",
        _amidst("status", code=500, times=GIVES_UP),
        limits={"audit_log_order": "hours_mixed"},
        says="a fault on Zendesk's side",
        cursors=1,
    ),
    _several("malformed records", _amidst("malformed_record", 1, times=9, form="no_json")),
    _several("records that stand early", _amidst("early_record", 1, times=9)),
    _several("a page that stands early", _amidst("early_page")),
    _several("pages out of an old memory", _amidst("stale", seconds=8 * HOUR, times=3)),
    _several("the filter is ignored", limits={"filter_ends": "ignored"}, cursors=1),
    _several("a cursor twice", _amidst("repeat_cursor", 1, f"{THIRD_HOUR}.*after"), says="same cursor twice"),
    _several("token ends for all cursors at once", _amidst("expire_token"), environment=OAUTH),
    _several("token ends twice", _amidst("expire_token"), _amidst("expire_token", 36), environment=OAUTH),
    _several("credential revoked in the walk", _amidst("revoke"), says="credential is not accepted"),
    _several("filter ends exclusive", limits={"filter_ends": "exclusive"}),
    _several("late records show, and new ones are made", clock=LONG_SPAN.end + 310, meanwhile=_more_shows),
    _several("S3: 503 SlowDown", s3=_puts(range(4, 8), Answer(status=503, code="SlowDown"))),
    _several(
        "S3: 403 in the middle", s3=_puts(range(6, 999), Answer(status=403, code="AccessDenied")), says="s3:PutObject"
    ),
    _several("the end of the filter is ignored", limits={"filter_ends": "end_ignored"}),
]
"""For audit logs in an account of `SEVERAL_HISTORY`."""
SEVERAL_HISTORY = (
    *("--since", "2026-11-12T00:00:00Z", "--tickets-per-hour", "0", "--bulk-update", "0", "--further-per-hour", "0"),
    *("--audit-logs-per-hour", "900", "--late-share", "0.1", "--empty-hours", "0", "--cut-texts", "0.02"),
)
"""With the look-back 45 pages of audit logs."""


def run_cell(services: Services, layout: Layout, fault: Fault, stream: str) -> Cell:
    """Collect with the fault, once more without where it is fatal, and reconcile."""
    control, proxy = services.zendesk.control, services.proxy
    _calm(services, fault.span)
    control.set_clock(fault.clock)
    control.set(**fault.limits)
    control.add_faults(*fault.zendesk)
    proxy.decide = fault.s3 or (lambda _: "pass")
    proxy.after = _after_some_puts(services, fault.meanwhile)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        environment = _environment(services, layout, fault, stream)
        first = Collection(stream=stream, span=fault.span, environment=environment, log=log, now=fault.ours)
        first_exit = collect(first)
        seen, gaps, requests = control.requests(), 0, 0
        if fault.says is not None:
            gaps = _gaps(services, layout, stream, fault.span)
            _calm(services, fault.span)
        if fault.says is not None or fault.meanwhile is not None:
            proxy.reset()
            control.forget_requests()
            again = _environment(services, layout, Fault(name="none"), stream)
            assert collect(Collection(stream=stream, span=fault.span, environment=again, log=log)) == 0
            requests = len(control.requests())
        return Cell(
            fault=fault,
            stream=stream,
            first_exit=first_exit,
            log=log.read_text(),
            requests=len(seen) + requests,
            at_once=cursors_at_once(seen),
            gaps=gaps,
            verdict=reconcile(control, services.s3, layout, stream, fault.span),
        )


def _after_some_puts(
    services: Services, happens: Callable[[SimulatedZendesk], None] | None
) -> Callable[[S3Request], None]:
    """Once the third PUT is done, it happens."""
    put = iter(range(1, 1_000_000))

    def after(request: S3Request) -> None:
        if happens is not None and request.method == "PUT" and next(put) == 3:
            happens(services.zendesk)

    return after


def _gaps(services: Services, layout: Layout, stream: str, span: Span) -> int:
    """Records that are missing in windows whose ledgers say that they are complete."""
    store = Store(client=services.s3.client(), bucket=services.s3.bucket, encryption={})
    stored = {window: store.get(layout.ledger(stream, window)) for window in span}
    complete = [window for window, found in stored.items() if found and ledgers.decode(found.body).complete]
    return sum(
        reconcile(services.zendesk.control, services.s3, layout, stream, Span(window.start, window.end)).missing
        for window in complete
    )


def _calm(services: Services, span: Span) -> None:
    services.proxy.reset()
    services.zendesk.control.reset()
    services.zendesk.control.set_clock(span.end + 2 * HOUR)


def _environment(services: Services, layout: Layout, fault: Fault, stream: str) -> dict[str, str]:
    environment = {
        **services.zendesk.environment,
        **services.s3.environment,
        "AWS_ENDPOINT_URL_S3": services.proxy.endpoint,
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": "2026-11-12",
        "RESOURCES": stream,
        "ZENDESK_EXPORT_RATE": "100000",
        "BATCH_BYTES": BATCH_BYTES[stream],
        **fault.environment,
    }
    if environment["ZENDESK_BASE_URL"] == "closed":
        environment["ZENDESK_BASE_URL"] = f"http://127.0.0.1:{lasting_port()}"
    return environment


@contextmanager
def services(history: Sequence[str] = HISTORY) -> Generator[Services]:
    """A simulated Zendesk with this history, SeaweedFS, and the proxy before it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        simulated_zendesk(Path(folder), *history) as zendesk,
        local_s3(Path(folder)) as s3,
        s3_proxy(s3.endpoint) as proxy,
    ):
        yield Services(zendesk, s3, proxy)


def main() -> None:
    """Print the matrix; exit status 1 where a cell is not exact."""
    names = ("fault", "stream", "cursors", "first run", "requests", "records", "missing", "repeated", "foreign", "")
    table = Table(*names)
    with services() as running:
        cells = _run_cells(
            running, [(fault, stream) for fault in FAULTS for stream in (*COLLECTED_BY_DEFAULT, *FURTHER)]
        )
    with services(SEVERAL_HISTORY) as running:
        cells += _run_cells(running, [(fault, "audit_logs") for fault in SEVERAL])
    for cell in cells:
        table.add_row(*_row(cell))
    Console(width=150).print(table)
    failed = [cell for cell in cells if not cell.passed]
    print(f"{len(cells)} cells, {len(failed)} of them not as they have to be")  # noqa: T201  # the command's output
    raise SystemExit(1 if failed else 0)


def _run_cells(running: Services, cases: Sequence[tuple[Fault, str]]) -> list[Cell]:
    cells: list[Cell] = []
    for number, (fault, stream) in enumerate(cases):
        root = f"cell-{number}"
        layout = Layout(feed=f"{root}/crm/", state=f"{root}/state/", quarantine=f"{root}/long/")
        cells.append(run_cell(running, layout, fault, stream))
    return cells


def _row(cell: Cell) -> list[str]:
    verdict = cell.verdict
    counts = (cell.requests, verdict.delivered, verdict.missing, verdict.repeated, verdict.foreign)
    first = "copes" if cell.first_exit == 0 else "fails, says why"
    came = "exact" if cell.passed else "NOT AS IT HAS TO BE"
    return [cell.fault.name, cell.stream, str(max(1, cell.at_once)), first, *map(str, counts), came]


if __name__ == "__main__":
    main()
