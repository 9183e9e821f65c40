"""The step of AUTH_MODE=oauth_refresh that only a person can do: an admin agrees, and the first pair is stored.

The authorization code grant with PKCE. No server listens for the answer: the browser ends at the redirect address,
which may as well be one where nobody answers, and the address it shows is pasted here.
https://developer.zendesk.com/documentation/api-basics/authentication/oauth-pkce
"""

import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import parse_qs, urlencode, urlsplit

import click

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import RefusedError, SettingsError
from zendesk_pipeline.orchestration.zendesk_resource import HOW_TO_GET, checked_credential
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.secret_references import PAIR, pair_reference, resolved
from zendesk_pipeline.zendesk.oauth import Grant, InvalidGrantError, request_grant
from zendesk_pipeline.zendesk.shared_token import ACCESS_SECONDS, REFRESH_SECONDS
from zendesk_pipeline.zendesk.token_pair_store import TokenPair, TokenPairStore
from zendesk_pipeline.zendesk.transport import Transport

REDIRECT = "http://localhost:8000/"


@click.command
@click.option("--redirect", default=REDIRECT, show_default=True, help="A redirect URL of the OAuth client.")
def authorize(redirect: str) -> None:
    """Let an admin agree once, and store the tokens in the secret that ZENDESK_TOKEN_PAIR names."""
    chosen = environment.load()
    if not chosen.zendesk_base_url:
        raise environment.not_set("ZENDESK_BASE_URL", "the account's address, such as https://acme.zendesk.com")
    pairs = TokenPairStore.of(pair_reference(_setting(PAIR)))
    pairs.current()  # to hear of a secret that is not there before anything is given away
    client = {name: _value(f"ZENDESK_{name.upper()}") for name in ("client_id", "client_secret")}
    state, verifier = secrets.token_urlsafe(16), secrets.token_urlsafe(48)
    click.echo("Open this address as an admin of the account, and agree:\n")
    click.echo(f"  {_address(chosen, client['client_id'], redirect, state, verifier)}\n")
    click.echo(f"The browser then goes to {redirect}; it does not matter whether anything answers there.")
    pasted = click.prompt("Within two minutes paste the whole address that it shows")
    transport = Transport(base_url=chosen.zendesk_base_url, timeout=chosen.http_timeout, clock=Clock())
    code = {"code": _code(pasted, state), "redirect_uri": redirect, "code_verifier": verifier}
    lives = {"expires_in": ACCESS_SECONDS, "refresh_token_expires_in": REFRESH_SECONDS}
    asked = {"grant_type": "authorization_code", "scope": chosen.zendesk_oauth_scope, **client, **code, **lives}
    pairs.replace(TokenPair.of(_granted(transport, asked), ""))
    click.echo(f"Stored in {pairs.reference}. Runs with AUTH_MODE=oauth_refresh renew the tokens from now on.")


def _setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise environment.not_set(name, HOW_TO_GET[name])
    return value


def _value(name: str) -> str:
    value = resolved(name, _setting(name))
    checked_credential(name, value)
    return value


def _address(chosen: Settings, client_id: str, redirect: str, state: str, verifier: str) -> str:
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "redirect_uri": redirect,
        "client_id": client_id,
        "scope": chosen.zendesk_oauth_scope,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{chosen.zendesk_base_url}/oauth/authorizations/new?{urlencode(query)}"


def _code(pasted: str, state: str) -> str:
    query = parse_qs(urlsplit(pasted.strip()).query)
    if query.get("state") != [state]:
        raise SettingsError("That is no answer to the address above (its `state` is another one): begin again.")
    if "code" not in query:
        raise RefusedError("Zendesk did not give a code: whoever was asked has not agreed.")
    return query["code"][0]


def _granted(transport: Transport, asked: Mapping[str, object]) -> Grant:
    try:
        grant = request_grant(transport, asked)
    except InvalidGrantError:
        raise RefusedError(
            "Zendesk does not accept the code: it is good once and for two minutes, and the redirect URL has to be one"
            " of the OAuth client's. Begin again."
        ) from None
    if grant.refresh_token is None:
        raise RefusedError("Zendesk gave no refresh token: the OAuth client has to be one that gets them.")
    return grant
