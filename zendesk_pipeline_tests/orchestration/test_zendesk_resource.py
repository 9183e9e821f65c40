"""The Zendesk account as a resource: each setting, from the environment to what Zendesk receives."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pytest

from zendesk_pipeline.definitions import build
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, BEARER_TOKEN, CLIENT_ID, CLIENT_SECRET, EMAIL
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.errors import PageLimitError, RefusedError, SettingsError, TransientError
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import AUDIT_LOGS, INCREMENTAL_TICKETS, Stream
from zendesk_pipeline.orchestration.zendesk_resource import ZendeskResource
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests.asking import DAY, NOW
from zendesk_pipeline_tests.conftest import FakeClock
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering, audit_logs_page
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET

SECRETS = {
    "ZENDESK_CLIENT_ID": CLIENT_ID,
    "ZENDESK_CLIENT_SECRET": CLIENT_SECRET,
    "ZENDESK_EMAIL": EMAIL,
    "ZENDESK_API_TOKEN": API_TOKEN,
    "ZENDESK_BEARER_TOKEN": BEARER_TOKEN,
}
NEEDED = {
    "oauth": ("ZENDESK_CLIENT_ID", "ZENDESK_CLIENT_SECRET"),
    "token": ("ZENDESK_EMAIL", "ZENDESK_API_TOKEN"),
    "bearer": ("ZENDESK_BEARER_TOKEN",),
}
MODES_AND_NAMES = [pytest.param(mode, name, id=f"{mode}-{name}") for mode, names in NEEDED.items() for name in names]


class Account:
    """The resource that an environment makes, on a clock that only sleeping moves."""

    def __init__(self, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, now: float = NOW) -> None:
        self.fake = FakeClock(now)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            self.defined: Any = (build(settings.load()).resources or {})["zendesk"]
            # what Dagster does when a run starts, for a hundredth of its time
            values = {name: _value(held) for name, held in self.defined.model_dump().items()}
            self.resource = ZendeskResource(**values)
        self.resource._clock = self.fake.clock

    def read(self, stream: Stream = AUDIT_LOGS) -> list[Page]:
        """Every page of a day."""
        return list(self.resource.walk(stream, DAY, self.resource.lookback(stream)).pages())

    def begin(self, stream: Stream = AUDIT_LOGS) -> Page:
        """The first page of it."""
        return next(self.resource.walk(stream, DAY, self.resource.lookback(stream)).pages())


def _value(held: Any) -> Any:
    return held.get_value() if isinstance(held, dg.EnvVar) else held


Accounts = Callable[..., Account]


@pytest.fixture
def account(zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    """Makes the simulated account's resource, with other settings than its own where they are given."""

    def make(now: float = NOW, **others: str) -> Account:
        return Account({**zendesk.environment, **others}, monkeypatch, now)

    return make


# What each setting changes


def test_zendesk_base_url_is_where_requests_go(account: Accounts, zendesk: SimulatedZendesk) -> None:
    """That host and no other."""
    with answering(Reply(audit_logs_page())) as other:
        account(ZENDESK_BASE_URL=f"{other.url}/").begin()
    assert [seen.path for seen in other.received] == ["/api/v2/audit_logs"]
    assert zendesk.control.requests() == []


@pytest.mark.parametrize(
    ("mode", "authorization"),
    [
        pytest.param("token", r"Basic \S+", id="token"),
        pytest.param("bearer", f"Bearer {BEARER_TOKEN}", id="bearer"),
        pytest.param("oauth", r"Bearer [0-9a-f]{64}", id="oauth"),
    ],
)
def test_auth_mode_is_how_we_prove_who_we_are(
    mode: str, authorization: str, account: Accounts, zendesk: SimulatedZendesk
) -> None:
    """With every credential set the mode decides which one is used."""
    account(**SECRETS, AUTH_MODE=mode).begin()
    used = {seen.authorization for seen in zendesk.control.requests() if seen.method == "GET"}
    assert len(used) == 1
    assert re.fullmatch(authorization, used.pop())
    assert ("/oauth/tokens" in zendesk.control.counts().path) == (mode == "oauth")


@pytest.mark.parametrize(("mode", "name"), MODES_AND_NAMES)
def test_every_part_of_a_credential_counts(mode: str, name: str, account: Accounts, zendesk: SimulatedZendesk) -> None:
    """With a wrong one in its place nothing is read, and the error names it."""
    with pytest.raises(RefusedError, match=name):
        account(**{**SECRETS, name: "wrong"}, AUTH_MODE=mode).begin()
    assert "200" not in zendesk.control.counts().status


