"""A server of the tests' own: in a thread, on the loopback address, until its block ends."""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from zendesk_pipeline.local.services import LOOPBACK


class Connection(BaseHTTPRequestHandler):
    """A client's connection; a server's own class has its `do_GET`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, the second must not wait

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Say nothing."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print what went wrong, but for a client that goes away: some tests want just that."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # pyright: ignore[reportArgumentType]  # passed on as it came


@contextmanager
def listening(connection: type[BaseHTTPRequestHandler], *, port: int = 0) -> Generator[int]:
    """Serve on `port`, or on a free one; gives its number."""
    with _Listener((LOOPBACK, port), connection) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield listener.server_address[1]
        finally:
            listener.shutdown()
