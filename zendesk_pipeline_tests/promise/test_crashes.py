"""A run that dies at any point, and the run after it."""

import itertools
import os
import random
import signal
from collections.abc import Iterator

import pytest

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model import redaction_rules
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline_tests.fakes.s3_proxy import S3Proxy, kill_at, s3_proxy
from zendesk_pipeline_tests.promise.collector_process import KILLED, Collection, collect, collecting
from zendesk_pipeline_tests.reconcile import reconcile
from zendesk_pipeline_tests.several_cursors import CURSORS, SLOW, cursors_at_once

START = 1_794_456_000  # 2026-11-12T04:00Z
SPAN = Span(START, START + 2 * HOUR)
SOON, LATER = SPAN.end + 10 * 60, SPAN.end + 20 * HOUR
"""When the run that dies reads its windows, and when the next one does: many tickets have changed in between."""
BATCH_BYTES = {"audit_logs": 2_500, "incremental_tickets": 45_000}
"""Small ones, for many objects a window."""
REDACTED_BATCH = 8_000
PUTS = 14
"""A run over SPAN makes so many at least: every one of them is a point to die at, before and after."""
MARKER = 1
"""The first PUT under a new prefix says whose records it holds, as soon as the first page is there."""
SAMPLE = 16
SEVERAL_SAMPLE = 4
STUCK = 50
"""Seconds; shorter than HTTP_TIMEOUT, so that who waits for a hanging answer does not end before."""
PAGE_BYTES = 60_000
"""About a page of audit logs: cursors are under way by the first PUT."""


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedZendesk]:
    """An account with many audit logs, some of which show between the run that dies and the next one."""
    options = ("--since", "2026-11-12T00:00:00Z", "--tickets-per-hour", "0", "--bulk-update", "0")
    records = ("--audit-logs-per-hour", "1100", "--late-share", "0.1", "--empty-hours", "0")
    with simulated_zendesk(tmp_path_factory.mktemp("crowded"), *options, *records) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(s3: LocalS3) -> Iterator[S3Proxy]:
    with s3_proxy(s3.endpoint) as running:
        yield running


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every point with --thorough, else a sample."""
    if "several_put" in metafunc.fixturenames:
        points = list(itertools.product(("before", "after"), range(MARKER + 1, PUTS + 1)))
        thorough = metafunc.config.getoption("--thorough")
        metafunc.parametrize(
            ("several_moment", "several_put"), points if thorough else random.Random(1).sample(points, SEVERAL_SAMPLE)
        )
    if "put" in metafunc.fixturenames:
        points = list(itertools.product(BATCH_BYTES, ("before", "after"), range(1, PUTS + 1)))
        thorough = metafunc.config.getoption("--thorough")
        chosen = points if thorough else random.Random(1).sample(points, SAMPLE)
        metafunc.parametrize(("stream", "moment", "put"), sorted(chosen))


def test_killed_at_any_put_and_run_again_every_record_is_there_once(
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    proxy: S3Proxy,
    layout: Layout,
    environment: dict[str, str],
    stream: str,
    moment: str,
    put: int,
) -> None:
    """kill -9 before or after the n-th PUT, then a re-run over a source that has changed: nothing lost or repeated."""
    settings = {**environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint, "BATCH_BYTES": str(BATCH_BYTES[stream])}
    collection = Collection(stream=stream, span=SPAN, environment=settings)
    zendesk.control.set_clock(SOON)
    died = _killed(proxy, collection, moment, put)

    zendesk.control.set_clock(LATER)
    assert collect(collection) == 0

    verdict = reconcile(zendesk.control, s3, layout, stream, SPAN)
    assert died in KILLED
    assert verdict.exact, verdict
    assert verdict.source > 0


def test_killed_while_several_cursors_read_and_run_again_every_record_is_there_once(
    crowded: SimulatedZendesk,
    s3: LocalS3,
    proxy: S3Proxy,
    layout: Layout,
    environment: dict[str, str],
    several_moment: str,
    several_put: int,
) -> None:
    """At least three cursors are asking when the process dies at a PUT; what they had read ahead is read again."""
    settings = {**environment, **crowded.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint}
    collection = Collection(stream="audit_logs", span=SPAN, environment={**settings, "BATCH_BYTES": str(PAGE_BYTES)})
    crowded.control.reset()
    crowded.control.set(**SLOW)
    crowded.control.set_clock(SOON)
    died = _killed(proxy, collection, several_moment, several_put)
    at_once = cursors_at_once(crowded.control.requests())

    crowded.control.set_clock(LATER)
    assert collect(collection) == 0

    verdict = reconcile(crowded.control, s3, layout, "audit_logs", SPAN)
    assert died in KILLED
    assert at_once >= CURSORS
    assert verdict.exact, verdict
    assert verdict.source > 0


def test_interrupted_while_several_cursors_read_the_process_ends(
    crowded: SimulatedZendesk, s3: LocalS3, proxy: S3Proxy, layout: Layout, environment: dict[str, str]
) -> None:
    """An interrupt, as Dagster ends a run: cursors that wait for Zendesk hold nothing up, and the next run is exact."""
    settings = {**environment, **crowded.environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint}
    first_page = {"BATCH_BYTES": "10000", "LOOKBACK_SECONDS": "0"}
    collection = Collection(stream="audit_logs", span=SPAN, environment={**settings, **first_page})
    crowded.control.reset()
    crowded.control.set(**SLOW)
    crowded.control.set_clock(LATER)
    crowded.control.add_faults(Rule(path="audit_logs", kind="hang", seconds=STUCK, skip=12, times=0))
    proxy.reset()
    with collecting(collection) as process:
        # with the first object no other cursor need have begun
        kill_at(proxy, lambda: os.kill(process.pid or 0, signal.SIGINT), "after", MARKER + 3)
        process.join(STUCK)
    ended, at_once = process.exitcode, cursors_at_once(crowded.control.requests())

    proxy.reset()
    crowded.control.clear_faults()
    assert collect(collection) == 0

    assert ended == 1
    assert at_once >= CURSORS
    assert reconcile(crowded.control, s3, layout, "audit_logs", SPAN).exact


@pytest.mark.parametrize(("moment", "nth"), [("before", 2), ("after", 3), ("after", PUTS)])
def test_killed_under_redaction_rules_every_record_is_there_once_as_the_rules_want(
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    proxy: S3Proxy,
    layout: Layout,
    environment: dict[str, str],
    moment: str,
    nth: int,
) -> None:
    """The promise holds for redacted records as for others: killed at a PUT and run again, each is there once."""
    rules, key = "builtin:without-personal-data", "0123456789abcdef" * 4
    settings = {**environment, "AWS_ENDPOINT_URL_S3": proxy.endpoint, "REDACTION_RULES": rules, "REDACTION_KEY": key}
    collection = Collection(
        stream="incremental_tickets", span=SPAN, environment={**settings, "BATCH_BYTES": str(REDACTED_BATCH)}
    )
    zendesk.control.set_clock(SOON)
    died = _killed(proxy, collection, moment, nth)

    zendesk.control.set_clock(LATER)
    assert collect(collection) == 0

    redaction = redaction_rules.redaction(INCREMENTAL_TICKETS, rules, key)
    assert redaction is not None
    verdict = reconcile(zendesk.control, s3, layout, "incremental_tickets", SPAN, lambda line: redaction.apply(line)[0])
    assert died in KILLED
    assert verdict.exact, verdict
    assert verdict.source > 0


def _killed(proxy: S3Proxy, collection: Collection, moment: str, put: int) -> int | None:
    """Collect until the process is killed at its n-th PUT; its exit code. The proxy is as before afterwards."""
    proxy.reset()
    with collecting(collection) as process:
        kill_at(proxy, process.kill, moment, put)
        process.join(60)
    proxy.reset()
    return process.exitcode
