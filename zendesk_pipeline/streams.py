"""The streams: what is collected from Zendesk. A new stream is one more entry here."""

from dataclasses import dataclass
from typing import Literal

from zendesk_pipeline.paging import CursorExport, CursorList, Paging


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One Zendesk source, as data."""

    name: str
    """The asset's name and part of every object key: `[a-z_]+`."""
    path: str
    """Below the account's address."""
    documentation: str
    """The address of the API's description."""
    items: str
    """The key of the page that holds the records."""
    paging: Paging
    page_size: int
    """Records a page, the most Zendesk allows."""
    identity: tuple[str, ...]
    """The fields that make a record the same one again."""
    event_time: str
    """The field that decides the window: whole seconds since the epoch, or an ISO date and time."""
    shows_late: bool
    """Whether records can turn up after their window was read (then LOOKBACK_SECONDS are read again)."""
    budget: Literal["account", "export"]
    """Which rate limit of Zendesk's the requests count against."""
    pool: str
    """The Dagster pool that keeps runs apart which share that limit, or the stream itself."""
    scope: str
    """The OAuth scope that should be enough."""
    forbidden: str
    """What a 403 to an admin means, as a sentence."""
    description: str


AUDIT_LOGS = Stream(
    name="audit_logs",
    path="/api/v2/audit_logs",
    documentation="https://developer.zendesk.com/api-reference/ticketing/account-configuration/audit_logs/",
    items="audit_logs",
    paging=CursorList(),
    page_size=100,
    identity=("id",),
    event_time="created_at",
    shows_late=True,
    budget="account",
    pool="zendesk_audit_logs",
    scope="auditlogs:read",
    forbidden="Audit logs are part of Zendesk's Enterprise plan: take audit_logs out of RESOURCES, or change the plan.",
    description="Who changed what in the Zendesk account: one record per change of a setting, rule, user or app.",
)

INCREMENTAL_TICKETS = Stream(
    name="incremental_tickets",
    path="/api/v2/incremental/tickets/cursor",
    documentation="https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/",
    items="tickets",
    paging=CursorExport(),
    page_size=1000,
    identity=("id", "generated_timestamp"),
    event_time="generated_timestamp",
    shows_late=False,
    budget="export",
    pool="zendesk_incremental_export",
    scope="tickets:read",
    forbidden="Incremental exports are for admins: use the credential of an admin.",
    description="Every ticket that changed, in the state it had when its window was read; deleted tickets too.",
)

STREAMS = {stream.name: stream for stream in (AUDIT_LOGS, INCREMENTAL_TICKETS)}
