"""Which missing windows are asked for, and when."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration.catch_up import (
    FIRST_PAUSE,
    GRACE,
    LONGEST_PAUSE,
    SUSPICIOUS,
    Attempt,
    due,
    look_back_at_most,
    refusal,
    set_aside,
    settled,
    troubles,
)

START = 1_794_456_000
NOW = START + 100 * HOUR
DAY = 24 * HOUR


def _window(number: int) -> Window:
    return Window(START + number * HOUR)


def _windows(numbers: Iterable[int]) -> list[Window]:
    return [_window(number) for number in numbers]


def _span(first: int, last: int) -> Span:
    return Span(_window(first).start, _window(last).end)


def test_nothing_is_asked_for_where_nothing_is_missing() -> None:
    """Delivered windows are left alone."""
    assert due(_windows(range(10)), set(_windows(range(10))), [], NOW) == []


def test_missing_windows_are_asked_for_as_few_ranges_oldest_first() -> None:
    """Neighbours share a run."""
    delivered = set(_windows([0, 4, 5]))

    assert due(_windows(range(9)), delivered, [], NOW) == [_span(1, 3), _span(6, 8)]


def test_windows_under_way_are_not_asked_for_again() -> None:
    """A queued or running run keeps its windows, the ones around it are requested."""
    attempts = [Attempt(_span(2, 3), None)]

    assert due(_windows(range(6)), set(), attempts, NOW) == [_span(0, 1), _span(4, 5)]


def test_a_range_that_failed_pauses_and_the_pauses_grow() -> None:
    """Five minutes after the first failure, twice as long after each further one, six hours at most."""
    failed = [Attempt(_span(0, 3), NOW)]

    assert due(_windows(range(4)), set(), failed, NOW + FIRST_PAUSE - 1) == []
    assert due(_windows(range(4)), set(), failed, NOW + FIRST_PAUSE) == [_span(0, 3)]
    assert due(_windows(range(4)), set(), failed * 2, NOW + FIRST_PAUSE) == []
    assert due(_windows(range(4)), set(), failed * 2, NOW + 2 * FIRST_PAUSE) == [_span(0, 3)]
    assert troubles(_windows(range(4)), failed * 40)[_window(0)].next_try == NOW + LONGEST_PAUSE


def test_a_run_broke_off_at_its_first_window_that_is_still_missing() -> None:
    """The windows it finished before are no trouble."""
    attempts = [Attempt(_span(0, 5), NOW)]

    assert set(troubles(_windows([3, 4, 5]), attempts)) == {_window(3)}


def test_a_poisoned_window_does_not_hold_up_those_behind_it() -> None:
    """After three failures it is asked for by itself and the others go on without it."""
    failed = [Attempt(_span(2, 8), NOW)] * SUSPICIOUS

    assert due(_windows(range(2, 9)), set(), failed, NOW) == [_span(3, 8)]
    assert due(_windows(range(2, 9)), set(), failed, NOW + LONGEST_PAUSE) == [_span(2, 2), _span(3, 8)]


def test_after_an_outage_nobody_waits_for_the_pauses_of_it() -> None:
    """A window that failed while nothing of the stream was delivered is due once something is."""
    failed = [Attempt(_span(0, 0), NOW + minutes * 60) for minutes in (0, 10, 30, 70)]
    windows, latest = _windows([0, 1]), NOW + 70 * 60

    assert due(windows, {_window(1)}, failed, latest + 60) == []
    assert due(windows, {_window(1)}, failed, latest + 60, [NOW - HOUR]) == []
    assert due(windows, {_window(1)}, failed, latest + 60, [latest + 30]) == [_span(0, 0)]
    assert troubles(windows, failed, [latest + 30])[_window(0)].since == NOW


def test_a_window_that_fails_while_others_are_delivered_keeps_its_pauses() -> None:
    """It is poisoned: that others come through is no reason to try it more often."""
    failed = [Attempt(_span(0, 0), NOW + minutes * 60) for minutes in (0, 10, 30)]
    successes = [NOW + 20 * 60, NOW + 40 * 60]

    assert due(_windows([0]), set(), failed, NOW + 45 * 60, successes) == []
    assert due(_windows([0]), set(), failed, NOW + 50 * 60, successes) == [_span(0, 0)]


def _refused(first: int, last: int, *minutes: int) -> list[Attempt]:
    return [Attempt(_span(first, last), NOW + minute * 60, stays=True) for minute in minutes]


def test_a_stream_that_is_refused_is_tried_by_one_run_now_and_then() -> None:
    """Whatever is missing: a window that never failed waits as well. The pauses grow up to an hour."""
    delivered = {_window(4)}
    for count, pause in ((1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (90, 60)):
        failed = _refused(0, 3, *range(-count + 1, 1))
        at = NOW + pause * 60
        assert due(_windows(range(9)), delivered, failed, at - 1) == []
        assert due(_windows(range(9)), delivered, failed, at) == [_span(0, 3)]


def test_nothing_is_tried_while_a_run_of_a_refused_stream_is_under_way() -> None:
    """That of the schedule finds out as well whether it is fixed."""
    attempts = [*_refused(0, 3, 0), Attempt(_span(4, 4), None)]

    assert due(_windows(range(9)), set(), attempts, NOW + HOUR) == []


def test_when_a_refusal_is_over_all_is_asked_for_at_once_and_as_one_range() -> None:
    """However often it was refused: that says nothing of the window at which it was."""
    failed = _refused(0, 8, *range(0, 600, 10))
    over = NOW + 600 * 60

    assert due(_windows(range(9)), {_window(9)}, failed, over + 1, [over]) == [_span(0, 8)]
    assert refusal(failed, [over]) is None


def test_a_code_location_that_is_loaded_anew_tries_at_once() -> None:
    """Its settings may be others: the person who has fixed one waits for no pause."""
    failed = _refused(0, 8, *range(-60, 1, 10))
    later = NOW + 60

    assert due(_windows(range(9)), set(), failed, later) == []
    assert due(_windows(range(9)), set(), failed, later, loaded_at=later - 1) == [_span(0, 8)]
    assert due(_windows(range(9)), set(), [*failed, *_refused(0, 8, 1)], later + 1, loaded_at=later - 1) == []


def test_a_window_that_is_refused_while_others_are_delivered_is_tried_alone() -> None:
    """It is no state of the stream then: after three refusals between successes it holds nothing up."""
    failed = _refused(0, 8, 0, 30, 60)
    successes = [NOW + minute * 60 for minute in (10, 40, 70)]

    assert due(_windows(range(9)), set(), failed, NOW + 71 * 60, successes) == [_span(1, 8)]
    assert troubles(_windows(range(9)), failed, successes)[_window(0)].failures == SUSPICIOUS


def test_another_failure_ends_the_refusal() -> None:
    """Zendesk that is down refuses nobody: windows have their own pauses again."""
    failed = [*_refused(0, 3, 0, 5, 10), Attempt(_span(0, 3), NOW + 15 * 60)]

    assert refusal(failed) is None
    assert due(_windows(range(9)), {_window(4)}, failed, NOW + 16 * 60) == [_span(5, 8)]


def test_a_day_of_refusals_costs_less_than_thirty_runs_of_the_sensor() -> None:
    """Three days are missing and the schedule fails each hour: a look a minute, as the sensor has it.

    Before, each window was tried by itself: 490 runs a day.
    """
    asked, attempts = 0, list[Attempt]()
    for minute in range(24 * 60):
        now = NOW + minute * 60
        if minute % 60 == 5:  # the schedule's
            attempts.append(Attempt(Span(Window.of(int(now)).start - HOUR, Window.of(int(now)).start), now, stays=True))
        for span in due(settled(START, now, 72), set(), attempts, now):
            asked += 1
            attempts.append(Attempt(span, now + 5, stays=True))

    assert 0 < asked < 30  # as the name says


def _cancelled(first: int, last: int, begun: float) -> Attempt:
    return Attempt(_span(first, last), begun + 60, cancelled=True, begun=begun)


def test_what_a_person_has_cancelled_is_left_alone_until_somebody_launches_it_again() -> None:
    """The windows around it go on; a later run of it that fails is wanted, and is tried again as any other."""
    cancelled = _cancelled(2, 3, NOW)
    wanted = Attempt(_span(2, 2), NOW + 7200, begun=NOW + 3600)

    assert due(_windows(range(6)), set(), [cancelled], NOW + DAY) == [_span(0, 1), _span(4, 5)]
    assert set_aside(_windows(range(6)), [cancelled]) == _windows([2, 3])
    assert set_aside(_windows(range(6)), [wanted, cancelled]) == _windows([3])
    assert due(_windows(range(6)), set(), [wanted, cancelled], NOW + DAY) == [_span(0, 2), _span(4, 5)]


def test_a_run_that_failed_before_it_was_cancelled_for_good_is_no_trouble() -> None:
    """Nobody waits for the pause of a run that a person ended."""
    assert troubles(_windows(range(6)), [_cancelled(0, 5, NOW)]) == {}


def test_failures_before_a_delivery_do_not_count() -> None:
    """A window that was delivered after an outage and has failed once since is tried again after five minutes."""
    failed = [Attempt(_span(0, 0), NOW + minutes * 60) for minutes in (0, 10, 30, 70, 600)]
    known = {_window(0): NOW + 80.0 * 60}

    assert troubles(_windows([0]), failed, (), known)[_window(0)].failures == 1
    assert due(_windows([0]), set(), failed, NOW + 605 * 60, (), delivered_at=known) == [_span(0, 0)]


def test_nobody_looks_back_into_a_poisoned_window() -> None:
    """The windows behind one that is asked for by itself look back as far as to its end; all others as they like."""
    known = troubles(_windows([2, 8]), [Attempt(_span(2, 2), NOW)] * SUSPICIOUS + [Attempt(_span(8, 8), NOW)])

    assert look_back_at_most(_span(3, 4), known) == 0
    assert look_back_at_most(_span(5, 9), known) == 2 * HOUR
    assert look_back_at_most(_span(9, 9), known) == 6 * HOUR
    assert look_back_at_most(_span(0, 1), known) is None
    assert look_back_at_most(_span(2, 2), known) is None


def test_the_newest_window_is_left_to_the_schedule_first() -> None:
    """The range of interest ends a quarter of an hour after a window did, and begins no earlier than START_DATE."""
    end = START + 10 * HOUR

    assert settled(START, end + GRACE, 4) == Span(end - 4 * HOUR, end)
    assert settled(START, end + GRACE - 1, 4) == Span(end - 5 * HOUR, end - HOUR)
    assert settled(START, end + GRACE, 72) == Span(START, end)
    assert len(settled(START, START, 72)) == 0


@given(
    missing=st.sets(st.integers(0, 30)),
    poisoned=st.sets(st.integers(0, 30), max_size=3),
    outage=st.integers(0, 40),
)
def test_whatever_is_missing_everything_that_can_be_delivered_is_soon(
    missing: set[int], poisoned: set[int], outage: int
) -> None:
    """Looking every five minutes: a day after the outage only the poisoned windows are missing, each known by name."""
    delivered = set(_windows(set(range(31)) - missing))
    attempts: list[Attempt] = []
    for look in range(outage + 24 * 12):
        now = NOW + look * 300
        for span in due(_windows(range(31)), delivered, attempts, now):
            for window in span:
                bad = look < outage or window in _windows(poisoned)
                if bad and window not in delivered:
                    attempts.append(Attempt(span, now))
                    break
                delivered.add(window)

    left = set(_windows(range(31))) - delivered
    assert left == set(_windows(poisoned & missing))
    assert set(troubles(left, attempts)) == left
