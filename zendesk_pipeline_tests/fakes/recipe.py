"""Google's recipe as it behaves: an hourly Lambda function, run here against the simulated Zendesk and a real bucket.

What it does wrong is what moving over has to cope with: keys of a second's resolution, so that two pages of the same
second overwrite each other; audit logs from the newest page on whenever the last run came to the end; a ticket export
that looks for `links.next`, which is not there, and so ends with its first page; and its state inside the feed prefix.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import requests

from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline.model.windows import HOUR

MAX_PAGES = 20
LOOKBACK_SECONDS = 3600
RESOURCES = ("audit_logs", "incremental_tickets")


@dataclass(slots=True, kw_only=True)
class Recipe:
    """The function, its clock, and what it has written."""

    zendesk: SimulatedZendesk
    s3: LocalS3
    prefix: str
    seconds_a_page: float = 0.4
    now: float = 0.0
    """Seconds since the epoch."""
    written: list[str] = field(default_factory=list[str])
    """The key of each write, those that were overwritten among them."""
    client: Any = field(init=False)
    """Of S3: one, as a Lambda function that stays warm has."""

    def __post_init__(self) -> None:
        self.client = self.s3.client()

    def run_hourly(self, start: int, end: int, *, minute: int = 10) -> None:
        """As often as an EventBridge rule starts it between two times."""
        for hour in range(start, end, HOUR):
            self.run(hour + minute * 60)

    def run(self, now: int) -> None:
        """One invocation at a time of day."""
        self.now = now
        self.zendesk.control.set_clock(now)
        state = self._state()
        for resource in RESOURCES:
            collect = {"audit_logs": self._audit_logs, "incremental_tickets": self._tickets}[resource]
            state[resource] = collect(state.get(resource, {}))
        self._put(self.state_key, state)

    @property
    def state_key(self) -> str:
        return f"{self.prefix}state.json"

    def _audit_logs(self, state: Mapping[str, Any]) -> dict[str, Any]:
        following = state.get("next_page") or f"{self.zendesk.url}/api/v2/audit_logs"
        for _ in range(MAX_PAGES):
            page = self._get(following)
            self._put_page("audit_logs", page)
            following = page.get("next_page")
            if not following:
                break
        return {"next_page": following}

    def _tickets(self, state: Mapping[str, Any]) -> dict[str, Any]:
        start = int(self.now) - LOOKBACK_SECONDS
        following = state.get("next") or f"{self.zendesk.url}/api/v2/incremental/tickets/cursor?start_time={start}"
        for _ in range(MAX_PAGES):
            page = self._get(following)
            self._put_page("incremental_tickets", page)
            following = page.get("links", {}).get("next")
            if not following:
                break
        return {"next": following}

    def _get(self, url: str) -> dict[str, Any]:
        environment = self.zendesk.environment
        user = (f"{environment['ZENDESK_EMAIL']}/token", environment["ZENDESK_API_TOKEN"])
        answer = requests.get(url, auth=user, timeout=60)
        answer.raise_for_status()
        self.now += self.seconds_a_page
        return answer.json()

    def _put_page(self, resource: str, page: dict[str, Any]) -> None:
        moment = datetime.fromtimestamp(int(self.now), UTC)
        key = f"{self.prefix}{moment:%Y/%m/%d/%H%M%S}-zendesk-{resource}.json"
        self.written.append(key)
        self._put(key, page)

    def _put(self, key: str, content: dict[str, Any]) -> None:
        body = json.dumps(content, separators=(",", ":")).encode()
        self.client.put_object(Bucket=self.s3.bucket, Key=key, Body=body, ContentType="application/json")

    def _state(self) -> dict[str, Any]:
        try:
            return json.loads(self.client.get_object(Bucket=self.s3.bucket, Key=self.state_key)["Body"].read())
        except self.client.exceptions.NoSuchKey:
            return {}
