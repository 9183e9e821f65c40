"""Each way in which a past window can differ, made in a real bucket and found again."""

import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dagster as dg
import msgspec
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from zendesk_pipeline.commands.source_windows import by_window
from zendesk_pipeline.commands.verify.comparison import Seen, Verification, WindowReport
from zendesk_pipeline.definitions import build
from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.batches import encode
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.inspection import IN_FLIGHT, Inspector
from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import ProtocolError
from zendesk_pipeline.model.records import Page, Record
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.redaction_rules import redaction
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.programs import MOST_OF_A_RUN, backfills, called
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours, numbered, paged, ticket
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries, walk
from zendesk_pipeline_tests.runs import RANGE_END, RANGE_START

SPAN = hours(3)
SECOND = Window(FIRST.end)
RECORDS = audit_logs(SPAN)

Look = Callable[..., list[WindowReport]]


@pytest.fixture
def deliveries(store: Store, layout: Layout) -> Deliveries:
    """A bucket that holds the records of the span."""
    made = Deliveries(bucket=Bucket(store=store, layout=layout))
    made.records(SPAN, RECORDS)
    return made


@pytest.fixture
def bucket(deliveries: Deliveries) -> Bucket:
    return deliveries.bucket


@pytest.fixture
def look(bucket: Bucket) -> Look:
    """Looks at the span, at a time when nothing is in flight any more; Zendesk shows the records."""

    def looked(
        shown: Sequence[Record] | None = RECORDS,
        *,
        span: Span = SPAN,
        reads: bool = True,
        later: float = IN_FLIGHT + 60,
        redaction: Redaction | None = None,
        keep: int = 1 << 20,
    ) -> list[WindowReport]:
        now = time.time() + later
        stream = INCREMENTAL_TICKETS if shown and ":" in shown[0].identity else AUDIT_LOGS
        inspector = Inspector(stream=stream, store=bucket.store, layout=bucket.layout, now=now)
        verification = Verification(inspector=inspector, reads=lambda _: reads, redaction=redaction)
        if shown is None:
            return [verification.compare(window, None) for window in span]
        walked = by_window(paged(shown), span, keep=keep)
        return [verification.compare(window, seen) for window, seen in walked]

    return looked


def found(reports: Sequence[WindowReport]) -> list[tuple[Window, str, str]]:
    return [(report.window, each.kind, each.text) for report in reports for each in report.differences]


def kinds(reports: Sequence[WindowReport]) -> list[tuple[Window, str]]:
    return [(window, kind) for window, kind, _ in found(reports)]


def test_what_was_delivered_agrees(look: Look) -> None:
    """A range that was collected has no difference, and its numbers are those of the records."""
    reports = look()

    assert found(reports) == []
    assert [(report.at_source, report.delivered, report.objects) for report in reports] == [(6, 6, 2)] * 3


def test_a_window_that_was_never_collected(look: Look) -> None:
    """No ledger is a difference of its own, with the number of records that lack."""
    reports = look([*RECORDS, audit_log(1, SPAN.end + 5)], span=hours(4))

    assert found(reports) == [
        (Window(SPAN.end), "no_ledger", "no ledger: the window was never collected"),
        (Window(SPAN.end), "not_delivered", "not delivered: 1 record that Zendesk shows"),
    ]
    assert reports[-1].differences[1].identities == ("1",)


def test_a_window_that_was_left_in_the_middle(look: Look, deliveries: Deliveries) -> None:
    """A run that broke off leaves a ledger that is not complete."""
    span = hours(1, skip=3)
    delivery = deliveries.delivery(span)
    records = audit_logs(span)

    def broken() -> Iterator[Page]:
        yield from paged(records)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        walk(delivery, broken())

    assert kinds(look(records, span=span)) == [
        (Window(span.start), "incomplete"),
        (Window(span.start), "not_delivered"),
    ]


