"""What can be switched while the simulator runs."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Literal

import msgspec

CANONICAL_HOST = "https://canonical-name.zendesk.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The account's behaviour.

    Attributes:
        plan: Audit logs need "enterprise".
        adpp: Whether the account has the add-on that access logs need.
        access_log: Whether an admin has switched the access log on: off, which it is at first, it shows nothing.
        role: Role of the user behind every credential; exports need "admin".
        export_limit: Requests a minute over all of /api/v2/incremental/ but the users by cursor, 0 for none.
        user_export_limit: Requests a minute to the users by cursor, 0 for none.
        access_log_limit: Requests a minute to the access logs, 0 for none.
        account_limit: The number in the rate limit headers.
        enforce_account_limit: Whether going past `account_limit` is answered with 429.
        retry_after: How a 429 names its waiting time: seconds, an HTTP date, the list form a proxy makes of two
            headers, or not at all.
        limit_body: 429 as JSON, or as the plain text some of Zendesk's limits answer.
        header_family: Which of the two spellings of the newer rate limit headers are sent.
        filter_ends: Whether the ends of filter[created_at] belong to the range (undocumented at Zendesk), or whether
            the end, or the whole filter, does nothing.
        audit_log_order: Whether `sort` is honoured; else the audit logs come newest first, which is Zendesk's default,
            or in hours that have no order.
        access_log_cursor: Under which of its two documented names the access logs take a cursor.
        encoding: What answers are packed with, where the client accepts it.
        latency_ms: Waiting time before every answer.
        minute_seconds: What the limits count as a minute: with a shorter one, days of paging pass in seconds.
        token_seconds: Lifetime of an OAuth token that asked for none.
        lag: By stream, seconds by which an export is behind: it shows what there was so long ago, and says that this is
            the end.
        unreadable: By stream, event times [start, end) whose records break every page that would hold one (500).
        canonical_host: The host in `after_url` and `links.next`: not the one that was asked, as recorded.
    """

    plan: Literal["enterprise", "professional"] = "enterprise"
    adpp: bool = True
    access_log: bool = True
    role: Literal["admin", "agent"] = "admin"
    export_limit: int = 0
    user_export_limit: int = 0
    access_log_limit: int = 0
    account_limit: int = 700
    enforce_account_limit: bool = False
    retry_after: Literal["seconds", "date", "list", "absent"] = "seconds"
    limit_body: Literal["json", "text"] = "json"
    header_family: Literal["both", "ratelimit", "rate-limit"] = "both"
    filter_ends: Literal["inclusive", "exclusive", "end_ignored", "ignored"] = "inclusive"
    audit_log_order: Literal["as_asked", "newest_first", "hours_mixed"] = "as_asked"
    access_log_cursor: Literal["filter[after]", "page[after]"] = "page[after]"
    encoding: Literal["none", "gzip", "zstd"] = "none"
    latency_ms: float = 0
    minute_seconds: float = 60
    token_seconds: int = 1800
    lag: dict[str, int] = field(default_factory=dict[str, int])
    unreadable: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    canonical_host: str = CANONICAL_HOST

    def shown_at(self, stream: str, now: float) -> float:
        """The moment that an export shows at another one."""
        return now - self.lag.get(stream, 0)

    def spoils(self, stream: str, times: Iterable[int]) -> bool:
        """Whether a record with one of these event times makes its page unreadable."""
        start, end = self.unreadable.get(stream, (0, 0))
        return any(start <= time < end for time in times)


def patched(settings: Settings, patch: Mapping[str, object]) -> Settings:
    """The settings with some changed.

    Raises:
        ValueError: A name or a value is not one of the settings'.
    """
    unknown = patch.keys() - {each.name for each in fields(Settings)}
    if unknown:
        raise ValueError(f"no such setting: {', '.join(sorted(unknown))}")
    return msgspec.convert({**asdict(settings), **patch}, Settings)
