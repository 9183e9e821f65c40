"""What is wrong with runs and windows: found on a real instance after real runs, in words for people."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.alerts.problem import Problem, duration, listed
from zendesk_pipeline.alerts.snapshot import (
    LOOK_BACK,
    AssetFacts,
    FailedRun,
    Held,
    by_asset,
    failed_runs,
    held_windows,
    rate_limit_waits,
    spans_under_way,
)
from zendesk_pipeline.alerts.window_problems import repeated_failures, run_failures, stale, starving
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.windows import HOUR, MOST_SHOWN, Span, Window, ranges
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up import GRACE, SUSPICIOUS
from zendesk_pipeline.orchestration.run_history import ours
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.by_hand import FIRST, hours
from zendesk_pipeline_tests.runs import QUIET, RANGE_END, RANGE_START, Project, project
from zendesk_pipeline_tests.taken_back import fails_after_it_took_back

pytestmark = QUIET
AUDIT_LOGS, TICKETS = dg.AssetKey("audit_logs"), dg.AssetKey("incremental_tickets")
OURS = ours([AUDIT_LOGS, TICKETS])
SPAN = hours(3)
WRONG = {"ZENDESK_API_TOKEN": "a-wrong-one"}
NOW = hours(5).end + GRACE


@pytest.fixture
def running(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project over the simulated Zendesk and SeaweedFS, without retries."""
    with project({**environment, "HTTP_RETRIES": "0"}, monkeypatch) as started:
        yield started


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance without runs."""
    with dg.DagsterInstance.ephemeral() as started:
        yield started


def _facts(
    failed: Sequence[FailedRun] = (),
    *,
    key: dg.AssetKey = AUDIT_LOGS,
    now: float = NOW,
    back: int = 24,
    held: Held | None = None,
    under_way: Sequence[Span] = (),
    waited: float = 0.0,
) -> AssetFacts:
    """Of an asset whose first window is FIRST; the catch-up sensor asks `back` hours back."""
    settings = Settings(start_date=FIRST.starts_at, catch_up_hours=back, alert_stale_hours=3)
    return AssetFacts(
        key=key,
        account=Account(settings=settings),
        now=now,
        failed=by_asset(failed).get(key.to_user_string(), ()),
        held=held or Held(),
        under_way=under_way,
        waited=waited,
    )


def _found(instance: dg.DagsterInstance, asset: dg.AssetKey = AUDIT_LOGS) -> list[Problem]:
    """What failed runs have left undone, by the real clock."""
    runs = failed_runs(instance, OURS, since=time.time() - LOOK_BACK)
    return list(run_failures(_facts(runs, key=asset, held=held_windows(instance, asset, plans=True))))


# Runs that failed


def test_a_failed_run_tells_its_sentence_and_its_windows(running: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the IO manager said, which windows are missing, and the way to the run; nothing of the credential."""
    monkeypatch.setenv("ZENDESK_API_TOKEN", WRONG["ZENDESK_API_TOKEN"])
    run = running.run("audit_logs", SPAN)
    (problem,) = _found(running.instance)
    assert problem.title == "audit_logs: 3 windows failed"
    assert problem.text.startswith("Zendesk answered 401 to /api/v2/audit_logs (")
    assert "Windows: 2026-11-12 05:00 to 2026-11-12 07:00 (3 windows, UTC).\nOne run failed." in problem.text
    assert (problem.severity, problem.size, problem.windows) == ("warning", 3, (SPAN,))
    assert problem.link_path == f"/runs/{run.run_id}"
    assert "a-wrong-one" not in repr(problem)