def test_what_the_source_shows_and_no_ledger_has_is_found(look: Look, bucket: Bucket) -> None:
    """Counted; a window whose ledger is gone is missing everything, and one that Zendesk shows no more of, nothing."""
    assert found(look(RECORDS, span=hours(1))) == []
    bucket.delete([bucket.layout.ledger("audit_logs", FIRST)])
    assert found(look(RECORDS[:1], span=hours(1)))[:2] == [
        (FIRST, "no_ledger", "no ledger: the window was never collected"),
        (FIRST, "not_delivered", "not delivered: 1 record that Zendesk shows"),
    ]


def test_records_that_zendesk_shows_and_no_ledger_has(look: Look) -> None:
    """They are counted, and their identities are at hand."""
    (difference,) = look([*RECORDS, audit_log(7, SPAN.end - 1), audit_log(8, SPAN.end - 1)])[-1].differences

    assert difference.text == "not delivered: 2 records that Zendesk shows"
    assert difference.identities == ("7", "8")


def test_audit_logs_that_zendesk_no_longer_shows(look: Look) -> None:
    """Audit logs are kept for good: one that is gone is a difference."""
    assert found(look(RECORDS[1:])) == [(FIRST, "not_at_source", "no longer at Zendesk: 1 record of its ledger")]


def test_ticket_states_that_were_replaced(look: Look, deliveries: Deliveries) -> None:
    """A newer state takes the place of an older one: counted, and no difference."""
    old, new = ticket(1, FIRST.start + 5), ticket(1, FIRST.start + 9)
    tickets = Deliveries(bucket=deliveries.bucket, stream=INCREMENTAL_TICKETS)
    tickets.records(hours(1), [old])
    tickets.records(hours(1), [new])

    (report,) = look([new], span=hours(1))

    assert (report.differences, report.replaced, report.delivered) == ((), 1, 2)


def test_a_ledger_that_cannot_be_read(look: Look, bucket: Bucket) -> None:
    """It is a difference like the others, and the windows beside it are looked at all the same."""
    bucket.put(bucket.layout.ledger(AUDIT_LOGS.name, SECOND), b"no ledger")

    assert kinds(look()) == [(SECOND, "unreadable_ledger")]


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "shorter": (lambda body: body[:-1], "bytes, its ledger says"),
    "no-line-end": (lambda body: body[:-1] + b" ", "does not end with a line end"),
    "no-json": (lambda body: b"#" + body[1:], "holds something that is no record"),
    "other-bytes": (lambda body: body.replace(b"Role changed", b"Role_changed", 1), "holds other bytes than"),
    "other-record": (
        lambda body: body.replace(b'"id":4', b'"id":5', 1),
        "does not hold the records that its ledger says",
    ),
    "other-window": (lambda body: body.replace(b"T06:", b"T09:"), "holds records of another window"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES.keys())
def test_an_object_that_was_changed(look: Look, bucket: Bucket, change: Callable[[bytes], bytes], words: str) -> None:
    """Size, digest, lines, identities and times are compared with the ledger; nothing of a record is said."""
    key = next(key for key in bucket.stored() if "/060000-" in key)
    bucket.put(key, change(bucket.body(key)))

    ((window, kind, text),) = found(look())

    assert (window, kind) == (SECOND, "object_differs")
    assert words in text
    assert key in text
    assert "changed" not in text


def test_objects_are_read_only_where_asked(look: Look, bucket: Bucket) -> None:
    """Outside the sample, a change that keeps the size passes; one that does not is found."""
    first, second = (next(key for key in bucket.stored() if hour in key) for hour in ("/050000-", "/060000-"))
    bucket.put(first, bucket.body(first)[::-1])
    bucket.put(second, b"")

    assert kinds(look(reads=False)) == [(SECOND, "object_differs")]


def test_objects_that_the_feed_deleted(look: Look, bucket: Bucket) -> None:
    """They are counted; what was delivered stays delivered."""
    bucket.delete(bucket.stored())

    reports = look()

    assert found(reports) == []
    assert [report.objects_gone for report in reports] == [2, 2, 2]


