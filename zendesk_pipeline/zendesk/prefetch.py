"""Reading ahead: the next items are made in a thread while the last one is used."""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Made(Generic[T]):
    """What was made and is not used up; `changed` guards it."""

    items: deque[list[T] | BaseException | None] = field(default_factory=deque[list[T] | BaseException | None])
    """Each by itself in a list, which is emptied when it is used: nothing here holds it any longer."""
    bytes: int = 0
    """Of those that wait, and of the one in use."""
    stopped: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, item: list[T] | BaseException | None, size: int = 0) -> None:
        with self.changed:
            self.items.append(item)
            self.bytes += size
            self.changed.notify_all()


def prefetched(
    items: Iterable[T], ahead: int = 1, *, size: Callable[[T], int] = lambda _: 0, most: float = math.inf
) -> Iterator[T]:
    """The same items in the same order, made in a thread while those before them are in use.

    At most `ahead` items wait. None is made while those that wait and the one in use have more than `most` bytes by
    `size`: large ones are made one by one, as each is wanted. An exception comes out where its item would have. A
    consumer that stops early does not wait for the item under way: a cancelled run must not sit out a rate limit. Then
    and at the end, `items` is closed if it is a generator.
    """
    made = _Made[T]()
    threading.Thread(target=_make, args=(items, ahead, size, most, made), name="prefetch", daemon=True).start()
    in_use = 0
    try:
        while True:
            with made.changed:
                made.bytes -= in_use
                made.changed.notify_all()
                made.changed.wait_for(lambda: made.items)
                following = made.items.popleft()
                made.changed.notify_all()
            if following is None:
                return
            if isinstance(following, BaseException):
                raise following
            in_use = size(following[0])
            yield following.pop()
    finally:
        with made.changed:
            made.stopped = True
            made.changed.notify_all()


def _make(items: Iterable[T], ahead: int, size: Callable[[T], int], most: float, made: _Made[T]) -> None:
    try:
        for item in items:
            made.add([item], size(item))
            del item  # or it would be kept while the next one is made
            with made.changed:
                made.changed.wait_for(lambda: made.stopped or (len(made.items) < ahead and made.bytes <= most))
                if made.stopped:
                    return
        made.add(None)
    except BaseException as problem:  # noqa: BLE001  # it is raised again where the items are used
        made.add(problem)
    finally:
        if isinstance(items, Generator):  # somebody else may hold it, such as the traceback of a failure
            items.close()
