"""A record that is not as it should be costs itself at most: it goes as it was sent, or into quarantine and is told."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.cli import main
from zendesk_pipeline.delivery.batches import LONGEST_LINE
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, simulated_zendesk
from zendesk_pipeline.local.simulator.faults import MALFORMED, Form, Rule
from zendesk_pipeline.model.errors import TransientError
from zendesk_pipeline.model.json_text import split, without_halves
from zendesk_pipeline.model.malformed import SHARE
from zendesk_pipeline.model.records import Page, PageBody, page_reader
from zendesk_pipeline.model.streams import AUDIT_LOGS, COLLECTED_BY_DEFAULT, INCREMENTAL_TICKETS
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline_tests.by_hand import FIRST, audit_log, hours, lines, ticket
from zendesk_pipeline_tests.deliveries import SMALL, Bucket, Deliveries, holds_once, without_ledgers
from zendesk_pipeline_tests.fakes.scripted_server import audit_logs_page, tickets_page
from zendesk_pipeline_tests.promise.fault_matrix import FURTHER
from zendesk_pipeline_tests.reconcile import reconcile
from zendesk_pipeline_tests.runs import QUIET, Project, description, metadata, project

pytestmark = QUIET
SPAN = hours(2)
each_form = pytest.mark.parametrize("form", MALFORMED)
CUT = rb'{"id":%d,"created_at":"2026-11-12T05:0%d:00Z","change_description":"Thank you \ud83d"}'
"""An audit log whose text ends in half of an emoji."""

read_tickets, read_logs = page_reader(INCREMENTAL_TICKETS), page_reader(AUDIT_LOGS)


@pytest.fixture
def collector(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    with project(
        {
            **environment,
            "HTTP_RETRIES": "0",
            "LOOKBACK_SECONDS": "0",
            "RESOURCES": ",".join((*COLLECTED_BY_DEFAULT, *FURTHER)),
        },
        monkeypatch,
    ) as running:
        yield running


@pytest.fixture
def bucket(store: Store, layout: Layout) -> Bucket:
    return Bucket(store=store, layout=layout)


def _quarantined(bucket: Bucket) -> list[bytes]:
    return [bucket.body(key) for key in bucket.stored(bucket.layout.quarantine)]


def _page(body: PageBody) -> Page:
    return Page(number=1, records=body.records, requests=1, waited=0, malformed=body.malformed)


def _malformed(zendesk: SimulatedZendesk, form: Form = "no_time", *, times: int = 1) -> None:
    """A malformed record before the others of a page, on so many pages."""
    zendesk.control.clear_faults()
    path = "audit_logs|access_logs|incremental"
    zendesk.control.add_faults(Rule(path=path, kind="malformed_record", form=form, times=times))


def _in_window(collector: Project, zendesk: SimulatedZendesk, stream: str, form: Form) -> dg.ExecuteInProcessResult:
    """A run that meets it once, on its first page; without a look-back that begins in a window of the span."""
    _malformed(zendesk, form)
    return collector.run(stream, SPAN)


# Half of a surrogate pair


halves = st.sampled_from([rb"\ud83d", rb"\ude80", rb"\uD83D", rb"\uDE80", rb"\\", rb"\"", rb"\u00e9", b"ud83d", b"a"])


@given(st.lists(halves, max_size=9).map(b"".join))
def test_only_halves_of_pairs_are_taken_for_such(text: bytes) -> None:
    """Whole pairs, backslashes and plain text that looks like an escape stay; the length stays in any case."""
    whole = without_halves(b'"%b"' % text)
    wanted = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in json.loads(b'"%b"' % text))
    assert json.loads(whole) == wanted
    assert len(whole) == len(text) + 2


@given(st.lists(st.lists(halves, max_size=4).map(b"".join), min_size=1, max_size=6), st.sampled_from([b",", b" ,\n "]))
def test_records_with_halves_are_kept_byte_for_byte(texts: list[bytes], between: bytes) -> None:
    """Each is a record with its own identity and time, and its line is what Zendesk sent."""
    sent = [b'{"id":%d,"x":"%b","generated_timestamp":%d}' % (number, text, 5) for number, text in enumerate(texts)]
    page = read_tickets(tickets_page([between.join(sent)]))
    assert [record.line for record in page.records] == sent
    assert [record.identity for record in page.records] == [f"{number}:5" for number in range(len(sent))]
    assert not page.malformed


@pytest.mark.parametrize("form", [{}, {"envelope": True}, {"compress": True}])
def test_a_text_cut_inside_an_emoji_is_delivered_once_as_sent(bucket: Bucket, form: dict[str, bool]) -> None:
    """Before and after a crash between object and ledger, in every format: the next run knows it by its line."""
    page = audit_logs_page([CUT % (1, 1), audit_log(2, FIRST.start + 120).line, CUT % (3, 3)])
    records = read_logs(page).records
    deliveries = Deliveries(bucket=bucket).formed(**form)
    deliveries.records(hours(1), records)
    keys = without_ledgers(bucket)
    deliveries.records(hours(1), records)
    assert bucket.stored() == keys
    content = b"".join(bucket.feed().values())
    assert [content.count(record.line) for record in records] == [1, 1, 1]
    if not form:
        assert holds_once(bucket, records)


def test_a_long_record_with_a_cut_text_is_shortened(bucket: Bucket) -> None:
    """The feed gets a line that every parser takes, the quarantine the record as it was sent."""
    long = rb'{"id":7,"created_at":"2026-11-12T05:00:00Z","a":"\ud83d","b":"%b"}' % (b"x" * LONGEST_LINE)
    Deliveries(bucket=bucket).records(hours(1), read_logs(audit_logs_page([long])).records)
    (line,) = bucket.lines()
    assert json.loads(line)["a"] == "\ufffd"
    assert len(line) <= LONGEST_LINE
    assert _quarantined(bucket) == [long]


def test_an_account_full_of_cut_texts_is_collected_like_any_other(
    s3: LocalS3, layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Tickets and audit logs, twice over: every record once, byte for byte, all checks green, and `verify` agrees."""
    history = ("--since", "2026-11-12T00:00:00Z", "--now", "2026-11-12T12:00:00Z", "--cut-texts", "0.3")
    with simulated_zendesk(tmp_path, *history) as zendesk:
        environment = {
            **zendesk.environment,
            **s3.environment,
            "S3_PREFIX": layout.feed,
            "STATE_PREFIX": layout.state,
            "QUARANTINE_PREFIX": layout.quarantine,
            "START_DATE": "2026-11-12T00:00:00Z",
            "ZENDESK_EXPORT_RATE": "100000",
        }
        with project(environment, monkeypatch) as collector:
            for stream in COLLECTED_BY_DEFAULT * 2:
                done = collector.run(stream, SPAN)
                assert done.success
                assert all(each.passed for each in done.get_asset_check_evaluations())
        for stream in COLLECTED_BY_DEFAULT:
            sent = zendesk.control.source(stream, SPAN.start, SPAN.end)
            assert sum(rb"\ud83d" in line for line in sent) > len(sent) // 5
            assert reconcile(zendesk.control, s3, layout, stream, SPAN).exact
        looked = CliRunner().invoke(main, ["verify", "--from", "2026-11-12T05:00Z", "--to", "2026-11-12T07:00Z"])
        assert looked.exit_code == 0, looked.output


