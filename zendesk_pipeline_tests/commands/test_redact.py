"""`zendesk-pipeline redact`: rules tried on records by hand."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from zendesk_pipeline.cli import main
from zendesk_pipeline.model.redaction_rules import redaction
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS

LINE = b'{"id":7,"subject":"Ada","n":1.0,"generated_timestamp":5}'
KEY = "0123456789abcdef" * 2


@pytest.fixture
def rules(tmp_path: Path) -> str:
    place = tmp_path / "rules.yaml"
    place.write_text("incremental_tickets:\n  - drop: subject\n  - hash: n\naudit_logs: whole\n")
    return str(place)


def test_it_shows_what_a_run_would_store(rules: str) -> None:
    """Each line as the rules leave it, and the digest that ledgers will hold, apart from it."""
    ready = redaction(INCREMENTAL_TICKETS, rules, KEY)
    assert ready is not None
    ended = CliRunner().invoke(
        main, ["redact", "incremental_tickets", "--rules", rules], input=LINE + b"\n" + LINE, env={"REDACTION_KEY": KEY}
    )
    assert (ended.exit_code, ended.stdout_bytes) == (0, (ready.apply(LINE)[0] + b"\n") * 2)
    assert ended.stderr == f"incremental_tickets: digest {ready.digest}\n"


def test_the_rules_are_those_of_the_setting(rules: str) -> None:
    """Without an option REDACTION_RULES counts; a stream that is `whole` comes out as it is."""
    log = b'{"id":7,"created_at":"2026-11-12T05:00:00Z","actor_name":"Ada"}'
    ended = CliRunner().invoke(main, ["redact", "audit_logs"], input=log, env={"REDACTION_RULES": rules})
    assert ended.stdout_bytes == log + b"\n"
    assert ended.stderr == "audit_logs: whole, as the rules say\n"


@pytest.mark.parametrize(
    ("environment", "line", "said"),
    [
        ({}, LINE, "Error: REDACTION_RULES is not set"),
        ({"REDACTION_RULES": "RULES"}, LINE, "Error: REDACTION_KEY is not set"),
        ({"REDACTION_RULES": "RULES", "REDACTION_KEY": KEY}, LINE + b"\n<Ada>", "Error: Line 2 is no record of"),
        ({"REDACTION_RULES": "nowhere"}, LINE, "Error: REDACTION_RULES is wrong: the file cannot be read"),
    ],
)
def test_what_is_wrong_is_a_sentence(rules: str, environment: dict[str, str], line: bytes, said: str) -> None:
    """And nothing of a record is in it."""
    chosen = {name: value.replace("RULES", rules) for name, value in environment.items()}
    ended = CliRunner().invoke(main, ["redact", "incremental_tickets"], input=line, env=chosen)
    assert ended.exit_code == 1
    assert said in ended.stderr
    assert "Ada" not in ended.output


def test_a_stream_that_the_rules_do_not_name_comes_out_nowhere(rules: str) -> None:
    """As a run would refuse it."""
    user = b'{"id":7,"updated_at":"2026-11-12T05:00:00Z","name":"Ada"}'
    ended = CliRunner().invoke(main, ["redact", "incremental_users", "--rules", rules], input=user)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "Error: REDACTION_RULES says nothing of incremental_users" in ended.stderr
    assert "Ada" not in ended.output
