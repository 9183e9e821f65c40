"""Objects that a crash left: they are in the feed under a name of ours, and no ledger names them yet."""

from collections.abc import Collection
from dataclasses import dataclass, field
from threading import Lock

from zendesk_pipeline.delivery.batches import content_of, encode, examined
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.delivery_job import ACCOUNT, REDACTION, REDELIVERY, DeliveryJob
from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.model.errors import DeniedError
from zendesk_pipeline.model.windows import Window

MAY_REPEAT = "Without it a crash between two writes can repeat a batch."


@dataclass(frozen=True, slots=True)
class UnnamedObjects:
    """Finds them for one run. `store` counts the requests for the window."""

    job: DeliveryJob
    _days: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """The keys of the feed, by day."""
    _listing: Lock = field(default_factory=Lock)

    def listed(self, store: Store, window: Window) -> list[str]:
        """The keys of the window's objects, as they were when its day was listed first."""
        layout, name = self.job.layout, self.job.stream.name
        day = layout.day(window)
        with self._listing:
            if day not in self._days:
                try:
                    self._days[day] = store.keys(day)
                except DeniedError as denied:
                    self._days[day] = []
                    self.job.warn(f"{denied} {MAY_REPEAT}")
            return [key for key in self._days[day] if layout.sequence(key, name, window) is not None]

    def of(self, store: Store, window: Window, named: Collection[str]) -> list[Delivered]:
        """The window's objects beyond those `named`: their lines are delivered."""
        found = (self._adopted(store, window, key) for key in self.listed(store, window) if key not in named)
        return [*filter(None, found)]

    def _adopted(self, store: Store, window: Window, key: str) -> Delivered | None:
        """An object as a ledger names it; None, with a warning, where it is not ours or may not be read."""
        job = self.job
        try:
            stored = store.get(key)
        except DeniedError as denied:
            job.warn(f"{denied} {MAY_REPEAT}")
            return None
        if stored is None:
            return None
        account = stored.notes.get(ACCOUNT, "")
        if account and account != (job.account or account):
            job.warn(
                f"{store.uri(key)} holds records of {account}: it counts for nothing here. Give each account prefixes"
                " of its own (S3_PREFIX, STATE_PREFIX, QUARANTINE_PREFIX)."
            )
            return None
        found = examined(job.stream, window, key, stored.body)
        if found.flaws:
            job.warn(
                f"{store.uri(key)} has a name of ours and is not ours: it {' and '.join(found.flaws)}. It counts for"
                " nothing here, and SecOps reads it all the same: see who wrote it, and move it out of the feed."
            )
            return None
        content = content_of(key, stored.body)
        return Delivered(
            key=key,
            sha256=encode(content, compress=False).sha256,
            bytes=len(stored.body),
            content_bytes=len(content) if key.endswith(".gz") else 0,
            identities=found.identities,
            redaction=stored.notes.get(REDACTION, ""),  # of the run that wrote it
            redelivery=stored.notes.get(REDELIVERY, ""),
        )
