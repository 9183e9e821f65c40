"""The result of a check."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from zendesk_pipeline.commands.doctor.context import Context

Status = Literal["ok", "warning", "failed", "not visible", "not checked"]
"""`not visible`: these rights do not show it, which is no fault; `not checked`: a check that it needs failed."""
Area = Literal["Settings", "Zendesk", "S3", "SecOps", "Alerts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of what was found, and what to do about it."""

    status: Status
    found: str
    remedy: str = ""
    """Empty where there is nothing to do."""


def ok(found: str) -> Verdict:
    """It is as it has to be."""
    return Verdict("ok", found)


def warning(found: str, remedy: str) -> Verdict:
    """It works, and should be changed."""
    return Verdict("warning", found, remedy)


def failed(found: str, remedy: str) -> Verdict:
    """A run would fail, or deliver what it should not."""
    return Verdict("failed", found, remedy)


def not_visible(found: str, remedy: str) -> Verdict:
    """It cannot be seen with these rights, which is no fault."""
    return Verdict("not visible", found, remedy)


SEVERITY: tuple[Status, ...] = ("ok", "not checked", "not visible", "warning", "failed")
"""From the least to the worst."""


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Several as one, as bad as the worst of them; what is fine is left out where something is not."""
    worst = SEVERITY[max(SEVERITY.index(verdict.status) for verdict in verdicts)]
    shown = [verdict for verdict in verdicts if verdict.status == worst or verdict.status in {"warning", "failed"}]
    remedies = dict.fromkeys(verdict.remedy for verdict in shown if verdict.remedy)
    return Verdict(worst, " ".join(verdict.found for verdict in shown), " ".join(remedies))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check."""

    name: str
    """As it is printed, documented and in the JSON: `[a-z_]+`."""
    area: Area
    run: "Callable[[Context], Verdict]"
    """Where it raises PipelineError, the check failed, and the error says why."""
    needs: Sequence[str] = ()
    """Names of earlier checks; if one of them failed, this one is not run."""
