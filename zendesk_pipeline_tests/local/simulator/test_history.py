"""The simulated history: the same past whenever it is asked, and more of it later."""

import json
from itertools import pairwise

import pytest

from zendesk_pipeline.local.simulator.history import (
    AUDIT_LOGS,
    DAY,
    HIDDEN_SECONDS,
    HOUR,
    TICKETS,
    HistoryOptions,
    bulk_second,
    is_empty,
)
from zendesk_pipeline.local.simulator.source import Source

SINCE = 1_790_000_000 // HOUR * HOUR
OPTIONS = HistoryOptions(since=SINCE, bulk_update=1200)
LATER = SINCE + 30 * HOUR


def everything(source: Source, stream: str, now: float) -> list[bytes]:
    return list(source.visible(stream, 0, SINCE + 1000 * DAY, now, ever=True))


@pytest.mark.parametrize("stream", [AUDIT_LOGS, TICKETS])
def test_the_past_does_not_depend_on_when_it_was_first_asked(stream: str) -> None:
    """A server started late shows the same past, to the byte, as one that has run all along."""
    early = Source(OPTIONS)
    before = everything(early, stream, SINCE + 10 * HOUR)
    assert before
    assert everything(early, stream, LATER) == everything(Source(OPTIONS), stream, LATER)
    assert everything(Source(OPTIONS), stream, SINCE + 10 * HOUR) == before


@pytest.mark.parametrize("stream", [AUDIT_LOGS, TICKETS])
def test_later_there_is_more_and_nothing_once_shown_is_gone_from_ever(stream: str) -> None:
    """Time only adds: each state that was ever shown can still be listed, so a test can hold a collector to it."""
    source = Source(OPTIONS)
    before, after = everything(source, stream, SINCE + 10 * HOUR), everything(source, stream, LATER)
    assert set(before) < set(after)


def test_another_seed_is_another_account() -> None:
    """Two accounts with the same options but different seeds do not share their audit logs."""
    other = Source(HistoryOptions(since=SINCE, seed=2))
    assert everything(other, AUDIT_LOGS, LATER) != everything(Source(OPTIONS), AUDIT_LOGS, LATER)


@pytest.mark.parametrize("stream", [AUDIT_LOGS, TICKETS])
def test_encoding_a_record_again_would_change_its_bytes(stream: str) -> None:
    """Over a quarter of the records do not survive decode and encode: a collector that re-encodes is caught."""
    records = everything(Source(OPTIONS), stream, LATER)
    changed = [one for one in records if json.dumps(json.loads(one), separators=(",", ":")).encode() != one]
    assert len(changed) > len(records) / 4
    assert any("\u2028".encode() in one for one in records)
    assert any(rb"\u0000" in one for one in records)
    assert any(rb"\/" in one for one in records)
    assert not any(b"\n" in one for one in records)


def test_hours_hold_records_on_both_edges_and_many_in_one_second() -> None:
    """An hour has records in its first and its last second, and a bulk update crowds one second with tickets."""
    source, bulk = Source(OPTIONS), bulk_second(OPTIONS, SINCE // DAY + 1)
    hour = next(h for h in range(SINCE // HOUR, LATER // HOUR) if not is_empty(OPTIONS, AUDIT_LOGS, h)) * HOUR
    assert list(source.visible(AUDIT_LOGS, hour, hour + 1, LATER, ever=False))
    assert list(source.visible(AUDIT_LOGS, hour + HOUR - 1, hour + HOUR, LATER, ever=False))
    assert len(list(source.visible(TICKETS, bulk, bulk + 1, bulk + DAY, ever=False))) >= OPTIONS.bulk_update


def test_some_hours_are_empty() -> None:
    """Hours drawn to be quiet hold no record of their stream, not even a state that a later change replaced."""
    options = HistoryOptions(since=SINCE, empty_hours=0.5)
    hours = range(SINCE // HOUR, LATER // HOUR)
    for stream in (AUDIT_LOGS, TICKETS):
        empty = [hour for hour in hours if is_empty(options, stream, hour)]
        source = Source(options)
        assert empty
        for hour in empty:
            assert not list(source.visible(stream, hour * HOUR, (hour + 1) * HOUR, LATER, ever=True))


def test_a_ticket_shows_once_in_its_latest_state() -> None:
    """The export never has two states of one ticket at the same time; older ones remain only on the record."""
    source = Source(OPTIONS)
    now = list(source.visible(TICKETS, 0, LATER, LATER, ever=False))
    ids = [json.loads(one)["id"] for one in now]
    assert len(ids) == len(set(ids))
    ever = everything(source, TICKETS, LATER)
    assert len(ever) > len(now)
    assert set(now) < set(ever)


def test_the_most_recent_minute_of_tickets_is_hidden() -> None:
    """A ticket stays out of the export until its change is a minute old; what shows is in order of time."""
    source = Source(
        HistoryOptions(since=SINCE, tickets_per_hour=5000, changes_per_ticket=0, empty_hours=0, bulk_update=0)
    )
    stamps = [json.loads(one)["generated_timestamp"] for one in everything(source, TICKETS, SINCE + 1800)]
    assert max(stamps) <= SINCE + 1800 - HIDDEN_SECONDS
    assert stamps == sorted(stamps)


def test_without_changes_an_hour_brings_exactly_the_tickets_asked_for() -> None:
    """Ten hours of seventy new tickets are seven hundred records: measurements can name their load beforehand."""
    options = HistoryOptions(since=SINCE, tickets_per_hour=70, changes_per_ticket=0, empty_hours=0, bulk_update=0)
    assert len(everything(Source(options), TICKETS, SINCE + 10 * HOUR + 59)) == 700


def test_some_audit_logs_show_late() -> None:
    """Of a finished hour some audit logs are still missing, and turn up before the longest delay is over."""
    source = Source(HistoryOptions(since=SINCE, late_share=0.2, late_by=3000))
    at_once = set(source.visible(AUDIT_LOGS, SINCE, SINCE + HOUR, SINCE + HOUR + 4, ever=False))
    in_the_end = set(source.visible(AUDIT_LOGS, SINCE, SINCE + HOUR, SINCE + HOUR + 3001, ever=False))
    assert at_once < in_the_end


def test_updated_at_runs_behind_generated_timestamp_and_jumps() -> None:
    """In the order of the export updated_at goes back at times, and deleted and scrubbed tickets are in between."""
    records = [json.loads(one) for one in everything(Source(OPTIONS), TICKETS, LATER)]
    times = [one["updated_at"] for one in records]
    assert any(earlier > later for earlier, later in pairwise(times))
    assert {one["status"] for one in records} >= {"new", "open", "deleted"}
    assert any(one["subject"] == "SCRUBBED" and one["description"] == "X" for one in records)


@pytest.mark.parametrize("size", [2000, 4500, 50_000])
def test_ticket_records_are_about_as_long_as_asked(size: int) -> None:
    """The mean length of a ticket is within 15 percent of the option, for small records and for huge ones."""
    records = everything(Source(HistoryOptions(since=SINCE, ticket_bytes=size)), TICKETS, SINCE + 5 * HOUR)
    mean = sum(map(len, records)) / len(records)
    assert 0.85 * size < mean < 1.15 * size
