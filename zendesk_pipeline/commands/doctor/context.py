"""What checks work with: settings, account and bucket, and clients that give up soon."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from ssl import cert_time_to_seconds
from typing import TYPE_CHECKING, Any, cast

import requests

from zendesk_pipeline.alerts.channels import Address
from zendesk_pipeline.commands.doctor import s3_answers
from zendesk_pipeline.commands.doctor.s3_answers import S3Answer
from zendesk_pipeline.delivery.bucket import Store, encryption
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import StarvedError
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.zendesk.client import ZendeskClient
from zendesk_pipeline.zendesk.transport import HttpAnswer, NoCredential

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ME = "/api/v2/users/me"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What the account's host answers without a credential."""

    answer: HttpAnswer
    certificate_ends_at: float | None
    """Seconds since the epoch; None without TLS, and where the library does not show it."""
    heard_at: float
    """By this machine's clock."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything is made on first use, and raises SettingsError where it cannot be made."""

    clock: Clock
    seconds: float
    """The longest that one request takes; a check may send a few."""
    admin_profile: str | None = None
    """An AWS profile that may read the bucket's configuration."""
    feed_days: int = 180
    """The feed's maximum file age."""
    send_test_alert: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The settings of the environment."""
        return settings.load()

    @cached_property
    def wiring(self) -> Mapping[str, Any]:
        """The resources by name, as Dagster has them."""
        from zendesk_pipeline.wiring import build  # noqa: PLC0415  # slow to import

        return build(self.settings).resources or {}

    @cached_property
    def zendesk(self) -> ZendeskClient:
        """The pipeline's own client, without retries and without waiting for the rate limit."""
        client: ZendeskClient = self.wiring["zendesk"].process_config_and_initialize().client()
        hasty = replace(self.clock, sleep=_refuse_to_wait)
        client.retries, client.clock = 0, hasty
        client.transport.timeout = min(client.transport.timeout, self.seconds)
        for limiter in client.limiters.values():
            limiter.clock = hasty
        return client

    @cached_property
    def addresses(self) -> list[Address]:
        """The addresses of ALERT_URLS."""
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

    def asked(self, path: str) -> HttpAnswer:
        """One request with the credential, whatever comes back; raises ZendeskError where nothing does."""
        return self.zendesk.transport.send("GET", path, auth=self.zendesk.credential)

    @property
    def past_window(self) -> Span:
        """The last window that is over by more than an hour."""
        window = Window.of(int(self.clock.now()) - 7200)
        return Span(window.start, window.end)

    @cached_property
    def s3(self) -> "S3Client":
        """The writer's client."""
        return s3_answers.client("s3", None, self.seconds)

    @cached_property
    def admin(self) -> "S3Client":
        """The client for what the writer has no right to read."""
        return s3_answers.client("s3", self.admin_profile, self.seconds) if self.admin_profile else self.s3

    @cached_property
    def head(self) -> S3Answer:
        """HeadBucket: its headers help even where the answer is 403."""
        return s3_answers.ask(self.s3.head_bucket, Bucket=self.settings.s3_bucket)

    @property
    def layout(self) -> Layout:
        chosen = self.settings
        return Layout.of(chosen)

    @property
    def store(self) -> Store:
        """The bucket as a run uses it, by the writer's client and without pauses."""
        asked = encryption(self.settings.s3_sse, self.settings.s3_kms_key_id)
        return Store(client=self.s3, bucket=self.settings.s3_bucket, encryption=asked, sleep=lambda _: None)

    @property
    def probe_key(self) -> str:
        """The one object that this command ever writes."""
        return f"{self.settings.state_prefix}doctor.json"


def _refuse_to_wait(seconds: float) -> None:
    raise StarvedError(
        f"The rate limit is used up: it asks for {seconds:.0f} s of waiting. Find out what else uses the account's"
        " budget, and ask again then."
    )
