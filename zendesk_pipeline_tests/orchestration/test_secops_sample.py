"""The check that looks for delivered records in SecOps, against a stand-in of SecOps and a real bucket."""

import time
from collections.abc import Callable, Sequence

import dagster as dg
import pytest

from zendesk_pipeline.alerts.dagster_problems import failed_checks
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.records import Record
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import DAY, HOUR, Span, Window
from zendesk_pipeline_tests.by_hand import audit_logs, ticket
from zendesk_pipeline_tests.deliveries import SMALL, Bucket, Deliveries
from zendesk_pipeline_tests.fakes.secops_server import SecopsServer, google_error
from zendesk_pipeline_tests.orchestration.conftest import LookAt
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

FEED = dg.AssetKey("secops_feed")
KEY = dg.AssetCheckKey(FEED, "secops_finds")
Look = Callable[..., dg.AssetCheckEvaluation]


@pytest.fixture
def look(look_at: LookAt) -> Look:
    """The check, with changed settings, some hours from now; the verdict."""

    def run(hours: float = 4, **changed: str) -> dg.AssetCheckEvaluation:
        return look_at(KEY, hours, **changed)

    return run


@pytest.fixture
def delivered(store: Store, layout: Layout) -> list[Record]:
    """Records of twelve windows of audit logs, the newest two hours old."""
    end = Window.of(int(time.time())).start - HOUR
    span = Span(end - 12 * HOUR, end)
    records = audit_logs(span)
    Deliveries(bucket=Bucket(store=store, layout=layout)).records(span, records)
    return records


def _holds(server: SecopsServer, records: Sequence[Record]) -> None:
    server.logs += [(float(record.time), record.line) for record in records]


def _said(verdict: dg.AssetCheckEvaluation) -> str:
    return verdict.description or ""


