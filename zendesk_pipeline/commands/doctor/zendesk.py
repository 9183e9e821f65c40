"""The account: its host, the credential, what that may read, and the rate limits."""

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from ipaddress import ip_address
from typing import Literal, assert_never
from urllib.parse import urlsplit

import msgspec
from requests.utils import get_environ_proxies

from zendesk_pipeline.alerts.dagster_problems import TOKENS_END
from zendesk_pipeline.commands.doctor.clock_skew import clock_verdict
from zendesk_pipeline.commands.doctor.context import ME, Context
from zendesk_pipeline.commands.doctor.verdicts import Verdict, failed, not_visible, ok, together, warning
from zendesk_pipeline.model.errors import PipelineError, ProtocolError, RefusedError, StarvedError
from zendesk_pipeline.model.rate_budgets import EXPORT_RATE, HIGH_VOLUME_EXPORT_RATE
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.zendesk.error_answers import IN_FRONT, SCOPE_IS_NARROW, error_of, is_web_page, quote
from zendesk_pipeline.zendesk.rate_limits import HEADROOM, account_budget, moment_of

DAY = 86_400.0
DAY_HOURS = 24
"""Hours that are asked for of a stream which may be switched off."""
TokenMode = Literal["oauth", "oauth_refresh", "bearer"]
"""The values of AUTH_MODE that sign with an access token."""
CERTIFICATE_DAYS = 14
"""Automatic renewal happens well before this."""
CURRENT_TOKEN = "/api/v2/oauth/tokens/current"  # noqa: S105  # a path
"""https://developer.zendesk.com/api-reference/ticketing/oauth/oauth_tokens/"""
HIGH_VOLUME = 2500
"""Requests a minute of an account that has the High Volume add-on.

https://developer.zendesk.com/api-reference/introduction/rate-limits/
"""
OWN_ADDRESS = "Open ZENDESK_BASE_URL in a browser: is it the account's own address?"
NOT_ACCEPTED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
"""What Zendesk may answer without a credential."""


# The host


def address(context: Context) -> Verdict:
    """The name of the account's host has an address."""
    url = context.settings.zendesk_base_url
    host = urlsplit(url).hostname or ""
    if get_environ_proxies(url).get(urlsplit(url).scheme):
        return ok(f"A proxy looks {host} up (HTTPS_PROXY).")
    with suppress(ValueError):
        return ok(f"{ip_address(host)} is an address already.")
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, urlsplit(url).port or 443)}
    except OSError as problem:
        return failed(
            f"The name {host} cannot be looked up ({type(problem).__name__}).",
            "Check ZENDESK_BASE_URL for a typing error, and this machine's DNS.",
        )
    return ok(f"{host} has {len(found)} address{'es' if len(found) > 1 else ''}.")


def host(context: Context) -> Verdict:
    """It answers, proves by TLS who it is, and is a Zendesk."""
    hello = context.hello
    answer, ends_at = hello.answer, hello.certificate_ends_at
    if is_web_page(answer.headers, answer.body):
        problem = error_of(ME, answer.status, answer.headers, answer.body, remedy="", now=hello.heard_at)
        return failed(problem.message, "" if IN_FRONT in problem.message else IN_FRONT)
    if answer.status not in {HTTPStatus.OK, *NOT_ACCEPTED}:
        problem = error_of(ME, answer.status, answer.headers, b"", remedy="", now=hello.heard_at)
        theirs = answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        return failed(problem.message, "Look at https://status.zendesk.com, and try again." if theirs else OWN_ADDRESS)
    if context.settings.zendesk_base_url.startswith("http:"):
        return ok("It answers, on this machine, without TLS.")
    if ends_at is None:
        return ok("It answers, and proves by TLS who it is.")
    days = (ends_at - hello.heard_at) / DAY
    what = f"It answers; its certificate ends in {days:.0f} days, on {datetime.fromtimestamp(ends_at, UTC):%Y-%m-%d}"
    if days < CERTIFICATE_DAYS:
        return warning(
            f"{what}.",
            "A certificate of your own (a host-mapped address, a proxy that opens TLS) has to be renewed by you;"
            " Zendesk renews its own.",
        )
    return ok(f"{what}.")


def clock(context: Context) -> Verdict:
    """Zendesk's clock against this machine's: windows settle by ours."""
    hello = context.hello
    return clock_verdict("Zendesk's", hello.answer.headers.get("Date"), hello.heard_at)


