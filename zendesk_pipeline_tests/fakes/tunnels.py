"""What stands between the pipeline and Zendesk: a host that should never be spoken to, TLS, a proxy.

All of them work on bytes and know nothing of HTTP beyond a proxy's CONNECT.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
PIECE = 1 << 16


@dataclass(slots=True)
class Endpoint:
    """A listening port, and all that came in there."""

    port: int
    connections: int = 0
    refused: "SimpleQueue[str]" = field(default_factory=SimpleQueue[str])
    """One entry for each connection that the other side ended in the TLS handshake: why, as far as it said."""
    received: bytearray = field(default_factory=bytearray)
    """Bytes as they came over the wire."""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


@contextmanager
def silent_host() -> Generator[Endpoint]:
    """A host that takes connections and says nothing; it counts them and keeps what it was sent."""

    def listen(client: socket.socket, endpoint: Endpoint) -> None:
        with suppress(OSError):
            while piece := client.recv(PIECE):
                endpoint.received += piece

    with _listening(listen) as endpoint:
        yield endpoint


@contextmanager
def tls_front(upstream: str, certificate: Path) -> Generator[Endpoint]:
    """TLS in front of a plain server: what is decrypted here is handed on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def serve(client: socket.socket, endpoint: Endpoint) -> None:
        try:
            secured = context.wrap_socket(client, server_side=True)
        except OSError as refusal:  # the client does not trust us
            endpoint.refused.put(str(refusal))
            return
        with secured, _connected(upstream) as server:
            _join(secured, server, endpoint)

    with _listening(serve) as endpoint:
        yield endpoint


@contextmanager
def connect_proxy() -> Generator[Endpoint]:
    """A proxy that opens a way to wherever CONNECT asks for, and keeps the bytes that are sent through it."""

    def serve(client: socket.socket, endpoint: Endpoint) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(PIECE)
            if not piece:
                return
            head += piece
        endpoint.received += head
        method, target, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        with _connected(f"http://{target.decode()}") as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _join(client, server, endpoint)

    with _listening(serve) as endpoint:
        yield endpoint


@contextmanager
def _listening(serve: Callable[[socket.socket, Endpoint], None]) -> Generator[Endpoint]:
    """Each connection is served in a thread of its own."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        endpoint = Endpoint(listener.getsockname()[1])

        def answer(client: socket.socket) -> None:
            with client, suppress(OSError):
                serve(client, endpoint)

        def accept() -> None:
            with suppress(OSError):  # the listener is closed
                while True:
                    client, _ = listener.accept()
                    endpoint.connections += 1
                    threading.Thread(target=answer, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield endpoint
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port or 80))


def _join(client: socket.socket, server: socket.socket, endpoint: Endpoint) -> None:
    """Carry bytes both ways until either side ends."""

    def back() -> None:
        with suppress(OSError):
            while piece := server.recv(PIECE):
                client.sendall(piece)
            client.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=back, daemon=True).start()
    with suppress(OSError):
        while piece := client.recv(PIECE):
            endpoint.received += piece
            server.sendall(piece)
        server.shutdown(socket.SHUT_RDWR)
