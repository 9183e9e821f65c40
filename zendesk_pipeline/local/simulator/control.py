"""The client that tests and the demo drive a running simulator with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import requests

from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.local.simulator.history import FOREVER
from zendesk_pipeline.local.simulator.zendesk import RequestSeen

_TIMEOUT = 60


class FiredRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that is turned on, and how often its fault happened."""

    path: str
    kind: str
    fired: int


class Counts(msgspec.Struct, frozen=True):
    """Requests by path, and by status ("none": no answer went out)."""

    path: dict[str, int]
    status: dict[str, int]


@dataclass(frozen=True, slots=True)
class SimulatorControl:
    """Asks and changes the simulator at `url`."""

    url: str
    _session: requests.Session = field(default_factory=requests.Session)

    def source(self, stream: str, start: int = 0, end: int = FOREVER, *, ever: bool = False) -> list[bytes]:
        """Record bytes with an event time (epoch) in [start, end): as they show now, or `ever` showed."""
        query = f"source?stream={stream}&start={start}&end={end}&ever={int(ever)}"
        return self._call("GET", query).split(b"\n")[:-1]

    def requests(self) -> list[RequestSeen]:
        """The requests seen, oldest first."""
        return msgspec.json.decode(self._call("GET", "requests"), type=list[RequestSeen])

    def forget_requests(self) -> None:
        """Empty the request log."""
        self._call("DELETE", "requests")

    def counts(self) -> Counts:
        """Totals of the requests seen."""
        return msgspec.json.decode(self._call("GET", "counts"), type=Counts)

    def add_faults(self, *rules: Rule) -> None:
        """Turn on faults."""
        self._call("POST", "faults", rules)

    def faults(self) -> list[FiredRule]:
        """The faults that are on."""
        return msgspec.json.decode(self._call("GET", "faults"), type=list[FiredRule])

    def clear_faults(self) -> None:
        """Turn off all faults."""
        self._call("DELETE", "faults")

    def set_clock(self, now: float | None) -> None:
        """Set the simulated clock (epoch seconds; it then stands still), None for the real one."""
        self._call("POST", "clock", {"now": now})

    def now(self) -> float:
        """The simulated time, epoch seconds."""
        return float(self.settings()["now"])  # pyright: ignore[reportArgumentType]  # always a number

    def settings(self) -> dict[str, object]:
        """Every switch as it stands, `now`, and whether the clock is `frozen`."""
        return msgspec.json.decode(self._call("GET", "settings"), type=dict[str, object])

    def set(self, **settings: object) -> None:
        """Change switches; their names are the fields of `settings.Settings`."""
        self._call("POST", "settings", settings)

    def add_records(self, stream: str, records: Sequence[bytes], *, visible_at: int | None = None) -> None:
        """Put in records by hand; a newer state of a ticket replaces the older one."""
        texts = [record.decode() for record in records]
        self._call("POST", "records", {"stream": stream, "records": texts, "visible_at": visible_at})

    def reset(self) -> None:
        """Back to the state at the start."""
        self._call("POST", "reset")

    def _call(self, method: str, action: str, body: object = None) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        answer = self._session.request(method, f"{self.url}/_simulator/{action}", data=data, timeout=_TIMEOUT)
        if not answer.ok:
            raise ValueError(f"the simulator refused {method} {action}: {answer.text}")
        return answer.content
