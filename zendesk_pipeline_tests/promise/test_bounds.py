"""What an answer may cost: bytes, seconds and memory are bounded, and what is finished stays."""

import gzip
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.local.simulator.faults import Kind, Rule
from zendesk_pipeline.local.simulator.packing import Encoding, compressed
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PageTooHeavyError, ProtocolError, TransientError
from zendesk_pipeline.zendesk import transport as transport_module
from zendesk_pipeline.zendesk.client import LONGEST_WAIT
from zendesk_pipeline.zendesk.error_answers import LONGEST_QUOTE, quote
from zendesk_pipeline.zendesk.rate_limits import retry_after
from zendesk_pipeline_tests.asking import client_for, first_page, walk_with
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.deliveries import Bucket
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering, tickets_page
from zendesk_pipeline_tests.promise.collector_process import Collection, collect, collecting
from zendesk_pipeline_tests.promise.fault_matrix import HISTORY, NOW, SPAN
from zendesk_pipeline_tests.reconcile import reconcile

MEMORY = 300 * 1024 * 1024
"""What a collector may hold while an answer has no end: about a third of it is Python with Dagster."""
BATCH_BYTES = 400_000


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedZendesk]:
    """An account with several pages in two windows."""
    with simulated_zendesk(tmp_path_factory.mktemp("busy"), *HISTORY) as running:
        running.control.set_clock(NOW)
        yield running


@pytest.fixture
def bucket(moto: LocalS3, layout: Layout) -> Bucket:
    return Bucket(store=Store(client=moto.client(), bucket=moto.bucket, encryption={}), layout=layout)


@dataclass(frozen=True, slots=True)
class Done:
    """How a collection ended."""

    exit_code: int
    memory: int
    """The most it held at a time, bytes."""
    seconds: float
    log: str


@pytest.fixture
def environment(busy: SimulatedZendesk, moto: LocalS3, layout: Layout) -> dict[str, str]:
    return {
        **busy.environment,
        **moto.environment,
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": "2026-11-12",
        "ZENDESK_EXPORT_RATE": "100000",
        "BATCH_BYTES": str(BATCH_BYTES),
    }


def _watched(environment: dict[str, str], log: Path) -> Done:
    began, memory = time.monotonic(), 0
    collection = Collection(stream="incremental_tickets", span=SPAN, environment=environment, log=log)
    with collecting(collection) as process:
        watched = psutil.Process(process.pid)
        while process.exitcode is None:
            try:
                memory = max(memory, watched.memory_info().rss)
            except psutil.Error:
                break
            process.join(0.01)
        process.join()
        assert process.exitcode is not None
        return Done(process.exitcode, memory, time.monotonic() - began, log.read_text())


@pytest.mark.parametrize("kind", ["endless_body", "gzip_bomb", "zstd_bomb"])
def test_a_body_without_end_costs_little_and_loses_nothing(
    busy: SimulatedZendesk,
    moto: LocalS3,
    bucket: Bucket,
    layout: Layout,
    environment: dict[str, str],
    tmp_path: Path,
    kind: Kind,
) -> None:
    """Down to pages of one record it is asked for again, in bounded memory; what was stored stays, the rest follows.

    Two pages of an export prove no window (ADR 17), so none is finished.

    The gigabyte that a bomb would unpack to is never held, nor are the bodies that were given up before.
    """
    busy.control.clear_faults()
    busy.control.add_faults(Rule(path="incremental", kind=kind, skip=2, times=0))
    broken = _watched(environment, tmp_path / "log")
    stored = bucket.stored()

    busy.control.clear_faults()
    again = Collection(stream="incremental_tickets", span=SPAN, environment=environment)
    assert collect(again) == 0

    assert broken.exit_code == 1
    assert "answered with more than 67,108,864 bytes" in broken.log
    assert "0 of 2 windows are finished" in broken.log
    assert broken.memory < MEMORY
    assert stored
    assert set(stored) <= set(bucket.stored())
    verdict = reconcile(busy.control, moto, layout, "incremental_tickets", SPAN)
    assert verdict.exact, verdict
    assert verdict.source > 2000


