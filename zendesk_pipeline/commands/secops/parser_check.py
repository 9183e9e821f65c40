"""`zendesk-pipeline parser-check`: whether the tenant's parser wants a record a line or a page (`OUTPUT_FORMAT`).

The configuration of the parser ZENDESK_CRM is not public, and Google's own guides contradict each other; so it is run
on both, and what comes out is compared. Nothing is ingested, and the records are made up unless a file is named.
https://docs.cloud.google.com/chronicle/docs/reference/rest/v1alpha/projects.locations.instances.logTypes/runParser
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from zendesk_pipeline.commands.secops.options import access_of, access_options
from zendesk_pipeline.delivery.batches import BatchFormat
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.json_text import without_halves
from zendesk_pipeline.model.streams import STREAMS, Stream
from zendesk_pipeline.secops.access import connect
from zendesk_pipeline.secops.instance import LOG_TYPE, SecopsError
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import OutputFormat

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import Parsed, Parser, SecopsClient

SAMPLES = Path(__file__).parent / "samples"
"""Made-up records, a file for each stream, with the fields of Zendesk's."""
SHORTEST_MARK = 5
"""Characters of a value that is found again in an event by more than chance."""
MOST_RECORDS = 100
SHOWN_FIELDS = 6
WIDTH = 36
LONGEST_ERROR = 300
USUAL = ("metadata.eventType", "metadata.eventTimestamp", "metadata.productEventType", "metadata.productLogId")
"""Fields of the Unified Data Model that are shown first.

https://docs.cloud.google.com/chronicle/docs/reference/udm-field-list
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserResult:
    """What the parser made of a stream's records in one format."""

    events: int
    recognised: int
    """Records of which at least one value came out in an event."""
    errors: tuple[str, ...]
    fields: Mapping[str, str]
    """Of the first event: paths and values."""


def sample(stream: Stream) -> list[bytes]:
    """Three made-up records of a stream, unlike each other."""
    path = SAMPLES / f"{stream.name}.ndjson"
    if not path.exists():
        raise SettingsError(f"There are no made-up records of {stream.name}: name a file of your own, --record.")
    return _read(path)


def page_of(stream: Stream, lines: Sequence[bytes]) -> bytes:
    """The same records as one object of OUTPUT_FORMAT=page, without its line end."""
    form = BatchFormat(items=stream.items, envelope=True, compress=False, limit=1)
    return form.head + form.separator.join(lines) + form.tail.rstrip(b"\n")


def compare(
    client: "SecopsClient", code: str, stream: Stream, lines: Sequence[bytes]
) -> dict[OutputFormat, ParserResult]:
    """Run the parser on the records, once each by itself and once as a page."""
    results = client.run_parser(code, [*lines, page_of(stream, lines)])
    return {"ndjson": outcome(lines, results[:-1]), "page": outcome(lines, results[-1:])}


def outcome(lines: Sequence[bytes], results: "Sequence[Parsed]") -> ParserResult:
    """What came out of these records.

    That there is an event says little: a parser may make one of anything. So a record counts as recognised where a
    value that no other of the records has (its id, its time, an address) is a value of an event.
    """
    events = [event for result in results for event in result.events]
    values = {text for event in events for _, text in leaves(event)}
    return ParserResult(
        events=len(events),
        recognised=sum(bool(marks & values) for marks in _marks(lines)),
        errors=tuple(dict.fromkeys(result.error.message for result in results if result.error)),
        fields=dict(leaves(events[0])) if events else {},
    )


def _marks(lines: Sequence[bytes]) -> list[set[str]]:
    """For each record the values that it alone has."""
    every = [
        {text for _, text in leaves(msgspec.json.decode(without_halves(line))) if len(text) >= SHORTEST_MARK}
        for line in lines
    ]
    seen = Counter(text for texts in every for text in texts)
    return [{text for text in texts if seen[text] == 1} for texts in every]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Paths and values of all that is neither an object nor a list; all members of a list have its path."""
    if isinstance(value, dict):
        for key, inner in value.items():  # pyright: ignore[reportUnknownVariableType]  # JSON
            yield from leaves(inner, f"{path}.{key}" if path else str(key))  # pyright: ignore[reportUnknownArgumentType]  # JSON
    elif isinstance(value, list):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]  # JSON
            yield from leaves(inner, path)
    elif value is not None:
        yield path, str(value)


def formats_that_fit(outcomes: Mapping[OutputFormat, ParserResult]) -> set[OutputFormat]:
    """The formats in which most records are recognised; none if none is."""
    most = max(each.recognised for each in outcomes.values())
    return {form for form, each in outcomes.items() if each.recognised == most} if most else set()


def verdict(fitting: Mapping[str, set[OutputFormat]]) -> tuple[set[OutputFormat], str]:
    """The formats that fit every stream that is recognised at all, and what to do as a sentence."""
    lost = [name for name, forms in fitting.items() if not forms]
    understood = [forms for forms in fitting.values() if forms]
    beside = (
        f" The parser recognises nothing of {' and '.join(lost)} in either format: these arrive as raw logs only."
        if lost
        else ""
    )
    if not understood:
        return set(), (
            "Neither format is parsed: records arrive in SecOps as raw logs only."
            " Ask Google's support about the parser, or write a parser or an extension of your own."
        )
    every: set[OutputFormat] = {*get_args(OutputFormat)}
    common = every.intersection(*understood)
    if common == every:
        return common, f"Both formats are parsed: keep OUTPUT_FORMAT=ndjson, the default.{beside}"
    if common:
        return common, f"Set OUTPUT_FORMAT={next(iter(common))}.{beside}"
    return set(), (
        "No one format fits all streams: collect them by two installations, each with its RESOURCES, OUTPUT_FORMAT and"
        f" prefixes.{beside}"
    )


def active(parsers: "Sequence[Parser]") -> "Parser":
    """The parser in use: an active one, and of two a custom one, which takes the place of Google's."""
    found = sorted((each for each in parsers if each.state == "ACTIVE"), key=lambda each: each.type != "CUSTOM")
    if not found:
        raise SecopsError(f"There is no active parser for {LOG_TYPE}: look at SIEM Settings > Parsers.")
    return found[0]


