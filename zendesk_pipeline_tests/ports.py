"""Ports that stay free for a while, although many tests run side by side."""

import random

from zendesk_pipeline.local.pipeline import is_free

OURS = range(12_000, 20_000)
"""Below those that the system gives to whoever names none: nobody comes upon one by chance."""


def lasting_port() -> int:
    """A port that nobody listens on, and that no other test is likely to take before it is used."""
    chosen = random.SystemRandom().sample(OURS, len(OURS))  # whatever tests have seeded
    return next(port for port in chosen if is_free(port))
