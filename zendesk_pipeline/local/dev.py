"""`zendesk-pipeline dev`: the Dagster UI over a simulated Zendesk and a local S3 server, with data that stays.

Everything is in `.local/` below the current folder: the start of the simulated history, the bucket and Dagster's
own files. Started again, it continues with the same data.
"""

import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.error import URLError

import click
from msgspec.json import encode

from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.pipeline import LocalError, LocalPipeline
from zendesk_pipeline.local.services import ACCESS_KEY, LOOPBACK, SECRET_KEY
from zendesk_pipeline.model.windows import HOUR, Span, timestamp
from zendesk_pipeline.orchestration import databases, lost_runs
from zendesk_pipeline.settings.environment import Settings
from zendesk_pipeline.settings.programs import install

if TYPE_CHECKING:
    import subprocess

    from zendesk_pipeline.local.display import Display

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = Path(".local")
PAST_HOURS = 48
"""Windows before the first start; that start collects the first half of them."""
BEFORE_HOURS = 24
"""History before the first window: tickets that change later were created then."""
POLL_SECONDS = 0.25


@click.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Of the UI.")
def dev(port: int) -> None:
    """Open the Dagster UI over a simulated Zendesk and a local S3 server. Needs no account; data stays in .local/."""
    display = local.display()
    for name in ("dagster.yaml", "workspace.yaml"):
        if not (PROJECT / name).exists():
            raise LocalError(
                f"{name} is missing in {PROJECT}: dev needs a checkout of the project, installed from there."
            )
    if find_spec("dagster_webserver") is None:
        raise LocalError(f"The UI is missing: {install('dagster-webserver')}")
    if not local.is_free(port):
        raise LocalError(f"Port {port} is taken: end what listens on {LOOPBACK}:{port}, or choose another with --port.")
    if local.forget_account() or Path(".env").exists():
        display.say("dev uses a simulated account, never the one of ZENDESK_BASE_URL or .env.")
    try:
        with local.one_interruption(), _alone():
            _dev(display, port)
    except KeyboardInterrupt:
        display.say("\nStopped: nothing is left running. The data stays in .local/ for the next time.")


@contextmanager
def _alone() -> Generator[None]:
    """Holds a lock until the block ends: two servers on the same data would damage it."""
    import fcntl  # noqa: PLC0415 - not on Windows, where the other commands work

    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(f"Another `dev` is using {FOLDER.resolve()}: end that one first.") from None
        yield


def _dev(display: "Display", port: int) -> None:
    start = _start()
    first_time = not (FOLDER / "dagster").exists()
    display.say("Starting a simulated Zendesk, an S3 server (SeaweedFS) and Dagster on this machine …")
    since, instance = timestamp(start - BEFORE_HOURS * HOUR), (PROJECT / "dagster.yaml").read_text()
    with local.local_pipeline(FOLDER, "--since", since, start=start, instance=instance) as pipeline:
        if first_time:
            _collect_half(pipeline, start, display)
        else:
            with databases.instance(pipeline.home) as opened:
                lost_runs.end(opened, display.say)
        with dagster_ui(pipeline, port) as process:
            if process.poll() is None:
                display.say(_directions(pipeline, port))
            process.wait()
        raise LocalError(f"Dagster ended by itself: {local.last_words(pipeline.folder / 'dagster.log')}")


def _start() -> int:
    """The first window (seconds since the epoch): decided at the first start, and kept."""
    kept = FOLDER / "start"
    if not kept.exists():
        kept.write_text(str(local.settled_until() - PAST_HOURS * HOUR))
    return int(kept.read_text())


def _collect_half(pipeline: LocalPipeline, start: int, display: "Display") -> None:
    half = Span(start, start + PAST_HOURS // 2 * HOUR)
    display.say(f"Collecting the first {len(half)} of {PAST_HOURS} hours, once, for the UI to have something to show:")
    with display.progress(list(local.buckets(pipeline)), len(half)) as tell:
        local.collect(pipeline, half, tell)


@contextmanager
def dagster_ui(pipeline: LocalPipeline, port: int) -> Generator["subprocess.Popen[bytes]"]:
    """`dagster dev` as a process, yielded once its UI answers; it may have ended before."""
    log = pipeline.folder / "dagster.log"
    log.unlink(missing_ok=True)
    workspace = str(PROJECT / "workspace.yaml")
    command = ("dagster", "dev", "--workspace", workspace, "--host", LOOPBACK, "--port", str(port))
    with TemporaryDirectory() as sockets:  # Dagster does not remove its sockets
        place = replace(pipeline, environment={**pipeline.environment, "TMPDIR": sockets})
        with local.running(place, log, *command) as process:
            while process.poll() is None and not answers(f"http://{LOOPBACK}:{port}/server_info"):
                time.sleep(POLL_SECONDS)
            yield process


def answers(url: str) -> bool:
    """Whether a web server answers there with status 200."""
    with suppress(URLError, OSError), urllib.request.urlopen(url, timeout=POLL_SECONDS * 8) as answer:  # noqa: S310  # our own http address
        return answer.status == HTTPStatus.OK
    return False


def trouble() -> list[dict[str, str | int]]:
    """A fault in which Zendesk answers 503 to a page and all its retries: one run fails, and the next one succeeds."""
    retries: int = Settings.model_fields["http_retries"].default
    return [{"path": "audit_logs", "kind": "status", "code": 503, "times": retries + 1}]


def _directions(pipeline: LocalPipeline, port: int) -> str:
    zendesk, s3 = pipeline.zendesk, pipeline.s3
    return f"""
[bold]Dagster UI[/bold]          http://{LOOPBACK}:{port}
[bold]simulated Zendesk[/bold]   {zendesk.url}
[bold]S3 (SeaweedFS)[/bold]      {s3.endpoint}, bucket {s3.bucket}, key {ACCESS_KEY}, secret {SECRET_KEY}
[bold]Dagster's output[/bold]    {pipeline.folder / "dagster.log"}

Try:
  In the UI, Runs: within a minute or two catch_up_sensor asks for the hours that are missing.
  hourly_collection_schedule is on: each hour is collected five minutes after its end.
  Trouble, on demand: the next run of audit_logs fails, and what it was to collect comes by itself some minutes later.
    curl {zendesk.url}/_simulator/faults -d '{encode(trouble()).decode()}'
  What Zendesk was asked:
    curl {zendesk.url}/_simulator/requests
Ctrl-C ends all of it; the data stays in .local/ (make clean removes it).
"""
