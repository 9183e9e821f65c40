"""The secret of AWS Secrets Manager that holds a pair of OAuth tokens, and the steps in which it is replaced.

    claim    a version whose id is derived from the current one; an id can be given once, so one process has it
    next     the new pair, as a version with an id derived alike, stored before anybody uses it
    move     AWSCURRENT goes from the version that was refreshed to the next one, and from no other

https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html says that a version id is given
once, and API_UpdateSecretVersionStage.html that a label leaves only the version that is named.
"""

from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

import msgspec
from botocore.exceptions import ClientError

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.settings.programs import ours
from zendesk_pipeline.settings.secret_references import Reference, client_of, error_code, explaining
from zendesk_pipeline.zendesk.oauth import HEADER_TEXT, SHORTEST_TOKEN_SECONDS, Grant

CLAIM, NEXT, CURRENT = "zendesk-claim", "zendesk-next", "AWSCURRENT"
"""Staging labels. AWSPENDING is left to rotation functions."""
MARGIN = 60.0
"""An access token is not used in its last so many seconds."""

_IDS = UUID("5f0c6b0e-7a51-4a1c-9d1e-2f6f3f1f7a10")


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """What the secret holds, in the form of Zendesk's own answer."""

    access_token: Annotated[str, HEADER_TEXT]
    refresh_token: Annotated[str, HEADER_TEXT]
    expires_in: float | None = None
    """Seconds, from when the version was made."""

    def __repr__(self) -> str:
        return "TokenPair()"

    @classmethod
    def of(cls, grant: Grant, refresh_token: str) -> "TokenPair":
        """What is stored of Zendesk's answer; `refresh_token` is the one to keep where it names none."""
        return cls(
            access_token=grant.access_token,
            refresh_token=grant.refresh_token or refresh_token,
            expires_in=grant.expires_in or SHORTEST_TOKEN_SECONDS,
        )

    @property
    def usable(self) -> float:
        """Seconds, from when it was stored, for which the access token is used."""
        life = self.expires_in or SHORTEST_TOKEN_SECONDS
        return life - min(MARGIN, life / 2)

    def as_text(self) -> str:
        """As the secret holds it."""
        return msgspec.json.encode(self).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """One version of the secret."""

    id: str
    text: str = field(repr=False)
    age: float
    """Seconds since it was made, by Secrets Manager's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPairStore:
    """The secret. Whatever is raised (SettingsError, SecretStoreError) names it, and nothing of what it holds."""

    reference: Reference
    client: Any

    @classmethod
    def of(cls, wanted: Reference) -> "TokenPairStore":
        """The secret that a reference names; raises SettingsError where AWS cannot be asked at all."""
        with explaining(wanted, "secretsmanager:GetSecretValue"):
            return cls(reference=wanted, client=client_of(wanted))

    def current(self) -> SecretVersion:
        """The version to use."""
        with explaining(self.reference, "secretsmanager:GetSecretValue"):
            return self._get(VersionStage=CURRENT)

    def newest(self) -> SecretVersion:
        """The current version, after moving to what others have stored and not moved to."""
        held = self.current()
        while following := self.version(next_id(held.id)):
            self.move(held.id, following.id)
            held = following
        return held

    def version(self, version: str) -> SecretVersion | None:
        """The version of an id, None where there is none."""
        with self._asking("GetSecretValue", {"ResourceNotFoundException"}):
            return self._get(VersionId=version)
        return None

    def put(self, version: str, text: str, label: str) -> bool:
        """Make the version of an id; False where there is one with another content. The same again does nothing."""
        with self._asking("PutSecretValue", {"ResourceExistsException"}):
            self.client.put_secret_value(
                SecretId=self.reference.name, ClientRequestToken=version, SecretString=text, VersionStages=[label]
            )
            return True
        return False

    def move(self, source: str, target: str) -> None:
        """Make `target` current if `source` still is; where another one is, that stays."""
        with self._asking("UpdateSecretVersionStage", {"InvalidParameterException", "InvalidRequestException"}):
            self.client.update_secret_version_stage(
                SecretId=self.reference.name, VersionStage=CURRENT, RemoveFromVersionId=source, MoveToVersionId=target
            )

    def replace(self, pair: TokenPair) -> None:
        """Make a pair current, whatever was before it, even while others refresh that."""
        version = str(uuid4())
        self.put(version, pair.as_text(), NEXT)
        while (current := self.current().id) != version:
            self.move(current, version)

    def pair(self, version: SecretVersion) -> TokenPair:
        """The pair that a version holds; raises SettingsError where it holds none."""
        try:
            return msgspec.json.decode(version.text, type=TokenPair)
        except (msgspec.MsgspecError, UnicodeError):
            what = f"{self.reference.variable}: {self.reference} does not hold a pair of tokens."
            raise SettingsError(f"{what} {self.how_to_authorize}") from None

    @property
    def how_to_authorize(self) -> str:
        """What to do where no token is left that works."""
        return (
            f"Run `{ours('authorize')}` once as an admin of the account: it stores a new pair in {self.reference}, and"
            " the windows that are missing are collected by themselves."
        )

    @contextmanager
    def _asking(self, operation: str, expected: Collection[str]) -> Generator[None]:
        """Secrets Manager's errors in our words; those `expected` end the block."""
        with explaining(self.reference, f"secretsmanager:{operation}"):
            try:
                yield
            except ClientError as refused:
                if error_code(refused) not in expected:
                    raise

    def _get(self, **which: str) -> SecretVersion:
        answer = self.client.get_secret_value(SecretId=self.reference.name, **which)
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()
        age = now - answer["CreatedDate"].timestamp()
        return SecretVersion(id=answer["VersionId"], text=answer.get("SecretString", ""), age=max(0.0, age))


def next_id(version: str) -> str:
    """The id of the version that replaces one."""
    return str(uuid5(_IDS, f"{version}/next"))


def claim_id(version: str, number: int) -> str:
    """The id of the n-th claim to replace a version."""
    return str(uuid5(_IDS, f"{version}/claim/{number}"))
