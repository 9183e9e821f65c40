"""The check that looks for a few delivered records in SecOps, once a day. It reads, and changes nothing.

Only where they are stands in its verdict: a ledger's object and a place in it, never an identity.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

import dagster as dg
import msgspec

from zendesk_pipeline.delivery.deliveries import Deliveries
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.delivery.object_keys import is_batch
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.comparison import BEGINS, UNSEEN
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of
from zendesk_pipeline.orchestration.secops_verdicts import Watched, asking, not_answered, remembered, repeated, told
from zendesk_pipeline.secops.access import NotInstalledError, missing_settings
from zendesk_pipeline.secops.count_watch import patience_of
from zendesk_pipeline.secops.instance import NoCredentialsError, UnavailableError
from zendesk_pipeline.secops.search import can_be_sought, is_there

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import SecopsClient

CHECK = "secops_finds"
SAMPLE = 5
"""Records that are looked for in a night, a request each."""
BEFORE = HOUR
"""Seconds before a window in which its records are looked for too."""
MOST_MISSING = 10
"""Records that were not found, which are looked for again each hour."""
GIVEN_UP = 7 * DAY
"""Seconds after which a record that was not found is not looked for any more."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a record is named."""

    stream: str
    window: int
    """Its start, seconds since the epoch."""
    key: str
    """The object in the feed that holds the record."""
    position: int
    """Its line in it, from 0."""


class _Memory(Watched, frozen=True, kw_only=True):
    """What the verdicts before have left."""

    day: int = 0
    """The number of the last day that was sampled, since the epoch."""
    missing: list[Place] = msgspec.field(default_factory=list[Place])
    """What was not found."""
    sought: int = 0
    """Records that were looked for on that day."""


def secops_sample(account: Account, clock: Clock) -> dg.AssetChecksDefinition:
    """The check of a sample; where nothing here may ask, it says that nobody looks."""
    key = dg.AssetCheckKey(account.feed_key, CHECK)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="A few records that were delivered a day ago are found in SecOps. Once a day, from 03:35 UTC on.",
        required_resource_keys={bucket_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before, missing = remembered(context.instance, key, _Memory), missing_settings(account.settings)
        if missing:
            return _unsought(key, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.")
        look = _Look(account, bucket_of(context, account).ledgers, clock.now())
        if not look.is_due(before):
            return repeated(key, before, "", unanswered=before.unanswered, otherwise=_well(before))
        try:
            return look.verdict(context, key, before)
        except PipelineError as problem:
            return _not_sought(key, before, problem, look.day)

    return check


def _not_sought(key: dg.AssetCheckKey, before: _Memory, problem: PipelineError, day: int) -> dg.AssetCheckResult:
    """SecOps could not be searched: an alarm where it could be before."""
    if isinstance(problem, UnavailableError):
        return not_answered(key, before, problem)
    if not before.watched:  # whether the scope for reading is enough to search is not documented
        return _unsought(key, str(problem), day)
    if isinstance(problem, NotInstalledError | NoCredentialsError):  # which `secops_reads` tells
        return repeated(key, before, "", otherwise=f"Not looked for: {problem}")
    return repeated(key, before, f"{UNSEEN}: {problem}")


def _unsought(key: dg.AssetCheckKey, why: str, day: int = 0) -> dg.AssetCheckResult:
    return told(key, _Memory(day=day), {}, otherwise=f"No record is looked for in SecOps: {why}")


def _well(memory: _Memory) -> str:
    if not memory.watched:
        return "No record is looked for in SecOps: it could not be searched, and is asked again tomorrow."
    if not memory.sought:
        return "No record is looked for in SecOps: none was delivered in the last day that could be."
    return f"All of the {memory.sought} records that were looked for are found in SecOps."


class _Look:
    """One night's sample, and what was not found before."""

    def __init__(self, account: Account, ledgers: Callable[[Stream], LedgerStore], now: float) -> None:
        self._account, self._ledgers, self._now = account, ledgers, now
        self._patience = patience_of(account.settings.alert_stale_hours)
        self.day = int((now - BEGINS) // DAY)

    def is_due(self, before: _Memory) -> bool:
        """Whether there is something to look for."""
        return before.day != self.day or bool(before.missing)

    def verdict(
        self, context: dg.AssetCheckExecutionContext, key: dg.AssetCheckKey, before: _Memory
    ) -> dg.AssetCheckResult:
        """What is not found; raises PipelineError where SecOps or the bucket does not answer."""
        client = asking(context, self._account)
        again = [place for place in before.missing if place.window > self._now - GIVEN_UP]
        new = list(self._sample()) if before.day != self.day else []
        missing = [place for place in (*again, *new) if not self._is_found(client, place)][-MOST_MISSING:]
        memory = _Memory(
            watched=True,
            day=self.day,
            missing=missing,
            sought=len(new) if before.day != self.day else before.sought,
            texts=[_not_found(missing)] if missing else [],
        )
        numbers = {"secops_records_sought": len(again) + len(new), "secops_records_not_found": len(missing)}
        return told(key, memory, numbers, otherwise=_well(memory))

    def _sample(self) -> Iterator[Place]:
        """Places of records that SecOps has had its time for, of as many streams and windows as there are."""
        by_stream = [self._places(stream) for stream in self._account.streams if len(stream.identity) == 1]
        in_turn = (place for places in zip_longest(*by_stream) for place in places if place)
        return islice(in_turn, SAMPLE)

    def _places(self, stream: Stream) -> Iterator[Place]:
        """A record of each window of the last day, in an order of each day's own.

        Not of streams that list a record again in each of its states: by which of its times SecOps files a ticket is
        the parser's choice.
        """
        ledgers = self._ledgers(stream)
        written = Deliveries(ledgers=ledgers, logs=lambda delivered: len(delivered.identities)).at_first(self._now)
        late = self._now - self._patience
        windows = [each.window for each in written if each.logs and each.at <= late and each.window.end > late - DAY]
        for window in sorted(windows, key=self._lot):
            objects = [each for each in ledgers.read(window).ledger.objects if is_batch(each.key, ledgers.layout.feed)]
            named = [
                (each.key, at) for each in objects for at, name in enumerate(each.identities) if can_be_sought(name)
            ]
            if named:
                key, position = named[self._lot(window) % len(named)]
                yield Place(stream.name, window.start, key, position)

    def _lot(self, window: Window) -> int:
        return int.from_bytes(hashlib.sha256(f"{self.day} {window.start}".encode()).digest()[:8])

    def _is_found(self, client: "SecopsClient", place: Place) -> bool:
        stream = STREAMS.get(place.stream)
        if stream is None:  # it is not collected any more
            return True
        objects = self._ledgers(stream).read(Window(place.window)).ledger.objects
        (name,) = stream.identity
        named = [each.identities[place.position : place.position + 1] for each in objects if each.key == place.key]
        sought = [identity for identities in named for identity in identities]
        return all(is_there(client, name, each, place.window - BEFORE, self._now) for each in sought)


def _not_found(missing: Sequence[Place]) -> str:
    where = ", ".join(dict.fromkeys(f"{place.stream} {Window(place.window)}" for place in missing))
    return (
        f"{len(missing)} of the delivered records that were looked for in SecOps are not found there ({where}): see"
        " what secops_reads and secops_counts say, and look for a record of these windows by hand. If it is not there,"
        " send the windows again (docs/operations.md, Send records again)"
    )
