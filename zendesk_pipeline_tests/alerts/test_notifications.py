"""What is told to whom, when, and in which words."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec
import pytest

from zendesk_pipeline.alerts.memory import (
    ASLEEP,
    CALM,
    PATIENCE,
    REMIND,
    AlertMemory,
    Channel,
    forget,
    note_sent,
    remembered,
    unsent,
    update,
    wake,
)
from zendesk_pipeline.alerts.messages import MOST_SHOWN, Message
from zendesk_pipeline.alerts.notifications import message
from zendesk_pipeline.alerts.problem import MINUTE, Problem, Severity
from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline_tests.by_hand import hours

NOW = 1_794_657_600.0
"""2026-11-14T12:00Z."""
UI = "http://dagster.example:3000"
WINDOWS = hours(3)
DELIVERED = {"audit_logs": {window.partition_key for window in WINDOWS}}


def _problem(cause: str = "tick", *, severity: Severity = "warning", size: int = 1, once: bool = False) -> Problem:
    return Problem(
        cause=cause,
        title=f"The {cause} fails",
        text="It says so.",
        since=NOW,
        link_path="/automation",
        severity=severity,
        size=size,
        once=once,
    )


ABOUT_WINDOWS = Problem(
    cause="run-failure audit_logs",
    title="audit_logs: 3 windows failed",
    text="Zendesk answered 500.",
    since=NOW - 10 * MINUTE,
    link_path="/runs/1",
    severity="error",
    size=3,
    asset="audit_logs",
    windows=(WINDOWS,),
)


class Listener:
    """An address that hears everything it is told."""

    def __init__(self) -> None:
        self.memory = remembered(None)
        self.memory.channels["it"] = Channel(understood=True)

    def hears(
        self,
        problems: Iterable[Problem],
        at: float = NOW,
        delivered: Mapping[str, set[str]] | None = None,
        *,
        complete: bool = True,
    ) -> Message | None:
        """What it is told after a look."""
        listed = list(problems)
        update(self.memory, listed, delivered or {"audit_logs": set()}, at, complete=complete)
        channel = self.memory.channels["it"]
        told = unsent(self.memory, channel, listed, at)
        said = message(told, self.memory, UI, at) if told else None
        note_sent(channel, told, at)
        forget(self.memory, ["it"])
        return said


def _title(said: Message | None) -> str:
    return said.title.removeprefix("Zendesk collection: ") if said else ""


# When


def test_a_problem_is_told_once() -> None:
    """While it stays as it is, the next looks say nothing."""
    listener = Listener()
    assert _title(listener.hears([_problem()])) == "The tick fails"
    assert listener.hears([_problem()], NOW + HOUR) is None


def test_a_problem_that_lasts_is_told_again_after_a_day() -> None:
    """The reminder says that it is one, and since when."""
    listener = Listener()
    listener.hears([_problem()])
    assert listener.hears([_problem()], NOW + REMIND - 1) is None
    reminder = listener.hears([_problem()], NOW + REMIND)
    assert reminder
    assert "WARNING (still so): The tick fails" in reminder.body
    assert "Since 2026-11-14 12:00 UTC, for 1 d 0 h." in reminder.body


def test_some_problems_are_not_repeated() -> None:
    """A credential that ends in weeks is told once a stage."""
    listener = Listener()
    listener.hears([_problem(once=True)])
    assert listener.hears([_problem(once=True)], NOW + 3 * REMIND) is None
    assert listener.hears([_problem(once=True, severity="error")], NOW + 4 * REMIND)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [(1, 3, False), (1, 4, True), (4, 7, False), (4, 8, True), (100, 199, False), (100, 200, True)],
)
def test_growth_is_told_when_it_is_notable(before: int, now: int, told: bool) -> None:  # noqa: FBT001  # a parameter
    """Twice as much, and three more at least."""
    listener = Listener()
    listener.hears([_problem(size=before)])
    said = listener.hears([_problem(size=now)], NOW + 60)
    assert bool(said) is told
    assert not said or "(it has grown)" in said.body


def test_a_problem_that_becomes_graver_is_told_again() -> None:
    """From warning to error, at once; not the other way."""
    listener = Listener()
    listener.hears([_problem(severity="warning")])
    graver = listener.hears([_problem(severity="error")], NOW + 60)
    assert graver
    assert "ERROR (graver than before): The tick fails" in graver.body
    assert listener.hears([_problem(severity="warning")], NOW + 120) is None


# Solved


def test_a_problem_about_windows_is_solved_when_they_are_delivered() -> None:
    """At once, with the time it took."""
    listener = Listener()
    listener.hears([ABOUT_WINDOWS])
    said = listener.hears([], NOW + 2 * HOUR, DELIVERED)
    assert said
    assert said.title == "Zendesk collection: Delivered now: 3 windows of audit_logs that had failed"
    assert said.body == (
        "SOLVED after 2 h 10 min: Delivered now: 3 windows of audit_logs that had failed\n\nNothing else is wrong."
    )
    assert said.kind == "success"
    assert listener.hears([], NOW + 3 * HOUR, DELIVERED) is None
    assert listener.memory.problems == {}


def test_the_windows_that_were_delivered_first_are_counted_at_the_end() -> None:
    """Who was told of three hears of three, although a look in between has seen one of them delivered."""
    listener = Listener()
    listener.hears([ABOUT_WINDOWS])
    rest = hours(2, skip=1)
    smaller = replace(ABOUT_WINDOWS, title="audit_logs: 2 windows failed", size=2, windows=(rest,))
    first = {"audit_logs": DELIVERED["audit_logs"] - {window.partition_key for window in rest}}
    assert listener.hears([smaller], NOW + MINUTE, first) is None
    assert _title(listener.hears([], NOW + HOUR, DELIVERED)) == (
        "Delivered now: 3 windows of audit_logs that had failed"
    )


def test_windows_that_are_still_missing_are_not_solved() -> None:
    """A retry under way makes the problem invisible for a while: silence, and no second alert when it fails too."""
    listener = Listener()
    listener.hears([ABOUT_WINDOWS])
    assert listener.hears([], NOW + HOUR) is None
    assert listener.hears([ABOUT_WINDOWS], NOW + 2 * HOUR) is None


def test_windows_that_left_the_problem_undelivered_are_remembered() -> None:
    """The catch-up sensor looks back so far only; what lies behind is not delivered for that."""
    listener = Listener()
    listener.hears([ABOUT_WINDOWS])
    rest = replace(ABOUT_WINDOWS, windows=(hours(1, skip=2),))
    assert listener.hears([rest], NOW + HOUR) is None
    last = {"audit_logs": {window.partition_key for window in hours(1, skip=2)}}
    assert listener.hears([], NOW + 2 * HOUR, last) is None
    said = listener.hears([], NOW + HOUR + PATIENCE, last)
    assert said
    assert said.title == "Zendesk collection: No longer seen: audit_logs: 3 windows failed"
    assert "2 of its windows are still missing" in said.body
    assert said.kind == "info"


def test_any_other_problem_is_solved_when_it_has_been_gone_for_a_while() -> None:
    """What comes and goes by the minute is one problem."""
    listener = Listener()
    listener.hears([_problem()])
    assert listener.hears([], NOW + CALM - 1) is None
    assert listener.hears([_problem()], NOW + CALM) is None
    assert listener.hears([], NOW + 2 * CALM - 1) is None
    assert _title(listener.hears([], NOW + 2 * CALM)) == "No longer so: The tick fails"


def test_a_look_that_saw_only_a_part_solves_nothing() -> None:
    """What could not be looked at may be as it was."""
    listener = Listener()
    listener.hears([_problem()])
    assert listener.hears([], NOW + HOUR, complete=False) is None
    assert listener.hears([], NOW + 2 * HOUR)


def test_a_problem_that_comes_back_is_new() -> None:
    """With its own beginning."""
    listener = Listener()
    listener.hears([_problem()])
    listener.hears([], NOW + HOUR)
    said = listener.hears([replace(_problem(), since=NOW + 2 * HOUR)], NOW + 2 * HOUR + 60)
    assert said
    assert "Since 2026-11-14 14:00 UTC, for 1 min." in said.body


def test_what_was_never_told_is_not_told_to_be_solved() -> None:
    """An address that was out of reach all the while has missed nothing."""
    memory = remembered(None)
    memory.channels["it"] = Channel()
    update(memory, [_problem()], {}, NOW, complete=True)
    update(memory, [], {}, NOW + HOUR, complete=True)
    assert not unsent(memory, memory.channels["it"], [], NOW + HOUR)


# In which words


def test_several_things_are_one_message() -> None:
    """The gravest first, then what is solved, then what is still open."""
    listener = Listener()
    listener.hears([ABOUT_WINDOWS, _problem("schedule")])
    said = listener.hears([_problem("schedule"), _problem("clock"), _problem("disk", severity="error")], NOW, DELIVERED)
    assert said
    assert said.title == "Zendesk collection: 2 problems, 1 solved"
    assert [part.split("\n")[0] for part in said.body.split("\n\n")] == [
        "ERROR: The disk fails",
        "WARNING: The clock fails",
        "SOLVED after 10 min: Delivered now: 3 windows of audit_logs that had failed",
        "Open besides, and told before: 1.",
    ]
    assert said.kind == "failure"


def test_a_problem_says_what_is_wrong_since_when_and_where_to_look() -> None:
    """Everything that a person needs at three in the morning."""
    said = Listener().hears([ABOUT_WINDOWS])
    assert said
    assert said.title == "Zendesk collection: audit_logs: 3 windows failed"
    assert said.body == (
        "ERROR: audit_logs: 3 windows failed\nZendesk answered 500.\nSince 2026-11-14 11:50 UTC, for 10 min.\n"
        "http://dagster.example:3000/runs/1"
    )
    assert said.kind == "failure"


def test_what_is_quoted_from_outside_is_harmless() -> None:
    """In the title, the text and what is said when it has ended; links of ours stay."""
    quoted = "Zendesk answered 500 (<!channel> @here [log in](https://evil.example/x) **now**)."
    listener = Listener()
    said = listener.hears([replace(_problem(), title=f"The tick fails: {quoted}", text=quoted)])
    ended = listener.hears([], NOW + HOUR)
    assert said
    assert ended
    for told in (said, ended):
        shown = f"{told.title}\n{told.body}"
        assert "< !channel> @ here [log in] (https[:]//evil[.]example/x) * * now* *" in shown
        assert not any(markup in shown for markup in ("<!", "@here", "](", "https://", "**now"))
    assert said.body.endswith(f"{UI}/automation")


def test_the_incident_of_a_problem_is_the_same_whatever_is_told_of_it() -> None:
    """Its text, size, gravity and time may change; another problem and another deployment have others."""
    listener, memory = Listener(), Listener().memory
    first = listener.hears([_problem()])
    grown = listener.hears([replace(_problem(severity="error", size=9), text="Otherwise.")], NOW + HOUR)
    over = listener.hears([], NOW + 2 * HOUR)
    assert first
    assert grown
    assert over
    keys = [told.parts[0].incident for told in (first, grown, over)]
    assert len(set(keys)) == 1
    assert [told.parts[0].kind for told in (first, grown, over)] == ["warning", "failure", "success"]
    update(memory, [_problem(), _problem("clock")], {}, NOW, complete=True)
    told = unsent(memory, Channel(), [_problem(), _problem("clock")], NOW)
    here, elsewhere = message(told, memory, UI, NOW), message(told, memory, "http://other.example", NOW)
    assert len({part.incident for part in (*here.parts, *elsewhere.parts)}) == 4
    assert here.parts[0].incident == keys[0]


def test_of_a_message_that_arrived_in_part_the_rest_is_told_again() -> None:
    """A service that gets each problem by itself may refuse one of them."""
    memory = remembered(None)
    channel = memory.channels["it"] = Channel(understood=True)
    problems = [_problem(), _problem("clock")]
    update(memory, problems, {}, NOW, complete=True)
    note_sent(channel, unsent(memory, channel, problems, NOW), NOW, only={"tick"})
    assert [each.cause for each, _ in unsent(memory, channel, problems, NOW + 60).problems] == ["clock"]


@pytest.mark.parametrize(
    ("problem", "over"),
    [
        (ABOUT_WINDOWS, "Delivered now: 3 windows of audit_logs that had failed"),
        (replace(ABOUT_WINDOWS, cause="stale audit_logs"), "Delivered now: 3 windows of audit_logs that were missing"),
        (replace(_problem(), over="The tick works again"), "The tick works again"),
        (_problem(), "No longer so: The tick fails"),
    ],
)
def test_what_is_solved_does_not_read_as_a_failure(problem: Problem, over: str) -> None:
    """It says what is well again."""
    listener = Listener()
    listener.hears([problem])
    said = listener.hears([], NOW + HOUR, DELIVERED)
    assert _title(said) == over


def test_a_flood_is_counted() -> None:
    """The message stays short enough for every service."""
    said = Listener().hears([_problem(f"thing {number}") for number in range(MOST_SHOWN + 5)])
    assert said
    assert said.body.count("WARNING") == MOST_SHOWN
    assert said.body.endswith(f"And 5 more: {UI}/overview")


@pytest.mark.parametrize(("severity", "kind"), [("info", "info"), ("warning", "warning"), ("error", "failure")])
def test_services_are_told_how_grave_it_is(severity: Severity, kind: str) -> None:
    """They colour or page by it; success is all clear, and nothing else."""
    listener = Listener()
    first = listener.hears([_problem(severity=severity)])
    assert first
    assert first.kind == kind
    listener.hears([_problem(severity=severity), ABOUT_WINDOWS])
    part = listener.hears([_problem(severity=severity)], NOW + 60, DELIVERED)
    assert part
    assert part.kind == "info"
    clear = listener.hears([], NOW + HOUR, DELIVERED)
    assert clear
    assert clear.kind == "success"


def test_what_is_told_once_does_not_stand_in_the_way_of_all_clear() -> None:
    """A credential that will end some day is no open incident."""
    listener = Listener()
    listener.hears([_problem("credential", once=True), ABOUT_WINDOWS])
    said = listener.hears([_problem("credential", once=True)], NOW + 60, DELIVERED)
    assert said
    assert said.kind == "success"
    assert said.body.endswith("Nothing else is wrong.")


# What is remembered


def test_the_memory_survives_in_a_cursor() -> None:
    """Encoded and read again it is the same."""
    listener = Listener()
    listener.hears([ABOUT_WINDOWS, _problem()])
    cursor = msgspec.json.encode(listener.memory).decode()
    assert remembered(cursor) == listener.memory


RUNNING = {
    "salt": "5a17",
    "looked": NOW,
    "awake_since": NOW - HOUR,
    "problems": {
        "run-failure audit_logs": {
            "title": "audit_logs: 3 windows failed",
            "since": NOW - 600,
            "seen": NOW,
            "over": "",
            "asset": "audit_logs",
            "windows": [[WINDOWS.start, WINDOWS.end]],
            "ended": None,
            "left": 0,
        }
    },
    "counted": {"audit_logs": [NOW, [[WINDOWS.start, WINDOWS.end]]]},
    "channels": {
        "c0ffee": {
            "told": {"run-failure audit_logs": {"at": NOW, "size": 3, "severity": "error"}},
            "understood": True,
            "failures": 1,
            "since": NOW,
            "pause_until": NOW + 60,
            "reason": "HTTP 500",
        }
    },
}
"""The cursor of a deployment that is under way when it gets this version."""


def test_the_cursor_of_a_running_deployment_is_read_and_kept_in_its_form() -> None:
    """Nobody is told again what they know, and an older version may read it again: it leaves aside what is new."""
    memory = remembered(json.dumps(RUNNING))
    assert (memory.last_tick, memory.channels["c0ffee"].failures) == (NOW, 1)
    assert not unsent(memory, memory.channels["c0ffee"], [ABOUT_WINDOWS], NOW)
    written = json.loads(msgspec.json.encode(memory))
    assert (written.pop("well_since"), written["channels"]["c0ffee"].pop("digested")) == (0.0, 0.0)
    assert written == RUNNING


@pytest.mark.parametrize("cursor", [None, "", "{", '{"version": 1}', "12"])
def test_a_cursor_that_cannot_be_read_is_a_new_beginning(cursor: str | None) -> None:
    """Everything is told again then; every beginning has a salt of its own."""
    memory = remembered(cursor)
    assert memory == AlertMemory(salt=memory.salt)
    assert memory.salt != remembered(cursor).salt


def test_the_memory_does_not_grow() -> None:
    """Of addresses that are gone and problems that are solved nothing is left."""
    listener = Listener()
    listener.memory.channels["another"] = Channel()
    for number in range(100):
        listener.hears([_problem(f"thing {number}")], NOW + number * HOUR)
    assert set(listener.memory.channels) == {"it"}
    assert set(listener.memory.problems) == {"thing 99"}


def test_a_break_in_the_ticks_is_noticed() -> None:
    """Since when the sensors have run without one is known."""
    memory = remembered(None)
    for at in (NOW, NOW + ASLEEP, NOW + 2 * ASLEEP):
        wake(memory, at)
        assert memory.awake_since == NOW
    wake(memory, NOW + 3 * ASLEEP + 1)
    assert memory.awake_since == NOW + 3 * ASLEEP + 1
