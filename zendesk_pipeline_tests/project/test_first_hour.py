"""The path of a new user: the commands of the documentation, one after another."""

import pytest

from zendesk_pipeline_tests import forked
from zendesk_pipeline_tests.project.first_hour import HOURS, NewUser, Step, new_user, walk


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> NewUser:
    """Somebody who has gone the whole way."""
    with new_user(tmp_path_factory.mktemp("first-hour"), print, forked.command) as walking:
        walk(walking)
        return walking


@pytest.fixture
def walked(user: NewUser) -> dict[str, Step]:
    """Each step by its name."""
    return {step.name: step for step in user.steps}


def test_the_doctor_says_first_what_is_missing(walked: dict[str, Step]) -> None:
    """With nothing set it fails, names both variables, and where they are explained."""
    step = walked["doctor, with nothing set"]
    assert step.status == 1
    assert "ZENDESK_BASE_URL and S3_BUCKET are not" in step.output
    assert "docs/settings.md" in step.output


def test_after_the_template_the_doctor_has_nothing_to_fail(walked: dict[str, Step]) -> None:
    """The settings from the stack's outputs and the writer's key are enough."""
    step = walked["doctor, with everything set"]
    assert "failed" not in step.output
    assert step.status == 0


def test_the_first_windows_are_there_and_proved(walked: dict[str, Step]) -> None:
    """Collected with the writer's rights alone, and reconciled with Zendesk."""
    assert [step.status for name, step in walked.items() if name.startswith(f"{HOURS} hours of ")] == [0, 0]
    assert walked["verify"].status == 0
    assert f"Nothing differs: Zendesk, ledgers and objects agree on {2 * HOURS} windows" in walked["verify"].output


def test_the_feed_is_described_for_the_bucket_of_the_stack(walked: dict[str, Step]) -> None:
    """Its address is the bucket's feed prefix, and no secret is shown."""
    step = walked["the feed's body"]
    assert step.status == 0
    assert '"s3Uri": "s3://acme-zendesk/zendesk/crm/"' in step.output
    assert '"secretAccessKey": "***"' in step.output


def test_no_secret_is_printed_on_the_way(user: NewUser) -> None:
    """Neither Zendesk's nor AWS's."""
    secrets = [user.variables[name] for name in ("ZENDESK_API_TOKEN", "AWS_SECRET_ACCESS_KEY")]
    assert all(secrets)
    assert [step.name for step in user.steps if any(secret in step.output for secret in secrets)] == []
