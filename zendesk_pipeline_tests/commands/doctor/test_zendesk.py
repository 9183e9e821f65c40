"""What `doctor` finds of the account: against the simulated Zendesk, TLS in front of it, and hosts that are none."""

import json
import re
from pathlib import Path

import pytest
from requests.structures import CaseInsensitiveDict

from zendesk_pipeline.alerts.dagster_problems import TOKENS_END
from zendesk_pipeline.commands.doctor.clock_skew import clock_verdict
from zendesk_pipeline.commands.doctor.zendesk import (
    CURRENT_TOKEN,
    Token,
    TokenMode,
    api_token_verdict,
    identity_verdict,
    rate_verdict,
    token_verdict,
)
from zendesk_pipeline.local.services import SimulatedZendesk
from zendesk_pipeline.local.simulator.accounts import API_TOKEN, BEARER_TOKEN, CLIENT_ID, CLIENT_SECRET, EMAIL
from zendesk_pipeline.local.simulator.faults import Kind, Rule
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.asking import NOW
from zendesk_pipeline_tests.commands.doctor.contexts import MakeContext, context_maker, said, verdict_of
from zendesk_pipeline_tests.fakes import certificates
from zendesk_pipeline_tests.fakes.scripted_server import Reply, answering
from zendesk_pipeline_tests.fakes.tunnels import silent_host, tls_front
from zendesk_pipeline_tests.ports import lasting_port

OAUTH = {"AUTH_MODE": "oauth", "ZENDESK_CLIENT_ID": CLIENT_ID, "ZENDESK_CLIENT_SECRET": CLIENT_SECRET}
BEARER = {"AUTH_MODE": "bearer", "ZENDESK_BEARER_TOKEN": BEARER_TOKEN}
BOTH = ("audit_logs", "incremental_tickets")
DAY = 86_400


@pytest.fixture(autouse=True)
def _no_proxy_and_no_trust_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def make_context(zendesk: SimulatedZendesk, monkeypatch: pytest.MonkeyPatch) -> MakeContext:
    """Contexts with the simulated account and an API token."""
    return context_maker(monkeypatch, zendesk.environment, {"S3_BUCKET": "any"})


# The host


def test_a_name_that_nobody_knows_is_told(make_context: MakeContext) -> None:
    """A slip in ZENDESK_BASE_URL fails before anything is sent, and the remedy names the variable."""
    verdict = verdict_of(make_context(ZENDESK_BASE_URL="https://acme.invalid"), "zendesk_address")
    assert (verdict.status, "acme.invalid" in verdict.found) == ("failed", True)
    assert "ZENDESK_BASE_URL" in verdict.remedy


def test_a_name_that_leads_somewhere_is_fine(make_context: MakeContext) -> None:
    """As is an address, and a name that only a proxy knows."""
    assert verdict_of(make_context(ZENDESK_BASE_URL="https://localhost"), "zendesk_address").status == "ok"
    assert verdict_of(make_context(ZENDESK_BASE_URL="https://192.0.2.1"), "zendesk_address").status == "ok"
    behind = make_context(ZENDESK_BASE_URL="https://acme.invalid", HTTPS_PROXY="http://ada:proxy-password@127.0.0.1:1")
    assert verdict_of(behind, "zendesk_address").found == "A proxy looks acme.invalid up (HTTPS_PROXY)."


def test_a_host_that_answers_is_fine(make_context: MakeContext, zendesk: SimulatedZendesk) -> None:
    """One request without the credential is enough for the host and its clock."""
    context = make_context()
    assert verdict_of(context, "zendesk_host").status == "ok"
    assert verdict_of(context, "zendesk_clock").status == "ok"
    assert [seen.authorization for seen in zendesk.control.requests()] == [""]


