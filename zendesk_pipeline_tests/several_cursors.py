"""Several cursors at once, brought about and seen: an account that is slow to answer and allows many requests."""

from collections.abc import Sequence

from zendesk_pipeline.local.simulator.zendesk import RequestSeen

LATENCY_MS = 80
"""At the largest rate that counts this asks for four cursors."""
SLOW = {"latency_ms": LATENCY_MS, "account_limit": 100_000}
"""The simulator's switches."""
CURSORS = 3
"""So many have to be seen at least."""


def cursors_at_once(requests: Sequence[RequestSeen]) -> int:
    """The most parts of a range that one of these moments saw asked for: a request is noted as its latency ends."""
    parts = sorted((seen.time, seen.pairs[:2]) for seen in requests if seen.path == "/api/v2/audit_logs")
    return max((_under_way(parts, ended) for ended, _ in parts), default=0)


def _under_way(parts: list[tuple[float, list[tuple[str, str]]]], at: float) -> int:
    """How many parts have a request that began before this moment and ended at it or later."""
    return len({str(part) for ended, part in parts if at <= ended < at + LATENCY_MS / 1000})
