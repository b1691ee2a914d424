"""What it is worth to read a corpus again, the price of reading it more often than `max_epochs`, and what longer sequences read again."""

import math

from codemix_megatron.plan.branch import BranchPoint

__all__ = ["price_of_epochs", "read_again_by_longer", "worth_of_epochs"]

DECAY = 15.39  # R*_D: a token read again this many times is worth 1/e of a new one (Muennighoff et al. 2023, arXiv 2305.16264, section 3)
IN_MIXTURES = "15 to 20"  # readings that a scarce corpus bears beside an abundant one (arXiv 2605.12715)


def worth_of_epochs(epochs: float) -> float:
    """Return how many readings of new text so many of the same are worth where nothing else is read: 1 + R* (1 - exp((1 - epochs) / R*))."""
    return epochs if epochs <= 1 else 1 + DECAY * (1 - math.exp((1 - epochs) / DECAY))


def price_of_epochs(name: str, epochs: float, limit: float) -> str:
    """Say what a corpus costs that is read more often than its limit."""
    worth = worth_of_epochs(epochs)
    return (
        f"corpora.{name}: read {epochs:.2f} times, more than max_epochs {limit:g}. Read alone, that is worth {worth:.2f} readings of new"
        f" text, {100 * (1 - worth / epochs):.0f} % of its tokens are lost (Muennighoff et al. 2023, arXiv 2305.16264); in a mixture a scarce"
        f" corpus bears {IN_MIXTURES} readings (arXiv 2605.12715)"
    )


def read_again_by_longer(branch: BranchPoint | None, sources: dict[str, dict], length: int) -> list[str]:
    """Say of each source how much a branch with sequences longer than its parent's reads again before all of it was read."""
    if branch is None or branch.parent_length is None:
        return []
    passed = {
        name: branch.consumed.get(name, 0) / source["sequences_per_epoch"] % 1 for name, source in sources.items() if source["sequences"]
    }
    return [
        f"corpora.{name}: {100 * part:.0f} % of the pass under way was read in sequences of {branch.parent_length}. Those of {length} are drawn in an"
        f" order of their own, so about {100 * part:.0f} % of what they read until the pass ends is read again; a corpus that was not read yet has"
        " nothing of that"
        for name, part in passed.items()
        if part
    ]
