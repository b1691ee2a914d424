"""Reading in one thread while another writes, one item ahead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["read_ahead"]

Item = TypeVar("Item")


def read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield what an iterator yields, whose next item is being made by another thread meanwhile; what it raises is raised here.

    Two items are in memory at a time: the one that was yielded, and the next.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(taken, items)
        while found := coming.result():
            coming = pool.submit(taken, items)
            yield found[0]


def taken(items: Iterator[Item]) -> tuple[Item] | None:
    """Return the next item in a tuple, None at the end."""
    for item in items:
        return (item,)
    return None
