"""Runs the checks: those that do not need each other at the same time, each for a limited time."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue

from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.verdicts import Check, Verdict, failed
from zendesk_pipeline.model.errors import PipelineError

Answers = SimpleQueue[tuple[str, Verdict]]


def run_checks(checks: Sequence[Check], context: Context, seconds: float) -> Iterator[tuple[Check, Verdict]]:
    """Every check with its verdict, in the order of the list; none takes longer than `seconds`."""
    waiting, ends_at = list(checks), dict[str, float]()
    made: dict[str, Verdict] = {}
    answers: Answers = SimpleQueue()
    shown = 0
    while shown < len(checks):
        for check in [each for each in waiting if all(name in made for name in each.needs)]:
            waiting.remove(check)
            if blocked := _blocked(check, made):
                made[check.name] = blocked
            else:
                ends_at[check.name] = context.clock.monotonic() + seconds
                threading.Thread(target=_make, args=(check, context, answers), daemon=True).start()
        while shown < len(checks) and checks[shown].name in made:
            yield checks[shown], made[checks[shown].name]
            shown += 1
        if ends_at and shown < len(checks):
            _collect(answers, ends_at, made, context.clock.monotonic(), seconds)


def _blocked(check: Check, made: Mapping[str, Verdict]) -> Verdict | None:
    stopped = [name for name in check.needs if made[name].status in {"failed", "not checked"}]
    return Verdict("not checked", f"It needs {' and '.join(stopped)} first.") if stopped else None


def _make(check: Check, context: Context, answers: Answers) -> None:
    try:
        verdict = check.run(context)
    except PipelineError as problem:
        verdict = failed(problem.message, "")
    except Exception as mistake:  # noqa: BLE001  # a check that breaks must not take the others with it; its text may hold anything
        verdict = failed(f"The check ended with {type(mistake).__name__}.", "Please report it.")
    answers.put((check.name, verdict))


def _collect(answers: Answers, ends_at: dict[str, float], made: dict[str, Verdict], now: float, seconds: float) -> None:
    """Wait for the next verdict, or for the time of a check to be up. A later verdict is dropped."""
    try:
        name, verdict = answers.get(timeout=max(0.0, min(ends_at.values()) - now))
    except Empty:
        name = min(ends_at, key=lambda each: ends_at[each])
        verdict = failed(
            f"There was no answer within {seconds:.0f} s.",
            "Check the network between here and there; --timeout gives it longer.",
        )
    if name in ends_at:
        made[name] = verdict
        del ends_at[name]
