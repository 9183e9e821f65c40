"""The bytes of the feed's objects."""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zendesk_pipeline.delivery.batches import LONGEST_LINE, Batch, BatchFormat, content_of, encode, records_in
from zendesk_pipeline.model.records import Record
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, audit_logs, hours, ticket

UNHURRIED = hypothesis_settings(deadline=None)
"""A busy machine is no failure."""
NDJSON = BatchFormat(items="audit_logs", envelope=False, compress=False, limit=4096)
PAGE = replace(NDJSON, envelope=True)
FORMATS = pytest.mark.parametrize("form", [pytest.param(NDJSON, id="ndjson"), pytest.param(PAGE, id="page")])

texts = st.text(max_size=200)
records = st.lists(texts, min_size=1, max_size=40).map(
    lambda drawn: [audit_log(number, FIRST.start + number, text) for number, text in enumerate(drawn)]
)
forms = st.builds(
    BatchFormat,
    items=st.just("audit_logs"),
    envelope=st.booleans(),
    compress=st.just(value=False),
    limit=st.integers(200, 3000),
)


def _contents(form: BatchFormat, put: Iterable[Record]) -> list[bytes]:
    """The contents that records become, a new batch wherever the last one has no room."""
    batches = [Batch(form)]
    for record in put:
        if not batches[-1].has_room(record.line):
            batches.append(Batch(form))
        batches[-1].add(record, record.line)
    return [batch.content() for batch in batches]


def test_ndjson_is_a_record_a_line() -> None:
    """Every record is a line of its own as Zendesk sent it, and every line ends in a line feed."""
    sent = [audit_log(1, FIRST.start, "Größe 🎫"), audit_log(2, FIRST.start, 'says "x"\u2028')]
    assert _contents(NDJSON, sent) == [sent[0].line + b"\n" + sent[1].line + b"\n"]


def test_page_is_one_line_with_the_recipes_envelope() -> None:
    """OUTPUT_FORMAT=page puts the records, as sent, into `{"audit_logs":[…]}` on one line."""
    sent = [audit_log(1, FIRST.start), audit_log(2, FIRST.start)]
    assert _contents(PAGE, sent) == [b'{"audit_logs":[' + sent[0].line + b"," + sent[1].line + b"]}\n"]
    assert [entry["id"] for entry in json.loads(_contents(PAGE, sent)[0])["audit_logs"]] == [1, 2]


@UNHURRIED
@given(form=forms, sent=records)
def test_no_object_is_longer_than_its_bound(form: BatchFormat, sent: list[Record]) -> None:
    """A content stays within BATCH_BYTES, unless it holds a single record that is longer by itself."""
    for content in _contents(form, sent):
        alone = sum(1 for _ in records_in(AUDIT_LOGS, content)) == 1
        assert alone or len(content) <= form.limit
        assert content.endswith(b"\n")


@FORMATS
@UNHURRIED
@given(sent=records, spare=st.integers(-6, 6), held=st.integers(1, 40))
def test_the_bound_holds_to_the_byte(form: BatchFormat, sent: list[Record], spare: int, held: int) -> None:
    """Separators and envelope count: a bound that just fits, or just does not, is not passed either."""
    (whole,) = _contents(replace(form, limit=1 << 20), sent[:held])
    bound = replace(form, limit=len(whole) + spare)
    for content in _contents(bound, sent):
        assert len(content) <= bound.limit or sum(1 for _ in records_in(AUDIT_LOGS, content)) == 1


@UNHURRIED
@given(form=forms, sent=records)
def test_no_object_is_shorter_than_it_could_be(form: BatchFormat, sent: list[Record]) -> None:
    """A batch ends only where the next record would not have fitted: few large objects, not many small ones."""
    contents = _contents(form, sent)
    firsts = [next(records_in(AUDIT_LOGS, content)).line for content in contents[1:]]
    for content, following in zip(contents, firsts, strict=False):
        assert len(content) + len(following) + 2 > form.limit