def test_runs_of_every_origin_are_seen(running: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window, a range as backfills launch it, and a job without a selection, as the command line launches it."""
    monkeypatch.setenv("ZENDESK_API_TOKEN", WRONG["ZENDESK_API_TOKEN"])
    running.run("audit_logs", hours(1))
    running.run("audit_logs", hours(2, skip=1))
    job = running.definitions.resolve_job_def("hourly_collection")
    partition = Window(FIRST.end + 3 * HOUR).partition_key
    job.execute_in_process(instance=running.instance, partition_key=partition, raise_on_error=False)
    (problem,) = _found(running.instance)
    (other,) = _found(running.instance, TICKETS)
    assert (problem.windows, problem.severity) == ((hours(3), hours(1, skip=4)), "error")
    assert "3 runs failed, the latest at " in problem.text
    assert other.windows == (hours(1, skip=4),)


def test_what_a_run_has_reported_and_taken_back_is_missing(running: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it is green; until a later run delivers it."""
    fails_after_it_took_back(running, SPAN, monkeypatch)
    (problem,) = _found(running.instance)
    assert problem.windows == (SPAN,)
    assert running.run("audit_logs", hours(1)).success
    (problem,) = _found(running.instance)
    assert problem.windows == (hours(2, skip=1),)


def test_a_failure_is_solved_when_its_windows_are_materialized(
    running: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever run, window by window."""
    with monkeypatch.context() as changed:
        changed.setenv("ZENDESK_API_TOKEN", WRONG["ZENDESK_API_TOKEN"])
        running.run("audit_logs", SPAN)
    assert running.run("audit_logs", hours(1, skip=1)).success
    (problem,) = _found(running.instance)
    assert problem.windows == (hours(1), hours(1, skip=2))
    assert running.run("audit_logs", SPAN).success
    assert _found(running.instance) == []


def test_windows_that_a_failed_run_has_finished_are_no_problem(running: Project, zendesk: SimulatedZendesk) -> None:
    """A range that broke off in the middle: what was delivered before is not missing."""
    zendesk.control.add_faults(Rule(path="tickets/cursor", kind="status", code=500, times=0, skip=5))
    assert not running.run("incremental_tickets", hours(24)).success
    (problem,) = _found(running.instance, TICKETS)
    done = len(running.materialized("incremental_tickets"))
    assert 0 < done < 24
    assert problem.windows == (hours(24 - done, skip=done),)


def test_a_delivered_window_that_fails_again_is_a_problem(running: Project, zendesk: SimulatedZendesk) -> None:
    """Who sends records again on purpose wants to know that it failed."""
    running.run("audit_logs", hours(1))
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500))
    running.run("audit_logs", hours(1), redeliver=True)
    (problem,) = _found(running.instance)
    assert problem.windows == (hours(1),)
    assert "re-execute it, which goes on with that. The catch-up sensor does not." in problem.text
    running.run("audit_logs", hours(1), redeliver=True)
    assert _found(running.instance) == []


def test_a_run_that_starved_is_called_so(running: Project, zendesk: SimulatedZendesk) -> None:
    """The rate limit is a cause of its own, whatever the numbers in the sentence."""
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=429, retry_after="seconds:7200", times=0))
    running.run("audit_logs", SPAN)
    (problem,) = _found(running.instance)
    assert (problem.cause, problem.title) == ("starved audit_logs", "audit_logs starves for Zendesk's rate limit")


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("", "This run has been marked as failed from outside the execution context.\n"),
        (
            "Run timed out due to taking longer than 300 seconds to start.\npod: secret",
            "Run timed out due to taking longer than 300 seconds to start.\n",
        ),
    ],
    ids=["launcher", "monitoring"],
)
def test_a_run_that_never_came_to_a_step_is_a_problem(running: Project, message: str, told: str) -> None:
    """A worker that crashed or could not start, as Dagster's launcher and its monitoring report it."""
    job = running.definitions.resolve_implicit_global_asset_job_def()
    run = running.instance.create_run_for_job(
        job,
        tags={RANGE_START: FIRST.partition_key, RANGE_END: Window(FIRST.end).partition_key},
        asset_selection=frozenset({AUDIT_LOGS}),
    )
    running.instance.report_run_failed(run, message or None)
    (problem,) = _found(running.instance)
    assert problem.text.startswith(told)
    assert problem.windows == (hours(2),)
    assert "secret" not in problem.text


def test_an_exceptions_own_words_are_not_passed_on(instance: dg.DagsterInstance) -> None:
    """They could quote a record: of an error that has no sentence of ours, its kind is told."""

    @dg.asset(name="audit_logs", partitions_def=dg.HourlyPartitionsDefinition("2026-11-12-00:00"))
    def broken() -> None:
        raise KeyError("jane@example.com")

    job = dg.Definitions(assets=[broken]).resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=instance, partition_key=FIRST.partition_key, raise_on_error=False)
    (problem,) = _found(instance)
    assert problem.text.startswith("Steps failed: ['audit_logs']. (KeyError; the run's log says more.)\n")
    assert "jane" not in repr(problem)


def test_failures_of_long_ago_are_not_looked_at(running: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a look costs does not grow with the instance's age."""
    monkeypatch.setenv("ZENDESK_API_TOKEN", WRONG["ZENDESK_API_TOKEN"])
    running.run("audit_logs", hours(1))
    assert failed_runs(running.instance, OURS, since=time.time() + 1) == []


# Grouping


def _failed(
    span: Span, sentence: str = "Zendesk answered 500.", at: float = 0.0, asset: str = "audit_logs"
) -> FailedRun:
    return FailedRun(run_id=f"{at}", assets={asset}, span=span, at=at, event=1, sentence=sentence)


def test_a_hundred_failures_with_one_cause_are_one_problem() -> None:
    """Its windows are listed as ranges."""
    runs = [_failed(hours(1, skip=number), at=float(number)) for number in range(101) if number != 50]
    (problem,) = run_failures(_facts(runs))
    assert problem.title == "audit_logs: 100 windows failed"
    assert "Windows: 2026-11-12 05:00 to 2026-11-14 06:00, 2026-11-14 08:00 to 2026-11-16 09:00 (100 w" in problem.text
    assert "100 runs failed, the latest at " in problem.text
    assert problem.since == 0
    assert problem.link_path == "/runs/100.0"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Zendesk answered 502 to /api/v2/x: a fault.", "Zendesk answered 503 to /api/v2/x: a fault.", True),
        ("Zendesk answered 500 (id a1) to x.", "Zendesk answered 500 (try later) to x.", True),
        ("No answer after 61 s.", "No answer after 3,600 s.", True),
        ("S3_BUCKET is not set.", "ZENDESK_EMAIL is not set.", False),
        ("Zendesk answered 401: the credential is not accepted.", "Zendesk answered 500: a fault.", False),
    ],
)
def test_sentences_that_differ_in_details_are_one_cause(one: str, other: str, same: bool) -> None:  # noqa: FBT001  # a parameter
    """Numbers, and what others said, make no new problem; another remedy does."""
    runs = [_failed(hours(1), one), _failed(hours(1, skip=1), other)]
    assert len(list(run_failures(_facts(runs)))) == (1 if same else 2)