def test_an_object_in_no_ledger(look: Look, bucket: Bucket) -> None:
    """Found once no run can be about to name it."""
    content = audit_log(1, SECOND.start).line + b"\n"
    key = bucket.layout.batch(AUDIT_LOGS.name, SECOND, 7, encode(content, compress=False).sha256, ".json")
    bucket.put(key, content)

    assert kinds(look(later=0)) == []
    assert found(look()) == [(SECOND, "unnamed_object", f"{bucket.store.uri(key)} is in no ledger")]


def test_an_object_of_somebody_elses(look: Look, bucket: Bucket) -> None:
    """An unnamed one that no run of ours has written is told apart: collecting the window again does not help."""
    key = bucket.layout.batch(AUDIT_LOGS.name, SECOND, 7, "0" * 64, ".json")
    bucket.put(key, audit_log(1, SECOND.start).line + b"\n")

    ((window, kind, text),) = found(look())

    assert (window, kind) == (SECOND, "foreign_object")
    assert text.endswith("is in no ledger, and not ours: it holds other bytes than its name says")


def _forged_ledger(
    bucket: Bucket, window: Window, content: bytes, records: Sequence[Record], redaction: str = ""
) -> str:
    """A ledger that says of records that an object of this content has delivered them; the object's key."""
    sha256 = encode(content, compress=False).sha256
    key = bucket.layout.batch(AUDIT_LOGS.name, window, 0, sha256, ".json")
    identities = [each.identity for each in records]
    delivered = Delivered(key=key, sha256=sha256, bytes=len(content), identities=identities, redaction=redaction)
    blank = ledgers.empty(AUDIT_LOGS.name, window)
    ledger = msgspec.structs.replace(blank, complete=True, objects=[delivered])
    bucket.put(bucket.layout.ledger(AUDIT_LOGS.name, window), ledgers.encode(ledger))
    return key


@pytest.mark.parametrize("there", [True, False], ids=["object-there", "object-gone"])
def test_a_ledger_of_somebody_elses(look: Look, bucket: Bucket, *, there: bool) -> None:
    """Ledgers are compared with the source: what was never made of Zendesk's records is found, gone or not."""
    records = [record for record in RECORDS if Window.of(record.time) == SECOND]
    made_up = [audit_log(int(record.identity), record.time, "nothing of note") for record in records]
    content = b"".join(record.line + b"\n" for record in made_up)
    bucket.delete(key for key in bucket.stored() if "/060000-" in key)
    key = _forged_ledger(bucket, SECOND, content, records)
    if there:
        bucket.put(key, content)

    ((window, kind, text),) = found(look())

    assert (window, kind) == (SECOND, "content_differs")
    assert text == f"{bucket.store.uri(key)} was not made of what Zendesk shows of its 6 records"


@pytest.mark.parametrize("changes", [{"envelope": True}, {"compress": True}, {"limit": 5_000_000}])
def test_what_was_delivered_in_any_form_is_zendesks(
    look: Look, deliveries: Deliveries, changes: dict[str, Any]
) -> None:
    """Envelopes and compressed objects, one with a record that was shortened among them."""
    span = hours(1, skip=3)
    records = [*audit_logs(span), audit_log(1, span.end - 1, "x" * 4_000_000)]
    deliveries.formed(**changes).records(span, records)

    assert found(look(records, span=span)) == []


def test_redacted_records_are_compared_as_they_are_stored(look: Look, deliveries: Deliveries) -> None:
    """By the rules of now; what other rules have made cannot be told."""
    rules = redaction(AUDIT_LOGS, "builtin:without-personal-data", "0123456789abcdef" * 4)
    span = hours(1, skip=3)
    replace(deliveries, redaction=rules).records(span, audit_logs(span))

    (same,) = look(audit_logs(span), span=span, redaction=rules)
    (other,) = look(audit_logs(span), span=span)
    assert (same.differences, same.not_compared) == ((), 0)
    assert (other.differences, other.not_compared) == ((), 6)