def test_zendesk_oauth_scope_is_asked_for(account: Accounts) -> None:
    """A narrow scope reads its own stream and no other; by default both are read."""
    oauth = {**SECRETS, "AUTH_MODE": "oauth"}
    narrow = account(**oauth, ZENDESK_OAUTH_SCOPE="auditlogs:read")
    assert narrow.begin(AUDIT_LOGS).records
    with pytest.raises(RefusedError, match="ZENDESK_OAUTH_SCOPE"):
        narrow.begin(INCREMENTAL_TICKETS)
    assert account(**oauth).begin(INCREMENTAL_TICKETS).records


@pytest.mark.parametrize(("retries", "requests"), [("0", 1), ("2", 3), ("", 4)])
def test_http_retries_is_how_often_a_fault_is_tried_again(
    retries: str, requests: int, account: Accounts, zendesk: SimulatedZendesk
) -> None:
    """Zendesk sees so many requests after the first; three if nothing is set."""
    zendesk.control.add_faults(Rule(path="audit_logs", kind="status", code=500, times=0))
    with pytest.raises(TransientError):
        account(HTTP_RETRIES=retries).begin()
    assert len(zendesk.control.requests()) == requests


def test_http_timeout_is_how_long_zendesk_may_be_silent(account: Accounts, zendesk: SimulatedZendesk) -> None:
    """What is too long for a tenth of a second is not for a minute."""
    zendesk.control.set(latency_ms=300)
    with pytest.raises(TransientError, match="ReadTimeoutError"):
        account(HTTP_TIMEOUT="0.1", HTTP_RETRIES="0").begin()
    assert account().begin().records


@pytest.mark.parametrize(("rate", "waits"), [("1", 7), ("3", 2), ("", 0), ("30", 0)])
def test_zendesk_export_rate_paces_the_export(rate: str, waits: int, account: Accounts) -> None:
    """Eight pages at so many a minute; ten if nothing is set. The other stream is not paced by it."""
    paced = account(ZENDESK_EXPORT_RATE=rate)
    assert len(paced.read(INCREMENTAL_TICKETS)) == 8
    assert sum(paced.fake.slept) == 60 * waits
    other = account(ZENDESK_EXPORT_RATE="1")
    other.read(AUDIT_LOGS)
    assert other.fake.slept == []


@pytest.mark.parametrize(("share", "waits"), [("0.1", 2), ("0.2", 1), ("", 0), ("1", 0)])
def test_zendesk_rate_share_paces_the_rest(
    share: str, waits: int, account: Accounts, zendesk: SimulatedZendesk
) -> None:
    """Ten pages at a share of forty requests a minute; half if nothing is set. The export is not paced by it."""
    zendesk.control.set(account_limit=40)
    paced = account(ZENDESK_RATE_SHARE=share)
    assert len(paced.read(AUDIT_LOGS)) == 10
    assert sum(paced.fake.slept) == 60 * waits
    other = account(ZENDESK_RATE_SHARE="0.01")
    other.read(INCREMENTAL_TICKETS)
    assert other.fake.slept == []


@pytest.mark.parametrize(("seconds", "waits"), [("60", []), ("61", [1]), ("", [240]), ("900", [840])])
def test_settle_seconds_is_how_long_a_range_settles(seconds: str, waits: list[float], account: Accounts) -> None:
    """A minute after its end the rest of it is waited for; five minutes in all if nothing is set."""
    early = account(now=DAY.end + 60, SETTLE_SECONDS=seconds)
    early.begin()
    assert early.fake.slept == waits


@pytest.mark.parametrize(
    ("seconds", "start", "before"),
    [
        ("0", "2026-11-12T23:59:59Z", 0),
        ("7200", "2026-11-12T21:59:59Z", 7200),
        ("", "2026-11-12T22:59:59Z", 3600),
    ],
)
def test_lookback_seconds_is_how_far_is_read_back(
    seconds: str, start: str, before: int, account: Accounts, zendesk: SimulatedZendesk
) -> None:
    """Before the range, of every stream that can show records late; an hour if nothing is set."""
    back = account(LOOKBACK_SECONDS=seconds)
    back.begin(AUDIT_LOGS)
    back.begin(INCREMENTAL_TICKETS)
    starts = [seen.pairs[0] for seen in zendesk.control.requests()]
    assert starts == [("filter[created_at][]", start), ("start_time", str(DAY.start - before))]


def test_what_nobody_waits_for_is_read_at_half_the_rate_and_bounded(
    account: Accounts, zendesk: SimulatedZendesk
) -> None:
    """Of four requests a minute two go out, and after three pages it ends, or after MAX_PAGES if that is fewer."""
    spare = account(ZENDESK_EXPORT_RATE="4")
    with pytest.raises(PageLimitError):
        list(spare.resource.spare_pages(INCREMENTAL_TICKETS, DAY, most=3))
    assert len(zendesk.control.requests()) == 3
    assert sum(spare.fake.slept) == pytest.approx(60)
    zendesk.control.forget_requests()
    with pytest.raises(PageLimitError):
        list(account(MAX_PAGES="2").resource.spare_pages(INCREMENTAL_TICKETS, DAY, most=3))
    assert len(zendesk.control.requests()) == 2


