"""Pages split into records, byte for byte."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zendesk_pipeline.model.errors import TransientError
from zendesk_pipeline.model.records import PageBody, page_reader, record_reader
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS, Stream
from zendesk_pipeline_tests.asking import machine_in
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.fakes.scripted_server import audit_logs_page, tickets_page
from zendesk_pipeline_tests.root import ROOT

RECORDED = Path(os.environ.get("ZENDESK_RECORDED", ROOT.parent / "shared" / "recorded"))
RECORDED_PAGES = sorted(RECORDED.glob("tickets_*.json"))
"""Really recorded answers; where they are absent there is nothing to hold the code against."""

read_tickets, read_logs = page_reader(INCREMENTAL_TICKETS), page_reader(AUDIT_LOGS)
each_stream = pytest.mark.parametrize("stream", [pytest.param(stream, id=name) for name, stream in COLLECTED.items()])

blanks = st.text(" \t", max_size=2)
breaks = st.text(" \t\r\n", max_size=3)
numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)
escapes = st.sampled_from(
    [r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\u0000", r"\u00e9", r"\ud83d\ude80"]
)
plain = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\')
strings = st.lists(escapes | plain, max_size=8).map(lambda parts: f'"{"".join(parts)}"')


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str], space: st.SearchStrategy[str]) -> str:
    """The text of a JSON array with white space wherever it may stand."""
    items = [f"{draw(space)}{draw(values)}{draw(space)}" for _ in range(draw(st.integers(0, 3)))]
    return f"[{','.join(items)}]"


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str], space: st.SearchStrategy[str], own: str = "") -> str:
    """The text of a JSON object, `own` between its other fields."""
    fields = [f"{draw(strings)}{draw(space)}:{draw(space)}{draw(values)}" for _ in range(draw(st.integers(0, 3)))]
    if own:
        fields.insert(draw(st.integers(0, len(fields))), own)
    return "{" + ",".join(f"{draw(space)}{field}{draw(space)}" for field in fields) + "}"


def values(space: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The text of any JSON value."""
    leaves = st.sampled_from(["true", "false", "null"]) | numbers | strings
    return st.recursive(leaves, lambda inner: arrays(inner, space) | objects(inner, space), max_leaves=8)


OWN = '"id":4711,"generated_timestamp":1763956800'
one_line = objects(values(blanks), blanks, OWN).map(str.encode)
any_form = objects(values(breaks), breaks, OWN).map(str.encode)
around = breaks.map(str.encode)


@settings(deadline=None)
@given(st.lists(st.tuples(around, one_line, around), max_size=5))
def test_records_are_kept_byte_for_byte(sent: list[tuple[bytes, bytes, bytes]]) -> None:
    """Escapes, numbers, key order and blanks stay as they were sent, whatever stands between the records."""
    page = read_tickets(tickets_page([b"".join(parts) for parts in sent]))
    assert [record.line for record in page.records] == [record for _, record, _ in sent]


@settings(deadline=None)
@given(any_form)
def test_a_record_with_line_breaks_becomes_one_line(sent: bytes) -> None:
    """Only white space goes: numbers and texts are left as they were written."""
    (record,) = read_tickets(tickets_page([sent])).records
    assert not {b"\n", b"\r"} & {bytes([byte]) for byte in record.line}
    assert _exactly(record.line) == _exactly(sent)
    if b"\n" not in sent and b"\r" not in sent:
        assert record.line == sent


def _exactly(text: bytes) -> object:
    """What a JSON text says, numbers as they are written and fields in their order."""
    return json.loads(text, parse_int=_as_written, parse_float=_as_written, object_pairs_hook=list)


def _as_written(number: str) -> tuple[str, str]:
    return "number", number


if RECORDED_PAGES:  # pytest would call a test without rows a skipped one

    @pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in RECORDED_PAGES])
    def test_recorded_answers_are_split_byte_for_byte(path: Path) -> None:
        """Every line of a really recorded answer stands in the file as it is, and none is left out."""
        text = path.read_bytes()
        body = msgspec.json.decode(text, type=dict[str, msgspec.Raw])["body"]
        said: dict[str, Any] = json.loads(bytes(body))
        page = read_tickets(bytes(body))

        assert all(record.line in text for record in page.records)
        assert [json.loads(record.line) for record in page.records] == said["tickets"]
        assert (page.has_more, page.cursor) == (not said["end_of_stream"], said["after_cursor"])
        assert [record.time for record in page.records] == [ticket["generated_timestamp"] for ticket in said["tickets"]]
        assert len({record.identity for record in page.records}) == len(page.records)


