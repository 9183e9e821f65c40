"""OAuth access and refresh tokens that many processes share, and one at a time replaces: AUTH_MODE=oauth_refresh.

Zendesk replaces both tokens with every refresh and deletes the two before it. Whoever loses the answer is locked out.
So the pair lies in AWS Secrets Manager, where a refresh is three steps, each of which can be found and gone on with:

    claim    a version whose id is derived from the current one; an id can be given once, so one process has it
    next     the new pair, as a version with an id derived alike, stored before anybody uses it
    move     AWSCURRENT goes from the version that was refreshed to the next one, and from no other

A process that dies before `next` leaves a claim, which ends after a while. One that dies before `move` leaves a pair
that the next process finds and moves to. Ages are told by Secrets Manager's clock, never by ours.

ADR 10 has the reasons. https://support.zendesk.com/hc/en-us/articles/9182123625370 says what a refresh deletes;
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html that a version id is given once,
and API_UpdateSecretVersionStage.html that a label leaves only the version that is named.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4, uuid5

import msgspec
from botocore.exceptions import ClientError
from requests import PreparedRequest
from requests.auth import AuthBase

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import PipelineError, RefusedError, SecretStoreError, SettingsError
from zendesk_pipeline.settings.programs import ours
from zendesk_pipeline.settings.secret_references import Reference, client_of, error_code, explaining
from zendesk_pipeline.zendesk.client import (
    CONNECT_TIMEOUT,
    HEADER_TEXT,
    LONGEST_BODY_TIME,
    SHORTEST_TOKEN_SECONDS,
    Grant,
    InvalidGrantError,
    Transport,
    request_grant,
)

T = TypeVar("T")

ACCESS_SECONDS = 43_200
"""The life we ask for access tokens (Zendesk allows 300 to 172,800): two refreshes a day, each a moment to die at."""
REFRESH_SECONDS = 7_776_000
"""The life we ask for refresh tokens, the longest: the collector may stand still for 90 days."""
MARGIN = 60.0
"""An access token is not used in its last so many seconds."""
PATIENCE = 60.0
"""The least HTTP_TIMEOUT of a refresh: an answer that is given up is an answer lost."""
STORE_SECONDS = 300.0
"""So long is storing a new pair tried again before it is given up."""
POLL_SECONDS = 2.0

CLAIM, NEXT, CURRENT = "zendesk-claim", "zendesk-next", "AWSCURRENT"
"""Staging labels. AWSPENDING is left to rotation functions."""

_IDS = UUID("5f0c6b0e-7a51-4a1c-9d1e-2f6f3f1f7a10")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """What the secret holds, in the form of Zendesk's own answer."""

    access_token: Annotated[str, HEADER_TEXT]
    refresh_token: Annotated[str, HEADER_TEXT]
    expires_in: float | None = None
    """Seconds, from when the version was made."""

    def __repr__(self) -> str:
        return "Pair()"


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    claimed_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of the secret."""

    id: str
    text: str = field(repr=False)
    age: float
    """Seconds since it was made, by Secrets Manager's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairStore:
    """The secret that holds the pair. Whatever is raised names it, and none of what it holds."""

    reference: Reference
    client: Any

    def current(self) -> Version:
        """The version to use; raises SettingsError, SecretStoreError."""
        with explaining(self.reference, "secretsmanager:GetSecretValue"):
            return self._get(VersionStage=CURRENT)

    def version(self, number: str) -> Version | None:
        """The version of an id, None where there is none; raises as `current`."""
        with explaining(self.reference, "secretsmanager:GetSecretValue"):
            try:
                return self._get(VersionId=number)
            except ClientError as refused:
                if error_code(refused) == "ResourceNotFoundException":
                    return None
                raise

    def put(self, number: str, text: str, label: str) -> bool:
        """Make the version of an id; False where there is one with another content. The same again does nothing."""
        with explaining(self.reference, "secretsmanager:PutSecretValue"):
            try:
                self.client.put_secret_value(
                    SecretId=self.reference.name, ClientRequestToken=number, SecretString=text, VersionStages=[label]
                )
            except ClientError as refused:
                if error_code(refused) == "ResourceExistsException":
                    return False
                raise
        return True

    def move(self, source: str, target: str) -> None:
        """Make `target` current if `source` still is; where another one is, that stays."""
        with explaining(self.reference, "secretsmanager:UpdateSecretVersionStage"):
            try:
                self.client.update_secret_version_stage(
                    SecretId=self.reference.name,
                    VersionStage=CURRENT,
                    RemoveFromVersionId=source,
                    MoveToVersionId=target,
                )
            except ClientError as refused:
                if error_code(refused) not in {"InvalidParameterException", "InvalidRequestException"}:
                    raise

    def replace(self, pair: Pair) -> None:
        """Make a pair current, whatever was before it, even while others refresh that."""
        number = str(uuid4())
        self.put(number, as_text(pair), NEXT)
        while (current := self.current().id) != number:
            self.move(current, number)

    def pair(self, version: Version) -> Pair:
        """The pair that a version holds; raises SettingsError where it holds none."""
        try:
            return msgspec.json.decode(version.text, type=Pair)
        except (msgspec.MsgspecError, UnicodeError):
            what = f"{self.reference.variable}: {self.reference} does not hold a pair of tokens."
            raise SettingsError(f"{what} {authorize(self.reference)}") from None

    def _get(self, **which: str) -> Version:
        answer = self.client.get_secret_value(SecretId=self.reference.name, **which)
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
        age = now - answer["CreatedDate"].timestamp()
        return Version(id=answer["VersionId"], text=answer.get("SecretString", ""), age=max(0.0, age))