@UNHURRIED
@given(form=forms, sent=records)
def test_records_come_back_in_order_from_either_format(form: BatchFormat, sent: list[Record]) -> None:
    """What is read out of an object is what was put in: bytes, identity, time and order."""
    found = [record for content in _contents(form, sent) for record in records_in(AUDIT_LOGS, content)]
    assert found == sent


def test_a_ticket_comes_back_with_its_double_identity() -> None:
    """A ticket is known again by id and generated_timestamp together."""
    sent = ticket(7, FIRST.start)
    assert [record.identity for record in records_in(INCREMENTAL_TICKETS, sent.line + b"\n")] == [f"7:{FIRST.start}"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<Error><Code>AccessDenied</Code></Error>\n", id="xml"),
        pytest.param(b'{"id":1,"crea', id="cut-off"),
        pytest.param(b'{"tickets":[]}\n', id="another-stream's-page"),
        pytest.param(b'{"id":1}\n', id="record-without-time"),
        pytest.param(b"[1]\n", id="array"),
        pytest.param(b"\xff\xfe\n", id="not-utf-8"),
        pytest.param(b'{"id":1,"created_at":"yesterday"}\n', id="no-time"),
    ],
)
def test_a_foreign_content_is_refused(content: bytes) -> None:
    """An object that is not ours raises ValueError; it never passes for an empty one."""
    with pytest.raises(ValueError, match=r"."):
        list(records_in(AUDIT_LOGS, content))


@FORMATS
def test_a_line_never_gets_too_long_for_the_feed(form: BatchFormat) -> None:
    """The longest record that is fed whole makes a line that SecOps still takes, in both formats."""
    record = audit_log(1, FIRST.start)
    (content,) = _contents(form, [msgspec.structs.replace(record, line=b"x" * form.longest_record)])
    assert len(content) == LONGEST_LINE


def test_an_envelope_is_one_line_and_bounded_as_such() -> None:
    """With OUTPUT_FORMAT=page an object is one line: no BATCH_BYTES makes it longer than the feed takes."""
    form = replace(PAGE, limit=64 * LONGEST_LINE)
    half = msgspec.structs.replace(audit_log(1, FIRST.start), line=b"x" * (LONGEST_LINE // 2))
    assert [len(content) <= LONGEST_LINE for content in _contents(form, [half, half, half])] == [True] * 3


def test_compression_is_the_same_every_time() -> None:
    """The same content compresses to the same bytes, without a time of day in them."""
    content = b"".join(_contents(NDJSON, audit_logs(hours(1))))
    first, second = encode(content, compress=True), encode(content, compress=True)
    assert first == second
    assert first.body[4:8] == bytes(4)
    assert gzip.decompress(first.body) == content


@pytest.mark.parametrize("compress", [pytest.param(False, id="plain"), pytest.param(True, id="gzip")])
def test_an_object_has_the_digests_of_content_and_body(*, compress: bool) -> None:
    """Keys carry the digest of the content, whatever the compression; S3 checks that of the bytes it stores."""
    content = b'{"id":1}\n' * 100
    encoded = encode(content, compress=compress)
    assert encoded.sha256 == hashlib.sha256(content).hexdigest()
    assert encoded.checksum == base64.b64encode(hashlib.sha256(encoded.body).digest()).decode()
    assert content_of("a.json.gz" if compress else "a.json", encoded.body) == content


@UNHURRIED
@given(st.binary(max_size=400))
def test_a_damaged_compressed_object_is_refused(body: bytes) -> None:
    """Whatever lies under a key that ends in .gz: it is decompressed or raises ValueError."""
    sound = encode(b'{"id":1}\n' * 20, compress=True).body
    for damaged in (body, sound[: len(sound) // 2] + body):
        try:
            assert isinstance(content_of("a.json.gz", damaged), bytes)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("compress", "kind", "suffix"),
    [
        pytest.param(False, "application/x-ndjson", ".json", id="plain"),
        pytest.param(True, "application/gzip", ".json.gz", id="gzip"),
    ],
)
def test_compression_shows_in_name_and_type(kind: str, suffix: str, *, compress: bool) -> None:
    """SecOps tells compression by the name; the content type says the same."""
    form = replace(NDJSON, compress=compress)
    assert (form.content_type, form.suffix) == (kind, suffix)