@pytest.mark.parametrize(
    ("stream", "record", "identity", "time"),
    [
        pytest.param(
            INCREMENTAL_TICKETS, b'{"generated_timestamp":1763956800,"id":7}', "7:1763956800", 1763956800, id="ticket"
        ),
        pytest.param(
            INCREMENTAL_TICKETS,
            b'{"id":29000000000000123456789,"generated_timestamp":1}',
            "29000000000000123456789:1",
            1,
            id="beyond-64-bits",
        ),
        pytest.param(
            AUDIT_LOGS,
            b'{"id":9007199254740993,"created_at":"1970-01-01T01:00:00Z"}',
            "9007199254740993",
            3600,
            id="log",
        ),
        pytest.param(AUDIT_LOGS, b'{"id":"01HZ","created_at":"1970-01-01T01:00:00Z"}', "01HZ", 3600, id="id-is-text"),
        pytest.param(
            AUDIT_LOGS,
            b'{"id":1,"created_at":"1970-01-01T00:59:59.999Z"}',
            "1",
            3599,
            id="fraction-stays-in-its-second",
        ),
        pytest.param(AUDIT_LOGS, b'{"id":1,"created_at":"1970-01-01T03:00:00+02:00"}', "1", 3600, id="other-zone"),
        pytest.param(AUDIT_LOGS, b'{"id":1,"created_at":"1970-01-01T01:00:00"}', "1", 3600, id="no-zone-is-utc"),
        pytest.param(AUDIT_LOGS, b'{"id":2,"id":1,"created_at":"1970-01-01T01:00:00Z"}', "1", 3600, id="last-key-wins"),
        pytest.param(
            AUDIT_LOGS,
            b'{"nested":{"id":5,"created_at":"x"},"id":1,"created_at":"1970-01-01T01:00:00Z"}',
            "1",
            3600,
            id="nested-fields-are-others",
        ),
    ],
)
def test_identity_and_time(stream: Stream, record: bytes, identity: str, time: int) -> None:
    """A record is known by its own fields, exactly; its time is whole seconds, whatever zone this machine is in."""
    with machine_in("America/Los_Angeles"):
        found = record_reader(stream)(record)
    assert (found.line, found.identity, found.time) == (record, identity, time)


SECRET = b"Sesame-4711"


