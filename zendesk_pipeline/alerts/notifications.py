"""What was told to whom, and what there is to tell: the alerts' memory and their words. Nothing here does any I/O.

A problem is told once to each address, again when it is graver, has grown or lasts for another day, and when it is
solved. Solved, for one about windows, is when they are delivered; for any other, when it has been gone for a while.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from zendesk_pipeline.alerts.messages import Kind, Message, Part, harmless
from zendesk_pipeline.alerts.problems import MINUTE, Problem, Severity, count, duration, moment
from zendesk_pipeline.model.windows import DAY, Span, Window, ranges
from zendesk_pipeline.orchestration.missing_windows import Counted

REMIND = DAY
"""A problem that lasts is told again after this long."""
CALM = 5 * MINUTE
"""A problem that is not about windows is solved when it has been gone for this long."""
PATIENCE = DAY
"""One about windows is given up when it has been gone for this long and they are still missing."""
ASLEEP = 10 * MINUTE
"""Without a tick for so long, no sensor ran."""
SUBJECT = "Zendesk collection"
"""What every title begins with."""

RANKS: dict[Severity, int] = {"info": 0, "warning": 1, "error": 2}
KINDS: dict[Severity, Kind] = {"info": "info", "warning": "warning", "error": "failure"}


class Entry(msgspec.Struct):
    """A problem that was seen."""

    title: str
    since: float
    seen: float
    """When it was last seen."""
    over: str = ""
    """What is well again when it has ended."""
    asset: str = ""
    windows: list[tuple[int, int]] = []
    """Those of the asset that have to be delivered: all that the problem was ever about, for the word at its end."""
    ended: float | None = None
    left: int = 0
    """Windows that were still missing when it was given up."""


class Told(msgspec.Struct):
    """What an address was told of a problem."""

    at: float
    size: int
    severity: Severity


class Channel(msgspec.Struct):
    """What is known of an address."""

    told: dict[str, Told] = {}
    understood: bool = False
    failures: int = 0
    """In a row."""
    since: float = 0.0
    """When the first of them was."""
    pause_until: float = 0.0
    reason: str = ""


class Memory(msgspec.Struct):
    """What the sensor keeps between its ticks. It holds no address and nothing of a record."""

    salt: str
    looked: float = 0.0
    awake_since: float = 0.0
    """Since when ticks have come without a break."""
    problems: dict[str, Entry] = {}
    """By cause."""
    counted: dict[str, Counted] = {}
    """By asset, the windows since START_DATE that were missing."""
    channels: dict[str, Channel] = {}
    """By the salted hash of the address."""


def remembered(cursor: str | None) -> Memory:
    """The memory in a cursor; a new one where there is none that can be read."""
    try:
        return msgspec.json.decode(cursor or "", type=Memory)
    except msgspec.DecodeError:
        return Memory(salt=secrets.token_hex(8))


def wake(memory: Memory, now: float) -> None:
    """Note that the sensor runs."""
    if now - memory.looked > ASLEEP:
        memory.awake_since = now
    memory.looked = now


def update(
    memory: Memory,
    problems: Collection[Problem],
    delivered: Mapping[str, Collection[str]],
    now: float,
    *,
    complete: bool,
    unseen: Collection[str] = (),
) -> None:
    """Note which problems there are and, after a look that saw everything, which of the remembered ones have ended.

    `delivered` has the partition keys of each asset's windows that are materialized; of assets that are `unseen`
    nothing has ended.
    """
    for problem in problems:
        _note(memory, problem, now)
    current = {problem.cause for problem in problems}
    for cause, entry in memory.problems.items():
        if complete and entry.asset not in unseen and cause not in current and entry.ended is None:
            _end(entry, delivered, now)


def _note(memory: Memory, problem: Problem, now: float) -> None:
    entry = memory.problems.get(problem.cause)
    if entry is None or entry.ended is not None:
        entry = memory.problems[problem.cause] = Entry(problem.title, min(problem.since, now), now)
    windows = {*_windows(entry), *(window for span in problem.windows for window in span)}
    entry.title, entry.over, entry.asset, entry.seen = problem.title, problem.over, problem.asset, now
    entry.windows = [(span.start, span.end) for span in ranges(windows)]


def _missing(entry: Entry, delivered: Mapping[str, Collection[str]]) -> list[Window]:
    held = delivered.get(entry.asset, ())
    return [window for window in _windows(entry) if window.partition_key not in held]


def _windows(entry: Entry) -> list[Window]:
    return [window for bounds in entry.windows for window in Span(*bounds)]


def awaited_windows(memory: Memory) -> Mapping[str, Collection[Window]]:
    """By asset, the windows that have to be delivered before remembered problems are solved."""
    awaited: dict[str, set[Window]] = {}
    for entry in memory.problems.values():
        awaited.setdefault(entry.asset, set()).update(_windows(entry))
    return awaited


def _end(entry: Entry, delivered: Mapping[str, Collection[str]], now: float) -> None:
    missing = len(_missing(entry, delivered))
    gone_for = now - entry.seen
    if entry.windows and not missing:
        entry.ended = now
    elif entry.windows and gone_for >= PATIENCE:
        entry.ended, entry.left = now, missing
    elif not entry.windows and gone_for >= CALM:
        entry.ended = entry.seen


def forget(memory: Memory, keys: Iterable[str]) -> None:
    """Drop addresses other than these, and problems that have ended and that no address waits to hear of."""
    memory.channels = {key: memory.channels[key] for key in keys}
    awaited = {cause for channel in memory.channels.values() for cause in channel.told}
    memory.problems = {
        cause: entry for cause, entry in memory.problems.items() if entry.ended is None or cause in awaited
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What an address does not know yet."""

    problems: Sequence[tuple[Problem, str]]
    """The gravest first; with a word on why it is told again, if it is."""
    ended: Mapping[str, Entry]
    still_open: int
    """Problems besides, which the address knows; those that are told once and stay do not count."""

    def __bool__(self) -> bool:
        return bool(self.problems or self.ended)


