"""Whether SecOps has ingested as much as was delivered, by its own counts. Pure.

A count begins at some moment and goes on for a week at most. SecOps counts by the time of ingestion, so windows are
compared all together and not one by one: what was delivered longer ago than the patience has to be there (less is a
loss, or a feed that stands still), and no more than was delivered at all (more is a second feed, or a second reading).
What is under way can hide a loss of as many records until a quiet hour comes; it never makes a loss of none.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from zendesk_pipeline.model.windows import DAY, HOUR
from zendesk_pipeline.secops.counts import Parsing
from zendesk_pipeline.secops.feed_model import Feed, overlapping, prefix_of
from zendesk_pipeline.secops.feed_watch import Finding, of_the_type, reading
from zendesk_pipeline.secops.instance import LOG_TYPE
from zendesk_pipeline.settings.programs import ours

LONGEST = 7 * DAY
"""Seconds after which a count begins anew: a hundredth of a year would hide a day."""
MOST_PATIENCE = DAY
"""Seconds; a longer ALERT_STALE_HOURS does not make the count wait longer."""
OVER = DAY
"""Seconds in which a difference has not grown, from which on its cause is over: then the count begins anew."""
SHARE = 0.01
"""Of what was delivered: a smaller difference is none, since SecOps reads at least once."""
FEWEST = 10
"""Logs: nor is a difference of so few."""
SEEN_TWICE = 2
"""Looks in a row that have to see more than was delivered: an object is written before its ledger is."""
UNPARSED = 0.05
"""The share of logs that are not parsed, from which on it is told."""
FEWEST_PARSED = 20
"""Logs that say something of the share."""
MOST_WAITS = 48
"""Looks that a count waits for a feed that reads what was there before it."""


Wrong = Literal["", "less", "more"]
"""What is wrong with a count, if anything."""


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """Logs that were delivered at about one time, seconds since the epoch."""

    at: float
    logs: int


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of a count between two looks. Times are seconds since the epoch."""

    start: float
    feeds: list[str]
    """The ids of the feeds that it is about."""
    before: int
    """Logs delivered so shortly before the start that SecOps may have counted them after it."""
    delivered: int = 0
    """Logs, since the start."""
    recent: list[Batch] = []
    """Those of them that were delivered so recently that SecOps need not have them yet."""
    excesses: int = 0
    """Looks in a row that have seen more than was delivered."""
    wrong: Wrong = ""
    worst: int = 0
    """The largest difference that was seen of it."""
    worst_at: float = 0
    """When it was seen first."""
    worst_due: int = 0
    """What SecOps had to have by then."""

    def adds(self, new: Sequence[Batch], patience: float, now: float) -> "Count":
        """The same after more was delivered."""
        recent = [each for each in (*self.recent, *new) if each.at > now - patience]
        return msgspec.structs.replace(
            self, delivered=self.delivered + sum(each.logs for each in new), recent=_by_minute(recent)
        )

    @property
    def due(self) -> int:
        """Logs that SecOps has to have by now."""
        return self.delivered - sum(each.logs for each in self.recent)

    def age(self, now: float) -> float:
        return now - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a look has found."""

    count: Count | None
    """What the next look goes on from; None where a count is to begin anew."""
    findings: Sequence[Finding]


def patience_of(stale_hours: float) -> float:
    """Seconds that SecOps has for what is delivered."""
    return min(stale_hours * HOUR, MOST_PATIENCE)


def feeds_to_count(uri: str, feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds whose logs of the type are those under `uri` and no others; none where no such feed reads all of it.

    A feed that reads more than `uri` counts the logs of others too.
    """
    prefix = prefix_of(uri)
    if not any(prefix_of(feed.uri) == prefix for feed in reading(uri, feeds)):
        return []
    return [feed for feed in overlapping(uri, of_the_type(feeds)) if prefix_of(feed.uri).startswith(prefix)]


def of_feeds(by_feed: Mapping[str, int], ids: Collection[str], feeds: Sequence[Feed]) -> int | None:
    """Logs of some feeds; None where SecOps does not tell feeds apart and there are others of the type."""
    if any(by_feed) or not by_feed:
        return sum(by_feed.get(each, 0) for each in ids)
    others = [feed for feed in of_the_type(feeds) if feed.feed_id not in ids and feed.state != "INACTIVE"]
    return None if others else by_feed[""]