@each_stream
@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b'{"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"x":"%b"}', id="no-id"),
        pytest.param(b'{"id":null,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"x":"%b"}', id="null-id"),
        pytest.param(b'{"id":1.5,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"x":"%b"}', id="float-id"),
        pytest.param(b'{"id":true,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"x":"%b"}', id="bool-id"),
        pytest.param(
            b'{"id":{"a":"%b"},"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5}', id="object-as-id"
        ),
        pytest.param(b'{"id":1,"x":"%b"}', id="no-time"),
        pytest.param(b'{"id":1,"created_at":null,"generated_timestamp":null,"x":"%b"}', id="null-time"),
        pytest.param(b'{"id":1,"created_at":"%b","generated_timestamp":"%b"}', id="text-as-time"),
        pytest.param(b'{"id":1,"created_at":1.5,"generated_timestamp":1.5,"x":"%b"}', id="float-time"),
        pytest.param(b'{"id":1,"created_at":"2026-02-30T05:00:00Z","generated_timestamp":"%b"}', id="no-such-day"),
        pytest.param(
            b'{"id":"%b' + b"x" * 100 + b'","created_at":"2026-11-12T05:00:00Z","generated_timestamp":5}', id="long-id"
        ),
        pytest.param(
            b'{"id":1,"created_at":"1969-12-31T23:59:59Z","generated_timestamp":-1,"x":"%b"}', id="before-1970"
        ),
        pytest.param(
            b'{"id":1,"created_at":"10000-01-01T00:00:00Z","generated_timestamp":253402300800,"x":"%b"}',
            id="year-10000",
        ),
        pytest.param(b'"%b"', id="text"),
        pytest.param(b'["%b"]', id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"4711", id="number"),
        pytest.param(
            b'{"id":1,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"x":"%b\xff"}', id="not-utf-8"
        ),
        pytest.param(
            b'{"id":1,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"%b":"a\nb"}', id="bare-line-break"
        ),
        pytest.param(b'{"id":1,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"%b":tru}', id="no-json"),
        pytest.param(
            b'{"id":1,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5,"%b":'
            + b"[" * 100_000
            + b"]" * 100_000
            + b"}",
            id="depth",
        ),
    ],
)
def test_a_record_that_is_none_costs_itself_alone(stream: Stream, record: bytes) -> None:
    """The other one is taken; what is said of it holds nothing of it. A page of such records is no page."""
    page = {"audit_logs": audit_logs_page, "incremental_tickets": tickets_page}[stream.name]
    good = b'{"id":1,"created_at":"2026-11-12T05:00:00Z","generated_timestamp":5}'
    bad = record.replace(b"%b", SECRET)
    body = page_reader(stream)(page([good, bad]))
    assert [each.line for each in body.records] == [good]
    assert [(each.line, each.position) for each in body.malformed] == [(bad, 2)]
    assert SECRET.decode() not in repr(body.malformed)
    with pytest.raises(TransientError) as raised:
        page_reader(stream)(page([bad, bad, bad, good]))
    assert stream.path in str(raised.value)
    assert SECRET.decode() not in repr(raised.value)
    assert "4711" not in str(raised.value)


@each_stream
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{}", id="empty-object"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"<!DOCTYPE html><html></html>", id="html"),
        pytest.param(b'{"error":"InternalError","description":"Sorry"}', id="error-object"),
        pytest.param(b'{"audit_logs":[],"tickets":[]}', id="no-envelope"),
        pytest.param(
            b'{"audit_logs":null,"tickets":null,"meta":{"has_more":false},"end_of_stream":true,"after_cursor":null}',
            id="null-records",
        ),
        pytest.param(
            b'{"audit_logs":{},"tickets":{},"meta":{"has_more":false},"end_of_stream":true,"after_cursor":null}',
            id="object-of-records",
        ),
        pytest.param(
            b'{"audit_logs":[],"tickets":[],"meta":{"has_more":"no"},"end_of_stream":"yes","after_cursor":null}',
            id="flag-is-text",
        ),
        pytest.param(
            b'{"audit_logs":[],"tickets":[],"meta":{},"end_of_stream":null,"after_cursor":null}', id="no-flag"
        ),
        pytest.param(
            b'{"audit_logs":[],"tickets":[],"meta":{"has_more":true,"after_cursor":7},"end_of_stream":false,'
            b'"after_cursor":7}',
            id="cursor-is-number",
        ),
        pytest.param(
            b'{"audit_logs":[],"tickets":[],"meta":{"has_more":true,"after_cursor":"\xff"},"end_of_stream":false,'
            b'"after_cursor":"\xff"}',
            id="cursor-is-not-utf-8",
        ),
    ],
)
def test_what_is_no_page_is_never_an_empty_one(stream: Stream, body: bytes) -> None:
    """A body with status 200 that is not a page of the stream raises TransientError: asking again may help."""
    with pytest.raises(TransientError, match=stream.path):
        page_reader(stream)(body)


@given(st.data())
def test_a_page_cut_off_anywhere_is_refused(data: st.DataObject) -> None:
    """No beginning of a page is taken for a page."""
    record = b'{"id":1,"created_at":"2026-11-12T05:00:00Z"}'
    whole = audit_logs_page([record, record], cursor="eyJ=", more=True)
    with pytest.raises(TransientError):
        read_logs(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_an_empty_page_is_a_page() -> None:
    """No record is no error."""
    assert read_tickets(tickets_page(cursor="a", more=True)) == PageBody([], has_more=True, cursor="a")
    assert read_logs(audit_logs_page()) == PageBody([], has_more=False, cursor=None)
