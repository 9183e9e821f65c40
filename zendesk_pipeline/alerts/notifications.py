"""Messages about problems: their words, and their sending to each address."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from zendesk_pipeline.alerts.channels import Address, send
from zendesk_pipeline.alerts.digest import Digest
from zendesk_pipeline.alerts.digest import message as digest_message
from zendesk_pipeline.alerts.memory import AlertMemory, Channel, KnownProblem, Unsent, note_sent, unsent
from zendesk_pipeline.alerts.messages import Message, Notice, NoticeKind, SendResult, harmless
from zendesk_pipeline.alerts.problem import MINUTE, Problem, Severity, count, duration, moment
from zendesk_pipeline.model.errors import SettingsError

INTERVAL = 60
"""Seconds between two ticks."""
LONGEST_PAUSE = 30 * MINUTE
"""Between two tries to reach an address that fails."""
DEAD = 3
"""An address that failed so often in a row is a problem that the others are told of."""
SUBJECT = "Zendesk collection"
"""What every title begins with."""
NOTHING = Unsent(problems=(), ended={}, still_open=0)
KINDS: Mapping[Severity, NoticeKind] = {"info": "info", "warning": "warning", "error": "failure"}


@dataclass(frozen=True, slots=True)
class Receiver:
    """An address, and what is remembered of it."""

    key: str
    address: Address
    channel: Channel


def receivers(memory: AlertMemory, wanted: Sequence[Address]) -> list[Receiver]:
    """The addresses with what is remembered of each; nothing of a new one."""
    keys = [address.key(memory.salt.encode()) for address in wanted]
    return [
        Receiver(key, address, memory.channels.setdefault(key, Channel()))
        for key, address in zip(keys, wanted, strict=True)
    ]


def dead_channels(known: Sequence[Receiver]) -> Iterator[Problem]:
    """Addresses that alerts do not reach."""
    for each in known:
        if each.channel.failures >= DEAD:
            yield Problem(
                cause=_dead(each),
                title=f"Alerts do not reach {each.address}",
                text=f"{each.channel.failures} tries in a row failed; of the latest: {each.channel.reason}.",
                since=each.channel.since,
                link_path="/automation",
                over=f"Alerts reach {each.address} again",
            )


def _dead(each: Receiver) -> str:
    return f"channel {each.key}"


def notify(
    memory: AlertMemory,
    known: Sequence[Receiver],
    problems: Sequence[Problem],
    ui_url: str,
    now: float,
    *,
    daily: Digest | None = None,
) -> list[str]:
    """Send each address what it does not know yet, and the daily digest; gives a sentence for each that failed.

    An address that is new is tried without a message. No address is told of itself that it is dead.
    """
    due = [each for each in known if each.channel.pause_until <= now]
    concerns = {each.key: [problem for problem in problems if problem.cause != _dead(each)] for each in due}
    waiting = [(each, unsent(memory, each.channel, concerns[each.key], now)) for each in due]
    waiting = [(each, what) for each, what in waiting if what or not each.channel.understood]
    letters = [(each.address, message(what, memory, ui_url, now) if what else None) for each, what in waiting]
    digested = [each for each in due if daily and each.channel.understood and each.channel.digested < daily.due]
    if daily:
        letters += [(each.address, digest_message(daily, memory, concerns[each.key], ui_url, now)) for each in digested]
    results = send(letters)
    notes: list[str] = []
    for (each, what), result in zip(waiting, results, strict=False):
        _settle(each.channel, what, result, now)
        if result.state != "sent":
            notes.append(f"{each.address} did not take the alert: {result.reason}")
    for each, result in zip(digested, results[len(waiting) :], strict=True):
        _settle(each.channel, NOTHING, result, now)
        if daily and result.state == "sent":
            each.channel.digested = daily.due
        else:
            notes.append(f"{each.address} did not take the digest: {result.reason}")
    return notes


def _settle(channel: Channel, what: Unsent, result: SendResult, now: float) -> None:
    """Note the result. The first failure is tried again at the next tick, then pauses grow."""
    channel.understood = result.state != "unknown"
    channel.reason = result.reason
    if result.state == "sent":
        channel.failures = 0
        note_sent(channel, what, now)
        return
    note_sent(channel, what, now, only=result.taken)
    channel.since = channel.since if channel.failures else now
    channel.failures += 1
    channel.pause_until = now + min(INTERVAL * (2 ** (channel.failures - 1) - 1), LONGEST_PAUSE)


def require_one(known: Sequence[Receiver]) -> None:
    """Raises SettingsError where no address is understood: a failed tick is all that people can see of it then."""
    wrong = [f"{each.address.position} ({each.address.scheme})" for each in known if not each.channel.understood]
    if wrong and len(wrong) == len(known):
        raise SettingsError(
            f"ALERT_URLS: Apprise does not understand address {', '.join(wrong)}."
            " https://appriseit.com/services/ says how addresses are written."
        )


# Words


def message(what: Unsent, memory: AlertMemory, ui_url: str, now: float) -> Message:
    """The message; what it quotes mentions nobody and formats nothing where it is read."""
    ui = f"{ui_url}/"
    shown = [_found(problem, why, memory.problems[problem.cause].since, ui, now) for problem, why in what.problems]
    shown += [_ended(cause, entry, ui) for cause, entry in what.ended.items()]
    numbers = [count(what.problems, "problem")] if what.problems else []
    numbers += [f"{len(what.ended)} solved"] if what.ended else []
    counted = f"{SUBJECT}: {', '.join(numbers)}"
    if what.still_open:
        text = f"Open besides, and told before: {what.still_open}."
    else:
        text = "" if what.problems else "Nothing else is wrong."
    return Message(
        title=shown[0].title if len(shown) == 1 else counted,
        counted=counted,
        parts=shown,
        text=text,
        link=f"{ui_url}/overview",
        kind=_kind(what),
    )


def _found(problem: Problem, why: str, since: float, ui: str, now: float) -> Notice:
    title, text = harmless(problem.title, leave=ui), harmless(problem.text, leave=ui)
    lasting = f", for {duration(now - since)}" if now - since >= MINUTE else ""
    return Notice(
        cause=problem.cause,
        incident=_incident(problem.cause, ui),
        kind=KINDS[problem.severity],
        title=f"{SUBJECT}: {title}",
        heading=f"{problem.severity.upper()}{f' ({why})' if why else ''}: {title}",
        details=f"{text}\nSince {moment(since)}{lasting}.",
        link=f"{ui.removesuffix('/')}{problem.link_path}",
    )


def _ended(cause: str, entry: KnownProblem, ui: str) -> Notice:
    lasted = duration((entry.ended or entry.seen) - entry.since)
    missing = f"{entry.left:,} of its windows {'is' if entry.left == 1 else 'are'} still missing"
    what = harmless(f"No longer seen: {entry.title}" if entry.left else _over(cause, entry), leave=ui)
    return Notice(
        cause=cause,
        incident=_incident(cause, ui),
        kind="info" if entry.left else "success",
        title=f"{SUBJECT}: {what}",
        heading=f"{'NOT SOLVED' if entry.left else 'SOLVED'} after {lasted}: {what}",
        details=f"Its runs are gone or too long ago, and {missing}." if entry.left else "",
    )


def _over(cause: str, entry: KnownProblem) -> str:
    """What is well again: the title of the failure would read as one."""
    if entry.over:
        return entry.over
    if entry.windows:
        had = "were missing" if cause.startswith("stale ") else "had failed"
        return f"Delivered now: {count(entry.all_windows(), 'window')} of {entry.asset} that {had}"
    return f"No longer so: {entry.title}"


def _incident(cause: str, ui: str) -> str:
    """The name of the problem for services that open and close incidents: the same whatever its text, size or time is.

    Two deployments may tell the same service of the same assets.
    """
    return f"zendesk-pipeline-{blake2b(f'{ui} {cause}'.encode(), digest_size=16).hexdigest()}"


def _kind(what: Unsent) -> NoticeKind:
    """Success is only for the all clear."""
    if what.problems:
        return KINDS[what.problems[0][0].severity]
    return "info" if what.still_open or any(entry.left for entry in what.ended.values()) else "success"
