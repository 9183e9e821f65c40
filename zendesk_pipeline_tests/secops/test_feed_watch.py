"""What is wrong with the feeds of a prefix, by what SecOps says of them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline.secops.feed_model import Failure, Feed
from zendesk_pipeline.secops.feed_watch import (
    Delivered,
    Finding,
    chosen,
    findings,
    last_transfer,
    left_out,
    passed_over,
)
from zendesk_pipeline_tests.secops.test_feed_model import INSTANCE, URI

NOW = 1_796_000_000.0
NOTHING = Delivered(objects=0, oldest=None)


def feed(
    number: int = 1,
    *,
    uri: str = URI,
    state: str = "SUCCEEDED",
    kind: str = "AMAZON_S3_V2",
    log_type: str = "ZENDESK_CRM",
    includes: Sequence[str] = (),
    **changed: Any,
) -> Feed:
    settings = {"s3Uri": uri, "includePrefixes": list(includes)} if uri else {"queue": "arn:aws:sqs:eu-west-1:1:q"}
    details = {"feedSourceType": kind, "logType": f"{INSTANCE.name}/logTypes/{log_type}", "settings": settings}
    fields: dict[str, Any] = {"display_name": "Zendesk CRM", "details": details, "state": state, **changed}
    return Feed(name=f"{INSTANCE.name}/feeds/f{number}", **fields)


def found(*feeds: Feed, waits: Delivered = NOTHING, since: float | None = None) -> list[Finding]:
    known = {"f1": since} if since is not None else {}
    return list(findings(URI, feeds, known, waits, patience=3 * HOUR, now=NOW))


@pytest.mark.parametrize("state", ["ACTIVE", "RUNNING", "SUCCEEDED"])
@pytest.mark.parametrize("uri", [URI, "s3://acme-zendesk/zendesk/", "s3://acme-zendesk/"])
def test_a_feed_that_works_is_well(state: str, uri: str) -> None:
    """It reads the prefix, or all above it; no object waits."""
    assert found(feed(state=state, uri=uri)) == []


@pytest.mark.parametrize(
    ("stopped", "says"),
    [
        ((), "No feed reads s3://acme-zendesk/zendesk/crm/: make one"),
        ((feed(uri="s3://other/zendesk/crm/"),), "No feed reads"),
        ((feed(uri="s3://acme"),), "No feed reads"),
        ((feed(uri=f"{URI}2026/"),), "as a whole, and as ZENDESK_CRM; beside it are the feed 'Zendesk CRM' (f1)"),
        ((feed(log_type="AWS_S3"),), "as a whole, and as ZENDESK_CRM; beside it are"),
        ((feed(uri="s3://acme-zendesk/", includes=["other/"]),), "No feed reads"),
        ((feed(state="INACTIVE"),), "is disabled: "),
        ((feed(read_only=True),), "is read-only and reads no more"),
        ((feed(state="FAILED", failure_msg="no bucket"),), "is FAILED (no bucket): look at it"),
        (
            (feed(state="FAILED", failure_details=Failure("ACCESS_DENIED", 403, "Not listed.", "Grant it.")),),
            "is FAILED ACCESS_DENIED (Not listed): give the reader s3:GetObject and s3:ListBucket",
        ),
        (
            (feed(state="FAILED", failure_details=Failure("MaxLogLineSize4MBExceeded")),),
            "has written a line of over 4 MB",
        ),
        (
            (feed(state="FAILED", failure_details=Failure("FILE_FAILED", 0, "Broken.", "Send it again.")),),
            "is FAILED FILE_FAILED (Broken): Send it again.",
        ),
    ],
)
def test_what_stops_a_feed_is_said_with_its_remedy(stopped: tuple[Feed, ...], says: str) -> None:
    """One finding, which stops records on their way."""
    (finding,) = found(*stopped)
    assert says in finding.text
    assert finding.stops


def test_since_when_it_fails_is_said() -> None:
    """SecOps does not say it: it is when that was first seen."""
    (finding,) = found(feed(state="FAILED"), since=1_795_996_800.0)
    assert "seen since 2026-11-30 00:00 UTC" in finding.text


def test_objects_that_wait_too_long_are_a_finding() -> None:
    """As long as a window may be missing; a feed that has failed is told as that alone."""
    last = "2026-11-29T20:00:00Z"
    assert found(feed(last_feed_initiation_time=last), waits=Delivered(objects=7, oldest=NOW - 2 * HOUR)) == []
    late = Delivered(objects=7, oldest=NOW - 5 * HOUR)
    (finding,) = found(feed(last_feed_initiation_time=last), waits=late)
    assert (
        "has transferred nothing since 2026-11-29 20:00 UTC, and 7 objects wait, the oldest for 5 hours" in finding.text
    )
    assert not finding.stops
    assert found(feed(last_feed_initiation_time=last, kind="AMAZON_SQS_V2"), waits=late) == []
    (failed,) = found(feed(state="FAILED"), waits=late)
    assert "wait" not in failed.text


@pytest.mark.parametrize(
    ("other", "twice"),
    [
        (feed(2), True),
        (feed(2, uri=f"{URI}2026/"), True),
        (feed(2, uri="s3://acme-zendesk/"), True),
        (feed(2, state="FAILED"), True),
        (feed(2, state="INACTIVE"), False),
        (feed(2, read_only=True), False),
        (feed(2, uri="s3://acme-zendesk/zendesk/state/"), False),
    ],
)
def test_a_second_feed_on_the_same_objects_is_a_finding(other: Feed, *, twice: bool) -> None:
    """What both read arrives twice; it stops nothing."""
    said = found(feed(), other)
    assert [finding.stops for finding in said] == [False] * twice
    assert all("is in SecOps twice" in finding.text for finding in said)


def test_a_type_that_google_ends_is_told_with_the_date() -> None:
    """Long before: it works until then."""
    (finding,) = found(feed(kind="AMAZON_S3"))
    assert "which Google ends on 2027-03-15" in finding.text
    assert not finding.stops


def test_a_feed_that_names_a_queue_alone_may_read_it() -> None:
    """Amazon SQS, which ends: nobody is told to make another feed, which would read everything again."""
    (finding,) = found(feed(uri="", kind="AMAZON_SQS"))
    assert "cannot be seen, because it names a queue alone: " in finding.text
    assert "ends its type on 2027-03-15" in finding.text
    assert not finding.stops


@pytest.mark.parametrize("included", ["zendesk/", "zendesk/crm/", ""])
def test_a_feed_of_some_prefixes_reads_what_they_hold(included: str) -> None:
    """Of the bucket, or of its own prefix: Google does not say from where they count."""
    assert found(feed(uri="s3://acme-zendesk/", includes=[included] if included else [])) == []


feeds = st.builds(
    feed,
    st.integers(1, 4),
    state=st.sampled_from(["ACTIVE", "RUNNING", "SUCCEEDED", "FAILED", "INACTIVE", "SOMETHING_NEW"]),
    read_only=st.booleans(),
    uri=st.sampled_from([URI, "s3://acme-zendesk/", f"{URI}2026/", "s3://other/"]),
)


@given(st.lists(feeds, max_size=4, unique_by=lambda each: each.name))
def test_all_is_well_only_where_a_feed_reads_everything(every: list[Feed]) -> None:
    """Whatever feeds there are: nothing that stops means that one reads all of the prefix, and works."""
    works = [each for each in every if URI.startswith(each.uri) and not each.read_only]
    works = [each for each in works if each.state not in {"FAILED", "INACTIVE"}]
    stops = any(finding.stops for finding in found(*every))
    assert stops == (not works)
    assert not works or chosen(URI, every) in works


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-30T00:00:00Z", 1_795_996_800.0),
        ("2026-11-30T00:00:00.123456789Z", 1_795_996_800.123456),
        ("2026-11-30T01:00:00+01:00", 1_795_996_800.0),
        ("", None),
        ("soon", None),
    ],
)
def test_the_last_transfer_is_a_time_as_google_writes_it(text: str, seconds: float | None) -> None:
    """RFC 3339 with any number of digits; nothing where SecOps says nothing."""
    assert last_transfer(feed(last_feed_initiation_time=text)) == seconds


# Objects that become too old


def aging(days: int | None, *, kind: str = "AMAZON_S3_V2", transfer: float | None = None, **changed: Any) -> Feed:
    """A feed that reads objects up to an age."""
    made = feed(kind=kind, last_feed_initiation_time=iso(transfer) if transfer else "", **changed)
    if days is not None:
        made.details["settings"]["maxLookbackDays"] = days
    return made


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@pytest.mark.parametrize(
    ("days", "hours", "words"),
    [
        (3, 59, None),
        (3, 61, "will be in 11 hours older than its maximum file age, 3 days"),
        (3, 73, "is already older than its maximum file age, 3 days"),
        (180, 73, None),
        (None, 73, None),
    ],
)
@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "INACTIVE"])
def test_what_waits_too_long_is_told_before_the_feed_passes_it_over(
    days: int | None, hours: int, words: str | None, state: str
) -> None:
    """With the one thing that helps as long as the feed stands still; whatever else is wrong with it."""
    waits = Delivered(objects=2, oldest=NOW - hours * HOUR)
    said = [each for each in found(aging(days, state=state), waits=waits) if "maximum file age" in each.what]
    assert [words in each.what for each in said if words] == ([True] if words else [])
    assert all(each.remedy.startswith("raise that age in SecOps") for each in said)
    assert bool(said) == bool(words)


def test_a_feed_with_a_queue_passes_nothing_over_that_could_be_seen() -> None:
    """What its last transfer means is documented nowhere."""
    told = aging(1, kind="AMAZON_SQS_V2", transfer=NOW)
    waits = Delivered(objects=2, oldest=NOW - 99 * HOUR)
    assert not [each for each in found(told, waits=waits) if "maximum file age" in each.what]
    assert passed_over(told, NOW - 99 * HOUR) is None


@pytest.mark.parametrize(
    ("days", "waited", "left_from"),
    [
        pytest.param(3, None, None, id="nothing waited"),
        pytest.param(3, 71, None, id="young enough"),
        pytest.param(3, 100, 100, id="too old"),
        pytest.param(180, 100, None, id="the age was raised in time"),
        pytest.param(None, 100, None, id="no age is known"),
    ],
)
def test_what_a_feed_has_passed_over_is_known_after_it_works_again(
    days: int | None, waited: int | None, left_from: int | None
) -> None:
    """Its state is green then; what had waited before is what was too old at its transfer."""
    waited_since = NOW - waited * HOUR if waited is not None else None
    between = passed_over(aging(days, transfer=NOW), waited_since)
    assert between == ((NOW - left_from * HOUR, NOW - 72 * HOUR) if left_from else None)


def test_what_was_passed_over_is_named_by_its_times() -> None:
    """And how it gets into SecOps all the same."""
    said = left_out(aging(3), (NOW - 100 * HOUR, NOW - 72 * HOUR))
    assert "has not read what was delivered from 2026-11-25 20:53 UTC to 2026-11-27 00:53 UTC" in said.what
    assert "send the windows delivered then again" in said.remedy


def test_a_feed_that_has_not_transferred_since_has_passed_nothing_over() -> None:
    """Its last transfer was before what waits."""
    assert passed_over(aging(3, transfer=NOW - 200 * HOUR), NOW - 100 * HOUR) is None
