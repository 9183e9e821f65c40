"""The simulator's own interface under /_simulator/: what tests and the demo ask and change.

Not part of Zendesk and without authentication: it listens where the simulator does, on the loopback address.
"""

from collections.abc import Callable
from dataclasses import asdict

import msgspec

from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.local.simulator.history import FOREVER, SIMULATED
from zendesk_pipeline.local.simulator.messages import Answer, Request, error, json_answer
from zendesk_pipeline.local.simulator.zendesk import Zendesk

PREFIX = "/_simulator/"


class _Clock(msgspec.Struct, forbid_unknown_fields=True):
    now: float | None


class _AddedRecords(msgspec.Struct, forbid_unknown_fields=True):
    stream: str
    records: list[str]
    visible_at: int | None = None


def admin_answer(zendesk: Zendesk, request: Request) -> Answer:
    """Answer a request under /_simulator/; a mistake in it is a 400 that says what is wrong."""
    action = _ACTIONS.get((request.method, request.path.removeprefix(PREFIX)))
    if action is None:
        return error(404, "NotFound", f"no {request.method} {request.path}")
    try:
        return action(zendesk, request)
    except (ValueError, KeyError) as wrong:
        return error(400, "Invalid", str(wrong))


def _source(zendesk: Zendesk, request: Request) -> Answer:
    stream = _stream(request.value("stream"))
    start, end = int(request.value("start") or 0), int(request.value("end") or FOREVER)
    ever = request.value("ever") == "1"
    records = zendesk.source.visible(stream, start, end, zendesk.now(), ever=ever)
    return Answer(
        parts=tuple(part for record in records for part in (record, b"\n")),
        content_type="application/x-ndjson",
    )


def _stream(name: str | None) -> str:
    if name not in SIMULATED:
        raise ValueError(f"stream must be one of {', '.join(SIMULATED)}")
    return name


def _requests(zendesk: Zendesk, _request: Request) -> Answer:
    return json_answer(list(zendesk.requests))


def _forget_requests(zendesk: Zendesk, _request: Request) -> Answer:
    zendesk.requests.clear()
    return _requests(zendesk, _request)


def _counts(zendesk: Zendesk, _request: Request) -> Answer:
    return json_answer(zendesk.counts())


def _faults(zendesk: Zendesk, _request: Request) -> Answer:
    return json_answer(zendesk.faults.shown())


def _add_faults(zendesk: Zendesk, request: Request) -> Answer:
    zendesk.faults.add(msgspec.json.decode(request.body, type=list[Rule]))
    return _faults(zendesk, request)


def _clear_faults(zendesk: Zendesk, request: Request) -> Answer:
    zendesk.faults.clear()
    return _faults(zendesk, request)


def _set_clock(zendesk: Zendesk, request: Request) -> Answer:
    zendesk.clock = msgspec.json.decode(request.body, type=_Clock).now
    return _settings(zendesk, request)


def _settings(zendesk: Zendesk, _request: Request) -> Answer:
    return json_answer({"now": zendesk.now(), "frozen": zendesk.clock is not None, **asdict(zendesk.settings)})


def _change_settings(zendesk: Zendesk, request: Request) -> Answer:
    zendesk.change_settings(msgspec.json.decode(request.body, type=dict[str, object]))
    return _settings(zendesk, request)


def _add_records(zendesk: Zendesk, request: Request) -> Answer:
    added = msgspec.json.decode(request.body, type=_AddedRecords)
    records = (record.encode() for record in added.records)
    zendesk.source.add(_stream(added.stream), records, added.visible_at)
    return json_answer({"added": len(added.records)})


def _reset(zendesk: Zendesk, request: Request) -> Answer:
    zendesk.reset()
    return _settings(zendesk, request)


_ACTIONS: dict[tuple[str, str], Callable[[Zendesk, Request], Answer]] = {
    ("GET", "source"): _source,
    ("GET", "requests"): _requests,
    ("DELETE", "requests"): _forget_requests,
    ("GET", "counts"): _counts,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_faults,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "clock"): _set_clock,
    ("GET", "settings"): _settings,
    ("POST", "settings"): _change_settings,
    ("POST", "records"): _add_records,
    ("POST", "reset"): _reset,
}