def test_a_host_that_is_not_there_or_says_nothing_is_given_up(make_context: MakeContext) -> None:
    """A port where nobody listens, and a host that never answers: both within the time for a request."""
    nobody = make_context(ZENDESK_BASE_URL=f"http://127.0.0.1:{lasting_port()}")
    assert re.match(
        r"failed: .*gave no complete answer \(NewConnectionError\)", said(verdict_of(nobody, "zendesk_host"))
    )
    with silent_host() as silent:
        verdict = verdict_of(make_context(ZENDESK_BASE_URL=silent.url, seconds=0.3), "zendesk_host")
    assert re.match(r"failed: .*gave no complete answer \(ReadTimeoutError\)", said(verdict))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(kind="status", code=404, body="html"), r"failed: .*404.*no such address"),
        (Rule(kind="redirect", location="https://elsewhere.example/"), r"failed: .*302.*redirects"),
        (Rule(kind="status", code=503), r"failed: .*503"),
        (Rule(kind="status", code=401), "ok: "),
        (Rule(kind="status", code=403, body="html"), r"failed: .*web page titled .*IP restrictions"),
        (Rule(kind="status", code=401, body="html"), r"failed: .*web page titled .*wants a credential of its own"),
        (Rule(kind="html"), r"failed: .*answered 200 with a web page"),
    ],
    ids=["no such account", "redirect", "fault", "asks for a credential", "firewall", "gateway", "sign-in page"],
)
def test_what_answers_may_be_no_zendesk(
    make_context: MakeContext, zendesk: SimulatedZendesk, rule: Rule, expected: str
) -> None:
    """A wrong subdomain, an address that leads on, and maintenance are told apart from an account that is there."""
    zendesk.control.add_faults(rule)
    assert re.match(expected, said(verdict_of(make_context(), "zendesk_host")))


def test_a_403_to_whoever_asks_is_no_matter_of_role_or_scope(
    make_context: MakeContext, zendesk: SimulatedZendesk
) -> None:
    """IP restrictions or a suspended account: the API itself refuses users/me."""
    zendesk.control.add_faults(Rule(path="users/me", kind="status", code=403, times=0))
    assert re.match(
        r"failed: .*answered 403 to /api/v2/users/me.*IP restrictions", said(verdict_of(make_context(), "zendesk_user"))
    )


@pytest.mark.parametrize(("to_day", "status"), [(100, "ok"), (3, "warning")])
def test_a_certificates_end_is_told_in_time(
    make_context: MakeContext, zendesk: SimulatedZendesk, tmp_path: Path, to_day: int, status: str
) -> None:
    """Its last day is in the line; two weeks before it is a warning."""
    ours = certificates.authority(tmp_path)
    with tls_front(zendesk.url, certificates.server(tmp_path, ours, to_day=to_day).path) as front:
        trusted = str(certificates.bundle(tmp_path, [ours]))
        url = f"https://localhost:{front.port}"
        verdict = verdict_of(
            make_context(clock=Clock(), ZENDESK_BASE_URL=url, REQUESTS_CA_BUNDLE=trusted), "zendesk_host"
        )
    assert (verdict.status, f"ends in {to_day} days" in verdict.found) == (status, True)


def test_a_host_that_vouches_for_itself_is_refused(
    make_context: MakeContext, zendesk: SimulatedZendesk, tmp_path: Path
) -> None:
    """A certificate of no authority: failed, REQUESTS_CA_BUNDLE named, and nothing of a request was sent."""
    with tls_front(zendesk.url, certificates.server(tmp_path, None).path) as front:
        verdict = verdict_of(make_context(ZENDESK_BASE_URL=f"https://localhost:{front.port}"), "zendesk_host")
    assert (verdict.status, "REQUESTS_CA_BUNDLE" in verdict.found) == ("failed", True)
    assert bytes(front.received) == b""


@pytest.mark.parametrize(
    ("behind", "status"), [(0, "ok"), (29, "ok"), (31, "warning"), (-31, "warning"), (301, "failed"), (-301, "failed")]
)
def test_a_clock_that_is_off_is_told_by_how_much(
    make_context: MakeContext, zendesk: SimulatedZendesk, behind: int, status: str
) -> None:
    """By Zendesk's Date header; thirty seconds are noticeable, five minutes are a settled window."""
    zendesk.control.set_clock(NOW - behind)
    verdict = verdict_of(make_context(), "zendesk_clock")
    assert verdict.status == status
    assert status == "ok" or f"{abs(behind)} s {'ahead of' if behind > 0 else 'behind'}" in verdict.found


