"""What a run did for one window, in numbers: the metadata of its materialization is made of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zendesk_pipeline.delivery.bucket import RequestCount
from zendesk_pipeline.delivery.ledger import Delivered
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window

MOST_NAMED = 20
"""Malformed records of a window that are named one by one."""
LEFT_OUT_SHARE = 0.01
"""Above this share of the records shown, those left out because of their time are warned of."""


@dataclass(slots=True)
class Tally:
    """What a run did for one window."""

    records: int = 0
    """Delivered by this run: stored, and noted in the ledger."""
    duplicates: int = 0
    """Read, and delivered before."""
    late: int = 0
    """Delivered by this run although the window was complete before."""
    quarantined: int = 0
    """Too long for a line of the feed."""
    redacted: int = 0
    """Records delivered by this run that the redaction rules changed."""
    redactions: Counter[str] = field(default_factory=Counter[str])
    """Values that each rule took away or replaced in them."""
    pages: int = 0
    """Pages that held records of the window."""
    requests: int = 0
    """Requests made while the window was the earliest one under way."""
    waited: float = 0.0
    """Seconds of them spent waiting for the rate limit."""
    first: int | None = None
    """Event time of the first record seen, whether delivered now or before."""
    last: int | None = None
    total: int = 0
    """Records that the window has delivered by now, in all runs."""
    s3: RequestCount = field(default_factory=RequestCount)
    """Requests to S3 for the window; a listing covers a day, and counts for the window that needed it first."""
    bytes: int = 0
    """Of its objects, as stored."""
    raw_bytes: int | None = 0
    """Of their contents before compression; None where a ledger of an older release does not say it."""
    objects: list[str] = field(default_factory=list[str])
    """Their keys."""
    older: int = 0
    """Records shown and not delivered, because they are of a time before what was asked for."""
    ahead: int = 0
    """Records shown and not delivered, because their time is in the future."""
    malformed: int = 0
    """Records shown and not delivered, because they are malformed; each is in quarantine."""
    malformed_ones: list[str] = field(default_factory=list[str])
    """Where the first of them stood, and where they are, as sentences."""
    finished_at: float | None = None
    """Seconds since the epoch; None until every record of the window that this run was shown is in S3."""

    def asked(self, page: Page) -> None:
        """Count what a page has cost, and what of it is left out."""
        self.requests += page.requests
        self.waited += page.waited
        self.older += page.older
        self.ahead += page.ahead

    def saw(self, times: Sequence[int]) -> None:
        """Note the event times of records, at least one."""
        first, last = min(times), max(times)
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)

    def saw_malformed(self, text: str) -> None:
        """Count a malformed record, and name it where there are few."""
        self.malformed += 1
        if len(self.malformed_ones) < MOST_NAMED:
            self.malformed_ones.append(text)

    def holds(self, objects: Sequence[Delivered]) -> None:
        """Note the objects that the window's ledger names now."""
        self.objects = [each.key for each in objects]
        self.bytes = sum(each.bytes for each in objects)
        raw = [each.raw_bytes for each in objects]
        self.raw_bytes = None if None in raw else sum(size or 0 for size in raw)
        self.total = sum(len(each.identities) for each in objects)


def left_out(stream: Stream, span: Span, tallies: Mapping[Window, Tally], shown: int) -> str | None:
    """The warning where many of the records that Zendesk has `shown` were left out because of their time."""
    older = sum(tally.older for tally in tallies.values()) if stream.lists_by_event_time else 0
    ahead = sum(tally.ahead for tally in tallies.values())
    if older + ahead <= LEFT_OUT_SHARE * (shown + ahead):
        return None
    return (
        f"{stream.name} {span}: of {shown + ahead:,} records that Zendesk showed, by their {stream.event_time}"
        f" {older:,} are from before what was asked for and {ahead:,} of the future. They belong to other windows and"
        " were not delivered by this run: collect those windows again if they may be missing there."
    )
