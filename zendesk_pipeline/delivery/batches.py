"""The content of one object of the feed: lines, bounded in bytes, compressed the same way every time."""

import base64
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from zendesk_pipeline.delivery.object_keys import DIGEST_LENGTH, digest
from zendesk_pipeline.model.records import Record, record_reader, records_of_envelope
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Window

LONGEST_LINE = 3_900_000
"""Bytes. Above 4 MB a line fails the whole SecOps feed (MaxLogLineSize4MBExceeded).

https://docs.cloud.google.com/chronicle/docs/administration/feed-management
"""
COMPRESSION_LEVEL = 6
OTHER_BYTES = "holds other bytes than its name says"
SEPARATOR = 1
"""Bytes between two lines, or between two records of an envelope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFormat:
    """How records become an object."""

    items: str
    """The stream's name for its records, for the envelope."""
    envelope: bool
    """One line `{"audit_logs":[…]}` an object, as the Lambda recipe writes it, instead of a record a line."""
    compress: bool
    limit: int
    """The most bytes of an object before compression; a single longer record has an object for itself."""

    @property
    def head(self) -> bytes:
        return b'{"%s":[' % self.items.encode() if self.envelope else b""

    @property
    def separator(self) -> bytes:
        return b"," if self.envelope else b"\n"

    @property
    def tail(self) -> bytes:
        return b"]}\n" if self.envelope else b"\n"

    @property
    def size_limit(self) -> int:
        return min(self.limit, LONGEST_LINE) if self.envelope else self.limit

    @property
    def longest_record(self) -> int:
        """An envelope of one record has to be a line that the feed takes as well."""
        return LONGEST_LINE - len(self.head) - len(self.tail)

    @property
    def content_type(self) -> str:
        """Never with a Content-Encoding: the feed tells compression by the name."""
        return "application/gzip" if self.compress else "application/x-ndjson"

    @property
    def suffix(self) -> str:
        return ".json.gz" if self.compress else ".json"


class Batch:
    """Lines that wait to become one object."""

    def __init__(self, form: BatchFormat) -> None:
        self._form = form
        self._lines: list[bytes] = []
        self._room = self._empty = form.size_limit - len(form.head) - len(form.tail)
        self.identities: list[str] = []

    def has_room(self, line: bytes) -> bool:
        """Whether the line fits; an empty batch takes any."""
        return len(line) <= self._room or not self._lines

    @property
    def size(self) -> int:
        """Bytes that it holds."""
        return self._empty - self._room

    def add(self, record: Record, line: bytes) -> None:
        """Put the record's line, whole or shortened, at the end."""
        self._lines.append(line)
        self._room -= len(line) + SEPARATOR
        self.identities.append(record.identity)

    def content(self) -> bytes:
        """The content of the object. To be called once: the batch drops its lines."""
        lines = self._lines
        lines[0] = self._form.head + lines[0]
        lines[-1] += self._form.tail
        content = self._form.separator.join(lines)
        lines.clear()
        return content


@dataclass(frozen=True, slots=True)
class Encoded:
    """An object's bytes as stored, and its two digests."""

    body: bytes
    sha256: str
    """Of the content before compression, hexadecimal: what keys are made of."""
    checksum: str
    """Of the body as stored, base64: what S3 checks."""


def encode(content: bytes, *, compress: bool) -> Encoded:
    """Deterministic: no time of day in the gzip header."""
    digest = hashlib.sha256(content)
    if not compress:
        return Encoded(content, digest.hexdigest(), base64.b64encode(digest.digest()).decode())
    body = gzip.compress(content, COMPRESSION_LEVEL, mtime=0)
    return Encoded(body, digest.hexdigest(), base64.b64encode(hashlib.sha256(body).digest()).decode())


def content_of(key: str, body: bytes) -> bytes:
    """An object's content before compression; raises ValueError where it is not what the key says."""
    if not key.endswith(".gz"):
        return body
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as problem:
        raise ValueError(str(problem)) from None


def records_in(stream: Stream, content: bytes) -> Iterator[Record]:
    """The records of an object in either format; raises ValueError (msgspec's) where it is neither."""
    record_of, envelope = record_reader(stream), records_of_envelope(stream)
    for line in content.splitlines():
        try:
            yield record_of(line)
        except msgspec.ValidationError:
            yield from map(record_of, envelope(line))


@dataclass(frozen=True, slots=True)
class Examined:
    """What an object under a name of ours holds."""

    identities: list[str]
    """In the order of the lines."""
    flaws: list[str]
    """What no object of ours has, as ends of sentences; none where it may well be ours."""


def examined(stream: Stream, window: Window, key: str, body: bytes) -> Examined:
    """Look at an object as it is stored: whether name, window and form are those that we give."""
    identities: list[str] = []
    elsewhere = False
    try:
        content = content_of(key, body)
        for record in records_in(stream, content):
            identities.append(record.identity)
            elsewhere = elsewhere or Window.of(record.time) != window
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return Examined([], ["holds something that is no record"])
    found = {
        "does not end with a line end": not content.endswith(b"\n"),
        "has a line that is too long for the feed": any(len(line) > LONGEST_LINE for line in content.splitlines()),
        "holds records of another window": elsewhere,
        "holds a record twice": len(set(identities)) < len(identities),
    }
    flaws = [text for text, holds in found.items() if holds]
    differs = hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH] != digest(key)
    return Examined(identities, flaws or ([OTHER_BYTES] if differs else []))
