"""The ledger as data; what deliveries do with it is in test_delivery."""

import gzip

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.ledger import Delivered, Ledger
from zendesk_pipeline.model.windows import Window

UNHURRIED = hypothesis_settings(deadline=None)
"""A busy machine is no failure."""
WINDOW = Window.of_partition("2026-11-12-05:00")

delivered = st.builds(
    Delivered,
    key=st.text("abc/", min_size=1, max_size=6),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    bytes=st.integers(1, 1 << 40),
    identities=st.lists(st.text(max_size=20), max_size=5),
    redaction=st.sampled_from(["", "cd" * 16]),
)
ledger_of_window = st.builds(
    Ledger,
    stream=st.just("audit_logs"),
    window=st.just("2026-11-12T05:00:00Z"),
    complete=st.booleans(),
    objects=st.lists(delivered, max_size=5, unique_by=lambda each: each.key),
)


def _known(ledger: Ledger) -> tuple[bool, dict[str, Delivered]]:
    return ledger.complete, {each.key: each for each in ledger.objects}


@UNHURRIED
@given(ledger_of_window)
def test_a_ledger_comes_back_as_it_was_written(ledger: Ledger) -> None:
    """Writing and reading changes nothing."""
    assert ledgers.decode(ledgers.encode(ledger)) == ledger


@UNHURRIED
@given(ledger_of_window)
def test_the_same_ledger_is_the_same_bytes(ledger: Ledger) -> None:
    """No time and nothing random gets into a ledger's bytes."""
    again = ledgers.decode(ledgers.encode(ledger))
    assert ledgers.encode(again) == ledgers.encode(ledger)
    assert ledgers.encode(ledger)[4:8] == bytes(4)  # the time in the gzip header


def test_the_ledgers_form_is_pinned() -> None:
    """What lies in buckets today can be read by every later release."""
    one = Delivered(key="k.json", sha256="ab", bytes=7, identities=["1", "2:3"])
    ledger = msgspec.structs.replace(ledgers.empty("audit_logs", WINDOW), complete=True, objects=[one])
    assert gzip.decompress(ledgers.encode(ledger)) == (
        b'{"stream":"audit_logs","window":"2026-11-12T05:00:00Z","complete":true,"objects":'
        b'[{"key":"k.json","sha256":"ab","bytes":7,"identities":["1","2:3"]}],"version":1}'
    )


def test_a_ledger_says_by_which_rules_and_reads_one_that_does_not() -> None:
    """The digest of redaction rules stands with its object; a ledger from before there were rules has none."""
    one = Delivered(key="k.json", sha256="ab", bytes=7, identities=["1"], redaction="cd")
    ledger = msgspec.structs.replace(ledgers.empty("audit_logs", WINDOW), objects=[one])
    content = gzip.decompress(ledgers.encode(ledger))
    assert b'"identities":["1"],"redaction":"cd"}' in content
    before = ledgers.decode(gzip.compress(content.replace(b',"redaction":"cd"', b"")))
    assert before.objects == [msgspec.structs.replace(one, redaction="")]


def test_a_window_never_delivered_knows_nothing() -> None:
    """An empty ledger is not complete and names no identity."""
    empty = ledgers.empty("audit_logs", WINDOW)
    assert not empty.complete
    assert empty.identities() == set()


@UNHURRIED
@given(ledger_of_window)
def test_a_ledger_knows_every_identity_of_its_objects(ledger: Ledger) -> None:
    """An identity is known if any object holds it."""
    assert ledger.identities() == set().union(*(each.identities for each in ledger.objects))


@UNHURRIED
@given(ledger_of_window, ledger_of_window)
def test_merging_keeps_what_either_knows(mine: Ledger, theirs: Ledger) -> None:
    """Both ledgers' objects are in the merged one, each key once, and complete stays complete."""
    merged = mine.merged(theirs)
    assert [each.key for each in merged.objects] == sorted({each.key for each in (*mine.objects, *theirs.objects)})
    assert merged.complete == (mine.complete or theirs.complete)


@UNHURRIED
@given(ledger_of_window, ledger_of_window, ledger_of_window)
def test_the_order_of_merging_does_not_matter(one: Ledger, two: Ledger, three: Ledger) -> None:
    """Runs that meet may merge in any order: keys name contents, so the same key is the same object."""
    contents = {each.key: each for ledger in (one, two, three) for each in ledger.objects}
    one, two, three = (
        msgspec.structs.replace(each, objects=[contents[held.key] for held in each.objects])
        for each in (one, two, three)
    )
    assert _known(one.merged(two).merged(three)) == _known(three.merged(one.merged(two)))
    assert _known(one.merged(two)) == _known(two.merged(one))
    assert _known(one.merged(one)) == _known(one)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="not-gzip"),
        pytest.param(gzip.compress(b""), id="nothing-inside"),
        pytest.param(gzip.compress(b"{}"), id="other-object"),
        pytest.param(gzip.compress(b'{"cursor": "abc"}'), id="someone-else's-state"),
        pytest.param(gzip.compress(b'{"stream":"audit_logs","window":"w","version":2}'), id="later-version"),
        pytest.param(gzip.compress(b'{"stream":"audit_logs","window":"w","objects":[{"key":1}]}'), id="other-types"),
        pytest.param(ledgers.encode(ledgers.empty("audit_logs", WINDOW))[:-9], id="cut-off"),
    ],
)
def test_what_is_no_ledger_is_refused(content: bytes) -> None:
    """A damaged or foreign ledger raises ValueError; it is never taken for an empty one."""
    with pytest.raises(ValueError, match=r"."):
        ledgers.decode(content)


@pytest.mark.parametrize(
    "blank", [ledgers.empty("access_logs", WINDOW), ledgers.empty("audit_logs", Window(WINDOW.end))]
)
def test_the_ledger_of_another_window_is_refused(blank: Ledger) -> None:
    """A sound ledger under the wrong key says whose it is, and is not believed."""
    with pytest.raises(ValueError, match="it is the one of audit_logs 2026-11-12T05:00:00Z"):
        ledgers.decode(ledgers.encode(ledgers.empty("audit_logs", WINDOW)), blank)


@UNHURRIED
@given(ledger_of_window, st.data())
def test_a_damaged_ledger_is_never_read_as_another(ledger: Ledger, data: st.DataObject) -> None:
    """Whatever byte is changed: the ledger is read as it was or refused, not read as something else."""
    content = bytearray(ledgers.encode(ledger))
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = ledgers.decode(bytes(content))
    except ValueError:
        return
    assert found == ledger
