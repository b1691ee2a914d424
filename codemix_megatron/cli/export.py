"""codemix export: a checkpoint becomes a Hugging Face folder whose logits were checked."""

import re
import sys
from pathlib import Path

from codemix_megatron.errors import ConversionError, CorpusError
from codemix_megatron.families.registry import all_families
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["add_arguments", "parse_run", "run"]

EPILOG = """examples:
  codemix export runs/demo
  codemix export runs/demo@117 exports/balanced --dtype bf16
  codemix export runs/large exports/large --max-shard-size 2GB
  codemix export runs/large checkpoints/large --to megatron

The folder loads with AutoModelForCausalLM.from_pretrained and AutoTokenizer.from_pretrained; vLLM and
llama.cpp's convert_hf_to_gguf.py read the same files. Tensors are streamed: memory is that of the largest tensor.
Parity then loads one model at a time in fp32; --no-parity spares it, and the model card says so."""

SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN[@STEP]", help="run folder, and the step if not the newest")
    parser.add_argument("folder", nargs="?", metavar="OUT", help="where to (default: RUN/exports/step-N)")
    parser.add_argument("--output", help="the same as OUT")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), help="dtype of the weights (default: the checkpoint's)")
    parser.add_argument("--family", choices=tuple(all_families()), help="architecture (default: the first that holds the model)")
    parser.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="largest safetensors file (default: 5GB)")
    parser.add_argument(
        "--to", choices=("hf", "megatron"), default="hf", help="what OUT is: a Hugging Face folder, or for Megatron-LM's --load"
    )
    parser.add_argument("--megatron-lm", metavar="VERSION", help="megatron: the oldest Megatron-LM that shall load OUT (default: 0.16)")
    parser.add_argument("--no-parity", action="store_true", help="do not compare logits; recorded in the model card")


def parse_run(text: str) -> tuple[RunFolder, int | None]:
    """Split RUN@STEP; raises ConversionError when STEP is not a number."""
    path, at, step = text.rpartition("@")
    if not at or Path(text).is_dir():
        return RunFolder(text), None
    if not step.isdigit():
        raise ConversionError(f"{text}: {step!r} after @ is no step; write RUN@STEP, as runs/demo@117")
    return RunFolder(path), int(step)


def parse_size(text: str) -> int:
    """Return the bytes of 500MB, 5GB or 2GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", text.strip().upper())
    size = int(float(match[1]) * SIZES[match[2] or ""]) if match else 0
    if size < 1:
        raise ConversionError(f"--max-shard-size: found {text!r}; write 500MB, 5GB or 2GiB")
    return size


def parse_version(text: str) -> str:
    """Return a version of Megatron-LM; raises ConversionError when it is none."""
    from packaging.version import InvalidVersion, Version

    try:
        return str(Version(text))
    except InvalidVersion:
        raise ConversionError(f"--megatron-lm: found {text!r}; write a version, as 0.16 or 0.19") from None


def run(arguments) -> int:
    """Export and print where it is and how equal it is."""
    if arguments.output and arguments.folder:
        raise ConversionError(f"{arguments.folder} and --output {arguments.output}: give one of them")
    folder, step = parse_run(arguments.run_folder)
    max_shard_bytes = parse_size(arguments.max_shard_size)
    if arguments.megatron_lm is not None and arguments.to != "megatron":
        raise ConversionError("--megatron-lm: goes with --to megatron")
    if arguments.to == "megatron":
        return run_megatron(arguments, folder, step)
    manifests = [] if arguments.no_parity else known_manifests(folder)
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.progress_bars import progress_bars
    from codemix_megatron.conversion.export import ExportOptions, export_run  # torch: after everything cheap was checked

    with progress_bars(Console(file=sys.stderr)) as progress:
        options = ExportOptions(
            dtype=arguments.dtype,
            family=arguments.family,
            max_shard_bytes=max_shard_bytes,
            parity=not arguments.no_parity,
            manifests=manifests,
            progress=progress,
        )
        exported = export_run(folder, step, arguments.output or arguments.folder, options)
    record = exported.record
    sys.stdout.write(
        f"exported step {record['step']} as {record['family']}, {record['parameters']} parameters, {record['dtype']}\n"
        f"{describe_parity(record['parity'])}\n{exported.folder}\n"
    )
    return 0


def run_megatron(arguments, folder: RunFolder, step: int | None) -> int:
    """Export for Megatron-LM and say how it is loaded."""
    output = arguments.output or arguments.folder
    if output is None:
        raise ConversionError("--to megatron: needs OUT, the folder that --load will name")
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.progress_bars import progress_bars
    from codemix_megatron.conversion.export import ExportOptions
    from codemix_megatron.conversion.export_megatron import export_megatron
    from codemix_megatron.conversion.megatron_namespace import OLDEST

    with progress_bars(Console(file=sys.stderr)) as progress:
        options = ExportOptions(dtype=arguments.dtype, family=arguments.family, parity=not arguments.no_parity, progress=progress)
        done = export_megatron(folder, step, Path(output), options, parse_version(arguments.megatron_lm or OLDEST))
    alike = f"megatron-core loads the same {done.tensors} tensors from both" if done.tensors else "not compared (--no-parity)"
    sys.stdout.write(
        f"exported step {done.step} for Megatron-LM; weights: {alike}; Adam's state is not carried, it starts fresh\n"
        f"pretrain_gpt.py $(cat {done.folder / 'arguments.txt'}) --load {done.folder} --tokenizer-type HuggingFaceTokenizer"
        f" --tokenizer-model {done.folder / 'tokenizer'} ...\n{done.folder}\n"
    )
    return 0


def known_manifests(folder: RunFolder) -> list[CorpusManifest]:
    """Return the manifests of a run's corpora that are still there."""
    found = []
    specs = read_run_recipe(folder).corpora.values() if folder.recipe.is_file() else ()
    for spec in specs:
        try:
            found.append(CorpusManifest.read(spec.prefix))
        except CorpusError:  # moved or removed since; parity has texts of its own then
            continue
    return [manifest for manifest in found if "://" not in manifest.prefix]


def describe_parity(parity: dict | None) -> str:
    """Say how equal both models are."""
    if parity is None:
        return "parity: not compared (--no-parity)"
    text = (
        f"parity: logits differ by at most {parity['largest_logit_difference']:.2e} on {parity['tokens_compared']} tokens of"
        f" {parity['compared_on']} (allowed {parity['tolerance']:.2g}); {parity['greedy_tokens']} tokens that follow greedily are the same"
    )
    if "fp32_rounding" in parity:
        text += f"; computing in fp32 instead of fp64 moves logits of transformers alone by {parity['fp32_rounding']:.2e}"
    if "rounding_difference" in parity:
        text += f"; rounding moved logits by at most {parity['rounding_difference']:.2e} (allowed {parity['rounding_tolerance']:.2g})"
    return text
