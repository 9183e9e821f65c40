"""Which streams there are: a new one is an entry here, or in a project of your own. What one is: `model.stream`."""

import re

from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.paging import AccessLogList, CursorExport, CursorList, CursorListFrom, TimeExport
from zendesk_pipeline.model.stream import Stream

__all__ = [
    "ACCESS_LOGS",
    "AUDIT_LOGS",
    "COLLECTED_BY_DEFAULT",
    "INCREMENTAL_ORGANIZATIONS",
    "INCREMENTAL_TICKETS",
    "INCREMENTAL_TICKET_EVENTS",
    "INCREMENTAL_USERS",
    "STREAMS",
    "TICKET_METRIC_EVENTS",
    "Stream",
    "register",
]

STREAMS: dict[str, Stream] = {}
"""What RESOURCES can name."""


def register(stream: Stream) -> Stream:
    """Add a stream that RESOURCES can name; before `zendesk_pipeline.definitions` is imported.

    Raises SettingsError for a name that is taken by another stream, or that object keys cannot hold.
    """
    if not re.fullmatch("[a-z_]+", stream.name):
        raise SettingsError(f"{stream.name!r} is no name for a stream: a-z and _ are what object keys are made of.")
    if STREAMS.setdefault(stream.name, stream) != stream:
        raise SettingsError(f"There is another stream {stream.name}: choose a name of its own.")
    return stream


EXPORTS = "https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/"
FOR_ADMINS = "Incremental exports are for admins: use the credential of an admin."
ACCESS_LOG_SWITCH = "Admin Center > Account > Logs > Access log > Manage settings"
ALL_TICKETS = (("support_type_scope", "all"),)
"""By default an export leaves out what belongs to tickets of AI agents (EXPORTS)."""
JUST_UNDER_A_FULL_PAGE = 999
"""Of the exports by time: pages of fewer than the 1,000 allowed were seen to go on to the end of their last second.

So a crowded second is passed where it can be.
https://developer.zendesk.com/documentation/ticketing/managing-tickets/using-the-incremental-export-api/
"""

AUDIT_LOGS = register(
    Stream(
        name="audit_logs",
        path="/api/v2/audit_logs",
        documentation="https://developer.zendesk.com/api-reference/ticketing/account-configuration/audit_logs/",
        items="audit_logs",
        paging=CursorList(),
        page_size=100,
        identity=("id",),
        event_time="created_at",
        lists_by_event_time=True,
        shows_late=True,
        budget="account",
        pool="zendesk_audit_logs",
        scope="auditlogs:read",
        forbidden="Audit logs are part of Zendesk's Enterprise plan: take audit_logs out of RESOURCES, or change the"
        " plan.",
        description="Who changed what in the Zendesk account: one record per change of a setting, rule, user or app.",
        in_parts=True,
        catalogued=("source_type", "action"),
    )
)

INCREMENTAL_TICKETS = register(
    Stream(
        name="incremental_tickets",
        path="/api/v2/incremental/tickets/cursor",
        documentation=EXPORTS,
        items="tickets",
        paging=CursorExport(always=ALL_TICKETS),
        page_size=1000,
        identity=("id", "generated_timestamp"),
        event_time="generated_timestamp",
        lists_by_event_time=True,  # `start_time` is compared with it, says the reference
        shows_late=True,  # an export that lags says `end_of_stream` before it shows the latest
        budget="export",
        pool="zendesk_incremental_export",
        scope="tickets:read",
        forbidden=FOR_ADMINS,
        description="Every ticket that changed, in the state it had when its window was read; deleted tickets too.",
    )
)

ACCESS_LOGS = register(
    Stream(
        name="access_logs",
        path="/api/v2/access_logs",
        documentation="https://developer.zendesk.com/api-reference/ticketing/account-configuration/access_logs/",
        items="access_logs",
        paging=AccessLogList(),
        page_size=2500,
        identity=("id",),
        event_time="timestamp",
        lists_by_event_time=True,  # within the seconds of `spread`
        shows_late=True,
        budget="access_logs",
        pool="zendesk_access_logs",
        scope="read",
        forbidden="Access logs need the add-on Advanced Data Privacy and Protection: take access_logs out of RESOURCES,"
        f" or add it to the plan and switch them on ({ACCESS_LOG_SWITCH}).",
        description="Who looked at what: one record per request of an agent or admin, kept by Zendesk for 90 days.",
        late_by=3600,  # https://support.zendesk.com/hc/en-us/articles/6066010357530, as the two below
        kept=90 * 24 * 3600,
        switch=ACCESS_LOG_SWITCH,
    )
)

INCREMENTAL_TICKET_EVENTS = register(
    Stream(
        name="incremental_ticket_events",
        path="/api/v2/incremental/ticket_events",
        documentation=EXPORTS,
        items="ticket_events",
        paging=TimeExport(always=ALL_TICKETS),
        page_size=JUST_UNDER_A_FULL_PAGE,
        identity=("id",),
        event_time="timestamp",
        lists_by_event_time=True,  # the only time of an event: `end_time` leads on by it
        shows_late=True,
        budget="export",
        pool="zendesk_incremental_export",
        scope="tickets:read",
        forbidden=FOR_ADMINS,
        description="Every update of a ticket, with the fields that changed as child events; comments only as a mark.",
    )
)

INCREMENTAL_USERS = register(
    Stream(
        name="incremental_users",
        path="/api/v2/incremental/users/cursor",
        documentation=EXPORTS,
        items="users",
        paging=CursorExport(),
        page_size=1000,
        identity=("id", "updated_at"),
        event_time="updated_at",
        lists_by_event_time=False,  # by one of the export's own, which may be later, and no record shows it
        shows_late=True,
        budget="user_export",
        pool="zendesk_user_export",
        scope="users:read",
        forbidden=FOR_ADMINS,
        description="Every user who was created or changed, as they were when their window was read; end users too.",
    )
)

INCREMENTAL_ORGANIZATIONS = register(
    Stream(
        name="incremental_organizations",
        path="/api/v2/incremental/organizations",
        documentation=EXPORTS,
        items="organizations",
        paging=TimeExport(),
        page_size=JUST_UNDER_A_FULL_PAGE,
        identity=("id", "updated_at"),
        event_time="updated_at",
        lists_by_event_time=False,  # as users
        shows_late=True,
        budget="export",
        pool="zendesk_incremental_export",
        scope="organizations:read",
        forbidden=FOR_ADMINS,
        description="Every organization that was created or changed, as it was when its window was read.",
    )
)

TICKET_METRIC_EVENTS = register(
    Stream(
        name="ticket_metric_events",
        path="/api/v2/incremental/ticket_metric_events",
        documentation="https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_metric_events/",
        items="ticket_metric_events",
        paging=CursorListFrom(),
        page_size=100,
        identity=("id",),
        event_time="time",
        lists_by_event_time=True,  # in chronological order, says the reference
        shows_late=True,
        budget="export",
        pool="zendesk_incremental_export",
        scope="tickets:read",
        forbidden=FOR_ADMINS,
        description="When the clocks of a ticket's service levels started, paused, were met or were breached.",
    )
)

COLLECTED_BY_DEFAULT = (AUDIT_LOGS.name, INCREMENTAL_TICKETS.name)
"""What RESOURCES names where it is not set."""