def authorize(wanted: Reference) -> str:
    """What to do where no token is left that works."""
    return (
        f"Run `{ours('authorize')}` once as an admin of the account: it stores a new pair in {wanted}, and the"
        " windows that are missing are collected by themselves."
    )


def next_id(version: str) -> str:
    """The id of the version that replaces one."""
    return str(uuid5(_IDS, f"{version}/next"))


def claim_id(version: str, number: int) -> str:
    """The id of the n-th claim to replace a version."""
    return str(uuid5(_IDS, f"{version}/claim/{number}"))


def pair_of(grant: Grant, refresh_token: str) -> Pair:
    """What is stored of Zendesk's answer; `refresh_token` is the one to keep where it names none."""
    return Pair(
        access_token=grant.access_token,
        refresh_token=grant.refresh_token or refresh_token,
        expires_in=grant.expires_in or SHORTEST_TOKEN_SECONDS,
    )


def as_text(pair: Pair) -> str:
    """A pair as the secret holds it."""
    return msgspec.json.encode(pair).decode()


def _usable(pair: Pair) -> float:
    """Seconds, from when it was stored, for which the access token is used."""
    life = pair.expires_in or SHORTEST_TOKEN_SECONDS
    return life - min(MARGIN, life / 2)


class SharedToken(AuthBase):
    """The access token of the stored pair; whoever finds it at its end replaces the pair, and the others wait."""

    def __init__(
        self, store: PairStore, refresh: Callable[[str], Grant], *, clock: Clock, longest: float, me: str = ""
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
        return f"Check that the user of the tokens is still an admin. {authorize(self._store.reference)}"

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        if self._token is None or self._clock.monotonic() >= self._ends_at:
            self._token, left = self._obtain()
            self._ends_at = self._clock.monotonic() + left
        r.headers["Authorization"] = f"Bearer {self._token}"
        return r

    def renew(self) -> bool:
        """Another process may have replaced the pair, which ends the token at once; else it is for us to do."""
        self._refused, self._token = self._token, None
        return True

    def _obtain(self) -> tuple[str, float]:
        """A token that works, and for how many seconds."""
        while True:
            held = self._newest()
            pair = self._store.pair(held)
            left = _usable(pair) - held.age
            if left > 0 and pair.access_token != self._refused:
                return pair.access_token, left
            if not self._claimed(held.id):
                self._clock.sleep(POLL_SECONDS)
            elif mine := _to_its_end(lambda: self._replace(held.id, pair)):  # noqa: B023  # it ends before they change
                return mine.access_token, _usable(mine)

    def _newest(self) -> Version:
        """The current version, once what others have stored and not moved to is moved to."""
        held = self._store.current()
        while following := self._store.version(next_id(held.id)):
            self._store.move(held.id, following.id)
            held = following
        return held

    def _claimed(self, version: str) -> bool:
        """Whether it is for this process to replace a version."""
        for number in itertools.count():
            there = self._store.version(claim_id(version, number))
            if there is None:
                claim = msgspec.json.encode(_Claim(claimed_by=self._me)).decode()
                return self._store.put(claim_id(version, number), claim, CLAIM)
            ours = msgspec.json.decode(there.text, type=_Claim).claimed_by == self._me
            if ours and there.age <= self._longest:
                return True
            if not ours and there.age <= 2 * self._longest + STORE_SECONDS:
                return False
        raise AssertionError("counting has no end")

    def _replace(self, version: str, pair: Pair) -> Pair | None:
        """The new pair, stored; None where another process was ahead."""
        try:
            grant = self._refresh(pair.refresh_token)
        except InvalidGrantError:
            if self._newest().id != version:
                return None  # the process whose claim had ended was late, not dead
            raise RefusedError(
                f"Zendesk does not accept the refresh token of {self._store.reference} any more: it was unused for too"
                " long, its user or client has gone, or a process died between Zendesk's answer and storing it."
                f" {authorize(self._store.reference)}"
            ) from None
        new = pair_of(grant, pair.refresh_token)
        if not self._stored(next_id(version), as_text(new)):
            return None
        self._store.move(version, next_id(version))
        return new

    def _stored(self, number: str, text: str) -> bool:
        """Store a pair that exists nowhere else, stubbornly; False where another one is there."""
        latest = self._clock.monotonic() + STORE_SECONDS
        while True:
            try:
                return self._store.put(number, text, NEXT)
            except PipelineError as problem:
                if self._clock.monotonic() >= latest:
                    raise SecretStoreError(
                        f"The new pair of tokens could not be stored, and the old one is spent. The reason: {problem}"
                        f" {authorize(self._store.reference)}"
                    ) from None
                self._clock.sleep(POLL_SECONDS)


def pair_store(wanted: Reference) -> PairStore:
    """The secret that a reference names; raises SettingsError where AWS cannot be asked at all."""
    with explaining(wanted, "secretsmanager:GetSecretValue"):
        return PairStore(reference=wanted, client=client_of(wanted))


def shared_token(
    wanted: Reference, transport: Transport, *, client_id: str, client_secret: str, me: str = ""
) -> SharedToken:
    """The credential of AUTH_MODE=oauth_refresh; raises SettingsError where the store cannot be asked at all."""
    patient = Transport(base_url=transport.base_url, timeout=max(transport.timeout, PATIENCE), clock=transport.clock)

    def refresh(refresh_token: str) -> Grant:
        return request_grant(
            patient,
            {
                "grant_type": "refresh_token",
                "refresh_token": refresh_token,
                "client_id": client_id,
                "client_secret": client_secret,
                "expires_in": ACCESS_SECONDS,
                "refresh_token_expires_in": REFRESH_SECONDS,
            },
        )

    longest = CONNECT_TIMEOUT + (1 + LONGEST_BODY_TIME) * patient.timeout
    return SharedToken(pair_store(wanted), refresh, clock=transport.clock, longest=longest, me=me)


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
