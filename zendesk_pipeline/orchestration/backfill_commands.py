"""The commands that collect a range, as messages print them."""

from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.settings.programs import called

MOST_OF_A_RUN = 4000
"""Windows. Dagster (1.13.27) notes each check of a run for each window in one statement, eight values a window, and
SQLite takes 32,766 values at once where it was not built for more: https://www.sqlite.org/limits.html ."""


def backfills(stream: str, span: Span, account: str = "") -> list[str]:
    """The commands that collect a range, run by run; of a named account, in the project that describes it."""
    starts = range(span.start, span.end, MOST_OF_A_RUN * HOUR)
    return [_backfill(stream, Span(start, min(span.end, start + MOST_OF_A_RUN * HOUR)), account) for start in starts]


def _backfill(stream: str, span: Span, account: str) -> str:
    first, last = Window(span.start).partition_key, Window(span.end - HOUR).partition_key
    which = f"--partition {first}" if first == last else f'--partition-range "{first}...{last}"'
    if account:
        return f"{called('dg')} launch --assets key:{account}/{stream} {which}"
    return f"{called('dagster')} asset materialize -m zendesk_pipeline.definitions --select {stream} {which}"
