"""The delivery promise of docs/delivery.md, line by line, against real S3 over HTTP."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
import requests
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zendesk_pipeline.delivery.bucket import Store, prepared
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.writers import WRITERS
from zendesk_pipeline.local.services import local_s3, moto_s3
from zendesk_pipeline.model.errors import DeliveryError, DeniedError, TransientError
from zendesk_pipeline.model.records import Page, Record
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours, lines, numbered, paged, ticket
from zendesk_pipeline_tests.deliveries import (
    FORMS,
    SMALL,
    Bucket,
    Deliveries,
    decoded,
    fresh,
    holds_once,
    walk,
    without_ledgers,
)
from zendesk_pipeline_tests.fakes.s3_wire import Sent, Wire, gone_from, refusal

SECOND, THIRD = (Window(FIRST.start + number * HOUR) for number in (1, 2))
pytestmark = pytest.mark.usefixtures("_one_try")

SPAN = hours(3)
RECORDS = audit_logs(SPAN)


def _times(records: Iterable[bytes]) -> Iterator[str]:
    return (json.loads(line)["created_at"] for line in records)


# Once


@FORMS
def test_every_record_is_delivered_once(deliveries: Deliveries, changes: dict[str, bool]) -> None:
    """After a run the feed holds each record of the range once, byte for byte, and every window is complete."""
    deliveries.formed(**changes).records(SPAN, RECORDS)
    found = [record for body in deliveries.bucket.feed().values() for record in decoded(body)]
    assert sorted(record["id"] for record in found) == sorted(int(record.identity) for record in RECORDS)
    assert changes.get("envelope") or holds_once(deliveries.bucket, RECORDS)
    assert deliveries.bucket.complete(SPAN) == [True] * 3


def test_an_object_holds_records_of_one_window(deliveries: Deliveries) -> None:
    """Every record of an object happened in the hour that its key names."""
    deliveries.records(SPAN, RECORDS)
    for key, body in deliveries.bucket.feed().items():
        hour = key.removeprefix(deliveries.bucket.layout.feed)[:13].replace("/", "-", 2).replace("/", "T")
        assert {time[:13] for time in _times(body.splitlines())} == {hour}


def test_a_range_can_be_run_any_number_of_times(deliveries: Deliveries) -> None:
    """Later runs of the same records write nothing at all, not even a ledger."""
    deliveries.records(SPAN, RECORDS)
    wire = Wire(deliveries.bucket.store.client)
    again = [deliveries.records(SPAN, RECORDS) for _ in range(3)]
    assert wire.keys("PutObject") == []
    assert holds_once(deliveries.bucket, RECORDS)
    assert [sum(tally.duplicates for tally in run.tallies.values()) for run in again] == [len(RECORDS)] * 3


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, len(RECORDS) - 1)), repeated=st.booleans())
def test_objects_depend_on_the_records_only(moto_bucket: Bucket, cuts: set[int], *, repeated: bool) -> None:
    """However Zendesk cuts its pages, and if each page begins with the last record of the one before: same objects."""
    reference, cut = fresh(moto_bucket), fresh(moto_bucket)
    Deliveries(bucket=reference).records(SPAN, RECORDS)
    edges = [0, *sorted(cuts), len(RECORDS)]
    pages = [RECORDS[start - (repeated and start > 0) : end] for start, end in itertools.pairwise(edges)]
    Deliveries(bucket=cut).run(SPAN, numbered(pages))
    assert _objects(cut) == _objects(reference)


def _objects(bucket: Bucket) -> dict[str, bytes]:
    return {key.removeprefix(bucket.layout.feed): body for key, body in bucket.feed().items()}


@hypothesis_settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.permutations(audit_logs(SPAN, each=3)), size=st.integers(1, 9))
def test_records_out_of_order_are_delivered_once(moto_bucket: Bucket, records: list[Record], size: int) -> None:
    """Zendesk promises ascending order; where it does not hold, every record still lands once in its own window."""
    bucket = fresh(moto_bucket)
    Deliveries(bucket=bucket).run(SPAN, paged(records, size))
    assert holds_once(bucket, records)
    assert bucket.complete(SPAN) == [True] * 3


def test_a_record_repeated_within_a_run_is_delivered_once(deliveries: Deliveries) -> None:
    """The same identity on two pages, in the same window or in one that was left already, counts once."""
    done = deliveries.run(SPAN, numbered([RECORDS[:7], RECORDS[5:], RECORDS[:2]]))
    assert holds_once(deliveries.bucket, RECORDS)
    assert sum(tally.duplicates for tally in done.tallies.values()) == 4


def test_records_outside_the_range_are_left_alone(deliveries: Deliveries) -> None:
    """Pages hold more than was asked for: other windows get neither objects nor ledgers."""
    around = audit_logs(hours(6))
    deliveries.records(hours(2, skip=2), around)
    assert holds_once(deliveries.bucket, [record for record in around if 2 <= (record.time - FIRST.start) // HOUR < 4])
    assert [bool(deliveries.bucket.ledger(window)) for window in hours(6)] == [False, False, True, True, False, False]


def test_the_ends_of_a_window_are_exact(deliveries: Deliveries) -> None:
    """A record on the full hour belongs to the window that begins there; one a second earlier to the one before."""
    edge = SECOND.start
    records = [audit_log(number, at) for number, at in enumerate((edge - 1, edge, edge + HOUR - 1, edge + HOUR))]
    deliveries.records(hours(1, skip=1), records)
    assert holds_once(deliveries.bucket, records[1:3])


def test_two_streams_share_a_bucket(deliveries: Deliveries) -> None:
    """Streams keep ledgers and objects of their own, also where identities look alike."""
    tickets = replace(deliveries, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"))
    logs = [audit_log(number, FIRST.start + number) for number in range(5)]
    changed = [ticket(number, FIRST.start + number) for number in range(5)]
    deliveries.records(hours(1), logs)
    tickets.records(hours(1), changed)
    assert deliveries.bucket.lines() == sorted(lines(logs) + lines(changed))


def test_a_ticket_that_changes_again_is_delivered_again(bucket: Bucket) -> None:
    """A new state of a ticket is another record, as it has another generated_timestamp; the old one is not repeated."""
    tickets = Deliveries(bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"))
    states = [ticket(1, FIRST.start), ticket(2, FIRST.start + 1), ticket(1, FIRST.start + 9, "changed")]
    tickets.records(hours(1), states[:2])
    tickets.records(hours(1), states[1:])
    assert holds_once(bucket, states)


def test_empty_windows_that_are_new_cost_one_request_each(deliveries: Deliveries) -> None:
    """A year without records is a write for each hour: none of its ledgers is looked for, but of the first few."""
    span = hours(48)
    wire = Wire(deliveries.bucket.store.client)
    deliveries.run(span, [])
    ledger = partial(deliveries.bucket.layout.ledger, "audit_logs")
    assert sorted(wire.keys("PutObject")) == [ledger(window) for window in span]
    assert len(wire.keys("GetObject")) <= WRITERS
    assert deliveries.bucket.complete(span) == [True] * 48


def test_empty_windows_that_were_delivered_are_only_read(deliveries: Deliveries) -> None:
    """No ledger that is there is written for nothing: tried at most where the range comes upon the first of them."""
    span = hours(48)
    late = Span(span.start + 24 * HOUR, span.end)
    deliveries.run(late, [])
    ledger = partial(deliveries.bucket.layout.ledger, "audit_logs")
    wire = Wire(deliveries.bucket.store.client)
    both = deliveries.run(span, [])
    assert len({ledger(window) for window in late} & {*wire.keys("PutObject")}) <= WRITERS
    assert deliveries.bucket.complete(span) == [True] * 48
    assert len(both.finished) == 48
    wire = Wire(deliveries.bucket.store.client)
    assert len(deliveries.run(span, []).finished) == 48
    assert wire.keys("PutObject") == []


def test_a_window_that_is_empty_now_keeps_what_it_delivered(deliveries: Deliveries) -> None:
    """Zendesk shows nothing any more of a window among new ones: its ledger stays, and so do the metadata's numbers."""
    span = hours(48)
    old = Window(span.start + 30 * HOUR)
    deliveries.records(Span(old.start, old.end), [audit_log(1, old.start), audit_log(2, old.start + 1)])
    before = deliveries.bucket.ledger(old)
    run = deliveries.run(span, [])
    assert deliveries.bucket.ledger(old) == before
    assert (run.tallies[old].total, len(run.tallies[old].objects)) == (2, 1)


