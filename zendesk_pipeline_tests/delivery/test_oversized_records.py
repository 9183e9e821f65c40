"""What the feed gets of a record that is too long for one of its lines."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zendesk_pipeline.delivery.batches import LONGEST_LINE
from zendesk_pipeline.delivery.oversized_records import shortened
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS

UNHURRIED = hypothesis_settings(deadline=None, max_examples=50)
"""A busy machine is no failure."""
WHOLE = "s3://bucket/zendesk/quarantine/2026/11/12/050000-zendesk-incremental_tickets-0000-ab.json"
TIME = 1_794_459_600

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=20), inner, max_size=8),
    max_leaves=30,
)


def _ticket(**fields: object) -> bytes:
    return msgspec.json.encode({"id": 7, **fields, "generated_timestamp": TIME})


def _short(line: bytes, longest: int = LONGEST_LINE) -> dict[str, Any]:
    short = shortened(INCREMENTAL_TICKETS, line, whole=WHOLE, longest=longest)
    assert len(short) <= longest
    assert b"\n" not in short
    return json.loads(short)


def test_a_long_text_is_cut_and_the_rest_stays() -> None:
    """Only what is too long is cut: the other fields stay as they were."""
    short = _short(_ticket(subject="Hilfe", description="ü" * 3_000_000, tags=["a"], via={"channel": "web"}))
    assert (short["id"], short["subject"], short["tags"], short["via"]) == (7, "Hilfe", ["a"], {"channel": "web"})
    assert short["description"] == "ü" * 100_000


def test_the_mark_says_how_long_it_was_and_where_the_whole_lies() -> None:
    """The shortened record says that it is one, and names the address of the uncut record."""
    line = _ticket(description="x" * 5_000_000)
    assert _short(line)["zendesk_pipeline"] == {"shortened": True, "bytes": len(line), "whole": WHOLE}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ids": [10**15] * 250_000}, id="many-numbers"),
        pytest.param(
            {"fields": [{"id": number, "value": None} for number in range(10**9, 10**9 + 130_000)]}, id="many-objects"
        ),
        pytest.param({"tags": ["tag"] * 1_000_000}, id="many-short-texts"),
        pytest.param({"x" * 4_000_000: 1}, id="long-name"),
    ],
)
def test_a_record_that_is_long_without_long_texts_keeps_identity_and_time(fields: dict[str, object]) -> None:
    """Where cutting texts is not enough, identity, event time and the mark are what is left."""
    short = _short(_ticket(**fields))
    assert short.keys() == {"id", "generated_timestamp", "zendesk_pipeline"}
    assert (short["id"], short["generated_timestamp"]) == (7, TIME)


def test_many_long_texts_are_cut_further() -> None:
    """A record of many long texts keeps the beginning of each."""
    short = _short(_ticket(comments=["word " * 10_000] * 100))
    assert short["comments"] == [("word " * 10_000)[:10_000]] * 100


@pytest.mark.parametrize(
    "number", ["0.10", "1.0", "-0.0", "1E+999", "9007199254740993.5", "123456789012345678901234567890"]
)
def test_numbers_stay_as_zendesk_wrote_them(number: str) -> None:
    """Cutting a text does not round the numbers beside it, and one beyond a float is no reason to fail."""
    line = b'{"id":7,"number":%b,"description":"%b","generated_timestamp":%d}' % (
        number.encode(),
        b"x" * 4_000_000,
        TIME,
    )
    short = shortened(INCREMENTAL_TICKETS, line, whole=WHOLE, longest=LONGEST_LINE)
    assert b'"number":%b,' % number.encode() in short


@pytest.mark.parametrize(
    "trap",
    [
        pytest.param(b"1e99999999999999999999", id="exponent-beyond-all-use"),
        pytest.param(b"7" * 5000, id="number-of-thousands-of-digits"),
        pytest.param(b"[" * 900 + b"]" * 900, id="lists-in-lists"),
    ],
)
def test_a_record_that_cannot_be_taken_apart_keeps_identity_and_time(trap: bytes) -> None:
    """JSON that nothing here can hold is no reason to fail: identity and event time are enough."""
    line = b'{"id":7,"trap":%b,"description":"%b","generated_timestamp":%d}' % (trap, b"x" * 4_000_000, TIME)
    short = _short(line)
    assert (short["id"], short["generated_timestamp"]) == (7, TIME)
    assert short["zendesk_pipeline"]["whole"] == WHOLE


def test_an_audit_log_keeps_its_own_identity_and_time() -> None:
    """Which fields are kept is the stream's matter."""
    line = msgspec.json.encode({"id": 9, "created_at": "2026-11-12T05:00:00Z", "list": [10**15] * 250_000})
    short = json.loads(shortened(AUDIT_LOGS, line, whole=WHOLE, longest=LONGEST_LINE))
    assert (short["id"], short["created_at"]) == (9, "2026-11-12T05:00:00Z")


@UNHURRIED
@given(fields=st.dictionaries(st.text(max_size=20), values, max_size=8), longest=st.integers(400, 1500))
def test_whatever_the_record_it_gets_short_enough(fields: dict[str, object], longest: int) -> None:
    """Any record becomes a line within the limit that keeps identity and time and carries the mark."""
    line = msgspec.json.encode({**fields, "id": 7, "generated_timestamp": TIME})
    short = _short(line, longest)
    assert (short["id"], short["generated_timestamp"]) == (7, TIME)
    assert short["zendesk_pipeline"]["bytes"] == len(line)


def test_the_shortened_form_is_pinned() -> None:
    """The order of the fields stays, the mark comes last, and a second run makes the same bytes."""
    line = b'{"id":7, "b":"%b","a":[1.50],"generated_timestamp":%d}' % (b"y" * 500, TIME)
    assert shortened(INCREMENTAL_TICKETS, line, whole="s3://b/k", longest=260) == (
        b'{"id":7,"b":"%b","a":[1.50],"generated_timestamp":%d,'
        b'"zendesk_pipeline":{"shortened":true,"bytes":%d,"whole":"s3://b/k"}}' % (b"y" * 100, TIME, len(line))
    )
