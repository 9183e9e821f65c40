"""`zendesk-pipeline volume`: how much a past range was, from its ledgers, and how much a day and a month of it is.

Zendesk is asked for nothing but a forecast. The arithmetic is in docs/performance.md.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import ceil

import click

from zendesk_pipeline.commands import past_range
from zendesk_pipeline.delivery.batches import SEPARATOR
from zendesk_pipeline.delivery.inspection import WEEKS
from zendesk_pipeline.delivery.ledger import Delivered, Ledger
from zendesk_pipeline.delivery.ledger_store import LedgerStore, of_each
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import PageLimitError
from zendesk_pipeline.model.rate_budgets import ACCOUNT_RATE, Rates
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.zendesk import parallel_walk

GB = 2**30
BILLED_GB = 10**9
"""Bytes of a GB as SecOps counts it: https://docs.cloud.google.com/chronicle/docs/ingestion/burst-limits."""
HOURS_A_MONTH = 730
PAGES = 10
"""Of a forecast, if not said otherwise: a minute of an export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What a stream's ledgers say of a range, and what follows from it."""

    stream: str
    windows: int
    """In the range."""
    complete: int
    """Of them, those delivered whole: all else is about these."""
    records: int
    bytes: int
    """As stored."""
    raw_bytes: int | None
    """Before compression, which SecOps bills; None where no ledger says it. Scaled up, where only some do."""
    objects: int
    zendesk_requests: int
    """Estimated: pages of one run an hour, without retries and tokens."""
    budget_share: float
    """Of the requests that Zendesk and the settings allow in these hours."""
    busiest_hour_share: float
    s3_puts: int
    """Estimated for one run an hour, as are the two below: objects and ledgers."""
    s3_gets: int
    """Ledgers, by the run and its checks; each object once by a check and once by SecOps."""
    s3_lists: int
    """One by the run, one by its checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A month of the same: what prices are for."""

    zendesk_requests: int
    s3_writes: int
    """PUT and LIST requests, which cost the same."""
    s3_reads: int
    """GET requests."""
    gb: float
    """Stored, and read once by SecOps; of 2^30 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What Zendesk shows of a stream that need not be collected."""

    stream: str
    hours: float
    """Of the range, from its beginning on, as far as was read."""
    records: int
    raw_bytes: int
    """Of the lines that they would be, before any redaction."""
    zendesk_requests: int


def volume_of(stream: Stream, found: Sequence[Ledger], *, lookback: int, per_minute: float) -> Volume:
    """The volume of a range.

    Args:
        stream: Whose windows.
        found: The ledger of each window.
        lookback: Seconds that each run reads again.
        per_minute: Requests that Zendesk and the settings allow.
    """
    complete = [ledger for ledger in found if ledger.complete]
    counts = [sum(len(each.identities) for each in ledger.objects) for ledger in complete]
    pages = [max(1, ceil(count * (1 + lookback / HOUR) / stream.page_size)) for count in counts]
    objects = sum(len(ledger.objects) for ledger in complete)
    stored = [each for ledger in complete for each in ledger.objects]
    allowed = per_minute * 60
    return Volume(
        stream=stream.name,
        windows=len(found),
        complete=len(complete),
        records=sum(counts),
        bytes=sum(each.bytes for each in stored),
        raw_bytes=_raw_bytes(stored),
        objects=objects,
        zendesk_requests=sum(pages),
        budget_share=sum(pages) / (allowed * len(complete)) if complete else 0.0,
        busiest_hour_share=max(pages, default=0) / allowed,
        s3_puts=objects + len(complete),
        s3_gets=2 * objects + len(complete) * (1 + ceil(lookback / HOUR) + 1 + WEEKS),
        s3_lists=2 * len(complete),
    )


def month_of(volume: Volume) -> Month:
    """A month of the same; of nothing, nothing."""
    months = volume.complete / HOURS_A_MONTH or math.inf
    return Month(
        zendesk_requests=round(volume.zendesk_requests / months),
        s3_writes=round((volume.s3_puts + volume.s3_lists) / months),
        s3_reads=round(volume.s3_gets / months),
        gb=volume.bytes / months / GB,
    )


