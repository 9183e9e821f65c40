"""A parser run on sample records: what it makes of them, a record a line and as a page.

Nothing is ingested. https://docs.cloud.google.com/chronicle/docs/reference/rest/v1beta/projects.locations.instances.logTypes/runParser
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zendesk_pipeline.delivery.batches import BatchFormat
from zendesk_pipeline.model.errors import SettingsError
from zendesk_pipeline.model.json_text import without_halves
from zendesk_pipeline.model.streams import Stream
from zendesk_pipeline.secops.instance import LOG_TYPE, SecopsError
from zendesk_pipeline.settings.environment import OutputFormat

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import Parsed, Parser, SecopsClient

SAMPLES = Path(__file__).parent / "samples"
"""Made-up records, a file for each stream, with the fields of Zendesk's."""
SHORTEST_MARK = 5
"""Characters of a value that is found again in an event by more than chance."""
MOST_RECORDS = 100
CANDIDATE = "RELEASE_CANDIDATE"
"""The release stage of a parser of Google's that will take the place of the active one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserResult:
    """What the parser made of a stream's records in one format."""

    events: int
    recognised: int
    """Records of which at least one value came out in an event."""
    errors: tuple[str, ...]
    fields: Mapping[str, str]
    """Of the first event: paths and values."""
    paths: frozenset[str] = frozenset()
    """Of all events."""


def sample(stream: Stream) -> list[bytes]:
    """Three made-up records of a stream, unlike each other."""
    path = SAMPLES / f"{stream.name}.ndjson"
    if not path.exists():
        raise SettingsError(f"There are no made-up records of {stream.name}: name a file of your own, --record.")
    return records_of(path)


def has_sample(stream: Stream) -> bool:
    """Whether there are made-up records of it: of a stream of somebody's own there are none."""
    return (SAMPLES / f"{stream.name}.ndjson").exists()


def page_of(stream: Stream, lines: Sequence[bytes]) -> bytes:
    """The same records as one object of OUTPUT_FORMAT=page, without its line end."""
    form = BatchFormat(items=stream.items, envelope=True, compress=False, limit=1)
    return form.head + form.separator.join(lines) + form.tail.rstrip(b"\n")


def run(client: "SecopsClient", code: str, stream: Stream, lines: Sequence[bytes]) -> dict[OutputFormat, ParserResult]:
    """Run a parser on the records, once each by itself and once as a page."""
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
        paths=frozenset(path for event in events for path, _ in leaves(event)),
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


def active(parsers: "Sequence[Parser]") -> "Parser":
    """The parser in use: an active one, and of two a custom one, which takes the place of Google's."""
    found = sorted((each for each in parsers if each.state == "ACTIVE"), key=lambda each: each.type != "CUSTOM")
    if not found:
        raise SecopsError(f"There is no active parser for {LOG_TYPE}: look at SIEM Settings > Parsers.")
    return found[0]


def candidate(parsers: "Sequence[Parser]") -> "Parser":
    """The parser that Google will put in the place of its own; raises SecopsError where there is none."""
    found = [each for each in parsers if each.release_stage == CANDIDATE]
    if not found:
        raise SecopsError(f"There is no release candidate of the parser for {LOG_TYPE} now: the active one stays.")
    return found[0]


def code_of(parser: "Parser") -> str:
    """What `run` takes; raises SecopsError for a parser without code."""
    code = parser.code()
    if code is None:
        raise SecopsError(f"The parser {parser.parser_id} has no code that could be run from here: try it in SecOps.")
    return code


def records_of(path: Path) -> list[bytes]:
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
