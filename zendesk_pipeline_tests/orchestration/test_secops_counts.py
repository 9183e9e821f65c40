"""The check of SecOps' counts, against a stand-in of SecOps and a real bucket; the hours of the looks are chosen."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg
import msgspec
import pytest

from zendesk_pipeline.alerts.dagster_problems import failed_checks
from zendesk_pipeline.alerts.snapshot import Automation, Snapshot
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline_tests.by_hand import audit_logs
from zendesk_pipeline_tests.deliveries import Bucket, Deliveries
from zendesk_pipeline_tests.fakes.secops_server import SecopsServer, google_error
from zendesk_pipeline_tests.orchestration.conftest import LookAt
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

FEED = dg.AssetKey("secops_feed")
KEY = dg.AssetCheckKey(FEED, "secops_counts")
MANY = 60
"""Records of a window: a difference of them is more than a few."""
Look = Callable[..., dg.AssetCheckEvaluation]


@pytest.fixture
def uri(environment: dict[str, str], layout: Layout) -> str:
    return f"s3://{environment['S3_BUCKET']}/{layout.feed}"


@dataclass(frozen=True, slots=True)
class Delivering:
    """Delivers windows of audit logs, by how many hours ago they began."""

    deliveries: Deliveries

    def __call__(self, *hours_ago: int, redeliver: bool = False, each: int = MANY, **form: Any) -> int:
        """How many records were delivered."""
        for ago in hours_ago:
            window = self.window(ago)
            span = Span(window.start, window.end)
            records = audit_logs(span, each)
            self.deliveries.formed(**{"limit": 10_000, **form}).records(span, records, redeliver=redeliver)
        return each * len(hours_ago)

    def window(self, ago: int) -> Window:
        return Window.of(int(time.time()) - ago * HOUR)


@pytest.fixture
def deliver(store: Store, layout: Layout) -> Delivering:
    return Delivering(Deliveries(bucket=Bucket(store=store, layout=layout)))


@pytest.fixture
def look(look_at: LookAt) -> Look:
    """The check, with changed settings, some hours from now; the verdict."""

    def run(hours: float = 0, **changed: str) -> dg.AssetCheckEvaluation:
        return look_at(KEY, hours, **changed)

    return run


def _said(verdict: dg.AssetCheckEvaluation) -> str:
    return verdict.description or ""


def _numbers(verdict: dg.AssetCheckEvaluation) -> dict[str, Any]:
    names = ("secops_delivered_records", "secops_ingested_records", "secops_difference")
    return {name: verdict.metadata[name].value for name in names}


def _in(hours: float) -> float:
    """The moment so many hours from now."""
    return time.time() + hours * HOUR


def _told(instance: dg.DagsterInstance) -> list[Any]:
    return list(failed_checks(Snapshot(instance=instance, now=0, automation=Automation(checks=[KEY]))))


def test_what_is_delivered_and_ingested_is_counted(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering, instance: dg.DagsterInstance
) -> None:
    """From the first look on, in numbers that Dagster plots, on the feed's asset too; nothing is changed."""
    server.holds(uri)
    first = look()
    assert first.passed
    assert _said(first) == "The count begins now."
    many = deliver(1, 2)
    server.ingests(many, at=_in(0.5))
    verdict = look(hours=1)
    assert verdict.passed
    assert _said(verdict) == "SecOps has ingested 120 records in 1 hours; 120 were delivered."
    assert _numbers(verdict) == {
        "secops_delivered_records": 120,
        "secops_ingested_records": 120,
        "secops_difference": 0,
    }
    observed = instance.fetch_observations(FEED, limit=9).records
    seen = [each.asset_observation.metadata for each in observed if each.asset_observation]
    assert seen[0]["secops_delivered_records"].value == 120
    assert server.changes() == []


def test_one_look_is_three_requests(look: Look, server: SecopsServer, uri: str) -> None:
    """72 a day for an account, and the sign-in; as many before a count as in it."""
    server.holds(uri)
    for hours in range(2):
        server.asked.clear()
        look(hours=hours)
        assert [each.method for each in server.asked] == ["GET", "POST", "POST"]


