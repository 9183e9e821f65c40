"""Counts within a measured process: its requests to S3, its memory, and when the collecting began and ended.

Collecting: from just before the first request to Zendesk to the answer of the last PUT, which the pipeline makes for
a ledger and the bare loop for a page.
"""

import atexit
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import requests
from botocore.httpsession import URLLib3Session

NOTE = "BENCH_NOTE"
"""The variable that names the file for the note."""


def start() -> None:
    """Count from now on; the note is written when the process ends."""
    note: dict[str, Any] = {"s3": Counter[str](), "began": None, "ended": None}
    lock = Lock()

    def asks(send: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any, **kwargs: Any) -> Any:
            note["began"] = note["began"] or _clocks()
            return send(*args, **kwargs)

        return asked

    def stores(send: Callable[..., Any]) -> Callable[..., Any]:
        def stored(session: Any, request: Any) -> Any:
            answer = send(session, request)
            with lock:
                note["s3"]["LIST" if "list-type=2" in request.url else request.method] += 1
                note["ended"] = _clocks() if request.method == "PUT" else note["ended"]
            return answer

        return stored

    requests.Session.send = asks(requests.Session.send)
    URLLib3Session.send = stores(URLLib3Session.send)
    atexit.register(lambda: Path(os.environ[NOTE]).write_text(json.dumps(note | _spent())))


def _spent() -> dict[str, float]:
    """Processor time and memory of this process; where it is forked, the former begins with it, the latter does not."""
    return {"cpu": time.process_time(), "memory": peak_memory()}


def peak_memory() -> float:
    """MiB. Linux counts what the parent had before the exec into ru_maxrss, but not into VmHWM."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def _clocks() -> tuple[float, float]:
    """Wall and processor time of this process, all its threads."""
    return time.monotonic(), time.process_time()
