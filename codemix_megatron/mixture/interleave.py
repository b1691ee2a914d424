"""Which source owns a position of a phase: bounded discrepancy, no table, no state.

Sources are the leaves of a balanced binary tree. At a node with `left` of `total` sequences below its
left child, the left child owns (n * left + total // 2) // total of the first n positions, the right child
the rest. So each node is exact at its end and off by less than one sequence anywhere, and a source is
off by less than one per level of the tree.
"""

import numpy as np

__all__ = ["Interleaving"]


class Interleaving:
    """position -> (source, how many of that source came before), for one phase."""

    def __init__(self, counts):
        """Build the tree over `counts` [sources]; sources with none take no part."""
        self.counts = np.asarray(counts, dtype=np.int64)
        self.total = int(self.counts.sum())
        leaves = [int(i) for i in np.flatnonzero(self.counts)]
        self.left_count, self.node_total, self.left, self.right, self.leaf = [], [], [], [], []
        self.depth = self.add_node(leaves)
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
            before = (index * left + total // 2) // total
            goes_left = ((index + 1) * left + total // 2) // total > before
            inner = self.leaf[node] < 0
            index = np.where(inner, np.where(goes_left, before, index - before), index)
            node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
        return self.leaf[node], index
