"""The Zendesk account as a Dagster resource."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Self, assert_never
from uuid import uuid4

import dagster as dg
from pydantic import Field, PrivateAttr

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span
from zendesk_pipeline.orchestration.setting_fields import secret, setting
from zendesk_pipeline.settings.environment import CREDENTIALS, AuthMode, auth_mode_of, checked_base_url, not_set
from zendesk_pipeline.settings.secret_references import PAIR, pair_reference, reference, resolved
from zendesk_pipeline.zendesk import parallel_walk
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.credentials import (
    ApiToken,
    BearerToken,
    ClientCredentials,
    Credential,
    OneAtATime,
    Reread,
)
from zendesk_pipeline.zendesk.oauth import token_endpoint
from zendesk_pipeline.zendesk.rate_limits import limiters
from zendesk_pipeline.zendesk.shared_token import shared_token
from zendesk_pipeline.zendesk.transport import Transport
from zendesk_pipeline.zendesk.walk import Walk

SPARE = 0.5
"""Of our rate: a collection that comes next finds as much of the minute that has just begun."""

HOW_TO_GET = {
    "ZENDESK_CLIENT_ID": "Admin Center > Apps and integrations > APIs > OAuth clients: the client's identifier",
    "ZENDESK_CLIENT_SECRET": "shown once when the OAuth client is made (kind: confidential)",
    "ZENDESK_EMAIL": "the address of the admin that the API token belongs to",
    "ZENDESK_API_TOKEN": "an existing API token; no new ones can be made: use AUTH_MODE=oauth instead",
    "ZENDESK_BEARER_TOKEN": "an OAuth access token of an admin",
    "ZENDESK_TOKEN_PAIR": "`aws-sm:NAME`, the secret of AWS Secrets Manager that `zendesk-pipeline authorize` fills",
}


def settled(definition: dg.ResourceDefinition) -> Any:
    """The resource with the values it was made with, and none that a run's configuration could change.

    Without this whoever may launch a run could have a secret sent to a host of theirs, or an environment variable
    shown: Dagster takes `{"env": NAME}` for a value there.
    """

    def values(_: object) -> Any:
        return definition.config_field.default_value if definition.config_field else {}

    return definition.configured(values, config_schema={})


class ZendeskResource(dg.ConfigurableResource[ZendeskClient]):
    """A Zendesk account, its credential, and how it is read. The fields are the settings of the same names."""

    base_url: str = setting("ZENDESK_BASE_URL")
    auth_mode: str = setting("AUTH_MODE: oauth, token, bearer or oauth_refresh")
    client_id: str = Field(default="", description="ZENDESK_CLIENT_ID")
    client_secret: str = secret("ZENDESK_CLIENT_SECRET")
    oauth_scope: str = setting("ZENDESK_OAUTH_SCOPE")
    email: str = Field(default="", description="ZENDESK_EMAIL", repr=False)
    api_token: str = secret("ZENDESK_API_TOKEN")
    bearer_token: str = secret("ZENDESK_BEARER_TOKEN")
    token_pair: str = secret("ZENDESK_TOKEN_PAIR")
    http_timeout: float = setting("HTTP_TIMEOUT")
    http_retries: int = setting("HTTP_RETRIES")
    export_rate: float = setting("ZENDESK_EXPORT_RATE")
    rate_share: float = setting("ZENDESK_RATE_SHARE")
    settle_seconds: int = setting("SETTLE_SECONDS")
    lookback_seconds: int = setting("LOOKBACK_SECONDS")
    max_pages: int | None = setting("MAX_PAGES")

    _clock: Clock = PrivateAttr(default_factory=Clock)
    _source: Callable[[str], str] = PrivateAttr(default=str)

    def get_resource_definition(self) -> Any:
        """What Dagster makes the resource of in a run."""
        return settled(super().get_resource_definition())

    def looking_in(self, source: Callable[[str], str]) -> Self:
        """The same, of an account whose secrets are in variables of other names: errors say those."""
        self._source = source
        return self

    def client(self) -> ZendeskClient:
        """A client for this account; raises SettingsError where a setting is missing."""
        transport = Transport(base_url=self._address(), timeout=self.http_timeout, clock=self._clock)
        return ZendeskClient(
            transport=transport,
            credential=OneAtATime(self._credential(transport)),
            retries=self.http_retries,
            limiters=limiters(self._clock, export=self.export_rate, share=self.rate_share),
            clock=self._clock,
        )

    def walk(self, stream: Stream, span: Span, lookback: int) -> Walk:
        """The walk over a range of windows of one stream, from `lookback` seconds before it on."""
        return Walk(
            stream=stream,
            client=self.client(),
            span=span,
            lookback=lookback,
            settle=self.settle_seconds,
            max_pages=self.max_pages,
            clock=self._clock,
        )

    def pages(self, stream: Stream, span: Span, lookback: int) -> Iterator[Page]:
        """The pages of that walk, by as many cursors as latency asks for."""
        return parallel_walk.pages(self.walk(stream, span, lookback))

    def spare_pages(self, stream: Stream, span: Span, most: int) -> Iterator[Page]:
        """The pages of a walk in the background, at a part of our rate; raises PageLimitError after `most` pages."""
        walk = self.walk(stream, span, lookback=0)
        spare = {
            budget: replace(
                each, per_minute=each.per_minute and each.per_minute * SPARE, share=each.share and each.share * SPARE
            )
            for budget, each in walk.client.limiters.items()
        }
        bound = most if self.max_pages is None else min(most, self.max_pages)
        client = replace(walk.client, limiters=spare)
        return parallel_walk.pages(replace(walk, client=client, max_pages=bound, gets_on=True))

    def lookback(self, stream: Stream, at_most: int | None = None) -> int:
        """Seconds before a range that are read again; 0 on streams that show nothing late."""
        seconds = stream.lookback(self.lookback_seconds)
        return seconds if at_most is None else min(seconds, at_most)

    def _address(self) -> str:
        if not self.base_url:
            raise not_set("ZENDESK_BASE_URL", "the account's address, such as https://acme.zendesk.com")
        try:
            return checked_base_url(self.base_url)
        except ValueError as wrong:
            raise SettingsError(f"ZENDESK_BASE_URL is wrong: {wrong}.") from None

    def _credential(self, transport: Transport) -> Credential:
        """The credential of the mode; secrets that are named by reference are read now, and again when refused."""
        me, mode = str(uuid4()), auth_mode_of(self.auth_mode)
        held = self._held(mode)

        def values() -> dict[str, str]:
            read = {name: resolved(name, value) for name, value in held.items() if name != PAIR}
            for name, value in read.items():
                checked_credential(name if value == held[name] else f"{name} ({held[name]})", value)
            return read

        def make(read: dict[str, str]) -> Credential:
            match mode:
                case "token":
                    return ApiToken(read["ZENDESK_EMAIL"], read["ZENDESK_API_TOKEN"])
                case "bearer":
                    return BearerToken(read["ZENDESK_BEARER_TOKEN"])
                case "oauth_refresh":
                    return shared_token(pair_reference(held[PAIR]), transport, **client(read), me=me)
                case "oauth":
                    endpoint = token_endpoint(transport, **client(read), scope=self.oauth_scope)
                    return ClientCredentials(endpoint, self._clock)
                case _:
                    assert_never(mode)

        def client(read: dict[str, str]) -> dict[str, str]:
            return {"client_id": read["ZENDESK_CLIENT_ID"], "client_secret": read["ZENDESK_CLIENT_SECRET"]}

        if any(reference(name, value) for name, value in held.items() if name != PAIR):
            return Reread(values, make)
        return make(values())

    def _held(self, mode: AuthMode) -> dict[str, str]:
        """The variables of the mode and what they hold: values or references."""
        values = {
            "ZENDESK_CLIENT_ID": self.client_id,
            "ZENDESK_CLIENT_SECRET": self.client_secret,
            "ZENDESK_EMAIL": self.email,
            "ZENDESK_API_TOKEN": self.api_token,
            "ZENDESK_BEARER_TOKEN": self.bearer_token,
            PAIR: self.token_pair,
        }
        return {name: _required(self._variable(name), name, values[name], mode) for name in CREDENTIALS[mode]}

    def _variable(self, name: str) -> str:
        """What a person looks for, of an account that is not the environment's own."""
        return self._source(name)


def _required(variable: str, name: str, value: str, mode: str) -> str:
    if not value:
        raise not_set(variable, HOW_TO_GET[name], f", and AUTH_MODE={mode} needs it")
    checked_credential(variable, value)
    return value


def checked_credential(name: str, value: str) -> None:
    """Raises SettingsError for a value that was copied badly."""
    if not value or value != value.strip() or not value.isprintable():
        raise SettingsError(f"{name} is empty, begins or ends with a blank, or holds a line end: copy it again.")