def test_streams_fail_by_themselves() -> None:
    """The same sentence of two streams is two problems: they are mended apart."""
    runs = [_failed(hours(1)), _failed(hours(1), asset="incremental_tickets")]
    (one,) = run_failures(_facts(runs))
    (other,) = run_failures(_facts(runs, key=TICKETS))
    assert one.cause != other.cause


@pytest.mark.parametrize(
    ("windows", "back", "said"),
    [
        (5, 24, "The catch-up sensor asks for them again."),
        (5, 2, "The catch-up sensor asks for 2 of them again. For the others, launch a backfill."),
        (5, 0, "They are not asked for again by themselves: launch a backfill."),
        (1, 24, "The catch-up sensor asks for it again."),
        (1, 0, "It is not asked for again by itself: launch a backfill."),
    ],
)
def test_what_the_catch_up_sensor_will_not_do_is_said(windows: int, back: int, said: str) -> None:
    """Windows further back than it looks, or all if it is off (0), need a person."""
    (problem,) = run_failures(_facts([_failed(hours(windows))], back=back))
    assert problem.text.endswith(said)


@pytest.mark.parametrize(
    ("windows", "retried", "back", "said"),
    [
        (5, 5, 24, "They are under way again."),
        (5, 5, 0, "They are under way again."),
        (1, 1, 24, "It is under way again."),
        (5, 2, 24, "Under way again: 2 of them. The catch-up sensor asks for 3 of them again."),
        (5, 2, 0, "Under way again: 2 of them. For the others, launch a backfill."),
        (5, 2, 2, "Under way again: 2 of them. The catch-up sensor asks for 2 of them again. For the others, launch a"),
    ],
)
def test_what_a_run_is_at_work_on_again_is_said(windows: int, retried: int, back: int, said: str) -> None:
    """Dagster starts a run that died again within seconds: the sensor does not ask for its windows then."""
    (problem,) = run_failures(_facts([_failed(hours(windows))], back=back, under_way=[hours(retried)]))
    assert f"One run failed. {said}" in problem.text


