#!/usr/bin/env python
"""Write examples/paper and examples/mini anew from codemix_megatron/recipe/paper.py and presets.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codemix_megatron.recipe.presets import write_presets

if __name__ == "__main__":
    written = write_presets(Path(__file__).resolve().parent.parent / "examples")
    print(f"{len(written)} files written")
