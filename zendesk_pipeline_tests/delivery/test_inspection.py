"""Looking into the bucket again: what is found wrong, and what is not."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from zendesk_pipeline.delivery import inspection
from zendesk_pipeline.delivery.batches import LONGEST_LINE
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.inspection import IN_FLIGHT, RECIPE_IS_OFF, Finding, Inspector, Waiting
from zendesk_pipeline.delivery.ledger_store import UnreadableLedgerError
from zendesk_pipeline.delivery.object_keys import Layout, is_batch
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_ORGANIZATIONS, INCREMENTAL_USERS, Stream
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries

EVERYTHING = 1e9
LATER = 4e9
"""Long after everything was written."""


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


@pytest.fixture
def deliver(bucket: Bucket) -> Deliveries:
    return Deliveries(bucket=bucket)


@pytest.fixture
def inspector(bucket: Bucket) -> Callable[[], Inspector]:
    """Each has its own memory of ledgers."""
    return lambda: Inspector(stream=AUDIT_LOGS, store=bucket.store, layout=bucket.layout, now=LATER)


def _texts(findings: Iterable[Finding]) -> list[str]:
    return [each.text for each in findings]


def test_what_was_delivered_is_well(deliver: Deliveries, inspector: Callable[[], Inspector]) -> None:
    """Plain or compressed, in either format: nothing is found."""
    for number, changes in enumerate(({}, {"compress": True}, {"envelope": True})):
        span = hours(2, skip=2 * number)
        deliver.formed(**changes).records(span, audit_logs(span))
        assert list(inspector().objects(list(span))) == []
        assert list(inspector().lines(list(span), most_bytes=EVERYTHING)) == []
        assert [inspector().records(window) for window in span] == [6, 6]


def test_windows_of_the_same_hour_on_two_days_are_kept_apart(
    deliver: Deliveries, bucket: Bucket, inspector: Callable[[], Inspector]
) -> None:
    """A look across midnight, of more than a day: each object belongs to the window of its day, and to no other."""
    span = hours(27)
    deliver.records(span, audit_logs(span))
    assert list(inspector().objects(list(span))) == []
    last = Window(span.end - HOUR)
    copied = bucket.layout.batch("audit_logs", last, 7, "0" * 64, ".json")
    bucket.put(copied, b"{}\n")
    (finding,) = inspector().objects(list(span))
    assert finding == Finding(last, f"{bucket.store.uri(copied)} is in no ledger")
    assert list(inspector().objects(list(hours(1, skip=2)))) == []


def test_a_window_without_a_complete_ledger_is_found(deliver: Deliveries, inspector: Callable[[], Inspector]) -> None:
    """Only the windows that were delivered are complete."""
    deliver.records(hours(1), audit_logs(hours(1)))
    (finding,) = inspector().objects(list(hours(2)))
    assert finding.window == Window(FIRST.end)
    assert finding.text == "no ledger says that the window is complete"
    assert inspector().records(FIRST) == 6
    assert inspector().records(Window(FIRST.end)) is None


def test_a_ledger_of_another_window_is_not_taken_for_this_ones(
    deliver: Deliveries, bucket: Bucket, inspector: Callable[[], Inspector]
) -> None:
    """A copied ledger is complete and names no object of the window: a check that believed it would be green."""
    deliver.records(hours(1), [])
    held, other = (bucket.layout.ledger("audit_logs", window) for window in hours(2))
    bucket.put(other, bucket.store.client.get_object(Bucket=bucket.store.bucket, Key=held)["Body"].read())
    with pytest.raises(UnreadableLedgerError, match=rf"{other} cannot be read .*it is the one of audit_logs"):
        list(inspector().objects(list(hours(2))))


def test_objects_of_another_size_or_in_no_ledger_are_found(
    deliver: Deliveries, bucket: Bucket, inspector: Callable[[], Inspector]
) -> None:
    """Somebody wrote over one object and put another beside it; what the feed has deleted is no finding."""
    deliver.records(hours(1), audit_logs(hours(1)))
    first, second = bucket.stored()
    bucket.put(first, b"{}\n")
    bucket.put(second.replace("-0001-", "-0007-"), b"{}\n")
    bucket.delete([second])
    wrong, unnamed = _texts(inspector().objects([FIRST]))
    assert first in wrong
    assert "has 3 bytes, its ledger says " in wrong
    assert unnamed.endswith("is in no ledger")


def test_an_object_may_wait_for_its_ledger(
    deliver: Deliveries, bucket: Bucket, inspector: Callable[[], Inspector]
) -> None:
    """What was written a moment ago is a delivery under way."""
    deliver.records(hours(1), audit_logs(hours(1)))
    bucket.put(bucket.stored()[0].replace("-0000-", "-0009-"), b"{}\n")
    (written,) = [each.modified for each in bucket.store.listing(bucket.layout.feed) if "-0009-" in each.key]
    young = Inspector(stream=AUDIT_LOGS, store=bucket.store, layout=bucket.layout, now=written + IN_FLIGHT)
    assert list(young.objects([FIRST])) == []
    assert len(list(inspector().objects([FIRST]))) == 1


@pytest.mark.parametrize(
    ("body", "what"),
    [
        pytest.param(b"no JSON\n", "holds something that is no record", id="no JSON"),
        pytest.param(b'{"id": 1}\n', "holds something that is no record", id="no time"),
        pytest.param(audit_log(99, FIRST.start).line + b"\n", "does not hold the records that", id="another record"),
        pytest.param(audit_log(99, FIRST.start).line, "does not end with a line end", id="no line end"),
        pytest.param(audit_log(9, FIRST.start, "x" * LONGEST_LINE).line + b"\n", "too long for the feed", id="long"),
    ],
)
def test_lines_that_are_not_what_was_delivered_are_found(
    deliver: Deliveries, bucket: Bucket, inspector: Callable[[], Inspector], body: bytes, what: str
) -> None:
    """Lines that are no records, others than the ledger's, without an end, or too long."""
    deliver.records(hours(1), audit_logs(hours(1), each=2))
    (key,) = bucket.stored()
    bucket.put(key, body)
    assert any(what in text for text in _texts(inspector().lines([FIRST], most_bytes=EVERYTHING)))


