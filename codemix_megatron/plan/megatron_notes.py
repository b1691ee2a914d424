"""What Megatron-LM does otherwise than `codemix train`, in sentences that stand above its arguments."""

from codemix_megatron.plan.megatron_positions import position_notes
from codemix_megatron.plan.phases import PhasePlan
from codemix_megatron.plan.plan import Plan
from codemix_megatron.recipe.schema import Model, Recipe

__all__ = ["model_notes", "phase_notes"]


def phase_notes(plan: Plan, phase: PhasePlan) -> list[str]:
    """Say what Megatron does differently between phases."""
    notes = [f"{plan.name}, phase {phase.name}: {phase.steps} steps, {phase.tokens} tokens, for Megatron-LM's pretrain_gpt.py."]
    if len(plan.phases) > 1:
        others = ", ".join(p.name for p in plan.phases if p.name != phase.name)
        notes.append("Megatron-LM trains one phase per start and RESHUFFLES at each: a later phase draws again from sample 0 of every")
        notes.append(f"corpus, so it rereads what earlier phases read. `codemix train` does not. Other phases (--phase): {others}.")
    if plan.branch and phase.first_step == plan.first_step + 1:
        notes.append(f"The recipe continues from step {plan.first_step} of {plan.branch.run} and reads on where that stopped.")
    if phase.first_step > 1:
        notes.append(
            "Add --load CHECKPOINT --finetune to start from the phase before; Adam's moments and the counters start from zero then."
        )
    if len(phase.batches) > 1:
        sizes = ", ".join(f"{steps} steps of {size}" for steps, size in phase.batches)
        notes.append(f"The recipe's global batch CHANGES in this phase ({sizes}); --global-batch-size is the first.")
    if phase.stretches:
        notes.append("The recipe's shares MOVE within this phase; Megatron-LM's blend has one share for each corpus: the phase's mean.")
    if bucketed := [name for name in phase.sources if "buckets" in plan.sources[name]]:
        notes.append(f"Documents of {', '.join(bucketed)} are drawn by BUCKETS of a score; Megatron-LM draws all of them evenly.")
    if plan.assumed:
        notes.append("Sizes of corpora are ASSUMED; prepare them before you train.")
    return notes


def optimizer_notes(recipe: Recipe) -> list[str]:
    """Say what of the optimizer Megatron cannot be told."""
    optimizer, notes = recipe.optimizer, []
    if optimizer.z_loss:
        notes.append(f"Megatron-LM has no z-loss for its output layer; the recipe says {optimizer.z_loss:g}.")
    if optimizer.transfer == "mup":
        notes.append(
            f"The recipe's rates are those of a width of {optimizer.base_width} (muP); Megatron-LM 0.16.1 would train at them: ANOTHER MODEL."
        )
    if not optimizer.decay_embeddings:
        notes.append("Megatron-LM decays the embedding and the output layer; the recipe does not.")
    if optimizer.average_decay is not None:
        notes.append("Megatron-LM keeps no moving average of weights; optimizer.average_decay is left out.")
    return notes


def unknown_there(model: Model) -> dict[str, str]:
    """Return what Megatron-LM's arguments have no word for, and what the model says of it."""
    usual = Model(num_layers=0, hidden_size=0, num_attention_heads=1, sequence_length=0)
    names = {
        "logit_scale": "logit scale",
        "embedding_multiplier": "multiplier of embeddings",
        "residual_multiplier": "multiplier of residuals",
        "attention_scale": "scale of attention's scores",
        "attention_softcap": "soft cap of attention's scores",
        "logit_softcap": "soft cap of logits",
        "window_rope_base": "rotary base of its own in layers with a window",
        "norm_position": "norm behind attention and MLP",
        "qk_norm_width": "norm over all queries and keys",
    }
    return {what: str(getattr(model, key)) for key, what in names.items() if getattr(model, key) != getattr(usual, key)}


def model_notes(recipe: Recipe, phase: PhasePlan) -> list[str]:
    """Say what Megatron has no option for."""
    notes = ["Megatron's learning rate lags ours by one step. Weights and data order come from other random numbers."]
    if recipe.sequences.packing != "concatenate":
        notes.append(f"Megatron cuts documents at the ends of sequences; the recipe's packing {recipe.sequences.packing} is not there.")
    if recipe.model.block == "parallel":
        notes.append("Megatron-LM has no parallel block: it would train attention and MLP one after the other, which is ANOTHER MODEL.")
    if recipe.model.activation == "geglu":
        notes.append("Megatron-LM has no flag for GeGLU; the recipe's MLP has a gate: ANOTHER MODEL.")
    if recipe.model.activation == "gelu":
        notes.append("Megatron-LM's GELU is the tanh form only with --bias-gelu-fusion, its default; the recipe's is always.")
    if recipe.model.normalization == "layernorm":
        notes.append("Megatron-LM's LayerNorm has a bias; the recipe's has none.")
    notes += [f"Megatron-LM has no {what}; the recipe says {value}." for what, value in unknown_there(recipe.model).items()]
    notes += optimizer_notes(recipe)
    notes += position_notes(recipe.model)
    if recipe.model.vocab_size:
        notes.append(
            f"Megatron-LM's embedding has the tokenizer's ids; model.vocab_size says {recipe.model.vocab_size}, which is another shape."
        )
    rate = phase.learning_rate
    if rate["schedule"] != "constant" and rate["final"] > rate["peak"]:
        notes.append("Megatron refuses a --min-lr above --lr; this phase's learning rate rises to its end.")
    if recipe.initial_weights and phase.first_step == 1:
        notes.append(f"The recipe starts from {recipe.initial_weights}; Megatron-LM needs them as its own checkpoint: --load X --finetune.")
    return notes
