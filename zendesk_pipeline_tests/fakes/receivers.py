"""Where alerts arrive in tests: mail, services abroad, and one that never answers, over their real protocols.

A webhook is `scripted_server.answering`.
"""

import html
import json
import re
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline_tests.fakes.listening import Connection, listening
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
class Post:
    """What was posted, and where."""

    host: str
    path: str
    """With the query."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Abroad:
    """The hosts of services as seen through a proxy on this machine: they answer, and note what was posted."""

    proxy: str
    posts: list[Post] = field(default_factory=list[Post])


@contextmanager
def abroad(folder: Path, answer: Callable[[Post], tuple[int, bytes]] = lambda _: (200, b"ok")) -> Generator[Abroad]:
    """A proxy that answers for the hosts themselves, with a certificate of its own making in `folder`."""
    certificate = _certificate(folder / "abroad.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    class Service(Connection):
        host = ""

        def do_CONNECT(self) -> None:
            self.host = self.path.partition(":")[0]
            self.send_response_only(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)  # pyright: ignore[reportAttributeAccessIssue]  # what StreamRequestHandler does itself
            self.close_connection = False

        def do_POST(self) -> None:
            post = Post(self.host, self.path, self.rfile.read(int(self.headers["Content-Length"])))
            server.posts.append(post)
            status, said = answer(post)
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    with listening(Service) as port:
        server = Abroad(f"http://{LOOPBACK}:{port}")
        yield server


@dataclass(slots=True)
class Incidents:
    """Services that open and close incidents, as their documentation has it: what is open, by its key.

    PagerDuty: https://developer.pagerduty.com/docs/send-alert-event. Opsgenie and Jira Service Management:
    https://docs.opsgenie.com/docs/alert-api. Splunk On-Call: https://help.splunk.com (REST endpoint integration).
    """

    open: dict[str, str] = field(default_factory=dict[str, str])
    """What is shown of each."""

    def __call__(self, post: Post) -> tuple[int, bytes]:
        """The answer of the service at this host."""
        if post.host.endswith("pagerduty.com"):
            return self._pagerduty(post.json)
        if post.host == "alert.victorops.com":
            return self._splunk(post.json)
        return self._opsgenie(post)

    def _pagerduty(self, event: Any) -> tuple[int, bytes]:
        key = event.get("dedup_key", "")
        if event["event_action"] == "resolve":
            self.open.pop(key, None)
            return (202, b'{"status": "success"}') if key else (400, b'{"status": "invalid event"}')
        payload = event["payload"]
        fine = (
            event["routing_key"]
            and 0 < len(payload["summary"]) <= 1024
            and payload["source"]
            and payload["severity"] in {"critical", "error", "warning", "info"}
            and len(key) <= 255
            and all(link["href"].startswith("http") for link in event.get("links", []))
        )
        if not fine:
            return 400, b'{"status": "invalid event", "errors": ["Length of \'summary\' is incorrect"]}'
        self.open[key or f"by itself {len(self.open)}"] = payload["summary"]
        return 202, b'{"status": "success"}'

    def _splunk(self, event: Any) -> tuple[int, bytes]:
        if event["message_type"] == "RECOVERY":
            self.open.pop(event["entity_id"], None)
        else:
            self.open[event["entity_id"]] = event["entity_display_name"]
        return 200, b'{"result": "success"}'

    def _opsgenie(self, post: Post) -> tuple[int, bytes]:
        closed = re.search(r"/alerts/([^/]+)/close\?identifierType=(\w+)$", post.path)
        if closed and closed[2] == "alias":
            self.open.pop(closed[1], None)
            return 202, b'{"requestId": "1"}'
        if closed or len(post.json["message"]) > 130 or len(post.json["description"]) > 15_000:
            return 422, b'{"message": "Request body is not processable"}'
        self.open[post.json.get("alias", "")] = post.json["message"]
        return 202, b'{"requestId": "1"}'


def strict(post: Post) -> tuple[int, bytes]:
    """The answer of a chat that refuses what is too long, as the real ones do."""
    if post.host == "discord.com":  # https://discord.com/developers/docs/resources/webhook
        return (204, b"") if len(post.json["content"]) <= 2000 else (400, b'{"content": ["Must be 2000 or fewer"]}')
    if post.host == "api.telegram.org":  # https://core.telegram.org/bots/api#sendmessage: after entities parsing
        shown = html.unescape(re.sub(r"<[^>]*>|\\(?=\W)", "", post.json["text"]))
        return (200, b'{"ok": true}') if len(shown) <= 4096 else (400, b'{"description": "message is too long"}')
    if post.host == "hooks.slack.com":  # https://docs.slack.dev/reference/block-kit/blocks
        blocks = [block for each in post.json["attachments"] for block in each.get("blocks", [])]
        limits = {"header": 150, "section": 3000}
        fine = all(len(block["text"]["text"]) <= limits[block["type"]] for block in blocks if block["type"] in limits)
        return (200, b"ok") if fine and len(post.body) <= 40_000 else (400, b"invalid_blocks")
    if post.host == "prod-1.logic.azure.com":  # Teams refuses messages of more than 28 KB
        return (202, b"") if len(post.body) <= 28_000 else (413, b"")
    return 404, b"nobody lives here"


def _certificate(path: Path) -> Path:
    """A certificate and its key, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "abroad.example")])
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