# Malformed records


@each_form
@pytest.mark.parametrize("stream", COLLECTED_BY_DEFAULT)
def test_a_malformed_record_costs_itself_alone(
    collector: Project,
    zendesk: SimulatedZendesk,
    s3: LocalS3,
    bucket: Bucket,
    capfd: pytest.CaptureFixture[str],
    stream: str,
    form: Form,
) -> None:
    """The others are delivered, it lies whole in quarantine, once however often the range is run, and is named.

    The run, its metadata and the failed check say where it stood; nothing that they say is of what it holds.
    """
    done = [_in_window(collector, zendesk, stream, form) for _ in range(2)]
    assert [each.success for each in done] == [True, True]
    assert reconcile(zendesk.control, s3, bucket.layout, stream, SPAN).exact
    assert _quarantined(bucket) == [MALFORMED[form]]
    (key,) = bucket.stored(bucket.layout.quarantine)
    told = [metadata(event) for event in collector.materialized(stream)]
    assert [each["malformed"] for each in told if each["malformed"]] == [1, 1]
    (named,) = next(each["malformed_records"] for each in told if each["malformed"])
    assert re.match(r"2026-11-12 0[56]:00, page [12], record 1, id (990000\d{3}|unknown): ", named)
    assert key in named
    (verdict,) = [each for each in done[0].get_asset_check_evaluations() if not each.passed]
    assert (verdict.check_name, verdict.severity) == ("records_are_well_formed", dg.AssetCheckSeverity.ERROR)
    assert "1 malformed records are in quarantine" in str(verdict.description)
    assert key in str(verdict.description)
    said = "".join(capfd.readouterr()) + named + str(verdict.description)
    assert key in said
    assert [secret for secret in ("without a", "line break", "subject") if secret in said] == []


