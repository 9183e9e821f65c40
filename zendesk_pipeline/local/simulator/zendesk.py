"""The simulated account as a whole: request in, answer out, and what the faults make of it."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from time import time

from zendesk_pipeline.local.simulator import (
    access_log_list,
    audit_log_list,
    metric_event_list,
    ticket_export,
    time_export,
)
from zendesk_pipeline.local.simulator.accounts import Accounts
from zendesk_pipeline.local.simulator.faults import MALFORMED_KINDS, PAGE_KINDS, Faults, Rule, faulty_answer, spoilt
from zendesk_pipeline.local.simulator.limits import Limits
from zendesk_pipeline.local.simulator.messages import Answer, Request, forbidden, not_found
from zendesk_pipeline.local.simulator.settings import Settings, patched
from zendesk_pipeline.local.simulator.source import Source

KEPT_REQUESTS = 100_000
PAGES: Mapping[str, Callable[[Request, Source, Settings, float, str | None], Answer]] = {
    audit_log_list.PATH: audit_log_list.audit_log_page,
    access_log_list.PATH: access_log_list.access_log_page,
    **dict.fromkeys(ticket_export.EXPORTS, ticket_export.export_page),
    **dict.fromkeys(time_export.PATHS, time_export.time_page),
    metric_event_list.PATH: metric_event_list.metric_event_page,
}
"""What answers, by path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """A line of the request log; `time` is real epoch seconds, `status` None if no answer went out."""

    time: float
    method: str
    path: str
    query: str
    pairs: list[tuple[str, str]]
    status: int | None
    authorization: str
    fault: str | None


@dataclass(slots=True)
class Zendesk:
    """One account with all that a running simulator remembers."""

    source: Source
    initial: Settings
    frozen_at: float | None = None
    settings: Settings = field(init=False)
    clock: float | None = field(init=False)
    accounts: Accounts = field(init=False)
    limits: Limits = field(init=False)
    faults: Faults = field(init=False)
    requests: deque[RequestSeen] = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Back to the state at the start: settings, clock, tokens, limits, faults, requests, added records."""
        self.settings = self.initial
        self.clock = self.frozen_at
        self.accounts = Accounts()
        self.limits = Limits()
        self.faults = Faults()
        self.requests = deque(maxlen=KEPT_REQUESTS)
        self.source.forget_added()

    def now(self) -> float:
        """The simulated time in epoch seconds."""
        return time() if self.clock is None else self.clock

    def change_settings(self, patch: Mapping[str, object]) -> None:
        """Switch some settings."""
        self.settings = patched(self.settings, patch)

    def answer(self, request: Request) -> tuple[Answer, Rule | None]:
        """The answer to one request and the fault it met; faults of the wire are left to the server."""
        rule = self.faults.choose(f"{request.path}?{request.query}")
        self._lose_credentials(request, rule)
        return (rule and faulty_answer(rule)) or self._real_answer(request, rule), rule

    def headers(self, request: Request, rule: Rule | None = None) -> tuple[tuple[str, str], ...]:
        """The headers that every answer carries."""
        dated = ("Date", formatdate(self._moment(rule), usegmt=True))
        return dated, ("x-zendesk-api-version", "v2"), *self.limits.headers(request, self.settings)

    def remember(self, request: Request, status: int | None, rule: Rule | None) -> None:
        """Write a request down."""
        seen = RequestSeen(
            time=time(),
            method=request.method,
            path=request.path,
            query=request.query,
            pairs=request.pairs,
            status=status,
            authorization=request.authorization,
            fault=rule.kind if rule else None,
        )
        self.requests.append(seen)

    def counts(self) -> dict[str, dict[str, int]]:
        """Requests by path and by status."""
        seen = list(self.requests)
        by_status = Counter(str(one.status or "none") for one in seen)
        return {"path": dict(Counter(one.path for one in seen)), "status": dict(by_status)}

    def _lose_credentials(self, request: Request, rule: Rule | None) -> None:
        if rule and rule.kind == "revoke":
            self.accounts.revoke(request.authorization)
        elif rule and rule.kind == "expire_token":
            self.accounts.expire_tokens()

    def _real_answer(self, request: Request, rule: Rule | None) -> Answer:
        match request.method, request.path:
            case "POST", "/oauth/tokens":
                return self.accounts.issue(request, self.settings, self.now())
            case "GET", "/oauth/authorizations/new":
                return self.accounts.allow(request, self.now())
            case _:
                return self.limits.refusal(request, self.settings) or self._limited_answer(request, rule)

    def _limited_answer(self, request: Request, rule: Rule | None) -> Answer:
        if request.endpoint == "/api/v2/users/me":
            return self.accounts.user(request, self.settings, self.now())
        if refusal := self.accounts.refusal(request, self.now()):
            return refusal
        if request.endpoint == "/api/v2/oauth/tokens/current":
            return self.accounts.token(request)
        return self._records(request, rule)

    def _records(self, request: Request, rule: Rule | None) -> Answer:
        twist = rule.kind if rule and rule.kind in PAGE_KINDS else None
        page = PAGES.get(request.endpoint)
        if request.method != "GET" or page is None:
            return not_found(request.path)
        answer = self._refusal(request) or page(request, self.source, self.settings, self._moment(rule), twist)
        return spoilt(answer, rule) if rule and rule.kind in MALFORMED_KINDS else answer

    def _moment(self, rule: Rule | None) -> float:
        """The time that an answer shows: now, but for one out of an old memory."""
        return self.now() - rule.seconds if rule and rule.kind == "stale" else self.now()

    def _refusal(self, request: Request) -> Answer | None:
        """The 403 for a role or a plan."""
        admin = self.settings.role == "admin"
        if request.endpoint == access_log_list.PATH and not admin:
            detail = "You must have administrator privileges"
            return access_log_list.access_log_error(403, "Authorization failed", detail)
        needs = {audit_log_list.PATH: self.settings.plan == "enterprise", access_log_list.PATH: self.settings.adpp}
        return None if admin and needs.get(request.endpoint, True) else forbidden()
