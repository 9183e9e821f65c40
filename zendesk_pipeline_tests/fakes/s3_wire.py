"""What a client sends to S3, and faults on the way: by botocore's own events, the rest stays real HTTP."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError


@dataclass(frozen=True, slots=True)
class Sent:
    """One request."""

    operation: str
    """Such as `PutObject`."""
    key: str
    """The object's key, or the prefix that is listed."""


Fault = Callable[[Sent, Callable[[], AWSResponse]], AWSResponse | None]
"""Answers in S3's place, or lets a request through with None; may raise what a broken connection raises.

Its second argument really sends the request and gives S3's answer.
"""


@dataclass(slots=True)
class Wire:
    """The requests of one client, in the order they were sent."""

    client: Any
    sent: list[Sent] = field(default_factory=list[Sent])
    fault: Fault | None = None

    def __post_init__(self) -> None:
        self.client.meta.events.register("before-send.s3", self._before_send)

    def keys(self, operation: str) -> list[str]:
        """What an operation was asked for."""
        return [sent.key for sent in self.sent if sent.operation == operation]

    def _before_send(self, request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse | None:
        parts = urlsplit(str(request.url))
        listed = parse_qs(parts.query).get("prefix", [""])[0]
        sent = Sent(event_name.rpartition(".")[2], unquote(parts.path.partition("/")[2].partition("/")[2]) or listed)
        self.sent.append(sent)
        send = partial(self.client._endpoint.http_session.send, request)
        return self.fault(sent, send) if self.fault else None


class _Body:
    """The part of an HTTP body that AWSResponse reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self) -> list[bytes]:
        return [self._content]


def stored() -> AWSResponse:
    """What S3 answers to a write that it has done."""
    return AWSResponse("", 200, {"ETag": '"1"'}, _Body(b""))  # pyright: ignore[reportArgumentType]  # it only streams


def refusal(status: int, code: str) -> AWSResponse:
    """An error as S3 answers it."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>simulated</Message></Error>'
    return AWSResponse("", status, {"content-type": "application/xml"}, _Body(body.encode()))  # pyright: ignore[reportArgumentType]  # it only streams


def refusing(status: int, code: str) -> Fault:
    """Every request is answered with an error."""
    return lambda sent, send: refusal(status, code)  # noqa: ARG005 - the type of a fault


def gone_from(number: int, operation: str = "PutObject", *, stored: bool = False) -> Fault:
    """The connection breaks at the n-th request of an operation (0 is the first) and at all that follow.

    With `stored` that n-th request gets through and only its answer is lost.
    """
    count = itertools.count()

    def fault(sent: Sent, send: Callable[[], AWSResponse]) -> AWSResponse | None:
        if sent.operation != operation or (now := next(count)) < number:
            return None
        if stored and now == number:
            send()
        raise ConnectionClosedError(endpoint_url="http://s3")

    return fault


def denying(*operations: str, within: str = "") -> Fault:
    """The credential may not do that below a prefix."""

    def fault(sent: Sent, _: Callable[[], AWSResponse]) -> AWSResponse | None:
        denied = sent.operation in operations and sent.key.startswith(within)
        return refusal(403, "AccessDenied") if denied else None

    return fault
