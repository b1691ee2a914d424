"""A data seed of a phase: from its first position on, what has not been read yet comes in another order. Nothing is read again.

In the epoch it falls into, the positions that are left change among themselves; later epochs have orders of the new seed from their beginning.
So a phase can be repeated with other seeds after one trunk, and each repetition reads on as if it alone came after it.
"""

from dataclasses import dataclass

import numpy as np

from codemix_megatron.mixture.permutation import epoch_keys, half_bits, permute, source_key

__all__ = ["Reseeding"]


@dataclass(frozen=True, eq=False)
class Reseeding:
    """One data seed: the key of each source, and how many of its sequences were drawn before, so its epoch and position there."""

    keys: np.ndarray
    epoch: np.ndarray
    position: np.ndarray
    left: np.ndarray  # positions of that epoch that are left
    halves: np.ndarray

    @classmethod
    def at(cls, seed: int, sources: list[str], sequences_per_epoch: np.ndarray, drawn: np.ndarray) -> "Reseeding":
        """Begin with `seed` where `drawn` sequences of each source have been read."""
        epoch, position = np.divmod(drawn, sequences_per_epoch)
        left = sequences_per_epoch - position
        keys = np.array([source_key(seed, f"data seed of {name}") for name in sources], dtype=np.uint64)
        return cls(keys, epoch, position, left, half_bits(left))

    def change_positions(self, source: np.ndarray, epoch: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Return the positions that draws lead to, changed where they lie in the rest of the epoch it falls into."""
        here = (epoch == self.epoch[source]) & (position >= self.position[source])
        if not here.any():
            return position
        owner, changed = source[here], position.copy()
        first, keys = self.position[owner], epoch_keys(self.keys[owner], epoch[here])
        changed[here] = first + permute(position[here] - first, self.left[owner], self.halves[owner], keys)
        return changed

    def change_keys(self, source: np.ndarray, epoch: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Return the keys of epochs, its own for those that begin after it."""
        return np.where(epoch > self.epoch[source], epoch_keys(self.keys[source], epoch), keys)
