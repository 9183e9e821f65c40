"""What windows hold, by all that was reported of them."""

from collections.abc import Iterator

import dagster as dg
import pytest

from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.model.windows import HOUR, Window
from zendesk_pipeline.orchestration.window_numbers import WindowNumbers, numbers, together
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.reported import event, run_that_says

KEY = dg.AssetKey("audit_logs")
NEXT = Window(FIRST.end)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_a_window_that_was_not_delivered_has_no_numbers(instance: dg.DagsterInstance) -> None:
    """Late records alone make no window whole; windows that were not asked for are not among them."""
    late = event("audit_logs", NEXT, Tally(total=1, late=1), dg.AssetObservation)
    run_that_says(instance, [event("audit_logs", FIRST, Tally(total=7, bytes=70)), late])
    assert numbers(instance, KEY, list(hours(3))) == {FIRST: WindowNumbers(records=7, bytes=70)}
    assert numbers(instance, KEY, [NEXT]) == {}
    assert numbers(instance, KEY, []) == {}


def test_a_run_that_reports_a_window_twice_counts_once(instance: dg.DagsterInstance) -> None:
    """Long runs report early, and all at their end again."""
    early = event("audit_logs", FIRST, Tally(total=7, bytes=70, quarantined=2, late=1))
    run_that_says(instance, [early, early])
    assert numbers(instance, KEY, [FIRST])[FIRST] == WindowNumbers(records=7, bytes=70, quarantined=2, late=1)


def test_what_came_late_is_counted_with_the_window(instance: dg.DagsterInstance) -> None:
    """A later run observes what it added: the records are those of now, late ones of each run are added up."""
    run_that_says(instance, [event("audit_logs", FIRST, Tally(total=7, bytes=70, quarantined=1))])
    for total in (8, 10):
        added = Tally(total=total, bytes=10 * total, late=total - 7, quarantined=1)
        run_that_says(instance, [event("audit_logs", FIRST, added, dg.AssetObservation)])
    assert numbers(instance, KEY, [FIRST])[FIRST] == WindowNumbers(records=10, bytes=100, late=4, quarantined=3)


def test_what_each_run_is_shown_again_counts_once(instance: dg.DagsterInstance) -> None:
    """Malformed records and those of the future are shown to every run that reads the window."""
    for _ in range(3):
        run_that_says(instance, [event("audit_logs", FIRST, Tally(total=7, malformed=2, ahead=1))])
    assert numbers(instance, KEY, [FIRST])[FIRST] == WindowNumbers(records=7, malformed=2, ahead=1)


def test_an_observation_that_says_nothing_of_records_changes_none(instance: dg.DagsterInstance) -> None:
    """Anybody may observe a window."""
    run_that_says(instance, [event("audit_logs", FIRST, Tally(total=7))])
    instance.report_runless_asset_event(
        dg.AssetObservation(KEY, partition=FIRST.partition_key, metadata={"seen": True, "bytes": "many"})
    )
    assert numbers(instance, KEY, [FIRST])[FIRST] == WindowNumbers(records=7)


def test_several_windows_are_added_up() -> None:
    """Of none, nothing."""
    one = WindowNumbers(records=1, bytes=2, late=3, quarantined=4, malformed=5, ahead=6)
    assert together([one, one]) == WindowNumbers(records=2, bytes=4, late=6, quarantined=8, malformed=10, ahead=12)
    assert together([]) == WindowNumbers()


def test_a_window_is_known_by_its_hour(instance: dg.DagsterInstance) -> None:
    """Another asset's numbers are not this one's."""
    run_that_says(instance, [event("incremental_tickets", FIRST, Tally(total=7))])
    assert numbers(instance, KEY, [FIRST, Window(FIRST.start + 5 * HOUR)]) == {}
