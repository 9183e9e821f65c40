"""How the tests of alerts send them."""

import pytest

from zendesk_pipeline.alerts import channels
from zendesk_pipeline_tests import forked


@pytest.fixture(autouse=True)
def sender(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The process that sends is forked from a warm one; as it is started otherwise is returned."""
    started = channels.SENDER
    monkeypatch.setattr(channels, "SENDER", forked.command("-m", *started[2:]))
    return started
