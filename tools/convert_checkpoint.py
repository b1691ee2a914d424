#!/usr/bin/env python
"""Megatron-LM's tools/convert.py by this package: Hugging Face -> run folder with --loader hf, run or Megatron-LM's checkpoint -> --saver hf."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codemix_megatron.cli.main import main

HUGGING_FACE, MEGATRON = ("hf", "llama_mistral"), ("core", "mcore", "megatron")
BOTH = HUGGING_FACE + MEGATRON
if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, epilog="--load-dir takes RUN@STEP for one checkpoint of a run folder.")
    for name, choices in {"model-type": ["GPT"], "loader": BOTH, "saver": BOTH, "load-dir": None, "save-dir": None}.items():
        parser.add_argument(f"--{name}", choices=choices, required=True)
    parser.add_argument("--tokenizer-model", help="tokenizer.json or .model, for a checkpoint that Megatron-LM itself saved")
    parser.add_argument("--unused-arguments", choices=("keep", "drop"), help="of such a checkpoint, as codemix import takes it")
    for kind in ("tensor", "pipeline"):
        parser.add_argument(
            f"--target-{kind}-parallel-size", dest=kind, default="1", help="layout the recipe gets; the checkpoint has none"
        )
    given, others = parser.parse_known_args()  # others: what codemix import and codemix export take
    if (given.loader in HUGGING_FACE) == (given.saver in HUGGING_FACE):
        parser.error("one of --loader and --saver is hf, the other core")
    words = ["import", "--tensor", given.tensor, "--pipeline", given.pipeline] if given.loader in HUGGING_FACE else ["export"]
    if given.loader in HUGGING_FACE or not given.tokenizer_model:
        sys.exit(main([*words, given.load_dir, given.save_dir, *others]))
    with tempfile.TemporaryDirectory(dir=Path(given.save_dir).absolute().parent) as run:
        unused = ["--unused-arguments", given.unused_arguments] if given.unused_arguments else []
        code = main(["import", "--from", "megatron", given.load_dir, run, "--tokenizer", given.tokenizer_model, *unused])
        sys.exit(code or main([*words, run, given.save_dir, *others]))
