"""A request as it came and an answer as it goes out, with Zendesk's error bodies.

Zendesk's "error" is sometimes a string and sometimes an object; both shapes are kept as they were seen.
Source: https://developer.zendesk.com/api-reference/introduction/requests and the issues named in docs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import parse_qsl

import msgspec

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request; `headers` has lower-case names, `query` is the raw text after the question mark."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """The query's names and values in their order, decoded."""
        return parse_qsl(self.query, keep_blank_values=True)

    def value(self, name: str) -> str | None:
        """The last value of a parameter, as Rails reads a name that was given twice."""
        return dict(self.pairs).get(name)

    def values(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated."""
        return [value for key, value in self.pairs if key == name]

    @property
    def endpoint(self) -> str:
        """The path without the `.json` that old clients add."""
        return self.path.removesuffix(".json")

    @property
    def authorization(self) -> str:
        """The Authorization header, empty if there is none."""
        return self.headers.get("authorization", "")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One HTTP answer; `parts` joined are the body (parts, so that a cached page of megabytes is copied once)."""

    status: int = 200
    parts: tuple[bytes, ...] = ()
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)


def json_answer(value: object, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """A value as compact JSON."""
    return Answer(status=status, parts=(msgspec.json.encode(value),), headers=headers)


def error(status: int, name: str, description: str) -> Answer:
    """The usual error body: two strings."""
    return json_answer({"error": name, "description": description}, status=status)


def forbidden() -> Answer:
    """403 for a missing plan or role: here "error" is an object."""
    message = (
        "You do not have access to this page. Please contact the account owner of this help desk for further help."
    )
    return json_answer({"error": {"title": "Forbidden", "message": message}}, status=403)


def not_authenticated() -> Answer:
    """401 as Basic authentication answers it."""
    headers = (("WWW-Authenticate", 'Basic realm="Web Password"'),)
    return json_answer({"error": "Couldn't authenticate you"}, status=401, headers=headers)


def invalid_token() -> Answer:
    """401 as a bearer token is refused."""
    description = "The access token provided is expired, revoked, malformed or invalid for other reasons."
    return json_answer({"error": "invalid_token", "error_description": description}, status=401)


def missing_scope() -> Answer:
    """403 for a token whose scope does not cover the endpoint; such a token is issued without complaint."""
    return error(403, "Forbidden", "Missing the following required scopes: read")


def not_found(path: str) -> Answer:
    """404: an id that does not exist under a known resource, or a path that is none at all."""
    known = path.startswith(("/api/v2/tickets/", "/api/v2/audit_logs/"))
    return error(404, "RecordNotFound" if known else "InvalidEndpoint", "Not found")
