"""The Zendesk account as a Dagster resource."""

from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from zendesk_pipeline.client import Transport, ZendeskClient, token_endpoint
from zendesk_pipeline.clock import Clock
from zendesk_pipeline.credentials import ApiToken, BearerToken, ClientCredentials, Credential
from zendesk_pipeline.errors import SettingsError
from zendesk_pipeline.limits import RateLimiter
from zendesk_pipeline.pages import Walk
from zendesk_pipeline.settings import CREDENTIALS, checked_base_url
from zendesk_pipeline.streams import Stream
from zendesk_pipeline.windows import Span

HOW_TO_GET = {
    "ZENDESK_CLIENT_ID": "Admin Center > Apps and integrations > APIs > OAuth clients: the client's identifier",
    "ZENDESK_CLIENT_SECRET": "shown once when the OAuth client is made (kind: confidential)",
    "ZENDESK_EMAIL": "the address of the admin that the API token belongs to",
    "ZENDESK_API_TOKEN": "an existing API token; no new ones can be made: use AUTH_MODE=oauth instead",
    "ZENDESK_BEARER_TOKEN": "an OAuth access token of an admin",
}


def _secret(description: str) -> str:
    """A field that is not shown: neither in the UI nor in the resource's repr."""
    field: str = Field(default="", description=description, repr=False, json_schema_extra={"is_secret": True})
    return field


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

    base_url: str = Field(default="", description="ZENDESK_BASE_URL")
    auth_mode: str = Field(default="oauth", description="AUTH_MODE: oauth, token or bearer")
    client_id: str = Field(default="", description="ZENDESK_CLIENT_ID")
    client_secret: str = _secret("ZENDESK_CLIENT_SECRET")
    oauth_scope: str = Field(default="read", description="ZENDESK_OAUTH_SCOPE")
    email: str = Field(default="", description="ZENDESK_EMAIL", repr=False)
    api_token: str = _secret("ZENDESK_API_TOKEN")
    bearer_token: str = _secret("ZENDESK_BEARER_TOKEN")
    http_timeout: float = Field(default=60, description="HTTP_TIMEOUT")
    http_retries: int = Field(default=3, description="HTTP_RETRIES")
    export_rate: float = Field(default=10, description="ZENDESK_EXPORT_RATE")
    rate_share: float = Field(default=0.5, description="ZENDESK_RATE_SHARE")
    settle_seconds: int = Field(default=300, description="SETTLE_SECONDS")
    lookback_seconds: int = Field(default=3600, description="LOOKBACK_SECONDS")
    max_pages: int | None = Field(default=None, description="MAX_PAGES")

    _clock: Clock = PrivateAttr(default_factory=Clock)

    def get_resource_definition(self) -> Any:
        """What Dagster makes the resource of in a run."""
        return settled(super().get_resource_definition())

    def client(self) -> ZendeskClient:
        """A client for this account; raises SettingsError where something lacks."""
        transport = Transport(base_url=self._address(), timeout=self.http_timeout, clock=self._clock)
        return ZendeskClient(
            transport=transport,
            credential=self._credential(transport),
            retries=self.http_retries,
            limiters={
                "export": RateLimiter(clock=self._clock, per_minute=self.export_rate),
                "account": RateLimiter(clock=self._clock, share=self.rate_share),
            },
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

    def lookback(self, stream: Stream, at_most: int | None = None) -> int:
        """Seconds before a range that are read again; 0 on streams that show nothing late."""
        if not stream.shows_late:
            return 0
        return self.lookback_seconds if at_most is None else min(self.lookback_seconds, at_most)

    def _address(self) -> str:
        if not self.base_url:
            raise SettingsError("ZENDESK_BASE_URL is not set: the account's address, such as https://acme.zendesk.com.")
        try:
            return checked_base_url(self.base_url)
        except ValueError as wrong:
            raise SettingsError(f"ZENDESK_BASE_URL is wrong: {wrong}.") from None

    def _credential(self, transport: Transport) -> Credential:
        values = {
            "ZENDESK_CLIENT_ID": self.client_id,
            "ZENDESK_CLIENT_SECRET": self.client_secret,
            "ZENDESK_EMAIL": self.email,
            "ZENDESK_API_TOKEN": self.api_token,
            "ZENDESK_BEARER_TOKEN": self.bearer_token,
        }
        for mode, names in CREDENTIALS.items():
            if mode == self.auth_mode:
                for name in names:
                    _required(name, values[name], mode)
        match self.auth_mode:
            case "token":
                return ApiToken(self.email, self.api_token)
            case "bearer":
                return BearerToken(self.bearer_token)
            case "oauth":
                request = token_endpoint(
                    transport,
                    client_id=self.client_id,
                    client_secret=self.client_secret,
                    scope=self.oauth_scope,
                )
                return ClientCredentials(request, self._clock)
            case unknown:
                raise SettingsError(f"AUTH_MODE={unknown} is none of oauth, token and bearer.")


def _required(name: str, value: str, mode: str) -> None:
    if not value:
        raise SettingsError(f"{name} is not set, and AUTH_MODE={mode} needs it: {HOW_TO_GET[name]}.")
    if value != value.strip() or not value.isprintable():
        raise SettingsError(f"{name} begins or ends with a blank, or holds a line end: copy it again.")
