"""`zendesk-pipeline parser-check`: whether the tenant's parser wants a record a line or a page (`OUTPUT_FORMAT`).

The configuration of the parser ZENDESK_CRM is not public, and Google's own guides contradict each other; so it is run
on both, and what comes out is compared. Nothing is ingested, and the records are made up unless a file is named.
https://docs.cloud.google.com/chronicle/docs/reference/rest/v1alpha/projects.locations.instances.logTypes/runParser
"""

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from zendesk_pipeline.commands import past_range
from zendesk_pipeline.commands.secops.options import access_of, access_options
from zendesk_pipeline.model.errors import DeliveryError
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.secops.access import connect
from zendesk_pipeline.secops.instance import LOG_TYPE
from zendesk_pipeline.secops.parser_run import (
    ParserResult,
    active,
    candidate,
    code_of,
    has_sample,
    records_of,
    run,
    sample,
)
from zendesk_pipeline.secops.parser_watch import baseline_in, baseline_of
from zendesk_pipeline.settings import environment
from zendesk_pipeline.settings.environment import OutputFormat, Settings, not_set

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import Parser

SHOWN_FIELDS = 6
WIDTH = 36
LONGEST_ERROR = 300
USUAL = ("metadata.eventType", "metadata.eventTimestamp", "metadata.productEventType", "metadata.productLogId")
"""Fields of the Unified Data Model that are shown first.

https://docs.cloud.google.com/chronicle/docs/reference/udm-field-list
"""


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


@click.command("parser-check")
@access_options
@click.option("--stream", type=click.Choice(list(STREAMS)), help="One stream only.  [default: those of RESOURCES]")
@click.option(
    "--record",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Records of your own instead of made-up ones, one a line; needs --stream. They are sent to SecOps' parser,"
    " and their values are not shown.",
)
@click.option("--candidate", "next_one", is_flag=True, help="The parser that Google will put in its own's place.")
@click.option("--accept", is_flag=True, help="What comes out now is what the daily check expects from now on.")
@click.pass_context
def parser_check(
    context: click.Context, /, *, stream: str | None, record: Path | None, next_one: bool, accept: bool, **options: Any
) -> None:
    """Run the tenant's parser on made-up records, a line each and as a page, and say which OUTPUT_FORMAT it wants.

    Nothing is ingested. The exit status is 1 where OUTPUT_FORMAT as it is set now does not fit.
    """
    if record and not stream:
        raise click.UsageError("--record needs --stream, to say what its records are.")
    if accept and (record or stream or next_one):
        raise click.UsageError("--accept is for the active parser, and the made-up records of all streams.")
    chosen = environment.load()
    names = (stream,) if stream else chosen.resources
    if accept:
        names = [name for name in names if has_sample(STREAMS[name])]
    lines = {name: records_of(record) if record else sample(STREAMS[name]) for name in names}
    client = connect(access_of(options))
    parser = (candidate if next_one else active)(client.parsers())
    code = code_of(parser)
    click.echo(f"{LOG_TYPE}: parser {parser.parser_id} ({parser.type or 'of no known type'}, {parser.state})")
    if parser.parser_extension:
        click.echo("It has an extension, which is not run here.")
    compared = {name: run(client, code, STREAMS[name], lines[name]) for name in names}
    for name, outcomes in compared.items():
        click.echo("\n" + table(name, len(lines[name]), outcomes, values=record is None))
    if accept:
        _accept(chosen, parser, compared)
    fitting, sentence = verdict({name: formats_that_fit(outcomes) for name, outcomes in compared.items()})
    click.echo(f"\n{sentence}")
    context.exit(int(chosen.output_format not in fitting))


def _accept(chosen: Settings, parser: "Parser", compared: Mapping[str, Mapping[OutputFormat, ParserResult]]) -> None:
    """Have this be the baseline of the daily check."""
    if not chosen.s3_bucket:
        raise not_set("S3_BUCKET", "the bucket whose state prefix holds what is expected of the parser")
    form = chosen.output_format
    results = {name: (outcomes[form], sample(STREAMS[name])) for name, outcomes in compared.items()}
    with past_range.ends(chosen) as ends:
        baselines = baseline_in(ends.bucket.store(), ends.bucket.layout)
        _, version = baselines.read()
        written = baselines.write(baseline_of(parser.parser_id, form, results, time.time()), version)
    if not written:
        raise DeliveryError("The check has written what is expected just now: try again.")
    click.echo("\nThis is what the check secops_parser expects from now on.")


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
