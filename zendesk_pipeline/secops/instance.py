"""Which Google SecOps instance is meant, what is asked of it, and how that can fail."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from zendesk_pipeline.model.errors import PipelineError

LOG_TYPE = "ZENDESK_CRM"

Scope = Literal[
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/chronicle.readonly",
]
EVERYTHING: Scope = "https://www.googleapis.com/auth/cloud-platform"
READING: Scope = "https://www.googleapis.com/auth/chronicle.readonly"
"""What the pipeline asks with: https://docs.cloud.google.com/chronicle/docs/reference/rest (feeds.get)."""


class SecopsError(PipelineError):
    """Google SecOps, or Google's sign-in, refused or could not be reached."""


class UnavailableError(SecopsError):
    """It could not be reached, has a fault of its own, or was asked too often: later it may answer."""


class NotThereError(SecopsError):
    """What was asked for is not there, or not in this version of the API."""


class NoCredentialsError(SecopsError):
    """Nothing here can sign in to Google."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One tenant of Google SecOps.

    https://docs.cloud.google.com/chronicle/docs/reference/rest
    """

    customer_id: str
    project: str
    region: str
    endpoint: str
    """Without a slash at the end."""

    @property
    def name(self) -> str:
        """The resource name, which all others begin with."""
        return f"projects/{self.project}/locations/{self.region}/instances/{self.customer_id}"

    @property
    def log_type(self) -> str:
        """The resource name of Zendesk's log type."""
        return f"{self.name}/logTypes/{LOG_TYPE}"

    def url(self, version: str, path: str) -> str:
        """The address of `path` below the instance, in `v1`, `v1beta` or `v1alpha`; `:method` is one of its own."""
        return f"{self.endpoint}/{version}/{self.name}{'' if path.startswith(':') else '/'}{path}"


@dataclass(slots=True, kw_only=True)
class WaitLimit:
    """The time that several looks at one address may wait in all, so that none holds up those after it."""

    left: float
    """Seconds."""
    slow: float
    """Seconds; what is answered sooner costs nothing."""
    monotonic: Callable[[], float] = time.monotonic

    def spend(self, begun: float) -> None:
        """Count a request that began then."""
        seconds = self.monotonic() - begun
        self.left -= seconds if seconds >= self.slow else 0.0

    def check(self, endpoint: str) -> None:
        """Raise UnavailableError where none is left."""
        if self.left <= 0:
            raise UnavailableError(f"{endpoint} was so slow for others of this run that it was not asked.")
