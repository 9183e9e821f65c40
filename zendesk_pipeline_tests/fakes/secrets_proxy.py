"""A proxy in front of moto's Secrets Manager that a test decides by: kills, lost answers, errors, and the time of day.

Requests go through one at a time, because moto looks and writes in two steps where AWS does it in one.
"""

import http.client
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline_tests.fakes.listening import Connection, listening


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsRequest:
    """One request as it came."""

    action: str
    """Such as GetSecretValue."""
    labels: tuple[str, ...]
    """The staging labels that it names."""
    number: int
    """1 for the first since the last `reset`."""


Fate = str
"""`pass`, `lose_request`, `lose_answer`, or the name of an error that is answered; nothing is handed on then."""


@dataclass(slots=True)
class SecretsProxy:
    """A running proxy."""

    endpoint: str
    decide: Callable[[AwsRequest], Fate] = field(default=lambda _: "pass")
    after: Callable[[AwsRequest], None] = field(default=lambda _: None)
    later: float = 0.0
    """Seconds by which the service's clock is ahead of moto's."""
    made: dict[str, float] = field(default_factory=dict[str, float])
    """How far it was ahead when a version was made."""
    seen: list[AwsRequest] = field(default_factory=list[AwsRequest])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Pass everything, remember nothing, at the real time."""
        self.decide, self.after, self.later = (lambda _: "pass"), (lambda _: None), 0.0
        self.seen.clear()


@contextmanager
def secrets_proxy(upstream: str) -> Generator[SecretsProxy]:  # noqa: C901  # a handler is a class in a function here
    """A proxy on a free port in front of the moto at `upstream`."""
    target = urlsplit(upstream).netloc

    class Service(Connection):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with proxy.lock:
                self._serve(_read(self.headers.get("X-Amz-Target") or "", body, len(proxy.seen) + 1), body)

        def _serve(self, request: AwsRequest, body: bytes) -> None:
            proxy.seen.append(request)
            fate = proxy.decide(request)
            if fate == "lose_request":
                self.close_connection = True
            elif fate not in {"pass", "lose_answer"}:
                self._reply(400, json.dumps({"__type": fate, "message": "made by a test"}).encode())
            else:
                status, content = self._handed_on(body)
                proxy.after(request)
                self.close_connection = fate == "lose_answer"
                if fate == "pass":
                    self._reply(status, content)

        def _handed_on(self, body: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(target, timeout=60)
            connection.request("POST", self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer.status, self._dated(json.loads(body), json.loads(content))

        def _dated(self, asked: dict[str, Any], answered: dict[str, Any]) -> bytes:
            if number := asked.get("ClientRequestToken"):
                proxy.made.setdefault(number, proxy.later)
            if "CreatedDate" in answered:
                answered["CreatedDate"] += proxy.made.get(answered["VersionId"], 0.0)
            return json.dumps(answered).encode()

        def _reply(self, status: int, content: bytes) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + timedelta(seconds=proxy.later), usegmt=True))
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                self.close_connection = True  # the client was killed: that is what the test wants

    with listening(Service) as port:
        proxy = SecretsProxy(f"http://{LOOPBACK}:{port}")
        yield proxy


def _read(target: str, body: bytes, number: int) -> AwsRequest:
    asked: dict[str, Any] = json.loads(body)
    labels = [*asked.get("VersionStages", []), *([asked["VersionStage"]] if "VersionStage" in asked else [])]
    return AwsRequest(action=target.rpartition(".")[2], labels=tuple(labels), number=number)
