"""`zendesk-pipeline volume`: how much a past range was, from its ledgers, and how much a month of it is.

Zendesk is not asked. The arithmetic is in docs/performance.md.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil

import click

from zendesk_pipeline.delivery.bucket import Store, prepared
from zendesk_pipeline.delivery.inspection import WEEKS
from zendesk_pipeline.delivery.ledger import Ledger
from zendesk_pipeline.delivery.ledger_store import LedgerStore, of_each
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.rate_budgets import ACCOUNT_RATE, Rates
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.settings import aws_clients, environment
from zendesk_pipeline.settings.environment import Settings, not_set

GB = 2**30
HOURS_A_MONTH = 730


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
    allowed = per_minute * 60
    return Volume(
        stream=stream.name,
        windows=len(found),
        complete=len(complete),
        records=sum(counts),
        bytes=sum(each.bytes for ledger in complete for each in ledger.objects),
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


_HOURS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%MZ"])


@click.command(name="volume")
@click.option("--from", "start", type=_HOURS, required=True, help="The first hour, UTC: a date or YYYY-MM-DDTHH:00.")
@click.option("--to", "end", type=_HOURS, required=True, help="The end, UTC; this hour itself is not in the range.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--account-rate", default=ACCOUNT_RATE, show_default=True, help="Requests a minute of your Zendesk plan.")
def volume(start: datetime, end: datetime, account_rate: int, *, as_json: bool) -> None:
    """Tell how much a past range was, from its ledgers, and how much a month of it is.

    Zendesk is not asked, and nothing is written.
    """
    span, chosen = _span(start, end), environment.load()
    store = _store(chosen)
    layout = Layout.of(chosen)
    rates = Rates(account=account_rate, export=chosen.zendesk_export_rate, share=chosen.zendesk_rate_share)
    found: list[Volume] = []
    for stream in map(STREAMS.__getitem__, chosen.resources):
        ledgers = LedgerStore(stream=stream.name, store=store, layout=layout)
        read = (each.ledger for each in of_each(ledgers.read, span))
        lookback, per_minute = stream.lookback(chosen.lookback_seconds), rates.ours(stream.budget)
        found.append(volume_of(stream, list(read), lookback=lookback, per_minute=per_minute))
    click.echo(_as_json(found) if as_json else _as_text(span, found))


def _span(start: datetime, end: datetime) -> Span:
    first, last = (int(each.replace(tzinfo=UTC).timestamp()) for each in (start, end))
    if first % HOUR or last % HOUR:
        raise click.UsageError("--from and --to are full hours.")
    if first >= last:
        raise click.UsageError("--from has to be before --to.")
    return Span(first, last)


def _store(chosen: Settings) -> Store:
    if not chosen.s3_bucket:
        raise not_set("S3_BUCKET", "the bucket that holds the ledgers")
    client = prepared(aws_clients.client("s3"))
    return Store(client=client, bucket=chosen.s3_bucket, encryption={})


def _as_json(volumes: Sequence[Volume]) -> str:
    return json.dumps({"streams": [{**asdict(each), "month": asdict(month_of(each))} for each in volumes]}, indent=2)


def _as_text(span: Span, volumes: Sequence[Volume]) -> str:
    months = [month_of(each) for each in volumes]
    rows = {
        "windows complete": [f"{each.complete:,} of {each.windows:,}" for each in volumes],
        "records": [f"{each.records:,}" for each in volumes],
        "bytes": [f"{each.bytes:,}" for each in volumes],
        "objects": [f"{each.objects:,}" for each in volumes],
        "Zendesk requests, about": [f"{each.zendesk_requests:,}" for each in volumes],
        "  of the rate budget": [f"{each.budget_share:.2%}" for each in volumes],
        "  in the busiest hour": [f"{each.busiest_hour_share:.2%}" for each in volumes],
        "S3 PUT, about": [f"{each.s3_puts:,}" for each in volumes],
        "S3 GET, about": [f"{each.s3_gets:,}" for each in volumes],
        "S3 LIST, about": [f"{each.s3_lists:,}" for each in volumes],
        "a month: Zendesk requests": [f"{each.zendesk_requests:,}" for each in months],
        "a month: S3 PUT and LIST": [f"{each.s3_writes:,}" for each in months],
        "a month: S3 GET": [f"{each.s3_reads:,}" for each in months],
        "a month: GB": [f"{each.gb:,.3f}" for each in months],
    }
    lines = ["".join([f"{'':<28}", *(f"{each.stream:>22}" for each in volumes)])]
    lines += ["".join([f"{name:<28}", *(f"{cell:>22}" for cell in cells)]) for name, cells in rows.items()]
    return "\n".join([f"{span}, UTC", "", *lines])
