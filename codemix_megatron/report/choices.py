"""What a reader may choose in a report of several runs."""

from dataclasses import dataclass
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.devices import DEVICES

__all__ = ["Choices"]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The first two change what is concluded, and are said where they do."""

    lend_noise: bool = False  # judge variants without seeds by published noise
    above_chance: bool = False  # add the means over tasks that every run is above chance in
    device: str | None = None  # what hours are estimated for
    mfu: float = 0.4
    price_per_hour: float | None = None
    at_parameters: int | None = None  # size of the run that hours and price are estimated for, in the place of the study's own
    at_tokens: int | None = None
    law: Path | None = None  # folder of `codemix law --output`
    pdf: bool = False  # print the page to decide by

    def __post_init__(self):
        if self.device is not None and self.device not in DEVICES:
            raise CodemixError(f"--device: no device {self.device!r}; known are {', '.join(DEVICES)}")
        if not 0 < self.mfu <= 1:
            raise CodemixError(f"--mfu: found {self.mfu:g}, must be above 0 and at most 1")
        if self.price_per_hour is not None and (self.price_per_hour < 0 or self.device is None):
            raise CodemixError(f"--price-per-hour {self.price_per_hour:g}: needs a price of at least 0 and a --device that it is paid for")
        for name in ("at_parameters", "at_tokens"):
            value = getattr(self, name)
            if value is not None and (value < 1 or self.device is None):
                raise CodemixError(f"--{name.replace('_', '-')} {value}: needs a number of at least 1 and a --device to estimate hours for")