def test_max_pages_bounds_a_run(account: Accounts, zendesk: SimulatedZendesk) -> None:
    """Three pages and no more; without it there is no bound."""
    with pytest.raises(PageLimitError, match="MAX_PAGES=3"):
        account(MAX_PAGES="3").read()
    assert len(zendesk.control.requests()) == 3
    assert len(account().read()) == 10


def test_resources_and_start_date_make_the_assets(monkeypatch: pytest.MonkeyPatch) -> None:
    """An asset for each stream that is named, and windows from the date on."""
    monkeypatch.setenv("RESOURCES", "incremental_tickets")
    monkeypatch.setenv("START_DATE", "2026-11-12T05:00Z")
    graph = build(settings.load()).resolve_asset_graph()
    assert [key.to_user_string() for key in graph.materializable_asset_keys] == ["incremental_tickets"]
    windows = graph.get(dg.AssetKey("incremental_tickets")).partitions_def
    assert windows is not None
    assert windows.get_first_partition_key() == "2026-11-12-05:00"


# What lacks or is wrong


@pytest.mark.parametrize(("mode", "name"), MODES_AND_NAMES)
def test_a_credential_that_lacks_is_named(mode: str, name: str, account: Accounts, zendesk: SimulatedZendesk) -> None:
    """The error names the variable, the mode that needs it, and where it comes from; nothing is sent."""
    with pytest.raises(SettingsError, match=rf"^{name} is not set, and AUTH_MODE={mode} needs it: .+\.$"):
        account(**{**SECRETS, name: ""}, AUTH_MODE=mode).begin()
    assert zendesk.control.requests() == []


@pytest.mark.parametrize(("mode", "name"), MODES_AND_NAMES)
@pytest.mark.parametrize("blank", ["\n", " "])
def test_a_credential_with_a_line_end_is_named(
    blank: str, mode: str, name: str, account: Accounts, zendesk: SimulatedZendesk
) -> None:
    """As a file's last line brings one along: said at once and by name, and without the secret."""
    with pytest.raises(SettingsError, match=f"^{name} .*copy it again") as raised:
        account(**{**SECRETS, name: SECRETS[name] + blank}, AUTH_MODE=mode).begin()
    assert SECRETS[name] not in repr(raised.value)
    assert zendesk.control.requests() == []


def test_an_address_that_lacks_is_named(account: Accounts) -> None:
    """The definitions load without it, a run says what lacks."""
    with pytest.raises(SettingsError, match=r"ZENDESK_BASE_URL is not set.*https://acme\.zendesk\.com"):
        account(ZENDESK_BASE_URL="").begin()


@pytest.mark.parametrize(
    ("url", "mode", "says"),
    [
        pytest.param("http://acme.zendesk.com", "token", "ZENDESK_BASE_URL is wrong: .*https://", id="http"),
        pytest.param("https://ada:Sesame@acme.zendesk.com", "token", "ZENDESK_BASE_URL is wrong", id="credentials"),
        pytest.param("https://acme.zendesk.com/api", "token", "ZENDESK_BASE_URL is wrong", id="path"),
        pytest.param("https://acme.zendesk.com", "basic", "AUTH_MODE=basic is none of oauth, token", id="mode"),
    ],
)
def test_a_resource_made_by_hand_is_checked_too(url: str, mode: str, says: str) -> None:
    """Values that code gives meet the same rules as the environment's."""
    by_hand = ZendeskResource(base_url=url, auth_mode=mode, email="ada@example.com", api_token="t")
    with pytest.raises(SettingsError, match=says) as raised:
        by_hand.client()
    assert "Sesame" not in repr(raised.value)


# What is never shown


def test_a_resource_does_not_show_its_secrets() -> None:
    """Neither does the client that it makes."""
    for mode in NEEDED:
        resource = ZendeskResource(
            base_url="https://acme.zendesk.com",
            auth_mode=mode,
            client_id="known",
            client_secret="Sesame-1",
            email="Sesame-2",
            api_token="Sesame-3",
            bearer_token="Sesame-4",
        )
        client = resource.client()
        shown = [repr(resource), str(resource), f"{resource}", repr(client), str(client)]
        assert not [text for text in shown if "Sesame" in text]
        assert all("https://acme.zendesk.com" in text for text in shown)


def test_dagster_knows_secrets_by_name_only(account: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the definitions hold, and so Dagster's storage and UI, are the variables' names; a run reads the values."""
    defined = account(**SECRETS).defined
    held = repr(dict(defined)) + repr(defined.model_dump()) + repr(defined)
    assert not [value for value in SECRETS.values() if value in held]
    assert all(name in held for name in SECRETS)

    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    started = defined.process_config_and_initialize()
    assert [started.client_id, started.client_secret, started.email, started.api_token, started.bearer_token] == [
        *SECRETS.values()
    ]