def test_a_crash_is_mended_in_a_window_that_is_empty_now(deliveries: Deliveries) -> None:
    """An object that no ledger names is adopted among new windows too, although no record of the window is shown."""
    span = hours(48)
    old = Window(span.start + 30 * HOUR)
    deliveries.records(Span(old.start, old.end), [audit_log(1, old.start)])
    left = without_ledgers(deliveries.bucket)
    run = deliveries.run(span, [])
    assert [delivered["key"] for delivered in deliveries.bucket.ledger(old)["objects"]] == left
    assert deliveries.bucket.complete(span) == [True] * 48
    assert run.tallies[old].total == 1


def test_an_empty_window_is_complete(deliveries: Deliveries) -> None:
    """A window without records gets a ledger that says so, and no object: a feed takes no empty files."""
    deliveries.run(SPAN, numbered([RECORDS[:6], []]))
    assert deliveries.bucket.complete(SPAN) == [True] * 3
    assert deliveries.bucket.ledger(SECOND)["objects"] == []
    assert holds_once(deliveries.bucket, RECORDS[:6])


def test_the_same_source_gives_the_same_objects(deliveries: Deliveries) -> None:
    """Two buckets that collect the same source end with the same keys and bytes, compressed ones too."""
    other = replace(deliveries, bucket=fresh(deliveries.bucket))
    for each in (deliveries, other):
        each.formed(compress=True).records(SPAN, RECORDS)
    raw = [
        {key.removeprefix(each.bucket.layout.feed): _etag(each.bucket, key) for key in each.bucket.stored()}
        for each in (deliveries, other)
    ]
    assert raw[0] == raw[1]
    assert len(raw[0]) == 6


