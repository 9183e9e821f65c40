"""Sends requests to Zendesk within the rate limit and retries; knows no paging."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TypeVar

import msgspec
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    MaybeTooHeavyError,
    PageTooHeavyError,
    RefusedError,
    StarvedError,
    TransientError,
)
from zendesk_pipeline.model.rate_budgets import Budget
from zendesk_pipeline.model.stream import Params, Stream
from zendesk_pipeline.zendesk.access_problems import explained
from zendesk_pipeline.zendesk.credentials import Credential
from zendesk_pipeline.zendesk.error_answers import TOO_MANY_FOR_OTHERS, error_of, is_web_page, web_page
from zendesk_pipeline.zendesk.rate_limits import MINUTE, RateLimiter, retry_after
from zendesk_pipeline.zendesk.transport import HttpAnswer, Transport

T = TypeVar("T")

LONGEST_WAIT = 3600.0
"""Seconds of waiting that Zendesk may ask of one request; after more the run fails, and runs again later."""

_backoff = wait_exponential_jitter(initial=1, max=60, jitter=1)


class _User(msgspec.Struct):
    id: int | None = None
    role: str | None = None


class _UsersMe(msgspec.Struct):
    user: _User


@dataclass(slots=True)
class RequestStats:
    """What the requests of a client have taken so far."""

    requests: int = 0
    waited: float = 0.0
    """Seconds spent waiting for the rate limit: our own and Zendesk's 429."""
    latency: float = 0.0
    """Seconds that the last answer took, from the request to the last byte."""


@dataclass(slots=True, kw_only=True)
class ZendeskClient:
    """Sends requests within the rate limit and retries.

    A 429 is waited out and is no failure; connection errors, 5xx and broken bodies are tried again `retries` times,
    with growing pauses; everything else is raised as what it means (see `model.errors`).
    """

    transport: Transport
    credential: Credential
    retries: int
    limiters: Mapping[str, RateLimiter]
    """One for each budget of `Stream.budget`."""
    clock: Clock
    stats: RequestStats = field(default_factory=RequestStats)

    def another(self) -> "ZendeskClient":
        """A client for another thread, with figures of its own; the two share credential and limits."""
        return replace(self, transport=self.transport.another(), stats=RequestStats())

    def page(
        self,
        stream: Stream,
        params: Params,
        read: Callable[[bytes], T],
        *,
        smaller_may_help: bool = False,
        largest: int | None = None,
    ) -> tuple[T, Mapping[str, str]]:
        """A page of a stream as `read` understands it, and the answer's headers.

        A body of more than `largest` bytes (LARGEST_BODY, if None) is too heavy. Raises PageTooHeavyError at once (a
        smaller page helps, the same again does not), MaybeTooHeavyError after all retries, or at once where
        `smaller_may_help`; else any ZendeskError.
        """

        def attempt() -> tuple[T, Mapping[str, str]]:
            try:
                answer = self._get(stream.path, params, stream.budget, largest)
            except RefusedError as refused:
                raise explained(refused, stream, self.who, self.credential.remedy) from None
            return read(answer.body), answer.headers

        return self._retried(attempt, heavy_too=not smaller_may_help)

    def who(self) -> tuple[int | None, str | None]:
        """Id and role of the credential's user; the id is None where Zendesk knows nobody.

        `users/me` answers 200 to an unknown credential as well.
        https://developer.zendesk.com/api-reference/ticketing/users/users/#show-self
        """
        path = "/api/v2/users/me"

        def attempt() -> tuple[int | None, str | None]:
            answer = self._get(path, [], "account")
            try:
                user = msgspec.json.decode(answer.body, type=_UsersMe).user
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise TransientError(f"{path} answered 200 without a user.") from None
            return user.id, user.role

        return self._retried(attempt)

    def _retried(self, attempt: Callable[[], T], *, heavy_too: bool = True) -> T:
        def worth_it(problem: BaseException) -> bool:
            given_up = PageTooHeavyError if heavy_too else (PageTooHeavyError, MaybeTooHeavyError)
            if not isinstance(problem, TransientError) or isinstance(problem, given_up):
                return False
            return (problem.retry_after or 0.0) <= LONGEST_WAIT

        return Retrying(
            retry=retry_if_exception(worth_it),
            stop=stop_after_attempt(self.retries + 1),
            wait=_pause,
            sleep=self.clock.sleep,
            reraise=True,
        )(attempt)

    def _get(self, path: str, params: Params, budget: Budget, largest: int | None = None) -> HttpAnswer:
        """A good answer: each 429 is waited out, and the credential is renewed once on a 401."""
        limiter, renewed, waited = self.limiters[budget], False, 0.0
        while True:
            answer = self._send(path, params, limiter, largest)
            of_a_page = is_web_page(answer.headers, answer.body)
            if answer.status == HTTPStatus.OK and not of_a_page:
                return answer
            if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
                waited += self._pause_for_429(path, answer, waited, limiter)
                continue
            # a web page's 401 is a proxy's, and says nothing of our credential
            if answer.status == HTTPStatus.UNAUTHORIZED and not (of_a_page or renewed) and self.credential.renew():
                renewed = True
                continue
            problem = error_of(
                path, answer.status, answer.headers, answer.body, remedy=self.credential.remedy, now=self.clock.now()
            )
            if isinstance(problem, TransientError) and 0.0 < (problem.retry_after or 0.0) <= LONGEST_WAIT:
                limiter.pause(problem.retry_after or 0.0)  # the other cursors wait as well
            raise problem

    def _send(self, path: str, params: Params, limiter: RateLimiter, largest: int | None) -> HttpAnswer:
        self.stats.waited += limiter.acquire()
        self.stats.requests += 1
        began = self.clock.monotonic()
        answer = self.transport.send("GET", path, params=params, auth=self.credential, largest=largest)
        self.stats.latency = self.clock.monotonic() - began
        limiter.observe(answer.headers)
        return answer

    def _pause_for_429(self, path: str, answer: HttpAnswer, waited: float, limiter: RateLimiter) -> float:
        """Let no cursor's request out for as long as a 429 asks; raises StarvedError where that adds up to too long."""
        asked = retry_after(answer.headers, self.clock.now())
        pause = MINUTE if asked is None else max(asked, 1.0)
        if waited + pause <= LONGEST_WAIT:
            limiter.pause(pause)
            return pause
        if is_web_page(answer.headers, answer.body):
            raise StarvedError(
                f"{path} was answered 429 with {web_page(answer.headers, answer.body)}, for {waited / 60:.0f} minutes"
                f" by now. {TOO_MANY_FOR_OTHERS} What is missing is collected later."
            )
        raise StarvedError(
            f"Zendesk's rate limit let no request to {path} through for {waited / 60:.0f} minutes and asks for"
            f" {pause:.0f} s more. Something else uses up the account's budget; what is missing is collected later."
        )


def _pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: at least as many as Zendesk asked for."""
    problem = state.outcome.exception() if state.outcome else None
    asked = problem.retry_after if isinstance(problem, TransientError) else None
    return max(asked or 0.0, _backoff(state))