def test_less_than_was_delivered_is_an_error_once_secops_had_its_time(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering, instance: dg.DagsterInstance
) -> None:
    """ALERT_STALE_HOURS of it; it is told with the remedy, and solved when SecOps has caught up."""
    server.holds(uri)
    look()
    deliver(1, 2)
    server.ingests(MANY, at=_in(0.5))
    assert look(hours=2).passed
    assert look(hours=5, ALERT_STALE_HOURS="6").passed
    late = look(hours=5)
    assert late.severity is dg.AssetCheckSeverity.ERROR
    assert "SecOps has not ingested 60 of the 120 records that were delivered since" in _said(late)
    (problem,) = _told(instance)
    assert "S3 keeps them" in problem.text
    server.ingests(MANY, at=_in(5.5))
    assert look(hours=6).passed
    assert _told(instance) == []


def test_a_second_feed_is_told_and_solved(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering, instance: dg.DagsterInstance
) -> None:
    """One that reads twice: told at the second look that sees it, with the remedy; over a day after it has ended."""
    server.holds(uri)
    look()
    second = server.holds(uri)
    many = deliver(1, 2)
    server.ingests(many, at=_in(0.4))
    server.ingests(many, at=_in(0.6), feed="feed-2")
    assert look(hours=1).passed
    verdict = look(hours=2)
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert "SecOps has ingested 240 records since" in _said(verdict)
    assert "120 were delivered, so some are there twice" in _said(verdict)
    assert "second feed reads the prefix" in _said(verdict)
    assert _numbers(verdict)["secops_difference"] == 120
    assert len(_told(instance)) == 1
    second["state"] = "INACTIVE"
    assert not look(hours=20).passed
    assert look(hours=26).passed
    assert _told(instance) == []
    assert _said(look(hours=27)) == "The count begins now."


@pytest.mark.parametrize(("failed", "passes"), [(4, True), (5, False)])
def test_logs_that_are_not_parsed_are_told_from_a_share_on(
    look: Look, server: SecopsServer, uri: str, failed: int, *, passes: bool
) -> None:
    """Five of a hundred, of the last day; a parser that works again is over a day later."""
    server.holds(uri)
    server.ingests(100, at=_in(-1), failed=failed)
    verdict = look()
    assert verdict.passed is passes
    assert verdict.metadata["secops_parse_failures_share"].value == failed / 100
    assert passes or "could not parse 5 of the 100 logs of the type ZENDESK_CRM" in _said(verdict)
    assert passes or "parser-check" in _said(verdict)
    assert look(hours=25).passed


def test_a_page_is_one_log(look: Look, server: SecopsServer, uri: str, deliver: Delivering) -> None:
    """SecOps takes a line for a log, and OUTPUT_FORMAT=page writes many records in one."""
    server.holds(uri)
    look(OUTPUT_FORMAT="page")
    deliver(1, 2, envelope=True)
    server.ingests(2, at=_in(0.5))
    verdict = look(hours=1, OUTPUT_FORMAT="page")
    assert _numbers(verdict)["secops_delivered_records"] == 2
    assert "2 pages" in _said(verdict)
    assert "begins anew: what is delivered goes to another place, or in another form" in _said(look(hours=2))


def test_a_feed_that_deletes_what_it_has_read_is_counted_as_well(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering
) -> None:
    """The ledgers say what was delivered when the objects are gone."""
    server.holds(uri)
    look()
    many = deliver(0, 1, 2)
    bucket = deliver.deliveries.bucket
    bucket.delete(bucket.stored())
    server.ingests(many, at=_in(0.5))
    assert _numbers(look(hours=1))["secops_difference"] == 0


