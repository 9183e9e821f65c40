"""What the parser makes of the sample records, beside what it made of them before.

Google changes its parsers about monthly. One that takes records no more drops nothing: they stay raw logs, of which no
rule hears.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.model.errors import DeliveryError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineStore:
    """The baseline in the bucket. Its methods raise what `Store` does."""

    store: Store
    layout: Layout

    def read(self) -> tuple[Baseline | None, str | None]:
        """The baseline and its version; None where there is none. Raises DeliveryError where it cannot be read."""
        stored = self.store.get(self.layout.parser_baseline)
        if stored is None:
            return None, None
        try:
            return msgspec.json.decode(stored.body, type=Baseline), stored.version
        except msgspec.MsgspecError as problem:
            raise DeliveryError(
                f"{self.store.uri(self.layout.parser_baseline)}, which says what is expected of SecOps' parser, cannot"
                f" be read ({problem}). Delete it: the next look writes it anew."
            ) from None

    def write(self, baseline: Baseline, version: str | None) -> bool:
        """Write it over this version, or where there is none; False where somebody else has written since."""
        body = msgspec.json.format(msgspec.json.encode(baseline), indent=1) + b"\n"
        return self.store.put_over(self.layout.parser_baseline, body, version) is not None


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
