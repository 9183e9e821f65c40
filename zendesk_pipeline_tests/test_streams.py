"""The streams as data: each fact in `streams` against a simulated Zendesk that behaves by it."""

import re
from collections import Counter
from collections.abc import Callable

import pytest

from zendesk_pipeline.client import token_endpoint
from zendesk_pipeline.credentials import ClientCredentials
from zendesk_pipeline.errors import RefusedError
from zendesk_pipeline.local_services import SimulatedZendesk
from zendesk_pipeline.records import page_reader, record_reader
from zendesk_pipeline.simulator.accounts import CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline.streams import STREAMS, Stream
from zendesk_pipeline.windows import HOUR, Span
from zendesk_pipeline_tests.asking import NOW, client_for, first_page
from zendesk_pipeline_tests.conftest import FakeClock

each_stream = pytest.mark.parametrize("stream", [pytest.param(stream, id=name) for name, stream in STREAMS.items()])


def test_the_streams_names_are_pinned() -> None:
    """The names are in object keys, ledgers and Dagster's history: they never change."""
    assert list(STREAMS) == ["audit_logs", "incremental_tickets"]
    assert all(re.fullmatch("[a-z_]+", name) for name in STREAMS)


@each_stream
def test_a_page_is_the_most_zendesk_gives(
    stream: Stream, zendesk: SimulatedZendesk, fake_clock: Callable[[float], FakeClock]
) -> None:
    """Zendesk gives as many records as are asked for, and no more where more are asked for."""
    client, span = client_for(zendesk.url, fake_clock(NOW).clock), Span(NOW - 60 * HOUR, NOW)
    assert len(first_page(client, stream, span).records) == stream.page_size

    params = stream.paging.params(span, None, stream.page_size + 1)
    page, _ = client.page(stream, params, page_reader(stream))
    assert len(page.records) == stream.page_size


@each_stream
def test_identities_are_unique(stream: Stream, zendesk: SimulatedZendesk) -> None:
    """No two records that Zendesk ever showed have the same identity, changed tickets included."""
    record_of = record_reader(stream)
    identities = Counter(record_of(line).identity for line in zendesk.control.source(stream.name, ever=True))
    assert len(identities) > 1000
    assert identities.most_common(1)[0][1] == 1


@each_stream
def test_the_named_scope_is_enough(
    stream: Stream, zendesk: SimulatedZendesk, fake_clock: Callable[[float], FakeClock]
) -> None:
    """A token of the stream's own scope reads the stream, and nothing else."""
    clock = fake_clock(NOW).clock
    client = client_for(zendesk.url, clock)
    request = token_endpoint(client.transport, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, scope=stream.scope)
    client.credential = ClientCredentials(request, clock)
    (other,) = (each for each in STREAMS.values() if each is not stream)

    assert first_page(client, stream).records
    with pytest.raises(RefusedError, match="ZENDESK_OAUTH_SCOPE=read"):
        first_page(client, other)
