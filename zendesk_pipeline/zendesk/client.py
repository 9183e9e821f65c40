"""One request to Zendesk, answered or refused: credentials, timeouts, retries and rate limits; no paging, no S3."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from importlib.metadata import version
from io import BytesIO
from typing import Annotated, Any, TypeVar

import msgspec
import requests
from requests.auth import AuthBase
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, ReadTimeoutError

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    ForbiddenError,
    MaybeTooHeavyError,
    PageTooHeavyError,
    RefusedError,
    SettingsError,
    StarvedError,
    TransientError,
    ZendeskError,
)
from zendesk_pipeline.model.paging import Params
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.zendesk.credentials import AccessToken, Credential
from zendesk_pipeline.zendesk.error_answers import (
    CHECK_ADDRESS,
    IN_FRONT,
    TOO_MANY_FOR_OTHERS,
    is_web_page,
    refusal,
    web_page,
)
from zendesk_pipeline.zendesk.rate_limits import MINUTE, RateLimiter, retry_after

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
LONGEST_BODY_TIME = 5
"""A body may take this many times the read timeout as a whole: a server that drips does not hold a run."""
LARGEST_BODY = 64 * 1024 * 1024
"""Bytes after decompression, twice the largest page of tickets seen; a larger one is asked for in parts."""
LONGEST_WAIT = 3600.0
"""Seconds of waiting that Zendesk may ask of one request; a run that has to wait longer is better run again later."""
TOKEN_SECONDS = 7200
"""The life we ask for our access tokens; Zendesk allows 300 to 172,800."""
SHORTEST_TOKEN_SECONDS = 1800
"""What Zendesk gives where it does not say: no `expires_in` does not mean no end."""
CHUNK = 256 * 1024
"""Bytes read at once, at most; a buffer of this size is made each time."""

_backoff = wait_exponential_jitter(initial=1, max=60, jitter=1)


class NoCredential(AuthBase):
    """Signs nothing, and keeps requests from looking for a credential in ~/.netrc."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Spent:
    """What the requests of a client have cost so far."""

    requests: int = 0
    waited: float = 0.0
    """Seconds spent waiting for the rate limit: our own and Zendesk's 429."""
    latest: float = 0.0
    """Seconds that the latest answer took, from the request to the last byte."""


@dataclass(slots=True, kw_only=True)
class Transport:
    """Sends a request and reads its whole answer, within bounds of time and size; to the configured host only."""

    base_url: str
    timeout: float
    clock: Clock
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.headers["User-Agent"] = f"zendesk-pipeline/{version('zendesk-pipeline')}"
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
    ) -> Answer:
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
                return Answer(response.status_code, response.headers, self._body(path, response, largest))
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
                " CURL_CA_BUNDLE, names no file or folder of them. Mend it, or take it away."
            ) from None

    def _body(self, path: str, response: requests.Response, largest: int | None) -> bytes:
        # closed at once: an error's trace would keep what was read for as long as the garbage collector likes
        with BytesIO() as body:
            self._read(path, response, body, LARGEST_BODY if largest is None else largest)
            return body.getvalue()

    def _read(self, path: str, response: requests.Response, body: BytesIO, largest: int) -> None:
        latest = self.clock.monotonic() + LONGEST_BODY_TIME * self.timeout
        # read1 gives what has arrived; to wait for a whole chunk would be to notice a drip at its end
        while chunk := response.raw.read1(CHUNK, decode_content=True):
            body.write(chunk)
            if body.tell() > largest:
                raise PageTooHeavyError(f"{path} answered with more than {largest:,} bytes; a smaller page may do.")
            if self.clock.monotonic() > latest:
                raise PageTooHeavyError(f"{path} was still sending after {LONGEST_BODY_TIME * self.timeout:.0f} s.")


def _was_asked(problem: BaseException) -> bool:
    """Whether Zendesk got the request and did not answer it, or not to the end: what is too much looks like that."""
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


