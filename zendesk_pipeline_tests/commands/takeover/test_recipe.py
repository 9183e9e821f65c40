"""What the recipe left, read, and noted in ledgers: pages made by hand in a real bucket."""

import gzip
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from zendesk_pipeline.commands.takeover.recipe import LONGEST_READ, Index, Left, TakeOver, others, read
from zendesk_pipeline.commands.verify.comparison import Verification
from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.inspection import RECIPE_IS_OFF, Inspector, feed
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.recipe_keys import recipe_object
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline.model.errors import DeliveryError
from zendesk_pipeline.model.records import Record
from zendesk_pipeline.model.streams import AUDIT_LOGS
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries
from zendesk_pipeline_tests.fakes.s3_proxy import S3Request, s3_proxy

SPAN = hours(2)
SECOND = Window(FIRST.end)
RECORDS = audit_logs(SPAN)
"""Six in each window."""


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


def page(records: Sequence[Record]) -> bytes:
    """As the recipe writes one."""
    logs = [msgspec.json.decode(record.line) for record in records]
    return msgspec.json.encode({"audit_logs": logs, "next_page": None, "count": len(logs)})


def put(bucket: Bucket, moment: str, records: Sequence[Record], suffix: str = "") -> str:
    key = f"{bucket.layout.feed}2026/11/12/{moment}-zendesk-audit_logs.json{suffix}"
    bucket.put(key, gzip.compress(page(records)) if suffix else page(records))
    return key


def taken(bucket: Bucket, store: Store | None = None) -> tuple[TakeOver, Index, Left]:
    index = Index()
    (*_, left) = read(store or bucket.store, AUDIT_LOGS, bucket.layout.feed, index)
    ledgers = LedgerStore(stream=AUDIT_LOGS.name, store=store or bucket.store, layout=bucket.layout)
    return TakeOver(ledgers=ledgers, index=index), index, left


def identities(bucket: Bucket, window: Window) -> list[list[str]]:
    return [each["identities"] for each in bucket.ledger(window)["objects"]]


def test_a_record_is_noted_once_with_its_first_object(bucket: Bucket) -> None:
    """Pages overlap and hold records of many windows; a window's ledger names its own, and is not complete."""
    first, second = put(bucket, "061000", RECORDS[:8]), put(bucket, "071000", RECORDS[4:], ".gz")
    takeover, index, left = taken(bucket)

    assert (left.objects, left.copies, index.windows()) == (2, 16, [FIRST, SECOND])
    assert [takeover.note(window) for window in index.windows()] == [6, 6]
    assert identities(bucket, FIRST) == [[record.identity for record in RECORDS[:6]]]
    assert identities(bucket, SECOND) == [[r.identity for r in RECORDS[6:8]], [r.identity for r in RECORDS[8:]]]
    assert [each["key"] for each in bucket.ledger(SECOND)["objects"]] == [first, second]
    assert bucket.complete(SPAN) == [False, False]
    assert [takeover.standing(window, None).again for window in SPAN] == [2, 2]


def test_a_second_time_changes_nothing(bucket: Bucket) -> None:
    """Noting again, whole or after it broke off in the middle, ends the same."""
    put(bucket, "061000", RECORDS)
    takeover, index, _ = taken(bucket)
    takeover.note(FIRST)
    before = bucket.ledger(FIRST)

    again, _, _ = taken(bucket)

    assert [again.note(window) for window in index.windows()] == [0, 6]
    assert bucket.ledger(FIRST) == before


def test_what_the_feed_has_deleted_since_stays_noted(bucket: Bucket) -> None:
    """A record that was noted with an object that is gone is not noted again with another."""
    gone = put(bucket, "061000", RECORDS[:4])
    kept = put(bucket, "071000", RECORDS[2:6])
    taken(bucket)[0].note(FIRST)
    bucket.delete([gone])
    put(bucket, "081000", [*RECORDS[:6], audit_log(5, FIRST.start)])

    takeover, _, _ = taken(bucket)

    assert takeover.note(FIRST) == 1
    assert identities(bucket, FIRST)[-1] == ["5"]
    assert bucket.ledger(FIRST)["objects"][1]["key"] == kept


def test_a_window_that_the_pipeline_has_collected_stays_complete(bucket: Bucket) -> None:
    """What the ledger has stays as it is; only what it lacks is added."""
    Deliveries(bucket=bucket).records(hours(1), RECORDS[:6])
    before = bucket.ledger(FIRST)
    put(bucket, "061000", [*RECORDS[:6], audit_log(5, FIRST.start + 1)])

    takeover, _, _ = taken(bucket)

    assert takeover.note(FIRST) == 1
    assert bucket.complete(hours(1)) == [True]
    assert bucket.ledger(FIRST)["objects"][:-1] == before["objects"]
    assert takeover.standing(FIRST, {"5", "6"}).missing == 1


def test_a_ledger_that_a_run_wrote_meanwhile_is_kept(bucket: Bucket, s3: LocalS3) -> None:
    """Whoever is faster: the ledger is read again, and holds what both know."""
    put(bucket, "061000", RECORDS[:6])
    other = audit_log(5, FIRST.start)
    with s3_proxy(s3.endpoint) as proxy:
        store = Store(client=_client(s3, proxy.endpoint), bucket=s3.bucket, encryption={})
        takeover, _, _ = taken(bucket, store)
        once = threading.Event()

        def after(request: S3Request) -> None:
            if request.method == "GET" and "/state/" in request.key and not once.is_set():
                once.set()
                Deliveries(bucket=bucket).records(hours(1), [other])

        proxy.after = after
        assert takeover.note(FIRST) == 6

    assert sorted(map(len, identities(bucket, FIRST))) == [1, 6]
    assert bucket.complete(hours(1)) == [True]


