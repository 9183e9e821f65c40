"""The stories of self-healing in short: shorter outages, and a tick of the daemon in ten minutes."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from zendesk_pipeline.local.services import LocalS3
from zendesk_pipeline.model.windows import HOUR, Span, Window
from zendesk_pipeline_tests.collected import COLLECTED
from zendesk_pipeline_tests.promise import stories
from zendesk_pipeline_tests.promise.stories import BEGIN, SENSOR, Story, stage, story
from zendesk_pipeline_tests.reconcile import reconcile
from zendesk_pipeline_tests.runs import QUIET

pytestmark = [QUIET, pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`")]
Begin = Callable[[str], Story]


@pytest.fixture
def begin(s3: LocalS3, tmp_path: Path) -> Iterator[Begin]:
    """Begins a story on a stage of its own; its timeline is shown where the test fails."""
    with ExitStack() as running:

        def story_of(name: str) -> Story:
            place = running.enter_context(stage(tmp_path, name, s3))
            return running.enter_context(story(place, print, every=10))

        yield story_of


def _ended_well(told: Story, hours: int) -> None:
    """Nothing of the story fails, and the bytes in the bucket are the source's, each record once."""
    assert [check.sentence for check in told.checks if not check.holds] == []
    place, span = told.stage, Span(BEGIN, BEGIN + hours * HOUR)
    for stream in COLLECTED:
        verdict = reconcile(place.zendesk.control, place.s3, place.layout, stream, span)
        assert verdict.exact
        assert verdict.source > 10 * hours
        assert told.complete(stream, span) == [*span]


def test_a_daemon_that_was_down(begin: Begin) -> None:
    """The newest window is the schedule's, those before it are one range for each stream; nobody is alerted."""
    told = begin("daemon")

    stories.daemon_down(told, hours=3)

    _ended_well(told, 5)
    assert {(run.stream, len(run.span)) for run in told.ran if run.by == SENSOR} == {(name, 2) for name in COLLECTED}
    assert told.stage.webhook.received == []


def test_a_zendesk_that_was_down(begin: Begin) -> None:
    """It is asked a few times an hour; one message tells of both streams, and one that it is over."""
    told = begin("zendesk")

    stories.zendesk_down(told, hours=1)

    _ended_well(told, 3)
    failed = [run for run in told.ran if run.failure]
    heard = [alert.title.removeprefix("Zendesk collection: ") for alert in told.alerts]
    refused = [seen for seen in told.stage.zendesk.control.requests() if seen.fault]
    assert 0 < len(refused) <= 4 * len(failed) <= 4 * 2 * 5
    assert heard[0] == "2 problems"
    assert "solved" in heard[-1] or heard[-1].startswith("Delivered now: ")
    assert len(told.stage.webhook.received) == len(heard) <= 4


def test_a_window_that_cannot_be_read(begin: Begin) -> None:
    """The windows before and behind go on, it is named by the sensor and by an alert, and it heals by itself."""
    told = begin("poison")

    stories.poisoned_window(told, hours=3)

    _ended_well(told, 3)
    poisoned = Window(BEGIN + HOUR)
    assert all(f"audit_logs {poisoned}" in said for _, said in told.named)
    assert [run.span for run in told.ran if run.failure][3:6].count(Span(poisoned.start, poisoned.end)) == 3
    assert any(str(poisoned) in received.body.decode() for received in told.stage.webhook.received)


@pytest.mark.parametrize(("holds", "status", "said"), [(True, 0, "yes it"), (False, 1, "NO  it")])
def test_the_command_fails_where_something_does_not_hold(
    monkeypatch: pytest.MonkeyPatch, *, holds: bool, status: int, said: str
) -> None:
    """Each thing that has to hold is printed with its answer, and the exit status is theirs."""

    def short(told: Story) -> None:
        """A story in which nothing happens."""
        told.note("nothing")
        told.check("it", holds)

    monkeypatch.setitem(stories.STORIES, "daemon", short)
    monkeypatch.setattr(stories.local, "forget_account", lambda: False)

    result = CliRunner().invoke(stories.main, ["--only", "daemon"])

    assert result.exit_code == status
    assert "\n01:00  nothing\n" in result.output
    assert said in result.output
