"""What is examined: settings, account, bucket; and the clients that it is asked with, none of which waits long."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from ssl import cert_time_to_seconds
from typing import TYPE_CHECKING, Any, cast

import requests

from zendesk_pipeline.alerts.channels import Address
from zendesk_pipeline.commands.doctor import replies
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import StarvedError
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.zendesk.client import Answer, NoCredential, ZendeskClient

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ME = "/api/v2/users/me"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the account's host says to somebody it does not know."""

    answer: Answer
    certificate_ends_at: float | None
    """Seconds since the epoch; None without TLS, and where the library does not show it."""
    heard_at: float
    """By this machine's clock."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """Everything is made when it is first asked for, and raises SettingsError where it cannot be made."""

    clock: Clock
    seconds: float
    """That a request may take; a check may take a few of them."""
    admin_profile: str | None = None
    """An AWS profile that may read the bucket's configuration."""
    feed_days: int = 180
    """The feed's maximum file age."""
    send_test_alert: bool = False

    @cached_property
    def settings(self) -> Settings:
        """Those of the environment."""
        return settings.load()

    @cached_property
    def wiring(self) -> Mapping[str, Any]:
        """The resources by name, made as Dagster gets them."""
        from zendesk_pipeline.wiring import build  # noqa: PLC0415  # slow to import

        return build(self.settings).resources or {}

    @cached_property
    def zendesk(self) -> ZendeskClient:
        """The pipeline's own client, but that it asks once and does not wait for the rate limit."""
        client: ZendeskClient = self.wiring["zendesk"].process_config_and_initialize().client()
        hasty = replace(self.clock, sleep=_refuse_to_wait)
        client.retries, client.clock = 0, hasty
        client.transport.timeout = min(client.transport.timeout, self.seconds)
        for limiter in client.limiters.values():
            limiter.clock = hasty
        return client

    @cached_property
    def addresses(self) -> list[Address]:
        """Those of ALERT_URLS."""
        return self.wiring["alert_channels"].process_config_and_initialize().addresses()

    @cached_property
    def hello(self) -> Hello:
        """One request without a credential; raises ZendeskError where the host cannot be reached or proves nothing."""
        ends: list[float] = []

        def keep_certificate(response: requests.Response, *_: Any, **__: Any) -> None:
            with suppress(AttributeError, TypeError, KeyError, ValueError):  # plain HTTP, or another urllib3
                connection: Any = response.raw.connection
                ends.append(cert_time_to_seconds(connection.sock.getpeercert()["notAfter"]))

        transport = self.zendesk.transport
        hooks = cast("dict[str, list[Any]]", transport.session.hooks)
        hooks["response"].append(keep_certificate)
        try:
            answer = transport.send("GET", ME, auth=NoCredential())
        finally:
            hooks["response"].remove(keep_certificate)
        return Hello(answer=answer, certificate_ends_at=ends[0] if ends else None, heard_at=self.clock.now())

    def asked(self, path: str) -> Answer:
        """One request with the credential, whatever comes back; raises ZendeskError where nothing does."""
        return self.zendesk.transport.send("GET", path, auth=self.zendesk.credential)

    @property
    def past_window(self) -> Span:
        """The last window that is over by more than an hour."""
        window = Window.of(int(self.clock.now()) - 7200)
        return Span(window.start, window.end)

    @cached_property
    def s3(self) -> "S3Client":
        """The writer's client; it gives up soon."""
        return replies.client(None, self.seconds)

    @cached_property
    def admin(self) -> "S3Client":
        """The client for what the writer has no right to see."""
        return replies.client(self.admin_profile, self.seconds) if self.admin_profile else self.s3

    @cached_property
    def head(self) -> replies.Reply:
        """HeadBucket: its headers tell, even where the answer is 403."""
        return replies.ask(self.s3.head_bucket, Bucket=self.settings.s3_bucket)

    @property
    def encryption(self) -> dict[str, Any]:
        """What every write says of it."""
        chosen = {"ServerSideEncryption": self.settings.s3_sse, "SSEKMSKeyId": self.settings.s3_kms_key_id}
        return {name: value for name, value in chosen.items() if value}

    @property
    def probe_key(self) -> str:
        """The one object that this command ever writes."""
        return f"{self.settings.state_prefix}doctor.json"


def _refuse_to_wait(seconds: float) -> None:
    raise StarvedError(
        f"The rate limit is used up: it asks for {seconds:.0f} s of waiting. Find out what else uses the account's"
        " budget, and ask again then."
    )
