"""What S3 holds against what the source has: the check that every test of the promise ends with."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from zendesk_pipeline.delivery.batches import content_of, records_in
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline.local.simulator.control import SimulatorControl
from zendesk_pipeline.model.records import record_reader
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.model.windows import Span


@dataclass(frozen=True, slots=True)
class Verdict:
    """`source` and `delivered` count records; the others have to be 0."""

    source: int
    delivered: int
    missing: int
    """Shown by the source now, and not in S3 byte for byte."""
    repeated: int
    """Copies of an identity beyond the first."""
    foreign: int
    """In S3 in a window they do not belong to, or never at the source."""

    @property
    def exact(self) -> bool:
        return not (self.missing or self.repeated or self.foreign)


def delivered(s3: LocalS3, layout: Layout, stream: str, span: Span) -> dict[str, list[bytes]]:
    """The lines of every object of the stream under the feed prefix, by key, in windows of the span."""
    client = s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=layout.feed)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    wanted = {key for window in span for key in keys if layout.sequence(key, stream, window) is not None}
    bodies = {key: client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() for key in sorted(wanted)}
    return {
        key: [record.line for record in records_in(STREAMS[stream], content_of(key, body))]
        for key, body in bodies.items()
    }


def reconcile(
    control: SimulatorControl,
    s3: LocalS3,
    layout: Layout,
    stream: str,
    span: Span,
    stored_as: Callable[[bytes], bytes] = bytes,
) -> Verdict:
    """Every identity of the span in S3 exactly once, bytes equal to those the record is to be stored as."""
    record_of = record_reader(STREAMS[stream])
    lines = [line for content in delivered(s3, layout, stream, span).values() for line in content]
    now = set(map(stored_as, control.source(stream, span.start, span.end)))
    ever = set(map(stored_as, control.source(stream, span.start, span.end, ever=True)))
    identities = Counter(record_of(line).identity for line in lines)
    return Verdict(
        source=len(now),
        delivered=len(lines),
        missing=len(now - set(lines)),
        repeated=sum(identities.values()) - len(identities),
        foreign=len(set(lines) - ever),
    )
