"""What was delivered since a look, by the ledgers and the objects of a real bucket."""

import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.deliveries import BACK, Deliveries, hour_of
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline_tests.by_hand import FIRST, audit_logs, hours
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.deliveries import Deliveries as Runs


@pytest.fixture
def runs(store: Store, layout: Layout) -> Runs:
    return Runs(bucket=Bucket(store=store, layout=layout))


@pytest.fixture
def counted(store: Store, layout: Layout) -> Deliveries:
    ledgers = LedgerStore(stream="audit_logs", store=store, layout=layout)
    return Deliveries(ledgers=ledgers, logs=lambda delivered: len(delivered.identities))


def _run(runs: Runs, span: Span, each: int = 6) -> float:
    """When its objects were written, as S3 says."""
    runs.records(span, audit_logs(span, each))
    store, layout = runs.bucket.store, runs.bucket.layout
    return max(entry.modified for entry in store.listing(layout.feed))


def test_each_ledger_that_was_written_is_read_once(runs: Runs, counted: Deliveries, store: Store) -> None:
    """A list of all of them, and what is older than the look before is not read."""
    at = _run(runs, hours(3))
    before = store.spent.get
    (one, *others) = counted.since(at, {}, start=FIRST.start)
    assert [each.new for each in (one, *others)] == [6, 6, 6]
    assert store.spent.get - before == 3
    assert counted.since(at + HOUR, {}, start=FIRST.start) == []
    assert store.spent.get - before == 3


def test_what_a_ledger_held_before_is_not_new(runs: Runs, counted: Deliveries) -> None:
    """A late arrival counts, the rest of its window does not."""
    at = _run(runs, hours(1), each=8)
    (written,) = counted.since(at, {hour_of(FIRST): 6}, start=FIRST.start)
    assert (written.logs, written.new) == (8, 2)


@pytest.mark.parametrize(("later", "new"), [(0, 6), (1, 0)], ids=["written after the start", "written before"])
def test_an_old_window_is_new_by_the_times_of_its_objects(
    runs: Runs, counted: Deliveries, later: int, new: int
) -> None:
    """Where its ledger was not looked at before."""
    start = _run(runs, hours(1)) + later
    (written,) = counted.since(start, {}, start=start)
    assert (written.new, written.known) == (new, True)


def test_an_old_window_whose_objects_are_gone_cannot_be_told(runs: Runs, counted: Deliveries) -> None:
    """A recent one can: it had no ledger when the count began."""
    start = _run(runs, hours(1))
    runs.bucket.delete(runs.bucket.stored())
    (old,) = counted.since(start, {}, start=start)
    assert not old.known
    (recent,) = counted.since(start, {}, start=FIRST.end + BACK - 1)
    assert (recent.new, recent.known) == (6, True)


def test_a_first_look_is_at_the_last_days(runs: Runs, counted: Deliveries) -> None:
    """What is in them is not new."""
    _run(runs, hours(3))
    found = counted.at_first(FIRST.end + BACK)
    assert [(each.window.start - FIRST.start, each.logs, each.new) for each in found] == [
        (HOUR, 6, 0),
        (2 * HOUR, 6, 0),
    ]
