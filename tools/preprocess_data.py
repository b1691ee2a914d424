#!/usr/bin/env python
"""Megatron-LM's tools/preprocess_data.py, by this package; see --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codemix_megatron.corpus.megatron_tool import main

if __name__ == "__main__":
    sys.exit(main())
