"""docs/security.md and docs/delivery.md are held to the code: the tests they name exist, bounds are those in force."""

import ast
import re

import pytest

from zendesk_pipeline.model import records
from zendesk_pipeline.zendesk import client, error_answers, transport, walk
from zendesk_pipeline_tests.promise import test_bounds
from zendesk_pipeline_tests.root import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
DELIVERY = (ROOT / "docs" / "delivery.md").read_text()
NAMING = re.compile(r"\[`(test_\w+)`\]\(\.\./zendesk_pipeline_tests/([\w/]+\.py)\)")
NAMED = sorted(set(NAMING.findall(PAGE)))
PROMISED = sorted(set(NAMING.findall(DELIVERY)))
OURS = ("hosts", "tls", "secrets", "bounds", "hostile", "supply_chain", "least_privilege")


def _tests(name: str) -> set[str]:
    tree = ast.parse((ROOT / "zendesk_pipeline_tests" / name).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize(("test", "file"), [*NAMED, *PROMISED])
def test_each_named_test_exists(test: str, file: str) -> None:
    """A line of the threat model or of the promise is proved by the test beside it."""
    assert test in _tests(file)


def test_each_part_of_the_proof_is_named() -> None:
    """No file of security tests is left out of the page, and every table row that claims something has its test."""
    assert {file.rpartition("/")[2] for _, file in NAMED} >= {f"test_{part}.py" for part in OURS}
    claims = [
        line for line in PAGE.splitlines() if re.match(r"\| (?!who|they|holds|what \||---|writer|reader|\|)", line)
    ]
    bare = [line for line in claims if "test_" not in line and "the same" not in line and "Bounds" not in line]
    assert len(claims) > 30
    assert [line for line in bare if not line.startswith(("| the reader's key of a feed", "| the writer's key"))] == []


def test_each_bound_is_the_one_in_force() -> None:
    """The numbers of the page are the code's."""
    bounds = PAGE[PAGE.index("## Bounds") : PAGE.index("## What is not stopped")]
    stated = {
        f"{transport.LARGEST_BODY // 2**20} MiB",
        f"{test_bounds.MEMORY // 2**20} MiB",
        f"{records.LONGEST_IDENTITY} characters",
        f"{walk.LONGEST_CURSOR:,} characters",
        f"{error_answers.LONGEST_ERROR:,} bytes, {error_answers.LONGEST_QUOTE} characters",
    }
    assert {text for text in stated if text not in bounds} == set()
    assert (transport.LONGEST_BODY_TIME, client.LONGEST_WAIT) == (5, 3600)
