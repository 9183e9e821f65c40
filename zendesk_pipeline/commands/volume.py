"""`zendesk-pipeline volume`: how much a past range was, from its ledgers, and what a month of it costs.

Zendesk is not asked. The arithmetic is in docs/performance.md.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil

import click

from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.bucket import Store, prepared
from zendesk_pipeline.delivery.inspection import WEEKS
from zendesk_pipeline.delivery.ledger import Ledger
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import DeliveryError
from zendesk_pipeline.model.rate_budgets import ACCOUNT_RATE, Rates
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.settings import aws_clients, environment
from zendesk_pipeline.settings.environment import Settings, not_set

PRICE_PAGE = "https://aws.amazon.com/s3/pricing/"
PRICES_OF = "2026-11"
"""When these were written down; the page has today's."""
PUT_PRICE = 0.005
"""USD for a thousand PUT or LIST requests; this and those below: S3 Standard in us-east-1, first tier, nothing free."""
GET_PRICE = 0.0004
"""USD for a thousand GET requests."""
STORAGE_PRICE = 0.023
"""USD for a GB and month."""
EGRESS_PRICE = 0.09
"""USD for a GB from AWS to the internet, which is where Google reads from."""
GB = 2**30
HOURS_A_MONTH = 730
DAYS_A_MONTH = HOURS_A_MONTH / 24
READERS = 8
"""Threads that read ledgers."""


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
class Prices:
    """USD: requests for a thousand, storage for a GB and month, egress for a GB."""

    put: float
    get: float
    storage: float
    egress: float
    keep_days: int
    """Days that an object stays in the feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """USD for a month of the same."""

    s3_requests: float
    s3_storage: float
    egress: float


def volume_of(stream: Stream, found: Sequence[Ledger | None], *, lookback: int, per_minute: float) -> Volume:
    """The volume of a range.

    Args:
        stream: Whose windows.
        found: The ledger of each window, in order.
        lookback: Seconds that each run reads again.
        per_minute: Requests that Zendesk and the settings allow.
    """
    complete = [ledger for ledger in found if ledger and ledger.complete]
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


def month_of(volume: Volume, prices: Prices) -> Month:
    """What a month of the same costs; of nothing, nothing."""
    months = volume.complete / HOURS_A_MONTH
    if not months:
        return Month(s3_requests=0.0, s3_storage=0.0, egress=0.0)
    written, read, size = (
        (volume.s3_puts + volume.s3_lists) / months,
        volume.s3_gets / months,
        volume.bytes / months / GB,
    )
    return Month(
        s3_requests=written / 1000 * prices.put + read / 1000 * prices.get,
        s3_storage=size * prices.keep_days / DAYS_A_MONTH * prices.storage,
        egress=size * prices.egress,
    )


def read(store: Store, layout: Layout, stream: Stream, span: Span) -> list[Ledger | None]:
    """The ledger of each window of the range; raises DeliveryError for one that is none."""

    def one(window: Window) -> Ledger | None:
        key = layout.ledger(stream.name, window)
        stored = store.get(key)
        try:
            return ledgers.decode(stored.body, ledgers.empty(stream.name, window)) if stored else None
        except ValueError as problem:
            raise DeliveryError(f"The ledger {store.uri(key)} cannot be read ({problem}).") from None

    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(one, span))


_HOURS = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%MZ"])


@click.command(name="volume")
@click.option("--from", "start", type=_HOURS, required=True, help="The first hour, UTC: a date or YYYY-MM-DDTHH:00.")
@click.option("--to", "end", type=_HOURS, required=True, help="The end, UTC; this hour itself is not in the range.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--account-rate", default=ACCOUNT_RATE, show_default=True, help="Requests a minute of your Zendesk plan.")
@click.option("--keep-days", default=30, show_default=True, help="Days that objects stay in the feed.")
@click.option("--put-price", default=PUT_PRICE, show_default=True, help="USD for 1,000 PUT or LIST requests.")
@click.option("--get-price", default=GET_PRICE, show_default=True, help="USD for 1,000 GET requests.")
@click.option("--storage-price", default=STORAGE_PRICE, show_default=True, help="USD for a GB and month.")
@click.option("--egress-price", default=EGRESS_PRICE, show_default=True, help="USD for a GB that Google reads.")
def volume(start: datetime, end: datetime, account_rate: int, keep_days: int, *, as_json: bool, **of: float) -> None:
    """Tell how much a past range was, from its ledgers, and what a month of it costs at list prices.

    Zendesk is not asked, and nothing is written.
    """
    span, chosen = _span(start, end), environment.load()
    prices = Prices(
        put=of["put_price"],
        get=of["get_price"],
        storage=of["storage_price"],
        egress=of["egress_price"],
        keep_days=keep_days,
    )
    store = _store(chosen)
    layout = Layout(feed=chosen.s3_prefix, state=chosen.state_prefix, quarantine=chosen.quarantine_prefix)
    rates = Rates(account=account_rate, export=chosen.zendesk_export_rate, share=chosen.zendesk_rate_share)
    told: list[tuple[Volume, Month]] = []
    for name in chosen.resources:
        stream = STREAMS[name]
        found = volume_of(
            stream,
            read(store, layout, stream, span),
            lookback=stream.lookback(chosen.lookback_seconds),
            per_minute=rates.ours(stream.budget),
        )
        told.append((found, month_of(found, prices)))
    click.echo(_as_json(told, prices) if as_json else _as_text(span, told, prices))


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


def _as_json(told: Sequence[tuple[Volume, Month]], prices: Prices) -> str:
    streams = [{**asdict(found), "month_usd": asdict(month)} for found, month in told]
    of = {**asdict(prices), "of": PRICES_OF, "page": PRICE_PAGE}
    return json.dumps({"streams": streams, "prices": of}, indent=2)


def _as_text(span: Span, told: Sequence[tuple[Volume, Month]], prices: Prices) -> str:
    rows = {
        "windows complete": [f"{found.complete:,} of {found.windows:,}" for found, _ in told],
        "records": [f"{found.records:,}" for found, _ in told],
        "bytes": [f"{found.bytes:,}" for found, _ in told],
        "objects": [f"{found.objects:,}" for found, _ in told],
        "Zendesk requests, about": [f"{found.zendesk_requests:,}" for found, _ in told],
        "  of the rate budget": [f"{found.budget_share:.2%}" for found, _ in told],
        "  in the busiest hour": [f"{found.busiest_hour_share:.2%}" for found, _ in told],
        "S3 PUT, about": [f"{found.s3_puts:,}" for found, _ in told],
        "S3 GET, about": [f"{found.s3_gets:,}" for found, _ in told],
        "S3 LIST, about": [f"{found.s3_lists:,}" for found, _ in told],
        "a month: S3 requests": [f"{month.s3_requests:,.2f} USD" for _, month in told],
        f"a month: storage, {prices.keep_days} days": [f"{month.s3_storage:,.2f} USD" for _, month in told],
        "a month: egress to Google": [f"{month.egress:,.2f} USD" for _, month in told],
    }
    lines = ["".join([f"{'':<28}", *(f"{found.stream:>22}" for found, _ in told)])]
    lines += ["".join([f"{name:<28}", *(f"{cell:>22}" for cell in cells)]) for name, cells in rows.items()]
    foot = f"List prices of {PRICES_OF}, S3 Standard, us-east-1, unless options say otherwise: {PRICE_PAGE}"
    return "\n".join([f"{span}, UTC", "", *lines, "", foot])
