"""What is awaited, and for how long: the memory of the check of receipts, without any of Dagster's or S3's."""

import msgspec
import pytest

from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.secops import receipt_watch
from zendesk_pipeline.secops.receipt_watch import Watch, awaits, findings, notes, sees, settled
from zendesk_pipeline.secops.receipts import LATE, LogSums, Read

NOW = 1_796_000_000.0
WINDOW = Window.of(int(NOW) - 20 * HOUR)
URI, READER = "s3://log/s3/", "arn:aws:iam::123456789012:role/secops-reader"
KEY = "zendesk/crm/x.json"


def watch(*, delivered: float = NOW, left: dict[str, int] | None = None) -> Watch:
    made = Watch(since=NOW - 30 * DAY)
    awaits(made, "audit_logs", WINDOW, delivered=delivered, left={KEY: 100} if left is None else left, read={})
    return made


def read(number: int, at: float, sent: int = 100) -> Read:
    return Read(f"R{number}", at, sent, from_the_start=True)


def said(of: Watch, sums: LogSums | None = None, now: float = NOW) -> list[str]:
    return [each.text for each in findings(of, sums or LogSums(), reader=READER, uri=URI, patience=3 * HOUR, now=now)]


def test_a_window_without_objects_is_not_awaited() -> None:
    """An empty hour has nothing to read."""
    assert watch(left={}).count == 0


def test_what_is_known_survives_being_remembered() -> None:
    """As a verdict keeps it: JSON and back."""
    before = watch(left={KEY: 100, "other": 5})
    notes(before, "other", read(1, NOW, sent=2))
    after = msgspec.convert(msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(before))), Watch)
    assert after == before
    for key, size in ((KEY, 100), ("other", 5)):
        notes(after, key, read(2, NOW + 60, sent=size))
    (receipt,) = settled(after, NOW + 120)
    assert (receipt.stream, receipt.window, receipt.at) == ("audit_logs", WINDOW, NOW + 60)
    assert (after.count, after.reads) == (0, {})


def test_reads_that_no_window_claims_are_kept_for_some_days_and_not_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A range that runs for long reports its windows late; what was read long ago is forgotten."""
    monkeypatch.setattr(receipt_watch, "MOST_UNCLAIMED", 2)
    of = watch()
    notes(of, "old", read(1, NOW - 3.1 * DAY))
    for number in range(4):
        notes(of, f"new{number}", read(number, NOW - number * HOUR))
    notes(of, KEY, read(9, NOW - 6 * DAY, sent=10))
    settled(of, NOW)
    assert of.reads.keys() == {KEY, "new0", "new1"}


@pytest.mark.parametrize(("days", "awaited"), [(6.9, 1), (7.1, 0)])
def test_after_a_week_nobody_waits_any_more(days: float, awaited: int) -> None:
    """S3 may have lost the line."""
    of = watch(delivered=NOW - days * DAY)
    assert settled(of, NOW) == []
    assert of.count == awaited


@pytest.mark.parametrize("hours", [8.9, 9.1])
def test_nothing_is_said_before_the_log_could_have_come(hours: float) -> None:
    """Three hours to be read, and six for the log."""
    of = watch(delivered=NOW - hours * HOUR)
    sees(of, LogSums(last=NOW), latest=NOW - HOUR)
    assert bool(said(of)) == (hours > 3 + LATE / HOUR)


def test_many_windows_are_one_finding_that_names_the_oldest() -> None:
    """The counts of all, by the time of their delivery."""
    of = watch(delivered=NOW - 20 * HOUR)
    for number in range(1, 6):
        later = Window(WINDOW.start + number * HOUR)
        awaits(
            of, "tickets", later, delivered=NOW - (20 - number) * HOUR, left={f"{number}": 1, f"{number}b": 1}, read={}
        )
    sees(of, LogSums(last=NOW), latest=NOW)
    (text,) = said(of)
    assert text.startswith(f"No read seen of 11 objects of audit_logs {WINDOW}, tickets ")
    assert " and 3 more, delivered 20 hours ago or less: " in text


def test_a_log_that_ends_is_told_in_the_place_of_reads() -> None:
    """Since when it has nothing: from its last request, or from when it was looked for."""
    of = watch(delivered=NOW - 20 * HOUR)
    assert said(of)[0].startswith(f"The access log under {URI} has no request since 2026-10-31 ")
    sees(of, LogSums(last=NOW - 10 * HOUR), latest=None)
    assert said(of)[0].startswith(f"The access log under {URI} has no request since 2026-11-29 ")
    sees(of, LogSums(last=NOW), latest=None)
    assert said(of)[0].startswith("No read seen")


def test_lines_in_another_form_are_told_from_a_share_on() -> None:
    """A few odd ones are none."""
    assert said(Watch(since=NOW), LogSums(lines=100, malformed=10)) == []
    assert said(Watch(since=NOW), LogSums(lines=100, malformed=11))[0].startswith("11 of 100 lines under")