def _read(path: Path) -> list[bytes]:
    """The records of a file, one a line."""
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    if not lines or len(lines) > MOST_RECORDS:
        raise SettingsError(f"{path} holds {len(lines)} records: 1 to {MOST_RECORDS} are wanted, one a line.")
    for number, line in enumerate(lines, 1):
        try:
            msgspec.json.decode(without_halves(line), type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            raise SettingsError(f"Line {number} of {path} is no JSON object.") from None
    return lines


@click.command("parser-check")
@access_options
@click.option("--stream", type=click.Choice(list(STREAMS)), help="One stream only.  [default: those of RESOURCES]")
@click.option(
    "--record",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Records of your own instead of made-up ones, one a line; needs --stream. They are sent to SecOps' parser,"
    " and their values are not shown.",
)
@click.pass_context
def parser_check(context: click.Context, /, *, stream: str | None, record: Path | None, **options: Any) -> None:
    """Run the tenant's parser on made-up records, a line each and as a page, and say which OUTPUT_FORMAT it wants.

    Nothing is ingested. The exit status is 1 where OUTPUT_FORMAT as it is set now does not fit.
    """
    if record and not stream:
        raise click.UsageError("--record needs --stream, to say what its records are.")
    chosen = environment.load()
    names = (stream,) if stream else chosen.resources
    lines = {name: _read(record) if record else sample(STREAMS[name]) for name in names}
    client = connect(access_of(options))
    parser = active(client.parsers())
    code = parser.code()
    if code is None:
        raise SecopsError(f"The parser {parser.parser_id} has no code that could be run from here: try it in SecOps.")
    click.echo(f"{LOG_TYPE}: parser {parser.parser_id} ({parser.type or 'of no known type'}, {parser.state})")
    if parser.parser_extension:
        click.echo("It has an extension, which is not run here.")
    compared = {name: compare(client, code, STREAMS[name], lines[name]) for name in names}
    for name, outcomes in compared.items():
        click.echo("\n" + table(name, len(lines[name]), outcomes, values=record is None))
    fitting, sentence = verdict({name: formats_that_fit(outcomes) for name, outcomes in compared.items()})
    click.echo(f"\n{sentence}")
    context.exit(int(chosen.output_format not in fitting))


def table(name: str, count: int, outcomes: Mapping[OutputFormat, ParserResult], *, values: bool) -> str:
    """Both outcomes side by side; `values` says whether values of records may be shown."""
    line, page = outcomes["ndjson"], outcomes["page"]
    rows = [
        (name, "a record a line", f"a page of {count}"),
        ("UDM events", str(line.events), str(page.events)),
        ("records recognised", f"{line.recognised} of {count}", f"{page.recognised} of {count}"),
        *((path, *(_field(each, path, values=values) for each in (line, page))) for path in _shown(line, page)),
    ]
    first = max(len(row[0]) for row in rows)
    lines = [f"{a:<{first}}  {_short(b):<{WIDTH}}  {_short(c)}".rstrip() for a, b, c in rows]
    errors = [
        f"error of {what}: {_error(each, values=values)}"
        for what, each in (("a record a line", line), ("a page", page))
        if each.errors
    ]
    return "\n".join([*lines, *errors])


def _shown(*outcomes: ParserResult) -> list[str]:
    """A few fields: the usual ones, then others in their order."""
    every = dict.fromkeys(path for each in outcomes for path in each.fields)
    return sorted(every, key=lambda path: USUAL.index(path) if path in USUAL else len(USUAL))[:SHOWN_FIELDS]


def _field(each: ParserResult, path: str, *, values: bool) -> str:
    value = each.fields.get(path, "-")
    return value if values or value == "-" or path == "metadata.eventType" else "(set)"


def _error(each: ParserResult, *, values: bool) -> str:
    """An error's text may quote the record: then its code in capitals is all that is shown."""
    codes = re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", each.errors[0])
    return _short(each.errors[0], LONGEST_ERROR) if values else (codes[0] if codes else "not shown")


def _short(text: str, size: int = WIDTH) -> str:
    printable = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return printable if len(printable) <= size else printable[: size - 1] + "…"