@pytest.mark.parametrize(
    ("run", "back", "said"),
    [
        (
            {"stays": True},
            24,
            "at most an hour apart. Once one comes through, the catch-up sensor asks for what is missing.",
        ),
        (
            {"stays": True},
            2,
            "asks for what is missing. Of the windows, 3 need a backfill then.",
        ),
        ({"stays": True}, 0, "They are not asked for again by themselves: launch a backfill."),
        (
            {"redeliver": True},
            24,
            "It was to send records again: re-execute it, which goes on with that. The catch-up sensor does not.",
        ),
    ],
    ids=["refused", "refused, some are old", "refused, no sensor", "sent again on purpose"],
)
def test_what_the_sensor_does_is_said_as_it_is(run: dict[str, bool], back: int, said: str) -> None:
    """Of a stream that is refused it tries one run now and then, and it never sends records again."""
    (problem,) = run_failures(_facts([replace(_failed(hours(5)), **run)], back=back))
    assert problem.text.endswith(said)


def test_a_stream_that_is_refused_is_not_called_a_window_that_fails_again() -> None:
    """The sensor takes no window by itself then, and none goes on."""
    runs = [replace(_failed(hours(6), at=FIRST.end + number * HOUR), stays=True) for number in range(9)]
    assert list(repeated_failures(_facts(runs, now=hours(6).end + GRACE))) == []


def test_a_window_that_fails_again_and_again_is_named() -> None:
    """The one at which the runs broke off, not those behind it."""
    runs = [_failed(hours(6), at=FIRST.end + number * HOUR) for number in range(SUSPICIOUS)]
    held = Held(delivered={FIRST.partition_key: 1}, planned={})
    assert list(repeated_failures(_facts(runs[:-1], held=held, now=hours(6).end + GRACE))) == []
    (problem,) = repeated_failures(_facts(runs, held=held, now=hours(6).end + GRACE))
    assert problem.title == "audit_logs: 1 window failed again and again"
    assert problem.windows == (hours(1, skip=1),)
    assert "2026-11-12 06:00 (3 runs)" in problem.text
    assert problem.link_path == "/assets/audit_logs?view=partitions&partition=2026-11-12-06%3A00"


# Stale


def _stale(delivered: Collection[str], now: float, under_way: Sequence[Span] = ()) -> list[Problem]:
    held = Held(delivered=dict.fromkeys(delivered, 1))
    return list(stale(_facts(now=now, held=held, under_way=under_way)))


def test_a_window_may_be_missing_for_so_long() -> None:
    """Not a second longer; before START_DATE nothing is missing."""
    end = FIRST.end + 3 * HOUR
    assert _stale([], end - 1) == []
    (problem,) = _stale([], end)
    assert problem.title == "audit_logs is behind: 1 window missing for more than 3 h"
    assert (problem.windows, problem.since, problem.severity) == ((hours(1),), FIRST.end, "error")
    assert "The newest window that is delivered: none." in problem.text


