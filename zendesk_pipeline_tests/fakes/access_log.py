"""Lines of S3's server access log, as AWS documents them, and log objects as S3 names them.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from urllib.parse import quote

OWNER = "5f2c7a91d04e4b8fa6c3e2d1908b7f65a4c3b2e1d0f9e8d7c6b5a4f3e2d1c0b9"
ACCOUNT = "123456789012"
REGION = "eu-central-1"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/secops/zendesk-reader"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/zendesk-reader/google-transfer-7"
WRITER = f"arn:aws:sts::{ACCOUNT}:assumed-role/zendesk-writer/i-0a1b2c3d4e5f60718"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request that S3 has answered; the reader's whole read of an object, unless it is said otherwise."""

    bucket: str
    key: str
    at: float
    size: int
    requester: str = SESSION
    operation: str = "REST.GET.OBJECT"
    status: int = 200
    error: str = "-"
    sent: int | None = None
    """Bytes; the whole object if None."""
    request_id: str = ""
    client: str = "Google-StorageTransferService/1.0"

    def line(self) -> str:
        """The line of the log, every field."""
        encoded = quote(quote(self.key, safe="/"), safe="/")  # once by the client, and once more by S3
        sent = self.size if self.sent is None else self.sent
        return (
            f"{OWNER} {self.bucket} [{_moment(self.at)}] 192.0.2.33 {self.requester}"
            f" {self.request_id or f'{next(_numbers):016X}'} {self.operation} {encoded}"
            f' "GET /{quote(self.key)} HTTP/1.1" {self.status} {self.error} {sent or "-"} {self.size} 61 44 "-"'
            f' "{self.client}" - k2Vb7TzQ9+mR4xWc1LhN8/aYpD6sEuGfJ3oI5tKqXn0= SigV4 TLS_AES_128_GCM_SHA256'
            f" AuthHeader {self.bucket}.s3.{REGION}.amazonaws.com TLSv1.3 - - {REGION}"
        )

    def changed(self, **fields: object) -> "Request":
        """The same request, but for some fields."""
        return replace(self, **fields)  # pyright: ignore[reportArgumentType]  # as the fields are


def written(requests: Iterable[Request | str]) -> bytes:
    """A log object of requests, or of lines as they stand."""
    lines = (each if isinstance(each, str) else each.line() for each in requests)
    return "".join(f"{line}\n" for line in lines).encode()


def partitioned(prefix: str, bucket: str, at: float) -> str:
    """The key of a log object, by the date of its delivery."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{prefix}{ACCOUNT}/{REGION}/{bucket}/{moment:%Y/%m/%d}/{moment:%Y-%m-%d-%H-%M-%S}-{_unique()}"


def simple(prefix: str, at: float) -> str:
    """The key of a log object of the simple format."""
    return f"{prefix}{datetime.fromtimestamp(at, UTC):%Y-%m-%d-%H-%M-%S}-{_unique()}"


def _unique() -> str:
    return f"{next(_numbers):016X}"


def _moment(at: float) -> str:
    there = datetime.fromtimestamp(at, UTC)
    return f"{there:%d}/{MONTHS[there.month - 1]}/{there:%Y:%H:%M:%S} +0000"
