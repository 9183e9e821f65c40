"""Alerts for the people on call: the sensor that looks for what is wrong and tells it.

`problems` and `upkeep` find what is wrong, `news` knows what was told to whom, `channels` sends. What an address was
told is in the sensor's cursor, so that an address that could not be reached gets at a later tick what it has missed,
after a restart as well. Where the sensor dies between sending and remembering, it tells twice.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import dagster as dg
import msgspec
from pydantic import Field

from zendesk_pipeline.alerts import dagster_problems
from zendesk_pipeline.alerts.channels import Address, Outcome, addresses, send
from zendesk_pipeline.alerts.instance_settings import missing_settings
from zendesk_pipeline.alerts.notifications import (
    Channel,
    Memory,
    News,
    awaited_windows,
    forget,
    message,
    news,
    note_told,
    remembered,
    update,
    wake,
)
from zendesk_pipeline.alerts.problems import (
    LOOK_BACK,
    MINUTE,
    Problem,
    Severity,
    Watch,
    by_asset,
    count,
    failed_runs,
    held_windows,
    never_asked_for,
    repeated_failures,
    run_failures,
    set_aside,
    some,
    spans_under_way,
    stale,
    starving,
)
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up_sensor import newest_delivered
from zendesk_pipeline.orchestration.freshness import state_of
from zendesk_pipeline.orchestration.instance import FreshnessState
from zendesk_pipeline.orchestration.missing_windows import began, missing_before, split, to_count
from zendesk_pipeline.orchestration.missing_windows import count as count_holes
from zendesk_pipeline.orchestration.run_history import Ours, cancelled_spans, ours_in
from zendesk_pipeline.orchestration.zendesk_resource import settled
from zendesk_pipeline.settings.secret_references import Recent

NAME = "alert_sensor"
INTERVAL = 60
"""Seconds between two looks."""
SETTLING = 15 * MINUTE
"""After a time without ticks, the catch-up sensor has this long to ask for what is missing."""
LONGEST_PAUSE = 30 * MINUTE
"""Between two tries to reach an address that fails."""
LEVELS: Mapping[Severity, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_RECENT = Recent(seconds=5 * MINUTE, monotonic=time.monotonic)
"""The sensor's process lives long, and looks every minute."""
DEAD = 3
"""An address that failed so often in a row is a problem that the others are told of."""


class AlertChannels(dg.ConfigurableResource[Any]):
    """Where alerts go."""

    urls: str = Field(default="", description="ALERT_URLS", repr=False, json_schema_extra={"is_secret": True})

    def get_resource_definition(self) -> Any:
        """What Dagster makes the resource of."""
        return settled(super().get_resource_definition())

    def addresses(self) -> list[Address]:
        """The addresses, read from where ALERT_URLS refers to; raises SettingsError, SecretStoreError."""
        return addresses(_RECENT.resolved("ALERT_URLS", self.urls))


def alert_sensor(accounts: Sequence[Account], *, ui_url: str, clock: Clock) -> dg.SensorDefinition:
    """The sensor that tells what is wrong.

    Args:
        accounts: Whose windows are looked after.
        ui_url: Dagster's UI as people reach it, for links.
        clock: What time it is.
    """

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells the addresses of ALERT_URLS what is wrong, and when it is solved.",
    )
    def sensor(context: dg.SensorEvaluationContext, alert_channels: AlertChannels) -> dg.SensorResult:
        now, memory = clock.now(), remembered(context.cursor)
        wake(memory, now)
        awake_since = memory.awake_since
        mine = ours_in(context, [key for account in accounts for key in account.stream_keys])
        automation = _automation(context)
        found = look(context.instance, mine, accounts, automation, now=now, awake_since=awake_since, memory=memory)
        channels = _known(memory, alert_channels.addresses())
        problems = [*found.problems, *_dead_channels(channels)]
        update(memory, problems, found.delivered, now, complete=found.complete, unseen=found.unseen)
        notes = _tell(memory, channels, problems, ui_url.rstrip("/"), now)
        for level, line in [*map(_log_line, problems), *((logging.WARNING, note) for note in notes)]:
            context.log.log(level, line)
        _require_one(channels)
        forget(memory, [each.key for each in channels])
        return dg.SensorResult(
            skip_reason=". ".join([_summary(problems), *notes]), cursor=msgspec.json.encode(memory).decode()
        )

    return sensor


def _watch(account: Account) -> Watch:
    chosen = account.settings
    return Watch(
        start=account.first.start,
        hours=chosen.catch_up_hours,
        stale_after=chosen.alert_stale_hours,
        delay=account.delay,
    )


def _automation(context: dg.SensorEvaluationContext) -> dagster_problems.Automation:
    """Everything of this code location but the alerts themselves."""
    repository, origin = context.repository_def, context.code_location_origin
    if repository is None:
        return dagster_problems.Automation()
    return dagster_problems.Automation(
        schedules=repository.schedule_defs,
        sensors=[sensor for sensor in repository.sensor_defs if sensor.name != NAME],
        checks=sorted(repository.asset_graph.asset_check_keys),
        repository=repository.name,
        location=origin.location_name if origin else "",
    )


