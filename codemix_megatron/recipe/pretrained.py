"""A public model as the start of a recipe: `initial_weights: hf:FOLDER`, or `from: hf:FOLDER` in the first phase."""

from pathlib import Path

from codemix_megatron.errors import CodemixError, ConversionError
from codemix_megatron.families.configuration import model_of_config, read_config
from codemix_megatron.recipe.layout_checks import layout_faults
from codemix_megatron.recipe.model_checks import model_faults
from codemix_megatron.recipe.schema import Batch, Model, Parallel, Recipe, Tokenizer

__all__ = ["PREFIX", "find_tokenizer", "fitting_model", "pretrained_model", "take_over_pretrained"]

PREFIX = "hf:"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json")
# What a recipe may choose otherwise than config.json says.
MAY_DIFFER = ("sequence_length", "init_std", "dropout", "precision", "fp8", "vocab_padding_multiple")
LARGEST_MULTIPLE = 128
LONGEST_TAKEN_OVER = 8192  # a longer context is not taken for the length of training sequences


def find_tokenizer(folder: Path) -> Path:
    """Return the tokenizer file of a model folder."""
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ConversionError(f"{folder}: holds neither {' nor '.join(TOKENIZER_FILES)}")


def pretrained_block(folder: Path, tensor: int) -> dict:
    """Return the model block of a public model, to be spread over `tensor` ranks.

    Its vocabulary is padded as little as the ranks allow: zero rows take part in the softmax of training.
    """
    model = model_of_config(read_config(folder), folder)
    fits = (m for m in (LARGEST_MULTIPLE >> n for n in range(8)) if model["vocab_size"] % m == 0 and m % tensor == 0)
    return model | {"vocab_padding_multiple": next(fits, tensor)}


def pretrained_model(folder: Path, parallel: Parallel) -> Model:
    """Return the model of config.json; raises ConversionError when it is none, or does not divide over the ranks."""
    return fitting_model(pretrained_block(folder, parallel.tensor), parallel, f"{folder}/config.json")


def fitting_model(block: dict, parallel: Parallel, where) -> Model:
    """Return a model block as a Model; raises ConversionError when it makes no model, or does not divide over the ranks."""
    model = Model.from_plain(block)
    alone = Recipe(
        name="", model=model, parallel=parallel, batch=Batch(global_sequences=1), tokenizer=Tokenizer(path=""), corpora={}, phases=()
    )
    faults = model_faults(alone) or layout_faults(alone)
    if faults:
        raise ConversionError(f"{where}: " + "\n  ".join(faults))
    return model


def take_over_pretrained(plain: dict, directory: Path, faults: list[str]) -> dict:
    """Return the plain recipe with what it leaves out taken from the public model it starts from.

    `from` of the first phase moves to `initial_weights`. The model block may be left out, or say what config.json says;
    the tokenizer is the model's own unless another is named.
    """
    plain = move_start(plain, faults)
    start = plain.get("initial_weights")
    if not isinstance(start, str) or not start.startswith(PREFIX):
        return plain
    folder = (directory / Path(start.removeprefix(PREFIX)).expanduser()).absolute()
    given, parallel = plain.get("model") or {}, plain.get("parallel") or {}
    tensor = parallel.get("tensor", 1) if isinstance(parallel, dict) else 1
    try:
        theirs = pretrained_block(folder, tensor if isinstance(tensor, int) and tensor > 0 else 1)
        tokenizer = plain.get("tokenizer") or {"path": str(find_tokenizer(folder))}
    except CodemixError as fault:
        faults.append(f"initial_weights: {fault}")
        return plain
    if isinstance(given, dict):
        differing = [key for key in given if key not in MAY_DIFFER and given[key] != theirs.get(key, usual(key))]
        faults += [f"model.{key}: {given[key]} here, {theirs.get(key, usual(key))} in {folder}/config.json" for key in differing]
        faults += length_faults(given, theirs, folder)
        given = theirs | given
    return plain | {"model": given, "tokenizer": tokenizer, "initial_weights": PREFIX + str(folder)}


def length_faults(given: dict, theirs: dict, folder: Path) -> list[str]:
    """Ask for the length of a training sequence where the model's context is one that hardly anybody trains on."""
    if "sequence_length" in given or theirs["sequence_length"] <= LONGEST_TAKEN_OVER:
        return []
    return [
        f"model.sequence_length: missing; {folder}/config.json has a context of {theirs['sequence_length']} tokens, which exports keep; say"
        " how many a training sequence has, such as 4096"
    ]


def usual(key: str):
    """Return the default of a key of the model block, None where there is none."""
    declared = Model.__dataclass_fields__.get(key)
    return None if declared is None or declared.default.__class__.__name__ == "_MISSING_TYPE" else declared.default


def move_start(plain: dict, faults: list[str]) -> dict:
    """Move `from` of the first phase to `initial_weights`."""
    phases = plain.get("phases")
    if not isinstance(phases, list):
        return plain
    starts = {i: phase["from"] for i, phase in enumerate(phases) if isinstance(phase, dict) and "from" in phase}
    if not starts:
        return plain
    faults += [
        f"phases[{i}].from: only the first phase starts from elsewhere; later ones continue from the one before" for i in starts if i
    ]
    start = starts.get(0)
    if 0 in starts and not (isinstance(start, str) and start):
        faults.append(f"phases[0].from: found {start!r}, allowed is hf:FOLDER, a run folder or a checkpoint")
        start = None
    if start and plain.get("initial_weights") not in (None, start):
        faults.append(f"phases[0].from: {start}, but initial_weights is {plain['initial_weights']}; give one of them")
    kept = [{k: v for k, v in phase.items() if k != "from"} if isinstance(phase, dict) else phase for phase in phases]
    return plain | {"phases": kept} | ({"initial_weights": start} if start else {})
