"""Rate limits: how many requests a minute, the headers that tell, and the 429.

https://developer.zendesk.com/api-reference/introduction/rate-limits/. The exports' own limits never show in the
headers: they name the account's (recorded: 699 of 700 left on an export allowed 10). The users by cursor have a limit
apart from that of the other exports.
"""

from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from threading import Lock
from time import monotonic, time

from zendesk_pipeline.local.simulator.messages import TEXT, Answer, Request, error, json_answer
from zendesk_pipeline.local.simulator.settings import Settings

_EXPORT = "/api/v2/incremental/"
_USER_EXPORT = "/api/v2/incremental/users/cursor"
_ACCESS_LOGS = "/api/v2/access_logs"


@dataclass(slots=True)
class Limits:
    """Times of the requests of the last minute, in real seconds: a frozen simulated clock must not block for ever."""

    _times: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    _lock: Lock = field(default_factory=Lock)

    def refusal(self, request: Request, settings: Settings) -> Answer | None:
        """Count a request; the 429 if it is one too many."""
        now = monotonic()
        if request.endpoint == _ACCESS_LOGS:
            with self._lock:
                wait = self._wait("access_logs", settings.access_log_limit, now, settings.minute_seconds)
            return too_many_access_logs(wait) if wait else None
        with self._lock:
            account = self._wait("account", settings.account_limit, now, settings.minute_seconds)
            export = 0
            if request.endpoint == _USER_EXPORT:
                export = self._wait("user_export", settings.user_export_limit, now, settings.minute_seconds)
            elif request.path.startswith(_EXPORT):
                export = self._wait("export", settings.export_limit, now, settings.minute_seconds)
        if export:
            return too_many("incremental export API", export, settings)
        return too_many("API", account, settings) if account and settings.enforce_account_limit else None

    def headers(self, request: Request, settings: Settings) -> tuple[tuple[str, str], ...]:
        """The account's budget in the spellings Zendesk uses; the access logs' answers do not name it."""
        if request.endpoint == _ACCESS_LOGS:
            return ()
        used = len(self._times["account"])
        left = str(max(0, settings.account_limit - used))
        families = {"ratelimit": ["ratelimit-limit", "ratelimit"], "rate-limit": ["rate-limit", "rate-limit"]}
        shown = [settings.header_family] if settings.header_family != "both" else list(families)
        names = [("x-rate-limit", str(settings.account_limit)), ("x-rate-limit-remaining", left)]
        for family in shown:
            limit, prefix = families[family]
            names += [
                (limit, str(settings.account_limit)),
                (f"{prefix}-remaining", left),
                (f"{prefix}-reset", "42"),
            ]
        return tuple(names)

    def _wait(self, name: str, limit: int, now: float, minute: float) -> int:
        """Count one request; seconds to wait if it went past the limit, else 0."""
        times = self._times[name]
        while times and times[0] <= now - minute:
            times.popleft()
        if limit and len(times) >= limit:
            return max(1, round(times[-limit] + minute - now))
        times.append(now)
        return 0


def too_many(what: str, seconds: int, settings: Settings) -> Answer:
    """429 in the form the settings chose."""
    text = f"Number of allowed {what} requests per minute exceeded"
    headers = retry_after(settings.retry_after, seconds)
    if settings.limit_body == "text":
        return Answer(status=429, parts=(text.encode(),), content_type=TEXT, headers=headers)
    answer = error(429, "APIRateLimitExceeded", text)
    return Answer(status=429, parts=answer.parts, headers=headers)


def too_many_access_logs(seconds: float) -> Answer:
    """429 as the access logs answer it: no Retry-After, and the end of the wait as a date and time."""
    errors = [{"detail": "Use RateLimit-Reset header to backoff on retries", "title": "Too many requests"}]
    return json_answer({"errors": errors}, status=429, headers=retry_after("reset", seconds))


def retry_after(form: str, seconds: float) -> tuple[tuple[str, str], ...]:
    """The Retry-After header as seconds, as an HTTP date, as two values in one, or not at all.

    "reset" is what the access logs send instead: the date and time alone, in another header.
    """
    if form == "reset":
        return (("ratelimit-reset", f"{datetime.fromtimestamp(time() + seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"),)
    forms = {
        "seconds": f"{seconds:g}",
        "date": formatdate(time() + seconds, usegmt=True),
        "list": "50, 53",
    }
    return (("Retry-After", forms[form]),) if form in forms else ()