def test_old_windows_do_not_make_an_asset_fresh() -> None:
    """A backfill of long ago is no sign of life: each window of the last hours counts."""
    old = [Window(FIRST.start + number * HOUR).partition_key for number in range(8)]
    (problem,) = _stale(old, FIRST.start + 24 * HOUR)
    assert problem.windows == (hours(13, skip=8),)
    assert "The newest window that is delivered: 2026-11-12 12:00." in problem.text


def test_what_is_under_way_is_not_stale() -> None:
    """A long walk gets the time it takes."""
    now = FIRST.end + 6 * HOUR
    assert _stale([], now, [hours(24)]) == []
    (problem,) = _stale([], now, [hours(2)])
    assert problem.windows == (hours(2, skip=2),)


def test_a_run_that_only_waits_is_not_under_way_for_ever(running: Project) -> None:
    """A queue that does not move is found out."""
    job = running.definitions.resolve_implicit_global_asset_job_def()
    running.instance.create_run_for_job(
        job,
        tags={RANGE_START: FIRST.partition_key, RANGE_END: Window(FIRST.end).partition_key},
        asset_selection=frozenset({AUDIT_LOGS}),
        status=dg.DagsterRunStatus.NOT_STARTED,
    )
    now = time.time()
    assert spans_under_way(running.instance, OURS, created_after=now - HOUR) == {"audit_logs": [hours(2)]}
    assert spans_under_way(running.instance, OURS, created_after=now + HOUR) == {}


def test_without_a_catch_up_sensor_windows_are_looked_for_all_the_same() -> None:
    """CATCH_UP_HOURS=0 leaves it to people to collect them, and these have to know."""
    (problem,) = stale(_facts(now=FIRST.end + 3 * HOUR, back=0))
    assert problem.windows == (hours(1),)


# The rate limit


def _waited(instance: dg.DagsterInstance, window: Window, seconds: float) -> None:
    metadata = {"rate_limit_wait_seconds": seconds, "records": 1}
    instance.report_runless_asset_event(
        dg.AssetMaterialization("audit_logs", partition=window.partition_key, metadata=metadata)
    )


def _starving(instance: dg.DagsterInstance, key: dg.AssetKey, now: float) -> list[Problem]:
    return list(starving(_facts(key=key, now=now, waited=rate_limit_waits(instance, key, now))))


def test_waiting_for_most_of_an_hour_is_a_problem(instance: dg.DagsterInstance) -> None:
    """What the windows of the hourly collection waited adds up; a backfill of old windows may wait."""
    now = time.time()
    newest = Window.of(int(now) - HOUR)
    _waited(instance, FIRST, 50_000)
    for _ in range(2):  # a long run reports it early, and at its end
        _waited(instance, newest, 25 * 60)
    assert _starving(instance, AUDIT_LOGS, now + 1) == []
    _waited(instance, Window(newest.start - HOUR), 25 * 60)
    (problem,) = _starving(instance, AUDIT_LOGS, now + 1)
    assert _starving(instance, TICKETS, now + 1) == []
    assert _starving(instance, AUDIT_LOGS, now + 2 * HOUR) == []
    assert "It waited 50 min of the last hour" in problem.text


# Words


@given(st.sets(st.integers(0, 200)))
def test_ranges_hold_each_window_once(numbers: set[int]) -> None:
    """In order, and as few as can be."""
    windows = {Window(FIRST.start + number * HOUR) for number in numbers}
    spans = list(ranges(windows))
    assert [window for span in spans for window in span] == sorted(windows)
    assert all(before.end < after.start for before, after in pairwise(spans))


def test_long_lists_are_cut() -> None:
    """The first few ranges, and how many more there are."""
    windows = [Window(FIRST.start + 2 * number * HOUR) for number in range(1000)]
    assert listed(windows).endswith(f" and {1000 - MOST_SHOWN} more (1,000 windows, UTC)")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 min"), (89, "1 min"), (7800, "2 h 10 min"), (3570, "1 h 0 min"), (90_000, "1 d 1 h"), (GRACE, "15 min")],
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    """Two units at most."""
    assert duration(seconds) == words
