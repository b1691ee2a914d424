#!/usr/bin/env python
"""Megatron-LM's tools/convert.py by this package: Hugging Face -> run folder with --loader hf, run or Megatron-LM's checkpoint -> --saver hf."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codemix_megatron.cli.main import main

HUGGING_FACE, MEGATRON = ("hf", "llama_mistral"), ("core", "mcore", "megatron")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-type", choices=["GPT"], required=True)
    parser.add_argument("--loader", choices=HUGGING_FACE + MEGATRON, required=True)
    parser.add_argument("--saver", choices=HUGGING_FACE + MEGATRON, required=True)
    parser.add_argument("--load-dir", required=True, help="Hugging Face folder, or run folder (RUN@STEP for one checkpoint)")
    parser.add_argument("--save-dir", required=True)
    parser.add_argument("--tokenizer-model", help="tokenizer.json or .model, for a checkpoint that Megatron-LM itself saved")
    parser.add_argument("--target-tensor-parallel-size", default="1", help="layout the recipe gets; the checkpoint has none")
    parser.add_argument("--target-pipeline-parallel-size", default="1")
    given, others = parser.parse_known_args()  # others: what codemix import and codemix export take
    if (given.loader in HUGGING_FACE) == (given.saver in HUGGING_FACE):
        parser.error("one of --loader and --saver is hf, the other core")
    layout = ["--tensor", given.target_tensor_parallel_size, "--pipeline", given.target_pipeline_parallel_size]
    if given.tokenizer_model and given.loader in MEGATRON:
        with tempfile.TemporaryDirectory(dir=Path(given.save_dir).absolute().parent) as run:
            code = main(["import", "--from", "megatron", given.load_dir, run, "--tokenizer", given.tokenizer_model])
            sys.exit(code or main(["export", run, given.save_dir, *others]))
    command = ["import", *layout] if given.loader in HUGGING_FACE else ["export"]
    sys.exit(main([*command, given.load_dir, given.save_dir, *others]))
