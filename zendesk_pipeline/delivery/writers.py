"""The threads of a run that talk to S3."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

WRITERS = 4
"""Threads."""
IN_FLIGHT = 2
"""Batches on their way to S3, beside those that grow: this bounds the memory. The other threads serve ledgers."""


@dataclass(frozen=True, slots=True)
class Writers:
    """Threads for the reads and writes of one run. A write that fails is raised in the main thread, soon after."""

    pool: Executor = field(default_factory=lambda: ThreadPoolExecutor(WRITERS, thread_name_prefix="writer"))
    room: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(IN_FLIGHT))
    failed: list[Future[Any]] = field(default_factory=list[Future[Any]])
    """Writes that have failed, the first one first."""

    def write(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Begin a write whose failure stops the walk."""
        begun = self.pool.submit(write, *args, **kwargs)
        begun.add_done_callback(self._note)
        return begun

    def write_batch(self, write: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The same for a batch; waits while IN_FLIGHT batches are on their way."""

        def make_room() -> T:
            try:
                return write(*args, **kwargs)
            finally:
                self.room.release()

        self.room.acquire()
        return self.write(make_room)

    def raise_failure(self) -> None:
        """Raise what the first write that failed has raised."""
        if self.failed:
            self.failed[0].result()

    def _note(self, done: Future[Any]) -> None:
        if done.exception() is not None:
            self.failed.append(done)
