"""The facts behind the metrics, from the records of a Dagster instance. No bucket, no Zendesk and no run is asked.

By the keys of our assets and checks alone, so that other people's in the same instance cost nothing. Of a stream eight
statements, and some more each ten minutes; of an account one, and one more where SecOps is watched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import dagster as dg

from zendesk_pipeline.alerts.dagster_problems import check_problems, time_left
from zendesk_pipeline.alerts.problem import Severity
from zendesk_pipeline.alerts.snapshot import LEAST_HOURS, rate_limit_waits
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up import settled
from zendesk_pipeline.orchestration.catch_up_sensor import delivered_windows, newest_delivered
from zendesk_pipeline.orchestration.freshness import age_of
from zendesk_pipeline.orchestration.missing_windows import COUNTED_EVERY, Counted, count, missing_before
from zendesk_pipeline.orchestration.secops_check import CHECK, NO_FEED, READ_ONLY, STATE
from zendesk_pipeline.orchestration.verdicts import latest_done, latest_records
from zendesk_pipeline.orchestration.window_numbers import WindowNumbers, last_day, numbers, together
from zendesk_pipeline.secops.access import missing_settings
from zendesk_pipeline.wiring import account_definitions

KEPT = 30
"""Seconds for which what was read is given again: several may ask, and as often as they like."""
OLD_VERDICT = 3 * HOUR
"""SecOps is asked each hour; what it said so long ago need not be so any more."""

FEED_STATES = ("active", "in_progress", "completed", "inactive", "failed", "read_only", "none", "unknown")
"""SecOps' own, and: of an instance that has moved, without a feed, and where SecOps did not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """A stream of an account."""

    stream: str
    age: float
    """Seconds since the end of the newest whole window; since the first window's beginning, if none is."""
    newest: WindowNumbers | None
    """What that window holds; None where it is not of the last day."""
    missing: int
    """Windows that have to be there and are not, since START_DATE."""
    day: WindowNumbers
    """What the windows of the last day hold."""
    waited: float
    """Seconds of the last hour for Zendesk's rate limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """An account."""

    streams: Sequence[StreamFacts]
    checks: Mapping[dg.AssetCheckKey, Severity | None]
    """Those that have a verdict: the severity of one that fails, None of one that passes."""
    feed: str | None
    """One of FEED_STATES; None where SecOps is not watched."""
    credential_left: float | None
    """Seconds for which it works; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read at one time."""

    at: float
    accounts: Mapping[str, AccountFacts | None]
    """By name, that of its asset group; None where it could not be read."""

    @property
    def whole(self) -> bool:
        """Whether everything could be read."""
        return None not in self.accounts.values()


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads the instance of a folder, again and again."""

    home: Path
    accounts: Sequence[Account]
    clock: Clock
    say: Callable[[str], object]
    """Takes a sentence for each that could not be read."""
    counted: dict[str, Counted] = field(default_factory=dict[str, Counted])
    _instance: dg.DagsterInstance | None = None
    _latest: Reading | None = None
    _read_at: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def read(self) -> Reading:
        """What there is now, or was KEPT seconds ago; raises nothing."""
        with self._lock:
            if self._latest is None or self.clock.monotonic() - self._read_at >= KEPT:
                self._latest = self._read()
                self._read_at = self.clock.monotonic()
            return self._latest

    def _read(self) -> Reading:
        now = self.clock.now()
        facts = {account.group: self._facts(account, now) for account in self.accounts}
        if None in facts.values():
            self._close()
        return Reading(at=now, accounts=facts)

    def _facts(self, account: Account, now: float) -> AccountFacts | None:
        try:
            if self._instance is None:
                self._instance = dg.DagsterInstance.from_config(str(self.home))
            return account_facts(self._instance, account, self.counted, now)
        except Exception as error:  # noqa: BLE001  # of SQLAlchemy, of a driver, of Dagster: their words may hold a secret
            self.say(
                f"Dagster's records of {account.group} cannot be read ({type(error).__name__}): zendesk_up is 0, and"
                " none of its numbers is shown."
            )
            return None

    def _close(self) -> None:
        """So that the next look opens the instance anew, whatever has happened to it."""
        instance, self._instance = self._instance, None
        if instance is not None:
            instance.dispose()


def account_facts(
    instance: dg.DagsterInstance, account: Account, counted: dict[str, Counted], now: float
) -> AccountFacts:
    """The facts of an account.

    Args:
        instance: Dagster's records.
        account: Whose.
        counted: By asset, the windows that were missing when they were counted last; counted again when it is time.
        now: Seconds since the epoch.
    """
    keys = [key for each in account_definitions(account).asset_checks or () for key in each.check_keys]
    verdicts = latest_records(instance, sorted(keys))
    problems = {key: list(check_problems(instance, record)) for key, record in verdicts.items()}
    return AccountFacts(
        streams=[_stream_facts(instance, account, stream, counted, now) for stream in account.streams],
        checks={key: found[0].severity if found else None for key, found in problems.items()},
        feed=None if missing_settings(account.settings) else _feed_state(instance, account, now),
        credential_left=time_left(account.settings.auth_mode, now),
    )


def _stream_facts(
    instance: dg.DagsterInstance, account: Account, stream: Stream, counted: dict[str, Counted], now: float
) -> StreamFacts:
    key, first = account.stream_key(stream), account.first_of(stream, now)
    hours = max(account.settings.catch_up_hours, LEAST_HOURS)
    expected = settled(first.start, now - account.delay, hours)
    recent = Span(expected.start, max(expected.end, Window.of(int(now)).start))
    delivered = delivered_windows(instance, key, among=recent)
    newest = max(delivered, default=None) or newest_delivered(instance, key, recent)
    older = _counted(instance, key, Span(first.start, expected.end), counted, now)
    day = last_day(account, stream, now)
    held = numbers(instance, key, {*day, *(window for window in recent if window >= Window(day.start))})
    return StreamFacts(
        stream=stream.name,
        age=age_of(newest, account.first, now),
        newest=held.get(newest) if newest else None,
        missing=sum(map(len, missing_before(older, expected.start, ())))
        + sum(window not in delivered for window in expected),
        day=together(each for window, each in held.items() if window in day),
        waited=rate_limit_waits(instance, key, now),
    )


def _counted(
    instance: dg.DagsterInstance, key: dg.AssetKey, span: Span, counted: dict[str, Counted], now: float
) -> Counted:
    """What is missing of all windows of an asset, as it was counted some minutes ago at most."""
    name = key.to_user_string()
    known = counted.get(name)
    if known is None or not 0 <= now - known.at < COUNTED_EVERY:
        known = counted[name] = count(instance, key, span, now)
    return known


def _feed_state(instance: dg.DagsterInstance, account: Account, now: float) -> str:
    """What SecOps said of its feed in the last hours."""
    latest = latest_done(instance, dg.AssetCheckKey(account.feed_key, CHECK))
    entry = latest.evaluation.metadata.get(STATE) if latest and latest.evaluation else None
    if latest is None or entry is None or now - latest.create_timestamp > OLD_VERDICT:
        return "unknown"
    said = str(entry.value)
    if said == NO_FEED:
        return "none"
    if said.endswith(READ_ONLY):
        return "read_only"
    return said.lower() if said.lower() in FEED_STATES else "unknown"
