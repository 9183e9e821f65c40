"""Whoever can write into Zendesk, or answers in its place, chooses neither keys nor code, and breaks no line."""

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.delivery.batches import LONGEST_LINE, records_in
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.oversized_records import shortened
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline.model.errors import TransientError
from zendesk_pipeline.model.records import LONGEST_IDENTITY, page_reader, record_reader
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS, STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline_tests.by_hand import FIRST, hours, ticket
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering, tickets_page
from zendesk_pipeline_tests.runs import QUIET, description, project

pytestmark = QUIET

KEY = re.compile(r"(?:[A-Za-z0-9_.-]+/)+[A-Za-z0-9_.-]+")
DEPTH = 1_000_000
"""Beyond what any parser of ours takes: 1,000 up to Python 3.12, 10,000 with 3.13; from 3.14 on as much as the stack
has room for, which is some 200,000 with the usual 8 MB."""

each_stream = pytest.mark.parametrize("stream", [pytest.param(stream, id=name) for name, stream in STREAMS.items()])

nasty_texts = st.sampled_from(
    ["../../state/x", "//", "/etc/passwd", "a\x00b", "\x1b[31m", "%2e%2e%2f", "a\nb", "con", "", " ", "'; drop table"]
) | st.text(max_size=300)
nasty_times = st.sampled_from(
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:59",
        "1969-12-31T23:59:59Z",
        "../../2026-11-12T05:00:00Z",
        "2026-11-12T05:00:00Z/../..",
        "2026-11-12T05:00:00.999999999Z",
    ]
) | st.integers(-(10**30), 10**30)
nasty_values = (
    nasty_texts | nasty_times | st.floats() | st.booleans() | st.none() | st.lists(nasty_texts, max_size=2)
) | st.dictionaries(nasty_texts, nasty_texts, max_size=2)


def _page_of(stream: Stream, *records: bytes) -> bytes:
    """A last page of any stream."""
    tail = b'"meta":{"has_more":false},"links":{},"end_of_stream":true,"after_cursor":null,"end_time":null'
    return b'{"%b":[%b],%b}' % (stream.items.encode(), b",".join(records), tail)


# Keys


@given(stream=st.sampled_from(list(STREAMS.values())), identity=nasty_values, time=nasty_values, other=nasty_texts)
def test_no_record_chooses_where_it_is_stored(stream: Stream, identity: Any, time: Any, other: str) -> None:
    """Whatever stands in a record: it is refused in words of ours, or its keys lie where its hour says."""
    record = json.dumps({"id": identity, stream.event_time: time, "stream": other, "key": other}).encode()
    page = page_reader(stream)(_page_of(stream, record))
    for malformed in page.malformed:
        assert len(other) < 20 or other not in repr(malformed)
    if page.malformed:
        return
    (taken,) = page.records
    layout, window = Layout(feed="a/crm/", state="a/state/", quarantine="a/long/"), Window.of(taken.time)
    batch, long = layout.batch(stream.name, window, 7, "0" * 64, ".json"), layout.quarantined(stream.name, window, "ab")
    ledger = layout.ledger(stream.name, window)
    assert [bool(KEY.fullmatch(key)) for key in (batch, long, ledger)] == [True] * 3
    assert [key.split("/")[1] for key in (batch, long, ledger)] == ["crm", "long", "state"]
    assert ".." not in batch + long + ledger
    assert layout.sequence(batch, stream.name, window) == 7
    assert window.start <= taken.time < window.start + HOUR
    assert len(taken.identity) <= LONGEST_IDENTITY


STRANGE = {
    "path": ('"../../zendesk/state/x"', FIRST.start),
    "root": ('"/"', FIRST.start),
    "nul": ('"a\\u0000b"', FIRST.start),
    "direction": ('"\\u202e\\ufeff"', FIRST.start),
    "nothing": ('""', FIRST.start),
    "negative": ("-1", FIRST.start),
    "beyond 64 bits": ("18446744073709551616", FIRST.start),
    "the epoch": ("1", 0),
    "an hour too early": ("2", FIRST.start - 1),
    "an hour too late": ("3", FIRST.end),
    "the year 9999": ("4", 253_402_300_799),
}