def test_a_bomb_that_passes_is_survived(
    busy: SimulatedZendesk, moto: LocalS3, layout: Layout, environment: dict[str, str], tmp_path: Path
) -> None:
    """Where smaller pages are good again the run copes by itself, and every record is there once."""
    busy.control.clear_faults()
    busy.control.add_faults(Rule(path="incremental", kind="gzip_bomb", skip=1, times=2))
    survived = _watched(environment, tmp_path / "log")
    assert survived.exit_code == 0, survived.log[-2000:]
    assert survived.memory < MEMORY
    verdict = reconcile(busy.control, moto, layout, "incremental_tickets", SPAN)
    assert verdict.exact, verdict


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_packed_answers_lose_nothing(
    busy: SimulatedZendesk,
    moto: LocalS3,
    layout: Layout,
    environment: dict[str, str],
    tmp_path: Path,
    encoding: Encoding,
) -> None:
    """Where Zendesk packs what it sends every record is there once, byte for byte."""
    busy.control.clear_faults()
    busy.control.set(encoding=encoding)
    done = _watched(environment, tmp_path / "log")
    busy.control.set(encoding="none")
    assert done.exit_code == 0, done.log[-2000:]
    verdict = reconcile(busy.control, moto, layout, "incremental_tickets", SPAN)
    assert verdict.exact, verdict
    assert verdict.source > 2000


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_packed_answers_are_asked_for(encoding: Encoding) -> None:
    """Every request says what may be packed, and an answer that is becomes the page that it was."""
    page = tickets_page([b'{"id":%d,"generated_timestamp":5}' % number for number in range(500)])
    with answering(Reply(compressed(page, encoding), headers={"Content-Encoding": encoding})) as server:
        assert len(first_page(client_for(server.url, Clock())).records) == 500
    assert encoding in server.received[0].headers["accept-encoding"].split(", ")


@pytest.mark.parametrize("kept", [0, 1, 4, 9, 400, -9, -1])
def test_a_page_packed_by_zstd_that_is_cut_off_is_no_page(kept: int) -> None:
    """Wherever its frame ends too early, or where bytes are missing in its middle, nothing is taken for a page."""
    page = tickets_page([b'{"id":%d,"generated_timestamp":5}' % number for number in range(500)])
    packed = compressed(page, "zstd")
    for broken in (packed[:kept], packed[:kept] + packed[kept + 1 :] if kept > 0 else packed[1:]):
        reply = Reply(broken, headers={"Content-Encoding": "zstd"})
        with answering(reply) as server, pytest.raises(TransientError):
            first_page(client_for(server.url, Clock(), retries=0))


@pytest.mark.parametrize("kept", [0, 1, 9, 10, 11, 400, -9, -1])
def test_a_packed_page_that_is_cut_off_is_no_page(kept: int) -> None:
    """Wherever the end of the gzip stream is missing nothing is taken for a page, unless all of its JSON arrived."""
    page = tickets_page([b'{"id":%d,"generated_timestamp":5}' % number for number in range(500)])
    packed = gzip.compress(page)
    with answering(Reply(packed[:kept], headers={"Content-Encoding": "gzip"})) as server:
        client = client_for(server.url, Clock(), retries=0)
        if kept in {-9, -1}:  # only the check of the whole is cut
            assert len(first_page(client).records) == 500
        else:
            with pytest.raises(TransientError):
                first_page(client)


def test_a_drip_that_never_times_out_is_given_up(environment: dict[str, str], bucket: Bucket, tmp_path: Path) -> None:
    """Each byte comes in time, the whole never does: a run ends within seconds, says so and delivers nothing."""
    with answering(Reply(tickets_page() + b" " * 100_000, pause=0.02)) as server:
        slow = {**environment, "ZENDESK_BASE_URL": server.url, "HTTP_TIMEOUT": "0.05"}
        dripping = _watched(slow, tmp_path / "log")
    assert dripping.exit_code == 1
    assert "was still sending after 0 s" in dripping.log
    assert dripping.seconds < 60
    assert bucket.stored() == []


