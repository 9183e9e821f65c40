"""Which of Zendesk's rate limits a request counts against, and how much of each is ours.

https://developer.zendesk.com/api-reference/introduction/rate-limits/
"""

from dataclasses import dataclass
from typing import Literal, assert_never, get_args

Budget = Literal["account", "export", "user_export", "access_logs"]
"""Which of Zendesk's rate limits a request counts against."""
BUDGETS: tuple[Budget, ...] = get_args(Budget)
ACCOUNT_RATE = 700
"""Requests a minute of Zendesk's Enterprise plan, the smallest one that has audit logs; headers tell the account's."""
EXPORT_RATE, HIGH_VOLUME_EXPORT_RATE = 10, 30
"""Requests a minute to all incremental exports, without and with the High Volume add-on. No header tells them."""
USER_EXPORT_RATE = 20
"""Requests a minute to the export of users by cursor, apart from the other exports since 2025-06-27.

https://developer.zendesk.com/api-reference/ticketing/ticket-management/incremental_exports/
"""
ACCESS_LOG_RATE = 50
"""Requests a minute to the access logs. No header tells it.

https://developer.zendesk.com/api-reference/ticketing/account-configuration/access_logs/
"""
SHARE = 0.5
"""The part of limits that others use too which the collector takes, where nothing else is chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Requests a minute of each budget: what Zendesk allows, and how much of it is ours."""

    account: float = ACCOUNT_RATE
    export: float = EXPORT_RATE
    """Ours as a whole: no other integration is expected to export."""
    share: float = SHARE

    def ours(self, budget: Budget) -> float:
        """Requests a minute that the collector may send against a budget."""
        match budget:
            case "account":
                return self.account * self.share
            case "export":
                return self.export
            case "user_export":
                return USER_EXPORT_RATE  # no other integration is expected to export users either
            case "access_logs":
                return ACCESS_LOG_RATE * self.share
            case _:
                assert_never(budget)


def in_words(budget: Budget) -> str:
    """What Zendesk allows of a budget, for people."""
    match budget:
        case "account":
            return "the account's own (429 and headers)"
        case "export":
            return f"{EXPORT_RATE} or {HIGH_VOLUME_EXPORT_RATE} requests a minute, for all other exports together"
        case "user_export":
            return f"{USER_EXPORT_RATE} requests a minute, for the users alone"
        case "access_logs":
            return f"{ACCESS_LOG_RATE} requests a minute, of its own"
        case _:
            assert_never(budget)