def raw_gb_a_day(raw_bytes: int | None, hours: float) -> float | None:
    """A day of the same, in GB as SecOps counts them; None where nothing is known."""
    return None if raw_bytes is None or not hours else raw_bytes / hours * 24 / BILLED_GB


def forecast_of(stream: Stream, span: Span, pages: Iterable[Page]) -> Forecast:
    """What a walk shows of a range, up to its last page or to where there are no more to be read."""
    records = raw = requests = 0
    reached = span.start
    try:
        for page in pages:
            requests += page.requests
            inside = [record for record in page.records if span.start <= record.time < span.end]
            records += len(inside)
            raw += sum(len(record.line) + SEPARATOR for record in inside)
            reached = max([reached, *(record.time for record in inside)])
        reached = span.end
    except PageLimitError:
        pass  # as far as that is
    hours = (min(reached, span.end) - span.start) / HOUR
    return Forecast(stream=stream.name, hours=hours, records=records, raw_bytes=raw, zendesk_requests=requests)


def _raw_bytes(objects: Sequence[Delivered]) -> int | None:
    """Of all objects, by the ratio of those whose ledgers say it."""
    known = [(each.bytes, size) for each in objects if (size := each.raw_bytes) is not None]
    stored = sum(size for size, _ in known)
    if not objects or len(known) == len(objects):
        return sum(size for _, size in known)
    return round(sum(size for _, size in known) * sum(each.bytes for each in objects) / stored) if stored else None


_HOURS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%MZ"])


@click.command(name="volume")
@click.option("--from", "start", type=_HOURS, required=True, help="The first hour, UTC: a date or YYYY-MM-DDTHH:00.")
@click.option("--to", "end", type=_HOURS, required=True, help="The end, UTC; this hour itself is not in the range.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--account-rate", default=ACCOUNT_RATE, show_default=True, help="Requests a minute of your Zendesk plan.")
@click.option(
    "--forecast",
    "expected",
    multiple=True,
    type=click.Choice(sorted(STREAMS)),
    help="Read so much of this stream from Zendesk as tells what it would be; may be given several times.",
)
@click.option(
    "--pages", default=PAGES, show_default=True, type=click.IntRange(min=1), help="The most pages a forecast reads."
)
def volume(
    start: datetime, end: datetime, account_rate: int, expected: tuple[str, ...], pages: int, *, as_json: bool
) -> None:
    """Tell how much a past range was, from its ledgers, and how much a day and a month of it is.

    Zendesk is asked for nothing but a forecast, and nothing is written.
    """
    span, chosen = _span(start, end), environment.load()
    store = past_range.store_of(chosen, "the bucket that holds the ledgers")
    layout = Layout.of(chosen)
    rates = Rates(account=account_rate, export=chosen.zendesk_export_rate, share=chosen.zendesk_rate_share)
    found: list[Volume] = []
    for stream in map(STREAMS.__getitem__, chosen.resources):
        ledgers = LedgerStore(stream=stream.name, store=store, layout=layout)
        read = (each.ledger for each in of_each(ledgers.read, span))
        lookback, per_minute = stream.lookback(chosen.lookback_seconds), rates.ours(stream.budget)
        found.append(volume_of(stream, list(read), lookback=lookback, per_minute=per_minute))
    forecasts = list(_forecasts(chosen, span, expected, pages))
    told = _as_json if as_json else _as_text
    click.echo(told(span, found, forecasts, chosen.secops_gb_a_day))


def _forecasts(chosen: Settings, span: Span, names: Sequence[str], pages: int) -> Iterator[Forecast]:
    if not names:
        return
    with past_range.ends(chosen) as ends:
        for stream in map(STREAMS.__getitem__, dict.fromkeys(names)):
            walk = replace(ends.zendesk.walk(stream, span, lookback=0), max_pages=pages)
            yield forecast_of(stream, span, parallel_walk.pages(walk))