def test_reading_lines_again_has_a_bound(
    deliver: Deliveries, bucket: Bucket, inspector: Callable[[], Inspector]
) -> None:
    """The newest windows are read, as far as the bound goes; what the feed has deleted is passed over."""
    deliver.records(hours(2), audit_logs(hours(2), each=2))
    older, newer = bucket.stored()
    bucket.put(older, b"no JSON\n")
    size = len(bucket.body(newer))
    assert list(inspector().lines(list(hours(2)), most_bytes=size)) == []
    assert len(list(inspector().lines(list(hours(2)), most_bytes=EVERYTHING))) == 1
    bucket.delete([older])
    assert list(inspector().lines(list(hours(2)), most_bytes=EVERYTHING)) == []


@pytest.mark.parametrize(
    ("usual", "now", "found"),
    [(19, 0, 0), (20, 0, 1), (40, 3, 1), (40, 4, 0), (40, 400, 0)],
)
def test_a_silence_is_found(
    deliver: Deliveries, inspector: Callable[[], Inspector], usual: int, now: int, found: int
) -> None:
    """Less than a tenth of the median of that hour of the week, where that is 20 or more."""
    weeks = [hours(1, skip=-week * 7 * 24) for week in (1, 2, 3)]
    for span, each in zip(weeks, (usual, usual, 1000), strict=True):
        deliver.formed(limit=10**6).records(span, audit_logs(span, each=each))
    deliver.formed(limit=10**6).records(hours(1), audit_logs(hours(1), each=now))
    assert len(list(inspector().volume([FIRST]))) == found


@pytest.mark.parametrize("weeks", [(2000,), (2000, 2000), (2000, 4)])
def test_one_or_two_weeks_are_not_what_is_usual(
    deliver: Deliveries, inspector: Callable[[], Inspector], weeks: tuple[int, ...]
) -> None:
    """The week after a busy first one is no silence, however often it is looked at."""
    for number, each in enumerate(weeks, start=1):
        span = hours(1, skip=-number * 7 * 24)
        deliver.formed(limit=10**6).records(span, audit_logs(span, each=each))
    deliver.formed(limit=10**6).records(hours(1), audit_logs(hours(1), each=3))
    looks = inspector()
    assert [list(looks.volume([FIRST])) for _ in range(2)] == [[], []]
    assert list(inspector().volume([FIRST])) == []


def test_without_history_no_silence_is_found(deliver: Deliveries, inspector: Callable[[], Inspector]) -> None:
    """The first month, and a window that is not complete, say nothing."""
    deliver.records(hours(1), [])
    assert list(inspector().volume(list(hours(2)))) == []


