"""Which source owns a position of a phase: bounded discrepancy, no table, no state.

Sources are the leaves of a balanced binary tree. At a node with `left` of `total` sequences below its
left child, the left child owns (n * left + total // 2) // total of the first n positions, the right child
the rest. So each node is exact at its end and off by less than one sequence anywhere, and a source is
off by less than one per level of the tree.
"""

import numpy as np

__all__ = ["MOST_SEQUENCES", "Interleaving", "prefix_counts"]

# Of a run. Far past any corpus, and small enough that doubles estimate every quotient to within two and that
# largest remainders of shares add up.
MOST_SEQUENCES = 2**45


class Interleaving:
    """position -> (source, how many of that source came before), for one phase."""

    def __init__(self, counts):
        """Build the tree over `counts` [sources]; sources with none take no part."""
        self.counts = np.asarray(counts, dtype=np.int64)
        self.total = int(self.counts.sum())
        leaves = [int(i) for i in np.flatnonzero(self.counts)]
        self.left_count, self.node_total, self.left, self.right, self.leaf = [], [], [], [], []
        self.depth = self.add_node(leaves)
        self.fits_int64 = self.total * (max(self.left_count) + 1) < 2**63
        for name in ("left_count", "node_total", "left", "right", "leaf"):
            setattr(self, name, np.asarray(getattr(self, name), dtype=np.int64))

    def add_node(self, leaves: list[int]) -> int:
        """Append the node over `leaves` and all below it; return the depth of the subtree."""
        node = len(self.leaf)
        total = int(self.counts[leaves].sum())
        half = len(leaves) // 2
        self.left_count.append(int(self.counts[leaves[:half]].sum()))
        self.node_total.append(total)
        self.left.append(0)
        self.right.append(0)
        self.leaf.append(leaves[0] if len(leaves) == 1 else -1)
        if len(leaves) == 1:
            return 0
        self.left[node] = len(self.leaf)
        left_depth = self.add_node(leaves[:half])
        self.right[node] = len(self.leaf)
        return 1 + max(left_depth, self.add_node(leaves[half:]))

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (source, index among that source's sequences) for positions in [0, total)."""
        index = np.asarray(positions, dtype=np.int64)
        node = np.zeros_like(index)
        for _ in range(self.depth):
            left, total = self.left_count[node], self.node_total[node]
            before = self.rounded_share(index, left, total)
            goes_left = self.rounded_share(index + 1, left, total) > before
            inner = self.leaf[node] < 0
            index = np.where(inner, np.where(goes_left, before, index - before), index)
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        return self.leaf[node], index

    def rounded_share(self, index: np.ndarray, left: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Return (index * left + total // 2) // total, exactly, also where the product has more than 63 bits."""
        if self.fits_int64:
            return (index * left + total // 2) // total
        quotient = (index.astype(np.float64) * left / total).astype(np.int64)
        with np.errstate(over="ignore"):  # the product wraps; what is left after the estimate is small, and right modulo 2**64
            rest = (index.astype(np.uint64) * left.astype(np.uint64) - quotient.astype(np.uint64) * total.astype(np.uint64)).astype(
                np.int64
            )
        return quotient + (rest + total // 2) // total


def prefix_counts(phase: Interleaving, length: int) -> np.ndarray:
    """Return each source's sequences among the first `length` positions of a phase."""
    totals, stack = np.zeros(len(phase.counts), dtype=np.int64), [(0, length)]
    while stack:
        node, inside = stack.pop()
        if phase.leaf[node] >= 0:
            totals[phase.leaf[node]] += inside
        else:
            total = int(phase.node_total[node])
            left = (inside * int(phase.left_count[node]) + total // 2) // total
            stack += [(int(phase.left[node]), left), (int(phase.right[node]), inside - left)]
    return totals
