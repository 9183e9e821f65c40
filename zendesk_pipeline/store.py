"""What is done to the bucket, and what S3's refusals mean.

Conditional writes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

import base64
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
)

from zendesk_pipeline.errors import DeliveryError, SettingsError

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from mypy_boto3_s3 import S3Client

CONFLICT_TRIES = 5
"""409: another write of the same key was under way; S3 asks to send it again."""


class DeniedError(DeliveryError):
    """The credential may not do that here."""


class _ChecksumSigner(S3SigV4Auth):
    """Signs the SHA-256 that goes along as the body's checksum, where botocore would hash the body a second time."""

    NAME = "s3v4-checksum"

    def payload(self, request: "AWSRequest") -> str:
        checksum = request.headers.get("x-amz-checksum-sha256")
        return super().payload(request) if checksum is None else base64.b64decode(checksum).hex()


AUTH_TYPE_MAPS[_ChecksumSigner.NAME] = _ChecksumSigner


def signed_once(client: "S3Client") -> "S3Client":
    """The client, from now on hashing no body whose checksum it is given; what goes over the wire stays the same.

    Directory buckets and access points over several regions, which sign in other ways, are left to botocore.
    https://docs.aws.amazon.com/boto3/latest/guide/events.html
    """

    def signer(context: Mapping[str, Any], **_: object) -> str | None:
        return _ChecksumSigner.NAME if context.get("auth_type") == "v4" else None

    events: Any = client.meta.events  # its stubs know no handler that answers
    events.register("choose-signer.s3.PutObject", signer)
    return client


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it is now."""

    body: bytes
    version: str
    """Its ETag, for replacing just this version."""
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    """What was written beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object as a listing shows it."""

    key: str
    size: int
    """Bytes as stored."""
    modified: float
    """When it was written, seconds since the epoch."""


@dataclass(slots=True)
class Spent:
    """Requests that S3 answered, by its price list's names. The client's own retries are not seen here."""

    put: int = 0
    get: int = 0
    list: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def count(self, name: Literal["put", "get", "list"]) -> None:
        """One more; from any thread."""
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One bucket. The client retries by itself what is worth it (connections, 500, 503 SlowDown)."""

    client: "S3Client"
    bucket: str
    encryption: Mapping[str, Any]
    """`ServerSideEncryption` and `SSEKMSKeyId` of every write, as PutObject takes them."""
    spent: Spent = field(default_factory=Spent)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> Stored | None:
        """The object, or None; raises DeniedError, SettingsError, DeliveryError."""
        with self._explaining("GetObject", key):
            self.spent.count("get")
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
                return Stored(answer["Body"].read(), answer["ETag"], answer.get("Metadata", {}))
            except self.client.exceptions.NoSuchKey:
                return None

    def put_new(
        self, key: str, body: bytes, *, checksum: str, content_type: str, notes: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object that must not exist; False where it does.

        `checksum` is the SHA-256 of the body in base64: S3 refuses a body that was damaged on its way. `notes` become
        user metadata of the object.
        """
        checked: dict[str, Any] = {"ChecksumSHA256": checksum, "ContentType": content_type}
        if notes:
            checked["Metadata"] = dict(notes)
        return self._put(key, body, {"IfNoneMatch": "*", **checked}) is not None

    def put_over(self, key: str, body: bytes, version: str | None) -> str | None:
        """Replace just this version of an object, or make it (None); its new version, or None where a race is lost."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        return self._put(key, body, {"ContentType": "application/json", **condition})

    def keys(self, prefix: str) -> list[str]:
        """Every key under the prefix, in order."""
        return [entry.key for entry in self.listing(prefix)]

    def listing(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """What lies under the prefix, by key, from behind the key `after`; a request for each thousand taken."""
        asked: dict[str, Any] = {"StartAfter": after} if after else {}
        with self._explaining("ListBucket", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, **asked)
            for page in pages:
                self.spent.count("list")
                entries: list[Any] = list(page.get("Contents", []))
                for entry in entries:
                    yield Listed(key=entry["Key"], size=entry["Size"], modified=entry["LastModified"].timestamp())

    def _put(self, key: str, body: bytes, arguments: dict[str, Any]) -> str | None:
        with self._explaining("PutObject", key):
            for remaining in reversed(range(CONFLICT_TRIES)):
                self.spent.count("put")
                try:
                    answer = self.client.put_object(
                        Bucket=self.bucket, Key=key, Body=body, **arguments, **self.encryption
                    )
                    return answer["ETag"]
                except ClientError as refused:
                    code = _code(refused)
                    # an If-Match on a key that is gone answers 404 on AWS and 412 elsewhere
                    if code in {"PreconditionFailed", "412"} or (code == "NoSuchKey" and "IfMatch" in arguments):
                        return None
                    if code != "ConditionalRequestConflict" or not remaining:
                        raise
        raise AssertionError("the loop returns or raises")

    @contextmanager
    def _explaining(self, action: str, key: str) -> Generator[None]:
        try:
            yield
        except ClientError as refused:
            raise self._explained(action, key, refused) from None
        except (NoCredentialsError, NoRegionError) as missing:
            raise SettingsError(
                f"S3 needs AWS credentials and a region ({type(missing).__name__}): set AWS_PROFILE,"
                " or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION, or run under a role."
            ) from None
        except ParamValidationError:
            raise SettingsError(
                f"S3_BUCKET={self.bucket} is not a bucket's name: name the bucket that the SecOps feed reads."
            ) from None
        except BotoCoreError as problem:
            raise DeliveryError(
                f"S3 gave no answer to {action} on {self.uri(key)} ({type(problem).__name__}) after all retries."
                " Check the network, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL_S3 if this stays."
            ) from None

    def _explained(self, action: str, key: str, refused: ClientError) -> Exception:
        code = _code(refused)
        if code == "NoSuchBucket":
            return SettingsError(f"S3_BUCKET={self.bucket} does not exist: create it, or name the right one.")
        if code in {"AccessDenied", "403", "AllAccessDisabled"}:
            return DeniedError(
                f"S3 refuses {action} on {self.uri(key)} (AccessDenied): give the writer s3:{action} there."
            )
        if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}:
            return SettingsError(
                f"S3 does not accept the AWS credentials ({code}): check AWS_ACCESS_KEY_ID and its like."
            )
        return DeliveryError(f"S3 refuses {action} on {self.uri(key)} ({code}) after all retries.")


def _code(refused: ClientError) -> str:
    return str(refused.response.get("Error", {}).get("Code", "?"))
