"""How much of Zendesk's latency is left in the time of a walk: 200 ms a request, and its real limits.

What takes minutes is scaled: the simulator's latency and its minute are four times shorter, and the collector's clock
runs four times faster. So the relation of the two stays what it is. What the processor and S3 do is not scaled: it
counts four times, against us. An hour of audit logs takes seconds, and is not scaled.

What the limit alone needs is the number of pages at an even pace, one every 60 s / (limit and share). Bursts that a
limit allows within its minute are not counted for it: without latency, a few pages would take no time at all.
"""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from zendesk_pipeline.delivery.batches import BatchFormat
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.window_writer import Delivery
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, EMAIL
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.zendesk import parallel_walk
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import ApiToken
from zendesk_pipeline.zendesk.prefetch import prefetched
from zendesk_pipeline.zendesk.rate_limits import RateLimiter
from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline.zendesk.walk import Walk
from zendesk_pipeline_tests.bench.account import Account

LATENCY = 0.2
MINUTE = 60.0
EXPORT_LIMIT = 10
ACCOUNT_LIMIT = 700


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Something to collect."""

    name: str
    account: Account
    stream: Stream
    share: float = 0.5
    limit: int = ACCOUNT_LIMIT
    lookback: int = 0
    scale: int = 4

    @property
    def per_minute(self) -> float:
        """What the collector may send."""
        return EXPORT_LIMIT if self.stream.budget == "export" else self.limit * self.share

    @property
    def span(self) -> Span:
        """The windows, without those that are only looked back into."""
        return Span(self.account.span.start + self.lookback, self.account.span.end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """One walk with its deliveries; seconds are Zendesk's."""

    seconds: float
    requests: int
    refused: int
    """Of them, by 429."""
    records: int
    """Delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """A case, walked by one cursor and by as many as it takes."""

    case: Case
    one: Walked
    ours: Walked

    @property
    def limit_alone(self) -> float:
        """Seconds, for the pages that one cursor needs: a surplus request of ours counts against us."""
        return self.one.requests * MINUTE / self.case.per_minute


def cases(*, quick: bool) -> list[Case]:
    """An hour of each stream, and long backfills."""
    audit_logs, tickets = STREAMS["audit_logs"], STREAMS["incremental_tickets"]
    hours = 12 if quick else 7 * 24
    hour = Account(hours=1, tickets_per_hour=11_500, audit_logs_per_hour=0, ticket_bytes=500)
    two_hours = Account(hours=2, tickets_per_hour=0, audit_logs_per_hour=450)
    backfill = Account(hours=hours, tickets_per_hour=0, audit_logs_per_hour=500)
    audit_hour = Case(name="an hour of audit logs", account=two_hours, stream=audit_logs, lookback=HOUR, scale=1)
    name = f"{hours} hours of audit logs"
    made = [
        Case(name="an hour of tickets", account=hour, stream=tickets),
        audit_hour,
        replace(audit_hour, name=f"{audit_hour.name}, 85 % of 700", share=0.85),
        Case(name=name, account=backfill, stream=audit_logs),
        Case(name=f"{name}, 85 % of 700", account=backfill, stream=audit_logs, share=0.85),
        Case(name=f"{name}, half of 2,500", account=backfill, stream=audit_logs, limit=2500),
    ]
    return made[1:4] if quick else made


def measured(case: Case) -> Hidden:
    """Walk it both ways, each with a minute of limits of its own."""
    return Hidden(case=case, one=_walked(case, Walk.pages), ours=_walked(case, parallel_walk.pages))


def _walked(case: Case, pages: Callable[[Walk], Iterator[Page]]) -> Walked:
    with TemporaryDirectory() as folder, _services(case, Path(folder)) as (zendesk, s3):
        clock = Clock(
            monotonic=lambda: time.monotonic() * case.scale, sleep=lambda seconds: time.sleep(seconds / case.scale)
        )
        delivery = _delivery(case, s3, clock)
        began = clock.monotonic()
        with delivery:
            for page in prefetched(pages(_walk(case, zendesk, clock))):
                delivery.take(page)
        seconds = clock.monotonic() - began
        counts = zendesk.control.counts()
        return Walked(
            seconds=seconds,
            requests=sum(counts.path.values()),
            refused=counts.status.get("429", 0),
            records=sum(tally.total for window, tally in delivery.tallies.items() if window in case.span),
        )


@contextmanager
def _services(case: Case, folder: Path) -> Generator[tuple[SimulatedZendesk, LocalS3]]:
    limits = (
        *("--latency-ms", str(LATENCY * 1000 / case.scale), "--minute-seconds", str(MINUTE / case.scale)),
        *("--account-limit", str(case.limit), "--enforce-account-limit", "--export-limit", str(EXPORT_LIMIT)),
    )
    with simulated_zendesk(folder, *case.account.options, *limits) as zendesk, local_s3(folder) as s3:
        yield zendesk, s3


def _walk(case: Case, zendesk: SimulatedZendesk, clock: Clock) -> Walk:
    client = ZendeskClient(
        transport=Transport(base_url=zendesk.url, timeout=60, clock=clock),
        credential=ApiToken(EMAIL, API_TOKEN),
        retries=3,
        limiters={
            "account": RateLimiter(clock=clock, share=case.share),
            "export": RateLimiter(clock=clock, per_minute=EXPORT_LIMIT),
        },
        clock=clock,
    )
    return Walk(
        stream=case.stream,
        client=client,
        span=case.span,
        lookback=case.lookback,
        settle=0,
        max_pages=None,
        clock=clock,
    )


def _delivery(case: Case, s3: LocalS3, clock: Clock) -> Delivery:
    job = DeliveryJob(
        stream=case.stream,
        span=case.span,
        lookback=case.lookback,
        store=Store(client=s3.client(), bucket=s3.bucket, encryption={}),
        layout=Layout(feed="crm/", state="state/", quarantine="quarantine/"),
        form=BatchFormat(items=case.stream.items, envelope=False, compress=False, limit=8 << 20),
        redeliver=False,
        clock=clock,
        warn=print,
    )
    return Delivery(job)
