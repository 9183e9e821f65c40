"""The way out for alerts: Apprise, in a process of its own.

Apprise and the libraries below it log addresses, which hold secrets, and a service that hangs can hold up a thread for
as long as it likes. So the sending is done by a child process: addresses reach it through a pipe, its output goes
nowhere, all that comes back is which messages were taken, and when its time is up it is killed.

https://appriseit.com/services/ lists the addresses.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import scrypt

import msgspec

from zendesk_pipeline.alerts.messages import Message, SendResult, State

SECONDS = 10.0
"""For all addresses together. A sensor has sixty, and some proxies before a code server give it fifteen."""
KILL_AFTER = 20.0
"""Seconds more, for loading Apprise: two on a machine with time to spare, and alerts have to leave a busy one too."""
SENDER = (sys.executable, "-m", "zendesk_pipeline.alerts.services")
"""The child process."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address of ALERT_URLS; its value is a secret."""

    position: int
    """In the list, from 1."""
    value: str = field(repr=False)

    @property
    def scheme(self) -> str:
        found = re.match(r"([a-z][a-z0-9+.-]*)://", self.value, re.IGNORECASE)
        return found[1].lower() if found else "no scheme"

    def key(self, salt: bytes) -> str:
        """What distinguishes addresses where they must not be written; slow to guess, on purpose."""
        return scrypt(self.value.encode(), salt=salt, n=2**13, r=8, p=1, dklen=8).hex()

    def __str__(self) -> str:
        return f"address {self.position} of ALERT_URLS ({self.scheme})"


def addresses(text: str) -> list[Address]:
    """The addresses of a list with white space or commas between; a comma inside of one, as in `?to=a,b`, stays."""
    parts = re.split(r"[,\s]*\s[,\s]*|,+(?=[A-Za-z][A-Za-z0-9+.-]*://)", text.strip().strip(","))
    values = dict.fromkeys(part.strip(",") for part in parts if part.strip(","))
    return [Address(position, value) for position, value in enumerate(values, 1)]


def send(letters: Sequence[tuple[Address, Message | None]], seconds: float = SECONDS) -> list[SendResult]:
    """Send each message to its address, all at once; None only asks whether the address is understood."""
    if not letters:
        return []
    order = Order(seconds, [(address.value, message) for address, message in letters])
    reports = _ask_child(msgspec.json.encode(order), seconds + KILL_AFTER)
    return [_outcome([each for each in reports if each.letter == index], seconds) for index in range(len(letters))]


def _outcome(reports: Sequence["Report"], seconds: float) -> SendResult:
    """The result of a letter; without a last report it was not taken, or not all of it."""
    taken = frozenset(each.cause for each in reports if each.cause)
    last = next((each for each in reports if not each.cause), None)
    if last is None:
        return SendResult("failed", f"no answer within {seconds:.0f} s", taken)
    return SendResult(last.state, last.reason, taken)


class Order(msgspec.Struct):
    """What the child is to do."""

    seconds: float
    letters: list[tuple[str, Message | None]]


class Report(msgspec.Struct):
    """A line of the child's output: that one cause was sent, or the result of the whole letter."""

    letter: int
    state: State
    reason: str = ""
    cause: str = ""


def _ask_child(order: bytes, seconds: float) -> list[Report]:
    with subprocess.Popen(  # noqa: S603  # a module of ours
        SENDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            output, _ = child.communicate(order, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
    return [msgspec.json.decode(line, type=Report) for line in output.split(b"\n")[:-1]]
