"""What a collection holds in memory, whatever the pages hold: measured in a process of its own."""

from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline_tests.promise.collector_process import Collection, collecting
from zendesk_pipeline_tests.promise.fault_matrix import SPAN
from zendesk_pipeline_tests.reconcile import reconcile
from zendesk_pipeline_tests.several_cursors import cursors_at_once

MOST = 400 * 1024 * 1024
"""About a third of it is Python with Dagster."""
LATENCY_MS = 150
"""At the largest rate that counts this asks for seven cursors."""
BYTES = 400_000_000
"""Of all records: without a bound most of them would wait in memory."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a collection ended."""

    exit_code: int
    memory: int
    """The most it held at a time, bytes."""
    log: str


def _watched(collection: Collection, log: Path) -> Done:
    memory = 0
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
        return Done(process.exitcode, memory, log.read_text())


def _collected(zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout, stream: str, folder: Path) -> Done:
    """A run over two hours; what it delivers is exact."""
    zendesk.control.set_clock(SPAN.end + 2 * HOUR)
    environment = {
        **zendesk.environment,
        **s3.environment,
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": "2026-11-12",
        "COMPRESSION": "gzip",  # what takes its time: pages come faster than they are used
    }
    log = folder / "log"
    done = _watched(Collection(stream=stream, span=SPAN, environment=environment, log=log), log)
    assert done.exit_code == 0, done.log[-2000:]
    verdict = reconcile(zendesk.control, s3, layout, stream, SPAN)
    assert verdict.exact, verdict
    assert verdict.source > 1000
    return done


@pytest.mark.parametrize("size", [20_000, 60_000, 150_000])
def test_several_cursors_hold_little_whatever_pages_hold(
    moto: LocalS3, layout: Layout, tmp_path: Path, size: int
) -> None:
    """Audit logs of 20 kB, of 60 kB, and so long that a page is more than one of several cursors takes.

    Memory has a bound, several cursors read all the same, and every record is there once.
    """
    history = (
        *("--since", "2026-11-12T03:00:00Z", "--audit-logs-per-hour", str(BYTES // size // 3), "--empty-hours", "0"),
        *("--tickets-per-hour", "0", "--bulk-update", "0", "--further-per-hour", "0", "--late-share", "0"),
        *("--audit-log-bytes", str(size), "--latency-ms", str(LATENCY_MS), "--account-limit", "100000"),
    )
    with simulated_zendesk(tmp_path, *history) as zendesk:
        done = _collected(zendesk, moto, layout, "audit_logs", tmp_path)
        assert cursors_at_once(zendesk.control.requests()) > 1
    assert done.memory < MOST, f"{done.memory / 1024 / 1024:.0f} MiB"


def test_a_page_that_is_large_alone_is_held_alone(moto: LocalS3, layout: Layout, tmp_path: Path) -> None:
    """Tickets of 55 kB, a thousand a page: while one page is used up no other is read."""
    history = (
        *("--since", "2026-11-12T04:00:00Z", "--tickets-per-hour", "1400", "--ticket-bytes", "55000"),
        *("--plain-text", "--changes-per-ticket", "0", "--bulk-update", "0", "--empty-hours", "0"),
        *("--audit-logs-per-hour", "0", "--further-per-hour", "0"),
    )
    with simulated_zendesk(tmp_path, *history) as zendesk:
        done = _collected(zendesk, moto, layout, "incremental_tickets", tmp_path)
    assert done.memory < MOST, f"{done.memory / 1024 / 1024:.0f} MiB"
