"""What a reader may choose in a report of several runs."""

from dataclasses import dataclass

from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.devices import DEVICES

__all__ = ["Choices"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The first two change what is concluded, and are said where they do."""

    lend_noise: bool = False  # judge variants without seeds by published noise
    above_chance: bool = False  # add the means over tasks that every run is above chance in
    device: str | None = None  # what hours are reckoned on
    mfu: float = 0.4
    price_per_hour: float | None = None

    def __post_init__(self):
        if self.device is not None and self.device not in DEVICES:
            raise CodemixError(f"--device: no device {self.device!r}; known are {', '.join(DEVICES)}")
        if not 0 < self.mfu <= 1:
            raise CodemixError(f"--mfu: found {self.mfu:g}, must be above 0 and at most 1")
        if self.price_per_hour is not None and (self.price_per_hour < 0 or self.device is None):
            raise CodemixError(f"--price-per-hour {self.price_per_hour:g}: needs a price of at least 0 and a --device that it is paid for")
