"""Reading, writing and listing in the bucket.

Conditional writes: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

import base64
import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from zendesk_pipeline.settings.aws_errors import (
    PROBLEMS,
    WHILE_READING,
    CutOffError,
    NotS3Error,
    UnheardError,
    asks_for_the_region_once,
    code_of,
    explained,
    is_worth_another_try,
    unheard,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

TRIES = 6
"""Of what botocore does not try again by itself, such as a 409: another write of the same key was under way."""
PAUSE = 0.25
"""Seconds before the second try; twice as long before each further one."""
ABSENT = frozenset({403, 404})
"""What S3 answers to a HEAD of a missing object: 403 without the right to list."""
LISTED = frozenset({"IsTruncated", "KeyCount", "Name"})
"""A listing has one of these at least, an empty one as well."""


def signed_once(client: "S3Client") -> "S3Client":
    """The client, changed so that it does not sign bodies that it sends by TLS: the checksum in a header is signed.

    Over plain HTTP botocore hashes and signs the body as well. A profile's own `payload_signing_enabled` is kept.
    https://docs.aws.amazon.com/botocore/latest/reference/config.html
    """
    if client.meta.endpoint_url.startswith("https://"):
        config: Any = client.meta.config  # of this client alone
        config.s3 = {"payload_signing_enabled": False, **(config.s3 or {})}
    return client


def prepared(client: "S3Client") -> "S3Client":
    """The client of a run, as `signed_once` and `asks_for_the_region_once` make it, and more.

    It does not repeat a write of a new object that may have been done: `Store` looks first. The feed may have read and
    deleted the object by then, and would get it twice.
    """

    def look_first(
        response: Any, operation: Any, caught_exception: Exception | None, request_dict: Mapping[str, Any], **_: object
    ) -> None:
        if request_dict["headers"].get("If-None-Match"):
            problem = unheard(response, caught_exception, operation.name)
            if problem is not None:
                raise problem

    events: Any = client.meta.events
    events.register_first("needs-retry.s3.PutObject", look_first)
    return signed_once(asks_for_the_region_once(client))


def encryption(sse: str | None, kms_key_id: str | None) -> dict[str, str]:
    """What S3_SSE and S3_KMS_KEY_ID ask for with every write, as PutObject takes it."""
    asked = {"ServerSideEncryption": sse, "SSEKMSKeyId": kms_key_id}
    return {name: value for name, value in asked.items() if value}


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
class RequestCount:
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
    """One bucket. Requests are tried again by the client (connections, 5xx) or here (`aws_errors.AGAIN`)."""

    client: "S3Client"
    bucket: str
    encryption: Mapping[str, Any]
    """`ServerSideEncryption` and `SSEKMSKeyId` of every write, as PutObject takes them."""
    spent: RequestCount = field(default_factory=RequestCount)
    sleep: Callable[[float], object] = field(default_factory=lambda: time.sleep)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def get(self, key: str) -> Stored | None:
        """The object, or None; raises DeniedError, SettingsError, DeliveryError."""

        def ask() -> Stored | None:
            self.spent.count("get")
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=key)
            except self.client.exceptions.NoSuchKey:
                return None
            except HTTPError as problem:  # botocore does not handle errors while it reads the body of an error answer
                if isinstance(problem, BotoCoreError):
                    raise
                raise CutOffError(type(problem).__name__) from None
            try:
                body = answer["Body"].read()
            except WHILE_READING as problem:
                raise CutOffError(type(problem).__name__) from None
            return Stored(body, _version(answer), answer.get("Metadata", {}))

        with self._explaining("GetObject", key):
            return self._tried(ask)

    def put_new(
        self, key: str, body: bytes, *, checksum: str, content_type: str, notes: Mapping[str, str] | None = None
    ) -> bool:
        """Write an object that must not exist; False where it does.

        `checksum` is the SHA-256 of the body in base64: S3 refuses a body that was damaged on its way. `notes` become
        user metadata of the object.
        """
        arguments: dict[str, Any] = {"ContentType": content_type, **checked(checksum)}
        if notes:
            arguments["Metadata"] = dict(notes)
        return self._put(key, body, {"IfNoneMatch": "*", **arguments}) is not None

    def put_over(self, key: str, body: bytes, version: str | None) -> str | None:
        """Replace just this version of an object, or make it (None); its new version, or None where a race is lost.

        Where an answer was lost, an object with the same body counts as ours.
        """
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        return self._put(key, body, {"ContentType": "application/json", **checked(checksum), **condition}, reads=True)

    def keys(self, prefix: str) -> list[str]:
        """Every key under the prefix, in order."""
        return [entry.key for entry in self.listing(prefix)]

    def listing(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """The objects under the prefix, by key, after the key `after`; a request for each thousand taken."""
        asked: dict[str, Any] = {"StartAfter": after} if after else {}
        with self._explaining("ListBucket", prefix):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, **asked)
            for page in pages:
                self.spent.count("list")
                if not LISTED.intersection(page):
                    raise NotS3Error
                entries: list[Any] = list(page.get("Contents", []))
                for entry in entries:
                    yield Listed(key=entry["Key"], size=entry["Size"], modified=entry["LastModified"].timestamp())

    def _put(self, key: str, body: bytes, arguments: dict[str, Any], *, reads: bool = False) -> str | None:
        lost: UnheardError | None = None

        def ask() -> str | None:
            nonlocal lost
            if lost and self._was_there(key, lost):
                stored = self.get(key) if reads else None
                return stored.version if stored and stored.body == body else None
            self.spent.count("put")
            try:
                return _version(
                    self.client.put_object(Bucket=self.bucket, Key=key, Body=body, **arguments, **self.encryption)
                )
            except ClientError as refused:
                code = code_of(refused)
                # an If-Match on a key that is gone answers 404 on AWS and 412 elsewhere
                if code in {"PreconditionFailed", "412"} or (code == "NoSuchKey" and "IfMatch" in arguments):
                    return None
                raise
            except UnheardError as problem:
                lost = problem if "IfNoneMatch" in arguments else None
                raise

        with self._explaining("PutObject", key):
            return self._tried(ask)

    def _was_there(self, key: str, lost: UnheardError) -> bool:
        """Whether a key is taken, or was and has a marker of deletion: only a bucket with versions knows.

        Raises what the write has raised, where S3 does not say.
        """
        self.spent.count("get")
        try:
            return bool(_version(self.client.head_object(Bucket=self.bucket, Key=key)))
        except ClientError as refused:
            answer = refused.response.get("ResponseMetadata", {})
            if answer.get("HTTPStatusCode") not in ABSENT:
                raise lost from None
            return answer.get("HTTPHeaders", {}).get("x-amz-delete-marker") == "true"

    def _tried(self, ask: Callable[[], T]) -> T:
        """What a request gives, tried again where that may help and botocore does not."""
        for number in count(1):
            try:
                return ask()
            except PROBLEMS as problem:
                if number == TRIES or not is_worth_another_try(problem):
                    raise
            self.sleep(PAUSE * 2 ** (number - 1))
        raise AssertionError("the loop returns or raises")

    @contextmanager
    def _explaining(self, action: str, key: str) -> Generator[None]:
        try:
            yield
        except PROBLEMS as problem:
            raise explained(action, self.uri(key), problem, bucket=self.bucket) from None


def checked(checksum: str) -> dict[str, Any]:
    """What a write says of its body's SHA-256, in base64.

    With it botocore sends the body as it is, and not in chunks with a checksum behind them (`aws-chunked`), which some
    stores refuse. The algorithm's name is what a bucket with a default retention asks for.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
    """
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}


def _version(answer: Mapping[str, Any]) -> str:
    if "ETag" not in answer:
        raise NotS3Error
    return str(answer["ETag"])
