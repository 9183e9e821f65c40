"""The daily digest: at ALERT_DIGEST_HOUR each address is told how it is, also that all is well.

Silence may mean that all is well or that nobody looks. All is well only if no problem is open, all windows of the last
day are delivered and their numbers could be read; else the digest says what is not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from zendesk_pipeline.alerts.memory import RANKS, AlertMemory
from zendesk_pipeline.alerts.messages import Message, Notice, harmless
from zendesk_pipeline.alerts.problem import Problem, count, duration, listed, moment
from zendesk_pipeline.alerts.snapshot import Snapshot
from zendesk_pipeline.model.windows import DAY, HOUR, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.window_numbers import WindowNumbers, last_day, numbers, together

SUBJECT = "Zendesk collection, the last day"
"""What its titles begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDay:
    """The last day of a stream."""

    stream: str
    windows: Sequence[Window]
    """Those that have to be there."""
    held: Mapping[Window, WindowNumbers]
    """Those of them that are delivered."""

    @property
    def missing(self) -> list[Window]:
        return [window for window in self.windows if window not in self.held]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDay:
    """The last day of an account."""

    account: Account
    streams: Sequence[StreamDay]
    unreadable: Sequence[str]
    """Streams whose numbers could not be read."""

    @property
    def is_whole(self) -> bool:
        return not self.unreadable and not any(day.missing for day in self.streams)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What a digest is made of."""

    due: float
    """Seconds since the epoch: whoever has had one since then has had this one."""
    days: Sequence[AccountDay]


def due(hour: int, now: float) -> float:
    """When the latest digest was due, at this hour of the day (UTC)."""
    at = now - now % DAY + hour * HOUR
    return at if at <= now else at - DAY


def digest(snapshot: Snapshot, memory: AlertMemory, hour: int | None) -> Digest | None:
    """The digest, if an address waits for one; None as well while the sensors have only just begun to look.

    An address that is new, or was known before there were digests, gets the next one.
    """
    for channel in memory.channels.values():
        channel.digested = 0.0 if hour is None else channel.digested or snapshot.now
    if hour is None or not snapshot.caught_up:
        return None
    latest = due(hour, snapshot.now)
    reachable = [each for each in memory.channels.values() if each.understood and each.pause_until <= snapshot.now]
    if all(channel.digested >= latest for channel in reachable):
        return None
    return Digest(due=latest, days=[_day(snapshot, account) for account in snapshot.accounts])


def note_whether_well(memory: AlertMemory, now: float, *, seen: bool) -> None:
    """Note since when no problem has been open; `seen`: whether everything could be looked at."""
    is_well = seen and not any(entry.ended is None for entry in memory.problems.values())
    memory.well_since = (memory.well_since or now) if is_well else 0.0


def _day(snapshot: Snapshot, account: Account) -> AccountDay:
    days: list[StreamDay] = []
    unreadable: list[str] = []
    for stream in account.streams:
        windows = list(last_day(account, stream, snapshot.now))
        try:
            held = numbers(snapshot.instance, account.stream_key(stream), windows)
        except Exception:  # noqa: BLE001  # whatever an instance raises: one stream must not hide the others
            unreadable.append(stream.name)
        else:
            days.append(StreamDay(stream=stream.name, windows=windows, held=held))
    return AccountDay(account=account, streams=days, unreadable=unreadable)


def message(made: Digest, memory: AlertMemory, problems: Sequence[Problem], ui: str, now: float) -> Message:
    """The message to an address; `problems` are those of this tick that concern it, `ui` is the UI's address."""
    found = [*_open(memory, problems, ui)]
    accounts = [_of_account(day, ui) for day in sorted(made.days, key=lambda day: day.is_whole)]
    missing = [window for day in made.days for stream in day.streams for window in stream.missing]
    unreadable = [name for day in made.days for name in day.unreadable]
    wrong = [
        *([f"{count(found, 'open problem')}"] if found else []),
        *([f"{count(missing, 'window')} not delivered"] if missing else []),
        *(["not all of it can be read"] if unreadable else []),
    ]
    lasting = f" It has been for {duration(now - memory.well_since)}." if memory.well_since else ""
    return Message(
        title=f"{SUBJECT}: {', '.join(wrong) or 'all is well'}",
        kind="warning" if wrong else "success",
        parts=[*found, *accounts],
        text="" if wrong else f"All is well.{lasting}",
        link=f"{ui}/overview",
        digest=True,
    )


def _open(memory: AlertMemory, problems: Sequence[Problem], ui: str) -> Iterator[Notice]:
    """Each open problem, the gravest first; those that were not found this minute are not known to be over."""
    since = {cause: entry.since for cause, entry in memory.problems.items()}
    for problem in sorted(problems, key=lambda problem: -RANKS[problem.severity]):
        yield _notice(f"{problem.severity.upper()}: {problem.title}", since[problem.cause], f"{ui}{problem.link_path}")
    current = {problem.cause for problem in problems}
    for cause, entry in memory.problems.items():
        if entry.ended is None and cause not in current and not cause.startswith("channel "):
            yield _notice(f"NOT YET SOLVED: {entry.title}", entry.since, "")


def _notice(heading: str, since: float, link: str) -> Notice:
    shown = harmless(heading)
    return Notice(
        incident="", cause="", kind="info", title=shown, heading=shown, details=f"Since {moment(since)}.", link=link
    )


def _of_account(day: AccountDay, ui: str) -> Notice:
    due_windows = [window for stream in day.streams for window in stream.windows]
    held = [each for stream in day.streams for each in stream.held.values()]
    name = day.account.name or "All streams"
    lines = [_of_stream(stream) for stream in day.streams]
    lines += [f"{stream}: its numbers cannot be read." for stream in day.unreadable]
    heading = f"{name}: {_shares(held, len(due_windows))}"
    if day.unreadable:
        heading = f"{heading}, and {count(day.unreadable, 'stream')} that cannot be read"
    return Notice(
        incident="",
        cause="",
        kind="info",
        title=heading,
        heading=heading,
        details="\n".join(lines),
        link=f"{ui}/assets",
    )


def _of_stream(day: StreamDay) -> str:
    line = f"{day.stream}: {_shares([*day.held.values()], len(day.windows))}."
    return f"{line} Not delivered: {listed(day.missing)}." if day.missing else line


def _shares(held: Sequence[WindowNumbers], of: int) -> str:
    total = together(held)
    more = {"late": total.late, "shortened": total.quarantined, "malformed and not delivered": total.malformed}
    counted = [f"{total.records:,} records", *(f"{many:,} {what}" for what, many in more.items() if many)]
    return f"{len(held)} of {count(range(of), 'window')} whole, {', '.join(counted)}"
