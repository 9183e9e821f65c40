"""The time, as an argument."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Where the time comes from, and how to wait; in seconds."""

    now: Callable[[], float] = time.time
    """Seconds since the epoch."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that never run backwards, for measuring."""
    sleep: Callable[[float], None] = time.sleep
