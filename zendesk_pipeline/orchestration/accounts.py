"""A Zendesk account of a code location: its settings, where its secrets are stored, and what is called after it.

The account of the environment has no name: its assets are called `audit_logs`. What belongs to a named account begins
with the name: the asset `acme/audit_logs`, its step `acme__audit_logs`, the pool `acme__zendesk_audit_logs`.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from zlib import crc32

import dagster as dg

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.secret_references import PREFIXES, reference

FIRST_MINUTE, LAST_MINUTE = 5, 55
"""Minutes of the hour in which a collection may begin: by the first, the last window has ended and settled."""
GROUP = "zendesk"
"""The asset group of the account without a name."""
SEPARATOR = "__"
"""Stands between an account's name and what is called after it; no account's name holds it."""
NAME = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
LONGEST_NAME = 40
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A Zendesk account, where it is delivered to, and when."""

    settings: Settings
    name: str = ""
    """`acme`; empty for the account of the environment."""
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])
    """For settings of `ACCOUNT_SECRETS`, the variable that holds the value, or a reference (`aws-sm:…`)."""
    minute: int | None = None
    """Of the hour, when the collection begins; by the name if None."""
    aws_profile: str = ""
    """Of AWS's configuration, with which its bucket is read and written; that of the process if empty."""

    @property
    def streams(self) -> list[Stream]:
        """What is collected."""
        return [STREAMS[name] for name in self.settings.resources]

    @property
    def group(self) -> str:
        """Of its assets."""
        return self.name or GROUP

    @property
    def begins(self) -> int:
        """The minute of the hour in which the collection begins."""
        if self.minute is not None:
            return self.minute
        return minute_of(self.name) if self.name else FIRST_MINUTE

    @property
    def delay(self) -> int:
        """Seconds by which it begins later than the earliest may: all that is late counts from then."""
        return (self.begins - FIRST_MINUTE) * 60

    @property
    def first(self) -> Window:
        """The first window there can be."""
        return Window(int(self.settings.start_date.timestamp()))

    def first_of(self, stream: Stream, now: float) -> Window:
        """The first window of a stream that is worth asking for: Zendesk keeps some streams' records for a while only.

        A day is left to collect it in. `now` is in seconds since the epoch.
        """
        if stream.kept is None:
            return self.first
        return max(self.first, Window.of(int(now) - stream.kept + DAY + HOUR))

    def key(self, *path: str) -> dg.AssetKey:
        """The key of an asset."""
        return dg.AssetKey([self.name, *path] if self.name else list(path))

    def stream_key(self, stream: Stream) -> dg.AssetKey:
        """The key of the asset that collects a stream."""
        return self.key(stream.name)

    def api_key(self, stream: Stream) -> dg.AssetKey:
        """The key of the external asset of a stream's API; the graph shows the last part alone."""
        return self.key("zendesk", f"{stream.name}_api")

    @property
    def feed_key(self) -> dg.AssetKey:
        """The key of the external asset of the SecOps feed."""
        return self.key("secops_feed")

    def secops_key(self, stream: Stream) -> dg.AssetKey:
        """The key of the external asset of what SecOps holds of a stream."""
        return self.key("secops", f"{stream.name}_in_secops")

    @property
    def stream_keys(self) -> list[dg.AssetKey]:
        """The keys of the assets that collect."""
        return [self.stream_key(stream) for stream in self.streams]

    def called(self, name: str) -> str:
        """What a step, a job, a schedule, a pool or a resource of this account is called."""
        return f"{self.name}{SEPARATOR}{name}" if self.name else name

    @property
    def tags(self) -> dict[str, str]:
        """Of its runs: limits of the queue can name them, to keep accounts apart."""
        return {"zendesk_pipeline/account": self.name} if self.name else {}

    def secret(self, name: str) -> dg.EnvVar | str:
        """One of `ACCOUNT_SECRETS`: a reference as it is, else what its variable holds.

        Of the account of the environment it is the variable itself, which Dagster reads in a run: its resources
        belong to the definitions, which hold no secret. Those of a named account are made in the run.
        """
        return secret_value(self.source(name), os.environ) if self.name else secret(self.source(name))

    def source(self, name: str) -> str:
        """The variable of a secret, or the reference to it."""
        return self.secrets.get(name) or (f"{self.name.upper()}_{name}" if self.name else name)


def secret(source: str) -> dg.EnvVar | str:
    """A secret by the name of its variable, so that Dagster never holds its value; nothing where that is not set.

    A reference is given as it is.
    """
    if _is_reference(source):
        return source
    return dg.EnvVar(source) if os.environ.get(source) else ""


def secret_value(source: str, environment: Mapping[str, str]) -> str:
    """What a variable holds, nothing where it is not set; a reference is given as it is."""
    return source if _is_reference(source) else environment.get(source, "")


def _is_reference(source: str) -> bool:
    """Whether it names no variable but a place in a store of secrets."""
    return source.startswith(tuple(PREFIXES))


def minute_of(name: str) -> int:
    """The minute in which an account's collection begins: always the same for a name, spread evenly over names."""
    return FIRST_MINUTE + crc32(name.encode()) % (LAST_MINUTE - FIRST_MINUTE + 1)


def checked_name(name: str) -> str:
    """An account's name; raises ValueError where assets, jobs and variables cannot be called after it."""
    if not re.fullmatch(NAME, name) or len(name) > LONGEST_NAME:
        raise ValueError(
            "an account's name is made of a-z 0-9 and single _ between them, begins with a letter, and has at most"
            f" {LONGEST_NAME} characters: acme, acme_eu"
        )
    return name


def checked_source(setting: str, value: str) -> str:
    """Where a secret is stored; raises ValueError for what is neither, and never repeats it: it may be the secret."""
    try:
        referred = reference(setting, value)
    except SettingsError as half:
        raise ValueError(str(half)) from None
    if referred is None and not _VARIABLE.fullmatch(value):
        raise ValueError(
            "the NAME of the environment variable that holds the secret is wanted (A-Z 0-9 _), or a reference,"
            " aws-sm:NAME or aws-ssm:/PATH. If this was the secret itself, take it out and make a new one"
        )
    return value


def checked(accounts: Iterable[Account]) -> Sequence[Account]:
    """Accounts that can live beside each other.

    Raises SettingsError for two of one name, and where one would write what another one reads as its own.
    """
    every = sorted(accounts, key=lambda account: account.name)
    for one, other in pairwise(every):
        if one.name == other.name:
            raise SettingsError(f"There are two accounts {one.name!r}: give each a name of its own.")
    places = sorted((place for account in every for place in _places(account)), key=lambda place: place[:2])
    for (bucket, prefix, setting, one), (to, longer, its, other) in pairwise(places):
        if bucket == to and longer.startswith(prefix) and one is not other:
            raise SettingsError(
                f"The accounts {one.name} and {other.name} overlap in the bucket {bucket}: {its}={longer} of"
                f" {other.name} lies in {setting}={prefix} of {one.name}. Each needs prefixes, or a bucket, of its own:"
                " otherwise one would take the other's records for its own."
            )
    return every


def _places(account: Account) -> list[tuple[str, str, str, Account]]:
    """Where it writes. In order, prefixes that overlap are neighbours."""
    chosen = account.settings
    names = ("s3_prefix", "state_prefix", "quarantine_prefix")
    return [(chosen.s3_bucket, getattr(chosen, name), name, account) for name in names]