# The credential


def identity(context: Context) -> Verdict:
    """Zendesk knows the credential, and it is an admin's."""
    client = context.zendesk
    try:
        number, role = client.who()
    except PipelineError as problem:
        if SCOPE_IS_NARROW in problem.message:
            return not_visible(
                "The token's scope does not allow asking whose it is.",
                "Nothing has to be done if zendesk_streams is ok: it asks for the records themselves.",
            )
        if isinstance(problem, RefusedError) and problem.unclear == HTTPStatus.FORBIDDEN:
            return failed(problem.message, IN_FRONT)
        raise
    return identity_verdict(number, role, client.credential.remedy)


def identity_verdict(number: int | None, role: str | None, remedy: str) -> Verdict:
    """Zendesk answers 200 to an unknown credential as well: the number tells."""
    if number is None:
        return failed("Zendesk does not know the credential.", remedy)
    if role != "admin":
        return failed(f"The credential is that of user {number}, whose role is {role}.", "An admin's is needed.")
    return ok(f"The credential is that of user {number}, an admin.")


class _Token(msgspec.Struct):
    scopes: list[str] = []
    expires_at: str | None = None


class _CurrentToken(msgspec.Struct):
    token: _Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What Zendesk says of the access token that asks."""

    scopes: Sequence[str]
    ends_at: float | None
    """Seconds since the epoch, None for never."""


def token(context: Context) -> Verdict:
    """When the credential ends, and what an access token may do."""
    mode, now = context.settings.auth_mode, context.clock.now()
    match mode:
        case "token":
            return api_token_verdict(now)
        case "oauth" | "oauth_refresh" | "bearer":
            pass
        case _:
            assert_never(mode)
    answer = context.asked(CURRENT_TOKEN)
    if answer.status != HTTPStatus.OK:
        said = quote(answer.body)
        return not_visible(
            f"Zendesk does not show this token's properties ({answer.status}{': ' + said if said else ''}).",
            "Its scope may not allow this; zendesk_streams shows whether it is wide enough.",
        )
    try:
        found = msgspec.json.decode(answer.body, type=_CurrentToken).token
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return not_visible("Zendesk's answer about this token is not understood here.", "")
    ends_at = moment_of(found.expires_at) if found.expires_at else None
    return token_verdict(mode, Token(scopes=found.scopes, ends_at=ends_at), context.settings.resources, now)


def api_token_verdict(now: float) -> Verdict:
    """Of AUTH_MODE=token.

    https://developer.zendesk.com/documentation/api-basics/authentication/oauth-migration/
    """
    days, end = (TOKENS_END.timestamp() - now) / DAY, f"{TOKENS_END:%Y-%m-%d}"
    move = "Make an OAuth client and set AUTH_MODE=oauth (docs/production.md#create-an-oauth-client)."
    if days <= 0:
        return failed(f"API tokens ended on {end}.", move)
    return warning(
        f"API tokens end on {end}, in {days:.0f} days. No new ones can be made, and those unused for 30 days end"
        " earlier.",
        move,
    )


def token_verdict(mode: TokenMode, found: Token, resources: Sequence[str], now: float) -> Verdict:
    """Of an access token, for these streams."""
    scopes = set(found.scopes)
    said = " ".join(sorted(scopes)) or "none"
    missing = sorted({STREAMS[name].scope for name in resources} - scopes) if "read" not in scopes else []
    wide = sorted(scope for scope in scopes if scope in {"write", "impersonate"} or scope.endswith(":write"))
    scope = ok(f"Its scopes: {said}.")
    if missing:
        scope = warning(
            f"The token's scopes are {said}; {' '.join(missing)} is not among them.",
            f"Set ZENDESK_OAUTH_SCOPE to read, or add {' '.join(missing)}.",
        )
    elif wide:
        scope = warning(
            f"The token may do more than read: {' '.join(wide)}.",
            "The collector only reads: set ZENDESK_OAUTH_SCOPE=read, and the OAuth client's allowed scopes to read.",
        )
    return together([_end(mode, found.ends_at, now), scope])


def _end(mode: TokenMode, ends_at: float | None, now: float) -> Verdict:
    when = "" if ends_at is None else f"{datetime.fromtimestamp(ends_at, UTC):%Y-%m-%d %H:%M} UTC"
    end = f"ends at {when}" if when else "names no end"
    match mode:
        case "oauth":
            return ok(f"The access token {end}; the collector makes new ones by itself.")
        case "oauth_refresh":
            return ok(f"The access token {end}; runs replace it with its refresh token.")
        case "bearer":
            left = f"it {end}, in {(ends_at - now) / 3600:.1f} hours" if ends_at else "Zendesk names no end of it"
            return warning(
                f"The token of AUTH_MODE=bearer cannot be renewed; {left}.",
                "It is for trying things out: set AUTH_MODE=oauth (docs/production.md#create-an-oauth-client).",
            )
        case _:
            assert_never(mode)


# What it may read


def streams(context: Context) -> Verdict:
    """Each stream of RESOURCES can be read: one request each, which counts towards the export's ten a minute."""
    return together([_stream(context, STREAMS[name]) for name in context.settings.resources])