def test_an_answer_without_a_date_says_nothing_of_clocks() -> None:
    """Neither a missing nor a strange date is held against the machine."""
    assert [clock_verdict("S3's", date, NOW).status for date in (None, "soon")] == ["not visible"] * 2


# The credential


@pytest.mark.parametrize("mode", [{}, OAUTH, BEARER], ids=["token", "oauth", "bearer"])
def test_an_admins_credential_is_known_by_number(make_context: MakeContext, mode: dict[str, str]) -> None:
    """Neither name nor address of the person is told."""
    verdict = verdict_of(make_context(**mode), "zendesk_user")
    assert verdict.status == "ok"
    assert re.search(r"user \d+, an admin", verdict.found)
    assert (EMAIL in said(verdict), "Simulated Admin" in said(verdict)) == (False, False)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"ZENDESK_API_TOKEN": "wrong"}, "does not know the credential.*ZENDESK_API_TOKEN"),
        ({**BEARER, "ZENDESK_BEARER_TOKEN": "wrong"}, "does not know the credential.*ZENDESK_BEARER_TOKEN"),
        ({**OAUTH, "ZENDESK_CLIENT_SECRET": "wrong"}, "OAuth client is not accepted.*ZENDESK_CLIENT_SECRET"),
    ],
    ids=["token", "bearer", "oauth"],
)
def test_a_credential_that_is_refused_names_its_variable(
    make_context: MakeContext, others: dict[str, str], expected: str
) -> None:
    """Zendesk answers 200 to an unknown credential: what it says counts."""
    assert re.match(f"failed: .*{expected}", said(verdict_of(make_context(**others), "zendesk_user")))


def test_a_user_who_is_no_admin_fails(make_context: MakeContext, zendesk: SimulatedZendesk) -> None:
    """Exports and audit logs are for admins."""
    zendesk.control.set(role="agent")
    assert re.match(r"failed: .*role is agent.* An admin's is needed", said(verdict_of(make_context(), "zendesk_user")))
    assert identity_verdict(1, None, "").status == "failed"


def test_a_scope_too_narrow_for_the_question_is_no_fault(make_context: MakeContext) -> None:
    """With `auditlogs:read tickets:read` users/me may be closed: then the streams tell."""
    closed = Reply(b'{"error":"Forbidden","description":"Missing the following required scopes: users:read"}', 403)
    with answering(closed) as server:
        context = make_context(ZENDESK_BASE_URL=server.url, **BEARER)
        assert [verdict_of(context, name).status for name in ("zendesk_user", "zendesk_token")] == ["not visible"] * 2


def test_an_oauth_token_is_fine_and_says_its_scopes(make_context: MakeContext) -> None:
    """The one that the pipeline itself asks for, of two hours; it renews itself."""
    verdict = verdict_of(make_context(**OAUTH), "zendesk_token")
    assert verdict.status == "ok"
    assert "the collector makes new ones by itself. Its scopes: read." in verdict.found


@pytest.mark.parametrize(
    ("scope", "status", "named"),
    [
        ("read", "ok", "read"),
        ("auditlogs:read tickets:read", "ok", "auditlogs:read tickets:read"),
        ("tickets:read", "warning", "auditlogs:read is not among them"),
        ("read write", "warning", "more than read: write"),
    ],
)
def test_scopes_are_those_of_the_streams(scope: str, status: str, named: str) -> None:
    """Zendesk issues a token of any scope: one that lacks a stream's, or may write, is a warning."""
    verdict = token_verdict("oauth", Token(scopes=scope.split(), ends_at=None), BOTH, NOW)
    assert (verdict.status, named in verdict.found) == (status, True)


