"""The IO manager: pages into the bucket, one materialization a window."""

import gc
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

import dagster as dg
from dagster_aws.s3 import S3Resource
from pydantic import Field, PrivateAttr

from zendesk_pipeline.delivery import account_marker
from zendesk_pipeline.delivery import ledger as ledgers
from zendesk_pipeline.delivery.batches import BatchFormat, content_of, records_in
from zendesk_pipeline.delivery.bucket import RequestCount, Store, prepared
from zendesk_pipeline.delivery.inspection import Inspector, Waiting, feed
from zendesk_pipeline.delivery.ledger import Ledger
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.progress import Progress
from zendesk_pipeline.delivery.window_writer import Delivery, Tally
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import (
    DeliveryError,
    DeniedError,
    GoneError,
    PageLimitError,
    PipelineError,
    RefusedError,
    SettingsError,
)
from zendesk_pipeline.model.records import Page, Record
from zendesk_pipeline.model.redaction import Redaction
from zendesk_pipeline.model.redaction_rules import KEY, redaction
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration import temporary_instance
from zendesk_pipeline.orchestration.long_runs import Reports
from zendesk_pipeline.orchestration.run_history import STAYS, TOOK_BACK
from zendesk_pipeline.orchestration.zendesk_resource import settled
from zendesk_pipeline.settings import aws_errors
from zendesk_pipeline.settings.addresses import wire_host
from zendesk_pipeline.settings.environment import not_set
from zendesk_pipeline.settings.secret_references import resolved
from zendesk_pipeline.zendesk.prefetch import prefetched

Metadata = Mapping[str, Any]

MOST_OBJECTS_LISTED = 100
OBJECTS_A_COLLECTION = 20_000
"""That are new and alive when the garbage collector looks at them; Python's own default is 700."""
READERS = 4
"""Threads that look into the ledgers of windows that a run need not read again."""
RECORDS_AHEAD = 500
"""Read before they are wanted, in whole pages and at least one: small pages come too unevenly for one."""
BYTES_AHEAD = 16 * 1024 * 1024
"""Of the pages that wait and the one in use: while they have more, none is read before it is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageStream:
    """What an asset hands over: a range of windows, and the pages that hold them, not yet asked for."""

    stream: Stream
    span: Span
    lookback: Callable[[Span], int]
    """Seconds before the rest of the span that its pages cover as well."""
    redeliver: bool
    pages: Callable[[Span], Iterator[Page]]
    """Of the rest of the span: without what need not be read again."""
    describe: Callable[[Mapping[Window, Metadata]], None]
    """Takes the metadata of the windows' materializations, of all at once."""
    redelivery: str = ""
    """What a redelivery is called in all runs that it takes."""
    before: Mapping[Window, Metadata] = field(default_factory=dict[Window, Metadata])
    """The windows that the runs which this one continues have finished, and their metadata."""
    goes_on: Callable[[float], object] = lambda _: None
    """Told at the beginning and now and then, with the time, that the run makes progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison of windows with Zendesk has come to."""

    windows: Sequence[Window]
    """Those that hold now, proven, what Zendesk shows."""
    missing: Mapping[Window, Metadata]
    """Those that records were missing in, and their metadata."""
    records: int
    """That Zendesk has shown."""
    pages: int
    whole: bool
    """Whether it came to its end."""
    problem: PipelineError | None
    """What broke it."""


class _GivesWayError(Exception):
    """Somebody waits."""


