"""The streams as data: each fact in `streams` against a simulated Zendesk that behaves by it."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import CLIENT_ID, CLIENT_SECRET
from zendesk_pipeline.model import streams
from zendesk_pipeline.model.errors import RefusedError, SettingsError
from zendesk_pipeline.model.records import page_reader, record_reader
from zendesk_pipeline.model.streams import (
    ACCESS_LOGS,
    COLLECTED_BY_DEFAULT,
    INCREMENTAL_USERS,
    STREAMS,
    Stream,
    register,
)
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.zendesk.credentials import ClientCredentials
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline_tests import collected
from zendesk_pipeline_tests.asking import NOW, client_for, first_page
from zendesk_pipeline_tests.conftest import FakeClock

each_stream = pytest.mark.parametrize("stream", [pytest.param(stream, id=name) for name, stream in STREAMS.items()])


def test_the_streams_names_are_pinned() -> None:
    """The names are in object keys, ledgers and Dagster's history: they never change."""
    assert list(STREAMS) == [
        "audit_logs",
        "incremental_tickets",
        "access_logs",
        "incremental_ticket_events",
        "incremental_users",
        "incremental_organizations",
        "ticket_metric_events",
    ]
    assert COLLECTED_BY_DEFAULT == ("audit_logs", "incremental_tickets")
    assert all(re.fullmatch("[a-z_]+", name) for name in STREAMS)


@pytest.mark.parametrize("stream", collected.COLLECTED.values(), ids=collected.COLLECTED)
def test_a_page_is_the_most_zendesk_gives(
    stream: Stream, zendesk: SimulatedZendesk, fake_clock: Callable[[float], FakeClock]
) -> None:
    """Zendesk gives as many records as are asked for, and no more where more are asked for."""
    client, span = client_for(zendesk.url, fake_clock(NOW).clock), Span(NOW - 60 * HOUR, NOW)
    assert len(first_page(client, stream, span).records) == stream.page_size

    params = stream.paging.params(span.time_range, None, stream.page_size + 1)
    page, _ = client.page(stream, params, page_reader(stream))
    assert len(page.records) == stream.page_size


def test_zendesk_refuses_larger_pages_of_access_logs(
    zendesk: SimulatedZendesk, fake_clock: Callable[[float], FakeClock]
) -> None:
    """The page size is the largest that it takes, and what it says of a larger one is quoted."""
    client, span = client_for(zendesk.url, fake_clock(NOW).clock), Span(NOW - 60 * HOUR, NOW)
    with pytest.raises(RefusedError, match="max allowed page size is 2500"):
        client.page(ACCESS_LOGS, ACCESS_LOGS.paging.params(span.time_range, None, 2501), page_reader(ACCESS_LOGS))


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
    others = [each for each in STREAMS.values() if stream.scope not in {each.scope, "read"} and each.scope != "read"]

    assert first_page(client, stream).records
    for other in others:
        with pytest.raises(RefusedError, match="ZENDESK_OAUTH_SCOPE=read"):
            first_page(client, other)
    assert bool(others) == (stream is not ACCESS_LOGS)  # whose scope is not documented, so all of `read` is named


# Streams of one's own


def _own(name: str) -> Stream:
    return replace(INCREMENTAL_USERS, name=name, description="Users by another name.")


@pytest.fixture
def _nothing_stays_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS", dict(STREAMS))


@pytest.mark.usefixtures("_nothing_stays_registered")
def test_a_registered_stream_can_be_named() -> None:
    """Once or several times: what is registered again as it is stays as it is."""
    assert register(_own("my_users")) == register(_own("my_users"))
    assert streams.STREAMS["my_users"] == _own("my_users")


@pytest.mark.usefixtures("_nothing_stays_registered")
@pytest.mark.parametrize("name", ["audit_logs", "My-Users", "", "users2", "users/all"])
def test_names_that_are_taken_or_no_names_are_refused(name: str) -> None:
    """Names stand in object keys: two streams of one name would take each other's objects for theirs."""
    with pytest.raises(SettingsError, match=r"another stream|no name for a stream"):
        register(_own(name))
    assert streams.STREAMS == STREAMS
