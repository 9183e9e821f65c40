"""A client for the Chronicle API, for feeds and parsers. It needs the extra `secops`.

Nothing is retried: a feed that was created although the answer got lost must not be created again.
Feeds: https://docs.cloud.google.com/chronicle/docs/reference/rest/v1beta/projects.locations.instances.feeds (also v1)
Parsers: https://docs.cloud.google.com/chronicle/docs/reference/rest/v1alpha/projects.locations.instances.logTypes.parsers
"""

import base64
import binascii
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote as url_quote

import google.auth
import msgspec
import requests
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from zendesk_pipeline.secops.feed_model import SECRET_FIELD, Feed
from zendesk_pipeline.secops.instance import (
    EVERYTHING,
    LOG_TYPE,
    Instance,
    NoCredentialsError,
    NotThereError,
    Scope,
    SecopsError,
    UnavailableError,
    WaitLimit,
)
from zendesk_pipeline.settings.programs import ours
from zendesk_pipeline.zendesk.error_answers import quote
from zendesk_pipeline.zendesk.transport import NoCredential

Shape = TypeVar("Shape", bound=msgspec.Struct)
T = TypeVar("T")

FEEDS = "v1"
PARSERS = ("v1beta", "v1alpha")
"""The versions that have parsers, the better one first: where it answers 404, as before 2026-04, the other is asked."""
PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
"""What an hour later may be answered."""
TIMEOUT = 60
"""Seconds until an answer begins, and between its parts."""
PAGE_SIZE = 1000
"""The most that feeds.list gives."""
SHORTEST_PIECE = 8
"""Characters of a secret that are never shown in a row."""


def sign_in(key_file: Path | None, scope: Scope = EVERYTHING) -> AuthorizedSession:
    """A session that signs its requests: as the service account, or by Application Default Credentials.

    Raises NoCredentialsError where there are none.
    """
    return AuthorizedSession(_service_account(key_file, scope) if key_file else _default(scope))


def _service_account(key_file: Path, scope: Scope) -> Credentials:
    try:
        return service_account.Credentials.from_service_account_file(str(key_file), scopes=[scope])  # pyright: ignore[reportUnknownVariableType]  # google-auth leaves it open
    except (GoogleAuthError, OSError, ValueError):
        raise SecopsError(f"{key_file} is not one that Google's library can use: a service account's key is.") from None


def _default(scope: Scope) -> Credentials:
    try:
        credentials, _ = google.auth.default(scopes=[scope])  # pyright: ignore[reportUnknownVariableType]  # the same
    except (GoogleAuthError, OSError, ValueError):
        raise NoCredentialsError(
            "There are no Google credentials here that can be used: run gcloud auth application-default login,"
            " set GOOGLE_APPLICATION_CREDENTIALS, or name a key file with --service-account."
        ) from None
    return credentials  # pyright: ignore[reportUnknownVariableType]  # the same


