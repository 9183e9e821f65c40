"""`zendesk-pipeline demo`, as somebody runs it first."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner

from zendesk_pipeline.local import demo
from zendesk_pipeline.local.pipeline import one_interruption
from zendesk_pipeline_tests.local_processes import REAL_ACCOUNT, started


@dataclass(frozen=True, slots=True)
class Ended:
    """A demo that has run to its end."""

    code: int
    output: str
    descendants: list[str]
    left: list[Path]
    kept: Path

    def row(self, label: str) -> list[str]:
        """The cells of a table's row."""
        (line,) = re.findall(rf"^  {re.escape(label)}  +(.+)$", self.output, re.MULTILINE)
        return re.split(r"  +", line.strip())


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """A demo of three hours."""
    folder = tmp_path_factory.mktemp("demo")
    with started(folder, "demo", "--hours", "3", "--keep", "kept") as shown:
        output = "".join(shown.lines())
        code = shown.process.wait()
        yield Ended(code, output, shown.descendants(), list(shown.temporary.iterdir()), folder / "kept")


def test_it_proves_that_nothing_is_missing_repeated_or_made_up(ended: Ended) -> None:
    """The table ends in noughts, every window is complete, and the exit status says so."""
    assert ended.code == 0
    for label in ("missing (byte for byte)", "repeated", "never at the source", "in the wrong window"):
        assert ended.row(label) == ["0", "0"]
    for label in ("windows complete", "windows materialized in Dagster"):
        assert ended.row(label) == ["3 of 3", "3 of 3"]
    assert ended.row("records in S3") == ended.row("records at the source") != ["0", "0"]


def test_it_met_trouble_on_the_way(ended: Ended) -> None:
    """The faults that are turned on are counted for the reader, and did happen."""
    assert int(ended.row("429 Too Many Requests")[0]) > 0
    assert int(ended.row("connection reset")[0]) > 0


def test_running_it_again_adds_nothing(ended: Ended) -> None:
    """The second run of the same hours asks Zendesk again, and writes no object."""
    assert re.search(r"[1-9]\d* requests read all of it again: 0 new objects\.", ended.output)


def test_the_next_hour_brings_what_showed_up_late(ended: Ended) -> None:
    """Records that were hidden when their hour was read are delivered with the next one."""
    (shown, delivered) = re.findall(r"(\d+) audit logs of earlier .* late: (\d+) delivered", ended.output)[0]
    assert int(shown) == int(delivered)
    assert len(re.findall(r"of 4 hours in S3, 0 missing, 0 repeated, 0 never at the source", ended.output)) == 2


def test_it_shows_no_record(ended: Ended) -> None:
    """A key and a ledger's line are shown; nothing of a record's content is."""
    assert re.search(r"s3://\S+/zendesk/crm/\S+-zendesk-incremental_tickets-\d{4}-[0-9a-f]{32}\.json\n", ended.output)
    assert "subject" not in ended.output
    assert "{" not in ended.output


def test_it_never_uses_the_account_of_the_environment(ended: Ended) -> None:
    """With a real account's settings around it says that it does not use them; its bucket is the local one."""
    assert "the demo uses a simulated account" in ended.output
    assert REAL_ACCOUNT not in ended.output
    assert "a-real-bucket" not in ended.output


def test_it_leaves_nothing_but_what_was_asked_for(ended: Ended) -> None:
    """No process and no file of it is left; the bucket's content is where --keep wants it."""
    assert ended.descendants == []
    assert ended.left == []
    objects = list((ended.kept / "zendesk" / "crm").rglob("*.json"))
    assert objects
    assert all("id" in json.loads(line) for line in objects[0].read_bytes().splitlines())


def test_ctrl_c_is_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """Interrupted in the middle, it ends all its processes, removes its files, and says so without a trace."""
    with started(tmp_path, "demo") as shown:
        shown.read_to("1. Collect 48 hours")
        assert len(shown.descendants()) >= 3
        shown.process.send_signal(signal.SIGINT)
        lines = list(shown.lines())
        assert lines[-1] == "Stopped: nothing is left running, and nothing of it on disk.\n", "".join(lines)
        assert shown.process.wait() == 130
        assert shown.descendants() == []
        assert list(shown.temporary.iterdir()) == []


def test_ctrl_c_within_a_finaliser_is_not_lost() -> None:
    """Where Python drops what the signal raised, it is raised again."""

    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def interrupted() -> None:
        with one_interruption():
            Finalised()
            Event().wait(10)

    before = sys.unraisablehook
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sys.unraisablehook is before


def test_a_proof_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the demo in a script learns by its exit status that something did not hold."""

    def fails(*_: object) -> bool:
        return False

    monkeypatch.setattr(demo, "_demo", fails)
    assert CliRunner().invoke(demo.demo, []).exit_code == 1