def _log_line(problem: Problem) -> tuple[int, str]:
    return LEVELS[problem.severity], f"{problem.title}. {problem.text}"


def _summary(problems: Sequence[Problem]) -> str:
    titles = [problem.title for problem in problems]
    return f"{count(titles, 'problem')}: {some(titles)}" if titles else "Nothing is wrong"


# Looking


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at the instance found."""

    problems: Sequence[Problem]
    delivered: Mapping[str, Collection[str]]
    """Of each asset, the partition keys that are materialized."""
    complete: bool
    """Whether everything could be looked at, assets aside."""
    unseen: Collection[str] = ()
    """Assets whose runs and windows could not be looked at."""


@dataclass(slots=True)
class _Seen:
    """What a look at runs and windows has seen, asset by asset."""

    delivered: dict[str, Collection[str]] = field(default_factory=dict[str, Collection[str]])
    unseen: dict[str, Exception] = field(default_factory=dict[str, Exception])


def look(
    instance: dg.DagsterInstance,
    mine: Ours,
    accounts: Sequence[Account],
    automation: dagster_problems.Automation,
    *,
    now: float,
    awake_since: float,
    memory: Memory,
) -> Look:
    """Everything that is wrong; `awake_since` is when the sensors began to run without a break."""
    seen = _Seen()
    caught_up = now - awake_since >= SETTLING
    pools = [account.called(stream.pool) for account in accounts for stream in account.streams]

    def not_fresh() -> Iterator[Problem]:
        if not caught_up:
            return iter(())
        # What is told already says more than that the newest window is late.
        told = {problem.asset for problem in found if not problem.once}
        late = [
            key
            for account in accounts
            for key in account.stream_keys
            if key.to_user_string() not in seen.unseen
            and _is_late(account, seen.delivered.get(key.to_user_string(), ()), now)
        ]
        return dagster_problems.freshness(instance, [key for key in late if key.to_user_string() not in told])

    kinds: dict[str, Callable[[], Iterator[Problem]]] = {
        "runs and windows": lambda: _windows(instance, mine, accounts, memory, seen, now=now, caught_up=caught_up),
        "asset checks": lambda: dagster_problems.failed_checks(instance, automation.checks),
        "freshness": not_fresh,
        "credentials": lambda: chain.from_iterable(
            dagster_problems.credential(account.settings.auth_mode, now, account.name) for account in accounts
        ),
        "schedules and sensors": lambda: dagster_problems.automation(instance, automation, now, awake_since),
        "daemons": lambda: dagster_problems.daemons(instance, now, awake_since),
        "the pruning of run logs": lambda: dagster_problems.pruning(instance, automation.location),
        "the instance's settings": lambda: missing_settings(instance, pools, now),
    }
    found: list[Problem] = []
    blind: list[Problem] = []
    for name, find in kinds.items():
        try:
            found += find()
        except Exception as error:  # noqa: BLE001  # one failing detector must not stop the others
            blind.append(_blind(name, error, now))
    complete = not blind
    blind += [_blind(f"the runs and windows of {asset}", error, now) for asset, error in seen.unseen.items()]
    return Look(problems=[*found, *blind], delivered=seen.delivered, complete=complete, unseen=seen.unseen.keys())


def _windows(
    instance: dg.DagsterInstance,
    mine: Ours,
    accounts: Sequence[Account],
    memory: Memory,
    seen: _Seen,
    *,
    now: float,
    caught_up: bool,
) -> Iterator[Problem]:
    """What is wrong with runs and windows; notes in `seen` what was there, and what could not be looked at.

    Missing windows count once the catch-up sensor has had time to ask for them (`caught_up`).
    """
    runs = by_asset(failed_runs(instance, mine, since=now - LOOK_BACK))
    patience = max(account.settings.alert_stale_hours for account in accounts)
    under_way = spans_under_way(instance, mine, created_after=now - patience * HOUR)
    awaited = awaited_windows(memory)
    watched = [
        (_watch(each), each.stream_key(stream), each.first_of(stream, now))
        for each in accounts
        for stream in each.streams
    ]
    cancelled = cancelled_spans(instance, mine, since=now - LOOK_BACK)
    names = [key.to_user_string() for _, key, _ in watched]
    counting = to_count(memory.counted, names, now)
    memory.counted = {
        name: memory.counted[name] for _, key, _ in watched if (name := key.to_user_string()) in memory.counted
    }
    for watch, key, first in watched:
        asset = key.to_user_string()
        failed = runs.get(asset, [])
        recent = Span(watch.expected(now).start, int(now) + HOUR)
        among = {*recent, *awaited.get(asset, ()), *(each for run in failed for each in run.span)}
        try:
            held = held_windows(instance, key, plans=bool(failed), among=among)
            seen.delivered[asset] = held.delivered.keys()
            at_work = under_way.get(asset, ())
            yield from run_failures(asset, failed, held, watch.asked_again_from(now), at_work)
            yield from repeated_failures(asset, failed, held, watch.caught_up(now), now)
            yield from starving(instance, key, now)
            if asset in counting and caught_up:
                memory.counted[asset] = count_holes(instance, key, Span(watch.start, recent.start), now)
            older = missing_before(memory.counted.get(asset), recent.start, at_work)
            reach = (began(instance, key) if older else None) or now
            never, lost = split(older, reach - watch.hours * HOUR)
            yield from never_asked_for(key, split(never, first.start)[1], now)
            if caught_up:
                known = set(held.delivered)
                if not any(window.partition_key in known for window in recent):  # to say which the newest is
                    newest = newest_delivered(instance, key, recent)
                    known |= {newest.partition_key} if newest else set()
                aside = set_aside(cancelled.get(asset, ()), failed)
                yield from stale(key, known, at_work, watch, now, lost=lost, cancelled=aside)
        except Exception as error:  # noqa: BLE001  # one asset that cannot be looked at must not hide the others
            seen.unseen[asset] = error


def _is_late(account: Account, delivered: Collection[str], now: float) -> bool:
    """Whether the newest window is late now: what `freshness_sensor` has reported may be older than the deliveries."""
    newest = max(filter(None, map(Window.if_hour, delivered)), default=None)
    return state_of(account, newest, now) is not FreshnessState.PASS


def _blind(name: str, error: Exception, now: float) -> Problem:
    return Problem(
        cause=f"blind {name}",
        title=f"The alerts cannot see {name}",
        text=f"Looking at them ended with {type(error).__name__}: please report it. Nothing is told of them meanwhile.",
        since=now,
        link_path="/automation",
        severity="error",
        over=f"The alerts see {name} again",
    )


# Telling


@dataclass(frozen=True, slots=True)
class _Known:
    """An address, and what is remembered of it."""

    key: str
    address: Address
    channel: Channel


def _known(memory: Memory, wanted: Sequence[Address]) -> list[_Known]:
    salt = memory.salt.encode()
    return [
        _Known(key, address, memory.channels.setdefault(key, Channel()))
        for address in wanted
        if (key := address.key(salt))
    ]


def _dead_channels(channels: Sequence[_Known]) -> Iterator[Problem]:
    for each in channels:
        if each.channel.failures >= DEAD:
            yield Problem(
                cause=f"channel {each.key}",
                title=f"Alerts do not reach {each.address}",
                text=f"{each.channel.failures} tries in a row failed; of the latest: {each.channel.reason}.",
                since=each.channel.since,
                link_path="/automation",
                severity="error",
                over=f"Alerts reach {each.address} again",
            )


def _tell(
    memory: Memory, channels: Sequence[_Known], problems: Sequence[Problem], ui_url: str, now: float
) -> list[str]:
    """Send what there is to tell; in words, what was not taken. An address that is new is tried without a message."""
    due = [each for each in channels if each.channel.pause_until <= now]
    told = [(each, _news_for(each, memory, problems, now)) for each in due]
    told = [(each, what) for each, what in told if what or not each.channel.understood]
    letters = [(each.address, message(what, memory, ui_url, now) if what else None) for each, what in told]
    notes: list[str] = []
    for (each, what), outcome in zip(told, send(letters), strict=True):
        _settle(each.channel, what, outcome, now)
        if outcome.state != "sent":
            notes.append(f"{each.address} did not take the alert: {outcome.reason}")
    return notes


def _news_for(each: _Known, memory: Memory, problems: Sequence[Problem], now: float) -> News:
    """That an address is dead is not told to itself."""
    others = [problem for problem in problems if problem.cause != f"channel {each.key}"]
    return news(memory, each.channel, others, now)


def _settle(channel: Channel, told: News, outcome: Outcome, now: float) -> None:
    """Note what became of a message. The first failure is tried again at the next tick, then pauses grow."""
    channel.understood = outcome.state != "unknown"
    channel.reason = outcome.reason
    if outcome.state == "sent":
        channel.failures = 0
        note_told(channel, told, now)
        return
    note_told(channel, told, now, only=outcome.taken)
    channel.since = channel.since if channel.failures else now
    channel.failures += 1
    channel.pause_until = now + min(INTERVAL * (2 ** (channel.failures - 1) - 1), LONGEST_PAUSE)


def _require_one(channels: Sequence[_Known]) -> None:
    """Raises SettingsError where no address is understood: a failed tick is all that can be seen of it then."""
    wrong = [f"{each.address.position} ({each.address.scheme})" for each in channels if not each.channel.understood]
    if wrong and len(wrong) == len(channels):
        raise SettingsError(
            f"ALERT_URLS: Apprise does not understand address {', '.join(wrong)}."
            " https://appriseit.com/services/ says how addresses are written."
        )
