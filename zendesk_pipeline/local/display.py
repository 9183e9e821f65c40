"""What `demo` and `dev` show: live bars where a person watches, plain lines where a file or a log does."""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from zendesk_pipeline.local.delivery_proof import Collected, Proof

PLAIN_WIDTH = 100
PLAIN_SECONDS = 2.0
"""Between two lines of one stream where the output is no terminal."""

Tell = Callable[[str, Collected], None]
"""Called with a stream's name and how much of it is collected."""


@dataclass(frozen=True, slots=True)
class Display:
    """A terminal, or a file."""

    console: Console = field(default_factory=lambda: Console(highlight=False))

    def say(self, text: str = "") -> None:
        """A line of text, with rich's markup."""
        self.console.print(text, soft_wrap=True)

    def step(self, text: str) -> None:
        """The heading of a step."""
        self.say(f"\n[bold]{text}[/bold]")

    @contextmanager
    def progress(self, streams: Sequence[str], windows: int) -> Generator[Tell]:
        """How far each stream has come, of so many windows."""
        if not self.console.is_terminal:
            yield self._lines(windows)
            return
        columns = (
            TextColumn("  {task.description:<20}"),
            BarColumn(32),
            TextColumn("{task.completed:>3} of {task.total} windows  {task.fields[records]:>7,} records"),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self.console) as bars:
            tasks = {name: bars.add_task(name, total=windows, records=0) for name in streams}
            yield lambda name, now: bars.update(tasks[name], completed=now.windows, records=now.records)

    @contextmanager
    def working(self) -> Generator[None]:
        """Show in a terminal that work goes on."""
        with self.console.status("") if self.console.is_terminal else nullcontext():
            yield

    def _lines(self, windows: int) -> Tell:
        began, told = time.monotonic(), dict[str, tuple[float, int]]()

        def tell(name: str, now: Collected) -> None:
            at, before = told.get(name, (began, 0))
            seconds = time.monotonic()
            if now.windows == before or (now.windows < windows and seconds - at < PLAIN_SECONDS):
                return
            told[name] = seconds, now.windows
            self.say(
                f"  {name:<20} {now.windows:>3} of {windows} windows  {now.records:>7,} records"
                f"  {seconds - began:5.1f} s"
            )

        return tell

    def counts(self, rows: Mapping[str, object]) -> None:
        """What happened, and how often."""
        table = Table.grid(padding=(0, 2))
        for name, value in rows.items():
            table.add_row(f"  {name}", Text(f"{value:,}" if isinstance(value, int) else str(value), justify="right"))
        self._print(table)

    def proofs(self, proofs: Mapping[str, Proof], materialized: Mapping[str, int]) -> None:
        """The proof of each stream, side by side."""
        table = Table(box=None, padding=(0, 2), header_style="bold")
        table.add_column("")
        for name in proofs:
            table.add_column(name, justify="right")
        for label, cell in PROOF_ROWS.items():
            table.add_row(label, *(cell(proof) for proof in proofs.values()))
        windows = {name: proof.windows for name, proof in proofs.items()}
        table.add_row(
            "windows materialized in Dagster",
            *(_all(materialized[name], windows[name]) for name in proofs),
        )
        self._print(table)

    def _print(self, table: Table) -> None:
        self.console.print(table, width=None if self.console.is_terminal else PLAIN_WIDTH)


def _none(count: int) -> str:
    """A count that should be zero: green if it is, else red."""
    return f"[green]{count}[/green]" if count == 0 else f"[bold red]{count:,}[/bold red]"


def _all(count: int, of: int) -> str:
    text = f"{count} of {of}"
    return f"[green]{text}[/green]" if count == of else f"[bold red]{text}[/bold red]"


PROOF_ROWS: dict[str, Callable[[Proof], str]] = {
    "records at the source": lambda proof: f"{proof.at_source:,}",
    "records in S3": lambda proof: f"{proof.in_s3:,}",
    "missing (byte for byte)": lambda proof: _none(proof.missing),
    "repeated": lambda proof: _none(proof.repeated),
    "never at the source": lambda proof: _none(proof.foreign),
    "in the wrong window": lambda proof: _none(proof.misplaced),
    "objects": lambda proof: f"{proof.objects:,}",
    "windows complete": lambda proof: _all(proof.complete, proof.windows),
}