def test_strange_records_are_stored_like_any_other(
    moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run delivers what belongs to its window, byte for byte and once, under keys of the layout and nothing else."""
    sent = {
        kind: b'{"id":%b,"generated_timestamp":%d,"x":"../.."}' % (identity.encode(), time)
        for kind, (identity, time) in STRANGE.items()
    }
    here = [sent[kind] for kind, (_, time) in STRANGE.items() if time == FIRST.start]
    with (
        answering(Reply(tickets_page(list(sent.values())))) as server,
        project(_environment(server.url, moto, layout), monkeypatch) as made,
    ):
        done = [made.run("incremental_tickets", hours(1)).success for _ in range(2)]
    bucket = _bucket(moto, layout)
    keys = [key for prefix in (layout.feed, layout.state, layout.quarantine) for key in bucket.stored(prefix)]
    assert done == [True, True]
    assert bucket.lines() == sorted(here)
    assert [key for key in keys if not KEY.fullmatch(key) or ".." in key] == []
    assert keys[1] == layout.account
    assert len(keys) == 4, "an object, the marker of the account, the catalogue of fields, a ledger"


def _environment(url: str, s3: LocalS3, layout: Layout) -> dict[str, str]:
    return {
        **s3.environment,
        "ZENDESK_BASE_URL": url,
        "AUTH_MODE": "bearer",
        "ZENDESK_BEARER_TOKEN": "t",
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "HTTP_RETRIES": "0",
    }


def _bucket(s3: LocalS3, layout: Layout) -> Bucket:
    return Bucket(store=Store(client=s3.client(), bucket=s3.bucket, encryption={}), layout=layout)


IMPOSSIBLE = {
    "a time before the epoch": b'{"id":1,"generated_timestamp":-1}',
    "a time beyond the year 9999": b'{"id":1,"generated_timestamp":253402300800}',
    "a time beyond any clock": b'{"id":1,"generated_timestamp":1%b}' % (b"0" * 400),
    "a time of thousands of digits": b'{"id":1,"generated_timestamp":1%b}' % (b"0" * 5000),
    "a time in the year 1": b'{"id":1,"generated_timestamp":"0001-01-01T00:00:00+23:59"}',
    "a time at the very end": b'{"id":1,"generated_timestamp":"9999-12-31T23:59:59-23:59"}',
    "a fraction of a second": b'{"id":1,"generated_timestamp":1.5}',
    "a time in text": b'{"id":1,"generated_timestamp":"1794459600"}',
    "a time in a list": b'{"id":1,"generated_timestamp":[1794459600]}',
    "no time": b'{"id":1}',
    "an id of many letters": b'{"id":"%b","generated_timestamp":1794459600}' % (b"x" * 101),
    "an id of thousands of digits": b'{"id":1%b,"generated_timestamp":1794459600}' % (b"0" * 4000),
    "an id in a list": b'{"id":[1],"generated_timestamp":1794459600}',
    "an id that is a fraction": b'{"id":1.0,"generated_timestamp":1794459600}',
    "half a letter in an id": b'{"id":"\\ud800","generated_timestamp":1794459600}',
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_an_impossible_record_costs_itself_alone(kind: str) -> None:
    """The other record of the page is taken; of this one only its place is told, and what is wrong in words of ours."""
    good = b'{"id":4711,"generated_timestamp":1794459600}'
    body = page_reader(INCREMENTAL_TICKETS)(tickets_page([good, IMPOSSIBLE[kind]]))
    assert [record.line for record in body.records] == [good]
    (malformed,) = body.malformed
    assert (malformed.line, malformed.position) == (IMPOSSIBLE[kind], 2)
    assert len(malformed.why) < 100
    assert [each for each in ("4711", "1794459600", "xxx", "000000", "0001-", "9999-") if each in malformed.why] == []
    assert malformed.identity is None or len(malformed.identity) <= LONGEST_IDENTITY


def test_a_page_of_impossible_records_stops_a_run_with_a_sentence(
    moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the run says comes from us and not from a library, and nothing of the page is stored."""
    page = Reply(tickets_page([ticket(7, FIRST.start).line, *[IMPOSSIBLE["a time beyond the year 9999"]] * 2]))
    with answering(page) as server, project(_environment(server.url, moto, layout), monkeypatch) as made:
        failed = made.run("incremental_tickets", hours(1))
    assert "not a page of tickets: 2 of 3 records are malformed, the first because of this: Event time" in description(
        failed
    )
    assert _bucket(moto, layout).stored() == []


# Answers


KEPT_AS_SENT = {
    "the same field twice": b'{"id":1,"id":2,"generated_timestamp":%d,"x":1,"x":2}',
    "numbers that no float holds": b'{"id":3,"generated_timestamp":%d,"a":1e999999,"b":-0,"c":0.10,"d":1E+2,"e":%%b}',
    "a letter outside of the plane": b'{"id":4,"generated_timestamp":%d,"x":"\\ud83d\\ude00 \xf0\x9f\x98\x80"}',
    "control characters, escaped": b'{"id":5,"generated_timestamp":%d,"x":"\\u0000\\n\\r\\u2028\\u001b"}',
    "line separators of other worlds": b'{"id":6,"generated_timestamp":%d,"x":"\xe2\x80\xa8\xc2\x85\x7f"}',
    "blanks": b'{ "id" : 7 ,\t"generated_timestamp":%d  }',
    "deep enough": b'{"id":8,"generated_timestamp":%%d,"x":%b}' % (b"[" * 200 + b"]" * 200),
    "markup": b'{"id":9,"generated_timestamp":%d,"x":"<script>${jndi:ldap://x}</script>{{7*7}}"}',
}


def test_what_is_strange_and_right_is_kept_byte_for_byte(
    moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one line in the bucket as it was sent, and is known again when the window is run once more."""
    sent = [
        (record % FIRST.start).replace(b"%b", b"9" * 4000).replace(b"%d", str(FIRST.start).encode())
        for record in KEPT_AS_SENT.values()
    ]
    with (
        answering(Reply(tickets_page(sent))) as server,
        project(_environment(server.url, moto, layout), monkeypatch) as made,
    ):
        done = [made.run("incremental_tickets", hours(1)).success for _ in range(2)]
    assert done == [True, True]
    assert _bucket(moto, layout).lines() == sorted(sent)


def test_line_breaks_between_fields_are_the_one_thing_taken_out() -> None:
    """A record that comes in several lines, by CR, LF or both, is one line of the same values afterwards."""
    sent = b'{\r\n "id" : 1,\n"generated_timestamp":5,\r"x": [1.0,\r\n"a\\r\\n\xe2\x80\xa8b"]}'
    (record,) = page_reader(INCREMENTAL_TICKETS)(tickets_page([sent])).records
    assert record.line == b'{"id":1,"generated_timestamp":5,"x":[1.0,"a\\r\\n\xe2\x80\xa8b"]}'


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "a byte order mark": lambda page: b"\xef\xbb\xbf" + page,
    "UTF-16": lambda page: page.decode().encode("utf-16"),
    "a million brackets": lambda page: b"[" * 1_000_000 + page,
    "more behind it": lambda page: page + b"{}",
}
SPOILT_RECORDS = {
    "no UTF-8": b'"\xff"',
    "half a letter": b'"\xed\xa0\x80"',
    "UTF-8 that is too long": b'"\xc0\xaf"',
    "lists in lists": b"[" * (DEPTH // 4) + b"]" * (DEPTH // 4),
    "objects in objects": b'{"a":' * (DEPTH // 4) + b"1" + b"}" * (DEPTH // 4),
    "no number": b"NaN",
    "other quotes": b"'x'",
    "a bare line break": b'"a\nb"',
}


@each_stream
@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_no_json_is_refused_whole(stream: Stream, kind: str) -> None:
    """The error names the path and quotes nothing; not one record of the page is taken."""
    record = b'{"id":4711,"%b":1794459600,"text":"x"}' % stream.event_time.encode()
    with pytest.raises(TransientError) as raised:
        page_reader(stream)(SPOILT[kind](_page_of(stream, record)))
    assert stream.path in str(raised.value)
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize("stream", [AUDIT_LOGS, INCREMENTAL_TICKETS], ids=lambda stream: stream.name)
@pytest.mark.parametrize("kind", SPOILT_RECORDS)
def test_a_record_that_is_no_json_costs_itself_alone(stream: Stream, kind: str) -> None:
    """The others of its page are taken, it is told by its place and its id, and quoted nowhere."""
    good, bad = (b'{"id":%d,"%b":1794459600,"text":"x"}' % (n, stream.event_time.encode()) for n in (4711, 4712))
    spoilt = bad.replace(b'"x"', SPOILT_RECORDS[kind])
    page = page_reader(stream)(_page_of(stream, good, spoilt))
    assert [record.line for record in page.records] == [good]
    (malformed,) = page.malformed
    assert (malformed.line, malformed.position, malformed.identity) == (spoilt, 2, "4712")
    assert malformed.time == 1_794_459_600
    assert not malformed.is_json


def test_two_spellings_of_an_id_are_one_record() -> None:
    """`1` and `"1"` mean the same record: what an answer changes in form is not delivered again."""
    record_of = record_reader(AUDIT_LOGS)
    number, text = (record_of(b'{"id":%b,"created_at":"2026-11-12T05:00:00Z"}' % each) for each in (b"1", b'"1"'))
    assert number.identity == text.identity


# Records too long for a line


STUBBORN = {
    "lists in lists": b"[" * 900 + b"]" * 900,
    "a number of thousands of digits": b"9" * 5000,
    "an exponent beyond all use": b"1e" + b"9" * 30,
    "very many names": b"{" + b",".join(b'"%d":1' % number for number in range(400_000)) + b"}",
}


def test_long_records_that_cannot_be_cut_are_still_delivered(
    moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be taken apart is reduced to identity and time in the feed, and lies whole in quarantine."""
    sent = [
        b'{"id":%d,"generated_timestamp":%d,"x":%b,"y":"%b"}' % (number, FIRST.start, value, b"z" * LONGEST_LINE)
        for number, value in enumerate(STUBBORN.values())
    ]
    with (
        answering(Reply(tickets_page(sent))) as server,
        project(_environment(server.url, moto, layout), monkeypatch) as made,
    ):
        done = [made.run("incremental_tickets", hours(1)).success for _ in range(2)]
    bucket = _bucket(moto, layout)
    lines = [json.loads(line) for line in bucket.lines()]
    assert done == [True, True]
    assert [(line["id"], line["generated_timestamp"]) for line in lines] == [(n, FIRST.start) for n in range(len(sent))]
    assert sorted(bucket.body(key).strip() for key in bucket.stored(layout.quarantine)) == sorted(sent)


@given(st.text(min_size=1, max_size=LONGEST_IDENTITY).filter(lambda text: text.isprintable()))
def test_an_identity_survives_shortening(identity: str) -> None:
    """A record that was cut is known again by its line: an id is never long enough to be cut."""
    record = json.dumps({"id": identity, "created_at": "2026-11-12T05:00:00Z", "text": "x" * 5000}).encode()
    line = shortened(AUDIT_LOGS, record, whole="s3://b/k", longest=1500)
    (again,) = records_in(AUDIT_LOGS, line)
    assert again.identity == record_reader(AUDIT_LOGS)(record).identity


# The bucket


FORGED = {
    "lists in lists": b'{"id":1,"generated_timestamp":5,"x":' + b"[" * DEPTH,
    "not UTF-8": b'{"id":1,"generated_timestamp":5,"x":"\xff"}',
    "an id without end": b'{"id":"%b","generated_timestamp":5}' % (b"x" * 1000),
    "no JSON": b"<html>",
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_object_holds_nothing_up(
    moto: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Somebody else's object under a name of ours is named in the run's log, not quoted, and counts for nothing."""
    bucket = _bucket(moto, layout)
    forged = layout.batch("incremental_tickets", FIRST, 0, "0" * 64, ".json")
    bucket.put(forged, FORGED[kind] + b"\n")
    page = Reply(tickets_page([ticket(1, FIRST.start).line]))
    with answering(page) as server, project(_environment(server.url, moto, layout), monkeypatch) as made:
        done = made.run("incremental_tickets", hours(1))
        said = [entry.user_message for entry in made.instance.all_logs(done.run_id) if entry.level == logging.WARNING]
    assert done.success
    assert [text for text in said if f"{forged} has a name of ours and is not ours: it holds something that" in text]
    assert FORGED[kind].decode(errors="replace") not in "".join(said)
    (own,) = [key for key in bucket.stored() if key != forged]
    assert bucket.body(own) == ticket(1, FIRST.start).line + b"\n"
    assert [each["key"] for each in bucket.ledger(FIRST, INCREMENTAL_TICKETS)["objects"]] == [own]
