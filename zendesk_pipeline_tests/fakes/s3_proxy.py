"""A proxy in front of a real S3 server that does what networks and S3 do on bad days.

The pipeline speaks to the proxy, the proxy hands every request on unchanged, and a function of the test decides for
each what happens instead, before, or after it.
"""

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline_tests.fakes.listening import Connection, listening

HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding", "content-length"}

ERROR_BODY = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"


@dataclass(frozen=True, slots=True)
class S3Request:
    """One request as the pipeline sent it."""

    method: str
    key: str
    """Without the bucket; the prefix for a LIST."""
    number: int
    """1 for the first request through the proxy since the last `reset`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """By names in small letters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An error in S3's own form instead of the server's answer; nothing is handed on."""

    status: int
    code: str
    message: str = "made by a test"
    more: str = ""
    """Further elements, as XML."""
    page: bytes | None = None
    """What somebody else than S3 answers, in place of the error."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def body(self) -> bytes:
        error = ERROR_BODY.format(code=self.code, message=self.message, more=self.more).encode()
        return error if self.page is None else self.page


Fate = Literal["pass", "reset_before", "reset_after", "cut", "hang"] | Answer
"""`reset_before`: the connection breaks and nothing is handed on; `reset_after`: the server has done it, and the
pipeline never hears of it; `cut`: it hears half of the answer's body; `hang`: no answer until the pipeline gives up."""


@dataclass(slots=True)
class S3Proxy:
    """A running proxy; `decide` may be set at any time and is asked before, `after` is told once the server did it."""

    endpoint: str
    decide: Callable[[S3Request], Fate] = field(default=lambda _: "pass")
    after: Callable[[S3Request], None] = field(default=lambda _: None)
    seen: list[S3Request] = field(default_factory=list[S3Request])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Pass everything, remember nothing."""
        self.decide, self.after = (lambda _: "pass"), (lambda _: None)
        self.seen.clear()

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.seen)

    def arrived(self, method: str, path: str, headers: Mapping[str, str]) -> S3Request:
        """Number a request."""
        parts = urlsplit(path)
        key = unquote(parts.path).split("/", 2)[-1] if parts.path.count("/") > 1 else ""
        listed = dict(parse_qsl(parts.query))
        with self._lock:
            request = S3Request(
                "LIST" if "list-type" in listed else method,
                key or unquote(listed.get("prefix", "")),
                len(self.seen) + 1,
                {name.lower(): value for name, value in headers.items()},
            )
            self.seen.append(request)
        return request


@contextmanager
def s3_proxy(upstream: str) -> Generator[S3Proxy]:
    """A proxy on a free port in front of the S3 server at `upstream`."""
    with listening(_Handler) as port:
        proxy = S3Proxy(f"http://{LOOPBACK}:{port}")
        _Handler.proxies[port] = (proxy, urlsplit(upstream).netloc)
        yield proxy


class _Handler(Connection):
    proxies: dict[int, tuple[S3Proxy, str]] = {}  # noqa: RUF012  # by port: the server makes handlers by itself

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # the pipeline was killed in the middle: that is what the test wants

    def _serve(self) -> None:
        proxy, upstream = self.proxies[self.connection.getsockname()[1]]
        body = self._received()
        request = proxy.arrived(self.command, self.path, dict(self.headers.items()))
        match proxy.decide(request):
            case Answer() as answer:
                self._reply(answer.status, {"Content-Type": "application/xml", **answer.headers}, answer.body)
            case "reset_before":
                self._reset()
            case "hang":
                self.connection.recv(1)  # returns when the pipeline goes away
                self.close_connection = True
            case "reset_after":
                self._handed_on(upstream, body)
                proxy.after(request)
                self._reset()
            case "cut":
                status, headers, content = self._handed_on(upstream, body)
                self._reply(status, headers, content, sent=len(content) // 2)
                self._reset()
            case "pass":
                status, headers, content = self._handed_on(upstream, body)
                proxy.after(request)
                self._reply(status, headers, content)

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Every method is served alike."""
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _received(self) -> bytes:
        """A request's body, also one that comes in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks: list[bytes] = []
        while length := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _handed_on(self, upstream: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(upstream, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        connection.request(self.command, self.path, body or None, {**headers, "Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP}
        connection.close()
        return answer.status, kept, content

    def _reply(self, status: int, headers: dict[str, str], content: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
            self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def kill_at(proxy: S3Proxy, kill: Callable[[], None], moment: str, put: int) -> None:
    """Have the proxy kill the process when its n-th PUT arrives, or once the server has done it."""

    def is_the_one(request: S3Request) -> bool:
        return request.method == "PUT" and sum(seen.method == "PUT" for seen in proxy.seen[: request.number]) == put

    def before(request: S3Request) -> Fate:
        if moment == "before" and is_the_one(request):
            kill()
            return "reset_before"
        return "pass"

    def after(request: S3Request) -> None:
        if moment == "after" and is_the_one(request):
            kill()

    proxy.decide, proxy.after = before, after
