"""Who may call: API token, bearer token, and OAuth tokens that are issued, expire and are replaced.

https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
"""

from base64 import b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

import msgspec

from zendesk_pipeline.local.simulator.messages import (
    Answer,
    Request,
    error,
    invalid_token,
    json_answer,
    missing_scope,
    not_authenticated,
)
from zendesk_pipeline.local.simulator.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

EMAIL = "admin@example.com"
API_TOKEN = "simulated-api-token"
BEARER_TOKEN = "simulated-bearer-token"
CLIENT_ID = "simulated-client"
CLIENT_SECRET = "simulated-client-secret"
REFRESH_TOKEN = "simulated-refresh-token"  # the first one; each use replaces it
USER_ID = 6130907993114
LIFETIMES = (300, 172_800)  # seconds an OAuth token may be asked to live
REFRESH_LIFETIMES = (604_800, 7_776_000)  # the same for a refresh token
REFRESH_SECONDS = 2_592_000  # of a refresh token that asked for nothing
CODE_SECONDS = 120

_BASIC = "Basic " + b64encode(f"{EMAIL}/token:{API_TOKEN}".encode()).decode()
_SCOPE_OF = {
    "/api/v2/audit_logs": "auditlogs:read",
    "/api/v2/incremental/users": "users:read",
    "/api/v2/incremental/organizations": "organizations:read",
    "/api/v2/incremental/": "tickets:read",
}


class _TokenRequest(msgspec.Struct):
    grant_type: str = ""
    client_id: str = ""
    client_secret: str = ""
    scope: str = "read"
    expires_in: int | None = None
    refresh_token: str = ""
    refresh_token_expires_in: int | None = None
    code: str = ""
    redirect_uri: str = ""
    code_verifier: str = ""


@dataclass(frozen=True, slots=True)
class _Token:
    scope: str
    expires_at: float
    refresh_token: str | None


@dataclass(frozen=True, slots=True)
class _Code:
    """What the admin has allowed, and until when it may be asked for."""

    scope: str
    redirect_uri: str
    challenge: str
    expires_at: float


