"""Reading ahead: the next item is made while the last one is used."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(items: Iterable[T]) -> Iterator[T]:
    """The same items in the same order, each made in a thread while its predecessor is in use.

    At most one item waits. An exception comes out where its item would have.
    """
    ahead = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        following = thread.submit(_take, ahead)
        while item := following.result():
            following = thread.submit(_take, ahead)
            yield item[0]


def _take(items: Iterator[T]) -> tuple[T] | tuple[()]:
    for item in items:
        return (item,)
    return ()
