"""The tables, and whether each target is met."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.table import Column, Table

from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline_tests.bench.latency import Hidden
from zendesk_pipeline_tests.bench.measuring import Measured

FLAT_MEMORY = 64.0
"""MiB that the peak may differ by, from 10,000 tickets on."""
SLOWEST = 0.7
"""Of the collecting's wall time: pipeline to bare loop."""
DEAREST = 1.8
"""Of its processor time."""

LONGEST = 1.05
"""Of the time that the rate limit alone needs."""

Figure = Callable[[Measured], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The rounds of one stream."""

    stream: str
    bare: Sequence[Measured]
    pipeline: Sequence[Measured]
    redacted: Sequence[Measured] = ()
    """The pipeline with redaction rules."""
    zipped: Mapping[str, Sequence[Measured]] = field(default_factory=dict[str, Sequence[Measured]])
    """The pipeline with answers packed by Zendesk, by how."""
    compressed: Sequence[Measured] = ()
    """The pipeline with COMPRESSION=gzip."""

    @property
    def records(self) -> int:
        """The same number in every round."""
        return self.bare[0].records

    def median_ratio(self, figure: Figure) -> float:
        """Of the medians."""
        return _median(self.pipeline, figure) / _median(self.bare, figure)


@dataclass(frozen=True, slots=True)
class Target:
    """A sentence, and whether it is true."""

    sentence: str
    met: bool


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def whole(value: float) -> str:
    return f"{value:,.0f}"


ROWS: dict[str, tuple[Figure, Callable[[float], str]]] = {
    "records/s": (lambda one: one.records / one.collecting, whole),
    "collecting, wall": (lambda one: one.collecting, seconds),
    "collecting, CPU": (lambda one: one.collecting_cpu, seconds),
    "whole process, wall": (lambda one: one.wall, seconds),
    "whole process, CPU": (lambda one: one.cpu, seconds),
    "peak memory": (lambda one: one.memory, lambda value: f"{value:,.0f} MiB"),
    "requests to Zendesk": (lambda one: one.requests, whole),
    "S3 PUT": (lambda one: one.put, whole),
    "S3 GET": (lambda one: one.get, whole),
    "S3 LIST": (lambda one: one.list, whole),
}


def comparison_table(comparison: Comparison) -> Table:
    """Both side by side."""
    rounds = len(comparison.bare)
    title = f"{comparison.stream}: {comparison.records:,} records, median of {rounds} alternating rounds"
    table = Table(
        "", *(_right(name) for name in ("bare loop", "this pipeline", "ratio")), title=title, title_style="bold"
    )
    for name, (figure, form) in ROWS.items():
        bare, ours = _median(comparison.bare, figure), _median(comparison.pipeline, figure)
        table.add_row(name, form(bare), form(ours), f"{ours / bare:.2f}" if bare else "")
    return table


def costs(comparison: Comparison) -> list[str]:
    """What redaction and compression cost, each against the same run without it."""
    runs = {
        "redaction rules": comparison.redacted,
        **{f"{encoding} from Zendesk": those for encoding, those in comparison.zipped.items()},
        "COMPRESSION=gzip": comparison.compressed,
    }
    return [f"{comparison.stream} with {name}: {_cost(comparison.pipeline, those)}" for name, those in runs.items()]


def many_scripts(comparison: Comparison) -> str:
    """What is another ratio where texts are not plain English."""
    wall = comparison.median_ratio(lambda one: one.collecting)
    cpu = comparison.median_ratio(lambda one: one.collecting_cpu)
    return f"{comparison.stream}, texts of many scripts: {wall:.2f} of the bare loop's wall time, {cpu:.2f} of its CPU"


def _cost(without: Sequence[Measured], those: Sequence[Measured]) -> str:
    told: list[str] = []
    for name in ("collecting, wall", "collecting, CPU"):
        figure, form = ROWS[name]
        before, after = _median(without, figure), _median(those, figure)
        told.append(f"{name}: {form(after)} against {form(before)} without, ratio {after / before:.2f}")
    return "; ".join(told)


@dataclass(frozen=True, slots=True)
class Peer:
    """What another collector did with records of the same kind, one at a time and with no other work beside it."""

    name: str
    records: int
    """A second, in its best run."""


PEERS = {
    "incremental_tickets": (
        Peer("dlt, its Zendesk source", 1_356),
        Peer("Singer tap-zendesk 2.8.2 without its pause", 1_323),
        Peer("Airbyte source-zendesk-support 4.9.1", 162),
        Peer("Singer tap-zendesk 2.8.2", 8),
    ),
    "audit_logs": (Peer("HashiCorp Grove", 18_349), Peer("Airbyte source-zendesk-support 4.9.1", 1_693)),
}
"""Measured on 2026-11-22 on two cores (AMD EPYC), Python 3.11.7, into files of that machine or its standard output,
from a server that had its pages ready: on the loopback address, without latency, TLS or gzip, as here.
"""


def peers_table(comparison: Comparison) -> Table:
    """The pipeline's records a second beside those of others; here S3 and Zendesk are servers on the same cores."""
    ours = _median(comparison.pipeline, ROWS["records/s"][0])
    title = f"{comparison.stream}: others, measured on 2026-11-22 on two other cores"
    table = Table("", _right("records/s"), _right("this pipeline"), _right("times"), title=title, title_style="bold")
    for peer in PEERS.get(comparison.stream, ()):
        table.add_row(peer.name, whole(peer.records), whole(ours), f"{ours / peer.records:.1f}")
    return table


def _right(name: str) -> Column:
    return Column(name, justify="right")


def sweep_table(runs: Sequence[Measured]) -> Table:
    """One line a size."""
    table = Table("tickets", *map(_right, ROWS), title="Sizes: one run each", title_style="bold")
    for one in runs:
        table.add_row(whole(one.records), *(form(figure(one)) for figure, form in ROWS.values()))
    return table


def comparison_targets(comparison: Comparison) -> list[Target]:
    """Of one stream."""
    name, page = comparison.stream, STREAMS[comparison.stream].page_size
    pages = -(-comparison.records // page)
    requests = max(one.requests for one in comparison.pipeline)
    ratio = comparison.median_ratio(lambda one: one.collecting)
    cpu = comparison.median_ratio(lambda one: one.collecting_cpu)
    return [
        Target(f"{name}: {requests} requests, at most {pages + 1} (pages + 1)", requests <= pages + 1),
        Target(f"{name}: {ratio:.2f} of the bare loop's wall time for collecting, at most {SLOWEST}", ratio <= SLOWEST),
        Target(f"{name}: {cpu:.2f} of its CPU, at most {DEAREST}", cpu <= DEAREST),
    ]


def sweep_targets(runs: Sequence[Measured]) -> list[Target]:
    """Not counting the smallest size, which is less than a page and a batch."""
    peaks = [one.memory for one in runs[1:]]
    growth = max(peaks) - min(peaks)
    return [Target(f"sizes: peak memory differs by {growth:.0f} MiB, at most {FLAT_MEMORY:.0f}", growth <= FLAT_MEMORY)]


def latency_table(runs: Sequence[Hidden]) -> Table:
    """One line a case."""
    columns = ("limit alone", "one cursor", "ratio", "requests", "this pipeline", "ratio", "requests", "429")
    title = "200 ms a request, Zendesk's limits: seconds of Zendesk's time, from the first request to the last PUT"
    table = Table("", *map(_right, columns), title=title, title_style="bold")
    for each in runs:
        walks = [
            text
            for walked in (each.one, each.ours)
            for text in (seconds(walked.seconds), f"{walked.seconds / each.limit_alone:.2f}", whole(walked.requests))
        ]
        table.add_row(each.case.name, seconds(each.limit_alone), *walks, whole(each.ours.refused))
    return table


def latency_targets(runs: Sequence[Hidden]) -> list[Target]:
    """Of each case; both walks have delivered the same."""
    return [
        Target(
            f"{each.case.name}: {each.ours.seconds / each.limit_alone:.2f} of what the limit alone needs,"
            f" at most {LONGEST}; {each.ours.records:,} records delivered, {each.one.records:,} by one cursor",
            each.ours.seconds <= LONGEST * each.limit_alone and each.ours.records == each.one.records,
        )
        for each in runs
    ]


def _median(many: Sequence[Measured], figure: Figure) -> float:
    return median(map(figure, many))
