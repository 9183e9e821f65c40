"""An S3 bucket in memory, behind the methods of boto3's client that `Store` calls, and trouble with it on request."""

import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from botocore.exceptions import ClientError, ReadTimeoutError

from zendesk_pipeline.delivery.batches import encode

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
"""When every object was written, to those who ask."""
Around = Callable[[str, Callable[[], Any]], Any]
"""Is called with the kind of a request (GET, PUT, LIST) and the function that does it."""


class CrashError(BaseException):
    """The process dies: nothing catches this, and nothing that it asks of S3 afterwards happens."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write that took effect."""

    key: str
    body: bytes
    by: object
    """Whoever wrote it."""
    over: bool
    """Whether there was something under the key."""


@dataclass(slots=True)
class MemoryBucket:
    """What a bucket holds, and every write that it ever took."""

    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    writes: list[Write] = field(default_factory=list[Write])
    notes: dict[str, Any] = field(default_factory=dict[str, Any])
    """User metadata by key."""


class _Exceptions:
    """The client's attribute of this name."""

    class NoSuchKey(ClientError):  # noqa: N818  # boto3's name
        """GetObject for a key that is not there."""


@dataclass(frozen=True, slots=True)
class MemoryS3:
    """A client of the bucket; conditions and checksums count as they do at AWS."""

    bucket: MemoryBucket
    by: object = None
    around: Around = lambda _, act: act()
    exceptions = _Exceptions

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803  # boto3's name
        def act() -> dict[str, Any]:
            body = self.bucket.objects.get(Key)
            if body is None:
                raise _Exceptions.NoSuchKey({"Error": {"Code": "NoSuchKey"}}, "GetObject")
            return {"Body": io.BytesIO(body), "ETag": _etag(body), "Metadata": self.bucket.notes.get(Key, {})}

        return self.around("GET", act)

    def put_object(self, *, Key: str, Body: bytes, **conditions: Any) -> dict[str, Any]:  # noqa: N803  # boto3's names
        def act() -> dict[str, Any]:
            there = self.bucket.objects.get(Key)
            if conditions.get("ChecksumSHA256") not in {None, encode(Body, compress=False).checksum}:
                raise refused("BadDigest", "PUT")
            if "IfMatch" in conditions and there is None:
                raise refused("NoSuchKey", "PUT")
            if "IfMatch" in conditions and conditions["IfMatch"] != _etag(there or b""):
                raise refused("PreconditionFailed", "PUT")
            if "IfNoneMatch" in conditions and there is not None:
                raise refused("PreconditionFailed", "PUT")
            self.bucket.objects[Key] = Body
            self.bucket.notes[Key] = conditions.get("Metadata", {})
            self.bucket.writes.append(Write(Key, Body, self.by, there is not None))
            return {"ETag": _etag(Body)}

        return self.around("PUT", act)

    def get_paginator(self, _: str) -> "MemoryS3":
        return self

    def paginate(self, *, Prefix: str, **_: Any) -> list[dict[str, Any]]:  # noqa: N803  # boto3's name
        found = self.around("LIST", lambda: sorted(key for key in self.bucket.objects if key.startswith(Prefix)))
        sizes = {key: len(self.bucket.objects.get(key, b"")) for key in found}
        entries = [{"Key": key, "Size": sizes[key], "LastModified": LONG_AGO} for key in found]
        return [{"KeyCount": 1, "Contents": [entry]} for entry in entries] or [{"KeyCount": 0}]


def refused(code: str, method: str) -> ClientError:
    """An error as boto3 raises it, its own retries behind it."""
    return ClientError({"Error": {"Code": code}}, method)


def _etag(body: bytes) -> str:
    return f'"{encode(body, compress=False).sha256[:32]}"'


Trouble = Literal[
    "nothing",
    "crash before",
    "crash after",
    "error before",
    "error after",
    "outage",
    "sent twice",
    "conflict",
    "meanwhile",
]
"""What happens to one request.

`before` and `after` it took effect; `outage`: it and all that follow fail; `sent twice`: its answer is lost and boto3
asks again; `conflict`: 409, once; `meanwhile`: something else happens first.
"""


def troubled(trouble: Trouble, at: int, meanwhile: Callable[[], object]) -> Around:
    """Has the trouble happen to the request of this number, 0 for the first."""
    numbers = itertools.count()
    dead = False

    def around(method: str, act: Callable[[], Any]) -> Any:
        nonlocal dead
        number = next(numbers)
        if dead:
            raise CrashError
        if number < at or (number > at and trouble != "outage"):
            return act()
        dead = trouble in {"crash before", "crash after"}
        if trouble == "meanwhile":
            meanwhile()
        return _in_trouble(trouble, method, act)

    return around


def _in_trouble(trouble: Trouble, method: str, act: Callable[[], Any]) -> Any:
    if trouble in {"crash after", "error after", "sent twice"}:
        _unheard(act)
    if trouble in {"crash before", "crash after"}:
        raise CrashError
    if trouble == "error after":
        raise ReadTimeoutError(endpoint_url="memory")
    if trouble in {"error before", "outage"}:
        raise refused("InternalError", method)
    if trouble == "conflict" and method == "PUT":
        raise refused("ConditionalRequestConflict", method)
    return act()


def _unheard(act: Callable[[], Any]) -> None:
    """Do it; nobody hears of the answer."""
    try:
        act()
    except ClientError:
        return
