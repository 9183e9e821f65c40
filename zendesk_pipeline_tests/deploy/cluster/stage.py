"""A cluster on this machine: PostgreSQL, Redis, simulated Zendesk, SeaweedFS; a daemon, workers, and who kills them."""

import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import psutil
import pytest
import yaml

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket
from zendesk_pipeline.local.pipeline import settled_until
from zendesk_pipeline.local.services import LocalS3, SimulatedZendesk, local_s3, simulated_zendesk
from zendesk_pipeline.local.services import _running as running
from zendesk_pipeline.model.streams import COLLECTED_BY_DEFAULT, STREAMS
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.orchestration.catch_up_sensor import UNDER_WAY, delivered_windows
from zendesk_pipeline_tests.deploy.cluster.servers import (
    NoServerError,
    Postgres,
    Redis,
    postgres,
    program,
    redis_server,
)
from zendesk_pipeline_tests.project.foreign import foreign
from zendesk_pipeline_tests.root import ROOT

Found = TypeVar("Found")
DEPLOYED = ROOT / "deploy" / "dagster" / "celery" / "dagster.yaml"
LOOK_SECONDS = 0.5
QUICK: Mapping[str, Any] = {
    "run_launcher": {"config": {"include": ["soc.definitions"], "worker_silence_seconds": 6}},
    "run_monitoring": {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 2},
    "concurrency": {"runs": {"max_concurrent_runs": 4}},
}
"""What differs from the deployed file in the tests: seconds, the code location, and how many runs at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Running services, and the environment that makes a process part of them."""

    folder: Path
    postgres: Postgres
    redis: Redis
    zendesk: SimulatedZendesk
    s3: LocalS3
    environment: Mapping[str, str]

    @property
    def home(self) -> Path:
        """DAGSTER_HOME of every process."""
        return self.folder / "dagster"

    @contextmanager
    def instance(self) -> Generator[dg.DagsterInstance]:
        """The instance, as a process of the cluster opens it."""
        with dg.DagsterInstance.from_config(str(self.home)) as opened:
            yield opened

    def also(self, **environment: str) -> "Cluster":
        """The same with more variables."""
        return replace(self, environment={**self.environment, **environment})

    @contextmanager
    def process(self, name: str, *command: str, **environment: str) -> Generator[psutil.Process]:
        """A Python module with its arguments; ended with all that it started when the block ends."""
        environment = {**self.environment, **environment}
        log = self.folder / f"{name}.log"
        with running([sys.executable, "-m", *command], log, environment, end="TERM") as started:
            yield psutil.Process(started.pid)

    def daemon(self, module: str) -> AbstractContextManager[psutil.Process]:
        """Dagster's daemon over a code location."""
        return self.process("daemon", "dagster._daemon", "run", "-m", module)

    def worker(self, name: str, processes: int, *options: str) -> AbstractContextManager[psutil.Process]:
        """A Celery worker of so many processes."""
        where = ("--hostname", f"{name}@%h", "--concurrency", str(processes), "--loglevel", "info")
        return self.process(
            name, "celery", "--app", "zendesk_pipeline.orchestration.celery.worker", "worker", *where, *options
        )


@contextmanager
def cluster(folder: Path, *zendesk_options: str, **settings: str) -> Generator[Cluster]:
    """The services, from when they answer; `settings` are variables of the pipeline."""
    with ExitStack() as services:
        database = services.enter_context(postgres(folder))
        broker = services.enter_context(redis_server(folder))
        s3 = services.enter_context(local_s3(folder))
        zendesk = services.enter_context(simulated_zendesk(folder, *zendesk_options))
        environment = {
            **zendesk.environment,
            **s3.environment,
            **database.environment,
            **broker.environment,
            "DAGSTER_HOME": str(folder / "dagster"),
            "DAGSTER_EVENT_BATCH_SIZE": "500",
            **settings,
        }
        running = Cluster(
            folder=folder, postgres=database, redis=broker, zendesk=zendesk, s3=s3, environment=environment
        )
        running.home.mkdir()
        yield running


