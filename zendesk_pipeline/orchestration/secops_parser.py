"""The check that runs SecOps' parser on sample records, once a day. It ingests nothing.

What is expected of the parser is in the bucket, beside the ledgers.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.model.errors import DeniedError, PipelineError
from zendesk_pipeline.model.windows import HOUR
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.comparison import UNSEEN
from zendesk_pipeline.orchestration.resources import bucket_key, bucket_of
from zendesk_pipeline.orchestration.secops_verdicts import Watched, asking, not_answered, remembered, repeated, told
from zendesk_pipeline.secops.access import NotInstalledError, missing_settings
from zendesk_pipeline.secops.instance import SecopsError, UnavailableError
from zendesk_pipeline.secops.parser_run import ParserResult, active, code_of, has_sample, run, sample
from zendesk_pipeline.secops.parser_watch import Baseline, baseline_in, baseline_of, compared

CHECK = "secops_parser"
BETWEEN = 23 * HOUR
"""Seconds between two looks."""


class _Memory(Watched, frozen=True, kw_only=True):
    """What the verdicts before have left."""

    looked: float = 0
    """When the parser was run last, seconds since the epoch."""


def secops_parser(account: Account, clock: Clock) -> dg.AssetChecksDefinition:
    """The check of SecOps' parser; where nothing here may ask, it says that nobody looks."""
    key = dg.AssetCheckKey(account.feed_key, CHECK)

    @dg.asset_check(
        name=key.name,
        asset=account.feed_key,
        description="SecOps' parser still makes of sample records what it made of them before; looked at once a day.",
        required_resource_keys={bucket_key(account)},
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before, now = remembered(context.instance, key, _Memory), clock.now()
        if missing := missing_settings(account.settings):
            return _unlooked(key, f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.")
        if 0 <= now - before.looked < BETWEEN:  # a clock that was ahead has left a time to come
            return repeated(key, before, "", otherwise="It was looked at within the last day.")
        try:
            found = _found(context, account, now)
            store = bucket_of(context, account)
            baselines = baseline_in(store.store(), store.layout)
            expected, version = baselines.read()
            texts, expects = compared(expected, found)
            if expects != expected:
                baselines.write(expects, version)  # another look that was faster has seen the same
        except UnavailableError as problem:
            return not_answered(key, before, problem)
        except PipelineError as problem:
            return _not_looked(key, before, problem)
        memory = _Memory(watched=True, texts=texts, looked=now)
        return told(key, memory, _observed(found), otherwise=f"The parser {found.parser} does what it did before.")

    return check


def _found(context: dg.AssetCheckExecutionContext, account: Account, now: float) -> Baseline:
    client = asking(context, account)
    parser = active(client.parsers())
    code, form = code_of(parser), account.settings.output_format
    samples = {stream.name: (stream, sample(stream)) for stream in account.streams if has_sample(stream)}
    results: dict[str, tuple[ParserResult, list[bytes]]] = {
        name: (run(client, code, stream, lines)[form], lines) for name, (stream, lines) in samples.items()
    }
    return baseline_of(parser.parser_id, form, results, now)


def _observed(found: Baseline) -> Mapping[str, Any]:
    shares = {
        f"{name}_recognised_share": round(each.recognised / each.records, 3) for name, each in found.streams.items()
    }
    return {"parser": found.parser, **shares}


def _not_looked(key: dg.AssetCheckKey, before: _Memory, problem: PipelineError) -> dg.AssetCheckResult:
    """SecOps refuses, or the bucket does."""
    nobody = isinstance(problem, NotInstalledError | SecopsError | DeniedError)
    if nobody and not before.watched:  # `secops_reads` tells of what is wrong with the instance or who asks
        return _unlooked(key, str(problem))
    return repeated(key, before, f"{UNSEEN}: {problem}")


def _unlooked(key: dg.AssetCheckKey, why: str) -> dg.AssetCheckResult:
    return told(key, _Memory(), {}, otherwise=f"Nobody looks at SecOps' parser: {why}")
