"""codemix import: a Hugging Face folder, or a checkpoint that Megatron-LM saved, becomes a checkpoint to train on from."""

import sys
from pathlib import Path

from codemix_megatron.corpus.tokenizers import DocumentTokenizer, load_tokenizer
from codemix_megatron.errors import ConversionError
from codemix_megatron.recipe.pretrained import find_tokenizer, pretrained_model
from codemix_megatron.recipe.schema import Parallel
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix import models/SmolLM2-135M runs/smollm
  codemix import models/Llama-3.1-8B runs/llama --tensor 8 --pipeline 2
  codemix import --from megatron checkpoints/gpt runs/gpt --tokenizer tokenizer.json
  then, in a recipe: initial_weights: runs/smollm, and the blocks of runs/smollm/model.yaml; or codemix export runs/gpt

A recipe can also say where it starts by itself: `from: hf:models/SmolLM2-135M` in its first phase.
The checkpoint has no layout: any recipe reads it at its own. Of Hugging Face folders nothing but safetensors is read; of
Megatron-LM's, torch_dist and the old mp_rank_* folders, at whatever layout, without running any code they name."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model_folder", metavar="FOLDER", help="config.json, *.safetensors and a tokenizer; or Megatron-LM's checkpoints")
    parser.add_argument("run_folder", metavar="RUN", help="folder to write checkpoints/step-0, model.yaml and the tokenizer into")
    parser.add_argument("--from", dest="kind", choices=("hf", "megatron"), default="hf", help="what FOLDER holds (default: hf)")
    parser.add_argument("--tokenizer", help="tokenizer.json or .model of Megatron-LM's checkpoint, which holds none")
    parser.add_argument("--tensor", type=int, default=1, help="tensor parallel ranks of the recipe (default: 1)")
    parser.add_argument("--pipeline", type=int, default=1, help="pipeline parallel ranks of the recipe (default: 1)")
    parser.add_argument("--end-of-document", help="token after each document (default: the tokenizer's own end of text)")
    parser.add_argument(
        "--unused-arguments",
        choices=("keep", "drop"),
        help="megatron: what Megatron-LM reads and computes without (default: refuse, with the argument's name)",
    )
    parser.add_argument("--no-parity", action="store_true", help="hf: do not compare logits; recorded in the checkpoint's metadata")


def run(arguments) -> int:
    """Import and say how to go on."""
    folder, target = Path(arguments.model_folder), RunFolder(arguments.run_folder)
    parallel = Parallel(tensor=arguments.tensor, pipeline=arguments.pipeline)
    if (arguments.kind == "megatron") != (arguments.tokenizer is not None):
        raise ConversionError("--tokenizer: needed with --from megatron, whose checkpoints hold none, and with nothing else")
    if arguments.unused_arguments and arguments.kind != "megatron":
        raise ConversionError("--unused-arguments: goes with --from megatron")
    if arguments.kind == "megatron":
        tokenizer = load_tokenizer(arguments.tokenizer, arguments.end_of_document)
        return run_megatron(folder, target, parallel, tokenizer, arguments.unused_arguments or "refuse")
    model = pretrained_model(folder, parallel)
    tokenizer = load_tokenizer(find_tokenizer(folder), arguments.end_of_document)
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.export import describe_parity
    from codemix_megatron.cli.progress_bars import progress_bars
    from codemix_megatron.conversion.importing import ImportOptions, import_model

    with progress_bars(Console(file=sys.stderr)) as progress:
        options = ImportOptions(parallel=parallel, parity=not arguments.no_parity, progress=progress)
        checkpoint, metadata = import_model(folder, target, model, tokenizer.metadata, options)
    sys.stdout.write(
        f"imported {metadata['hugging_face']['family']} into {checkpoint}\n{describe_parity(metadata.get('parity'))}\n"
        f"use it in a recipe with the blocks of {target.path / 'model.yaml'}\n"
    )
    return 0


def run_megatron(folder: Path, target: RunFolder, parallel: Parallel, tokenizer: DocumentTokenizer, unused: str) -> int:
    """Import Megatron-LM's checkpoint."""
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.progress_bars import progress_bars
    from codemix_megatron.conversion.importing import ImportOptions
    from codemix_megatron.conversion.importing_megatron import import_megatron_checkpoint

    with progress_bars(Console(file=sys.stderr)) as progress:
        options = ImportOptions(parallel=parallel, progress=progress)
        checkpoint, metadata = import_megatron_checkpoint(folder, target, tokenizer.metadata, options, unused)
    sys.stdout.write(
        f"imported iteration {metadata['megatron']['iteration']} of {metadata['imported_from']} into {checkpoint}\n"
        "weights only: Adam's state is not carried, training from here starts it fresh\n"
        f"use it in a recipe with the blocks of {target.path / 'model.yaml'}, or next: codemix export {target.path}\n"
    )
    return 0