def test_a_window_that_grows_or_is_sent_again_counts_by_what_is_new(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering
) -> None:
    """Late arrivals, of a window from before the count too; what is sent again on purpose arrives again."""
    server.holds(uri)
    server.ingests(deliver(3, 30, 40), at=_in(-1))
    look()
    deliver(3, 30, each=MANY + 20)
    assert _numbers(look(hours=1))["secops_delivered_records"] == 2 * 20
    deliver(40, redeliver=True)
    assert _numbers(look(hours=2))["secops_delivered_records"] == 2 * 20 + MANY


def test_old_windows_that_are_collected_later_are_counted_when_they_are(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering
) -> None:
    """A backfill; and what is sent again of it."""
    server.holds(uri)
    look()
    deliver(200, 300)
    assert _numbers(look(hours=1))["secops_delivered_records"] == 2 * MANY
    deliver(300, redeliver=True)
    assert _numbers(look(hours=2))["secops_delivered_records"] == 3 * MANY


def test_where_it_cannot_be_told_what_is_new_the_count_begins_anew(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering
) -> None:
    """An old window that is sent again, of which the feed has deleted the objects."""
    server.holds(uri)
    deliver(200)
    look()
    deliver(200, redeliver=True)
    bucket = deliver.deliveries.bucket
    bucket.delete(bucket.stored())
    verdict = look(hours=1)
    assert verdict.passed
    assert _said(verdict).startswith("The count begins anew within the hour")
    assert _said(look(hours=2)) == "The count begins now."


def test_what_the_recipe_delivered_is_not_counted(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering, store: Store, layout: Layout
) -> None:
    """`takeover` writes it into ledgers long after SecOps has read it."""
    server.holds(uri)
    look()
    window = deliver.window(1)
    key = f"{layout.feed}2026/11/12/050102-zendesk-audit_logs.json"
    theirs = Delivered(key=key, sha256="", bytes=1, identities=["1", "2"])
    there = LedgerStore(stream="audit_logs", store=store, layout=layout)
    there.replace(window, there.read(window), lambda before: msgspec.structs.replace(before, objects=[theirs]))
    assert _numbers(look(hours=1))["secops_delivered_records"] == 0


def test_logs_of_other_feeds_and_types_do_not_count(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering
) -> None:
    """Another account's feed of the same type, and what came by no feed."""
    server.holds(uri)
    server.holds("s3://other/zendesk/crm/")
    look()
    server.ingests(deliver(1), at=_in(0.5))
    server.ingests(900, at=_in(0.5), feed="feed-2")
    server.ingests(900, at=_in(0.5), feed="")
    verdict = look(hours=1)
    assert _numbers(verdict)["secops_ingested_records"] == MANY
    assert look(hours=2).passed


@pytest.mark.parametrize("alone", [True, False])
def test_counts_without_feeds_are_taken_where_there_is_one_feed(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering, *, alone: bool
) -> None:
    """Where SecOps does not tell feeds apart, another feed of the type could not be told from this one."""
    server.tells_feeds = False
    server.holds(uri)
    if not alone:
        server.holds("s3://other/zendesk/crm/")
    server.ingests(deliver(3), at=_in(-2))
    first = look()
    assert first.passed
    assert _said(first) == (
        "The count begins now."
        if alone
        else "What SecOps ingests is not counted: it does not tell its feeds apart here."
    )


def test_a_feed_that_reads_more_than_the_prefix_is_not_counted(look: Look, server: SecopsServer, uri: str) -> None:
    """Its logs are those of others too."""
    server.holds(uri.rpartition("crm/")[0])
    verdict = look()
    assert verdict.passed
    assert _said(verdict).startswith(f"What SecOps ingests is not counted: no feed reads {uri}, and nothing else")


def test_a_new_feed_that_reads_all_that_is_stored_is_waited_for(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering
) -> None:
    """It ingests in an hour what was delivered in months."""
    server.holds(uri)
    server.ingests(5_000, at=_in(-0.5))
    verdict = look()
    assert verdict.passed
    assert _said(verdict) == "The count has not begun: SecOps still reads what was delivered before."
    assert _said(look(hours=10)) == "The count begins now."
    server.ingests(deliver(0), at=_in(10.5))
    assert look(hours=16).passed


