#!/usr/bin/env python
"""Write examples/paper, examples/mini and examples/studies anew from recipe/paper.py, recipe/presets.py and study/presets.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codemix_megatron.recipe.presets import preset_files, write_presets
from codemix_megatron.study.presets import study_files

if __name__ == "__main__":
    written = write_presets(Path(__file__).resolve().parent.parent / "examples", {**preset_files(), **study_files()})
    print(f"{len(written)} files written")