@dataclass(slots=True, kw_only=True)
class ZendeskClient:
    """Asks Zendesk, politely and stubbornly.

    A 429 is waited out as told and is no failure; connection errors, 5xx and broken bodies are tried again `retries`
    times with growing pauses; everything else is raised as what it means (see `errors`).
    """

    transport: Transport
    credential: Credential
    retries: int
    limiters: Mapping[str, RateLimiter]
    """One for each budget of `Stream.budget`."""
    clock: Clock
    spent: Spent = field(default_factory=Spent)

    def another(self) -> "ZendeskClient":
        """A client for another thread, with counters of its own; the two share credential and limits."""
        return replace(self, transport=self.transport.another(), spent=Spent())

    def page(
        self,
        stream: Stream,
        params: Params,
        read: Callable[[bytes], T],
        *,
        patient: bool = True,
        largest: int | None = None,
    ) -> tuple[T, Mapping[str, str]]:
        """A page of a stream as `read` understands it, and the answer's headers.

        A body of more than `largest` bytes (LARGEST_BODY, if None) is too heavy. Raises PageTooHeavyError at once (a
        smaller page helps, not the same again), MaybeTooHeavyError after all retries, or at once where it is not to be
        `patient`, else any ZendeskError.
        """
        headers, page = self._stubbornly(lambda: self._page(stream, params, read, largest), patient=patient)
        return page, headers

    def who(self) -> tuple[int | None, str | None]:
        """Id and role of the user that the credential belongs to; the id is None where Zendesk sees nobody.

        `users/me` answers 200 to an unknown credential as well.
        https://developer.zendesk.com/api-reference/ticketing/users/users/#show-self
        """
        user = self._stubbornly(self._me)
        return user.id, user.role

    def _stubbornly(self, attempt: Callable[[], T], *, patient: bool = True) -> T:
        return Retrying(
            retry=retry_if_exception(_same_again_may_help if patient else _only_same_again_may_help),
            stop=stop_after_attempt(self.retries + 1),
            wait=_pause,
            sleep=self.clock.sleep,
            reraise=True,
        )(attempt)

    def _page(
        self, stream: Stream, params: Params, read: Callable[[bytes], T], largest: int | None
    ) -> tuple[Mapping[str, str], T]:
        try:
            answer = self._get(stream.path, params, stream.budget, largest)
        except RefusedError as refused:
            raise self._explained(stream, refused) from None
        return answer.headers, read(answer.body)

    def _me(self) -> "_User":
        path = "/api/v2/users/me"
        answer = self._get(path, [], "account")
        try:
            return msgspec.json.decode(answer.body, type=_Me).user
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise TransientError(f"{path} answered 200 without a user.") from None

    def _get(self, path: str, params: Params, budget: str, largest: int | None = None) -> Answer:
        renewed, waited = False, 0.0
        while True:
            answer = self._send(path, params, self.limiters[budget], largest)
            of_a_page = is_web_page(answer.headers, answer.body)
            if answer.status == HTTPStatus.OK and not of_a_page:
                return answer
            if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                waited += self._told_to_wait(path, answer, waited, self.limiters[budget])
            elif (
                answer.status == HTTPStatus.UNAUTHORIZED
                and not of_a_page  # a proxy's own question says nothing of our credential
                and not renewed
                and self.credential.renew()
            ):
                renewed = True
            else:
                problem = refusal(
                    path,
                    answer.status,
                    answer.headers,
                    answer.body,
                    remedy=self.credential.remedy,
                    now=self.clock.now(),
                )
                if isinstance(problem, TransientError) and 0.0 < (problem.retry_after or 0.0) <= LONGEST_WAIT:
                    self.limiters[budget].pause(problem.retry_after or 0.0)  # the other cursors wait as well
                raise problem

    def _send(self, path: str, params: Params, limiter: RateLimiter, largest: int | None) -> Answer:
        self.spent.waited += limiter.acquire()
        self.spent.requests += 1
        began = self.clock.monotonic()
        answer = self.transport.send("GET", path, params=params, auth=self.credential, largest=largest)
        self.spent.latest = self.clock.monotonic() - began
        limiter.observe(answer.headers)
        return answer

    def _told_to_wait(self, path: str, answer: Answer, waited: float, limiter: RateLimiter) -> float:
        """Let no cursor's request out for as long as a 429 asks; raises StarvedError where that adds up to too long."""
        told = retry_after(answer.headers, self.clock.now())
        pause = MINUTE if told is None else max(told, 1.0)
        if waited + pause > LONGEST_WAIT and is_web_page(answer.headers, answer.body):
            raise StarvedError(
                f"{path} was answered 429 with {web_page(answer.headers, answer.body)}, for {waited / 60:.0f} minutes"
                f" by now. {TOO_MANY_FOR_OTHERS} What is missing is collected later."
            )
        if waited + pause > LONGEST_WAIT:
            raise StarvedError(
                f"Zendesk's rate limit let no request to {path} through for {waited / 60:.0f} minutes and asks for"
                f" {pause:.0f} s more. Something else uses up the account's budget; what is missing is collected later."
            )
        limiter.pause(pause)
        return pause

    def _explained(self, stream: Stream, refused: RefusedError) -> RefusedError:
        """A 403 or 404 says little: ask who we are, and say what it means for this stream."""
        if refused.unclear is None:
            return refused
        try:
            identity, role = self.who()
        except ZendeskError as silence:
            return self._unexplained(stream, refused, silence)
        if isinstance(refused, ForbiddenError):
            return ForbiddenError(f"{refused} {self._forbidden(stream, identity, role)}")
        if refused.unclear == HTTPStatus.NOT_FOUND:
            return RefusedError(
                f"{refused.message.removesuffix(CHECK_ADDRESS)} The account is there, and answers users/me: it does not"
                f" offer {stream.name}. Take it out of RESOURCES, or ask Zendesk's support for it."
            )
        return RefusedError(
            f"{refused} Zendesk answers users/me, so a firewall or proxy refuses this address alone: have it let"
            " through."
        )

    def _forbidden(self, stream: Stream, identity: int | None, role: str | None) -> str:
        """What a 403 of the API means for who asks."""
        if identity is None:
            return f"Zendesk does not know the credential. {self.credential.remedy}"
        if role != "admin":
            return f"The credential belongs to a user of role {role}, an admin's is needed."
        return stream.forbidden

    def _unexplained(self, stream: Stream, refused: RefusedError, silence: ZendeskError) -> RefusedError:
        """Where nobody says who we are, such as for a scope that covers the stream and not the question."""
        if isinstance(silence, RefusedError) and silence.unclear == refused.unclear == HTTPStatus.FORBIDDEN:
            return RefusedError(f"{refused} Whatever is asked is refused, users/me too. {IN_FRONT}")
        if isinstance(refused, ForbiddenError):
            return ForbiddenError(f"{refused} The credential has to be an admin's. {stream.forbidden}")
        return refused if refused.unclear == HTTPStatus.NOT_FOUND else RefusedError(f"{refused} {IN_FRONT}")


