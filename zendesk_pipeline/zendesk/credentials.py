"""Credentials as `requests` authentication: three of the four AUTH_MODEs; `shared_token` has the fourth.

https://developer.zendesk.com/api-reference/introduction/security-and-auth/
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from requests import PreparedRequest
from requests.auth import AuthBase, HTTPBasicAuth

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import RefusedError


class Credential(Protocol):
    """Signs requests; may be able to renew itself."""

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Put the credential onto a request."""
        ...

    def renew(self) -> bool:
        """Forget what was refused; False where there is nothing to renew."""
        ...

    @property
    def remedy(self) -> str:
        """What to do when Zendesk refuses it."""
        ...


class ApiToken(HTTPBasicAuth):
    """E-mail address and API token; no new ones can be made, and all end on 2027-04-30.

    https://developer.zendesk.com/documentation/api-basics/authentication/oauth-migration/
    """

    remedy = (
        "Check ZENDESK_EMAIL and ZENDESK_API_TOKEN. API tokens are switched off after 30 days without use, and all of"
        " them end on 2027-04-30: AUTH_MODE=oauth is the way forward."
    )

    def __init__(self, email: str, token: str) -> None:
        super().__init__(f"{email}/token".encode(), token.encode())

    def __repr__(self) -> str:
        return "ApiToken()"

    def renew(self) -> bool:
        return False


class BearerToken(AuthBase):
    """A ready-made access token."""

    remedy = "Check ZENDESK_BEARER_TOKEN: access tokens end, most of them after 30 minutes to 48 hours."

    def __init__(self, token: str) -> None:
        # UTF-8 on the wire: what is beyond Latin-1 would raise an error that shows the token
        self._header = f"Bearer {token}".encode().decode("latin-1")

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        r.headers["Authorization"] = self._header
        return r

    def renew(self) -> bool:
        return False


@dataclass(frozen=True, slots=True, repr=False)
class AccessToken:
    """What the token endpoint gave."""

    value: str
    ends_at: float
    """Seconds since the epoch."""


class ClientCredentials(AuthBase):
    """OAuth client credentials: a short-lived access token, made when needed and renewed before its end.

    https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
    """

    remedy = "Check ZENDESK_CLIENT_ID and ZENDESK_CLIENT_SECRET, and that the OAuth client's owner is still an admin."
    MARGIN = 60.0
    """Renew this many seconds before the end."""

    def __init__(self, request_token: Callable[[], AccessToken], clock: Clock) -> None:
        self._request_token = request_token
        self._clock = clock
        self._token: AccessToken | None = None

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        if self._token is None or self._clock.now() >= self._token.ends_at - self.MARGIN:
            self._token = self._request_token()
        r.headers["Authorization"] = f"Bearer {self._token.value}"
        return r

    def renew(self) -> bool:
        self._token = None
        return True


class Reread(AuthBase):
    """A credential whose secrets are stored elsewhere: after a refusal they are read again.

    So a run goes on when a secret is rotated.
    """

    def __init__(self, values: Callable[[], dict[str, str]], make: Callable[[dict[str, str]], Credential]) -> None:
        self._read = values
        self._make = make
        self._values = values()
        self._credential = make(self._values)

    @property
    def remedy(self) -> str:
        return self._credential.remedy

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        try:
            return self._credential(r)
        except RefusedError:  # the token endpoint's
            if not self._changed():
                raise
            return self._credential(r)

    def renew(self) -> bool:
        return self._changed() or self._credential.renew()

    def _changed(self) -> bool:
        values = self._read()
        if values == self._values:
            return False
        self._values, self._credential = values, self._make(values)
        return True


class OneAtATime(AuthBase):
    """A credential that several cursors share: one thread at a time makes and renews it, and the others wait.

    Where a token ends, all cursors are refused at once: the first renews it, and the others use the new one.
    """

    def __init__(self, credential: Credential) -> None:
        self._credential = credential
        self._lock = threading.Lock()
        self._renewals = 0
        self._signed = threading.local()

    @property
    def remedy(self) -> str:
        return self._credential.remedy

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        with self._lock:
            self._signed.renewals = self._renewals
            return self._credential(r)

    def renew(self) -> bool:
        with self._lock:
            if getattr(self._signed, "renewals", self._renewals) != self._renewals:
                return True
            renewed = self._credential.renew()
            self._renewals += renewed
            return renewed
