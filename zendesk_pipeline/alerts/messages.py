"""The text of an alert: whole where there is room, else the gravest first; and harmless whatever it quotes.

Every service has a limit of its own, from the 67 characters of a radio message to the 32,768 of a mail, and one that
gets more refuses all of it. So a message is made of parts, and what does not fit is left out by parts: never in the
middle of a name or a key.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

NoticeKind = Literal["info", "success", "warning", "failure"]
State = Literal["sent", "failed", "unknown"]
"""Of a message that was to be sent. Unknown: Apprise does not understand the address."""

LEFT_LINKED = frozenset({"appriseit.com", "developer.zendesk.com", "support.zendesk.com", "subdomain.zendesk.com"})
"""Hosts that sentences of ours name."""
SEPARATOR = "\n\n"
MOST_SHOWN = 10
"""Parts of one message; more are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One problem, or the end of one."""

    incident: str
    """The same for the same problem, whatever is said of it: services that open and close incidents go by it."""
    cause: str
    kind: NoticeKind
    """Success: the problem has ended."""
    title: str
    heading: str
    details: str = ""
    link: str = ""

    @property
    def brief(self) -> str:
        """What it is, and where to look."""
        return "\n".join(filter(None, (self.heading, self.link)))

    @property
    def whole(self) -> str:
        return "\n".join(filter(None, (self.heading, self.details, self.link)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is sent at one time, the gravest first."""

    title: str
    kind: NoticeKind
    parts: Sequence[Notice] = ()
    counted: str = ""
    """The title where `title` is too long."""
    text: str = ""
    """Text after the parts."""
    link: str = ""
    """Where the rest is shown."""
    digest: bool = False
    """Whether it is the daily digest, which opens and closes no incident."""

    @property
    def body(self) -> str:
        """Everything, as long as it is not so much that nobody would read it."""
        return next(_bodies(self))


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result for a message; `reason` is a few words without a secret."""

    state: State
    reason: str = ""
    taken: frozenset[str] = frozenset()
    """Of a failed message, the causes that were sent all the same: a service may get each by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a service takes."""

    body: int
    """Characters."""
    title: int = 0
    """Characters; 0 where the title is the body's first line."""
    lines: int = 0
    """Of the body; 0 for any number."""
    shared: bool = False
    """Whether the title takes its room from the body, although it stands by itself."""
    written: Callable[[str], str] = str
    """The text as the service gets it, with what has to be escaped there."""

    def takes(self, title: str, body: str) -> bool:
        """Whether both fit. Counted in bytes, of which there are as many as characters at least, however they count."""
        text = f"{title}{JOINT}{body}" if title and not self.title else body
        beside = _size(self.written(title)) + len(JOINT) if title and self.shared else 0
        few = not self.lines or text.count("\n") < self.lines
        return few and _size(self.written(text)) + beside <= self.body


JOINT = " " * 24 + "\n"
"""At most so much stands between a title and the text that it is put into, tags of HTML included."""


def fitted(message: Message, room: Room) -> tuple[str, str]:
    """Title and body, as much as there is room for.

    The first of these that fits: everything; the gravest whole and the others in brief; headings, and how many more
    there are; the number of problems. Where not even that fits, that is what it is.
    """
    counted = message.counted or message.title
    title = message.title if not room.title or _size(message.title) <= room.title else counted
    for body in _bodies(message):
        if room.takes(title, body):
            return title, body
    beside = title if room.title else ""
    shorter = (_together(title, message.link), title, _together(counted, message.link))
    return beside, next((body for body in shorter if room.takes(beside, body)), counted)


def _bodies(message: Message) -> Iterator[str]:
    """From everything to the headings of fewer and fewer parts."""
    parts = message.parts[:MOST_SHOWN]
    for whole in range(len(parts), -1, -1):
        shown = [*(part.whole for part in parts[:whole]), *(part.brief for part in parts[whole:])]
        yield _together(*shown, _more(message, len(parts)), message.text)
    for few in range(len(parts), 0, -1):
        headings = "\n".join(part.heading for part in parts[:few])
        yield _together(headings, _more(message, few) or message.link)


def _more(message: Message, shown: int) -> str:
    more = len(message.parts) - shown
    return f"And {more:,} more: {message.link}" if more else ""


def _together(*texts: str) -> str:
    return SEPARATOR.join(filter(None, texts))


def _size(text: str) -> int:
    return len(text.encode())


# What is quoted


def some_words(text: str, most: int) -> str:
    """As many words of a text as fit; at least one, and none is cut: it may be a name or a key."""
    if len(text) <= most:
        return text
    whole = text[: most + 1].rfind(" ")
    end = whole if whole > 0 else text.find(" ")
    return f"{text[:end].rstrip(' ;,')} …" if end > 0 else text


def harmless(text: str, *, leave: str = "") -> str:
    """Text that mentions nobody, formats nothing and links to nothing, wherever it is shown.

    Alerts quote what Zendesk, S3 and other people's checks say, and much of that can be written by anyone who may open
    a ticket. Each service has a markup of its own, which Apprise escapes for some of them. What begins a markup is
    taken apart here with a space, which is as good for all of them; the address of a link gets brackets, as is usual
    for addresses that nobody should follow. Names, keys and addresses of mail stay as they are, and so do URLs that
    begin with `leave`.
    """
    shown = "".join(c if c == "\n" else INVISIBLE.get(unicodedata.category(c), c) for c in text)
    for pattern, by in _MARKUP:
        shown = pattern.sub(by, shown)
    return _URL.sub(lambda found: found[0] if _is_ours(found, leave) else _unlinked(found), shown)


INVISIBLE = {"Cc": "", "Cf": "", "Zl": " ", "Zp": " "}
"""What text may hold unseen, by its category: control characters, what turns its direction, and odd line ends."""
_MARKUP = (
    (re.compile(r"<(?=[A-Za-z/!?@#:^])"), "< "),  # HTML; <!channel>, <@U1>, <#C1> and <https://…|…> of Slack and others
    (re.compile(r"(?<![\w.+-])@(?=[\w*_&\"{])"), "@ "),  # a mention, not an address of mail
    (re.compile(r"(?i)@(?=(?:everyone|here)\b)"), "@ "),  # Discord looks for these anywhere
    (re.compile(r"!(?=\[)"), "! "),
    (re.compile(r"\](?=[(\[:])"), "] "),  # [text](address)
    (re.compile(r"`"), "'"),
    (re.compile(r"\*(?=\S)"), "* "),
    (re.compile(r"(?<!\w)(_{1,3}|~~|\|\|)(?=\w.*?\w\1(?!\w))"), r"\1 "),  # _text_, and not the _ within a name
    (re.compile(r"(?m)^(?=[#>])"), ": "),
)
_URL = re.compile(r"(?i)\b(?!s3:)([a-z][a-z0-9+.-]{1,20})://([\w@:%-]*(?:\.[\w@:%-]+)*)")


def _is_ours(found: re.Match[str], leave: str) -> bool:
    return found[2].lower() in LEFT_LINKED or bool(leave and found.string.startswith(leave, found.start()))


def _unlinked(found: re.Match[str]) -> str:
    return f"{found[1]}[:]//{found[2].replace('.', '[.]')}"
