"""The ledger of a window: which identities it has delivered, and the objects that hold them."""

import gzip
import zlib

import msgspec

from zendesk_pipeline.model.windows import Window, timestamp

VERSION = 1
COMPRESSION_LEVEL = 5
"""A thousand identities are as small as at level 9, in a seventh of the time."""


class Delivered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object of the feed."""

    key: str
    sha256: str
    """Of the object's content before compression, hexadecimal."""
    bytes: int
    """As stored."""
    content_bytes: int = 0
    """Before compression; not there where it is stored as it is, nor in ledgers from before 2026-12."""
    identities: list[str]
    """In the order of the lines."""
    redaction: str = ""
    """The digest of the redaction rules that its lines went through; not there where there were none."""
    redelivery: str = ""
    """The first run of the redelivery that sent it; not there where it was none."""

    @property
    def raw_bytes(self) -> int | None:
        """Of the content before compression, which is what SecOps bills; None where the ledger does not say it.

        https://docs.cloud.google.com/chronicle/docs/ingestion/view-billed-ingestion-volume
        """
        return self.content_bytes or (None if self.key.endswith(".gz") else self.bytes)


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What one window of one stream has delivered so far."""

    stream: str
    window: str
    """Its start, such as `2026-11-12T05:00:00Z`."""
    complete: bool = False
    """Whether the window was once read to its end."""
    objects: list[Delivered] = []
    version: int = VERSION

    def identities(self) -> set[str]:
        """Everything delivered."""
        return {identity for delivered in self.objects for identity in delivered.identities}

    def merged(self, other: "Ledger") -> "Ledger":
        """What either of two ledgers of the same window knows."""
        objects = {delivered.key: delivered for delivered in (*other.objects, *self.objects)}
        return msgspec.structs.replace(
            self, complete=self.complete or other.complete, objects=[objects[key] for key in sorted(objects)]
        )


def empty(stream: str, window: Window) -> Ledger:
    """The ledger of a window that was never delivered."""
    return Ledger(stream=stream, window=timestamp(window.start))


def encode(ledger: Ledger) -> bytes:
    """Deterministic: the same ledger gives the same bytes."""
    return gzip.compress(msgspec.json.encode(ledger), COMPRESSION_LEVEL, mtime=0)


def decode(content: bytes, blank: Ledger | None = None) -> Ledger:
    """Raises ValueError where the content is not a ledger of this version, or of another window than `blank`."""
    try:
        ledger = msgspec.json.decode(gzip.decompress(content), type=Ledger)
    except (OSError, EOFError, zlib.error, msgspec.MsgspecError) as problem:
        raise ValueError(str(problem)) from None
    if ledger.version != VERSION:
        raise ValueError(f"version {ledger.version}, this release reads version {VERSION}")
    if blank and (ledger.stream, ledger.window) != (blank.stream, blank.window):
        raise ValueError(f"it is the one of {ledger.stream} {ledger.window}")
    return ledger