def test_a_token_that_may_write_is_a_warning(make_context: MakeContext) -> None:
    """As the account itself describes it."""
    verdict = verdict_of(make_context(**OAUTH, ZENDESK_OAUTH_SCOPE="read write"), "zendesk_token")
    assert re.match(r"warning: The token may do more than read: write\..*ZENDESK_OAUTH_SCOPE=read", said(verdict))


def test_a_bearer_token_cannot_be_renewed(make_context: MakeContext) -> None:
    """A warning with its end, where Zendesk names one."""
    verdict = verdict_of(make_context(**BEARER), "zendesk_token")
    assert re.match(r"warning: .*cannot be renewed; Zendesk names no end.*AUTH_MODE=oauth", said(verdict))
    ending = token_verdict("bearer", Token(scopes=["read"], ends_at=NOW + 5400), BOTH, NOW)
    assert (ending.status, "in 1.5 hours" in ending.found) == ("warning", True)


@pytest.mark.parametrize("mode", ["oauth", "oauth_refresh"])
def test_a_token_that_is_renewed_is_fine(mode: TokenMode) -> None:
    """Its end is told; nothing has to be done about it, and no other mode is named."""
    verdict = token_verdict(mode, Token(scopes=["read"], ends_at=NOW + 5400), BOTH, NOW)
    assert (verdict.status, verdict.remedy) == ("ok", "")
    assert "bearer" not in verdict.found


def test_api_tokens_end(make_context: MakeContext) -> None:
    """A warning with the days that are left, and after the last one a failure."""
    assert re.match(
        r"warning: .*end on 2027-04-30, in \d+ days.*AUTH_MODE=oauth", said(verdict_of(make_context(), "zendesk_token"))
    )
    last = TOKENS_END.timestamp()
    assert [api_token_verdict(last + off).status for off in (-DAY, 1)] == ["warning", "failed"]


def test_a_token_that_zendesk_does_not_describe_is_no_fault(
    make_context: MakeContext, zendesk: SimulatedZendesk
) -> None:
    """404, or an answer that is not understood."""
    zendesk.control.add_faults(Rule(path="tokens/current", kind="status", code=404))
    context = make_context(**BEARER)
    assert verdict_of(context, "zendesk_token").status == "not visible"
    zendesk.control.clear_faults()
    zendesk.control.add_faults(Rule(path="tokens/current", kind="html"))
    assert verdict_of(context, "zendesk_token").status == "not visible"


def test_the_simulated_account_describes_tokens_as_zendesk_does(make_context: MakeContext) -> None:
    """Scopes as a list, the end as a time, and of the token its beginning alone; an API token has no such page."""
    answer = make_context(**OAUTH).asked(CURRENT_TOKEN)
    token = json.loads(answer.body)["token"]
    assert (token["scopes"], len(token["token"])) == (["read"], 13)
    assert token["expires_at"] == "2026-11-14T14:00:00Z"
    assert make_context(AUTH_MODE="token", ZENDESK_API_TOKEN=API_TOKEN).asked(CURRENT_TOKEN).status == 404


# What it may read


def test_streams_cost_a_request_each(make_context: MakeContext, zendesk: SimulatedZendesk) -> None:
    """One small page of each stream of RESOURCES, and none of the others."""
    assert verdict_of(make_context(), "zendesk_streams").status == "ok"
    asked = {seen.path: dict(seen.pairs) for seen in zendesk.control.requests()}
    assert len(zendesk.control.requests()) == 2
    assert (asked["/api/v2/audit_logs"]["page[size]"], asked["/api/v2/incremental/tickets/cursor"]["per_page"]) == (
        "1",
        "1",
    )
    zendesk.control.forget_requests()
    assert verdict_of(make_context(RESOURCES="audit_logs"), "zendesk_streams").status == "ok"
    assert list(zendesk.control.counts().path) == ["/api/v2/audit_logs"]


