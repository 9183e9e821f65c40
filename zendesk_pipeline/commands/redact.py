"""`zendesk-pipeline redact`: the rules tried on records of your own, without a run."""

import os
import sys

import click

from zendesk_pipeline.model import redaction_rules
from zendesk_pipeline.model.errors import RedactionError, SettingsError
from zendesk_pipeline.model.records import record_reader
from zendesk_pipeline.model.redaction_rules import KEY
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.settings.secret_references import resolved


@click.command(name="redact")
@click.argument("stream", type=click.Choice(list(STREAMS)))
@click.option(
    "--rules", envvar="REDACTION_RULES", help="A file of rules, or builtin:NAME; REDACTION_RULES if not named."
)
def redact(stream: str, rules: str | None) -> None:
    """Redact records from the standard input, one a line, as a run would before it stores them.

    The digest that ledgers remember of the rules goes to the standard error. Nothing is sent anywhere.
    """
    if not rules:
        raise SettingsError("REDACTION_RULES is not set: name a file of rules with it, or with --rules.")
    chosen = STREAMS[stream]
    redaction = redaction_rules.redaction(chosen, rules, resolved(KEY, os.environ.get(KEY, "")))
    click.echo(f"{stream}: {f'digest {redaction.digest}' if redaction else 'whole, as the rules say'}", err=True)
    record_of = record_reader(chosen)
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            record = record_of(line.strip())
            out = redaction.apply(record.line)[0] if redaction else record.line
        except (ValueError, RecursionError, RedactionError):
            raise RedactionError(f"Line {number} is no record of {stream}.") from None
        click.echo(out)
