"""S3's server access log, a line a request. Pure.

The format, and that new fields are added at its end:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

TRAILING = (
    "host_id",
    "signature_version",
    "cipher_suite",
    "authentication_type",
    "host_header",
    "tls_version",
    "access_point",
    "acl_required",
    "region",
)
"""The fields after the version's id, in their order; a line that is older than a field ends before it."""
AFTER_THE_NUMBERS = 2
"""Referrer and client stand between the numbers and the version's id."""
MOST_ENCODED = 2
"""Times that a key may be encoded: by the client in its request, and by S3 in the log."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
# What is in quotes is as the client has sent it, and may hold quotes: the numbers behind the request's line say where
# that ends, and the last quote of the line is the one behind the client's name.
_LINE = re.compile(
    r"(?P<owner>\S+) (?P<bucket>\S+) \[(?P<time>[^\]]+)\] (?P<address>\S+) (?P<requester>\S+) (?P<request_id>\S+)"
    r" (?P<operation>\S+) (?P<key>\S+) (?P<request>-|\".*?\") (?P<status>\d{3}|-) (?P<error>\S+)"
    r" (?P<sent>\d+|-) (?P<size>\d+|-) (?P<total_time>\d+|-) (?P<turnaround_time>\d+|-) (?P<end>.+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One request. A field that is unknown, or of no meaning for it (`-`), is empty or None."""

    owner: str
    """Canonical id of the bucket's owner."""
    bucket: str
    at: float
    """When S3 received it, seconds since the epoch."""
    address: str
    requester: str
    """The ARN of a user or of a role's session, or a canonical id; empty where nobody has signed."""
    request_id: str
    operation: str
    """`REST.GET.OBJECT` and the like."""
    key: str
    """Decoded."""
    request: str
    """The request's first line."""
    status: int | None
    error: str
    sent: int
    """Bytes of the answer's body."""
    size: int | None
    """Bytes of the object."""
    total_time: int | None
    """Milliseconds, as is `turnaround_time`."""
    turnaround_time: int | None
    referrer: str
    client: str
    """The client's name, `User-Agent`."""
    version: str
    rest: Mapping[str, str] = field(default_factory=dict[str, str])
    """The fields of `TRAILING` that the line has."""
    added: tuple[str, ...] = ()
    """Fields that are newer than this release."""


def parsed(line: str) -> Entry:
    """The request that a line is of; raises ValueError where it is not of the format."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("no line of an S3 access log")
    found = match.groupdict()
    referrer, client, version, *trailing = _end(found["end"])
    named = dict(zip(TRAILING, trailing, strict=False))
    return Entry(
        owner=_text(found["owner"]),
        bucket=_text(found["bucket"]),
        at=_seconds(found["time"]),
        address=_text(found["address"]),
        requester=_text(found["requester"]),
        request_id=_text(found["request_id"]),
        operation=_text(found["operation"]),
        key=_decoded(_text(found["key"])),
        request=_quoted(found["request"]),
        status=_number(found["status"]),
        error=_text(found["error"]),
        sent=_number(found["sent"]) or 0,
        size=_number(found["size"]),
        total_time=_number(found["total_time"]),
        turnaround_time=_number(found["turnaround_time"]),
        referrer=_quoted(referrer),
        client=_quoted(client),
        version=_text(version),
        rest={name: value for name, value in named.items() if value != "-"},
        added=tuple(trailing[len(TRAILING) :]),
    )


def _end(text: str) -> list[str]:
    """What follows the numbers: referrer, client, version and the fields after it; raises ValueError."""
    quoted, quote, rest = text.rpartition('"')
    quoted += quote
    if quoted.startswith("- "):
        fields = ["-", quoted[2:], *rest.split()]
    elif '" "' in quoted:
        referrer, _, client = quoted.partition('" "')
        fields = [f'{referrer}"', f'"{client}', *rest.split()]
    else:  # at most one of them is in quotes: the client has given no name
        fields = [*([quoted] if quoted else []), *rest.split()]
    if len(fields) <= AFTER_THE_NUMBERS:
        raise ValueError("a line of an S3 access log that ends early")
    return fields


def _text(value: str) -> str:
    return "" if value == "-" else value


def _number(value: str) -> int | None:
    return None if value == "-" else int(value)


def _quoted(value: str) -> str:
    return _text(value[1:-1] if value.startswith('"') else value)


def _seconds(value: str) -> float:
    """Of `06/Feb/2019:00:00:38 +0000`; raises ValueError.

    No `strptime`, which takes months in the locale's language.
    """
    match = _TIME.fullmatch(value)
    if match is None or match[2] not in _MONTHS:
        raise ValueError(f"{value} is no time of an S3 access log")
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    there = datetime(year, _MONTHS.index(match[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    ahead = timedelta(hours=int(match[8]), minutes=int(match[9]))
    return (there + ahead if match[7] == "-" else there - ahead).timestamp()


def _decoded(key: str) -> str:
    """A key as it is in the bucket. One that was encoded once only is not decoded further than it goes."""
    for _ in range(MOST_ENCODED):
        if "%" not in key:
            break
        key = unquote(key)
    return key
