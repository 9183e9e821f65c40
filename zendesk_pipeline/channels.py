"""The way out for alerts: Apprise, in a process of its own.

Apprise and the libraries below it log addresses, which hold secrets, and a service that hangs can hold up a thread for
as long as it likes. So the sending is done by a child process: addresses reach it through a pipe, its output goes
nowhere, all that comes back is which messages were taken, and when its time is up it is killed.

https://appriseit.com/services/ lists the addresses.
"""

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from hashlib import scrypt
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from apprise import AppriseAsset

SECONDS = 10.0
"""For all addresses together. A sensor has sixty, and some proxies before a code server give it fifteen."""
KILL_AFTER = 2.0
"""Seconds more, should the child overlook its own time."""

Kind = Literal["info", "success", "warning", "failure"]
State = Literal["sent", "failed", "unknown"]
"""Unknown: Apprise does not understand the address."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What people read."""

    title: str
    body: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message; `reason` is a few words without a secret."""

    state: State
    reason: str = ""


def addresses(text: str) -> list[Address]:
    """The addresses of a list with white space or commas between; a comma inside of one, as in `?to=a,b`, stays."""
    parts = re.split(r"[,\s]*\s[,\s]*|,+(?=[A-Za-z][A-Za-z0-9+.-]*://)", text.strip().strip(","))
    values = dict.fromkeys(part.strip(",") for part in parts if part.strip(","))
    return [Address(position, value) for position, value in enumerate(values, 1)]


def send(letters: Sequence[tuple[Address, Message | None]], seconds: float = SECONDS) -> list[Outcome]:
    """Send each message to its address, all at once; None only asks whether the address is understood."""
    if not letters:
        return []
    order = {
        "seconds": seconds,
        "letters": [[address.value, message and asdict(message)] for address, message in letters],
    }
    answers = _ask_child(json.dumps(order).encode(), seconds + KILL_AFTER)
    unanswered = Outcome("failed", f"no answer within {seconds:.0f} s")
    return [answers.get(index, unanswered) for index in range(len(letters))]


def _ask_child(order: bytes, seconds: float) -> dict[int, Outcome]:
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(  # noqa: S603  # this very module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            output, _ = child.communicate(order, timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            output, _ = child.communicate()
    return dict(_read(line) for line in output.split(b"\n")[:-1])


def _read(line: bytes) -> tuple[int, Outcome]:
    index, state, reason = json.loads(line)
    return index, Outcome(state, reason)


# The child


def main() -> None:
    """Do what standard input asks for, and say line by line what became of it."""
    ends_at = time.monotonic()
    with _our_output() as output:
        order = json.load(sys.stdin)
        ends_at += order["seconds"]
        outcomes: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        for index, (address, message) in enumerate(order["letters"]):
            work = (index, address, message, outcomes)
            threading.Thread(target=_deliver, args=work, daemon=True).start()
        for _ in order["letters"]:
            try:
                index, outcome = outcomes.get(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                return
            print(json.dumps([index, outcome.state, outcome.reason]), file=output, flush=True)


def _our_output() -> TextIO:
    """Standard output for us alone: what a library prints goes nowhere."""
    ours = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return ours


def _deliver(
    index: int, address: str, message: dict[str, str] | None, outcomes: "queue.SimpleQueue[tuple[int, Outcome]]"
) -> None:
    try:
        outcome = _sent(address, message)
    except Exception as error:  # noqa: BLE001  # a plug-in of Apprise's may raise anything; only its kind is told
        outcome = Outcome("failed", type(error).__name__)
    outcomes.put((index, outcome))


def _sent(address: str, message: dict[str, str] | None) -> Outcome:
    from apprise import Apprise, NotifyFormat  # noqa: PLC0415  # slow to import, and only the child needs it

    look = _look()
    service = Apprise.instantiate(address, asset=look)
    if service is None:
        return Outcome("unknown", "Apprise does not understand it")
    if message is None:
        return Outcome("sent")
    sender = Apprise(asset=look)
    sender.add(service)
    result = sender.notify(
        body=message["body"], title=message["title"], notify_type=message["kind"], body_format=NotifyFormat.TEXT
    )
    if result:
        return Outcome("sent")
    codes = [found[1] for entry in result.logs() if (found := re.search(r"error=(\d{3})\b", entry.message))]
    return Outcome("failed", f"HTTP {codes[0]}" if codes else "it cannot be reached, or refuses")


def _look() -> "AppriseAsset":
    """How messages show where they come from; no picture, no redirect."""
    from apprise import AppriseAsset  # noqa: PLC0415  # as above

    return AppriseAsset(
        app_id="zendesk-pipeline",
        app_desc="Zendesk to S3",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
        service_timeout=0,
    )


if __name__ == "__main__":
    main()