def _etag(bucket: Bucket, key: str) -> str:
    return bucket.store.client.head_object(Bucket=bucket.store.bucket, Key=key)["ETag"]


# Late records and redelivery


def test_a_late_record_goes_into_its_own_window(deliveries: Deliveries) -> None:
    """What shows up after its window was delivered is found by the look-back, and delivered there as a new object."""
    deliveries.records(hours(2), RECORDS[:12])
    before = deliveries.bucket.feed()
    late = audit_log(1, SECOND.end - 1)
    done = deliveries.records(hours(1, skip=2), [*RECORDS[6:12], late, *RECORDS[12:]], lookback=HOUR)
    added = deliveries.bucket.feed().keys() - before.keys()
    assert holds_once(deliveries.bucket, [*RECORDS, late])
    assert len([key for key in added if "/060000-zendesk-audit_logs-0002-" in key]) == 1
    assert done.tallies[SECOND].late == 1
    assert done.tallies[SECOND].duplicates == 6
    assert done.finished == [THIRD]
    assert before.items() <= deliveries.bucket.feed().items()


def test_a_late_record_waits_for_a_window_not_yet_delivered(deliveries: Deliveries) -> None:
    """The look-back never delivers a part of a window: one that was never complete is left to its own run."""
    deliveries.records(hours(1, skip=2), RECORDS[6:], lookback=HOUR)
    assert holds_once(deliveries.bucket, RECORDS[12:])
    assert deliveries.bucket.ledger(SECOND) == {}
    deliveries.records(hours(2), RECORDS[:12])
    assert holds_once(deliveries.bucket, RECORDS)


def test_late_records_beyond_the_lookback_are_left_alone(deliveries: Deliveries) -> None:
    """Only windows that the look-back covers are opened again."""
    deliveries.records(hours(2), RECORDS[:12])
    late = [audit_log(1, FIRST.end - 1), audit_log(2, SECOND.end - 1)]
    deliveries.records(hours(1, skip=2), [*late, *RECORDS[12:]], lookback=HOUR // 2)
    assert holds_once(deliveries.bucket, [*RECORDS, late[1]])


def test_a_record_that_shows_late_is_found_by_running_its_window_again(deliveries: Deliveries) -> None:
    """However late a record shows, running its own window again delivers it, and it alone."""
    late = audit_log(1, FIRST.start + 9)
    deliveries.records(SPAN, RECORDS)
    done = deliveries.records(SPAN, [late, *RECORDS])
    assert holds_once(deliveries.bucket, [*RECORDS, late])
    assert [(done.tallies[window].records, done.tallies[window].late) for window in SPAN] == [(1, 1), (0, 0), (0, 0)]


def test_redeliver_sends_everything_again_as_new_objects(deliveries: Deliveries) -> None:
    """On request records that were delivered go out again; what lay there stays as it is."""
    deliveries.records(SPAN, RECORDS)
    before = deliveries.bucket.feed()
    deliveries.records(SPAN, RECORDS, redeliver=True)
    assert deliveries.bucket.lines() == sorted(lines(RECORDS) * 2)
    assert before.items() <= deliveries.bucket.feed().items()
    deliveries.records(SPAN, RECORDS)
    assert len(deliveries.bucket.feed()) == 2 * len(before)


def test_redeliver_is_for_the_range_only(deliveries: Deliveries) -> None:
    """Windows that are only looked back into are not sent again."""
    deliveries.records(SPAN, RECORDS)
    deliveries.records(hours(1, skip=2), RECORDS[6:], lookback=HOUR, redeliver=True)
    assert deliveries.bucket.lines() == sorted(lines(RECORDS) + lines(RECORDS[12:]))


def test_a_record_repeated_within_a_redelivery_is_sent_once(deliveries: Deliveries) -> None:
    """Within one redelivering run an identity still counts once."""
    deliveries.records(SPAN, RECORDS)
    deliveries.run(SPAN, numbered([RECORDS[:7], RECORDS[5:]]), redeliver=True)
    assert deliveries.bucket.lines() == sorted(lines(RECORDS) * 2)


@FORMS
def test_what_the_feed_deleted_is_not_delivered_again(deliveries: Deliveries, changes: dict[str, bool]) -> None:
    """SecOps may delete what it has read: the ledger remembers, and a run of the range again writes nothing."""
    deliveries = deliveries.formed(**changes)
    deliveries.records(SPAN, RECORDS)
    deliveries.bucket.delete(deliveries.bucket.stored())
    deliveries.records(SPAN, RECORDS)
    assert deliveries.bucket.stored() == []


# Crashes


@FORMS
def test_a_crash_between_object_and_ledger_repeats_nothing(deliveries: Deliveries, changes: dict[str, bool]) -> None:
    """Objects that no ledger names are known by their own lines: nothing is written twice, the ledgers are mended."""
    deliveries = deliveries.formed(**changes)
    deliveries.records(SPAN, RECORDS)
    ledgers_before = [deliveries.bucket.ledger(window) for window in SPAN]
    keys = without_ledgers(deliveries.bucket)
    deliveries.records(SPAN, RECORDS)
    assert deliveries.bucket.stored() == keys
    assert [deliveries.bucket.ledger(window) for window in SPAN] == ledgers_before


def test_a_crash_is_mended_although_the_source_went_on(deliveries: Deliveries) -> None:
    """What changed at the source since the crash makes other batches: what was stored is still not repeated."""
    deliveries.records(SPAN, RECORDS)
    without_ledgers(deliveries.bucket)
    gone, new = RECORDS[0], [audit_log(number, record.time) for number, record in enumerate(RECORDS[::4])]
    since = sorted([*RECORDS[1:], *new], key=lambda record: record.time)
    deliveries.records(SPAN, since)
    assert holds_once(deliveries.bucket, [*since, gone])
    assert deliveries.bucket.complete(SPAN) == [True] * 3


def test_a_changed_compression_repeats_nothing(deliveries: Deliveries) -> None:
    """Settings may change between a crash and the run that mends it: the records still count as delivered."""
    deliveries.records(SPAN, RECORDS)
    keys = without_ledgers(deliveries.bucket)
    deliveries.formed(compress=True, envelope=True, limit=9999).records(SPAN, RECORDS)
    assert deliveries.bucket.stored() == keys


def _then_fails(pages: list[Page], after: int) -> Iterator[Page]:
    """A walk that breaks after so many pages."""
    yield from pages[:after]
    raise TransientError("Zendesk answered 503.")


def _proving(pages: Sequence[Sequence[Record]], passed: Sequence[int]) -> list[Page]:
    """Pages, and what each is to prove."""
    return [replace(page, passed=at) for page, at in zip(numbered(pages), passed, strict=True)]


def test_what_is_not_proven_to_be_passed_is_not_finished(deliveries: Deliveries) -> None:
    """A record that stands early proves nothing: the windows before it stay open where the walk then fails."""
    early = audit_log(1, THIRD.end - 1)
    delivery = deliveries.delivery(SPAN)
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(_proving([RECORDS[:4], [early]], [0, FIRST.start]), 2))
    assert delivery.finished == []
    assert deliveries.bucket.complete(SPAN) == [False] * 3
    deliveries.records(SPAN, sorted([*RECORDS, early], key=lambda record: record.time))
    assert holds_once(deliveries.bucket, [*RECORDS, early])
    assert deliveries.bucket.complete(SPAN) == [True] * 3


