"""Reading ahead."""

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zendesk_pipeline.zendesk.prefetch import prefetched

T = TypeVar("T")
LONG = 5.0
"""Seconds after which a test that would hang fails instead."""


def _generator(items: Iterable[T]) -> Generator[T]:
    """What is promised as an iterator can be closed, as its consumer does by going away."""
    return cast("Generator[T]", prefetched(items))


@given(st.lists(st.none() | st.booleans() | st.integers() | st.just(()) | st.builds(ValueError), max_size=20))
def test_items_come_in_their_order(items: list[Any]) -> None:
    """All of them, each once, whatever they are."""
    assert [item is kept for item, kept in zip(prefetched(items), items, strict=True)] == [True] * len(items)


def test_the_next_item_is_made_while_one_is_used() -> None:
    """Before the second is asked for, it is there."""
    second_made = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        second_made.set()
        yield 2

    with closing(_generator(items())) as ahead:
        assert next(ahead) == 1
        assert second_made.wait(LONG)


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_items_wait_and_no_more(most: int) -> None:
    """While the first is in use those behind it are made, as many as may wait, and the one after them is not."""
    made, all_made, one_more = list[int](), threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        for number in range(most + 2):
            made.append(number)
            if number == most:
                all_made.set()
            if number == most + 1:
                one_more.set()
            yield number

    ahead = prefetched(items(), ahead=most)
    assert next(ahead) == 0
    assert all_made.wait(LONG)
    assert not one_more.wait(0.05)
    assert made == [*range(most + 1)]
    assert list(ahead) == [*range(1, most + 2)]


def test_of_large_items_none_waits() -> None:
    """While the one in use has more bytes than are good the next is not made, and it is made when it is wanted."""
    made, second_made = list[int](), threading.Event()

    def items() -> Iterator[int]:
        for number in (10, 10, 1, 1):
            made.append(number)
            if len(made) > 1:
                second_made.set()
            yield number

    ahead = prefetched(items(), ahead=3, size=lambda number: number, most=5)
    assert next(ahead) == 10
    assert not second_made.wait(0.05)
    assert next(ahead) == 10
    assert list(ahead) == [1, 1]


def test_items_wait_as_long_as_their_bytes_have_room() -> None:
    """Two of three wait beside the one in use: with the third there would be too many bytes before it is made."""
    made, third_made, fourth_made = list[int](), threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        for number in range(4):
            made.append(number)
            if number == 2:
                third_made.set()
            if number == 3:
                fourth_made.set()
            yield number

    ahead = prefetched(items(), ahead=9, size=lambda _: 10, most=29)
    assert next(ahead) == 0
    assert third_made.wait(LONG)
    assert not fourth_made.wait(0.05)
    assert list(ahead) == [1, 2, 3]


def test_nothing_is_made_before_it_is_asked_for() -> None:
    """An iterator that nobody uses asks Zendesk nothing."""
    made: list[int] = []

    def items() -> Iterator[int]:
        made.append(1)
        yield 1

    ahead = prefetched(items())
    assert made == []
    assert list(ahead) == [1]


def test_an_exception_comes_out_in_its_place() -> None:
    """The items before it are given first, then it is raised as it was, and then there is nothing more."""
    problem = ValueError("no third")

    def items() -> Iterator[int]:
        yield from (1, 2)
        raise problem

    ahead, given = prefetched(items()), list[int]()
    with pytest.raises(ValueError, match="no third") as raised:
        given.extend(ahead)
    assert raised.value is problem
    assert list(ahead) == []


def test_who_stops_early_closes_what_somebody_else_still_holds() -> None:
    """The traceback of a failure holds the items for long: what they have started ends with their use all the same."""
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from (1, 2, 3, 4)
        finally:
            closed.set()

    held = items()
    with closing(_generator(held)) as ahead:
        next(ahead)
    assert closed.wait(LONG)
    assert list(held) == []


def test_who_stops_early_does_not_wait() -> None:
    """The item under way may wait for a rate limit: it is left behind, and none is made after it."""
    under_way, may_go_on, made = threading.Event(), threading.Event(), list[int]()

    def items() -> Iterator[int]:
        yield 1
        under_way.set()
        may_go_on.wait(LONG)
        made.append(2)
        yield 2
        made.append(3)

    began = time.monotonic()
    with closing(_generator(items())) as ahead:
        next(ahead)
        assert under_way.wait(LONG)
    assert time.monotonic() - began < LONG / 2

    may_go_on.set()
    for thread in threading.enumerate():
        if thread.name == "prefetch":
            thread.join(LONG)
    assert made == [2]
