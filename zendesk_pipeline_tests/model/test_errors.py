"""The tree of errors, which the rest decides by."""

import inspect
import re

import pytest

from zendesk_pipeline.model import errors
from zendesk_pipeline.model.errors import PageTooHeavyError, PipelineError, RefusedError, SettingsError, TransientError

CLASSES = {
    name: each
    for name, each in inspect.getmembers(errors, inspect.isclass)
    if each.__module__ == errors.__name__ and issubclass(each, PipelineError)
}


def test_the_tree_is_as_it_is_drawn() -> None:
    """The module's docstring draws every error below the one it is a kind of."""
    drawn: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r" {4}((?:[│├└─ ]{4})*)(\w+Error)\b", line):
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            drawn[match[2]] = above[depth - 1] if depth else None
    kinds = {name: each.__mro__[1].__name__ for name, each in CLASSES.items()}
    assert drawn == {name: kind if kind in CLASSES else None for name, kind in kinds.items()}


@pytest.mark.parametrize("kind", [pytest.param(each, id=name) for name, each in CLASSES.items()])
def test_an_error_reads_as_its_sentence(kind: type[PipelineError]) -> None:
    """Nothing is added to what it was raised with."""
    assert str(kind("The window is not over.")) == "The window is not over."


def test_what_trying_again_may_help_is_no_refusal() -> None:
    """A run that failed for a while is tried again, one that a person has to mend is not: nothing is both."""
    lasting = {name for name, each in CLASSES.items() if issubclass(each, SettingsError | RefusedError)}
    passing = {name for name, each in CLASSES.items() if issubclass(each, TransientError)}
    assert lasting == {"SettingsError", "RefusedError", "ForbiddenError"}
    assert passing == {"TransientError", "PageTooHeavyError", "MaybeTooHeavyError"}


def test_a_transient_error_may_say_how_long_to_wait() -> None:
    """Of itself it says nothing."""
    assert TransientError("503").retry_after is None
    assert PageTooHeavyError("503", retry_after=17).retry_after == 17