class SecopsClient:
    """One instance, and a session that may ask it."""

    def __init__(self, instance: Instance, session: requests.Session) -> None:
        self.instance = instance
        self.timeout: float = TIMEOUT
        self.waits = WaitLimit(left=math.inf, slow=math.inf)
        self._session = session
        session.auth = NoCredential()  # the session signs
        if instance.endpoint.startswith("http://"):
            session.trust_env = False  # what is not encrypted goes through no proxy

    def feeds(self) -> list[Feed]:
        """All feeds of the instance."""
        return [_as(Feed, each) for each in self._listed(FEEDS, "feeds", "feeds")]

    def create_feed(self, body: Mapping[str, Any]) -> Feed:
        """The feed as SecOps made it of `body` (`feeds.body_of`)."""
        return _as(Feed, self._call("POST", FEEDS, "feeds", body))

    def switch_feed(self, feed_id: str, *, enabled: bool) -> Feed:
        """The feed after it was enabled or disabled."""
        return _as(Feed, self._call("POST", FEEDS, f"feeds/{feed_id}:{'enable' if enabled else 'disable'}"))

    def subject_id(self) -> str:
        """Who takes the reader's role: the identity of this instance's feeds towards AWS."""
        answer = self._call("GET", FEEDS, "feedServiceAccounts:fetchServiceAccountForCustomer")
        return _as(_ServiceAccount, answer).subject_id

    def parsers(self) -> "list[Parser]":
        """The parsers of the log type."""
        path = f"logTypes/{LOG_TYPE}/parsers"
        return self._of_parsers(lambda version: [_as(Parser, each) for each in self._listed(version, path, "parsers")])

    def run_parser(self, code: str, logs: Sequence[bytes]) -> "list[Parsed]":
        """What a parser (`Parser.cbn`, base64) makes of each log, in their order. Nothing is ingested."""
        body = {"parser": {"cbn": code}, "log": [base64.b64encode(log).decode() for log in logs]}
        path = f"logTypes/{LOG_TYPE}:runParser"
        answer = self._of_parsers(lambda version: self.query(version, path, body))
        results = _as(_Run, answer).run_parser_results
        if len(results) != len(logs):
            raise SecopsError(f"SecOps ran the parser on {len(logs)} logs and gave {len(results)} results.")
        return results

    def query(self, version: str, path: str, body: Mapping[str, Any]) -> Any:
        """What a method answers that takes its question as a body, and changes nothing; JSON, not looked at yet."""
        return self._asked("POST", version, path, body, reads=True)

    def _listed(self, version: str, path: str, items: str) -> Iterator[Any]:
        token, seen = "", set[str]()
        while token not in seen:
            seen.add(token)
            parameters = {"pageSize": str(PAGE_SIZE), **({"pageToken": token} if token else {})}
            answer = self._call("GET", version, path, parameters=parameters)
            yield from answer.get(items, [])
            token = answer.get("nextPageToken", "")
            if not token:
                return
        raise SecopsError(f"SecOps gave the same page of {items} twice: try again later.")

    def _of_parsers(self, ask: Callable[[str], T]) -> T:
        """What a version of the API gives that has parsers."""
        first, *others = PARSERS
        for version in others:
            try:
                return ask(first)
            except NotThereError:
                first = version
        return ask(first)

    def _call(
        self,
        method: str,
        version: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        answer = self._asked(method, version, path, body, parameters=parameters, reads=method == "GET")
        if not isinstance(answer, dict):
            raise SecopsError(f"SecOps answered {method} {path} with something that is no JSON object.")
        return answer  # pyright: ignore[reportUnknownVariableType]  # JSON

    def _asked(
        self,
        method: str,
        version: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        parameters: Mapping[str, str] | None = None,
        reads: bool,
    ) -> Any:
        url = self.instance.url(version, path)
        self.waits.check(self.instance.endpoint)
        begun = self.waits.monotonic()
        try:
            response = self._session.request(
                method, url, params=parameters, json=body, timeout=self.timeout, allow_redirects=False
            )
        except RefreshError as problem:
            if problem.retryable or any(
                isinstance(each, TransportError) for each in (problem.__cause__, *problem.args)
            ):
                raise UnavailableError("Google's sign-in could not be reached. Try again later.") from None
            raise SecopsError(f"Google does not renew the credential ({quote(str(problem).encode())}).") from None
        except (GoogleAuthError, requests.RequestException) as problem:
            cause = type(problem).__name__
            raise UnavailableError(
                f"{self.instance.endpoint} could not be reached ({cause}).{_unsure(reads=reads)}"
            ) from None
        finally:
            self.waits.spend(begun)
        if response.status_code != HTTPStatus.OK:
            passes = response.status_code in PASSING or response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
            refusal: type[SecopsError] = UnavailableError if passes else SecopsError
            refusal = NotThereError if response.status_code == HTTPStatus.NOT_FOUND else refusal
            what = f"{method} {path}"
            raise refusal(_sentence(self.instance, what, response, secrets=list(_secrets(body)), reads=reads))
        try:
            return response.json()
        except ValueError:
            return None


class Parser(msgspec.Struct, frozen=True, rename="camel"):
    """A parser: the fields that are used."""

    name: str
    state: str = ""
    """ACTIVE or INACTIVE."""
    type: str = ""
    """CUSTOM or PREBUILT."""
    cbn: str = ""
    """The code, base64; none for a parser without code."""
    release_stage: str = ""
    """RELEASE, or RELEASE_CANDIDATE: one that will take the place of Google's active one."""
    parser_extension: str = ""
    """What is applied on top of it, if anything."""

    @property
    def parser_id(self) -> str:
        return self.name.rpartition("/")[2]

    def code(self) -> str | None:
        """What `run_parser` takes; None for a parser without code."""
        try:
            return self.cbn if base64.b64decode(self.cbn, validate=True) else None
        except binascii.Error:
            return None


class ParserError(msgspec.Struct, frozen=True):
    """Why a log was not parsed."""

    message: str = ""


class _Event(msgspec.Struct, frozen=True):
    event: dict[str, Any] = {}


class _Events(msgspec.Struct, frozen=True):
    events: tuple[_Event, ...] = ()


class Parsed(msgspec.Struct, frozen=True, rename="camel"):
    """What became of one log: UDM events, or an error."""

    parsed_events: _Events = _Events()
    error: ParserError | None = None

    @property
    def events(self) -> list[dict[str, Any]]:
        return [each.event for each in self.parsed_events.events]


class _Run(msgspec.Struct, frozen=True, rename="camel"):
    run_parser_results: list[Parsed] = []


class _ServiceAccount(msgspec.Struct, frozen=True, rename="camel"):
    subject_id: str


def _as(kind: type[Shape], answer: Any) -> Shape:
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as problem:
        raise SecopsError(f"SecOps answered with something that is no {kind.__name__.strip('_')}: {problem}.") from None


def _unsure(*, reads: bool) -> str:
    if reads:
        return " Try again later."
    return f" Whether it took effect is not known: look with {ours('feed show')} before you try again."


def _sentence(instance: Instance, asked: str, response: requests.Response, *, secrets: list[str], reads: bool) -> str:
    said, role = _said(response.content, secrets), "viewer" if reads else "admin"
    what = f"SecOps answered {response.status_code} to {asked}" + (f" ({said})" if said else "")
    remedies: dict[int, str] = {
        HTTPStatus.UNAUTHORIZED: "the credential is not accepted. Run gcloud auth application-default login, or make a"
        " new key for the service account.",
        HTTPStatus.FORBIDDEN: f"the identity may not do this. Give it the role roles/chronicle.{role} in project"
        f" {instance.project}, or one with the permission that is named; and check customer id and region.",
        HTTPStatus.NOT_FOUND: "there is no such thing. Check SECOPS_CUSTOMER_ID, SECOPS_PROJECT and SECOPS_REGION.",
        HTTPStatus.CONFLICT: f"it is there already. Choose another --display-name, or look with {ours('feed show')}.",
        HTTPStatus.TOO_MANY_REQUESTS: "too many requests. Wait a minute and try again.",
    }
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"{what}: a fault on Google's side.{_unsure(reads=reads)}"
    remedy = remedies.get(response.status_code)
    return f"{what}: {remedy}" if remedy else f"{what}."


def _secrets(body: Any) -> Iterator[str]:
    """What a request holds that nobody may see."""
    if isinstance(body, dict):
        for key, value in body.items():  # pyright: ignore[reportUnknownVariableType]  # JSON
            if key == SECRET_FIELD:
                yield str(value)  # pyright: ignore[reportUnknownArgumentType]  # the same
            else:
                yield from _secrets(value)


def _said(content: bytes, secrets: list[str]) -> str:
    """Google's own words; none at all where they repeat a piece of a secret that was sent, however it is written."""
    said = quote(content)
    plain = said.replace("\\", "")
    for secret in secrets:
        for written in (secret, url_quote(secret, safe="")):
            starts = range(max(1, len(written) - SHORTEST_PIECE + 1))
            if any(written[start : start + SHORTEST_PIECE] in plain for start in starts):
                return ""
    return said
