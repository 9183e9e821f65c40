"""What a run says it did for a window, against what is in the bucket."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from zendesk_pipeline_tests.by_hand import FIRST, audit_logs, hours, numbered, paged
from zendesk_pipeline_tests.deliveries import Deliveries

SPAN = hours(3)
RECORDS = audit_logs(SPAN)


def test_the_tally_of_a_window_is_right(deliveries: Deliveries) -> None:
    """What a run says of a window is what the bucket holds and the pages cost."""
    pages = [replace(page, requests=2, waited=1.5) for page in paged(RECORDS)]
    deliveries.records(hours(1), RECORDS[:2])
    done = deliveries.run(SPAN, pages)
    tally = done.tallies[FIRST]
    held = [key for key in deliveries.bucket.stored() if "/050000-" in key]
    assert sorted(tally.objects) == held
    assert tally.bytes == sum(len(deliveries.bucket.body(key)) for key in held)
    assert (tally.total, tally.records, tally.duplicates, tally.late) == (6, 4, 2, 4)
    assert (tally.first, tally.last) == (FIRST.start, FIRST.end - 1)
    assert tally.pages == 2
    assert sum(tally.requests for tally in done.tallies.values()) == 2 * len(pages)
    assert sum(tally.waited for tally in done.tallies.values()) == 1.5 * len(pages)


@pytest.mark.parametrize(("older", "told"), [(1, False), (2, True)])
def test_what_is_left_out_for_its_time_is_counted_and_told(deliveries: Deliveries, older: int, told: bool) -> None:  # noqa: FBT001  # what is expected
    """Records from before what was asked for, or of the future, belong to other windows: from a share on, a warning."""
    records = audit_logs(hours(1), each=150)
    (page,) = numbered([records])
    done = deliveries.run(hours(1), [replace(page, older=older)])
    assert done.tallies[FIRST].older == older
    assert [f"{older} are from before" in warning for warning in deliveries.warnings] == [True] * told
    done = deliveries.run(hours(1), [replace(page, ahead=older)])
    assert done.tallies[FIRST].ahead == older
    assert [f"{older} of the future" in warning for warning in deliveries.warnings[told:]] == [True] * told
    users = replace(deliveries, stream=replace(deliveries.stream, lists_by_event_time=False), warnings=[])
    assert users.run(hours(1), [replace(page, older=older)]).tallies[FIRST].older == older
    assert users.warnings == []


def test_a_window_is_finished_when_its_ledger_is_stored(
    deliveries: Deliveries, fake_clock: Callable[[float], Any]
) -> None:
    """The time of finishing is the run's clock, and only windows of the range have one."""
    done = replace(deliveries, clock=fake_clock(SPAN.end + 60.0).clock).records(SPAN, RECORDS)
    assert [done.tallies[window].finished_at for window in SPAN] == [SPAN.end + 60.0] * 3