def test_bodies_given_up_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error's trace leads to the body it is about: it is let go at once, not with the next garbage collection."""
    monkeypatch.setattr(transport_module, "LARGEST_BODY", 1_000_000)
    with answering(Reply(b" " * 2_000_000)) as server, pytest.raises(PageTooHeavyError) as raised:
        first_page(client_for(server.url, FakeClock(NOW).clock))
    held: list[int] = []
    trace = raised.value.__traceback__
    while trace:
        held += [len(value) for value in trace.tb_frame.f_locals.values() if isinstance(value, bytes | bytearray)]
        trace = trace.tb_next
    assert sum(held) <= transport_module.CHUNK


# Small things without end


def test_an_error_body_is_read_in_its_beginning_only() -> None:
    """Millions of values, words below words, a word without end: what is quoted is short, and found in no time."""
    deep = b'{"error":' * 900 + b'"x"' + b"}" * 900
    wide = b'{"errors":[' + b"1," * 20_000_000 + b"1]}"
    long = b'"' + b"x" * 40_000_000 + b'"'
    began = time.monotonic()
    assert quote(deep) == ""
    assert len(quote(wide)) <= LONGEST_QUOTE
    assert len(quote(long)) <= LONGEST_QUOTE
    assert quote(b'{"error":{"errors":[{"detail":{"message":"x"}}]}}') == "x"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "told",
    [
        "9" * 400,
        "Tue, 3 Jun 2008 11:05:30 +99999999999999999999",
        "Tue, 3 Jun 99999999999999999999 11:05:30 GMT",
        "Tue, 3 Jun 2008 99999999999999999999:05:30 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "-1",
        "\N{SNOWMAN}",
        "",
    ],
)
def test_no_header_is_too_strange(told: str) -> None:
    """Retry-After and Date mean a time, or nothing, whatever they say; no run ends with a library's error."""
    headers = {"Retry-After": told.encode().decode("latin-1"), "Date": told.encode().decode("latin-1")}
    retry_after(headers, NOW)
    fake = FakeClock(NOW)
    with answering(Reply(b"", 503, headers), Reply(tickets_page(), headers=headers)) as server:
        try:
            pages = list(walk_with(client_for(server.url, fake.clock), span=SPAN).pages())
        except TransientError as problem:  # asked to wait for longer than a run may
            assert "503" in str(problem)  # noqa: PT017  # either way is fine
        else:
            assert len(pages) == 1
    assert sum(fake.slept) <= LONGEST_WAIT


def test_a_cursor_that_no_request_can_hold_is_an_error() -> None:
    """A megabyte of cursor is not sent back: the error says that the walk cannot go on, and shows none of it."""
    with (
        answering(Reply(tickets_page(cursor="Sesame" * 200_000, more=True))) as server,
        pytest.raises(ProtocolError, match="a cursor that no request can hold") as raised,
    ):
        list(walk_with(client_for(server.url, FakeClock(NOW).clock), span=SPAN).pages())
    assert "Sesame" not in str(raised.value)
    assert len(server.received) == 1


def test_a_record_of_the_future_does_not_end_a_walk() -> None:
    """At the end of a page it would look like the range's end: it is left to its own window, and the walk goes on."""
    now = SPAN.end + 3600
    ours, future = (b'{"id":%d,"generated_timestamp":%d}' % pair for pair in ((1, SPAN.start), (2, 4_000_000_000)))
    last = b'{"id":3,"generated_timestamp":%d}' % (SPAN.end - 1)
    replies = [Reply(tickets_page([ours, future], cursor="a", more=True)), Reply(tickets_page([last]))]
    with answering(*replies) as server:
        pages = list(walk_with(client_for(server.url, FakeClock(now).clock), span=SPAN).pages())
    assert [record.line for page in pages for record in page.records] == [ours, last]


def test_a_walk_without_end_can_be_bounded(environment: dict[str, str], tmp_path: Path) -> None:
    """A Zendesk that always has another empty page ends a run at MAX_PAGES, with an error."""
    endless = (Reply(tickets_page(cursor=str(number), more=True)) for number in range(60))
    with answering(*endless) as server:
        done = _watched({**environment, "ZENDESK_BASE_URL": server.url, "MAX_PAGES": "50"}, tmp_path / "log")
    assert (done.exit_code, len(server.received)) == (1, 50)
    assert "MAX_PAGES=50" in done.log
    assert "0 of 2 windows are finished" in done.log
