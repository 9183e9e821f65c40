"""Compose as docs/deployment.md starts it: up, an hour collected, the database and a container gone, down, up again."""

from collections.abc import Iterator

import pytest

from zendesk_pipeline.model.windows import HOUR, timestamp
from zendesk_pipeline_tests.deploy.cluster.stage import found, newest
from zendesk_pipeline_tests.deploy.image import containers
from zendesk_pipeline_tests.deploy.image.composed import COMPOSE, PARTS, PATIENCE, PROJECT, Composed, composed

SPAN = newest(3)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    if said := containers.missing() or ("" if COMPOSE.exists() else "Docker Compose is missing: make iac"):
        pytest.exit(said, returncode=1)
    with composed(
        tmp_path_factory.mktemp("compose"), timestamp(SPAN.start - 24 * HOUR), timestamp(SPAN.start)
    ) as running:
        yield running


def test_everything_comes_up_healthy(services: Composed) -> None:
    """By one command, on an empty volume; what needs another waits for it."""
    services.up()
    assert services.are_well()


def test_what_is_missing_is_collected(services: Composed) -> None:
    """Nobody asks for it by hand, and each record is in S3 once."""
    found(lambda: services.is_exact(SPAN), within=PATIENCE)
    found(lambda: set(services.runs()) == {"SUCCESS"}, within=PATIENCE)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_killed_is_well_again(services: Composed, name: str) -> None:
    """Without a person: the engine or the next `up` starts it, the others go on, and what was known stays known."""
    before = found(services.runs, within=PATIENCE)
    containers.ran("podman", "kill", "--signal=KILL", f"{PROJECT}-{name}-1")
    services.up()
    services.join()
    found(services.are_well, within=PATIENCE)
    found(lambda: services.runs()[-len(before) :] == before, within=PATIENCE)
    assert services.is_exact(SPAN)


def test_what_is_stopped_and_started_again_has_its_data(services: Composed) -> None:
    """`down` ends every part by itself, and after `up` the UI shows the runs of before."""
    before = found(services.runs, within=PATIENCE)
    services.compose("stop", *PARTS[::-1])
    ended = {
        name: containers.ran("podman", "inspect", "--format={{.State.ExitCode}}", f"{PROJECT}-{name}-1")
        for name in PARTS
    }
    assert {name: int(code) for name, code in ended.items()} == dict.fromkeys(PARTS, 0)
    services.compose("rm", "--force", "--stop", "zendesk")
    services.compose("rm", "--force", *PARTS)
    services.up()
    found(lambda: services.runs()[-len(before) :] == before, within=PATIENCE)
    assert services.is_exact(SPAN)
