"""The IO manager: pages into the bucket, one materialization a window."""

import gc
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import dagster as dg

from zendesk_pipeline.delivery.delivery_job import DeliveryJob
from zendesk_pipeline.delivery.field_catalogue import FieldWatch
from zendesk_pipeline.delivery.inspection import NEW_FIELDS, UNRULED_FIELDS
from zendesk_pipeline.delivery.ledger_store import of_each
from zendesk_pipeline.delivery.progress import ProgressLog
from zendesk_pipeline.delivery.tally import Tally
from zendesk_pipeline.delivery.window_reader import delivered_records
from zendesk_pipeline.delivery.window_writer import Delivery
from zendesk_pipeline.model.errors import (
    DeliveryError,
    DeniedError,
    GoneError,
    PipelineError,
    RefusedError,
    SettingsError,
)
from zendesk_pipeline.model.records import Page
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline.orchestration import temporary_instance
from zendesk_pipeline.orchestration.bucket_resource import BucketResource
from zendesk_pipeline.orchestration.long_runs import Reports
from zendesk_pipeline.orchestration.run_history import STAYS, TOOK_BACK
from zendesk_pipeline.orchestration.window_metadata import Metadata, window_metadata
from zendesk_pipeline.zendesk.prefetch import prefetched

RECORDS_AHEAD = 500
"""Read before they are wanted, in whole pages and at least one: small pages come too unevenly for one."""
BYTES_AHEAD = 16 * 1024 * 1024
"""Of the pages that wait and the one in use: while they have more, none is read before it is wanted."""
NOT_NOTED = "Which fields were seen for the first time could not be noted: %s"
OBJECTS_A_COLLECTION = 20_000
"""Threshold 0 of the garbage collector while pages are read; Python's own default is 700."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageStream:
    """What an asset hands over: a range of windows, and the pages that hold them, not yet asked for."""

    stream: Stream
    span: Span
    lookback: Callable[[Span], int]
    """Seconds before the rest of the span that its pages cover as well."""
    redeliver: bool
    pages: Callable[[Span], Iterator[Page]]
    """Gives the pages of the rest of the span, whose first windows may be finished already."""
    describe: Callable[[Mapping[Window, Metadata]], None]
    """Takes the metadata of the windows' materializations, of all at once."""
    redelivery: str = ""
    """What a redelivery is called in all runs that it takes."""
    before: Mapping[Window, Metadata] = field(default_factory=dict[Window, Metadata])
    """The windows that the runs which this one continues have finished, and their metadata."""
    goes_on: Callable[[float], object] = lambda _: None
    """Called at the beginning and now and then, with the time, while the run makes progress."""