def test_content_that_cannot_be_compared_is_counted(look: Look, bucket: Bucket) -> None:
    """A forged ledger that speaks of rules, or of more than is held at once, is not called agreement."""
    records = [record for record in RECORDS if Window.of(record.time) == SECOND]
    bucket.delete(key for key in bucket.stored() if "/060000-" in key)
    _forged_ledger(bucket, SECOND, b"nothing of note", records, redaction="a" * 64)

    assert [(report.window, report.not_compared) for report in look() if report.not_compared] == [(SECOND, 6)]
    assert sum(report.not_compared for report in look(keep=0)) == len(RECORDS)


def test_ticket_states_that_zendesk_words_anew(look: Look, deliveries: Deliveries) -> None:
    """A custom field that is new shows in old states as well: counted, and no difference."""
    tickets = Deliveries(bucket=deliveries.bucket, stream=INCREMENTAL_TICKETS)
    tickets.records(hours(1), [ticket(1, FIRST.start + 5), ticket(2, FIRST.start + 6)])

    (report,) = look([ticket(1, FIRST.start + 5), ticket(2, FIRST.start + 6, "said anew")], span=hours(1))

    assert (report.differences, report.reworded) == ((), 2)


def test_a_redelivery_is_no_repeat(look: Look, deliveries: Deliveries) -> None:
    """What was sent again on purpose is counted and in order."""
    deliveries.records(hours(1), RECORDS[:6], redeliver=True)

    reports = look()

    assert found(reports) == []
    assert [report.sent_again for report in reports] == [6, 0, 0]


def test_two_runs_at_once_are_found(look: Look, deliveries: Deliveries) -> None:
    """Two objects of one number that hold the same records: neither run saw the other."""
    span = hours(1, skip=3)
    records = audit_logs(span)
    one, other = deliveries.delivery(span), deliveries.formed(limit=900).delivery(span)
    with one, other:
        for page in (records[:1], records[1:]):  # both have opened the window before either writes
            for delivery in (one, other):
                delivery.take(*paged(page, size=6))

    assert kinds(look(records, span=span)) == [(Window(span.start), "repeated")]


def test_a_record_in_two_windows(look: Look, deliveries: Deliveries) -> None:
    """The second window names it; whether its time or its ledger is wrong, SecOps has it twice."""
    again = audit_log(int(RECORDS[0].identity), SPAN.end + 5)
    deliveries.records(hours(1, skip=3), [again])

    assert kinds(look([*RECORDS, again], span=hours(4))) == [(Window(SPAN.end), "in_two_windows")]


def test_without_the_source_the_bucket_alone_is_looked_at(look: Look) -> None:
    """Nothing is said of what Zendesk shows."""
    reports = look(None)

    assert found(reports) == []
    assert {report.at_source for report in reports} == {None}


# The walk, cut into windows


def test_windows_come_while_the_walk_goes_on() -> None:
    """A month does not lie in memory: a window is given as soon as it is proven to be passed."""
    asked: list[int] = []

    def pages() -> Iterator[Page]:
        for page in numbered([record] for record in audit_logs(hours(24), each=1)):
            asked.append(page.number)
            yield page

    given = [(window, len(shown.identities), len(asked)) for window, shown in by_window(pages(), hours(24))]

    assert [window for window, _, _ in given] == list(hours(24))
    assert {shown for _, shown, _ in given} == {1}
    assert all(asked - number <= 3 for number, (_, _, asked) in enumerate(given))


def test_records_outside_the_range_are_left_out() -> None:
    """A page holds what lies before and behind as well; empty windows are empty."""
    records = [audit_log(1, FIRST.start - 1), audit_log(2, FIRST.start), audit_log(3, SPAN.end)]

    assert [shown.identities for _, shown in by_window(paged(records), SPAN)] == [{"2"}, set(), set()]


