"""What SecOps has counted of the logs it ingests, asked by a query of the kind that its dashboards make.

The query needs the scope `chronicle.readonly` and the permission `chronicle.dashboardQueries.execute`. Cloud Monitoring
has the same numbers (`chronicle.googleapis.com/ingestion/log/record_count`), at another address, with another scope and
a role in the customer's own project. What counts them stands behind `Counts`.

Method: https://docs.cloud.google.com/chronicle/docs/reference/rest/v1beta/projects.locations.instances.dashboardQueries
Fields of the query: https://docs.cloud.google.com/chronicle/docs/reference/ingestion-metrics-schema
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from zendesk_pipeline.model.windows import timestamp
from zendesk_pipeline.secops.instance import LOG_TYPE, SecopsError

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import SecopsClient

VERSION = "v1beta"
PATH = "dashboardQueries:execute"
BY_FEED = f"""\
ingestion.log_type = "{LOG_TYPE}"
ingestion.component != "Normalizer"
$feed = ingestion.feed_id
$component = ingestion.component
match:
  $feed, $component
outcome:
  $logs = sum(ingestion.log_count)
limit:
  1000
"""
PARSED = f"""\
ingestion.log_type = "{LOG_TYPE}"
$component = ingestion.component
$state = ingestion.state
match:
  $component, $state
outcome:
  $logs = sum(ingestion.log_count)
  $events = sum(ingestion.event_count)
limit:
  1000
"""
INGESTED = "Ingestion API"
"""The component that each log goes through, whatever it came by."""
NORMALIZER = "Normalizer"
FAILED = "failed_parsing", "failed_indexing"
"""The normalizer's states of logs that became no event."""
INVALID = "failed_validation"
"""Its state of events that were thrown away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsing:
    """What became of the logs of the type, of all feeds."""

    logs: int
    """Ingested."""
    failed: int
    """Not parsed, not valid, or not indexed."""

    @property
    def share(self) -> float:
        """Of those that failed, from 0 to 1."""
        return min(1.0, self.failed / self.logs) if self.logs else 0.0


class Counts(Protocol):
    """Numbers of SecOps, by the time of ingestion. Methods raise SecopsError."""

    def ingested(self, start: float, end: float) -> Mapping[str, int]:
        """Logs of the type from `start` to `end`, by the id of their feed; under "" those whose feed is not told."""
        ...

    def parsing(self, start: float, end: float) -> Parsing:
        """What became of the logs of the type."""
        ...


@dataclass(frozen=True, slots=True)
class DashboardCounts:
    """Asks by dashboard queries, one for each method."""

    client: "SecopsClient"

    def ingested(self, start: float, end: float) -> Mapping[str, int]:
        """A log is counted by each component that it goes through, so the highest count is taken of each feed."""
        found: dict[str, float] = {}
        for row in self._rows(BY_FEED, start, end):
            feed = _text(row, "feed")
            found[feed] = max(found.get(feed, 0.0), _number(row, "logs"))
        return {feed: round(logs) for feed, logs in found.items()}

    def parsing(self, start: float, end: float) -> Parsing:
        logs = failed = 0.0
        for row in self._rows(PARSED, start, end):
            component, state = _text(row, "component"), _text(row, "state")
            if component == INGESTED:
                logs += _number(row, "logs")
            elif component == NORMALIZER and state in FAILED:
                failed += _number(row, "logs")
            elif component == NORMALIZER and state == INVALID:
                failed += _number(row, "events")
        return Parsing(logs=round(logs), failed=round(failed))

    def _rows(self, query: str, start: float, end: float) -> Iterator[Mapping[str, Any]]:
        asked = {"startTime": timestamp(int(start)), "endTime": timestamp(int(end))}
        body = {"query": {"query": query, "input": {"timeWindow": asked}}, "clearCache": True}
        answer = self.client.query(VERSION, PATH, body)
        try:
            table = msgspec.convert(answer, Table)
        except msgspec.ValidationError as problem:
            raise SecopsError(f"SecOps answered {PATH} with something that is no table: {problem}.") from None
        if table.query_runtime_errors:
            said = "; ".join(filter(None, (each.error_title for each in table.query_runtime_errors)))
            raise SecopsError(f"SecOps has not counted all ({said or 'an error of the query'}). Try again later.")
        if len({len(each.values) for each in table.results}) > 1:
            raise SecopsError(f"SecOps answered {PATH} with columns of different lengths.")
        return table.rows()


class RuntimeFault(msgspec.Struct, frozen=True, rename="camel"):
    """Why a table is not whole."""

    error_title: str = ""


class Value(msgspec.Struct, frozen=True, rename="camel"):
    """One value; a whole number of 64 bits is a string in JSON."""

    string_val: str | None = None
    double_val: float | None = None
    int64_val: int | str | None = None
    uint64_val: int | str | None = None


class Cell(msgspec.Struct, frozen=True):
    """One value of a column; a list of values is not asked for."""

    value: Value = Value()


class Column(msgspec.Struct, frozen=True):
    """One column, from the first row to the last."""

    column: str = ""
    values: list[Cell] = []


class Table(msgspec.Struct, frozen=True, rename="camel"):
    """What a query gives, column by column."""

    results: list[Column] = []
    query_runtime_errors: list[RuntimeFault] = []

    def rows(self) -> Iterator[Mapping[str, Value]]:
        """Its rows, by the names of the columns."""
        names = [each.column.lstrip("$") for each in self.results]
        for cells in zip(*(each.values for each in self.results), strict=True):
            yield {name: cell.value for name, cell in zip(names, cells, strict=True)}


def _text(row: Mapping[str, Value], name: str) -> str:
    return row.get(name, Value()).string_val or ""


def _number(row: Mapping[str, Value], name: str) -> float:
    value = row.get(name)
    if value is None:
        raise SecopsError(f"SecOps answered {PATH} without the column {name}.")
    for each in (value.double_val, value.int64_val, value.uint64_val):
        if each is not None:
            return float(each)
    return 0.0
