"""What all figures have in common, whoever draws them: names are drawn as they are written."""

from typing import Any

__all__ = ["AS_WRITTEN"]

# matplotlib takes what stands between two dollar signs for a formula, and refuses the figure where it is none. Nothing of ours is one.
AS_WRITTEN: dict[Any, Any] = {"text.parse_math": False, "text.usetex": False, "svg.fonttype": "none"}