def test_a_finish_that_was_wrong_is_taken_back(deliveries: Deliveries) -> None:
    """A new record of a finished window, and a failure behind it: no window of the run counts as finished any more."""
    pages = _proving([RECORDS[:4], RECORDS[12:], RECORDS[4:8]], [0, THIRD.start, THIRD.start])
    delivery = deliveries.delivery(SPAN)
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(pages, 3))
    assert delivery.finished == []
    assert deliveries.bucket.complete(SPAN) == [False] * 3
    assert any("new record of this window" in warning for warning in deliveries.warnings)
    deliveries.records(SPAN, RECORDS)
    assert holds_once(deliveries.bucket, RECORDS)
    assert deliveries.bucket.complete(SPAN) == [True] * 3


def test_a_finish_whose_answer_was_lost_is_taken_back(deliveries: Deliveries) -> None:
    """S3 has written the ledger of an empty window, and nobody heard of it: the flag is this run's all the same."""
    store = deliveries.bucket.store
    bucket = replace(deliveries.bucket, store=replace(store, client=prepared(store.client), sleep=float))
    answers = iter([True])

    def loses(sent: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
        ledger = bucket.layout.ledger("audit_logs", SECOND)
        if (sent.operation, sent.key) == ("PutObject", ledger) and next(answers, False):
            send()
            raise ConnectionClosedError(endpoint_url="http://s3")
        return None

    Wire(store.client, fault=loses)
    first, second, third = _proving([RECORDS[12:15], RECORDS[15:], RECORDS[6:7]], [SECOND.start, *[THIRD.start] * 2])

    def pages() -> Iterator[Page]:
        yield first
        while not all(bucket.complete(hours(1))):
            pass
        yield second
        while not all(bucket.complete(hours(2))):
            pass
        yield third
        raise TransientError("Zendesk answered 503.")

    with pytest.raises(TransientError):
        walk(replace(deliveries, bucket=bucket).delivery(SPAN), pages())
    assert next(answers, False) is False
    assert bucket.complete(SPAN) == [False] * 3


def test_a_finish_is_taken_back_although_another_fails(deliveries: Deliveries) -> None:
    """Of two windows that are finished wrongly S3 refuses the ledger of one: the other does not stay complete."""
    bucket, begins = deliveries.bucket, threading.Event()

    class Warnings(list[str]):
        def append(self, text: str) -> None:
            super().append(text)
            begins.set()

    def refuses(sent: Sent, _: Callable[[], AWSResponse]) -> AWSResponse | None:
        if (sent.operation, sent.key) != ("PutObject", bucket.layout.ledger("audit_logs", SECOND)):
            return None
        begins.wait(60)
        return refusal(403, "AccessDenied")

    Wire(bucket.store.client, fault=refuses)
    first, second = _proving([RECORDS[12:], RECORDS[:1]], [THIRD.start] * 2)

    def pages() -> Iterator[Page]:
        yield first
        while not all(bucket.complete(hours(1))):
            pass
        yield second

    with pytest.raises(DeniedError):
        walk(replace(deliveries, warnings=Warnings()).delivery(SPAN), pages())
    assert bucket.complete(SPAN) == [False] * 3


def test_what_was_taken_back_is_finished_at_the_end_of_the_walk(deliveries: Deliveries) -> None:
    """The walk goes on, proves nothing more on its way, and is whole when it ends: no record is late, none repeated."""
    pages = _proving([RECORDS[:4], RECORDS[12:], RECORDS[4:8], RECORDS[8:12]], [0, *[THIRD.start] * 3])
    done = deliveries.run(SPAN, pages)
    assert holds_once(deliveries.bucket, RECORDS)
    assert done.finished == list(SPAN)
    assert deliveries.bucket.complete(SPAN) == [True] * 3
    assert sum(tally.late for tally in done.tallies.values()) == 0


def test_a_record_that_comes_again_takes_nothing_back(deliveries: Deliveries) -> None:
    """What is known of a finished window is no new record."""
    pages = _proving([RECORDS[:6], RECORDS[6:12], RECORDS[:2]], [0, SECOND.start, THIRD.start])
    delivery = deliveries.delivery(SPAN)
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(pages, 3))
    assert delivery.finished == [FIRST, SECOND]
    assert deliveries.bucket.complete(SPAN) == [True, True, False]