def test_what_others_put_beside_the_ledgers_is_not_counted(deliver: Deliveries, bucket: Bucket) -> None:
    """A file beside the ledgers whose key is none of theirs neither counts nor hides that a stream has no record."""
    span = hours(72)
    deliver.records(span, [])
    for name in ("notes.txt", "2026/11/12/05.json.gz.bak"):
        bucket.put(f"{bucket.layout.ledgers('audit_logs')}{name}", b"x" * 1000)
    found = Inspector(stream=AUDIT_LOGS, store=bucket.store, layout=bucket.layout, now=span.end).volume([*span][-2:])
    assert _texts(found) == ["not one record in this or any other of 72 windows"]


@pytest.mark.parametrize(
    ("stream", "older", "ahead", "found"),
    [
        (AUDIT_LOGS, 1, 0, 1),
        (INCREMENTAL_USERS, 40, 0, 0),
        (INCREMENTAL_USERS, 0, 1, 1),
        (INCREMENTAL_ORGANIZATIONS, 1, 0, 0),
    ],
)
def test_older_records_are_found_where_zendesk_lists_by_their_time(
    inspector: Callable[[], Inspector], stream: Stream, older: int, ahead: int, found: int
) -> None:
    """Other lists, such as the users', show some in most hours: a warning each hour would hide what is wrong."""
    reported = {
        "older_than_asked": older,
        "ahead_of_the_clock": ahead,
        "delivered_by_this_run": 50,
        "duplicates_removed": 0,
    }
    looks = replace(inspector(), stream=stream, reported={FIRST: reported})
    assert len(list(looks.left_out([FIRST]))) == found


# Under the feed prefix


def _waiting(bucket: Bucket, most: int = 100, *, later: float = 0) -> Waiting:
    now = Clock().now() + later
    return inspection.feed(bucket.store, bucket.layout, newest=[FIRST], most=most, now=now)


def test_what_waits_is_counted(deliver: Deliveries, bucket: Bucket) -> None:
    """Objects, bytes, and when the oldest was written."""
    assert _waiting(bucket) == Waiting(objects=0, bytes=0, oldest=None, whole=True, foreign=[])
    deliver.records(hours(2), audit_logs(hours(2)))
    found = _waiting(bucket)
    listed = list(bucket.store.listing(bucket.layout.feed))
    assert (found.objects, found.bytes) == (len(listed), sum(map(len, bucket.feed().values())))
    assert found.oldest == min(each.modified for each in listed)
    assert found.whole
    assert found.foreign == []


@pytest.mark.parametrize(
    "name", ["state.json", "2026/11/12/053001-zendesk-tickets.json", "2026/11/12/.keep", "a/b", "0"]
)
@pytest.mark.parametrize("most", [100, 1], ids=["whole", "bounded"])
def test_what_is_foreign_is_found(deliver: Deliveries, bucket: Bucket, name: str, most: int) -> None:
    """Leftovers of other software, where the listing has a bound as well: in the newest days and beside the years."""
    deliver.records(hours(1, skip=-24 * 90), audit_logs(hours(1, skip=-24 * 90)))
    deliver.records(hours(1), audit_logs(hours(1)))
    assert _waiting(bucket, most).foreign == []
    bucket.put(bucket.layout.feed + name, b"{}")
    assert _waiting(bucket, most).foreign == [bucket.layout.feed + name]
    assert _waiting(bucket, most).whole is (most == 100)


def test_what_the_recipe_left_is_not_foreign_for_ever(bucket: Bucket) -> None:
    """Its pages stay until the feed is through with them; one that is young says that the recipe still runs."""
    for name in ("2026/11/12/053001-zendesk-tickets.json", "state.json"):
        bucket.put(bucket.layout.feed + name, b"{}")
    assert len(_waiting(bucket).foreign) == 2
    assert _waiting(bucket, later=RECIPE_IS_OFF + 60).foreign == [bucket.layout.feed + "state.json"]


def test_names_of_ours_are_known() -> None:
    """Plain and compressed batches in the folder of their day; nothing else."""
    layout = Layout(feed="a/b/", state="s/", quarantine="q/")
    key = layout.batch("audit_logs", Window(FIRST.start + 5 * HOUR), 3, "0" * 64, ".json")
    assert is_batch(key, "a/b/")
    assert is_batch(key + ".gz", "a/b/")
    assert not is_batch(key.replace("a/b/", "a/b/c/"), "a/b/")
    assert not is_batch(key.replace("-0003-", "-3-"), "a/b/")
    assert not is_batch(key + ".tmp", "a/b/")