def news(memory: Memory, channel: Channel, problems: Iterable[Problem], now: float) -> News:
    """What to tell an address now."""
    ranked = sorted(problems, key=lambda problem: -RANKS[problem.severity])
    fresh = [(each, why) for each in ranked if (why := _why(each, channel.told.get(each.cause), now)) is not None]
    known = {cause: memory.problems[cause] for cause in channel.told if cause in memory.problems}
    ended = {cause: entry for cause, entry in known.items() if entry.ended is not None}
    apart = {problem.cause for problem, _ in fresh} | {problem.cause for problem in ranked if problem.once}
    still_open = known.keys() - ended.keys() - apart
    return News(problems=fresh, ended=ended, still_open=len(still_open))


def _why(problem: Problem, told: Told | None, now: float) -> str | None:
    """Why to tell of a problem; empty for a new one, None for no reason."""
    if told is None:
        return ""
    if RANKS[problem.severity] > RANKS[told.severity]:
        return "graver than before"
    if problem.size >= max(2 * told.size, told.size + 3):
        return "it has grown"
    if now - told.at >= REMIND and not problem.once:
        return "still so"
    return None


def note_told(channel: Channel, told: News, now: float, only: Collection[str] | None = None) -> None:
    """Note that the news, or what of it is about these causes, has reached the address."""
    problems = [each for each, _ in told.problems if only is None or each.cause in only]
    ended = {cause for cause in told.ended if only is None or cause in only}
    channel.told.update({each.cause: Told(now, each.size, each.severity) for each in problems})
    channel.told = {cause: known for cause, known in channel.told.items() if cause not in ended}


# In words


def message(told: News, memory: Memory, ui_url: str, now: float) -> Message:
    """The news in words; what they quote mentions nobody and formats nothing where they are read."""
    ui = f"{ui_url}/"
    shown = [_told(problem, why, memory.problems[problem.cause].since, ui, now) for problem, why in told.problems]
    shown += [_ended(cause, entry, ui) for cause, entry in told.ended.items()]
    counted = f"{SUBJECT}: {_counted(told)}"
    if told.still_open:
        text = f"Open besides, and told before: {told.still_open}."
    else:
        text = "" if told.problems else "Nothing else is wrong."
    return Message(
        title=shown[0].title if len(shown) == 1 else counted,
        counted=counted,
        parts=shown,
        text=text,
        link=f"{ui_url}/overview",
        kind=_kind(told),
    )


def _told(problem: Problem, why: str, since: float, ui: str, now: float) -> Part:
    title, text = harmless(problem.title, leave=ui), harmless(problem.text, leave=ui)
    lasting = f", for {duration(now - since)}" if now - since >= MINUTE else ""
    return Part(
        cause=problem.cause,
        incident=_incident(problem.cause, ui),
        kind=KINDS[problem.severity],
        title=f"{SUBJECT}: {title}",
        heading=f"{problem.severity.upper()}{f' ({why})' if why else ''}: {title}",
        details=f"{text}\nSince {moment(since)}{lasting}.",
        link=f"{ui.removesuffix('/')}{problem.link_path}",
    )


def _ended(cause: str, entry: Entry, ui: str) -> Part:
    lasted = duration((entry.ended or entry.seen) - entry.since)
    missing = f"{entry.left:,} of its windows {'is' if entry.left == 1 else 'are'} still missing"
    what = harmless(f"No longer seen: {entry.title}" if entry.left else _over(cause, entry), leave=ui)
    return Part(
        cause=cause,
        incident=_incident(cause, ui),
        kind="info" if entry.left else "success",
        title=f"{SUBJECT}: {what}",
        heading=f"{'NOT SOLVED' if entry.left else 'SOLVED'} after {lasted}: {what}",
        details=f"Its runs are gone or too long ago, and {missing}." if entry.left else "",
    )


def _over(cause: str, entry: Entry) -> str:
    """What is well again; a failure's own words would be read as one."""
    if entry.over:
        return entry.over
    if entry.windows:
        had = "were missing" if cause.startswith("stale ") else "had failed"
        return f"Delivered now: {count(_windows(entry), 'window')} of {entry.asset} that {had}"
    return f"No longer so: {entry.title}"


def _incident(cause: str, ui: str) -> str:
    """What services that open and close incidents know the problem by: the same whatever its text, size or time is.

    Two deployments may tell the same service of the same assets.
    """
    return f"zendesk-pipeline-{blake2b(f'{ui} {cause}'.encode(), digest_size=16).hexdigest()}"


def _counted(told: News) -> str:
    numbers = [count(told.problems, "problem")] if told.problems else []
    numbers += [f"{len(told.ended)} solved"] if told.ended else []
    return ", ".join(numbers)


def _kind(told: News) -> Kind:
    """Success stands for all clear."""
    if told.problems:
        return KINDS[told.problems[0][0].severity]
    return "info" if told.still_open or any(entry.left for entry in told.ended.values()) else "success"