def _stream(context: Context, stream: Stream) -> Verdict:
    window = context.past_window
    span = Span(window.end - DAY_HOURS * HOUR, window.end) if stream.switch else window
    params = stream.paging.params(span.time_range, None, 1)
    try:
        shown, _ = context.zendesk.page(stream, params, lambda body: _envelope(stream, body))
    except StarvedError as used_up:
        return warning(f"{stream.name} was not asked for.", used_up.message)
    except PipelineError as problem:
        return failed(f"{stream.name} cannot be read.", problem.message)
    if stream.switch and not shown:
        return warning(
            f"{stream.name} can be read, and shows not one record of a whole day: it is off, or nobody and nothing"
            " asked Zendesk on that day.",
            f"Switch it on ({stream.switch}), and run this again an hour later: each request of the collector's makes a"
            " record. Zendesk records nothing before.",
        )
    return ok(f"{stream.name} can be read.")


def _envelope(stream: Stream, body: bytes) -> bool:
    """Whether a page has a record; raises ProtocolError for anything else. Records are not read."""
    try:
        page = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        page = dict[str, msgspec.Raw]()
    if stream.items not in page:
        raise ProtocolError(f"Zendesk answered 200 to {stream.path} without {stream.items}: check ZENDESK_BASE_URL.")
    return bytes(page[stream.items]).strip(b"[] \t\r\n") != b""


# Rate limits


def rate_limits(context: Context) -> Verdict:
    """The account's limit and what is left of it, against the settings."""
    return rate_verdict(context.asked(ME).headers, context.settings)


def rate_verdict(headers: Mapping[str, str], chosen: Settings) -> Verdict:
    """`headers` are case-insensitive. Those of any answer show the account's budget, never the export's."""
    budget = account_budget(headers)
    if budget is None:
        return not_visible("Zendesk's answer names no rate limit.", "")
    limit, remaining, reset = budget
    rate = chosen.zendesk_export_rate
    share = chosen.zendesk_rate_share * limit
    uses = f"the collector takes up to {share:.0f} of them, and {rate:g} of the exports'"
    verdicts = [ok(f"{limit:.0f} requests a minute, {remaining:.0f} left now; {uses}.")]
    if remaining < limit * HEADROOM:
        verdicts.append(
            warning(
                f"Only {remaining:.0f} of the account's {limit:.0f} requests a minute are left for {reset:.0f} s:"
                " something else uses them up.",
                "Find the integration that does. The collector waits meanwhile, and catches up later.",
            )
        )
    if share < 1:
        verdicts.append(
            warning(
                f"ZENDESK_RATE_SHARE={chosen.zendesk_rate_share:g} of {limit:.0f} requests a minute is less than one.",
                "Raise it: the collector sends one a minute all the same.",
            )
        )
    allowed = HIGH_VOLUME_EXPORT_RATE if limit >= HIGH_VOLUME else EXPORT_RATE
    if rate > allowed:
        verdicts.append(
            warning(
                f"ZENDESK_EXPORT_RATE={rate:g}, and an account with {limit:.0f} requests a minute has {allowed}"
                " export requests a minute.",
                f"Set ZENDESK_EXPORT_RATE={allowed}; {HIGH_VOLUME_EXPORT_RATE} are for the High Volume add-on. More"
                " costs time, as every one too many is answered 429.",
            )
        )
    return together(verdicts)
