"""Reading ahead: the next items are made while the last one is used."""

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T], ahead: int = 1) -> Iterator[T]:
    """The same items in the same order, made in a thread while those before them are in use.

    At most `ahead` items wait. An exception comes out where its item would have. A consumer that stops early does not
    wait for the item under way: a cancelled run must not sit out a rate limit.
    """
    made: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    taken = threading.Semaphore(ahead - 1)
    stopped = threading.Event()

    def make() -> None:
        try:
            for item in items:
                made.put((item,))
                taken.acquire()
                if stopped.is_set():
                    return
            made.put(None)
        except BaseException as problem:  # noqa: BLE001  # it is raised again where the items are used
            made.put(problem)

    threading.Thread(target=make, name="prefetch", daemon=True).start()
    try:
        while (following := made.get()) is not None:
            if isinstance(following, BaseException):
                raise following
            taken.release()
            yield following[0]
    finally:
        stopped.set()
        taken.release()
