"""The way out for alerts: Apprise, in a process of its own.

Apprise and the libraries below it log addresses, which hold secrets, and a service that hangs can hold up a thread for
as long as it likes. So the sending is done by a child process: addresses reach it through a pipe, its output goes
nowhere, all that comes back is which messages were taken, and when its time is up it is killed.

https://appriseit.com/services/ lists the addresses.
"""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import scrypt
from typing import BinaryIO

import msgspec

from zendesk_pipeline.alerts.messages import Message, Outcome, State

SECONDS = 10.0
"""For all addresses together. A sensor has sixty, and some proxies before a code server give it fifteen."""
KILL_AFTER = 20.0
"""Seconds more, for loading Apprise: two on a machine with time to spare, and alerts have to leave a busy one too."""


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
        """What tells addresses apart where they must not be written; slow to guess, on purpose."""
        return scrypt(self.value.encode(), salt=salt, n=2**13, r=8, p=1, dklen=8).hex()

    def __str__(self) -> str:
        return f"address {self.position} of ALERT_URLS ({self.scheme})"


def addresses(text: str) -> list[Address]:
    """The addresses of a list with white space or commas between; a comma inside of one, as in `?to=a,b`, stays."""
    parts = re.split(r"[,\s]*\s[,\s]*|,+(?=[A-Za-z][A-Za-z0-9+.-]*://)", text.strip().strip(","))
    values = dict.fromkeys(part.strip(",") for part in parts if part.strip(","))
    return [Address(position, value) for position, value in enumerate(values, 1)]


def send(letters: Sequence[tuple[Address, Message | None]], seconds: float = SECONDS) -> list[Outcome]:
    """Send each message to its address, all at once; None only asks whether the address is understood."""
    if not letters:
        return []
    order = _Order(seconds, [(address.value, message) for address, message in letters])
    reports = _ask_child(msgspec.json.encode(order), seconds + KILL_AFTER)
    return [_outcome([each for each in reports if each.letter == index], seconds) for index in range(len(letters))]


def _outcome(reports: Sequence["_Report"], seconds: float) -> Outcome:
    """What became of a letter; one without a last word was not taken, or not all of it."""
    taken = frozenset(each.cause for each in reports if each.cause)
    last = next((each for each in reports if not each.cause), None)
    if last is None:
        return Outcome("failed", f"no answer within {seconds:.0f} s", taken)
    return Outcome(last.state, last.reason, taken)


class _Order(msgspec.Struct):
    """What the child is to do."""

    seconds: float
    letters: list[tuple[str, Message | None]]


class _Report(msgspec.Struct):
    """A line of the child's: that a cause was told, or what became of the whole letter."""

    letter: int
    state: State
    reason: str = ""
    cause: str = ""


def _ask_child(order: bytes, seconds: float) -> list[_Report]:
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(  # noqa: S603  # this very module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            output, _ = child.communicate(order, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
    return [msgspec.json.decode(line, type=_Report) for line in output.split(b"\n")[:-1]]


# The child


def main() -> None:
    """Do what standard input asks for, and say line by line what became of it."""
    from zendesk_pipeline.alerts import services  # noqa: PLC0415  # Apprise is slow to import, and only the child needs it

    with _our_output() as output:
        services.load()
        began = time.monotonic()
        order = msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)
        reports: queue.SimpleQueue[_Report] = queue.SimpleQueue()
        for index, (address, message) in enumerate(order.letters):
            work = (index, address, message, reports)
            threading.Thread(target=_deliver, args=work, daemon=True).start()
        open_letters = len(order.letters)
        while open_letters:
            try:
                report = reports.get(timeout=max(0.0, began + order.seconds - time.monotonic()))
            except queue.Empty:
                return
            output.write(msgspec.json.encode(report) + b"\n")
            output.flush()
            open_letters -= not report.cause


def _our_output() -> BinaryIO:
    """Standard output for us alone: what a library prints goes nowhere."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return ours


def _deliver(index: int, address: str, message: Message | None, reports: "queue.SimpleQueue[_Report]") -> None:
    from zendesk_pipeline.alerts import services  # noqa: PLC0415  # as above

    def took(cause: str) -> None:
        reports.put(_Report(index, "sent", cause=cause))

    outcome = services.deliver(address, message, took)
    reports.put(_Report(index, outcome.state, outcome.reason))


if __name__ == "__main__":
    main()
