"""The facts as metrics, named as OpenMetrics wants it: with units, and none called a counter that can fall.

https://prometheus.io/docs/specs/om/open_metrics_spec/. No label holds more than names of accounts, streams and checks.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric, StateSetMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from zendesk_pipeline.commands.metrics.facts import FEED_STATES, AccountFacts, Reading, StreamFacts

OF_STREAMS: tuple[tuple[str, str, str, Callable[[StreamFacts], float | None]], ...] = (
    (
        "newest_whole_window_age",
        "seconds",
        "Since the end of the newest window that is delivered whole; since START_DATE if none is.",
        lambda facts: facts.age,
    ),
    (
        "newest_whole_window",
        "records",
        "Records of the newest whole window, if it is of the last day.",
        lambda facts: facts.newest and facts.newest.records,
    ),
    (
        "newest_whole_window",
        "bytes",
        "Stored bytes of the newest whole window, if it is of the last day.",
        lambda facts: facts.newest and facts.newest.bytes,
    ),
    (
        "missing",
        "windows",
        "Windows since START_DATE that have to be there and are not, whether a run is at work on them or not.",
        lambda facts: facts.missing,
    ),
    ("last_day", "records", "Records of the 24 windows before now.", lambda facts: facts.day.records),
    ("last_day", "bytes", "Stored bytes of the 24 windows before now.", lambda facts: facts.day.bytes),
    (
        "last_day_late",
        "records",
        "Records of the 24 windows before now that Zendesk showed when the window was whole already.",
        lambda facts: facts.day.late,
    ),
    (
        "last_day_quarantined",
        "records",
        "Records of the 24 windows before now that are shortened, because they are too long for a line of the feed.",
        lambda facts: facts.day.quarantined,
    ),
    (
        "last_hour_rate_limit_wait",
        "seconds",
        "Spent waiting for Zendesk's rate limit in the last hour.",
        lambda facts: facts.waited,
    ),
)
"""Name, unit, help and value of what each stream has; None is not shown."""


class Exposition(Collector):
    """What a registry of prometheus-client asks for metrics."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """All of one reading."""
        return list(families(self._read()))


def registry(read: Callable[[], Reading]) -> CollectorRegistry:
    """A registry that has these metrics and no other."""
    made = CollectorRegistry()
    made.register(Exposition(read))
    return made


def families(reading: Reading) -> Iterator[Metric]:
    """Of an account that could not be read, `zendesk_up` alone, which is 0."""
    up = GaugeMetricFamily("zendesk_up", "Whether Dagster's records of the account could be read.", labels=["account"])
    for name, facts in reading.accounts.items():
        up.add_metric([name], float(facts is not None))
    yield up
    at = GaugeMetricFamily("zendesk_read_timestamp_seconds", "When they were read.", unit="seconds")
    at.add_metric([], reading.at)
    yield at
    known = {name: facts for name, facts in reading.accounts.items() if facts is not None}
    yield from _of_streams(known)
    yield _held_back(known)
    yield from _checks(known)
    yield _feed(known)
    yield _credential(known)


def _of_streams(known: Mapping[str, AccountFacts]) -> Iterator[Metric]:
    for name, unit, text, value in OF_STREAMS:
        family = GaugeMetricFamily(f"zendesk_{name}_{unit}", text, labels=["account", "stream"], unit=unit)
        for account, facts in known.items():
            for stream in facts.streams:
                if (number := value(stream)) is not None:
                    family.add_metric([account, stream.stream], number)
        yield family


def _held_back(known: Mapping[str, AccountFacts]) -> Metric:
    text = "Records of the 24 windows before now that Zendesk showed and that are not delivered."
    labels = ["account", "stream", "reason"]
    family = GaugeMetricFamily("zendesk_last_day_held_back_records", text, labels=labels, unit="records")
    for account, facts in known.items():
        for stream in facts.streams:
            family.add_metric([account, stream.stream, "malformed"], stream.day.malformed)
            family.add_metric([account, stream.stream, "ahead_of_the_clock"], stream.day.ahead)
    return family


def _checks(known: Mapping[str, AccountFacts]) -> Iterator[Metric]:
    failing = GaugeMetricFamily(
        "zendesk_failing_checks", "Asset checks whose latest verdict is a failure.", labels=["account", "severity"]
    )
    each = GaugeMetricFamily(
        "zendesk_check_failing",
        "Whether the latest verdict of a check is a failure; without a verdict it is not shown.",
        labels=["account", "asset", "check"],
    )
    for account, facts in known.items():
        found = list(facts.checks.values())
        for severity in ("warning", "error"):
            failing.add_metric([account, severity], found.count(severity))
        for key, severity in facts.checks.items():
            each.add_metric([account, key.asset_key.path[-1], key.name], float(severity is not None))
    yield failing
    yield each


def _feed(known: Mapping[str, AccountFacts]) -> Metric:
    text = "What SecOps says of its feed; not shown where it is not watched."
    family = StateSetMetricFamily("zendesk_feed_state", text, labels=["account"])
    for account, facts in known.items():
        if facts.feed is not None:
            family.add_metric([account], {state: state == facts.feed for state in FEED_STATES})
    return family


def _credential(known: Mapping[str, AccountFacts]) -> Metric:
    text = "For which the credential still works; not shown where it renews itself or its end is not known."
    family = GaugeMetricFamily("zendesk_credential_left_seconds", text, labels=["account"], unit="seconds")
    for account, facts in known.items():
        if facts.credential_left is not None:
            family.add_metric([account], facts.credential_left)
    return family
