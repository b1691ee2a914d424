"""All faults of a recipe, those of blocks from their own files, and those of names, secrets, seeds, the optimizer and branches."""

from codemix_megatron.recipe.corpus_checks import corpus_faults
from codemix_megatron.recipe.evaluation_checks import evaluation_faults
from codemix_megatron.recipe.expert_checks import expert_layout_faults
from codemix_megatron.recipe.layout_checks import batch_faults, fp8_faults, layout_faults
from codemix_megatron.recipe.model_checks import model_faults
from codemix_megatron.recipe.names import name_fault
from codemix_megatron.recipe.phase_checks import phase_faults
from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.recipe.sources import source_faults
from codemix_megatron.redaction import redact, secret_in

__all__ = ["find_faults"]


def find_faults(recipe: Recipe) -> list[str]:
    """Return one line per fault; an empty list means that the recipe can be planned."""
    return [
        *name_faults(recipe),
        *secret_faults(as_plain(recipe), ""),
        *seed_faults(recipe),
        *model_faults(recipe),
        *layout_faults(recipe),
        *fp8_faults(recipe),
        *expert_layout_faults(recipe),
        *batch_faults(recipe),
        *optimizer_faults(recipe),
        *corpus_faults(recipe),
        *phase_faults(recipe),
        *source_faults(recipe.sources, recipe.corpora),
        *branch_faults(recipe),
        *evaluation_faults(recipe),
    ]


def name_faults(recipe: Recipe) -> list[str]:
    """Check names that become parts of paths and scripts."""
    named = {
        "name": recipe.name,
        **{f"phases[{i}].name": phase.name for i, phase in enumerate(recipe.phases)},
        **{f"corpora.{ascii(name)[1:-1]}": name for name in recipe.corpora},
    }
    return [f"{path}: {fault}" for path, name in named.items() if (fault := name_fault(name))]


def secret_faults(plain, path: str) -> list[str]:
    """Check that no value holds a secret: a recipe is copied into manifests, the run, its export and its report."""
    if isinstance(plain, dict):
        return [fault for key, value in plain.items() for fault in secret_faults(value, f"{path}.{key}" if path else str(key))]
    if isinstance(plain, (list, tuple)):
        return [fault for i, value in enumerate(plain) for fault in secret_faults(value, f"{path}[{i}]")]
    if not isinstance(plain, str) or not secret_in(plain):
        return []
    return [
        f"{path}: {redact(plain)[:200]} holds a secret (shown as ***), which would be published with the run;"
        " put it into a variable of the environment and write ${NAME} in its place"
    ]


def optimizer_faults(recipe: Recipe) -> list[str]:
    """Check AdamW's numbers."""
    optimizer, faults = recipe.optimizer, []
    for i, beta in enumerate(optimizer.betas):
        if not 0 <= beta < 1:
            faults.append(f"optimizer.betas[{i}]: found {beta}, must be at least 0 and below 1")
    for name in ("weight_decay", "gradient_clip", "z_loss"):
        if getattr(optimizer, name) < 0:
            faults.append(f"optimizer.{name}: found {getattr(optimizer, name)}, must be at least 0")
    if not optimizer.epsilon > 0:  # a weight that never had a gradient would be 0 / 0
        faults.append(f"optimizer.epsilon: found {optimizer.epsilon}, must be above 0; 1e-8 is usual")
    if optimizer.average_decay is not None and not 0 <= optimizer.average_decay < 1:
        faults.append(f"optimizer.average_decay: found {optimizer.average_decay}, must be at least 0 and below 1; 0.999 is usual")
    if optimizer.algorithm == "muon":
        faults.append(
            "optimizer.algorithm: muon is not there: megatron-core 0.16.1 makes its Muon of the package emerging_optimizers, which this package does not"
            " install and never ran; use adamw"
        )
    return faults + transfer_faults(recipe)


def transfer_faults(recipe: Recipe) -> list[str]:
    """Check that a width to scale from is given where something is scaled, and only there."""
    optimizer, path = recipe.optimizer, "optimizer.base_width"
    if optimizer.transfer == "none":
        return [] if optimizer.base_width is None else [f"{path}: belongs to transfer: mup; set that, or leave it out"]
    if recipe.initial_weights and recipe.initial_weights.startswith(PREFIX):
        return [
            "optimizer.transfer: mup scales how a model begins as well as how it learns, and this one begins with weights that were trained"
            f" otherwise ({recipe.initial_weights}); leave transfer out, or begin without a public model"
        ]
    if optimizer.base_width is None:
        return [f"{path}: missing; transfer: mup needs the hidden_size of the model whose rates these are"]
    return [] if optimizer.base_width >= 1 else [f"{path}: found {optimizer.base_width}, must be at least 1"]


def seed_faults(recipe: Recipe) -> list[str]:
    """Check that every random stream can be seeded; megatron-core adds a few thousand to it."""
    seeds = {"seed": recipe.seed, **{f"phases[{i}].data_seed": phase.data_seed for i, phase in enumerate(recipe.phases)}}
    return [
        f"{key}: found {seed}, allowed are 0 to {2**62 - 1}" for key, seed in seeds.items() if seed is not None and not 0 <= seed < 2**62
    ]


def branch_faults(recipe: Recipe) -> list[str]:
    """Check where a run starts from."""
    if recipe.branch is None:
        return []
    faults = []
    if recipe.initial_weights:
        faults.append("branch: initial_weights is given too; a branch carries weights, Adam's state and data order, so remove one of them")
    if recipe.branch.step is not None and recipe.branch.step < 1:
        faults.append(f"branch.step: found {recipe.branch.step}, must be at least 1")
    return faults
