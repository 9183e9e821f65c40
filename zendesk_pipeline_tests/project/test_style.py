"""What the linter cannot ask for: sentences on tests, and reasons beside every exception from a rule."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from zendesk_pipeline_tests.root import ROOT

CODE = sorted([*ROOT.glob("zendesk_pipeline/**/*.py"), *ROOT.glob("zendesk_pipeline_tests/**/*.py")])

EXCEPTION = re.compile(
    r"#\s*(?:ruff:\s*noqa|noqa|type:\s*ignore|pyright:\s*\w+)(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*|\[[^\]]*\])?"
)
"""A directive to ruff or pyright, with the rules it names."""
WORD = re.compile(r"[A-Za-z]{2,}")


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each comment of a file."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return ((token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT)


def test_every_test_says_what_holds() -> None:
    """A test's docstring is the sentence that fails with it."""
    silent = [
        f"{place(path, node.lineno)} {node.name}"
        for path in CODE
        if "zendesk_pipeline_tests" in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node)
    ]

    assert silent == []


def test_every_exception_from_a_rule_has_its_reason() -> None:
    """A `noqa` or an `ignore` names its rule, and the same comment says why."""
    unexplained = [
        f"{place(path, line)} {comment}"
        for path in CODE
        for line, comment in comments(path)
        if EXCEPTION.search(comment) and not WORD.search(EXCEPTION.sub("", comment))
    ]
    unnamed = [
        f"{place(path, line)} {comment}"
        for path in CODE
        for line, comment in comments(path)
        if re.search(r"#\s*(?:noqa(?!:)|(?:type|pyright):\s*ignore(?!\[))", comment)
    ]

    assert unexplained == []
    assert unnamed == []


def test_every_rule_that_is_off_has_its_reason() -> None:
    """In pyproject.toml, each rule that ruff or pyright leaves out stands in a line with a comment."""
    text = (ROOT / "pyproject.toml").read_text()
    tools = text[text.index("[tool.ruff]") : text.index("[tool.pytest")]
    off = re.findall(r'^ +"[A-Z]+\d*",.*$|^report\w+ = false.*$', tools, re.MULTILINE)

    assert off
    assert [line.strip() for line in off if "#" not in line] == []