def test_a_backfill_adds_what_lacks_and_nothing_else(bucket: Bucket) -> None:
    """The recipe's keys have no sequence number: the pipeline's begin at 0000, and both are in the ledger."""
    recipe = put(bucket, "061000", RECORDS[2:9])
    takeover, index, _ = taken(bucket)
    for window in index.windows():
        takeover.note(window)

    Deliveries(bucket=bucket).records(SPAN, RECORDS)

    added = [line for key, body in bucket.feed().items() if key != recipe for line in body.splitlines()]
    assert sorted(added) == sorted(record.line for record in (*RECORDS[:2], *RECORDS[9:]))
    assert bucket.complete(SPAN) == [True, True]
    assert any("050000-zendesk-audit_logs-0000-" in key for key in bucket.feed())


def test_a_redelivery_sends_what_the_recipe_delivered_as_well(bucket: Bucket) -> None:
    """Sending again on purpose does not stop at what was noted."""
    put(bucket, "061000", RECORDS)
    takeover, index, _ = taken(bucket)
    for window in index.windows():
        takeover.note(window)

    Deliveries(bucket=bucket).records(SPAN, RECORDS, redeliver=True)

    ours = {key: body for key, body in bucket.feed().items() if recipe_object(key, bucket.layout.feed) is None}
    assert sorted(line for body in ours.values() for line in body.splitlines()) == sorted(r.line for r in RECORDS)


def test_what_no_feed_reads_is_not_noted(bucket: Bucket) -> None:
    """Neither a page beyond 4 MB, on which a feed fails, nor what is no page: their records still lack."""
    long = put(bucket, "061000", [audit_log(5, FIRST.start, "x" * LONGEST_READ)])
    broken = f"{bucket.layout.feed}2026/11/12/071000-zendesk-audit_logs.json"
    bucket.put(broken, b"<html>")

    _, index, left = taken(bucket)

    assert (left.too_long, left.unreadable, index.windows()) == ([long], [broken], [])


def test_only_objects_of_the_recipe_are_read(bucket: Bucket) -> None:
    """Batches, other streams, the state and whatever else are left alone; what is no log is named."""
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    odd = [f"{bucket.layout.feed}{name}" for name in ("2026/13/41/061000-zendesk-audit_logs.json", "state.json")]
    for key in (*odd, f"{bucket.layout.feed}2026/11/12/061000-zendesk-incremental_tickets.json"):
        bucket.put(key, b"{}")

    assert taken(bucket)[2] == Left()
    assert [entry.key for entry in others(bucket.store, bucket.layout.feed)] == odd


def test_a_ledger_that_cannot_be_read_stops_it(bucket: Bucket) -> None:
    """It is named, and not replaced."""
    put(bucket, "061000", RECORDS)
    bucket.put(bucket.layout.ledger(AUDIT_LOGS.name, FIRST), b"no ledger")

    with pytest.raises(DeliveryError, match="Restore its last good version"):
        taken(bucket)[0].note(FIRST)


# What looks at ledgers afterwards


CHANGES: dict[str, tuple[Callable[[bytes], bytes], bool]] = {
    "as-noted": (lambda body: body, False),
    "no-identity-lost": (lambda body: body.replace(b"Role changed", b"Role_changed"), False),
    "other-records": (lambda _: page(RECORDS[2:]), True),
}


@pytest.mark.parametrize(("change", "differs"), CHANGES.values(), ids=CHANGES.keys())
def test_checks_know_the_recipes_objects(
    bucket: Bucket,
    layout: Layout,
    change: Callable[[bytes], bytes],
    differs: bool,  # noqa: FBT001 - pytest's arguments
) -> None:
    """A page without a line end, of many windows, is in order as long as it holds what the ledgers say."""
    key = put(bucket, "061000", RECORDS)
    takeover, index, _ = taken(bucket)
    for window in index.windows():
        takeover.note(window)
    Deliveries(bucket=bucket).records(SPAN, RECORDS)
    bucket.put(key, change(bucket.body(key)))

    inspector = Inspector(stream=AUDIT_LOGS, store=bucket.store, layout=layout, now=0)
    verification = Verification(inspector=inspector, reads=lambda _: True)
    found = [each for window in SPAN for each in verification.compare(window, None).differences]

    assert bool(found) == differs
    assert bool(list(inspector.lines(list(SPAN), most_bytes=1 << 20))) == differs
    assert list(inspector.objects(list(SPAN))) == []


def test_the_recipes_objects_are_foreign_only_while_it_writes(bucket: Bucket, layout: Layout) -> None:
    """What it left is no finding for ever; what it writes now is, and so is its state."""
    key, state = put(bucket, "061000", RECORDS), f"{layout.feed}state.json"
    bucket.put(state, b"{}")
    written = max(entry.modified for entry in bucket.store.listing(layout.feed))

    soon, later = (
        feed(bucket.store, layout, newest=[], most=100, now=written + after).foreign
        for after in (60, RECIPE_IS_OFF + 60)
    )

    assert (sorted(soon), later) == (sorted([key, state]), [state])


def test_a_ledger_with_the_recipes_objects_is_one_of_this_version(bucket: Bucket) -> None:
    """No new format: what reads ledgers reads these."""
    put(bucket, "061000", RECORDS)
    taken(bucket)[0].note(FIRST)
    stored = bucket.store.get(bucket.layout.ledger(AUDIT_LOGS.name, FIRST))

    assert stored
    assert ledgers.decode(stored.body, ledgers.empty(AUDIT_LOGS.name, FIRST)).identities() == {
        record.identity for record in RECORDS[:6]
    }


def _client(s3: LocalS3, endpoint: str) -> Any:
    return LocalS3(endpoint=endpoint, bucket=s3.bucket, environment=s3.environment).client()
