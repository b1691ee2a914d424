"""How an evaluation reports its progress."""

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, int, int], None]  # what is scored, requests done, requests in all


def silent(label: str, done: int, total: int) -> None:
    """Report nothing."""