class _User(msgspec.Struct):
    id: int | None = None
    role: str | None = None


class _Me(msgspec.Struct):
    user: _User


def _same_again_may_help(problem: BaseException) -> bool:
    if not isinstance(problem, TransientError) or isinstance(problem, PageTooHeavyError):
        return False
    return (problem.retry_after or 0.0) <= LONGEST_WAIT


def _only_same_again_may_help(problem: BaseException) -> bool:
    return _same_again_may_help(problem) and not isinstance(problem, MaybeTooHeavyError)


def _pause(state: RetryCallState) -> float:
    problem = state.outcome.exception() if state.outcome else None
    told = problem.retry_after if isinstance(problem, TransientError) else None
    return max(told or 0.0, _backoff(state))


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
        problem = refusal(path, answer.status, answer.headers, b"", remedy="", now=asked_at)
        raise _of_a_token(problem)
    try:
        return msgspec.json.decode(answer.body, type=Grant)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise TransientError(f"{path} answered {answer.status} without an access token.") from None


def _of_a_web_page(path: str, answer: Answer, now: float) -> ZendeskError:
    """Somebody else has answered in the place of the token endpoint: nothing is said of the OAuth client."""
    status = HTTPStatus.OK if answer.status == HTTPStatus.CREATED else answer.status
    problem = refusal(path, status, answer.headers, answer.body, remedy="", now=now)
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