@contextmanager
def accounts_in_a_cluster(
    folder: Path, names: Sequence[str], span: Span, changes: Mapping[str, Any], *zendesk_options: str
) -> Generator[tuple[Cluster, dg.DagsterInstance]]:
    """The services and the instance for these accounts, opened in the environment of its processes.

    Args:
        folder: For everything.
        names: The accounts'.
        span: The windows to be collected.
        changes: What differs from the deployed file.
        zendesk_options: Of the simulated Zendesk.
    """
    with (
        cluster(folder, "--since", timestamp(span.start - 24 * HOUR), *zendesk_options) as services,
        pytest.MonkeyPatch.context() as patched,
    ):
        running = services.also(PYTHONPATH=accounts(services, names, span))
        (running.home / "dagster.yaml").write_text(deployed(changes))
        for name, value in running.environment.items():
            patched.setenv(name, value)
        with running.instance() as instance:
            yield running, instance


def newest(windows: int) -> Span:
    """So many windows, up to the last but one that has settled: no hour ends behind the sensor's back meanwhile."""
    end = settled_until() - HOUR
    return Span(end - windows * HOUR, end)


def deployed(changes: Mapping[str, Any], *, without: tuple[str, ...] = ()) -> str:
    """The instance's file as production has it, but for sections that are left out and entries that are changed."""
    content: dict[str, Any] = yaml.safe_load(DEPLOYED.read_text())
    kept = {name: section for name, section in content.items() if name not in without}
    return yaml.safe_dump(_changed(kept, changes))


def _changed(section: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    deeper: dict[str, Any] = {name: value for name, value in changes.items() if isinstance(value, dict)}
    return {**section, **changes, **{name: _changed(section[name], value) for name, value in deeper.items()}}


def bucket(services: Cluster, account: str, stream: str) -> Bucket:
    """A stream of an account in the bucket."""
    root = f"zendesk/{account}"
    return Bucket(
        stream=STREAMS[stream],
        store=Store(client=services.s3.client(), bucket=services.s3.bucket, encryption={}),
        layout=Layout(feed=f"{root}/crm/", state=f"{root}/state/", quarantine=f"{root}/quarantine/"),
    )


def accounts(services: Cluster, names: Sequence[str], span: Span, **attributes: Any) -> str:
    """A code location `soc.definitions` of these accounts, from the first window on; gives its PYTHONPATH."""
    project = foreign(services.folder, services.environment)
    for name in names:
        project.write(
            name,
            zendesk_base_url=services.zendesk.url,
            auth_mode="token",
            zendesk_email="ZENDESK_EMAIL",
            zendesk_api_token="ZENDESK_API_TOKEN",
            s3_bucket=services.s3.bucket,
            start_date=timestamp(span.start),
            resources=list(COLLECTED_BY_DEFAULT),
            minute=5,
            zendesk_export_rate=100000,
            **attributes,
        )
    return project.environment["PYTHONPATH"]


def needed() -> None:
    """Without the servers nothing can be tested: the sentence that says so is all there is to read."""
    try:
        for name in ("initdb", "postgres", "redis-server"):
            program(name)
    except NoServerError as missing:
        pytest.exit(missing.message, returncode=1)


def kill(process: psutil.Process) -> None:
    """As the machine under it would go: all its processes at once, none hears of it."""
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, nobody starts another one meanwhile
        _each([*process.children(recursive=True), process], number)


def _each(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@contextmanager
def held(process: psutil.Process) -> Generator[None]:
    """All its processes stand still until the block ends."""
    processes = [process, *process.children(recursive=True)]
    _each(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        _each(processes, signal.SIGCONT)


def stop_pool(worker: psutil.Process) -> None:
    """The processes in which a Celery worker executes stand still; it goes on taking tasks and answering."""
    for direct in worker.children():  # its main process; beside it a shell that has none
        _each(direct.children(recursive=True), signal.SIGSTOP)


def is_over(instance: dg.DagsterInstance, names: Sequence[str], span: Span) -> bool:
    """Every window of these accounts is reported, and no run is left."""
    keys = [dg.AssetKey([name, stream]) for name in names for stream in COLLECTED_BY_DEFAULT]
    whole = all(delivered_windows(instance, key, among=span) == set(span) for key in keys)
    return whole and not instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))


def starting(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """Runs that are launched, and of which no worker has said that it is at them."""
    launched = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
    return instance.get_runs(dg.RunsFilter(statuses=launched))


def found(look: Callable[[], Found | None], *, within: float) -> Found:
    """What `look` gives as soon as it gives something; raises TimeoutError after so many seconds without."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if seen := look():
            return seen
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"nothing was found within {within:g} s")