def judged(count: Count, ingested: int, *, unit: str, now: float) -> Judged:
    """What the numbers say after deliveries were added; `unit` is what a log is: records, or pages."""
    tolerance = _tolerance(count.delivered)
    missing, excess = count.due - ingested, ingested - count.delivered - count.before
    excesses = count.excesses + 1 if excess > tolerance else 0
    count = msgspec.structs.replace(count, excesses=excesses)
    wrong, size = count.wrong, excess if count.wrong == "more" else missing
    if missing > tolerance:
        wrong, size = "less", missing
    elif excesses >= SEEN_TWICE:
        wrong, size = "more", excess
    elif _is_solved(count, ingested, excess):
        wrong, size = "", 0
    if wrong != count.wrong or size > count.worst + tolerance:
        count = msgspec.structs.replace(count, wrong=wrong, worst=size, worst_at=now, worst_due=count.due)
    is_over = (
        wrong != "" and now - count.worst_at >= OVER and (wrong == "more" or count.due > count.worst_due + tolerance)
    )
    found: list[Finding] = []
    if wrong == "less" and not is_over:
        short = missing if missing > tolerance else min(count.worst, count.delivered - ingested)
        found = [_less(short, count.delivered, unit, since=count.start)]
    elif wrong == "more" and not is_over:
        found = [_more(ingested, count.delivered, unit, since=count.start)]
    return Judged(count=None if is_over or count.age(now) >= LONGEST else count, findings=found)


def _is_solved(count: Count, ingested: int, excess: int) -> bool:
    """Whether what was wrong has become less than half: records under way hide a difference in busy hours."""
    left = count.delivered - ingested if count.wrong == "less" else excess
    return left < count.worst / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Eve:
    """What is known before a count begins, of twice the patience."""

    since: float
    ingested: int
    due: int
    """Logs of windows that were delivered in the first half of it."""
    most: int
    """Logs delivered in it, or in the patience before it."""

    def less(self, unit: str) -> list[Finding]:
        """The feed stands still already."""
        short = self.due - self.ingested
        return [_less(short, self.due, unit, since=self.since)] if short > _tolerance(self.due) else []

    @property
    def reads_older(self) -> bool:
        """Whether the feed reads what was delivered long before: a new one reads all that is stored."""
        return self.ingested - self.most > _tolerance(self.most)


def unparsed(parsing: Parsing, hours: int) -> Iterator[Finding]:
    """Logs that SecOps ingests and does not understand, of the last hours."""
    if parsing.logs >= FEWEST_PARSED and parsing.share >= UNPARSED:
        yield Finding(
            f"SecOps could not parse {parsing.failed:,} of the {parsing.logs:,} logs of the type {LOG_TYPE} that it"
            f" ingested in the last {hours} hours ({parsing.share:.0%})",
            f"they are stored there and no rule sees them. {ours('parser-check')} shows what its parser makes"
            " of records",
        )


def _less(short: int, delivered: int, unit: str, *, since: float) -> Finding:
    return Finding(
        f"SecOps has not ingested {short:,} of the {delivered:,} {unit} that were delivered since {_moment(since)}, by"
        " its own count",
        f"see whether the feed works ({ours('feed show')}). S3 keeps them, and SecOps reads them later as long as they"
        " are younger than the feed's maximum file age. What it has passed over has to be sent again"
        " (docs/operations.md, Send records again)",
        stops=True,
    )


def _more(ingested: int, delivered: int, unit: str, *, since: float) -> Finding:
    return Finding(
        f"SecOps has ingested {ingested:,} {unit} since {_moment(since)}, and {delivered:,} were delivered, so some are"
        " there twice",
        f"see whether a second feed reads the prefix ({ours('feed show')}) and disable it, or whether a feed was made"
        " anew and reads all again (docs/feed.md, What makes SecOps read again)",
    )


def _tolerance(delivered: int) -> float:
    return max(SHARE * delivered, FEWEST)


def _by_minute(batches: Sequence[Batch]) -> list[Batch]:
    """The same in fewer: a backfill writes many ledgers a minute."""
    minutes: dict[int, Batch] = {}
    for each in batches:
        minute = int(each.at // 60)
        there = minutes.get(minute)
        minutes[minute] = Batch(max(each.at, there.at), each.logs + there.logs) if there else each
    return [minutes[minute] for minute in sorted(minutes)]


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
