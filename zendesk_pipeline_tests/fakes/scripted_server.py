"""A server that gives prepared answers, for what the simulated Zendesk never says; and pages made by hand."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import msgspec

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline_tests.fakes.listening import Connection, listening


@dataclass(frozen=True, slots=True)
class Reply:
    """One prepared answer; no header is added to those given but the body's length."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pause: float = 0.0
    """Seconds between the single bytes of the body, 0 to send it at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as it came."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    """By names in small letters."""
    body: bytes
    connection: int
    """The client's port: the same for requests over the same connection."""


@dataclass(frozen=True, slots=True)
class ScriptedServer:
    """Where it listens and what it received."""

    url: str
    received: list[Received] = field(default_factory=list[Received])


@contextmanager
def answering(*replies: Reply) -> Generator[ScriptedServer]:
    """A server on a free port that gives these answers in their order, and the last of them again and again."""
    waiting = list(replies)

    class Script(Connection):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, query = self.path.partition("?")
            seen = Received(
                method=self.command,
                path=path,
                query=parse_qsl(query, keep_blank_values=True),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
                connection=self.client_address[1],
            )
            server.received.append(seen)
            self._send(waiting.pop(0) if len(waiting) > 1 else waiting[0])

        def do_POST(self) -> None:
            self.do_GET()

        def _send(self, reply: Reply) -> None:
            self.send_response_only(reply.status)
            length = {} if "Transfer-Encoding" in reply.headers else {"Content-Length": str(len(reply.body))}
            for name, value in {**length, **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if not reply.pause:
                self.wfile.write(reply.body)
                return
            for byte in reply.body:
                time.sleep(reply.pause)
                self.wfile.write(bytes([byte]))

    with listening(Script) as port:
        server = ScriptedServer(f"http://{LOOPBACK}:{port}")
        yield server


def tickets_page(records: Sequence[bytes] = (), *, cursor: str | None = None, more: bool = False) -> bytes:
    """A page of the ticket export."""
    tail = {"after_url": None, "after_cursor": cursor, "before_cursor": None, "end_of_stream": not more}
    return _page(b"tickets", records, tail)


def audit_logs_page(records: Sequence[bytes] = (), *, cursor: str | None = None, more: bool = False) -> bytes:
    """A page of the audit log list."""
    return _page(b"audit_logs", records, {"meta": {"has_more": more, "after_cursor": cursor}, "links": {"next": None}})


def _page(items: bytes, records: Sequence[bytes], tail: Mapping[str, object]) -> bytes:
    return b'{"%b":[%b],%b' % (items, b",".join(records), msgspec.json.encode(tail)[1:])
