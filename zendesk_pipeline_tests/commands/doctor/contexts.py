"""What the tests of `doctor` run on: real servers, and the environment that leads to them."""

from collections.abc import Callable, Mapping

import pytest

from zendesk_pipeline.commands.doctor.check_list import CHECKS
from zendesk_pipeline.commands.doctor.context import Context
from zendesk_pipeline.commands.doctor.verdicts import Verdict
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline_tests.asking import NOW

AT_NOW = Clock(now=lambda: NOW)
"""The clock of the simulated Zendesk that stands still."""

MakeContext = Callable[..., Context]


def context_maker(monkeypatch: pytest.MonkeyPatch, *environments: Mapping[str, str]) -> MakeContext:
    """Makes contexts with this environment; a call may change variables of it."""

    def make_context(*, clock: Clock = AT_NOW, seconds: float = 10.0, **others: str) -> Context:
        for environment in (*environments, others):
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
        return Context(clock=clock, seconds=seconds)

    return make_context


def verdict_of(context: Context, name: str) -> Verdict:
    """The verdict of one check; an error is what `run_checks` makes of it."""
    (check,) = [check for check in CHECKS if check.name == name]
    try:
        return check.run(context)
    except PipelineError as problem:
        return Verdict("failed", problem.message)


def said(verdict: Verdict) -> str:
    return f"{verdict.status}: {verdict.found} {verdict.remedy}"
