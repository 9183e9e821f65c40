"""What an access log says of reads: whose they are, whether they got all of an object, and how often."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.secops.access_log import parsed
from zendesk_pipeline.secops.receipts import (
    APART,
    MOST_PARTS,
    LogSums,
    Read,
    Reader,
    read_again,
    reads_in,
    taken,
    whole_reads,
)
from zendesk_pipeline_tests.fakes.access_log import ACCOUNT, ROLE, SESSION, WRITER, Request

FEED = "zendesk/crm/"
KEY = f"{FEED}2026/11/12/050000-zendesk-audit_logs-0001-00112233445566778899aabbccddeeff.json"
AT = 1_794_464_258.0
GET = Request(bucket="acme-zendesk", key=KEY, at=AT, size=4406)
USER = f"arn:aws:iam::{ACCOUNT}:user/secops/zendesk-reader"
CANONICAL = "0c9b8a7f6e5d4c3b2a19080706050403f2e1d0c9b8a79685746352413021aabb"


def found(lines: Sequence[str | Request], reader: str = ROLE) -> tuple[list[tuple[str, Read]], LogSums]:
    sums = LogSums()
    text = [each if isinstance(each, str) else each.line() for each in lines]
    return list(reads_in(text, sums, bucket="acme-zendesk", feed=FEED, reader=Reader(reader))), sums


@pytest.mark.parametrize(
    ("reader", "requester", "is_it"),
    [
        (ROLE, SESSION, True),
        (ROLE, SESSION.replace("google-transfer-7", "another"), True),
        (f"arn:aws:iam::{ACCOUNT}:role/zendesk-reader", SESSION, True),
        (ROLE, SESSION.replace("zendesk-reader/", "zendesk-reader-2/"), False),
        (ROLE, SESSION.replace(ACCOUNT, "210987654321"), False),
        (ROLE, WRITER, False),
        (ROLE, ROLE, False),
        (ROLE, "-", False),
        (USER, USER, True),
        (USER, f"arn:aws:iam::{ACCOUNT}:user/zendesk-writer", False),
        (CANONICAL, CANONICAL, True),
        (CANONICAL, SESSION, False),
    ],
)
def test_the_reader_is_told_from_everybody_else(reader: str, requester: str, *, is_it: bool) -> None:
    """A role by its sessions, whatever they are called; a user and an account by their names."""
    reads, sums = found([GET.changed(requester=requester)], reader)
    assert bool(reads) is is_it
    assert sums.of_reader == is_it
    assert bool(sums.others) is not is_it


def test_who_else_got_objects_is_known_without_sessions() -> None:
    """So that a wrong name of the reader can be told."""
    sessions = [WRITER, WRITER.replace("i-0a1b2c3d4e5f60718", "i-2"), USER]
    _, sums = found([GET.changed(requester=each) for each in sessions])
    assert sums.others == {WRITER.rpartition("/")[0], USER}


@pytest.mark.parametrize(
    "changed",
    [
        {"operation": "REST.HEAD.OBJECT"},
        {"operation": "REST.PUT.OBJECT"},
        {"operation": "REST.GET.ACL"},
        {"operation": "REST.COPY.OBJECT_GET"},
        {"status": 304, "sent": 0},
        {"status": 404, "error": "NoSuchKey", "sent": 290},
        {"status": 403, "error": "AccessDenied", "sent": 243},
        {"status": 503, "error": "SlowDown", "sent": 300},
        {"sent": 0},
        {"bucket": "another"},
        {"key": "zendesk/state/audit_logs/2026/11/12/05.json.gz"},
    ],
    ids=str,
)
def test_what_gets_nothing_of_an_object_is_no_read(changed: dict[str, object]) -> None:
    """Another operation, an answer without the object, another place."""
    reads, sums = found([GET.changed(**changed)])
    assert reads == []
    assert (sums.lines, sums.malformed, sums.of_reader) == (1, 0, 0)
    assert sums.refused == (changed.get("status") == 403)


def test_malformed_lines_are_counted_and_change_nothing() -> None:
    """One bad line hides none of the others."""
    reads, sums = found(["", "x", GET, GET.line()[:200], "\x00\ufffd " * 30])
    assert [key for key, _ in reads] == [KEY]
    assert (sums.lines, sums.malformed) == (4, 3)


def test_how_far_the_log_reaches_is_told_by_its_lines() -> None:
    """In whatever order they are; those of other buckets do not count."""
    times = [AT + 5, AT - 60, AT + 900, AT]
    _, sums = found([*(GET.changed(at=at) for at in times), GET.changed(bucket="another", at=AT + 9999)])
    assert (sums.first, sums.last) == (AT - 60, AT + 900)


def read(number: int, sent: int, *, whole: bool = True, at: float = AT) -> Read:
    return Read(f"R{number}", at + number, sent, whole)


@pytest.mark.parametrize(
    ("reads", "times"),
    [
        pytest.param([], [], id="none"),
        pytest.param([read(0, 100)], [0], id="all of it"),
        pytest.param([read(0, 99)], [], id="broken off"),
        pytest.param([read(0, 100, whole=False)], [0], id="all of it as a range"),
        pytest.param([read(0, 60, whole=False), read(1, 40, whole=False)], [1], id="two ranges"),
        pytest.param([read(1, 40, whole=False), read(0, 60, whole=False)], [1], id="two ranges, out of order"),
        pytest.param([read(0, 60, whole=False), read(1, 39, whole=False)], [], id="two ranges with a gap"),
        pytest.param([read(0, 60), read(1, 40, whole=False)], [1], id="broken off and resumed"),
        pytest.param([read(0, 60), read(1, 60)], [], id="broken off twice"),
        pytest.param([read(0, 60), read(1, 70), read(2, 30, whole=False)], [2], id="broken off twice and resumed"),
        pytest.param([read(0, 60), read(1, 100)], [1], id="broken off and tried again"),
        pytest.param([read(n, 50, whole=False) for n in range(4)], [1, 3], id="in ranges, twice"),
        pytest.param([read(0, 100), read(7, 100)], [0, 7], id="twice"),
    ],
)
def test_an_object_is_read_when_all_of_it_is_sent(reads: list[Read], times: list[int]) -> None:
    """What ended early is no receipt, and what was asked for in ranges is one when they are as long as the object."""
    assert whole_reads(reads, 100) == [AT + time for time in times]


@given(
    st.lists(st.builds(Read, st.uuids().map(str), st.floats(0, 1e6), st.integers(1, 300), st.booleans()), max_size=12)
)
def test_no_more_whole_reads_than_bytes(reads: list[Read]) -> None:
    """And each ends at the time of a request, in order."""
    times = whole_reads(reads, 100)
    assert times == sorted(times)
    assert set(times) <= {each.at for each in reads}
    assert len(times) <= len(reads)
    assert len(times) <= sum(each.sent for each in reads) / 100


def test_a_line_that_comes_twice_counts_once() -> None:
    """Delivered in two log objects: two halves of it are not one whole."""
    half = Read("A", AT, 50, from_the_start=False)
    assert taken(taken([], half), half) == [half]


def test_of_many_parts_the_newest_are_kept() -> None:
    """Memory is bounded."""
    reads: list[Read] = []
    for number in range(MOST_PARTS + 5):
        reads = taken(reads, read(number, 1, whole=False))
    assert [each.request_id for each in reads] == [f"R{number}" for number in range(5, MOST_PARTS + 5)]


@pytest.mark.parametrize(
    ("after", "again"), [([], 0), ([1.0], 0), ([APART - 1], 0), ([APART], 1), ([3600.0, 7200.0], 2)]
)
def test_a_second_read_counts_when_it_is_no_repeated_try(after: list[float], again: int) -> None:
    """Which follows at once."""
    assert len(read_again([AT, *(AT + seconds for seconds in after)])) == again


def test_lines_of_the_stand_in_are_of_the_documented_format() -> None:
    """Those that other tests write."""
    entry = parsed(GET.changed(key=f"{FEED}ä b.json").line())
    assert (entry.bucket, entry.key, entry.at, entry.size) == ("acme-zendesk", f"{FEED}ä b.json", AT, 4406)
    assert entry.rest["region"] == "eu-central-1"
