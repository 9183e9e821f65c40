"""What goes wrong between the bucket and SecOps: told once with the remedy, and told as solved."""

from pathlib import Path

from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk
from zendesk_pipeline_tests.promise.siem_story import CHECKS, story, tell
from zendesk_pipeline_tests.runs import QUIET

pytestmark = QUIET


def test_each_fault_at_the_siem_is_told_once_with_the_remedy_and_solved(
    zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout, tmp_path: Path
) -> None:
    """A feed that stops, an object never read, a feed that reads twice, another parser: by one check each."""
    with story(tmp_path, zendesk, s3, layout, print) as told:
        tell(told)

    assert [sentence for sentence, holds in told.checks if not holds] == []
    texts = [message.text for message in told.messages()]
    assert [[f"{check} failed" in text for check in CHECKS].index(True) for text in texts[::2]] == [0, 1, 2, 3]
    assert all("SOLVED after" in text for text in texts[1::2])
