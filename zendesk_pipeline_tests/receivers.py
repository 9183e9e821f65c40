"""Where alerts arrive in tests: a mail server, a Slack, and a service that never answers, over their real protocols.

A webhook is `scripted_server.answering`.
"""

import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from zendesk_pipeline.local_services import LOOPBACK
from zendesk_pipeline_tests.ports import lasting_port


@dataclass(frozen=True, slots=True)
class PostOffice:
    """A mail server and what was handed in."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list[EmailMessage])

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content.replace(b"\r\n", b"\n"), policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 Message accepted for delivery"


@contextmanager
def post_office() -> Generator[PostOffice]:
    """A mail server on a free port."""
    port = lasting_port()
    office = PostOffice(port)
    controller = Controller(office, hostname=LOOPBACK, port=port)
    controller.start()
    try:
        yield office
    finally:
        controller.stop()


@contextmanager
def silence() -> Generator[int]:
    """A port on which somebody listens and never says a word."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


@dataclass(frozen=True, slots=True)
class Slack:
    """Slack's host as seen through a proxy on this machine, and what was posted."""

    proxy: str
    posts: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    """Host and path, and the body."""


@contextmanager
def slack(folder: Path) -> Generator[Slack]:
    """A proxy that answers for the host itself, with a certificate of its own making in `folder`."""
    certificate = _certificate(folder / "slack.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        host = ""

        def do_CONNECT(self) -> None:  # the base class names it so
            self.host = self.path.partition(":")[0]
            self.send_response_only(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)  # pyright: ignore[reportAttributeAccessIssue]  # what StreamRequestHandler does itself
            self.close_connection = False

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.posts.append((f"{self.host}{self.path}", body))
            self.send_response_only(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Connection) as listener:
        listener.daemon_threads = True
        server = Slack(f"http://{LOOPBACK}:{listener.server_address[1]}")
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listener.shutdown()


def _certificate(path: Path) -> Path:
    """A certificate and its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.slack.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path