@pytest.mark.parametrize("stream", FURTHER)
def test_every_paging_copes_with_a_malformed_record(
    collector: Project, zendesk: SimulatedZendesk, s3: LocalS3, bucket: Bucket, stream: str
) -> None:
    """On every page of a stream that is off by default: all others are delivered."""
    _malformed(zendesk, times=0)
    assert collector.run(stream, SPAN).success
    assert reconcile(zendesk.control, s3, bucket.layout, stream, SPAN).exact
    assert set(_quarantined(bucket)) == {MALFORMED["no_time"]}


def test_what_was_told_before_is_not_told_again(bucket: Bucket) -> None:
    """The next hour's look-back meets the malformed record once more: it is stored once, and told by the first run."""
    body = read_logs(audit_logs_page([audit_log(3, FIRST.start + 5).line, b'{"id":4}', audit_log(5, FIRST.end).line]))
    deliveries = Deliveries(bucket=bucket)
    runs = [deliveries.run(hours(1, skip=skip), [_page(body)], lookback=HOUR) for skip in (0, 1)]
    assert [sum(tally.malformed for tally in done.tallies.values()) for done in runs] == [1, 0]
    assert len(deliveries.warnings) == 1
    assert _quarantined(bucket) == [b'{"id":4}']


@pytest.mark.parametrize("lookback", [0, HOUR])
def test_a_malformed_record_behind_the_range_is_left_to_its_own_run(bucket: Bucket, lookback: int) -> None:
    """An export goes on to the present, so the run of an hour sees what the next run tells: stored and told once."""
    times, broken = (FIRST.end - 60, FIRST.end + 60, FIRST.end + 120), b'{"id":9,"subject":"x"}'
    shown = [ticket(number, time).line for number, time in enumerate(times)]
    first = read_tickets(tickets_page([*shown[:2], broken]))
    later = read_tickets(tickets_page([*shown[int(not lookback) : 2], broken, shown[2]]))
    deliveries = Deliveries(bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"))
    runs = [
        deliveries.run(hours(1, skip=skip), [_page(body)], lookback=lookback if skip else 0)
        for skip, body in enumerate((first, later))
    ]
    assert [sum(tally.malformed for tally in done.tallies.values()) for done in runs] == [0, 1]
    assert _quarantined(bucket) == [broken]
    assert "/060000-" in bucket.stored(bucket.layout.quarantine)[0]


def test_a_record_that_stands_early_drops_no_malformed_one_behind_it(bucket: Bucket) -> None:
    """The export goes on in the range: the run of the later window may never be shown it."""
    times, broken = (FIRST.start, FIRST.end + 60, FIRST.start + 60), b'{"id":9,"subject":"x"}'
    shown = [ticket(number, time).line for number, time in enumerate(times)]
    body = read_tickets(tickets_page([*shown[:2], broken, shown[2]]))
    deliveries = Deliveries(bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"))
    assert deliveries.run(hours(1), [_page(body)]).tallies[FIRST].malformed == 1
    assert _quarantined(bucket) == [broken]


@pytest.mark.parametrize("before", [[], [ticket(1, FIRST.end + 10 * HOUR).line]])
def test_what_is_before_a_malformed_record_has_to_be_of_a_later_window(bucket: Bucket, before: list[bytes]) -> None:
    """One at a page's beginning, or behind a record of the future, may be of no later run: it is told by this one."""
    body = read_tickets(tickets_page([*before, b'{"id":9}', ticket(2, FIRST.end + 60).line]))
    known = replace(body, records=[record for record in body.records if record.time < FIRST.end + HOUR])
    deliveries = Deliveries(bucket=bucket, stream=INCREMENTAL_TICKETS, form=replace(SMALL, items="tickets"))
    assert deliveries.run(hours(1), [_page(known)]).tallies[FIRST].malformed == 1
    assert _quarantined(bucket) == [b'{"id":9}']


def test_a_late_malformed_record_is_told_by_the_run_that_meets_it(bucket: Bucket) -> None:
    """One that only the look-back shows is stored under its own window, and told with the run's first."""
    body = read_logs(audit_logs_page([audit_log(3, FIRST.start + 5).line, b'{"id":4}', audit_log(5, FIRST.end).line]))
    done = Deliveries(bucket=bucket).run(hours(1, skip=1), [_page(body)], lookback=HOUR)
    assert done.tallies[Window(FIRST.end)].malformed == 1
    assert "2026-11-12 05:00, page 1, record 2, id 4" in done.tallies[Window(FIRST.end)].malformed_ones[0]
    assert "/050000-" in bucket.stored(bucket.layout.quarantine)[0]


def test_a_malformed_record_with_a_time_is_left_to_its_window(bucket: Bucket) -> None:
    """What has a usable time and no usable line is quarantined by the run of its own window, and by no other."""
    here, other = (b'{"id":%d,"created_at":"2026-11-12T0%d:00:00Z","x":"\xff"}' % each for each in ((1, 5), (2, 9)))
    page = audit_logs_page([here, audit_log(3, FIRST.start + 5).line, audit_log(4, FIRST.start + 6).line, other])
    body = read_logs(page)
    deliveries = Deliveries(bucket=bucket)
    done = deliveries.run(hours(1), [_page(body)])
    assert _quarantined(bucket) == [here]
    assert done.tallies[FIRST].malformed == 1
    assert "2026-11-12 05:00, page 1, record 1, id 1: it is not UTF-8" in deliveries.warnings[0]
    assert bucket.lines() == lines(body.records)


@pytest.mark.parametrize("stream", COLLECTED_BY_DEFAULT)
def test_a_page_full_of_malformed_records_is_none(
    collector: Project, zendesk: SimulatedZendesk, s3: LocalS3, bucket: Bucket, stream: str
) -> None:
    """Where all records of a page have lost their times the API has changed: nothing turns green, nothing is lost."""
    zendesk.control.add_faults(Rule(path="audit_logs|incremental", kind="malformed_page", times=0))
    failed = collector.run(stream, SPAN)
    assert not failed.success
    assert "records are malformed, the first because of this: Object missing required field" in description(failed)
    assert bucket.stored() == bucket.stored(bucket.layout.quarantine) == []
    assert not any(bucket.complete(SPAN))
    zendesk.control.clear_faults()
    assert collector.run(stream, SPAN).success
    assert reconcile(zendesk.control, s3, bucket.layout, stream, SPAN).exact


@pytest.mark.parametrize(
    ("good", "bad", "taken"), [(0, 1, True), (1, 1, True), (0, 2, False), (2, 2, True), (2, 3, False)]
)
def test_from_a_share_on_a_page_is_none(good: int, bad: int, *, taken: bool) -> None:
    """One malformed record says nothing of the API; more than half of a page do."""
    page = tickets_page([b'{"id":1,"generated_timestamp":5}'] * good + [b'{"id":2}'] * bad)
    assert SHARE == 0.5
    if not taken:
        with pytest.raises(TransientError, match=f"{bad} of {good + bad} records are malformed"):
            read_tickets(page)
        return
    body = read_tickets(page)
    assert (len(body.records), [each.position for each in body.malformed]) == (good, [*range(good + 1, good + bad + 1)])


SPOILT_PAGES = {
    "a record is cut off": b'{"id":2,"x":[',
    "a text has no end": b'{"id":2,"x":"}',
    "a bracket too many": b'{"id":2}]',
    "nothing between commas": b"",
}


@pytest.mark.parametrize("kind", SPOILT_PAGES)
def test_a_page_whose_records_cannot_be_told_apart_is_none(kind: str) -> None:
    """Where a record ends has to be certain: else nothing of the page is taken."""
    page = tickets_page([b'{"id":1,"generated_timestamp":5}', SPOILT_PAGES[kind], b'{"id":3,"generated_timestamp":5}'])
    with pytest.raises(TransientError, match="not a page of tickets"):
        read_tickets(page)


def test_a_second_list_is_no_page() -> None:
    """Of two lists of records none is dropped in silence."""
    page = tickets_page([MALFORMED["no_json"], b'{"id":1,"generated_timestamp":5}'])
    twice = page[:-1] + b',"tickets":[{"id":2,"generated_timestamp":5}]}'
    with pytest.raises(TransientError):
        read_tickets(twice)


@given(
    st.lists(
        st.sampled_from([*MALFORMED.values(), b'{"id":1,"generated_timestamp":5}', b'{"a":"],[{","b":[{}]}']),
        max_size=6,
    )
)
def test_pages_are_split_where_records_end(records: list[bytes]) -> None:
    """Whatever the records hold: what is between two commas of the list comes out as it is, and the page stays."""
    page = tickets_page(records, cursor="a,b", more=True)
    envelope, found = split(page, "tickets")
    assert found == records
    assert envelope == tickets_page([], cursor="a,b", more=True)


# Redaction, verification


@pytest.mark.parametrize(
    ("form", "kept"), [("no_time", True), ("not_utf8", False), ("deep", False), ("no_json", False)]
)
def test_what_cannot_be_redacted_is_withheld(
    environment: dict[str, str],
    zendesk: SimulatedZendesk,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    form: Form,
    *,
    kept: bool,
) -> None:
    """Under redaction rules a malformed record is quarantined as they leave it, or, if it is no JSON, by name only."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("incremental_tickets:\n  - drop: subject\naudit_logs: whole\n")
    with project({**environment, "LOOKBACK_SECONDS": "0", "REDACTION_RULES": str(rules)}, monkeypatch) as collector:
        done = [_in_window(collector, zendesk, "incremental_tickets", form) for _ in range(2)]
    assert [each.success for each in done] == [True, True]
    (body,) = _quarantined(bucket)
    found = json.loads(body)
    if kept:
        assert found == {"id": 990000001}
        return
    assert found["zendesk_pipeline"]["withheld"] is True
    assert found["zendesk_pipeline"]["bytes"] == len(MALFORMED[form])
    assert b"subject" not in body


def test_verify_misses_no_malformed_record(
    collector: Project, zendesk: SimulatedZendesk, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zendesk goes on showing what lies in quarantine: nothing differs."""
    _malformed(zendesk, "not_utf8", times=0)
    assert all(collector.run(stream, SPAN).success for stream in COLLECTED_BY_DEFAULT)
    for name, value in {**environment, "RESOURCES": ",".join(COLLECTED_BY_DEFAULT)}.items():
        monkeypatch.setenv(name, value)
    looked = CliRunner().invoke(main, ["verify", "--from", "2026-11-12T05:00Z", "--to", "2026-11-12T07:00Z"])
    assert looked.exit_code == 0, looked.output
