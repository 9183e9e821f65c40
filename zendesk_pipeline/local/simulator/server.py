"""The simulator on the wire: HTTP/1.1 with kept connections, one thread a connection, one send an answer."""

import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn

from zendesk_pipeline.local.simulator.admin import PREFIX, admin_answer
from zendesk_pipeline.local.simulator.faults import WIRE_KINDS, Rule
from zendesk_pipeline.local.simulator.messages import Answer, Request, error
from zendesk_pipeline.local.simulator.packing import CHUNK, bomb, packed
from zendesk_pipeline.local.simulator.zendesk import Zendesk

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on with zero seconds: closing sends RST instead of FIN


class SimulatorServer(ThreadingMixIn, TCPServer):
    """Listens for one simulated account."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], zendesk: Zendesk, *, log: bool = False) -> None:
        super().__init__(address, Connection)
        self.zendesk = zendesk
        self.log = log

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{host}:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]  # only printed there


class Connection(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SimulatorServer  # pyright: ignore[reportIncompatibleVariableOverride]  # no other server makes connections

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Answer."""
        self._answer()

    def do_DELETE(self) -> None:
        """Answer."""
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is http.server's
        """Say what was asked, if wanted."""
        if self.server.log:
            super().log_message(format, *args)

    def _answer(self) -> None:
        request = self._read()
        if request.path.startswith(PREFIX):
            self._send(admin_answer(self.server.zendesk, request), ())
            return
        zendesk = self.server.zendesk
        time.sleep(zendesk.settings.latency_ms / 1000)
        try:
            answer, rule = zendesk.answer(request)
        except Exception as mistake:  # noqa: BLE001 - a mistake of the simulator must not look like a lost connection
            self.log_error("%r", mistake)
            answer, rule = error(500, "SimulatorMistake", repr(mistake)), None
        self._deliver(request, answer, rule)

    def _read(self) -> Request:
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(method=self.command, path=path, query=query, headers=headers, body=body)

    def _deliver(self, request: Request, answer: Answer, rule: Rule | None) -> None:
        """Send the answer, or what a fault of the wire makes of it."""
        zendesk = self.server.zendesk
        broken = rule is not None and rule.kind in WIRE_KINDS
        silent = rule is not None and rule.kind in {"reset", "hang"}
        zendesk.remember(request, None if silent else answer.status, rule)
        if rule is None or not broken:
            self._send(packed(answer, request, zendesk.settings.encoding), zendesk.headers(request, rule))
            return
        self.close_connection = True
        with suppress(OSError):  # the client gives up on some of these, as it should
            self._break(request, answer, rule)

    def _break(self, request: Request, answer: Answer, rule: Rule) -> None:
        headers = self.server.zendesk.headers(request)
        body = answer.body
        if rule.kind == "truncate":
            self._send(Answer(parts=(body[: len(body) // 2],)), headers)
        elif rule.kind == "endless_body":
            self._send_chunks(_endless(), headers)
        elif rule.kind in {"gzip_bomb", "zstd_bomb"}:
            encoding = "gzip" if rule.kind == "gzip_bomb" else "zstd"
            self._send_chunks(bomb(encoding, rule.size), (*headers, ("Content-Encoding", encoding)))
        elif rule.kind == "hang":
            time.sleep(rule.seconds)
        else:
            if rule.kind == "reset_mid_body":
                head = self._head(answer, len(body), headers)
                self.connection.sendall(head + body[: len(body) // 2])
            self._reset()

    def _send(self, answer: Answer, headers: tuple[tuple[str, str], ...]) -> None:
        """Head and body in one go: two sends would wait for each other's acknowledgement."""
        head = self._head(answer, sum(map(len, answer.parts)), headers)
        self.connection.sendall(b"".join((head, *answer.parts)))

    def _head(self, answer: Answer, length: int | None, headers: tuple[tuple[str, str], ...]) -> bytes:
        """Status line and headers; without a length the body comes in chunks."""
        framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        closing = (("Connection", "close"),) if self.close_connection else ()
        fields = (("Content-Type", answer.content_type), framing, *closing, *headers, *answer.headers)
        lines = [
            f"HTTP/1.1 {answer.status} {_reason(answer.status)}",
            *(f"{name}: {value}" for name, value in fields),
        ]
        self.log_request(answer.status, length or "-")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send_chunks(self, chunks: Iterator[bytes], headers: tuple[tuple[str, str], ...]) -> None:
        self.connection.sendall(self._head(Answer(), None, headers))
        for chunk in chunks:
            self.connection.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.connection.sendall(b"0\r\n\r\n")

    def _reset(self) -> None:
        """Close with RST; the reader holds the socket open until it is closed too."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.rfile.close()
        self.connection.close()


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _endless() -> Iterator[bytes]:
    """A page that begins as it should and goes on until the client has enough."""
    yield b'{"tickets":[{"id":1,"subject":"'
    while True:
        yield b"a" * CHUNK
