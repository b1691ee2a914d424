"""Python's garbage, collected between steps on all ranks at once.

Left to itself Python collects when it likes, on every rank at another moment, and each time all ranks wait for that one.
"""

import gc

__all__ = ["ManualCollection"]

EVERY_STEPS = 100


class ManualCollection:
    """Turns automatic collection off, and collects after every so many steps."""

    def __init__(self, every_steps: int = EVERY_STEPS):
        self.every_steps, self.steps = every_steps, 0
        gc.disable()

    def after_step(self) -> None:
        """Count a step; every rank calls this."""
        self.steps += 1
        if self.steps % self.every_steps == 0:
            gc.collect(1)  # what is older lives as long as the run
