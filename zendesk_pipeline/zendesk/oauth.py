"""OAuth grants: what Zendesk's token endpoint is asked, and what its answers mean.

https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated

import msgspec

from zendesk_pipeline.model.errors import (
    MaybeTooHeavyError,
    PageTooHeavyError,
    RefusedError,
    TransientError,
    ZendeskError,
)
from zendesk_pipeline.zendesk.credentials import AccessToken
from zendesk_pipeline.zendesk.error_answers import IN_FRONT, error_of, is_web_page
from zendesk_pipeline.zendesk.transport import HttpAnswer, NoCredential, Transport

TOKEN_SECONDS = 7200
"""The life we ask for our access tokens; Zendesk allows 300 to 172,800."""
SHORTEST_TOKEN_SECONDS = 1800
"""What Zendesk gives where it does not say: a missing `expires_in` does not mean no end."""
OAUTH_ERRORS = (b"invalid_", b"unauthorized_client", b"unsupported_")
"""How what the token endpoint says of a client or its question begins.

https://datatracker.ietf.org/doc/html/rfc6749#section-5.2
"""


class InvalidGrantError(RefusedError):
    """The code or refresh token that was shown is spent, ended or revoked."""


HEADER_TEXT = msgspec.Meta(pattern=r"^[!-~]+\Z")
"""What a header can hold; http.client would quote anything else in its error."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What the token endpoint answers."""

    access_token: Annotated[str, HEADER_TEXT]
    expires_in: float | None = None
    refresh_token: Annotated[str, HEADER_TEXT] | None = None

    def __repr__(self) -> str:
        return "Grant()"


def request_grant(transport: Transport, body: Mapping[str, object]) -> Grant:
    """Ask the token endpoint; the body has to be JSON.

    Raises InvalidGrantError, RefusedError where the OAuth client is not accepted, TransientError where nothing usable
    came back.
    https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
    """
    path = "/oauth/tokens"
    asked_at = transport.clock.now()
    try:
        answer = transport.send("POST", path, json=body, auth=NoCredential())
    except MaybeTooHeavyError as problem:
        raise TransientError(str(problem)) from None
    if is_web_page(answer.headers, answer.body):
        raise _of_a_web_page(path, answer, asked_at)
    if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED}:
        if answer.status == HTTPStatus.FORBIDDEN and not any(name in answer.body for name in OAUTH_ERRORS):
            raise RefusedError(f"Zendesk answered 403 to {path}, and says nothing of the OAuth client. {IN_FRONT}")
        if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.NOT_FOUND:
            kind = InvalidGrantError if b'"invalid_grant"' in answer.body else RefusedError
            raise kind(
                f"Zendesk answered {answer.status} to {path}: the OAuth client is not accepted."
                " Check ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET."
            )
        problem = error_of(path, answer.status, answer.headers, b"", remedy="", now=asked_at)
        raise _of_a_token(problem)
    try:
        return msgspec.json.decode(answer.body, type=Grant)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise TransientError(f"{path} answered {answer.status} without an access token.") from None


def _of_a_web_page(path: str, answer: HttpAnswer, now: float) -> ZendeskError:
    """The error where a proxy or firewall answers in the place of the token endpoint: it says nothing of the client."""
    status = HTTPStatus.OK if answer.status == HTTPStatus.CREATED else answer.status
    problem = error_of(path, status, answer.headers, answer.body, remedy="", now=now)
    if isinstance(problem, RefusedError) and problem.unclear == HTTPStatus.FORBIDDEN:
        return RefusedError(f"{problem} {IN_FRONT}")
    return _of_a_token(problem)


def _of_a_token(problem: ZendeskError) -> ZendeskError:
    """A smaller page would not help, and without a token nobody can be asked what a refusal means."""
    if isinstance(problem, PageTooHeavyError | MaybeTooHeavyError):
        return TransientError(str(problem))
    if isinstance(problem, RefusedError):
        problem.unclear = None
    return problem


def token_endpoint(
    transport: Transport, *, client_id: str, client_secret: str, scope: str
) -> Callable[[], AccessToken]:
    """A function that gets an access token by client credentials.

    `expires_in` has to be asked for, or the answer leaves it out although the token ends.
    """
    body = {
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": client_secret,
        "scope": scope,
        "expires_in": TOKEN_SECONDS,
    }

    def request() -> AccessToken:
        asked_at = transport.clock.now()
        grant = request_grant(transport, body)
        return AccessToken(grant.access_token, asked_at + (grant.expires_in or SHORTEST_TOKEN_SECONDS))

    return request
