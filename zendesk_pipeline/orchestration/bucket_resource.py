"""The bucket of an account as a Dagster resource: its settings, and what is made of them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, assert_never

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import Field, PrivateAttr

from zendesk_pipeline.delivery import account_marker
from zendesk_pipeline.delivery.batches import BatchFormat
from zendesk_pipeline.delivery.bucket import Store, encryption, prepared
from zendesk_pipeline.delivery.field_catalogue import CatalogueStore, FieldWatch
from zendesk_pipeline.delivery.inspection import Inspector, Waiting, feed, written_after
from zendesk_pipeline.delivery.ledger_store import LedgerStore, of_each
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.redaction_rules import KEY, redaction
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Window
from zendesk_pipeline.orchestration.zendesk_resource import settled
from zendesk_pipeline.settings import aws_errors
from zendesk_pipeline.settings.addresses import wire_host
from zendesk_pipeline.settings.environment import compression_of, new_fields_of, not_set, output_format_of
from zendesk_pipeline.settings.secret_references import resolved


class BucketResource(dg.ConfigurableIOManager):
    """Where records go and in which form. The fields are the settings of the same names (`feed_prefix` is S3_PREFIX).

    Methods that ask S3 raise what `Store` does.
    """

    s3: dg.ResourceDependency[S3Resource]
    zendesk_base_url: str = Field(default="", description="ZENDESK_BASE_URL: whose records the prefixes hold")
    bucket: str = Field(default="", description="S3_BUCKET")
    feed_prefix: str = Field(default="zendesk/crm/", description="S3_PREFIX")
    state_prefix: str = Field(default="zendesk/state/", description="STATE_PREFIX")
    quarantine_prefix: str = Field(default="zendesk/quarantine/", description="QUARANTINE_PREFIX")
    output_format: str = Field(default="ndjson", description="OUTPUT_FORMAT")
    compression: str = Field(default="none", description="COMPRESSION")
    batch_bytes: int = Field(default=8 * 1024 * 1024, description="BATCH_BYTES")
    sse: str | None = Field(default=None, description="S3_SSE")
    kms_key_id: str | None = Field(default=None, description="S3_KMS_KEY_ID")
    redaction_rules: str = Field(default="", description="REDACTION_RULES")
    redaction_new_fields: str = Field(default="tell", description="REDACTION_NEW_FIELDS")
    redaction_key: str = Field(
        default="", description="REDACTION_KEY", repr=False, json_schema_extra={"is_secret": True}
    )

    _clock: Clock = PrivateAttr(default_factory=Clock)
    _client: Any = PrivateAttr(default=None)

    def get_resource_definition(self) -> Any:
        """What Dagster makes the IO manager of in a run."""
        return settled(super().get_resource_definition())

    def store(self) -> Store:
        """The bucket; raises SettingsError where none is set."""
        if not self.bucket:
            raise not_set("S3_BUCKET", "the bucket that the SecOps feed reads")
        if self._client is None:  # which takes a tenth of a second
            self._client = prepared(aws_errors.make_client(self.s3.get_client))
        asked = encryption(self.sse, self.kms_key_id)
        return Store(client=self._client, bucket=self.bucket, encryption=asked)

    @property
    def layout(self) -> Layout:
        """The three prefixes."""
        return Layout(feed=self.feed_prefix, state=self.state_prefix, quarantine=self.quarantine_prefix)

    def form(self, stream: Stream) -> BatchFormat:
        """The form of a stream's objects; raises SettingsError where a setting names none."""
        output_format, compression = output_format_of(self.output_format), compression_of(self.compression)
        match output_format:
            case "ndjson":
                envelope = False
            case "page":
                envelope = True
            case _:
                assert_never(output_format)
        match compression:
            case "none":
                compress = False
            case "gzip":
                compress = True
            case _:
                assert_never(compression)
        return BatchFormat(items=stream.items, envelope=envelope, compress=compress, limit=self.batch_bytes)

    def rules(self, stream: Stream) -> Redaction | None:
        """The rules by which a stream's records are stored; none where they are stored as they are."""
        if not self.redaction_rules:
            return None
        return redaction(stream, self.redaction_rules, resolved(KEY, self.redaction_key))

    def watch(self, stream: Stream, store: Store) -> FieldWatch:
        """What looks out for fields that were never seen before; raises SettingsError where a setting is wrong."""
        return FieldWatch(
            stream=stream,
            catalogues=CatalogueStore(stream=stream.name, store=store, layout=self.layout),
            redaction=self.rules(stream),
            holds=new_fields_of(self.redaction_new_fields) == "hold",
            now=self._clock.now(),
        )

    # What is there

    def ledgers(self, stream: Stream) -> LedgerStore:
        """The ledgers of a stream."""
        return LedgerStore(stream=stream.name, store=self.store(), layout=self.layout)

    def without_ledger(self, stream: Stream, windows: Sequence[Window]) -> list[Window]:
        """Of windows that were delivered, those of which no ledger says what was.

        An empty one that is not complete says nothing: a run without s3:ListBucket writes it where it finds none.
        """
        ledgers = self.ledgers(stream)

        def says_something(window: Window) -> bool:
            ledger = ledgers.readable(window)
            return ledger is not None and (ledger.complete or bool(ledger.objects))

        return [window for window, says in zip(windows, of_each(says_something, windows), strict=True) if not says]

    def inspector(self, stream: Stream) -> Inspector:
        """Reads what a stream has in the bucket."""
        return Inspector(stream=stream, store=self.store(), layout=self.layout, now=self._clock.now())

    def feed(self, *, newest: Iterable[Window], most: int) -> Waiting:
        """What is under the feed prefix."""
        return feed(self.store(), self.layout, newest=newest, most=most, now=self._clock.now())

    def written_after(self, moment: float, windows: Iterable[Window]) -> list[float]:
        """When batches were written, of the days of some windows: those after a moment, the oldest first."""
        return written_after(self.store(), self.layout, moment, windows)

    # Whose it is

    @property
    def account(self) -> str:
        """The host that the records come from; empty if it is not set."""
        return wire_host(self.zendesk_base_url)

    def check_account(self) -> None:
        """Raises SettingsError where the prefixes hold another account's records; writes nothing."""
        if self.account:
            account_marker.is_claimed(self.store(), self.layout, self.account)

    def claim(self) -> None:
        """Have the prefixes hold this account's records; raises SettingsError where they hold another's."""
        self.claims(self.store())()

    def claims(self, store: Store) -> Callable[[], object]:
        """What to do before the first write: nothing, or to claim the prefixes, which are nobody's yet.

        Not before a page is there: at an address that is mistyped there is none, and the right one would be refused.
        Raises SettingsError where the prefixes hold another account's records.
        """
        place = store, self.layout, self.account
        if not self.account or account_marker.is_claimed(*place):
            return lambda: None
        return lambda: account_marker.write(*place)
