"""OAuth access and refresh tokens that many processes share, and one at a time replaces: AUTH_MODE=oauth_refresh.

Zendesk replaces both tokens with every refresh and deletes the two before it. Whoever loses the answer is locked out.
So the pair is kept in AWS Secrets Manager, where a refresh is three steps (`token_pair_store`), each of which can be
found and continued. A process that dies before `next` leaves a claim, which ends after a while. One that dies before
`move` leaves a pair that the next process finds and moves to. Secrets Manager's clock tells ages, never ours.

ADR 10 has the reasons. https://support.zendesk.com/hc/en-us/articles/9182123625370 says what a refresh deletes.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar
from uuid import uuid4

import msgspec
from requests import PreparedRequest
from requests.auth import AuthBase

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError, RefusedError, SecretStoreError
from zendesk_pipeline.settings.secret_references import Reference
from zendesk_pipeline.zendesk.oauth import Grant, InvalidGrantError, request_grant
from zendesk_pipeline.zendesk.token_pair_store import (
    CLAIM,
    NEXT,
    SecretVersion,
    TokenPair,
    TokenPairStore,
    claim_id,
    next_id,
)
from zendesk_pipeline.zendesk.transport import CONNECT_TIMEOUT, LONGEST_BODY_TIME, Transport

T = TypeVar("T")

ACCESS_SECONDS = 43_200
"""The life we ask for access tokens (Zendesk allows 300 to 172,800): two refreshes a day, each a moment to die at."""
REFRESH_SECONDS = 7_776_000
"""The life we ask for refresh tokens, the longest: the collector may stand still for 90 days."""
SHORTEST_TIMEOUT = 60.0
"""The least HTTP_TIMEOUT of a refresh: to give up waiting for an answer is to lose it."""
STORE_SECONDS = 300.0
"""So long is storing a new pair tried again before it is given up."""
POLL_SECONDS = 2.0


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    claimed_by: str


class SharedToken(AuthBase):
    """The access token of the stored pair; whoever finds it at its end replaces the pair, and the others wait."""

    def __init__(
        self, store: TokenPairStore, refresh: Callable[[str], Grant], *, clock: Clock, longest: float, me: str = ""
    ) -> None:
        """`refresh` asks Zendesk and takes at most `longest` seconds; `me` tells processes apart."""
        self._store = store
        self._refresh = refresh
        self._clock = clock
        self._longest = longest
        self._me = me or str(uuid4())
        self._token: str | None = None
        self._ends_at = 0.0
        self._refused: str | None = None

    @property
    def remedy(self) -> str:
        """A fresh pair is refused too: it is not the pair's age."""
        return f"Check that the user of the tokens is still an admin. {self._store.how_to_authorize}"

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        if self._token is None or self._clock.monotonic() >= self._ends_at:
            self._token, left = self._obtain()
            self._ends_at = self._clock.monotonic() + left
        r.headers["Authorization"] = f"Bearer {self._token}"
        return r

    def renew(self) -> bool:
        """Another process may have replaced the pair, which ends the token at once; if not, this one does."""
        self._refused, self._token = self._token, None
        return True

    def _obtain(self) -> tuple[str, float]:
        """A token that works, and for how many seconds."""
        while True:
            held = self._store.newest()
            pair = self._store.pair(held)
            left = pair.usable - held.age
            if left > 0 and pair.access_token != self._refused:
                return pair.access_token, left
            if not self._claimed(held):
                self._clock.sleep(POLL_SECONDS)
            elif mine := _to_its_end(lambda: self._replace(held, pair)):  # noqa: B023  # it ends before they change
                return mine.access_token, mine.usable

    def _claimed(self, held: SecretVersion) -> bool:
        """Whether it is for this process to replace a version."""
        for number in itertools.count():
            there = self._store.version(claim_id(held.id, number))
            if there is None:
                claim = msgspec.json.encode(_Claim(claimed_by=self._me)).decode()
                return self._store.put(claim_id(held.id, number), claim, CLAIM)
            ours = msgspec.json.decode(there.text, type=_Claim).claimed_by == self._me
            if ours and there.age <= self._longest:
                return True
            if not ours and there.age <= 2 * self._longest + STORE_SECONDS:
                return False
        raise AssertionError("counting has no end")

    def _replace(self, held: SecretVersion, pair: TokenPair) -> TokenPair | None:
        """The new pair, stored; None where another process was first."""
        try:
            grant = self._refresh(pair.refresh_token)
        except InvalidGrantError:
            if self._store.newest().id != held.id:
                return None  # the process whose claim had ended was late, not dead
            raise RefusedError(
                f"Zendesk does not accept the refresh token of {self._store.reference} any more: it was unused for too"
                " long, its user or client has gone, or a process died between Zendesk's answer and storing it."
                f" {self._store.how_to_authorize}"
            ) from None
        new = TokenPair.of(grant, pair.refresh_token)
        if not self._stored(next_id(held.id), new):
            return None
        self._store.move(held.id, next_id(held.id))
        return new

    def _stored(self, version: str, new: TokenPair) -> bool:
        """Store a pair that exists nowhere else, trying for STORE_SECONDS; False where another one is there."""
        latest = self._clock.monotonic() + STORE_SECONDS
        while True:
            try:
                return self._store.put(version, new.as_text(), NEXT)
            except PipelineError as problem:
                if self._clock.monotonic() >= latest:
                    raise SecretStoreError(
                        f"The new pair of tokens could not be stored, and the old one is spent. The reason: {problem}"
                        f" {self._store.how_to_authorize}"
                    ) from None
                self._clock.sleep(POLL_SECONDS)


def shared_token(
    wanted: Reference, transport: Transport, *, client_id: str, client_secret: str, me: str = ""
) -> SharedToken:
    """The credential of AUTH_MODE=oauth_refresh; raises SettingsError where the store cannot be asked at all."""
    timeout = max(transport.timeout, SHORTEST_TIMEOUT)
    slow = Transport(base_url=transport.base_url, timeout=timeout, clock=transport.clock)

    def refresh(refresh_token: str) -> Grant:
        return request_grant(
            slow,
            {
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                "client_id": client_id,
                "client_secret": client_secret,
                "expires_in": ACCESS_SECONDS,
                "refresh_token_expires_in": REFRESH_SECONDS,
            },
        )

    longest = CONNECT_TIMEOUT + (1 + LONGEST_BODY_TIME) * timeout
    return SharedToken(TokenPairStore.of(wanted), refresh, clock=transport.clock, longest=longest, me=me)


def _to_its_end(work: Callable[[], T]) -> T:
    """Do it in a thread that the process waits for when it ends.

    The thread that reads ahead is not waited for: a cancelled run would lose the pair that Zendesk has just answered.
    """
    done: Future[T] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as problem:  # noqa: BLE001  # it is raised again where the result is wanted
            done.set_exception(problem)

    threading.Thread(target=do, name="token-pair", daemon=False).start()
    return done.result()
