"""Zendesk's rate limits: what its headers say, and how we stay below them.

https://developer.zendesk.com/api-reference/introduction/rate-limits/
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Lock

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.rate_budgets import BUDGETS, Rates

MINUTE = 60.0
HEADROOM = 0.1
"""The part of the account's budget that is left to its other integrations, whatever our share is."""


_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer asks us to wait, from every form seen: seconds, a list of them, a date, or a reset date.

    `headers` have to be case-insensitive. None where nothing is said.
    """
    value = headers.get("Retry-After")
    if value is not None and (numbers := _numbers(value)):
        return max(numbers)
    for text in (value, headers.get("ratelimit-reset")):
        if text is not None and (moment := moment_of(text)) is not None:
            return max(0.0, moment - now)
    return None


def account_budget(headers: Mapping[str, str]) -> tuple[float, float, float] | None:
    """`(limit, remaining, seconds to the reset)` of the account; None where the headers do not tell."""
    limit = _first(headers, "ratelimit-limit", "rate-limit", "x-rate-limit")
    remaining = _first(headers, "ratelimit-remaining", "rate-limit-remaining", "x-rate-limit-remaining")
    reset = _first(headers, "ratelimit-reset", "rate-limit-reset")
    if limit is None or remaining is None:
        return None
    return limit, remaining, MINUTE if reset is None else reset


def _first(headers: Mapping[str, str], *names: str) -> float | None:
    """The account's limits came under three spellings over the years; some answers carry two of them."""
    for name in names:
        if numbers := _numbers(headers.get(name, "")):
            return numbers[0]
    return None


def _numbers(text: str) -> list[float]:
    parts = [part.strip() for part in text.split(",")]
    return [float(part) for part in parts if _NUMBER.fullmatch(part)]


def moment_of(text: str) -> float | None:
    """Seconds since the epoch of a date as HTTP or ISO writes it, UTC where it names no zone; None for others."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            continue
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return None


@dataclass(slots=True, kw_only=True)
class RateLimiter:
    """At most `per_minute` requests in any sixty seconds, of all cursors: `acquire` before each, `observe` after it.

    With `share`, the number follows what the answers say of the account's budget. Without, it is fixed: on the
    incremental exports the headers show the account's budget, which is not the one that counts there.
    """

    clock: Clock
    per_minute: float | None = None
    """At least one goes out. None: no limit known yet."""
    share: float | None = None
    sent: deque[float] = field(default_factory=deque[float])
    paused_until: float = 0.0
    lock: Lock = field(default_factory=Lock, repr=False)
    """Held while counting, never while waiting."""

    def acquire(self) -> float:
        """Wait until a request may go out; the seconds waited."""
        began = self.clock.monotonic()
        while True:
            with self.lock:
                now = self.clock.monotonic()
                pause = self._pause(now)
                if pause <= 0:
                    self.sent.append(now)
                    return now - began
            self.clock.sleep(pause)

    def pause(self, seconds: float) -> None:
        """Send no request for so long."""
        with self.lock:
            self.paused_until = max(self.paused_until, self.clock.monotonic() + seconds)

    def _pause(self, now: float) -> float:
        while self.sent and self.sent[0] + MINUTE <= now:
            self.sent.popleft()
        full = self.per_minute is not None and len(self.sent) + 1 > max(1.0, self.per_minute)
        return max(self.paused_until - now, self.sent[0] + MINUTE - now if full else 0.0)

    def observe(self, headers: Mapping[str, str]) -> None:
        """Learn the account's limit; pause where others have used most of it."""
        budget = account_budget(headers)
        if self.share is None or budget is None:
            return
        limit, remaining, reset = budget
        self.per_minute = limit * self.share
        if remaining < limit * HEADROOM:
            self.pause(min(reset, MINUTE))


def limiters(clock: Clock, *, export: float, share: float) -> dict[str, RateLimiter]:
    """A limiter for each budget; the account's learns its number from the answers."""
    rates = Rates(export=export, share=share)
    fixed = {budget: RateLimiter(clock=clock, per_minute=rates.ours(budget)) for budget in BUDGETS}
    return {**fixed, "account": RateLimiter(clock=clock, share=share)}
