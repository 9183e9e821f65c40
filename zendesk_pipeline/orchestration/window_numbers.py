"""What the windows of an asset hold, in numbers: by the metadata of their materializations and observations.

A window is reported more than once: early and at its end by a long run, again by a later run, and as an observation
where records showed up late. The bucket is not asked.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import dagster as dg

from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.model.windows import Span, Window
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.catch_up import settled

MOST_REPORTS = 20
"""Events read for each window, the newest."""
DAY_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowNumbers:
    """Of one window, or of several together."""

    records: int = 0
    """Delivered, in all runs."""
    bytes: int = 0
    """Of its objects, as stored."""
    late: int = 0
    """Of the records, those delivered when the window was whole already."""
    quarantined: int = 0
    """Too long for a line of the feed: shortened there, and whole in quarantine."""
    malformed: int = 0
    """Shown, and not delivered because they are malformed."""
    ahead: int = 0
    """Shown, and not delivered because their time is in the future."""


def last_day(account: Account, stream: Stream, now: float) -> Span:
    """The last 24 windows that have to be there by now; fewer where the stream has begun later."""
    return settled(account.first_of(stream, now).start, now - account.delay, DAY_HOURS)


def numbers(
    instance: dg.DagsterInstance, key: dg.AssetKey, windows: Collection[Window]
) -> Mapping[Window, WindowNumbers]:
    """The numbers of each of these windows that is delivered whole; two statements."""
    if not windows:
        return {}
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[window.partition_key for window in windows])
    most = MOST_REPORTS * len(windows)
    delivered = instance.fetch_materializations(wanted, limit=most).records
    observed = instance.fetch_observations(wanted, limit=most).records
    whole = {record.partition_key for record in delivered}
    reports: dict[str, list[dg.EventLogRecord]] = {}
    for record in sorted((*delivered, *observed), key=lambda record: record.storage_id, reverse=True):
        if record.partition_key in whole:
            reports.setdefault(record.partition_key or "", []).append(record)
    return {window: _of(each) for name, each in reports.items() if (window := Window.if_hour(name))}


def together(found: Iterable[WindowNumbers]) -> WindowNumbers:
    """The sum of several windows."""
    every = list(found)
    return WindowNumbers(**{each.name: sum(getattr(one, each.name) for one in every) for each in fields(WindowNumbers)})


def _of(reports: Sequence[dg.EventLogRecord]) -> WindowNumbers:
    """Of a window by all that is reported of it, the newest first; a run's last word of it counts."""
    values = [_metadata(record) for record in reports]
    runs = {record.run_id: each for record, each in reversed([*zip(reports, values, strict=True)])}
    newest = next((each for each in values if "records" in each), values[-1])

    def of_runs(name: str) -> list[int]:
        return [each.get(name, 0) for each in runs.values()]

    return WindowNumbers(
        records=newest.get("records", 0),
        bytes=newest.get("bytes", 0),
        late=sum(of_runs("late_arrivals")),
        quarantined=sum(of_runs("quarantined")),
        malformed=max(of_runs("malformed")),  # each run is shown them again
        ahead=max(of_runs("ahead_of_the_clock")),
    )


def _metadata(record: dg.EventLogRecord) -> Mapping[str, int]:
    event = record.asset_materialization or record.asset_observation
    entries = event.metadata.items() if event else ()
    return {name: entry.value or 0 for name, entry in entries if isinstance(entry, dg.IntMetadataValue)}
