"""What one run delivers: of which stream and windows, where to, and in which form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zendesk_pipeline.delivery.batches import BatchFormat
from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window

REDACTION, REDELIVERY, ACCOUNT = "redaction", "redelivery", "account"
"""What is noted beside an object for a run that finds it without a ledger: see `DeliveryJob.notes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryJob:
    """One run of one stream."""

    stream: Stream
    span: Span
    """The windows to finish."""
    lookback: int
    """Seconds before them whose windows get late records, where they are complete."""
    store: Store
    layout: Layout
    form: BatchFormat
    redeliver: bool
    """Whether to send again what was delivered before this redelivery."""
    clock: Clock
    warn: Callable[[str], object]
    redaction: Redaction | None = None
    account: str = ""
    """The host that the records come from."""
    redelivery: str = ""
    """The first run of the redelivery."""

    @property
    def reach(self) -> Span:
        """The windows to open: those to finish, and those that the run looks back into."""
        return Span(Window.of(self.span.start - self.lookback).start, self.span.end)

    @property
    def notes(self) -> Mapping[str, str]:
        """User metadata of each object: digest of the redaction rules, first run of a redelivery, account."""
        notes = {
            REDACTION: self.redaction.digest if self.redaction else "",
            REDELIVERY: self.redelivery if self.redeliver else "",
            ACCOUNT: self.account,
        }
        return {name: value for name, value in notes.items() if value}