def test_what_an_earlier_run_has_finished_is_not_taken_back(deliveries: Deliveries) -> None:
    """It was complete before: its ledger stays so, and this run does not report it."""
    deliveries.records(SPAN, RECORDS)
    late = audit_log(1, FIRST.start + 9)
    delivery = deliveries.delivery(SPAN)
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(_proving([RECORDS[12:], [late]], [THIRD.start] * 2), 2))
    assert deliveries.bucket.complete(SPAN) == [True] * 3
    assert delivery.finished == []


def test_a_flag_that_another_run_has_set_since_is_not_taken_back(deliveries: Deliveries) -> None:
    """The ledger is of another version by then: what the other run says of the window counts."""
    other = audit_log(1, FIRST.start + 9)

    def pages() -> Iterator[Page]:
        yield from _proving([RECORDS[12:]], [THIRD.start])
        deliveries.records(hours(1), [*RECORDS[:6], other])
        yield from _proving([[audit_log(2, FIRST.start + 10)]], [THIRD.start])
        raise TransientError("Zendesk answered 503.")

    with pytest.raises(TransientError):
        walk(deliveries.delivery(SPAN), pages())
    assert deliveries.bucket.complete(SPAN)[:2] == [True, False]


@pytest.mark.parametrize("most", [0, 5, 10_000])
def test_many_open_windows_are_noted_and_read_again(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Where nothing is proven before the end, memory holds the identities of some windows, and the feed all records."""
    monkeypatch.setattr("zendesk_pipeline.delivery.window_writer.MOST_KNOWN", most)
    monkeypatch.setattr("zendesk_pipeline.delivery.window_writer.PAGES_BETWEEN_COUNTS", 1)
    pages = _proving([RECORDS[12:], RECORDS[:6], RECORDS[6:12], RECORDS[3:15], RECORDS[:1]], [0] * 5)
    done = deliveries.run(SPAN, pages)
    assert holds_once(deliveries.bucket, RECORDS)
    assert done.finished == list(SPAN)


@pytest.mark.parametrize("after", [20, 40])
def test_pages_that_show_many_windows_hold_few_bytes(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """What a walk has not stored when it fails, it held: never more than the bound, in objects that are not small."""
    most, windows = 20_000, hours(24)
    monkeypatch.setattr("zendesk_pipeline.delivery.window_writer.MOST_GROWING", most)
    shown = [
        [audit_log(page * 100 + number, window.start + page) for number, window in enumerate(windows)]
        for page in range(after)
    ]
    pages = _proving(shown, [0] * after)
    large = deliveries.formed(limit=most)
    with pytest.raises(TransientError):
        walk(large.delivery(windows), _then_fails(pages, after))
    stored = deliveries.bucket.feed()
    taken = sum(len(record.line) + 1 for page in shown for record in page)
    assert taken > 2 * most
    assert 0 <= taken - sum(map(len, stored.values())) <= most
    assert sum(map(len, stored.values())) / len(stored) > most / 2 / len(windows)
    records = [record for page in shown for record in page]
    large.records(windows, records)
    assert holds_once(deliveries.bucket, records)


@pytest.mark.parametrize("after", range(6))
def test_a_walk_that_fails_keeps_what_is_finished(deliveries: Deliveries, after: int) -> None:
    """Windows that the walk is proven to have passed are finished and complete, no other is; a re-run is exact."""
    pages = paged(RECORDS)
    delivery = deliveries.delivery(SPAN)
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(pages, after))
    left = [window for window in SPAN if any(page.passed >= window.end for page in pages[:after])]
    assert delivery.finished == left
    assert deliveries.bucket.complete(SPAN) == [window in left for window in SPAN]
    done = deliveries.run(SPAN, pages)
    assert holds_once(deliveries.bucket, RECORDS)
    assert done.finished == list(SPAN)


def test_what_an_unfinished_window_has_stored_is_noted(deliveries: Deliveries) -> None:
    """A run that fails writes down what it has stored, so that the feed may delete it before the next run."""
    delivery = deliveries.delivery(hours(1))
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(paged(RECORDS[:6]), 2))
    stored = deliveries.bucket.stored()
    assert len(stored) == 1
    deliveries.bucket.delete(stored)
    deliveries.records(hours(1), RECORDS[:6])
    assert holds_once(deliveries.bucket, RECORDS[3:6])


@pytest.mark.parametrize("stored", [pytest.param(False, id="not-stored"), pytest.param(True, id="answer-lost")])
@pytest.mark.parametrize("number", range(9))
def test_s3_failing_in_the_middle_loses_and_repeats_nothing(
    deliveries: Deliveries, number: int, *, stored: bool
) -> None:
    """Wherever S3 goes away, with the last write done or not: a clear error, and the next run is exact."""
    wire = Wire(deliveries.bucket.store.client, fault=gone_from(number, stored=stored))
    delivery = deliveries.delivery(SPAN)
    with pytest.raises(DeliveryError, match=r"S3 gave no answer to PutObject"):
        walk(delivery, paged(RECORDS))
    wire.fault = None
    assert set(deliveries.bucket.lines()) <= set(lines(RECORDS))
    assert _held(deliveries.bucket, delivery.finished)
    deliveries.records(SPAN, RECORDS)
    assert holds_once(deliveries.bucket, RECORDS)


def _held(bucket: Bucket, windows: Iterable[Window], records: Iterable[Record] = RECORDS) -> bool:
    """Whether the feed holds every record of the windows."""
    wanted = set(windows)
    return {record.line for record in records if Window.of(record.time) in wanted} <= set(bucket.lines())


def test_a_failing_write_stops_the_walk_soon(deliveries: Deliveries) -> None:
    """Zendesk is not asked for the rest of a long range when S3 takes nothing more."""
    Wire(deliveries.bucket.store.client, fault=gone_from(0))
    asked = iter(paged(audit_logs(hours(200))))
    with pytest.raises(DeliveryError):
        deliveries.run(hours(200), asked)
    assert next(asked).number < 30


def test_s3_that_dies_and_comes_back_holds_each_record_once(tmp_path: Path, layout: Layout) -> None:
    """The server is killed in the middle of a range and started again over its data: the next run is exact."""
    place, stored = _killed_in_the_middle(tmp_path, layout)
    with local_s3(tmp_path) as server:
        place = replace(place, store=replace(place.store, client=server.client()))
        assert set(stored) <= set(place.stored()) | set(place.stored(layout.state))
        Deliveries(bucket=place).records(SPAN, RECORDS)
        assert holds_once(place, RECORDS)


def _killed_in_the_middle(folder: Path, layout: Layout) -> tuple[Bucket, list[str]]:
    """A run whose S3 server is killed once four writes are done; the keys of which it heard that they are stored."""
    stored: list[str] = []
    with ExitStack() as until_killed:
        server = until_killed.enter_context(local_s3(folder))
        place = Bucket(store=Store(client=server.client(), bucket=server.bucket, encryption={}), layout=layout)

        def kills_the_server(sent: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
            if sent.operation != "PutObject":
                return None
            if len(stored) >= 4:
                until_killed.close()
                return None
            answer = send()
            stored.append(sent.key)
            return answer

        Wire(place.store.client, fault=kills_the_server)
        with pytest.raises(DeliveryError, match="S3 gave no answer"):
            Deliveries(bucket=place).records(SPAN, RECORDS)
    return place, stored


runs = st.lists(
    st.fixed_dictionaries(
        {
            "skip": st.integers(0, 2),
            "count": st.integers(1, 3),
            "lookback": st.sampled_from([0, HOUR]),
            "crash": st.integers(0, 12),
            "stored": st.booleans(),
            "rotated": st.integers(0, 9),
        }
    ),
    min_size=1,
    max_size=4,
)
visible = st.lists(st.integers(0, 3), min_size=len(RECORDS), max_size=len(RECORDS))


@hypothesis_settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(runs=runs, shows=visible)
def test_any_history_of_crashes_ends_exact(moto_bucket: Bucket, runs: list[dict[str, Any]], shows: list[int]) -> None:
    """Runs of any ranges, in any order, that crash anywhere while records show up late: one sound run makes it exact.

    And no run ever reports a window finished of which a record that it was shown is not in the feed.
    """
    bucket = fresh(moto_bucket)
    deliveries = Deliveries(bucket=bucket)
    wire = Wire(bucket.store.client)
    for number, run in enumerate(runs):
        span = Span(SPAN.start + run["skip"] * HOUR, min(SPAN.end, SPAN.start + (run["skip"] + run["count"]) * HOUR))
        shown = [
            record
            for record, since in zip(RECORDS, shows, strict=True)
            if since <= number and span.start - run["lookback"] <= record.time < span.end
        ]
        shown = shown[run["rotated"] :] + shown[: run["rotated"]]
        wire.fault = gone_from(run["crash"], stored=run["stored"])
        delivery = deliveries.delivery(span, lookback=run["lookback"])
        with suppress(DeliveryError):
            walk(delivery, paged(shown))
        wire.fault = None
        assert _held(bucket, delivery.finished, shown)
    deliveries.records(SPAN, RECORDS)
    assert holds_once(bucket, RECORDS)
    assert bucket.complete(SPAN) == [True] * 3


# Finished means all of it


def test_a_window_taken_up_again_is_finished_only_with_its_last_record(deliveries: Deliveries) -> None:
    """A record out of order takes up a window that was finished: if the run fails then, it is not reported as such."""
    stray = audit_log(1, FIRST.start + 1)
    delivery = deliveries.delivery(SPAN)
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(numbered([RECORDS[:13], [RECORDS[13], stray]]), 2))
    assert _held(deliveries.bucket, delivery.finished, [*RECORDS, stray])


def test_a_redelivery_that_fails_is_not_reported_as_finished(deliveries: Deliveries) -> None:
    """A window that was complete before is finished by a redelivering run only once all of it went out again."""
    deliveries.records(hours(1), RECORDS[:6])
    delivery = deliveries.delivery(hours(1), redeliver=True)
    with pytest.raises(TransientError):
        walk(delivery, _then_fails(paged(RECORDS[:6]), 2))
    assert len(deliveries.bucket.lines()) == 9
    assert delivery.finished == []


# Two at once


@pytest.mark.parametrize("server", ["bucket", "moto_bucket"], ids=["seaweedfs", "moto"])
def test_two_runs_of_the_same_windows_at_once_deliver_once(server: str, request: pytest.FixtureRequest) -> None:
    """Two runs that do the same work at the same moment end with each record once and whole ledgers."""
    place: Bucket = request.getfixturevalue(server)
    together, failures = threading.Barrier(2), list[BaseException]()

    def run() -> None:
        try:
            with Deliveries(bucket=place).delivery(SPAN) as delivery:
                for page in paged(RECORDS):
                    together.wait(30)
                    delivery.take(page)
        except BaseException as problem:  # noqa: BLE001 - looked at below
            failures.append(problem)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert holds_once(place, RECORDS)
    assert _named(place) == sorted(place.stored())


def _named(bucket: Bucket) -> list[str]:
    """The objects that ledgers name."""
    return sorted(each["key"] for window in SPAN for each in bucket.ledger(window)["objects"])


# Rights


PUT, GET = "s3:PutObject", "s3:GetObject"
BUCKET = "arn:aws:s3:::zendesk-raw"
RIGHTS = {
    "all": [{"Effect": "Allow", "Action": "s3:*", "Resource": [BUCKET, f"{BUCKET}/*"]}],
    "documented": [
        {
            "Effect": "Allow",
            "Action": PUT,
            "Resource": [f"{BUCKET}/*/{part}/*" for part in ("crm", "state", "quarantine")],
        },
        {"Effect": "Allow", "Action": GET, "Resource": [f"{BUCKET}/*/{part}/*" for part in ("crm", "state")]},
        {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": BUCKET},
    ],
    "feed write-only": [
        {"Effect": "Allow", "Action": PUT, "Resource": f"{BUCKET}/*"},
        {"Effect": "Allow", "Action": GET, "Resource": f"{BUCKET}/*/state/*"},
    ],
    "feed read-only": [{"Effect": "Allow", "Action": [GET, "s3:ListBucket"], "Resource": [BUCKET, f"{BUCKET}/*"]}],
}


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """An S3 client for each of `RIGHTS`, at a moto that enforces them."""
    with moto_s3(tmp_path_factory.mktemp("rights")) as server:
        where = {"endpoint_url": server.endpoint, "region_name": "us-east-1"}
        make = cast("Callable[..., Any]", boto3.client)  # hints of S3 only are installed
        iam = make("iam", aws_access_key_id="a", aws_secret_access_key="b", **where)
        clients: dict[str, Any] = {}
        for number, (name, statements) in enumerate(RIGHTS.items()):
            user = f"user-{number}"
            iam.create_user(UserName=user)
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=policy)
            key = iam.create_access_key(UserName=user)["AccessKey"]
            identity = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
            clients[name] = make("s3", **identity, **where)
        requests.post(f"{server.endpoint}/moto-api/reset-auth", data="0", timeout=60).raise_for_status()
        yield clients


def _run_with(clients: dict[str, Any], rights: str, layout: Layout, times: int = 2) -> tuple[Bucket, list[str]]:
    """The bucket after runs that have certain rights, as somebody with all of them sees it, and the runs' warnings."""
    place = Bucket(store=Store(client=clients[rights], bucket="zendesk-raw", encryption={}), layout=layout)
    deliveries = Deliveries(bucket=place)
    for _ in range(times):
        deliveries.records(SPAN, RECORDS)
    return replace(place, store=replace(place.store, client=clients["all"])), deliveries.warnings


def test_the_documented_rights_are_enough(clients: dict[str, Any], layout: Layout) -> None:
    """PutObject on three prefixes, GetObject on two and ListBucket: no warning, and a crash is mended."""
    place, warnings = _run_with(clients, "documented", layout)
    without_ledgers(place)
    _, later = _run_with(clients, "documented", layout)
    assert holds_once(place, RECORDS)
    assert warnings + later == []


def test_a_feed_that_is_write_only_works_with_a_warning(clients: dict[str, Any], layout: Layout) -> None:
    """Without rights to list and read the feed each run says once what that costs, and delivers each record once."""
    place, warnings = _run_with(clients, "feed write-only", layout)
    assert holds_once(place, RECORDS)
    assert len(warnings) == 2
    assert "s3:ListBucket" in warnings[0]
    assert "Without it a crash between two writes can repeat a batch." in warnings[0]


def test_a_write_only_feed_can_repeat_a_crash_and_never_loses(clients: dict[str, Any], layout: Layout) -> None:
    """What the warning says is so: after a crash the records are there at least once, and every window is complete."""
    place, _ = _run_with(clients, "feed write-only", layout, times=1)
    without_ledgers(place)
    extra = audit_log(1, FIRST.start)
    deliveries = Deliveries(bucket=replace(place, store=replace(place.store, client=clients["feed write-only"])))
    deliveries.records(SPAN, [extra, *RECORDS])
    assert Counter(place.lines()) >= Counter(lines([extra, *RECORDS]))
    assert place.complete(SPAN) == [True] * 3


def test_a_redelivery_that_broke_off_goes_on(deliveries: Deliveries) -> None:
    """Killed wherever it was and started again, it sends each record once more, not twice: ledger or not."""
    deliveries.records(SPAN, RECORDS)
    for number in range(4, 9):
        place = replace(deliveries, bucket=fresh(deliveries.bucket), redelivery=f"run-{number}")
        place.records(SPAN, RECORDS)
        wire = Wire(place.bucket.store.client, fault=gone_from(number, stored=True))
        with pytest.raises(DeliveryError):
            place.records(SPAN, RECORDS, redeliver=True)
        wire.fault = None
        place.records(SPAN, RECORDS, redeliver=True)
        assert place.bucket.lines() == sorted(lines(RECORDS) * 2)
        replace(place, redelivery="another").records(SPAN, RECORDS, redeliver=True)
        assert place.bucket.lines() == sorted(lines(RECORDS) * 3)


def test_a_credential_that_may_not_write_is_told_so(clients: dict[str, Any], layout: Layout) -> None:
    """The error names the right and the object."""
    with pytest.raises(
        DeniedError, match=rf"PutObject on s3://zendesk-raw/{layout.feed}.*give the writer s3:PutObject"
    ):
        _run_with(clients, "feed read-only", layout)


# What it costs


def test_s3_is_asked_as_little_as_can_be(deliveries: Deliveries) -> None:
    """A PUT for each batch and each ledger, a GET for each ledger, a LIST for each day: over midnight that is two."""
    span = hours(4, skip=17)
    records = audit_logs(span)
    wire = Wire(deliveries.bucket.store.client)
    deliveries.records(span, records)
    assert Counter(sent.operation for sent in wire.sent) == {"PutObject": 4 * 2 + 4, "GetObject": 4, "ListObjectsV2": 2}
    wire.sent.clear()
    deliveries.records(span, records)
    assert Counter(sent.operation for sent in wire.sent) == {"GetObject": 4, "ListObjectsV2": 2}


def test_objects_go_before_their_ledger(deliveries: Deliveries) -> None:
    """A window's ledger is written only when S3 has answered for every object of it."""
    events: list[str] = []

    def notes_the_order(sent: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
        if sent.operation != "PutObject":
            return None
        answer = send()
        events.append("ledger" if sent.key.startswith(deliveries.bucket.layout.state) else "object")
        return answer

    Wire(deliveries.bucket.store.client, fault=notes_the_order)
    deliveries.records(hours(1), audit_logs(hours(1), each=30))
    assert events == ["object"] * 10 + ["ledger"]