@dataclass(slots=True)
class Accounts:
    """Credentials and the tokens issued so far."""

    _tokens: dict[str, _Token] = field(default_factory=dict[str, _Token])
    _refresh_tokens: dict[str, float] = field(default_factory=lambda: {REFRESH_TOKEN: float("inf")})
    _codes: dict[str, _Code] = field(default_factory=dict[str, _Code])
    _revoked: set[str] = field(default_factory=set[str])
    _issued: int = 0

    def refusal(self, request: Request, now: float) -> Answer | None:
        """The 401 or 403 for a request's credential, None if it may pass."""
        bearer = request.authorization.startswith("Bearer ")
        scope = self._scope(request.authorization, now)
        if scope is None:
            return invalid_token() if bearer else not_authenticated()
        needed = next((name for path, name in _SCOPE_OF.items() if request.path.startswith(path)), "read")
        return None if {"read", needed} & set(scope.split()) else missing_scope()

    def user(self, request: Request, settings: Settings, now: float) -> Answer:
        """Who asks; for a wrong credential this is an anonymous user with status 200, not a 401."""
        if self._scope(request.authorization, now) is None:
            return json_answer({"user": {"id": None, "name": "Anonymous user", "email": "", "role": "end-user"}})
        user = {"id": USER_ID, "name": "Simulated Admin", "email": EMAIL, "role": settings.role}
        return json_answer({"user": user})

    def token(self, request: Request) -> Answer:
        """What the access token that asks may do, and until when; one made by hand has no end.

        https://developer.zendesk.com/api-reference/ticketing/oauth/oauth_tokens/
        """
        value = request.authorization.removeprefix("Bearer ")
        if value == BEARER_TOKEN:
            return json_answer({"token": _described(value, "read write", None)})
        known = self._tokens.get(value)
        if known is None:
            return error(404, "RecordNotFound", "Not found")
        return json_answer({"token": _described(value, known.scope, known.expires_at)})

    def issue(self, request: Request, settings: Settings, now: float) -> Answer:
        """Answer of POST /oauth/tokens."""
        if "json" not in request.headers.get("content-type", ""):
            return _oauth_error(400, "invalid_request", "The request body must be formatted as JSON.")
        try:
            asked = msgspec.json.decode(request.body, type=_TokenRequest)
        except msgspec.DecodeError:
            return _oauth_error(400, "invalid_request", "The request body could not be read.")
        if (asked.client_id, asked.client_secret) != (CLIENT_ID, CLIENT_SECRET):
            return _oauth_error(401, "invalid_client", "Client authentication failed.")
        if asked.expires_in is not None and not LIFETIMES[0] <= asked.expires_in <= LIFETIMES[1]:
            return _oauth_error(400, "invalid_request", "expires_in must be between 300 and 172800.")
        life = asked.refresh_token_expires_in
        if life is not None and not REFRESH_LIFETIMES[0] <= life <= REFRESH_LIFETIMES[1]:
            return _oauth_error(400, "invalid_request", "refresh_token_expires_in must be between 604800 and 7776000.")
        return self._grant(asked, settings, now)

    def allow(self, request: Request, now: float) -> Answer:
        """Answer of GET /oauth/authorizations/new: the admin is signed in and clicks Allow at once."""
        redirect = request.value("redirect_uri") or ""
        if (request.value("response_type"), request.value("client_id")) != ("code", CLIENT_ID) or not redirect:
            return _oauth_error(400, "invalid_request", "The authorization request is incomplete.")
        code = self._secret("code")
        self._codes[code] = _Code(
            scope=request.value("scope") or "read",
            redirect_uri=redirect,
            challenge=request.value("code_challenge") or "",
            expires_at=now + CODE_SECONDS,
        )
        query = urlencode({"code": code, "state": request.value("state") or ""})
        return Answer(status=302, headers=(("Location", f"{redirect}?{query}"),))

    def revoke(self, authorization: str) -> None:
        """Refuse this credential from now on."""
        self._revoked.add(authorization)

    def expire_tokens(self) -> None:
        """Every access token issued so far stops to be valid."""
        self._tokens.clear()

    def _scope(self, authorization: str, now: float) -> str | None:
        """The scope of a valid credential; None for any other."""
        if authorization in self._revoked:
            return None
        if authorization in {_BASIC, f"Bearer {BEARER_TOKEN}"}:
            return "read write"
        token = self._tokens.get(authorization.removeprefix("Bearer "))
        return token.scope if token and now < token.expires_at else None

    def _grant(self, asked: _TokenRequest, settings: Settings, now: float) -> Answer:
        grants: dict[str, Callable[[], str | Literal[False] | None]] = {
            "client_credentials": lambda: None,
            "refresh_token": lambda: self._rotate(asked, now),
            "authorization_code": lambda: self._redeem(asked, now),
        }
        if asked.grant_type not in grants:
            return _oauth_error(400, "unsupported_grant_type", "The grant type is not supported.")
        refresh = grants[asked.grant_type]()
        if refresh is False:
            return _oauth_error(400, "invalid_grant", "The code or refresh token is invalid, expired or revoked.")
        return self._new_token(asked, settings, now, refresh)

    def _new_token(self, asked: _TokenRequest, settings: Settings, now: float, refresh: str | None) -> Answer:
        token = self._secret("access")
        lifetime = settings.token_seconds if asked.expires_in is None else asked.expires_in
        self._tokens[token] = _Token(asked.scope, now + lifetime, refresh)
        body: dict[str, object] = {"access_token": token, "token_type": "bearer", "scope": asked.scope}
        if asked.expires_in is not None:  # left out unless it was asked for, though the token does expire
            body["expires_in"] = asked.expires_in
        if refresh:
            life = asked.refresh_token_expires_in or REFRESH_SECONDS
            body |= {"refresh_token": refresh, "refresh_token_expires_in": life}
        return json_answer(body, status=201)

    def _rotate(self, asked: _TokenRequest, now: float) -> str | Literal[False]:
        """A new refresh token in place of the old one, which ends with its access token at once."""
        spent = asked.refresh_token
        if now >= self._refresh_tokens.pop(spent, 0):
            return False
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept.refresh_token != spent}
        return self._new_refresh_token(asked, now)

    def _redeem(self, asked: _TokenRequest, now: float) -> str | Literal[False]:
        """The first refresh token for a code, which is good once, for its own address and its own verifier."""
        code = self._codes.pop(asked.code, None)
        if code is None or now >= code.expires_at or code.redirect_uri != asked.redirect_uri:
            return False
        digest = sha256(asked.code_verifier.encode()).digest()
        if code.challenge and urlsafe_b64encode(digest).rstrip(b"=").decode() != code.challenge:
            return False
        return self._new_refresh_token(asked, now)

    def _new_refresh_token(self, asked: _TokenRequest, now: float) -> str:
        token = self._secret("refresh")
        self._refresh_tokens[token] = now + (asked.refresh_token_expires_in or REFRESH_SECONDS)
        return token

    def _secret(self, kind: str) -> str:
        self._issued += 1
        return sha256(f"{kind}/{self._issued}/{id(self)}".encode()).hexdigest()


def _described(value: str, scope: str, expires_at: float | None) -> dict[str, object]:
    """Only the beginning of a token is ever shown."""
    end = None if expires_at is None else f"{datetime.fromtimestamp(expires_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"id": 1, "user_id": USER_ID, "token": f"{value[:10]}...", "scopes": scope.split(), "expires_at": end}


def _oauth_error(status: int, name: str, description: str) -> Answer:
    if status == 401:  # noqa: PLR2004 - as RFC 6749 writes it
        return json_answer({"error": name, "error_description": description}, status=status)
    return error(status, name, description)
