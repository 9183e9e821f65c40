"""One HTTP exchange with Zendesk: bounded in time and size, to the configured host only, following no redirect."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from io import BytesIO
from typing import Any

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ReadTimeoutError

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    MaybeTooHeavyError,
    PageTooHeavyError,
    RefusedError,
    SettingsError,
    TransientError,
)
from zendesk_pipeline.model.stream import Params

CONNECT_TIMEOUT = 10.0
LONGEST_BODY_TIME = 5
"""A body may take this many times the read timeout: a server that sends slowly does not hold up a run."""
LARGEST_BODY = 64 * 1024 * 1024
"""Bytes after decompression, twice the largest page of tickets seen; a larger one is asked for in parts."""
CHUNK = 256 * 1024
"""Bytes read at once, at most; a buffer of this size is made each time."""


class NoCredential(AuthBase):
    """Signs nothing, and keeps requests from looking for a credential in ~/.netrc."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


@cache
def _user_agent() -> str:
    """Read once: the metadata of a package is a file, and parsing it takes longer than sending a request."""
    return f"zendesk-pipeline/{version('zendesk-pipeline')}"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Transport:
    """Sends a request and reads its whole answer, within bounds of time and size; to the configured host only."""

    base_url: str
    timeout: float
    clock: Clock
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.headers["User-Agent"] = _user_agent()
        self.session.headers["Accept"] = "application/json"
        if self.base_url.startswith("http:"):
            self.session.trust_env = False  # without TLS nothing leaves this machine, not by HTTP_PROXY either

    def another(self) -> "Transport":
        """The same for another thread: the connections are shared, which is safe, and nothing else of the session."""
        session = requests.Session()
        session.adapters = self.session.adapters
        return replace(self, session=session)

    def send(
        self,
        method: str,
        path: str,
        *,
        auth: Callable[..., Any],
        params: Params | None = None,
        json: Any = None,
        largest: int | None = None,
    ) -> HttpAnswer:
        """Send it and read the answer, whose body has at most `largest` bytes (LARGEST_BODY, if None).

        Raises TransientError for whatever the network does, RefusedError where TLS does not trust the host, and
        SettingsError where the certificates to trust by cannot be read.
        """
        try:
            with self.session.request(
                method,
                self.base_url + path,
                params=params,
                json=json,
                auth=auth,
                timeout=(CONNECT_TIMEOUT, self.timeout),
                allow_redirects=False,
                stream=True,
            ) as response:
                return HttpAnswer(response.status_code, response.headers, self._body(path, response, largest))
        except requests.exceptions.SSLError:
            raise RefusedError(
                f"{self.base_url} did not prove that it is the host it claims to be (TLS)."
                " Check ZENDESK_BASE_URL; behind a proxy of your own set REQUESTS_CA_BUNDLE to its certificates."
            ) from None
        except (requests.exceptions.RequestException, HTTPError) as problem:
            # its text can hold the whole address with parameters; the kind is what helps
            raise (MaybeTooHeavyError if _was_asked(problem) else TransientError)(
                f"{self.base_url}{path} gave no complete answer ({_kind(problem)})."
                " Check ZENDESK_BASE_URL and the network if this stays."
            ) from None
        except OSError as problem:
            raise SettingsError(
                f"The certificates to trust cannot be read ({type(problem).__name__}): REQUESTS_CA_BUNDLE, or"
                " CURL_CA_BUNDLE, names no file or folder of them. Correct it, or unset it."
            ) from None

    def _body(self, path: str, response: requests.Response, largest: int | None) -> bytes:
        # closed at once, or the trace of an error would keep what was read in memory
        with BytesIO() as body:
            self._read(path, response, body, LARGEST_BODY if largest is None else largest)
            return body.getvalue()

    def _read(self, path: str, response: requests.Response, body: BytesIO, largest: int) -> None:
        latest = self.clock.monotonic() + LONGEST_BODY_TIME * self.timeout
        # read1 returns what has arrived: waiting for a whole chunk would notice a slow server too late
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            body.write(chunk)
            if body.tell() > largest:
                raise PageTooHeavyError(f"{path} answered with more than {largest:,} bytes; a smaller page may do.")
            if self.clock.monotonic() > latest:
                raise PageTooHeavyError(f"{path} was still sending after {LONGEST_BODY_TIME * self.timeout:.0f} s.")


def _was_asked(problem: BaseException) -> bool:
    """Whether Zendesk got the request and did not answer it completely, as it does where a page is too heavy."""
    if isinstance(problem, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return False
    answering = (
        requests.exceptions.ReadTimeout,
        requests.exceptions.ConnectionError,
        requests.exceptions.ChunkedEncodingError,
        ProtocolError,
        ReadTimeoutError,
    )
    return isinstance(problem, answering) and not isinstance(_reason(problem), NewConnectionError)


def _reason(problem: BaseException) -> Any:
    """The innermost cause."""
    reason: Any = problem.args[0] if problem.args else problem
    return getattr(reason, "reason", None) or reason


def _kind(problem: BaseException) -> str:
    """The innermost cause by name, such as NameResolutionError or ReadTimeoutError."""
    reason = _reason(problem)
    return type(reason if isinstance(reason, BaseException) else problem).__name__
