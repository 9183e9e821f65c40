"""The pipeline on this machine alone: simulated Zendesk, local S3 server, a Dagster instance, runs as processes.

What `demo` and `dev` have in common. Nothing here can reach a real account: see `forget_account`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from zendesk_pipeline.delivery.bucket import Store
from zendesk_pipeline.delivery.object_keys import Layout
from zendesk_pipeline.local.delivery_proof import Bucket, Collected
from zendesk_pipeline.local.services import (
    LOOPBACK,
    LocalS3,
    LocalServiceError,
    SimulatedZendesk,
    local_s3,
    simulated_zendesk,
)
from zendesk_pipeline.model.errors import PipelineError
from zendesk_pipeline.model.rate_budgets import HIGH_VOLUME_EXPORT_RATE
from zendesk_pipeline.model.streams import STREAMS
from zendesk_pipeline.model.windows import Span, Window, timestamp
from zendesk_pipeline.orchestration import databases
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.programs import install

if TYPE_CHECKING:
    from zendesk_pipeline.local.display import Display

SETTLED = 360
"""Seconds after a window's end at which it may be read: SETTLE_SECONDS and a minute."""
STOP_SECONDS = 20
AGAIN_SECONDS = 0.05
"""An interruption that Python dropped is raised again after this time."""
MOST_EVENTS = 1000
"""Materializations that one question to Dagster returns."""
POLL_SECONDS = 0.25
"""Between two listings of the bucket while runs are under way."""
SETTINGS_OF_THE_INSTANCE = """\
telemetry: {enabled: false}
nux: {enabled: false}
concurrency: {pools: {default_limit: 1, granularity: op}}
"""
"""The dagster.yaml of the demo's instance; `dev` uses the project's."""


class LocalError(PipelineError):
    """Something of the local pipeline could not be started, or a run of it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPipeline:
    """Both services and the folder of everything; `environment` makes a process part of it."""

    folder: Path
    zendesk: SimulatedZendesk
    s3: LocalS3
    environment: dict[str, str]

    @property
    def home(self) -> Path:
        """DAGSTER_HOME."""
        return self.folder / "dagster"


def display() -> "Display":
    """The display; raises LocalError where the `local` extra is not installed."""
    try:
        from zendesk_pipeline.local.display import Display  # noqa: PLC0415 - needs rich, which production does not
    except ModuleNotFoundError:
        raise LocalError(f"rich is missing: {install('rich')}") from None
    return Display()


def buckets(pipeline: LocalPipeline) -> dict[str, Bucket]:
    """Each stream that is collected, in the bucket; all by the settings' defaults."""
    chosen = Settings.model_construct()
    layout = Layout.of(chosen)
    store = Store(client=pipeline.s3.client(), bucket=pipeline.s3.bucket, encryption={})
    return {name: Bucket(stream=STREAMS[name], store=store, layout=layout) for name in chosen.resources}


def settled_until() -> int:
    """The end of the latest window that has ended and settled, seconds since the epoch."""
    return Window.of(int(time.time()) - SETTLED).start


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of the loopback address."""
    with suppress(OSError), socket.create_server((LOOPBACK, port)):
        return True
    return False


def forget_account() -> bool:
    """Take every setting of the pipeline, AWS and Dagster out of this process's environment.

    Gives whether a Zendesk account was among them. After this no process started here can reach it, or alert anybody.
    """
    named = "ZENDESK_BASE_URL" in os.environ
    settings = {name.upper() for name in Settings.model_fields}
    for name in list(os.environ):
        if name in settings or name.startswith(("ZENDESK_", "ALERT_", "AWS_", "DAGSTER_")):
            del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = LOOPBACK
    return named


@contextmanager
def local_pipeline(folder: Path, *zendesk_options: str, start: int, instance: str) -> Generator[LocalPipeline]:
    """Services that run until the block ends.

    Args:
        folder: For data, logs and DAGSTER_HOME; what is there already is taken up.
        zendesk_options: Those of `zendesk-pipeline simulate`.
        start: The first window, seconds since the epoch.
        instance: The content of dagster.yaml.
    """
    folder = folder.resolve()
    limited = ("--export-limit", str(HIGH_VOLUME_EXPORT_RATE), *zendesk_options)
    with ExitStack() as services:
        try:
            s3 = services.enter_context(local_s3(folder))
            zendesk = services.enter_context(simulated_zendesk(folder, *limited))
        except LocalServiceError as problem:
            raise LocalError(str(problem)) from None
        settings = {
            **zendesk.environment,
            **s3.environment,
            "START_DATE": timestamp(start),
            "ZENDESK_EXPORT_RATE": str(HIGH_VOLUME_EXPORT_RATE),
            "DAGSTER_HOME": str(folder / "dagster"),
        }
        pipeline = LocalPipeline(folder=folder, zendesk=zendesk, s3=s3, environment={**os.environ, **settings})
        _prepare(pipeline.home, instance)
        yield pipeline


def _prepare(home: Path, settings: str) -> None:
    """The instance's folder with its databases."""
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(settings)
    with databases.instance(home):
        pass