class S3IOManager(dg.ConfigurableIOManager):
    """Writes records into the feed prefix of a bucket and ledgers into its state prefix.

    The fields are the settings of the same names (`feed_prefix` is S3_PREFIX).
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
    redaction_key: str = Field(
        default="", description="REDACTION_KEY", repr=False, json_schema_extra={"is_secret": True}
    )

    _clock: Clock = PrivateAttr(default_factory=Clock)
    _client: Any = PrivateAttr(default=None)

    def get_resource_definition(self) -> Any:
        """What Dagster makes the IO manager of in a run."""
        return settled(super().get_resource_definition())

    def handle_output(self, context: dg.OutputContext, obj: PageStream) -> None:
        """Deliver every window of the stream's span; raises Failure with one sentence for people.

        Of a range that fails, the windows that were finished are reported as materialized all the same.
        """
        spent = RequestCount()
        try:
            rest = self._rest(obj)
            delivery = self._delivery(obj, rest, context.log.warning)
            claim = self._claim(spent)
            delivery.tallies[Window(rest.start)] = Tally(s3=spent)
        except PipelineError as problem:
            raise _failure(context, problem, f"{obj.stream.name} {obj.span}: nothing was read.") from None
        _warn_of_temporary(context)
        log: Callable[[str], object] = context.log.info
        done = list(Span(obj.span.start, rest.start))
        if done:
            log(
                f"{obj.stream.name}: {Span(done[0].start, rest.start)} was finished by the run that this one continues."
            )
        reports = Reports(clock=self._clock)

        def report() -> None:
            """What is finished by now; the latest window may yet get a record that comes out of order."""
            self._take_back(context, delivery, reports)
            if reports.due:
                self._report(context, obj.stream, delivery, reports.new(delivery.finished[:-1]))
                obj.goes_on(self._clock.now())

        try:
            obj.goes_on(self._clock.now())
            self._deliver(obj, rest, delivery, claim=claim, log=log, report=report)
        except BaseException as problem:
            # Dagster reports a range only when all of it succeeded: report what is done before the failure goes on.
            self._take_back(context, delivery, reports)
            self._report(context, obj.stream, delivery, reports.new(delivery.finished))
            if isinstance(problem, PipelineError):
                raise _failure(context, problem, _what_is_missing(obj, {*done, *delivery.finished})) from None
            raise
        told = {window: self._metadata(obj.stream, window, delivery.tallies[window]) for window in rest}
        obj.describe({**{window: obj.before[window] for window in done}, **told})
        self._report_late(context, obj, rest, delivery)
        _warn_of_temporary(context)

    def compare(
        self, pages: PageStream, *, gives_way: Callable[[], bool], warn: Callable[[str], object]
    ) -> "Comparison":
        """Read windows that were delivered once more, and deliver what they are missing.

        Ends where the pages end, at their bound, or, with a window finished, after a page where `gives_way` says so: a
        walk that came to no end of a window would be in vain.
        """
        read, whole, problem, delivery = 0, False, None, None
        try:
            delivery = self._delivery(pages, pages.span, warn)
            claim = self._claim(RequestCount())
            with delivery, _rarely_collected():
                for page in prefetched(pages.pages(pages.span), size=lambda page: page.size, most=BYTES_AHEAD):
                    if not read:
                        claim()
                    delivery.take(page)
                    page.records.clear()
                    read += 1
                    _end_if(page.more and bool(delivery.finished) and gives_way())
            whole = True
        except (_GivesWayError, PageLimitError):
            pass
        except PipelineError as broken:
            problem = broken
        tallies = (
            {window: delivery.tallies[window] for window in pages.span if window in delivery.tallies}
            if delivery
            else {}
        )
        return Comparison(
            windows=delivery.finished if delivery else [],
            missing={
                window: self._metadata(pages.stream, window, tally)
                for window, tally in tallies.items()
                if tally.records
            },
            records=sum(tally.records + tally.duplicates for tally in tallies.values()),
            pages=read,
            whole=whole,
            problem=problem,
        )

    def without_ledger(self, stream: Stream, windows: Sequence[Window]) -> list[Window]:
        """Of windows that were delivered, those of which no ledger says what was.

        An empty one that is not complete says nothing: a run that may not list makes it where it finds none.
        """
        known = self._ledgers_say(stream, windows, lambda ledger: ledger.complete or bool(ledger.objects))
        return [window for window, is_known in zip(windows, known, strict=True) if not is_known]

    def load_input(self, context: dg.InputContext) -> Iterator[bytes]:
        """The records of the windows asked for, each once, one JSON object each, for assets of your own downstream.

        Raises DeliveryError where a window was never delivered, or the feed has deleted an object after its transfer,
        and for a partition that is no hour.
        """
        stream = STREAMS[context.asset_key.path[-1]]
        for window in map(_hour, context.asset_partition_keys):
            seen: set[str] = set()
            for record in self._delivered(stream, window):
                if record.identity not in seen:
                    seen.add(record.identity)
                    yield record.line

    @property
    def account(self) -> str:
        """The host that the records come from; empty if it is not set."""
        return wire_host(self.zendesk_base_url)

    def claim(self) -> None:
        """Have the prefixes hold this account's records; raises SettingsError where they hold another's."""
        if self.account:
            account_marker.claim(self._store(), self._layout(), self.account)

    def check_account(self) -> None:
        """Raises SettingsError where the prefixes hold another account's records; writes nothing."""
        if self.account:
            account_marker.is_claimed(self._store(), self._layout(), self.account)

    def rules(self, stream: Stream) -> Redaction | None:
        """The rules by which a stream's records are stored; none where they are stored as they are."""
        if not self.redaction_rules:
            return None
        return redaction(stream, self.redaction_rules, resolved(KEY, self.redaction_key))

    def inspector(self, stream: Stream) -> Inspector:
        """Looks at what a stream has in the bucket."""
        return Inspector(stream=stream, store=self._store(), layout=self._layout(), now=self._clock.now())

    def feed(self, *, newest: Iterable[Window], most: int) -> Waiting:
        """A look under the feed prefix."""
        return feed(self._store(), self._layout(), newest=newest, most=most, now=self._clock.now())

    def _delivered(self, stream: Stream, window: Window) -> Iterator[Record]:
        """What the objects hold of a window; a redelivery repeats records, a page of the recipe's has others too."""
        store, layout = self._store(), self._layout()
        stored = store.get(layout.ledger(stream.name, window))
        if stored is None:
            raise DeliveryError(f"{stream.name} {window} was never delivered: materialize it first.")
        for delivered in ledgers.decode(stored.body).objects:
            found = store.get(delivered.key)
            if found is None:
                raise DeliveryError(f"{store.uri(delivered.key)} is gone: the feed deletes what it has read.")
            records = records_in(stream, content_of(delivered.key, found.body))
            yield from (record for record in records if Window.of(record.time) == window)

    def _rest(self, pages: PageStream) -> Span:
        """The span without the first windows that were finished before, as their ledgers say as well."""
        first, candidates = pages.span.start, list(takewhile(pages.before.__contains__, pages.span))
        are_complete = self._ledgers_say(pages.stream, candidates, lambda ledger: ledger.complete)
        complete = sum(1 for _ in takewhile(bool, are_complete))
        return Span(first + complete * HOUR, pages.span.end)

    def _ledgers_say(self, stream: Stream, windows: Iterable[Window], what: Callable[[Ledger], bool]) -> list[bool]:
        """What each window's ledger says; an empty one counts where there is none, or none that can be read."""
        store, layout = self._store(), self._layout()

        def says(window: Window) -> bool:
            empty = ledgers.empty(stream.name, window)
            try:
                stored = store.get(layout.ledger(stream.name, window))
                return what(ledgers.decode(stored.body, empty) if stored else empty)
            except (DeniedError, ValueError):
                return what(empty)

        with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as pool:
            return list(pool.map(says, windows))

    def _claim(self, spent: RequestCount) -> Callable[[], object]:
        """What to do before the first write: nothing, or to claim the prefixes, which are nobody's yet.

        Not before a page is there: at an address that is mistyped there is none, and the right one would be refused.
        Raises SettingsError where the prefixes hold another account's records.
        """
        place = replace(self._store(), spent=spent), self._layout(), self.account
        return (
            (lambda: None)
            if not self.account or account_marker.is_claimed(*place)
            else lambda: account_marker.write(*place)
        )

    def _deliver(
        self,
        pages: PageStream,
        rest: Span,
        delivery: Delivery,
        *,
        claim: Callable[[], object],
        log: Callable[[str], object],
        report: Callable[[], object],
    ) -> None:
        if not len(rest):
            return
        progress = Progress(name=pages.stream.name, span=rest, clock=self._clock, log=log)
        with delivery, _rarely_collected():
            ahead = max(1, RECORDS_AHEAD // pages.stream.page_size)
            for number, page in enumerate(
                prefetched(pages.pages(rest), ahead, size=lambda page: page.size, most=BYTES_AHEAD)
            ):
                if not number:
                    claim()
                delivery.take(page)
                progress.tell(page)
                report()
                page.records.clear()

    def _delivery(self, pages: PageStream, rest: Span, warn: Callable[[str], object]) -> Delivery:
        return Delivery(
            stream=pages.stream,
            span=rest,
            lookback=pages.lookback(rest),
            store=self._store(),
            layout=self._layout(),
            form=BatchFormat(
                items=pages.stream.items,
                envelope=self.output_format == "page",
                compress=self.compression == "gzip",
                limit=self.batch_bytes,
            ),
            redeliver=pages.redeliver,
            clock=self._clock,
            warn=warn,
            redaction=self.rules(pages.stream),
            account=self.account,
            redelivery=pages.redelivery,
        )

    def _store(self) -> Store:
        if not self.bucket:
            raise not_set("S3_BUCKET", "the bucket that the SecOps feed reads")
        if self._client is None:  # which takes a tenth of a second
            self._client = prepared(aws_errors.make_client(self.s3.get_client))
        encryption = {"ServerSideEncryption": self.sse, "SSEKMSKeyId": self.kms_key_id}
        return Store(
            client=self._client,
            bucket=self.bucket,
            encryption={name: value for name, value in encryption.items() if value},
        )

    def _layout(self) -> Layout:
        return Layout(feed=self.feed_prefix, state=self.state_prefix, quarantine=self.quarantine_prefix)

    def _report(
        self, context: dg.OutputContext, stream: Stream, delivery: Delivery, finished: Iterable[Window]
    ) -> None:
        """Materialize windows now, whatever becomes of the run."""
        for window in finished:
            metadata = self._metadata(stream, window, delivery.tallies[window])
            context.log_event(
                dg.AssetMaterialization(context.asset_key, partition=window.partition_key, metadata=metadata)
            )

    def _take_back(self, context: dg.OutputContext, delivery: Delivery, reports: Reports) -> None:
        """Mark the run where windows that it has reported are not finished: Dagster forgets no materialization."""
        if not delivery.in_turn and reports.takes_back():
            context.step_context.instance.add_run_tags(context.run_id, {TOOK_BACK: context.run_id})

    def _report_late(self, context: dg.OutputContext, pages: PageStream, rest: Span, delivery: Delivery) -> None:
        """Records that showed up late belong to windows before those that were read: note them there."""
        for window, tally in delivery.tallies.items():
            if tally.records and window not in rest:
                metadata = self._metadata(pages.stream, window, tally)
                context.log_event(
                    dg.AssetObservation(context.asset_key, partition=window.partition_key, metadata=metadata)
                )

    def _metadata(self, stream: Stream, window: Window, tally: Tally) -> Metadata:
        """What the UI shows of a window."""
        objects = [f"s3://{self.bucket}/{key}" for key in tally.objects]
        times = {"first_record": tally.first, "last_record": tally.last}
        return {
            "records": tally.total,
            "bytes": tally.bytes,
            "object_count": len(objects),
            "delivered_by_this_run": tally.records,
            "duplicates_removed": tally.duplicates,
            "late_arrivals": tally.late,
            "quarantined": tally.quarantined,
            "older_than_asked": tally.older,
            "ahead_of_the_clock": tally.ahead,
            "malformed": tally.malformed,
            **({"malformed_records": dg.MetadataValue.json(tally.malformed_ones)} if tally.malformed else {}),
            **({"redacted_records": tally.redacted, **_redactions(tally)} if self.redaction_rules else {}),
            "pages": tally.pages,
            "requests": tally.requests,
            "s3_puts": tally.s3.put,
            "s3_gets": tally.s3.get,
            "s3_lists": tally.s3.list,
            "rate_limit_wait_seconds": round(tally.waited, 3),
            "lag_seconds": round((tally.finished_at or self._clock.now()) - window.end, 1),
            **{name: dg.MetadataValue.timestamp(float(at)) for name, at in times.items() if at is not None},
            "ledger": f"s3://{self.bucket}/{self._layout().ledger(stream.name, window)}",
            "objects": dg.MetadataValue.json(objects[:MOST_OBJECTS_LISTED]),
        }


def _end_if(waited_for: bool) -> None:  # noqa: FBT001  # it is the whole of what is said
    if waited_for:
        raise _GivesWayError


def _hour(key: str) -> Window:
    if (window := Window.if_hour(key)) is None:
        raise DeliveryError(f"{key} is not on the hour: a window is an hour, named by its beginning.")
    return window


def _redactions(tally: Tally) -> Metadata:
    """What the rules took away or replaced, in sum and by rule."""
    by_rule = dict(sorted(tally.redactions.items()))
    return {"redacted_values": tally.redactions.total(), "redacted_by_rule": dg.MetadataValue.json(by_rule)}


@contextmanager
def _rarely_collected() -> Generator[None]:
    """The garbage collector looks less often: pages are many small objects, and hardly one of them is in a cycle."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_A_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _warn_of_temporary(context: dg.OutputContext) -> None:
    """Before the first record and after the last one, so that it is seen at either end of a long log."""
    if told := temporary_instance.warning(context.step_context.instance):
        context.log.warning(told)


def _failure(context: dg.OutputContext, problem: PipelineError, where: str) -> dg.Failure:
    """What Dagster shows of a failed run: the sentence first, then the windows it means."""
    stays = isinstance(problem, SettingsError | RefusedError | DeniedError)
    if stays:
        context.step_context.instance.add_run_tags(context.run_id, {STAYS: context.run_id})
    return dg.Failure(f"{problem} [{where}]", allow_retries=not (stays or isinstance(problem, GoneError)))


def _what_is_missing(pages: PageStream, finished: Collection[Window]) -> str:
    missing = [window for window in pages.span if window not in finished]
    first = f"; the first that is not: {missing[0]}" if missing and finished else ""
    return f"{pages.stream.name} {pages.span}: {len(finished)} of {len(pages.span)} windows are finished{first}"