def _span(start: datetime, end: datetime) -> Span:
    first, last = (int(each.replace(tzinfo=UTC).timestamp()) for each in (start, end))
    if first % HOUR or last % HOUR:
        raise click.UsageError("--from and --to are full hours.")
    if first >= last:
        raise click.UsageError("--from has to be before --to.")
    return Span(first, last)


def _as_json(_: Span, volumes: Sequence[Volume], forecasts: Sequence[Forecast], contract: float | None) -> str:
    streams = [
        {**asdict(each), "raw_gb_a_day": raw_gb_a_day(each.raw_bytes, each.complete), "month": asdict(month_of(each))}
        for each in volumes
    ]
    expected = [{**asdict(each), "raw_gb_a_day": raw_gb_a_day(each.raw_bytes, each.hours)} for each in forecasts]
    return json.dumps({"streams": streams, "forecasts": expected, "contract_gb_a_day": contract}, indent=2)


def _as_text(span: Span, volumes: Sequence[Volume], forecasts: Sequence[Forecast], contract: float | None) -> str:
    months = [month_of(each) for each in volumes]
    days = [raw_gb_a_day(each.raw_bytes, each.complete) for each in volumes]
    rows = {
        "windows complete": [f"{each.complete:,} of {each.windows:,}" for each in volumes],
        "records": [f"{each.records:,}" for each in volumes],
        "bytes": [f"{each.bytes:,}" for each in volumes],
        "raw bytes": ["not noted" if each.raw_bytes is None else f"{each.raw_bytes:,}" for each in volumes],
        "objects": [f"{each.objects:,}" for each in volumes],
        "Zendesk requests, about": [f"{each.zendesk_requests:,}" for each in volumes],
        "  of the rate budget": [f"{each.budget_share:.2%}" for each in volumes],
        "  in the busiest hour": [f"{each.busiest_hour_share:.2%}" for each in volumes],
        "S3 PUT, about": [f"{each.s3_puts:,}" for each in volumes],
        "S3 GET, about": [f"{each.s3_gets:,}" for each in volumes],
        "S3 LIST, about": [f"{each.s3_lists:,}" for each in volumes],
        "a day: raw GB": [_gb(day) for day in days],
        "a month: Zendesk requests": [f"{each.zendesk_requests:,}" for each in months],
        "a month: S3 PUT and LIST": [f"{each.s3_writes:,}" for each in months],
        "a month: S3 GET": [f"{each.s3_reads:,}" for each in months],
        "a month: GB": [f"{each.gb:,.3f}" for each in months],
    }
    lines = ["".join([f"{'':<28}", *(f"{each.stream:>22}" for each in volumes)])]
    lines += ["".join([f"{name:<28}", *(f"{cell:>22}" for cell in cells)]) for name, cells in rows.items()]
    return "\n".join([f"{span}, UTC", "", *lines, *_of_the_contract(days, forecasts, contract)])


def _of_the_contract(days: Sequence[float | None], forecasts: Sequence[Forecast], contract: float | None) -> list[str]:
    """What follows from the raw bytes: a sentence for each forecast, and one for the contract."""
    lines: list[str] = []
    expected = [raw_gb_a_day(each.raw_bytes, each.hours) for each in forecasts]
    for each, day in zip(forecasts, expected, strict=True):
        read = f"{each.records:,} records in {each.hours:,.1f} hours, {each.zendesk_requests:,} requests"
        lines.append(f"{each.stream} would be {_gb(day)} raw GB a day ({read}).")
    if contract is not None:
        known = [day or 0.0 for day in (*days, *expected)]
        lines.append(f"Together {sum(known) / contract:.1%} of the {contract:,g} GB a day of SECOPS_GB_A_DAY.")
        if None in (*days, *expected):
            lines.append("That is without what is not noted, or could not be read far enough.")
    return ["", *lines] if lines else []


def _gb(day: float | None) -> str:
    return "not known" if day is None else f"{day:,.6f}"