@contextmanager
def running(pipeline: LocalPipeline, log: Path, *command: str) -> Generator["subprocess.Popen[bytes]"]:
    """A Python module with its arguments, as a process that has ended with all its children when the block ends.

    It runs in DAGSTER_HOME: in another folder Dagster would read a `.env` and put it above what we set.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=pipeline.home,
            env=pipeline.environment,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that leads a session, and all of its children."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):  # what is left of the group
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def collect(pipeline: LocalPipeline, span: Span, tell: Callable[[str, Collected], None] | None = None) -> None:
    """One Dagster run a stream over the range of windows, each a process; `tell` hears what is collected so far.

    Raises LocalError with the last failure that the log of an unsuccessful run shows.
    """
    watched = buckets(pipeline)
    with ExitStack() as processes:
        runs = {name: processes.enter_context(_run(pipeline, name, span)) for name in watched}
        busy = True
        while busy:
            time.sleep(POLL_SECONDS)
            busy = any(run.poll() is None for run in runs.values())
            if tell:
                for name, bucket in watched.items():
                    tell(name, bucket.progress(span))
    for name, run in runs.items():
        if run.returncode:
            raise LocalError(f"The run of {name} failed: {last_words(_log(pipeline, name))}")


def _run(pipeline: LocalPipeline, stream: str, span: Span) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    keys = (Window.of(at).partition_key for at in (span.start, span.end - 1))
    what = ("--select", stream, "--partition-range", "...".join(keys))
    command = ("dagster", "asset", "materialize", "-m", "zendesk_pipeline.definitions", *what)
    return running(pipeline, _log(pipeline, stream), *command)


def last_words(log: Path) -> str:
    """The last failure in a Dagster log, or its last line where it shows none."""
    lines = log.read_text(errors="replace").splitlines()
    failures = [line for line in lines if "Failure: " in line]
    return (failures or lines or ["it said nothing"])[-1].strip()


def _log(pipeline: LocalPipeline, stream: str) -> Path:
    return pipeline.folder / f"{stream}.log"


def materialized(pipeline: LocalPipeline, stream: str) -> dict[str, dict[str, Any]]:
    """What Dagster reports of each materialized window, by partition key: the metadata of the latest time."""
    from dagster import AssetKey, AssetRecordsFilter, DagsterInstance  # noqa: PLC0415 - slow to import

    with DagsterInstance.from_config(str(pipeline.home)) as instance:
        wanted = AssetRecordsFilter(asset_key=AssetKey(stream))
        found = instance.fetch_materializations(wanted, limit=MOST_EVENTS, ascending=True).records
    events = [event for record in found if (event := record.asset_materialization)]
    return {str(event.partition): {name: entry.value for name, entry in event.metadata.items()} for event in events}


@contextmanager
def one_interruption() -> Generator[None]:
    """Ctrl-C, SIGTERM and a closed terminal raise KeyboardInterrupt once; while things end, more of it is ignored.

    Python drops what is raised in a finaliser or in a callback of the import system: it is then raised again.
    """
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signals = [each for each in wanted if signal.getsignal(each) is not signal.SIG_IGN]  # nohup and & ignore some
    tell_dropped = sys.unraisablehook

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    def dropped(what: "sys.UnraisableHookArgs") -> None:
        if issubclass(what.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            tell_dropped(what)

    before = {each: signal.signal(each, interrupt) for each in (*signals, signal.SIGALRM)}
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = tell_dropped
        signal.setitimer(signal.ITIMER_REAL, 0)
        for each, handler in before.items():
            signal.signal(each, handler)