class S3IOManager(BucketResource):
    """Writes records into the feed prefix of a bucket and ledgers into its state prefix."""

    def handle_output(self, context: dg.OutputContext, obj: PageStream) -> None:
        """Deliver every window of the stream's span; raises Failure with one sentence for people.

        Of a range that fails, the windows that were finished are reported as materialized all the same.
        """
        try:
            rest = self._rest(obj)
            delivery = self.delivery(obj, rest, context.log.warning)
            store = delivery.store_for(Window(rest.start))
            claim, watch = self.claims(store), self.watch(obj.stream, store)
            watch.begin()
        except PipelineError as problem:
            raise _failure(context, problem, f"{obj.stream.name} {obj.span}: nothing was read.") from None
        _warn_of_temporary(context)
        log: Callable[[str], object] = context.log.info
        done = list(Span(obj.span.start, rest.start))
        if done:
            before = Span(done[0].start, rest.start)
            log(f"{obj.stream.name}: {before} was finished by the run that this one continues.")
        reports = Reports(clock=self._clock)
        progress = ProgressLog(name=obj.stream.name, span=rest, clock=self._clock, log=log)
        try:
            obj.goes_on(self._clock.now())
            with delivery, rarely_collected():
                ahead = max(1, RECORDS_AHEAD // obj.stream.page_size)
                pages = obj.pages(rest) if len(rest) else iter(())
                for page in delivered(delivery, pages, claim, ahead, watch.look):
                    progress.count(page)
                    self._take_back(context, delivery, reports)
                    if reports.due:  # but for the latest window, which may yet get a record that comes out of order
                        self._report(context, obj.stream, delivery, reports.new(delivery.finished[:-1]))
                        obj.goes_on(self._clock.now())
        except BaseException as problem:
            # Dagster reports a range only when all of it succeeded: report what is done before the failure goes on.
            self._take_back(context, delivery, reports)
            self._report(context, obj.stream, delivery, reports.new(delivery.finished))
            note_unruled(watch, context.log.warning)
            if isinstance(problem, PipelineError):
                raise _failure(context, problem, _what_is_missing(obj, {*done, *delivery.finished})) from None
            raise
        seen = _note(context, watch, rest)
        finished = {
            window: {**self.metadata(obj.stream, window, delivery.tallies[window]), **seen.get(window, {})}
            for window in rest
        }
        obj.describe({**{window: obj.before[window] for window in done}, **finished})
        self._report_late(context, obj, rest, delivery)
        _warn_of_temporary(context)

    def load_input(self, context: dg.InputContext) -> Iterator[bytes]:
        """The records of the windows asked for, each once, one JSON object each, for assets of your own downstream.

        Raises DeliveryError where a window was never delivered, or the feed has deleted an object after its transfer,
        and for a partition that is no hour.
        """
        stream = STREAMS[context.asset_key.path[-1]]
        for window in map(_hour, context.asset_partition_keys):
            for record in delivered_records(stream, window, self.ledgers(stream)):
                yield record.line

    def delivery(self, pages: PageStream, span: Span, warn: Callable[[str], object]) -> Delivery:
        """The delivery of a part of a stream's span."""
        job = DeliveryJob(
            stream=pages.stream,
            span=span,
            lookback=pages.lookback(span),
            store=self.store(),
            layout=self.layout,
            form=self.form(pages.stream),
            redeliver=pages.redeliver,
            clock=self._clock,
            warn=warn,
            redaction=self.rules(pages.stream),
            account=self.account,
            redelivery=pages.redelivery,
        )
        return Delivery(job)

    def metadata(self, stream: Stream, window: Window, tally: Tally) -> Metadata:
        """What the UI shows of a window."""
        ledger, redacted = self.layout.ledger(stream.name, window), bool(self.redaction_rules)
        now = self._clock.now()
        return window_metadata(window, tally, bucket=self.bucket, ledger=ledger, redacted=redacted, now=now)

    def _rest(self, pages: PageStream) -> Span:
        """The span without the first windows that were finished before, as their ledgers say as well."""
        first, ledgers = pages.span.start, self.ledgers(pages.stream)
        candidates = takewhile(pages.before.__contains__, pages.span)
        are_complete = of_each(lambda window: (found := ledgers.readable(window)) and found.complete, candidates)
        complete = sum(1 for _ in takewhile(bool, are_complete))
        return Span(first + complete * HOUR, pages.span.end)

    def _report(
        self, context: dg.OutputContext, stream: Stream, delivery: Delivery, finished: Iterable[Window]
    ) -> None:
        """Materialize windows now, whatever becomes of the run."""
        for window in finished:
            metadata = self.metadata(stream, window, delivery.tallies[window])
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
                metadata = self.metadata(pages.stream, window, tally)
                context.log_event(
                    dg.AssetObservation(context.asset_key, partition=window.partition_key, metadata=metadata)
                )


def delivered(
    delivery: Delivery,
    pages: Iterable[Page],
    claim: Callable[[], object],
    ahead: int = 1,
    look: Callable[[Page], object] = lambda _: None,
) -> Iterator[Page]:
    """Each page once its records are delivered; it keeps them until the next page is asked for.

    Before that, `look` may raise. The prefixes are claimed once the first page is there; some pages are read ahead, in
    a thread of their own.
    """
    for number, page in enumerate(prefetched(pages, ahead, size=lambda page: page.size, most=BYTES_AHEAD)):
        if not number:
            claim()
        look(page)
        delivery.take(page)
        yield page
        page.records.clear()


@contextmanager
def rarely_collected() -> Generator[None]:
    """The garbage collector runs less often: pages are many small objects, and hardly one of them is in a cycle."""
    before = gc.get_threshold()
    gc.set_threshold(OBJECTS_A_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _hour(key: str) -> Window:
    if (window := Window.if_hour(key)) is None:
        raise DeliveryError(f"{key} is not on the hour: a window is an hour, named by its beginning.")
    return window


def _warn_of_temporary(context: dg.OutputContext) -> None:
    """Before the first record and after the last one, so that it is seen at either end of a long log."""
    if warning := temporary_instance.warning(context.step_context.instance):
        context.log.warning(warning)


def note_unruled(watch: FieldWatch, warn: Callable[..., object]) -> None:
    """Write down which fields no redaction rule speaks of, where nobody would see what else is new."""
    try:
        watch.note_unruled()
    except PipelineError as problem:
        warn(NOT_NOTED, problem)


def _note(context: dg.OutputContext, watch: FieldWatch, span: Span) -> Mapping[Window, Metadata]:
    """Write down what was seen, and what of it the windows' metadata tell; no run fails for it."""
    try:
        noted = watch.note()
    except PipelineError as problem:
        context.log.warning(NOT_NOTED, problem)
        return {}
    told: dict[Window, dict[str, Any]] = {}
    for window, names in noted.new.items():  # of what came late, the first window that is read tells
        first = told.setdefault(window if window in span else Window(span.start), {})
        first[NEW_FIELDS] = dg.MetadataValue.json([*first[NEW_FIELDS].data, *names] if first else names)
    if noted.unruled:
        told.setdefault(Window(span.end - HOUR), {})[UNRULED_FIELDS] = dg.MetadataValue.json(noted.unruled)
    return told


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
