"""What the tests of `doctor` examine: real servers, and the environment that leads to them."""

from collections.abc import Callable, Mapping

import pytest

from zendesk_pipeline.commands.doctor.checks import CHECKS
from zendesk_pipeline.commands.doctor.patient import Patient
from zendesk_pipeline.commands.doctor.verdicts import Verdict
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline_tests.asking import NOW

AT_NOW = Clock(now=lambda: NOW)
"""The clock of the simulated Zendesk that stands still."""

Admit = Callable[..., Patient]


def admitting(monkeypatch: pytest.MonkeyPatch, *environments: Mapping[str, str]) -> Admit:
    """Makes patients with this environment; a call may change variables of it."""

    def admit(*, clock: Clock = AT_NOW, seconds: float = 10.0, **others: str) -> Patient:
        for environment in (*environments, others):
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
        return Patient(clock=clock, seconds=seconds)

    return admit


def look(patient: Patient, name: str) -> Verdict:
    """The verdict of one check; an error is what `examine` makes of it."""
    (check,) = [check for check in CHECKS if check.name == name]
    try:
        return check.look(patient)
    except PipelineError as problem:
        return Verdict("failed", problem.message)


def said(verdict: Verdict) -> str:
    return f"{verdict.status}: {verdict.found} {verdict.remedy}"
