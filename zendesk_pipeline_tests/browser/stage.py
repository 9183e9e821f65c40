"""What the UI shows: all that `zendesk-pipeline dev` starts, in a folder and on ports of its own, and a webhook."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from zendesk_pipeline.local import dev
from zendesk_pipeline.local import pipeline as local
from zendesk_pipeline.local.pipeline import LocalPipeline
from zendesk_pipeline.local.services import LOOPBACK
from zendesk_pipeline.local.simulator.faults import Rule
from zendesk_pipeline.model.windows import HOUR, Span, Window, timestamp
from zendesk_pipeline_tests.fakes.scripted_server import Reply, ScriptedServer, answering
from zendesk_pipeline_tests.ports import lasting_port

Found = TypeVar("Found")

LOOK_SECONDS = 0.25
CATCH_UP_HOURS = "0"
"""No catch-up sensor: it would collect the windows before anybody clicks, and ask for the failed one again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A running UI and what is behind it."""

    url: str
    """Of the UI."""
    pipeline: LocalPipeline
    alerts: ScriptedServer
    """The one address of ALERT_URLS."""
    windows: Span
    """Those that have ended and settled at the start; one more comes with each hour."""

    def half(self) -> Span:
        """The older half of the windows."""
        return replace(self.windows, end=self.windows.start + len(self.windows) // 2 * HOUR)

    def refuse(self, window: Window) -> None:
        """From now on Zendesk answers 401 to every request for the audit logs of the window."""
        end = timestamp(window.end).partition(":")[0]  # the hour of the filter's end; no other run asks up to it
        rule = Rule(path=f"audit_logs.*{end}", kind="status", code=401, times=0)
        self.pipeline.zendesk.control.add_faults(rule)


@contextmanager
def stage(*, collected: bool = False) -> Generator[Stage]:
    """Everything, from when the UI answers; `collected` has the older half of the windows delivered by then.

    Like `dev`, it takes the settings of a real account out of this process's environment for good.
    """
    local.forget_account()
    settled = local.settled_until()
    windows = Span(settled - dev.PAST_HOURS * HOUR, settled)
    since, instance = timestamp(windows.start - dev.BEFORE_HOURS * HOUR), (dev.PROJECT / "dagster.yaml").read_text()
    port = lasting_port()
    url = f"http://{LOOPBACK}:{port}"
    with (
        TemporaryDirectory() as folder,
        answering(Reply(b"ok")) as alerts,
        local.local_pipeline(Path(folder), "--since", since, start=windows.start, instance=instance) as services,
    ):
        webhook = f"json://{alerts.url.removeprefix('http://')}/"
        settings = {"CATCH_UP_HOURS": CATCH_UP_HOURS, "ALERT_URLS": webhook, "DAGSTER_UI_URL": url}
        pipeline = replace(services, environment={**services.environment, **settings})
        running = Stage(url=url, pipeline=pipeline, alerts=alerts, windows=windows)
        if collected:
            local.collect(pipeline, running.half())
        with dev.dagster_ui(pipeline, port) as process:
            if process.poll() is not None:
                raise local.LocalError(f"Dagster ended by itself: {local.last_words(pipeline.folder / 'dagster.log')}")
            yield running


def found(look: Callable[[], Found | None], *, within: float) -> Found:
    """What `look` gives as soon as it gives something; raises TimeoutError after so many seconds without."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if (seen := look()) is not None:
            return seen
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"nothing was found within {within:g} s")
