"""Faults: rules that a test turns on, each for the requests whose path it matches."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from random import Random
from threading import Lock
from typing import Literal

import msgspec

from zendesk_pipeline.local.simulator.limits import retry_after
from zendesk_pipeline.local.simulator.messages import HTML, JSON, TEXT, Answer, error, json_answer

Kind = Literal[
    "status",
    "reset",
    "reset_mid_body",
    "hang",
    "truncate",
    "html",
    "empty_object",
    "empty_page",
    "repeat_cursor",
    "repeat_record",
    "early_record",
    "early_page",
    "stale",
    "malformed_record",
    "malformed_page",
    "endless_body",
    "gzip_bomb",
    "zstd_bomb",
    "redirect",
    "revoke",
    "expire_token",
]
PAGE_KINDS = frozenset({"empty_page", "repeat_cursor", "repeat_record", "early_record", "early_page"})
"""Those that change what a page holds or where it leads."""
MALFORMED_KINDS = frozenset({"malformed_record", "malformed_page"})
"""Those that spoil records of a page."""
WIRE_KINDS = frozenset({"reset", "reset_mid_body", "hang", "truncate", "endless_body", "gzip_bomb", "zstd_bomb"})

_PAGE = b"<!DOCTYPE html><html><head><title>Something went wrong</title></head><body><h1>Oops</h1></body></html>"
_UPSTREAM = b"upstream request timeout"
"""What a proxy says in Zendesk's place, with 503."""
Form = Literal["no_time", "no_id", "no_fields", "not_utf8", "no_json", "deep"]
MALFORMED: Mapping[Form, bytes] = {
    "no_time": rb'{"id":990000001,"subject":"without a time, and cut \ud83d"}',
    "no_id": rb'{"id":null,"subject":"without an id"}',
    "no_fields": b"[]",
    "not_utf8": b'{"id":990000002,"subject":"\xc3\x28"}',
    "no_json": b'{"id":990000003,"subject":"a line\nbreak","x":tru}',
    "deep": b'{"id":990000004,"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
}
"""Records that no page should hold. None of them has a time, so each belongs where it stands."""
_TIMES = re.compile(rb'"(generated_timestamp|created_at|updated_at|timestamp|time)":')
_SIZE = re.compile(r"(?:per_page|page(?:\[|%5B)size(?:\]|%5D))=(\d+)")
_ERROR_NAMES = {
    403: "Forbidden",
    404: "RecordNotFound",
    409: "Conflict",
    429: "APIRateLimitExceeded",
    422: "InvalidValue",
}


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault.

    Attributes:
        path: Regular expression looked for in path and query.
        kind: What happens.
        times: How many requests it happens to, 0 for all.
        skip: How many matching requests pass before it starts.
        probability: Share of the remaining matching requests it happens to, drawn with `seed`.
        seed: See probability.
        code: Status of kind "status" and "redirect"; with `body` "html" it is a firewall or proxy that answers.
        retry_after: "seconds:N", "date:N" (N seconds from now, real clock), "list" ("50, 53"), "reset:N" (a date
            in `ratelimit-reset`, as the access logs send it), or none.
        body: Form of the body of kind "status".
        seconds: How long kind "hang" holds the connection before it closes it, and how old the answer of kind
            "stale" is: the page and the `Date` of that time, as out of a proxy's memory.
        location: Where kind "redirect" leads.
        form: What is wrong with the record that kind "malformed_record" puts before the others of its page.
        larger_than: It happens only to requests that ask for more records a page: pages that are too heavy.
        size: Bytes that kinds "gzip_bomb" and "zstd_bomb" unpack to.
    """

    path: str = ""
    kind: Kind
    times: int = 1
    skip: int = 0
    probability: float = 1.0
    seed: int = 1
    code: int = 503
    retry_after: str | None = None
    body: Literal["json", "text", "html", "upstream"] = "json"
    seconds: float = 3600
    location: str = "https://elsewhere.example/login"
    form: Form = "no_time"
    larger_than: int = 0
    size: int = 1 << 30


class _Armed:
    """A rule with its counts."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.fired = 0
        self._matched = 0
        self._pattern = re.compile(rule.path)
        self._rng = Random(rule.seed)

    def fires(self, target: str) -> bool:
        """Whether the fault happens to this request; counts it."""
        if (self.rule.times and self.fired >= self.rule.times) or not self._pattern.search(target):
            return False
        if self.rule.larger_than and not _asks_for_more(target, self.rule.larger_than):
            return False
        self._matched += 1
        if self._matched <= self.rule.skip or self._rng.random() >= self.rule.probability:
            return False
        self.fired += 1
        return True


class Faults:
    """The rules that are turned on."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []
        self._lock = Lock()

    def add(self, rules: Iterable[Rule]) -> None:
        """Turn on more rules, behind those already on."""
        with self._lock:
            self._armed += [_Armed(rule) for rule in rules]

    def clear(self) -> None:
        """Turn off all."""
        with self._lock:
            self._armed.clear()

    def choose(self, target: str) -> Rule | None:
        """The first rule that happens to a request for this path and query."""
        with self._lock:
            return next((armed.rule for armed in self._armed if armed.fires(target)), None)

    def shown(self) -> list[dict[str, object]]:
        """The rules and how often each fired."""
        with self._lock:
            return [msgspec.to_builtins(armed.rule) | {"fired": armed.fired} for armed in self._armed]


def _asks_for_more(target: str, most: int) -> bool:
    """Whether a request asks for more records a page."""
    asked = _SIZE.search(target)
    return asked is not None and int(asked[1]) > most


def spoilt(answer: Answer, rule: Rule) -> Answer:
    """A page with a record more that is malformed, or whose records have all lost their times."""
    if answer.status != HTTPStatus.OK:
        return answer
    head, records, *tail = answer.parts
    if rule.kind == "malformed_page":
        return replace(answer, parts=(head, _TIMES.sub(rb'"no_\1":', records), *tail))
    return replace(answer, parts=(head, b",".join(filter(None, [MALFORMED[rule.form], records])), *tail))


def faulty_answer(rule: Rule) -> Answer | None:
    """The answer that stands in for the real one, for the kinds that need no page and no connection."""
    if rule.kind == "status":
        return _status(rule)
    if rule.kind == "html":
        return Answer(parts=(_PAGE,), content_type=HTML)
    if rule.kind == "empty_object":
        return json_answer({})
    if rule.kind == "redirect":
        code = rule.code if 300 <= rule.code < 400 else 302  # noqa: PLR2004 - the redirects
        return Answer(status=code, headers=(("Location", rule.location),))
    return None


def _status(rule: Rule) -> Answer:
    form, _, seconds = (rule.retry_after or "absent").partition(":")
    bodies = {
        "json": (
            JSON,
            error(rule.code, _ERROR_NAMES.get(rule.code, "InternalError"), "A simulated fault").body,
        ),
        "text": (TEXT, b"A simulated fault"),
        "html": (HTML, _PAGE),
        "upstream": (TEXT, _UPSTREAM),
    }
    content_type, body = bodies[rule.body]
    headers = retry_after(form, float(seconds or 1))
    return Answer(status=rule.code, parts=(body,), content_type=content_type, headers=headers)