def _hours_to(day: int) -> float:
    """Hours from now to 04:00 UTC, so many days from today."""
    return (time.time() // DAY * DAY + day * DAY + 4 * HOUR - time.time()) / HOUR


@pytest.mark.parametrize("parts", [True, False])
def test_a_few_records_are_looked_for_once_a_day(
    look: Look, server: SecopsServer, delivered: list[Record], *, parts: bool
) -> None:
    """Five requests a day, each for one record of another window; none in the hours after it."""
    server.answers_in_parts = parts
    _holds(server, delivered)
    verdict = look()
    assert verdict.passed
    assert _said(verdict) == "All of the 5 records that were looked for are found in SecOps."
    assert verdict.metadata["secops_records_sought"].value == 5
    assert len({each.body["baselineQuery"] for each in server.asked}) == 5
    assert server.changes() == []
    server.asked.clear()
    again = look()
    assert again.passed
    assert _said(again) == _said(verdict)
    assert server.asked == []


def test_the_day_of_samples_begins_at_three(look: Look, server: SecopsServer, delivered: list[Record]) -> None:
    """The hourly look at 03:35 UTC is the first of it, and the one of 02:35 the last."""
    _holds(server, delivered)
    assert "secops_records_sought" in look(hours=_hours_to(1)).metadata
    assert "secops_records_sought" not in look(hours=_hours_to(1) + 22.9).metadata
    assert "secops_records_sought" in look(hours=_hours_to(1) + 23.1).metadata


def test_after_a_clock_that_was_ahead_records_are_looked_for_again(
    look: Look, server: SecopsServer, delivered: list[Record]
) -> None:
    """The sample of a day of next year is no reason to wait for it."""
    _holds(server, delivered)
    look(hours=365 * 24)
    server.asked.clear()
    verdict = look()
    assert len(server.asked) == verdict.metadata["secops_records_sought"].value == 5


def test_what_is_not_found_is_told_until_it_is(
    look: Look, server: SecopsServer, delivered: list[Record], instance: dg.DagsterInstance
) -> None:
    """With its windows and the remedy, and without the record; each hour it is looked for again."""
    verdict = look()
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert "5 of the delivered records that were looked for in SecOps are not found there (audit_logs 20" in _said(
        verdict
    )
    assert "send the windows again" in _said(verdict)
    kept = str([each.value for each in verdict.metadata.values()])
    assert [record.identity for record in delivered if record.identity in kept + _said(verdict)] == []
    snapshot = Snapshot(instance=instance, now=0, automation=Automation(checks=[KEY]))
    assert len(list(failed_checks(snapshot))) == 1
    server.asked.clear()
    assert not look(hours=5).passed
    assert len(server.asked) == 5
    _holds(server, delivered)
    assert look(hours=6).passed
    assert list(failed_checks(snapshot)) == []


@pytest.mark.parametrize(("stale_hours", "passes"), [("3", True), ("1", False)])
def test_what_secops_has_had_no_time_for_is_not_looked_for(
    look: Look, server: SecopsServer, delivered: list[Record], stale_hours: str, *, passes: bool
) -> None:
    """ALERT_STALE_HOURS after its delivery."""
    assert delivered
    verdict = look(hours=2, ALERT_STALE_HOURS=stale_hours)
    assert verdict.passed is passes
    assert bool(server.asked) is not passes
    assert not passes or "none was delivered in the last day" in _said(verdict)


def test_a_stream_of_states_is_not_looked_for(look: Look, server: SecopsServer, store: Store, layout: Layout) -> None:
    """By which of its times SecOps files a ticket is the parser's choice."""
    window = Window.of(int(time.time()) - 3 * HOUR)
    records = [ticket(number, window.start + number) for number in range(6)]
    form = Deliveries(bucket=Bucket(store=store, layout=layout), stream=INCREMENTAL_TICKETS, form=SMALL)
    form.formed(items="tickets").records(Span(window.start, window.end), records)
    verdict = look()
    assert verdict.passed
    assert server.asked == []


@pytest.mark.parametrize("missing", ["SECOPS_CUSTOMER_ID", "SECOPS_PROJECT", "SECOPS_REGION"])
def test_without_the_instance_nobody_looks_and_that_is_said(look: Look, server: SecopsServer, missing: str) -> None:
    """One sentence, no request, no alarm."""
    verdict = look(**{missing: ""})
    assert verdict.passed
    assert _said(verdict) == f"No record is looked for in SecOps: {missing} is not set."
    assert server.asked == []


DENIED = (403, google_error(403, "Permission chronicle.events.searchRawLogs denied."))


def test_a_search_that_is_refused_from_the_first_is_said(
    look: Look, server: SecopsServer, delivered: list[Record]
) -> None:
    """Whether the scope for reading is enough is not documented. It is tried once a day."""
    _holds(server, delivered)
    server.refused_method, server.refusal = "searchRawLogs", DENIED
    first = look()
    assert first.passed
    assert "searchRawLogs denied" in _said(first)
    asked = len(server.asked)
    assert look().passed
    assert len(server.asked) == asked


def test_a_search_that_is_refused_after_others_is_told(
    look: Look, server: SecopsServer, delivered: list[Record]
) -> None:
    """Somebody has taken a right away."""
    _holds(server, delivered)
    assert look().passed
    server.refused_method, server.refusal = "searchRawLogs", DENIED
    verdict = look(hours=28, ALERT_STALE_HOURS="24")
    assert not verdict.passed
    assert "it could not be looked at: SecOps answered 403" in _said(verdict)


def test_an_hour_without_an_answer_is_tried_again(look: Look, server: SecopsServer, delivered: list[Record]) -> None:
    """Three in a row are a warning."""
    _holds(server, delivered)
    server.refused_method, server.refusal = "searchRawLogs", (503, google_error(503, "Try again."))
    assert [look(hours=hours).passed for hours in (4, 5, 6)] == [True, True, False]
    server.refusal = None
    assert _said(look(hours=7)) == "All of the 5 records that were looked for are found in SecOps."
