"""What the checks that ask SecOps have in common: who asks, what is remembered, and an hour without an answer."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
import msgspec

from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.orchestration.accounts import Account
from zendesk_pipeline.orchestration.comparison import UNSEEN
from zendesk_pipeline.orchestration.verdicts import latest_verdict, verdict
from zendesk_pipeline.secops.access import access_of, connect
from zendesk_pipeline.secops.instance import READING, WaitLimit

if TYPE_CHECKING:
    from zendesk_pipeline.secops.client import SecopsClient

MEMORY = "remembered"
"""The metadata by which a verdict is remembered."""
TIMEOUT = 15
"""Seconds for an answer of Google's."""
MOST_WAITED = 120
"""Seconds that all checks of one run wait for one address, those of all accounts: the run has others to look at."""
SLOW = 5
"""Seconds; what Google answers sooner is no wait."""
MOST_UNANSWERED = 3
"""Hours in a row without an answer, from which on that is a finding: Google is down for a while now and then."""


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What the verdicts before have left."""

    watched: bool = False
    """Whether SecOps was ever asked with success."""
    unanswered: int = 0
    """Hours in a row."""
    texts: list[str] = []
    """What was wrong when SecOps was asked last."""
    stops: bool = False
    """Whether that was an error."""


Memory = TypeVar("Memory", bound=Watched)
Left = TypeVar("Left", bound=msgspec.Struct)


def remembered(instance: dg.DagsterInstance, key: dg.AssetCheckKey, kind: type[Memory]) -> Memory:
    """What the latest verdict has left; nothing before the first, or where another release has left it otherwise."""
    return left_by(instance, key, kind) or kind()


def left_by(instance: dg.DagsterInstance, key: dg.AssetCheckKey, kind: type[Left]) -> Left | None:
    """The same as `kind`; None where there is none that can be read: a check that raises would never leave another."""
    latest = latest_verdict(instance, key)
    entry = latest.metadata.get(MEMORY) if latest else None
    try:
        return msgspec.convert(entry.value, kind) if entry else None
    except msgspec.ValidationError:
        return None


def told(
    key: dg.AssetCheckKey,
    memory: Watched,
    metadata: Mapping[str, Any],
    *,
    more: Sequence[str] = (),
    otherwise: str,
) -> dg.AssetCheckResult:
    """A verdict with what is remembered of it; what is wrong `more` is not repeated by the next one."""
    severity = dg.AssetCheckSeverity.ERROR if memory.stops else dg.AssetCheckSeverity.WARN
    return verdict(key, severity, [*memory.texts, *more], {**metadata, **kept(memory)}, otherwise)


def kept(memory: Watched) -> Mapping[str, Any]:
    """The metadata by which the next look remembers."""
    return {MEMORY: dg.MetadataValue.json(msgspec.to_builtins(memory))}


def repeated(
    key: dg.AssetCheckKey, before: Watched, more: str, *, unanswered: int = 0, otherwise: str = ""
) -> dg.AssetCheckResult:
    """The verdict before, with its severity, and one thing more."""
    memory = msgspec.structs.replace(before, unanswered=unanswered)
    return told(key, memory, {}, more=[more] if more else [], otherwise=otherwise)


def asking(context: dg.AssetCheckExecutionContext, account: Account) -> "SecopsClient":
    """A client for the account's instance that asks for reading, and raises UnavailableError where others waited long.

    Raises what `connect` does.
    """
    access = access_of(account.settings)
    client = connect(access, READING)
    client.timeout = TIMEOUT
    client.waits = wait_limit(context.op_execution_context.run_id, access.instance.endpoint)
    return client


@lru_cache(maxsize=64)
def wait_limit(run: str, endpoint: str) -> WaitLimit:
    """What the checks of a run share for an address."""
    del run, endpoint
    return WaitLimit(left=MOST_WAITED, slow=SLOW)


def not_answered(key: dg.AssetCheckKey, before: Watched, problem: PipelineError) -> dg.AssetCheckResult:
    """What was found before stands, until SecOps has not answered for some hours; then that is told as well."""
    times = before.unanswered + 1
    if times >= MOST_UNANSWERED:
        return repeated(key, before, f"{UNSEEN}, {times} times in a row: {problem}", unanswered=times)
    return repeated(key, before, "", unanswered=times, otherwise=f"Not seen this time: {problem}")
