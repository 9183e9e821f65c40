"""What a window has delivered, read back from the feed."""

from collections.abc import Iterator

from zendesk_pipeline.delivery.batches import content_of, records_in
from zendesk_pipeline.delivery.ledger_store import LedgerStore
from zendesk_pipeline.model.errors import DeliveryError
from zendesk_pipeline.model.records import Record
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Window


def delivered_records(stream: Stream, window: Window, ledgers: LedgerStore) -> Iterator[Record]:
    """A window's records, each once: a redelivery repeats them, and a page of the recipe's has those of others too.

    Raises DeliveryError where the window was never delivered, or the feed has deleted an object after its transfer.
    """
    stored, seen = ledgers.read(window), set[str]()
    if not stored.version:
        raise DeliveryError(f"{stream.name} {window} was never delivered: materialize it first.")
    for each in stored.ledger.objects:
        found = ledgers.store.get(each.key)
        if found is None:
            raise DeliveryError(f"{ledgers.store.uri(each.key)} is gone: the feed deletes what it has read.")
        for record in records_in(stream, content_of(each.key, found.body)):
            if Window.of(record.time) == window and record.identity not in seen:
                seen.add(record.identity)
                yield record
