"""What the alert sensor keeps between its ticks: problems, and which address was told what. No I/O.

An address is told of a problem once, again when it is graver, has grown or lasts for another day, and when it is
solved. A problem about windows is solved when they are delivered; any other when it has been gone for a while.
The names of the fields in the JSON are those of running deployments: `rename` keeps them where they read differently.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from zendesk_pipeline.alerts.problem import MINUTE, Problem, Severity
from zendesk_pipeline.model.windows import DAY, Span, Window, ranges
from zendesk_pipeline.orchestration.missing_windows import Counted

REMIND = DAY
"""An address is told again of a problem that lasts this long."""
CALM = 5 * MINUTE
"""A problem that is not about windows is solved when it has been gone for this long."""
PATIENCE = DAY
"""One about windows is given up when it has been gone for this long and they are still missing."""
ASLEEP = 10 * MINUTE
"""Without a tick for so long, no sensor ran."""

RANKS: dict[Severity, int] = {"info": 0, "warning": 1, "error": 2}


class KnownProblem(msgspec.Struct):
    """A problem that was found."""

    title: str
    since: float
    seen: float
    """When it was found last."""
    over: str = ""
    """The title when it has ended."""
    asset: str = ""
    windows: list[tuple[int, int]] = []
    """Those of the asset that have to be delivered: all that the problem was ever about, for the text at its end."""
    ended: float | None = None
    left: int = 0
    """Windows that were still missing when it was given up."""

    def all_windows(self) -> list[Window]:
        return [window for bounds in self.windows for window in Span(*bounds)]


class LastTold(msgspec.Struct):
    """What an address was told last of a problem."""

    at: float
    size: int
    severity: Severity


class Channel(msgspec.Struct):
    """What is known of an address."""

    told: dict[str, LastTold] = {}
    """By cause."""
    understood: bool = False
    failures: int = 0
    """In a row."""
    since: float = 0.0
    """When the first of them was."""
    pause_until: float = 0.0
    reason: str = ""
    digested: float = 0.0
    """When the latest daily digest that it got was due; since when it waits for the first; 0 where there are none."""


class AlertMemory(msgspec.Struct, rename={"last_tick": "looked"}):
    """The sensor's cursor. It holds no address and nothing of a record."""

    salt: str
    last_tick: float = 0.0
    awake_since: float = 0.0
    """Since when ticks have come without a break."""
    problems: dict[str, KnownProblem] = {}
    """By cause."""
    well_since: float = 0.0
    """Since when no problem has been open; 0 where one is, or where not everything could be looked at."""
    counted: dict[str, Counted] = {}
    """By asset, the windows since START_DATE that were missing."""
    channels: dict[str, Channel] = {}
    """By the salted hash of the address."""


def remembered(cursor: str | None) -> AlertMemory:
    """The memory in a cursor; a new one where there is none that can be read."""
    try:
        return msgspec.json.decode(cursor or "", type=AlertMemory)
    except msgspec.DecodeError:
        return AlertMemory(salt=secrets.token_hex(8))


def wake(memory: AlertMemory, now: float) -> None:
    """Note that the sensor runs."""
    if now - memory.last_tick > ASLEEP:
        memory.awake_since = now
        memory.well_since = 0.0
    memory.last_tick = now


def update(
    memory: AlertMemory,
    problems: Collection[Problem],
    delivered: Mapping[str, Collection[str]],
    now: float,
    *,
    complete: bool,
    unreadable: Collection[str] = (),
) -> None:
    """Note which problems there are and, if all detectors worked (`complete`), which of the known ones have ended.

    `delivered` has the partition keys of each asset's windows that are materialized; of assets that are `unreadable`
    nothing has ended.
    """
    for problem in problems:
        _note(memory, problem, now)
    current = {problem.cause for problem in problems}
    for cause, entry in memory.problems.items():
        if complete and entry.asset not in unreadable and cause not in current and entry.ended is None:
            _end(entry, delivered.get(entry.asset, ()), now)


def _note(memory: AlertMemory, problem: Problem, now: float) -> None:
    entry = memory.problems.get(problem.cause)
    if entry is None or entry.ended is not None:
        entry = memory.problems[problem.cause] = KnownProblem(problem.title, min(problem.since, now), now)
    windows = {*entry.all_windows(), *(window for span in problem.windows for window in span)}
    entry.title, entry.over, entry.asset, entry.seen = problem.title, problem.over, problem.asset, now
    entry.windows = [(span.start, span.end) for span in ranges(windows)]


def _end(entry: KnownProblem, delivered: Collection[str], now: float) -> None:
    missing = sum(window.partition_key not in delivered for window in entry.all_windows())
    gone_for = now - entry.seen
    if entry.windows and not missing:
        entry.ended = now
    elif entry.windows and gone_for >= PATIENCE:
        entry.ended, entry.left = now, missing
    elif not entry.windows and gone_for >= CALM:
        entry.ended = entry.seen


def awaited_windows(memory: AlertMemory) -> Mapping[str, Collection[Window]]:
    """By asset, the windows that have to be delivered before known problems are solved."""
    awaited: dict[str, set[Window]] = {}
    for entry in memory.problems.values():
        awaited.setdefault(entry.asset, set()).update(entry.all_windows())
    return awaited


def forget(memory: AlertMemory, keys: Iterable[str]) -> None:
    """Drop addresses other than these, and problems that have ended and that every address knows to have ended."""
    memory.channels = {key: memory.channels[key] for key in keys}
    awaited = {cause for channel in memory.channels.values() for cause in channel.told}
    memory.problems = {
        cause: entry for cause, entry in memory.problems.items() if entry.ended is None or cause in awaited
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """What an address does not know yet."""

    problems: Sequence[tuple[Problem, str]]
    """The gravest first; with the reason where it is told again."""
    ended: Mapping[str, KnownProblem]
    """By cause."""
    still_open: int
    """Other problems, which the address knows; those that are told once and stay do not count."""

    def __bool__(self) -> bool:
        return bool(self.problems or self.ended)


def unsent(memory: AlertMemory, channel: Channel, problems: Iterable[Problem], now: float) -> Unsent:
    """What to tell an address now."""
    ranked = sorted(problems, key=lambda problem: -RANKS[problem.severity])
    fresh = [(each, why) for each in ranked if (why := _why(each, channel.told.get(each.cause), now)) is not None]
    known = {cause: memory.problems[cause] for cause in channel.told if cause in memory.problems}
    ended = {cause: entry for cause, entry in known.items() if entry.ended is not None}
    apart = {problem.cause for problem, _ in fresh} | {problem.cause for problem in ranked if problem.once}
    still_open = known.keys() - ended.keys() - apart
    return Unsent(problems=fresh, ended=ended, still_open=len(still_open))


def _why(problem: Problem, last: LastTold | None, now: float) -> str | None:
    """Why to tell of a problem; empty for a new one, None for no reason."""
    if last is None:
        return ""
    if RANKS[problem.severity] > RANKS[last.severity]:
        return "graver than before"
    if problem.size >= max(2 * last.size, last.size + 3):
        return "it has grown"
    if now - last.at >= REMIND and not problem.once:
        return "still so"
    return None


def note_sent(channel: Channel, sent: Unsent, now: float, only: Collection[str] | None = None) -> None:
    """Note that an address has got this, or what of it is about these causes."""
    problems = [each for each, _ in sent.problems if only is None or each.cause in only]
    ended = {cause for cause in sent.ended if only is None or cause in only}
    channel.told.update({each.cause: LastTold(now, each.size, each.severity) for each in problems})
    channel.told = {cause: last for cause, last in channel.told.items() if cause not in ended}