def test_a_feed_that_stands_still_is_told_before_a_count(
    look: Look, server: SecopsServer, uri: str, deliver: Delivering
) -> None:
    """Windows of hours ago are delivered, and SecOps has nothing of them."""
    server.holds(uri)
    deliver(0, 1)
    verdict = look(hours=6)
    assert verdict.severity is dg.AssetCheckSeverity.ERROR
    assert "SecOps has not ingested 60 of the 60 records" in _said(verdict)


def test_another_feed_begins_the_count_anew(look: Look, server: SecopsServer, uri: str, deliver: Delivering) -> None:
    """A feed that is made anew has another id, and counts from nothing."""
    server.holds(uri)
    look()
    server.ingests(deliver(1), at=_in(0.5))
    assert look(hours=1).passed
    server.feeds.clear()
    server.holds(uri, name=f"{server.holds(uri)['name']}-again")
    server.feeds.pop(0)
    verdict = look(hours=2)
    assert verdict.passed
    assert _said(verdict) == "The count begins anew: another feed reads now."


def test_a_count_lasts_for_a_week(look: Look, server: SecopsServer, uri: str, deliver: Delivering) -> None:
    """A hundredth of what was delivered in it is no difference; of a year it would be days."""
    server.holds(uri)
    look()
    server.ingests(deliver(1), at=_in(0.5))
    assert not _said(look(hours=100)).endswith("anew.")
    assert _said(look(hours=169)).endswith("The count begins anew.")
    assert _said(look(hours=170)) == "The count begins now."


@pytest.mark.parametrize("missing", ["SECOPS_CUSTOMER_ID", "SECOPS_PROJECT", "SECOPS_REGION"])
def test_without_the_instance_nobody_counts_and_that_is_said(look: Look, server: SecopsServer, missing: str) -> None:
    """One sentence, no request, no alarm."""
    verdict = look(**{missing: ""})
    assert verdict.passed
    assert _said(verdict) == f"What SecOps ingests is not counted: {missing} is not set."
    assert server.asked == []


@pytest.mark.parametrize("status", [503, 429])
def test_three_hours_without_counts_are_a_warning(look: Look, server: SecopsServer, uri: str, status: int) -> None:
    """Google's own faults pass; the count goes on afterwards."""
    server.holds(uri)
    look()
    server.refused_method, server.refusal = "execute", (status, google_error(status, "Try again."))
    assert [look(hours=hours).passed for hours in (1, 2, 3)] == [True, True, False]
    server.refusal = None
    assert _said(look(hours=4)).startswith("SecOps has ingested 0 records in 4 hours")


def test_a_refusal_is_a_warning_with_what_is_missing(look: Look, server: SecopsServer, uri: str) -> None:
    """The permission, in Google's words, and the role that has it; nothing of it is called a change."""
    server.holds(uri)
    denied = google_error(403, "Permission chronicle.dashboardQueries.execute denied.")
    server.refused_method, server.refusal = "execute", (403, denied)
    verdict = look()
    assert verdict.severity is dg.AssetCheckSeverity.WARN
    assert "chronicle.dashboardQueries.execute denied" in _said(verdict)
    assert "roles/chronicle.viewer" in _said(verdict)


def test_feeds_that_cannot_be_asked_for_are_told_by_the_other_check(look: Look, server: SecopsServer, uri: str) -> None:
    """One cause is one alert."""
    server.holds(uri)
    server.refused_method, server.refusal = "GET", (403, google_error(403, "Denied."))
    verdict = look()
    assert verdict.passed
    assert _said(verdict).startswith("Not counted: SecOps answered 403 to GET feeds")


def test_a_table_that_is_not_whole_is_no_count(look: Look, server: SecopsServer, uri: str) -> None:
    """SecOps says when a query gave only a part: that is not less than was delivered."""
    server.holds(uri)
    server.runtime_errors = [{"errorTitle": "Row limit exceeded", "errorSeverity": "WARNING"}]
    assert "has not counted all (Row limit exceeded)" in _said(look())