def test_as_much_of_the_records_is_held_as_may_be() -> None:
    """Of windows beyond that the identities alone are known; what was given makes room again."""
    size = len(RECORDS[0].line)
    given = list(by_window(paged(RECORDS, size=2), SPAN, keep=8 * size))
    crowded = list(by_window(paged(RECORDS, size=2), SPAN, keep=5 * size))

    assert [len(shown.identities) for _, shown in (*given, *crowded)] == [6] * 6
    assert [shown.lines is None for _, shown in crowded] == [True] * 3
    assert [len(shown.lines or ()) for _, shown in given] == [6] * 3


def test_a_record_far_out_of_order_is_an_error() -> None:
    """Its window has been compared already: better no verdict than a wrong one."""
    records = [audit_log(1, FIRST.start), audit_log(2, SPAN.end - 1), audit_log(3, FIRST.start + 1)]

    with pytest.raises(ProtocolError, match="behind later ones"):
        list(by_window(paged(records, size=1), SPAN))


def test_pages_in_any_order_give_what_they_hold() -> None:
    """Nothing was given before: what came first is of no account."""
    records = [audit_log(2, SPAN.end - 1), audit_log(1, FIRST.start), audit_log(3, FIRST.start + 1)]

    assert [shown.identities for _, shown in by_window(paged(records, size=3), SPAN)] == [{"1", "3"}, set(), {"2"}]


# Small ones


def test_seen_remembers_the_first_window() -> None:
    """Only what was seen in another window is given back."""
    seen = Seen()

    assert seen.elsewhere({"1", "2"}, FIRST) == []
    assert seen.elsewhere({"1", "2"}, FIRST) == []
    assert seen.elsewhere({"2", "3"}, SECOND) == ["2"]


def test_the_commands_for_a_range() -> None:
    """One window is a partition, several are a range, both ends belong to it; a very long one is several runs."""
    start = f"{called('dagster')} asset materialize -m zendesk_pipeline.definitions --select audit_logs"

    assert backfills("audit_logs", Span(FIRST.start, FIRST.end)) == [f"{start} --partition 2026-11-12-05:00"]
    assert backfills("audit_logs", Span(FIRST.start, FIRST.start + 3 * HOUR)) == [
        f'{start} --partition-range "2026-11-12-05:00...2026-11-12-07:00"'
    ]
    assert backfills("audit_logs", Span(FIRST.start, FIRST.start + (2 * MOST_OF_A_RUN + 1) * HOUR)) == [
        f'{start} --partition-range "2026-11-12-05:00...2027-04-27-20:00"',
        f'{start} --partition-range "2027-04-27-21:00...2027-10-11-12:00"',
        f"{start} --partition 2027-10-11-13:00",
    ]


@pytest.mark.parametrize(("windows", "taken"), [(MOST_OF_A_RUN, True), (32_766 // 8 + 1, False)])
def test_a_run_that_a_command_asks_for_fits_into_any_sqlite(
    windows: int, request: pytest.FixtureRequest, *, taken: bool
) -> None:
    """Dagster writes eight values a window in one statement: SQLite as its authors ship it takes 4,095 windows.

    An eighth of the windows under an eighth of the limit shows the same; --thorough takes the whole of both.
    """
    part = 1 if request.config.getoption("--thorough") else 8
    span = Span(FIRST.start, FIRST.start + windows // part * HOUR)
    job = build(Settings(resources=("audit_logs",))).resolve_implicit_global_asset_job_def()
    tags = {RANGE_START: Window(span.start).partition_key, RANGE_END: Window(span.end - HOUR).partition_key}

    def create(instance: dg.DagsterInstance) -> None:
        instance.create_run_for_job(job_def=job, tags=tags, asset_selection={dg.AssetKey("audit_logs")})

    with _limit(32_766 // part), dg.DagsterInstance.ephemeral() as instance:
        if taken:
            create(instance)
        else:
            with pytest.raises(OperationalError, match="too many SQL variables"):
                create(instance)


@contextmanager
def _limit(values: int) -> Generator[None]:
    """Connections to SQLite take so many values a statement: 32,766 for its authors, more for Debian, for one."""

    def limit(connection: sqlite3.Connection, _: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, values)

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)
