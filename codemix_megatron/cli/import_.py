"""codemix import: a Hugging Face Llama folder becomes a checkpoint to train on from."""

import sys
from pathlib import Path

from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.errors import ConversionError
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix import models/SmolLM2-135M runs/smollm
  then, in a recipe: initial_weights: runs/smollm, and the model block of runs/smollm/model.yaml"""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model_folder", help="Hugging Face folder with config.json, *.safetensors and a tokenizer")
    parser.add_argument("run_folder", help="folder to write checkpoints/step-0, model.yaml and the tokenizer into")
    parser.add_argument("--end-of-document", help="token after each document (default: the tokenizer's own end of text)")


def run(arguments) -> int:
    """Import and say how to go on."""
    folder = Path(arguments.model_folder)
    tokenizer = load_tokenizer(find_tokenizer(folder), arguments.end_of_document)
    from codemix_megatron.parallel.importing import import_megatron

    import_megatron()
    from codemix_megatron.hf.importing import import_model

    target = RunFolder(arguments.run_folder)
    checkpoint = import_model(folder, target, tokenizer.card)
    sys.stdout.write(f"imported into {checkpoint}\nuse it in a recipe with the blocks of {target.path / 'model.yaml'}\n")
    return 0


def find_tokenizer(folder: Path) -> Path:
    """Return the folder's tokenizer file."""
    for name in ("tokenizer.json", "tokenizer.model"):
        if (folder / name).is_file():
            return folder / name
    raise ConversionError(f"{folder}: holds neither tokenizer.json nor tokenizer.model")
