"""Compose as docs/deployment.md starts it: up, an hour collected, the database and a container gone, down, up again."""

from collections.abc import Iterator

import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, prove
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.model.windows import HOUR, timestamp
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline_tests.deploy.cluster.stage import found, newest
from zendesk_pipeline_tests.deploy.image import containers
from zendesk_pipeline_tests.deploy.image.composed import BUCKET, COMPOSE, PATIENCE, PROJECT, Composed, composed

SPAN = newest(3)
PARTS = ("postgres", "code", "daemon", "webserver")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    if said := containers.missing() or ("" if COMPOSE.exists() else "Docker Compose is missing: make iac"):
        pytest.exit(said, returncode=1)
    with composed(
        tmp_path_factory.mktemp("compose"), timestamp(SPAN.start - 24 * HOUR), timestamp(SPAN.start)
    ) as running:
        yield running


def _buckets(services: Composed) -> Iterator[Bucket]:
    chosen = Settings()
    layout = Layout.of(chosen)
    store = Store(client=services.s3, bucket=BUCKET, encryption={})
    yield from (Bucket(stream=STREAMS[name], store=store, layout=layout) for name in COLLECTED_BY_DEFAULT)


def _is_exact(services: Composed) -> bool:
    proofs = [prove(bucket, SPAN, services.control) for bucket in _buckets(services)]
    return all(proof.holds for proof in proofs) and sum(proof.at_source for proof in proofs) > 10


def _are_well(services: Composed) -> bool:
    said = services.states()
    return all(said[name] == ("running", "healthy") for name in PARTS)


def test_everything_comes_up_healthy(services: Composed) -> None:
    """By one command, on an empty volume; what needs another waits for it."""
    services.up()
    assert _are_well(services)


def test_what_is_missing_is_collected(services: Composed) -> None:
    """Nobody asks for it by hand, and each record is in S3 once."""
    found(lambda: _is_exact(services), within=PATIENCE)
    found(lambda: set(services.runs()) == {"SUCCESS"}, within=PATIENCE)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_that_is_killed_is_well_again(services: Composed, name: str) -> None:
    """Without a person: the engine or the next `up` starts it, the others go on, and what was known stays known."""
    before = found(services.runs, within=PATIENCE)
    containers.ran("podman", "kill", "--signal=KILL", f"{PROJECT}-{name}-1")
    services.up()
    services.join()
    found(lambda: _are_well(services), within=PATIENCE)
    found(lambda: services.runs()[-len(before) :] == before, within=PATIENCE)
    assert _is_exact(services)


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
    assert _is_exact(services)
