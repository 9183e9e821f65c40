"""Looking for a record in SecOps by its raw log. Nothing of what is found is kept.

Method: https://docs.cloud.google.com/chronicle/docs/reference/rest/v1alpha/projects.locations.instances/searchRawLogs
Its protos are not published; the names below are those of that page. Up to 2,000 searches an hour are allowed.
"""

import re
from typing import TYPE_CHECKING, Any

import msgspec

from zendesk_pipeline.model.windows import timestamp
from zendesk_pipeline.secops.instance import SecopsError

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import SecopsClient

VERSION = "v1alpha"
PATH = ":searchRawLogs"
_PLAIN = re.compile(r"[\w-]+", re.ASCII)


class Matches(msgspec.Struct, frozen=True):
    """A part of an answer: logs that were found."""

    matches: list[Any] = []
    error: Any = None


def can_be_sought(identity: str) -> bool:
    """Whether an identity can stand in a regular expression as it is."""
    return _PLAIN.fullmatch(identity) is not None


def is_there(client: "SecopsClient", name: str, identity: str, start: float, end: float) -> bool:
    """Whether a log has a field of this name and value, whose event or ingestion is from `start` to `end`.

    Raises SecopsError.
    """
    body = {
        "baselineQuery": rf'raw = /"{name}":\s*"?{identity}"?\s*[,}}]/',
        "baselineTimeRange": {"startTime": timestamp(int(start)), "endTime": timestamp(int(end))},
        "caseSensitive": True,
        "pageSize": 1,
    }
    answer = client.query(VERSION, PATH, body)
    try:  # the page shows one object; a list of them, part by part, is seen in practice
        parts = msgspec.convert(answer if isinstance(answer, list) else [answer], list[Matches])
    except msgspec.ValidationError:
        raise SecopsError(f"SecOps answered POST {PATH} with something that is no result of a search.") from None
    if any(part.error for part in parts):
        raise SecopsError("SecOps broke off a search. Try again later.")
    return any(part.matches for part in parts)
