"""What a reader may choose in a report of several runs."""

from dataclasses import dataclass

__all__ = ["Choices"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Both change what is concluded, and are said where they do."""

    lend_noise: bool = False  # judge variants without seeds by published noise
    above_chance: bool = False  # add the means over tasks that every run is above chance in
