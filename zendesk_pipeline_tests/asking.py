"""What the tests of the Zendesk side ask with: the real client and walk, with bounds and clock of the test's choice."""

import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from zendesk_pipeline.local.simulator.accounts import API_TOKEN, EMAIL
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.rate_budgets import BUDGETS
from zendesk_pipeline.model.records import PageBody, page_reader
from zendesk_pipeline.model.streams import INCREMENTAL_TICKETS, Stream
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import ApiToken, Credential
from zendesk_pipeline.zendesk.rate_limits import RateLimiter
from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline.zendesk.walk import Walk

NOW = 1_794_657_600
"""What the frozen clock of the simulated Zendesk shows, 2026-11-14T12:00Z."""
DAY = Span(Window.of_partition("2026-11-13-00:00").start, Window.of_partition("2026-11-14-00:00").start)
"""Twenty-four windows that are long over: several pages of both streams."""


@contextmanager
def machine_in(zone: str) -> Generator[None]:
    """This machine's clock shows the time of a zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


def client_for(
    url: str,
    clock: Clock,
    *,
    credential: Credential | None = None,
    retries: int = 3,
    timeout: float = 5.0,
    limiters: dict[str, RateLimiter] | None = None,
) -> ZendeskClient:
    """A client, by default with the simulated account's API token and no rate limit of its own."""
    return ZendeskClient(
        transport=Transport(base_url=url, timeout=timeout, clock=clock),
        credential=credential or ApiToken(EMAIL, API_TOKEN),
        retries=retries,
        limiters=limiters or {budget: RateLimiter(clock=clock) for budget in BUDGETS},
        clock=clock,
    )


def first_page(client: ZendeskClient, stream: Stream = INCREMENTAL_TICKETS, span: Span = DAY) -> PageBody:
    """The first page of a span."""
    params = stream.paging.params(span.time_range, None, stream.page_size)
    return client.page(stream, params, page_reader(stream))[0]


def walk_with(
    client: ZendeskClient,
    stream: Stream = INCREMENTAL_TICKETS,
    span: Span = DAY,
    *,
    lookback: int = 0,
    settle: float = 300,
    max_pages: int | None = None,
) -> Walk:
    """A walk, by the client's clock."""
    return Walk(
        stream=stream,
        client=client,
        span=span,
        lookback=lookback,
        settle=settle,
        max_pages=max_pages,
        clock=client.clock,
    )