def test_audit_logs_need_the_plan(make_context: MakeContext, zendesk: SimulatedZendesk) -> None:
    """403 to an admin: the plan's sentence, while the other stream is left out of the line."""
    zendesk.control.set(plan="professional")
    verdict = verdict_of(make_context(), "zendesk_streams")
    assert (verdict.status, "Enterprise plan" in verdict.found + verdict.remedy) == ("failed", True)
    assert "incremental_tickets" not in verdict.found
    assert verdict_of(make_context(RESOURCES="incremental_tickets"), "zendesk_streams").status == "ok"


def test_a_scope_that_does_not_cover_a_stream_is_named(make_context: MakeContext) -> None:
    """OAuth with the scope of the other stream."""
    verdict = verdict_of(make_context(**OAUTH, ZENDESK_OAUTH_SCOPE="tickets:read"), "zendesk_streams")
    assert re.match(r"failed: audit_logs cannot be read.*ZENDESK_OAUTH_SCOPE", said(verdict))


def test_a_limit_that_is_used_up_is_a_warning_without_waiting(
    make_context: MakeContext, zendesk: SimulatedZendesk
) -> None:
    """A 429 of the export's is not waited out, and says that something else asks too."""
    zendesk.control.add_faults(Rule(path="incremental", kind="status", code=429, retry_after="seconds:41"))
    verdict = verdict_of(make_context(), "zendesk_streams")
    assert re.match(r"warning: incremental_tickets was not asked for.*41 s of waiting", said(verdict))


def test_what_is_no_page_fails(make_context: MakeContext, zendesk: SimulatedZendesk) -> None:
    """200 with HTML or with an empty object is no stream; nothing of it is shown."""
    expected: dict[Kind, str] = {"html": "200 with a web page", "empty_object": "200 to /api/v2/audit_logs without"}
    for kind, words in expected.items():
        zendesk.control.clear_faults()
        zendesk.control.add_faults(Rule(path="audit_logs", kind=kind))
        verdict = verdict_of(make_context(), "zendesk_streams")
        assert (verdict.status, words in verdict.remedy) == ("failed", True)


# Rate limits


def _budget(limit: int, remaining: int) -> CaseInsensitiveDict[str]:
    return CaseInsensitiveDict({"X-Rate-Limit": str(limit), "X-Rate-Limit-Remaining": str(remaining)})


def test_limits_are_those_of_the_headers(make_context: MakeContext, zendesk: SimulatedZendesk) -> None:
    """The account's limit, what is left of it, and the part that the settings take."""
    zendesk.control.set(account_limit=400)
    verdict = verdict_of(make_context(ZENDESK_RATE_SHARE="0.25"), "zendesk_limits")
    assert verdict.status == "ok"
    assert re.match(r"400 requests a minute, 399 left now; the collector takes up to 100 of them", verdict.found)


@pytest.mark.parametrize(
    ("limit", "remaining", "settings", "named"),
    [
        (700, 69, {}, "something else uses them up"),
        (700, 700, {"zendesk_export_rate": 30}, "High Volume"),
        (2500, 2500, {"zendesk_export_rate": 31}, "ZENDESK_EXPORT_RATE=30"),
        (10, 10, {"zendesk_rate_share": 0.05}, "less than one"),
    ],
)
def test_limits_that_do_not_fit_are_warnings(
    limit: int, remaining: int, settings: dict[str, float], named: str
) -> None:
    """Others that use the budget up, and settings beyond what the account's limit allows."""
    verdict = rate_verdict(_budget(limit, remaining), Settings(**settings))  # pyright: ignore[reportArgumentType]  # floats all of them
    assert (verdict.status, named in said(verdict)) == ("warning", True)


def test_limits_that_fit_are_fine() -> None:
    """The add-on's thirty, a tenth of the budget left; and headers that say nothing are no fault."""
    chosen = Settings(zendesk_export_rate=30)
    assert rate_verdict(_budget(2500, 250), chosen).status == "ok"
    assert rate_verdict(CaseInsensitiveDict[str](), chosen).status == "not visible"
