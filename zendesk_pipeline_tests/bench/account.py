"""The simulated account that is measured on, frozen in time: every round finds the same."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.pipeline import LocalPipeline
from zendesk_pipeline.model.windows import HOUR, Span, timestamp

START = 1_767_830_400
"""2026-01-08 00:00 UTC."""
SETTLED = 301
"""Seconds after the last window at which time stands still."""
NO_LIMIT = "1000000"
FORKED = "BENCH_FORKED"
"""The variable that has processes forked from a warm one: sooner at their end, and their start is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """How much there is to collect."""

    hours: int
    start: int = START
    tickets_per_hour: int
    audit_logs_per_hour: int
    ticket_bytes: int = 4000
    plain_text: bool = True
    """As answers of an English-speaking account are; else of many scripts, which take longer to check."""

    @property
    def span(self) -> Span:
        """All of it."""
        return Span(self.start, self.start + self.hours * HOUR)

    @property
    def records(self) -> dict[str, int]:
        """By stream."""
        return {
            "incremental_tickets": self.hours * self.tickets_per_hour,
            "audit_logs": self.hours * self.audit_logs_per_hour,
        }

    @property
    def options(self) -> tuple[str, ...]:
        """Of the simulator: nothing but the plain records, and no limit that binds."""
        return (
            *("--since", timestamp(self.start), "--now", timestamp(self.span.end + SETTLED)),
            *("--tickets-per-hour", str(self.tickets_per_hour), "--ticket-bytes", str(self.ticket_bytes)),
            *(("--plain-text",) if self.plain_text else ()),
            *("--audit-logs-per-hour", str(self.audit_logs_per_hour), "--late-share", "0"),
            *("--changes-per-ticket", "0", "--bulk-update", "0", "--empty-hours", "0"),
            *("--further-per-hour", "0"),
            *("--account-limit", NO_LIMIT, "--export-limit", "0"),
        )


@contextmanager
def running(account: Account, folder: Path, instance: str = local.SETTINGS_OF_THE_INSTANCE) -> Generator[LocalPipeline]:
    """The account on a simulator, an S3 server, and a Dagster instance of that dagster.yaml."""
    with local.local_pipeline(folder, *account.options, start=account.start, instance=instance) as pipeline:
        pipeline.environment["ZENDESK_EXPORT_RATE"] = NO_LIMIT
        yield pipeline
