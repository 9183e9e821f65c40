"""`zendesk-pipeline fields`: what fields and values the streams have had, and letting a new one pass."""

import json
from collections.abc import Sequence

import click
import msgspec

from zendesk_pipeline.commands.past_range import store_of, streams
from zendesk_pipeline.delivery.field_catalogue import Catalogue, CatalogueStore
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import DeliveryError
from zendesk_pipeline.settings import environment


@click.command
@click.option("--stream", "names", multiple=True, help="Only this stream; may be given several times.")
@click.option("--accept", "accepted", multiple=True, metavar="FIELD", help="Let it pass without a redaction rule.")
@click.option("--accept-all", "everything", is_flag=True, help="Let all pass that wait.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def fields(names: tuple[str, ...], accepted: tuple[str, ...], *, everything: bool, as_json: bool) -> None:
    """Print the fields and values that were seen, each with the hour in which it was seen first.

    Those that no redaction rule speaks of are marked until a rule does, or until they are accepted.
    """
    chosen = environment.load()
    store = store_of(chosen, "the bucket that holds the state prefix")
    wanted = [
        CatalogueStore(stream=stream.name, store=store, layout=Layout.of(chosen)) for stream in streams(chosen, names)
    ]
    if accepted or everything:
        _accept(wanted, accepted, everything=everything)
    found = [catalogue for each in wanted if (catalogue := each.read()[0])]
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(each) for each in found], indent=2))
        return
    for catalogue in found:
        click.echo(f"{catalogue.stream}: {len(catalogue.seen):,} fields and values")
        for name, window in sorted(catalogue.seen.items()):
            click.echo(f"  {window}  {name}{_mark(catalogue, name)}")
    if not found:
        click.echo("Nothing was collected yet.")


def _accept(wanted: Sequence[CatalogueStore], accepted: Sequence[str], *, everything: bool) -> None:
    """Take fields from the list of those that no rule speaks of; raises UsageError where one is on none."""
    left = set(accepted)
    for each in wanted:
        catalogue, version = each.read()
        waits = catalogue.unruled if catalogue else []
        rest = [] if everything else [name for name in waits if name not in accepted]
        if catalogue is None or rest == waits:
            continue
        left.difference_update(waits)
        if not each.write(msgspec.structs.replace(catalogue, unruled=rest), version):
            raise DeliveryError(f"{each.stream}: a run has written the catalogue just now. Try again.")
    if left:
        raise click.UsageError(f"{', '.join(sorted(left))} waits for no decision: `fields` marks those that do.")


def _mark(catalogue: Catalogue, name: str) -> str:
    return "  NO RULE: give it one in REDACTION_RULES, or accept it with --accept" if name in catalogue.unruled else ""
