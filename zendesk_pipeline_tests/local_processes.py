"""`demo` and `dev` as processes, and what is left of them afterwards."""

import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

PROGRAM = Path(sys.executable).with_name("zendesk-pipeline")
REAL_ACCOUNT = "https://a-real-account.zendesk.example"


@dataclass(frozen=True, slots=True)
class Started:
    """A process that believes it was started beside somebody's real account."""

    process: "subprocess.Popen[str]"
    mark: str
    temporary: Path

    def lines(self) -> Iterator[str]:
        """What it prints, as it comes."""
        assert self.process.stdout is not None
        return iter(self.process.stdout)

    def read_to(self, text: str) -> list[str]:
        """The lines up to the one that holds the text."""
        lines: list[str] = []
        for line in self.lines():
            lines.append(line)
            if text in line:
                return lines
        raise AssertionError(f"{text!r} was never said, only:\n{''.join(lines)}")

    def descendants(self) -> list[str]:
        """The command lines of all processes that were started by it, by whatever way, and still run."""
        return [" ".join(each.cmdline()) for each in psutil.process_iter() if self._is_one(each)]

    def _is_one(self, each: psutil.Process) -> bool:
        try:
            marked = each.environ().get("TEST_MARK") == self.mark
            return marked and each.pid != self.process.pid and each.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@contextmanager
def started(folder: Path, *arguments: str) -> Generator[Started]:
    """`zendesk-pipeline` in a folder that has a `.env` of a real account; what it leaves in TMPDIR shows."""
    temporary, mark = folder / "temporary", uuid4().hex
    temporary.mkdir(exist_ok=True)
    (folder / ".env").write_text(f"ZENDESK_BASE_URL={REAL_ACCOUNT}\nS3_BUCKET=a-real-bucket\nSTART_DATE=2026-01-01\n")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "TEST_MARK": mark,
        "ZENDESK_BASE_URL": REAL_ACCOUNT,
        "AWS_SESSION_TOKEN": "of-a-real-account",
        "ALERT_URLS": "nonsense",
        "MAX_PAGES": "1",
    }
    process = subprocess.Popen(
        [PROGRAM, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield Started(process, mark, temporary)
        finally:
            process.terminate()
