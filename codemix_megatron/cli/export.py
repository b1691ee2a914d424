"""codemix export: a checkpoint becomes a Hugging Face folder whose logits were checked."""

import sys
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "parse_run", "run"]

EPILOG = """examples:
  codemix export runs/demo
  codemix export runs/demo@117 --output exports/balanced --dtype bf16

The folder loads with AutoModelForCausalLM.from_pretrained and AutoTokenizer.from_pretrained; vLLM and
llama.cpp's converter read the same files."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN[@STEP]", help="run folder, and the step if not the newest")
    parser.add_argument("--output", help="where to (default: RUN/exports/step-N)")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32", help="dtype of the weights (default: fp32)")


def parse_run(text: str) -> tuple[RunFolder, int | None]:
    """Split RUN@STEP; raises ConversionError when STEP is no number."""
    path, at, step = text.rpartition("@")
    if not at or Path(text).is_dir():
        return RunFolder(text), None
    if not step.isdigit():
        raise ConversionError(f"{text}: {step!r} after @ is no step; write RUN@STEP, as runs/demo@117")
    return RunFolder(path), int(step)


def run(arguments) -> int:
    """Export and print where it is and how equal it is."""
    folder, step = parse_run(arguments.run_folder)
    manifests = []
    if folder.recipe.is_file():
        manifests = [CorpusManifest.read(spec.prefix) for spec in read_recipe(folder.recipe).corpora.values()]
    from codemix_megatron.parallel.importing import import_megatron  # torch: after everything cheap was checked

    import_megatron()
    from codemix_megatron.hf.export import export_run

    exported = export_run(folder, step, arguments.output, arguments.dtype, manifests)
    parity = exported.record["parity"]
    what = "random and real tokens" if parity["real_tokens"] else "random tokens"
    sys.stdout.write(
        f"exported step {exported.record['step']}, {exported.record['parameters']} parameters, {exported.record['dtype']}\n"
        f"parity: logits differ by at most {parity['largest_logit_difference']:.2e} on {parity['tokens_compared']} {what}"
        f" (allowed {parity['tolerance']:g})\n{exported.folder}\n"
    )
    return 0
