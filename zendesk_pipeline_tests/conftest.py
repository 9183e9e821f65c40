"""What tests stand on: a simulated Zendesk and real S3 servers, each its own process, reached over HTTP."""

import gc
import itertools
import os
import signal
from collections.abc import Callable, Generator, Iterator
from math import ceil
from pathlib import Path

import hypothesis
import pytest

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, moto_s3, simulated_zendesk
from zendesk_pipeline.model.clock import Clock
from zendesk_pipeline.settings import environment as settings
from zendesk_pipeline_tests import engines, read_once

SINCE, NOW = "2026-11-12T00:00:00Z", "2026-11-14T12:00:00Z"
"""The simulated account's history, and its frozen clock; a test may set the clock."""

FROM_OUTSIDE = settings.NEEDED | settings.OPTIONAL | {"GOOGLE_APPLICATION_CREDENTIALS"}
FAMILIES = ("AWS_", "DAGSTER_", "FEED_", "S3_", "SECOPS_", "ZENDESK_")
"""What no test takes from the environment of whoever runs it: our settings and secrets, what AWS, Google and Dagster
read, and of our families of names those that a command alone has."""

LONGEST = frozenset(
    {
        "test_bench",
        "test_comparison",
        "test_crashes",
        "test_demo",
        "test_dev",
        "test_end_to_end",
        "test_faults",
        "test_histories",
        "test_memory",
        "test_other_people",
        "test_parallel_walk",
        "test_shared_token",
        "test_siem_story",
        "test_soak",
        "test_stories",
    }
)

GARBAGE = 20_000
"""Objects that are made before Python looks for garbage among them; 700 by itself, which costs a tenth of all tests."""

_numbers = itertools.count()

# A shared machine may take its time for an example; how long is no behaviour of ours.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_configure() -> None:
    """Tests that interrupt a process work in the background of a script too, where SIGINT and SIGHUP are ignored."""
    read_once.from_now_on()
    engines.keep(connected=True)
    os.environ.setdefault("GOMAXPROCS", "1")  # SeaweedFS is one of many that share the cores: a quarter less for each
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)  # also without xdist
def pytest_xdist_auto_num_workers() -> int:
    """Half as many again as there are cores: tests wait for processes and answers nearly as long as they work."""
    return ceil(1.5 * (os.cpu_count() or 1))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected is no garbage, and none of it is looked through again and again."""
    gc.disable()
    collected = yield
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
    gc.enable()
    return collected


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that none of them is what everybody waits for at the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--thorough` tries every case of the large families, not a sample of them (`make faults`)."""
    parser.addoption("--thorough", action="store_true", help="try every crash point and every fault")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the environment or the `.env` of whoever runs it, and none can reach a real account."""
    if Path(".env").exists():
        monkeypatch.chdir(request.getfixturevalue("tmp_path"))
    for name in filter(is_set_outside, os.environ):
        monkeypatch.delenv(name)


def is_set_outside(name: str) -> bool:
    """Whether a variable would change what the pipeline under test does, or where it may go."""
    return name.upper() in FROM_OUTSIDE or name.upper().startswith(FAMILIES)


@pytest.fixture(scope="session")
def _zendesk_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedZendesk]:
    with simulated_zendesk(tmp_path_factory.mktemp("zendesk"), "--since", SINCE, "--now", NOW) as running:
        yield running


@pytest.fixture
def zendesk(_zendesk_process: SimulatedZendesk) -> SimulatedZendesk:
    """A simulated Zendesk without faults, limits or remembered requests."""
    _zendesk_process.control.reset()
    return _zendesk_process


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """SeaweedFS: checks checksums, credentials and conditional writes. Tests keep apart by prefix."""
    with local_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """Moto: answers as AWS does where SeaweedFS differs (If-Match on an absent key, KMS)."""
    with moto_s3(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def layout() -> Layout:
    """Prefixes of the test's own."""
    root = f"test-{next(_numbers):04d}"
    return Layout(feed=f"{root}/crm/", state=f"{root}/state/", quarantine=f"{root}/quarantine/")


@pytest.fixture
def store(s3: LocalS3) -> Store:
    return Store(client=s3.client(), bucket=s3.bucket, encryption={})


@pytest.fixture
def environment(zendesk: SimulatedZendesk, s3: LocalS3, layout: Layout) -> dict[str, str]:
    """The settings of a pipeline that collects from `zendesk` into `s3`; AWS's variables are among them."""
    return {
        **zendesk.environment,
        **s3.environment,
        "S3_PREFIX": layout.feed,
        "STATE_PREFIX": layout.state,
        "QUARANTINE_PREFIX": layout.quarantine,
        "START_DATE": SINCE,
        "ZENDESK_EXPORT_RATE": "100000",
    }


class FakeClock:
    """A clock that only sleeping moves; `clock` is what the code under test takes."""

    def __init__(self, now: float) -> None:
        self.time = now
        self.slept: list[float] = []
        self.clock = Clock(now=self._now, monotonic=self._now, sleep=self._sleep)

    def _now(self) -> float:
        return self.time

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def fake_clock() -> Callable[[float], FakeClock]:
    """Makes a clock that stands at the given seconds since the epoch."""
    return FakeClock
