"""Where things are in the bucket. Pure; the layout is an interface (docs/layout.md), pinned by tests.

Keys hold only `[A-Za-z0-9/_.-]`: a SecOps feed over SQS takes no characters that would be encoded.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from zendesk_pipeline.model.windows import Window

if TYPE_CHECKING:
    from zendesk_pipeline.settings.environment import Settings

DIGEST_LENGTH = 32
"""Hexadecimal digits of the content's SHA-256 in a key: 128 bits, beyond any chance of two contents alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The three prefixes; each ends with `/`, none lies inside the feed's."""

    feed: str
    state: str
    quarantine: str

    @classmethod
    def of(cls, chosen: "Settings") -> Self:
        """The prefixes of an account's settings."""
        return cls(feed=chosen.s3_prefix, state=chosen.state_prefix, quarantine=chosen.quarantine_prefix)

    def batch(self, stream: str, window: Window, sequence: int, digest: str, suffix: str) -> str:
        """An object of the feed; `suffix` is `.json` or `.json.gz`."""
        return f"{self.feed}{_name(stream, window)}-{sequence:04d}-{digest[:DIGEST_LENGTH]}{suffix}"

    def quarantined(self, stream: str, window: Window, digest: str) -> str:
        """A whole record that is too long for a line of the feed; one key, since its shortened line names it."""
        return f"{self.quarantine}{_name(stream, window)}-{digest[:DIGEST_LENGTH]}.json"

    def ledgers(self, stream: str) -> str:
        """The prefix of a stream's ledgers."""
        return f"{self.state}{stream}/"

    def ledger(self, stream: str, window: Window) -> str:
        """What a window has delivered."""
        return f"{self.ledgers(stream)}{window.starts_at:{_LEDGER}}"

    def window_of_ledger(self, key: str, stream: str) -> Window | None:
        """The window whose ledger has this key; None for every other key."""
        try:
            named = datetime.strptime(key.removeprefix(self.ledgers(stream)), _LEDGER).replace(tzinfo=UTC)
        except ValueError:
            return None
        window = Window(int(named.timestamp()))
        return window if self.ledger(stream, window) == key else None

    @property
    def account(self) -> str:
        """The marker that says whose records these prefixes hold."""
        return f"{self.state}account.json"

    @property
    def parser_baseline(self) -> str:
        """What is expected of SecOps' parser."""
        return f"{self.state}secops-parser.json"

    def catalogue(self, stream: str) -> str:
        """What the stream's records were seen to have."""
        return f"{self.state}{stream}-fields.json"

    def day(self, window: Window) -> str:
        """The prefix under which the feed holds the window's day."""
        return f"{self.feed}{window.starts_at:%Y/%m/%d}/"

    def sequence(self, key: str, stream: str, window: Window) -> int | None:
        """The sequence number of a batch of this stream and window; None for every other key."""
        start = f"{self.feed}{_name(stream, window)}-"
        match = _NUMBERED.fullmatch(key, len(start)) if key.startswith(start) else None
        return int(match["sequence"]) if match else None


_LEDGER = "%Y/%m/%d/%H.json.gz"


def _name(stream: str, window: Window) -> str:
    return f"{window.starts_at:%Y/%m/%d/%H%M%S}-zendesk-{stream}"


_NUMBERED = re.compile(r"(?P<sequence>\d{4,})-(?P<digest>[0-9a-f]{32})\.json(?:\.gz)?")
_BATCH = rf"/\d\d0000-zendesk-[a-z_]+-{_NUMBERED.pattern}"
_ENDS_AS_BATCH = re.compile(_BATCH + "$")
_BATCH_IN_ITS_DAY = re.compile(r"\d{4}/\d\d/\d\d" + _BATCH)


def digest(key: str) -> str:
    """The digits of a batch's name that its content has to give; empty for any other key."""
    match = _ENDS_AS_BATCH.search(key)
    return match["digest"] if match else ""


def is_batch(key: str, feed: str) -> bool:
    """Whether an object under the feed prefix has a name of ours."""
    return _BATCH_IN_ITS_DAY.fullmatch(key.removeprefix(feed)) is not None


def is_ours(key: str) -> bool:
    """Whether an object that a ledger names was written by this pipeline; else the recipe wrote it."""
    return _ENDS_AS_BATCH.search(key) is not None
