"""What the parser makes of the sample records, beside what it made of them before.

Google changes its parsers about monthly. One that takes records no more drops nothing: they stay raw logs, of which no
rule hears.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.delivery.state_object import StateObject
from zendesk_pipeline.secops.parser_run import ParserResult
from zendesk_pipeline.settings.environment import OutputFormat

DIGEST_LENGTH = 16
MOST_NAMED = 8


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of the samples of one stream."""

    samples: str
    """The digest of the records: of other ones nothing is expected."""
    records: int
    recognised: int
    fields: list[str]
    """Of the events, by their paths."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of the parser."""

    parser: str
    """The id of the one that made it; each version of a parser has its own."""
    form: OutputFormat
    since: float
    """Seconds since the epoch."""
    streams: dict[str, Expected]
    version: int = 1


def baseline_in(store: Store, layout: Layout) -> StateObject[Baseline]:
    """The baseline in the bucket."""
    return StateObject(
        store=store,
        key=layout.parser_baseline,
        shape=Baseline,
        meaning="which says what is expected of SecOps' parser",
        made_by="look writes",
    )


def baseline_of(
    parser: str, form: OutputFormat, results: Mapping[str, tuple[ParserResult, Sequence[bytes]]], now: float
) -> Baseline:
    """What a parser makes of the samples of each stream."""
    streams = {
        name: Expected(
            samples=hashlib.sha256(b"\n".join(lines)).hexdigest()[:DIGEST_LENGTH],
            records=len(lines),
            recognised=result.recognised,
            fields=sorted(result.paths),
        )
        for name, (result, lines) in results.items()
    }
    return Baseline(parser=parser, form=form, since=now, streams=streams)


def compared(before: Baseline | None, now: Baseline) -> tuple[list[str], Baseline]:
    """What is worse than before, as sentences, and what is expected from now on.

    Where something is worse the old expectation stays. What is better, or new, is expected from then on.
    """
    texts: list[str] = []
    expected = dict(before.streams) if before and before.form == now.form else {}
    for name, found in now.streams.items():
        old = expected.get(name)
        if old is None or old.samples != found.samples:
            expected[name] = found
            continue
        lost = sorted(set(old.fields) - set(found.fields))
        if found.recognised < old.recognised:
            texts.append(
                f"{name}: the parser {now.parser} recognises {found.recognised} of {found.records} sample records, and"
                f" {old.recognised} {_before(before, now)}: such records stay raw logs"
            )
        elif lost:
            more = f" and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
            texts.append(
                f"{name}: of the parser {now.parser} these fields come no more, which came"
                f" {_before(before, now)}: {', '.join(lost[:MOST_NAMED])}{more}"
            )
        else:
            expected[name] = found
    same = before and (before.parser, before.form) == (now.parser, now.form)
    if before and (texts or (same and before.streams == expected)):
        return texts, msgspec.structs.replace(before, streams=expected)
    return texts, msgspec.structs.replace(now, streams=expected)


def _before(before: Baseline | None, now: Baseline) -> str:
    if before is None or before.parser == now.parser:
        return "before"
    return f"with {before.parser} on {datetime.fromtimestamp(before.since, UTC):%Y-%m-%d}"
