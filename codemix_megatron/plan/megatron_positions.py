"""How Megatron-LM's arguments say where a token is and what it sees: rotary positions, their scaling, windows. And what it computes without."""

from codemix_megatron.recipe.schema import Model

__all__ = ["LINEAR_SINCE", "LLAMA3_FACTOR", "LLAMA3_NUMBERS", "position_arguments", "position_notes"]

# core_v0.16.1, 0.17.1, 0.18.2 and 0.19.0 parse --rope-scaling-factor and build their GPT model without it, so that its default is taken.
LLAMA3_FACTOR = 8.0
LLAMA3_NUMBERS = {"low_frequency_factor": 1.0, "high_frequency_factor": 4.0, "original_sequence_length": 8192}
# The first whose pretrain_gpt.py gives --rotary-seq-len-interpolation-factor to its GPT model; those before only parse it.
LINEAR_SINCE = "0.19"


def position_arguments(model: Model) -> list[tuple]:
    """Return the flags for rotary positions and windows."""
    return [
        *([("--rotary-percent", repr(model.rotary_share))] if model.rotary_share != 1 else []),
        ("--position-embedding-type", "rope"),
        ("--rotary-base", round(model.rope_base)),
        *scaling_arguments(model),
        *([("--window-size", f"{model.sliding_window - 1},0")] if model.sliding_window else []),  # the tokens before
        *([("--window-attn-skip-freq", model.full_attention_interval)] if model.full_attention_interval else []),
        *([("--no-rope-freq", model.no_rope_interval)] if model.no_rope_interval else []),
        *([("--rotary-interleaved",)] if model.rotary_interleaved else []),
    ]


def scaling_arguments(model: Model) -> list[tuple]:
    """Return the flags for a scaling that Megatron-LM knows."""
    scaling = model.rope_scaling
    if scaling is not None and scaling.kind == "linear" and scaling.factor == round(scaling.factor):
        return [("--rotary-seq-len-interpolation-factor", round(scaling.factor))]
    return [("--use-rope-scaling",)] if scaling is not None and scaling.kind == "llama3" else []


def position_notes(model: Model) -> list[str]:
    """Say what Megatron-LM computes otherwise, though it has arguments for positions."""
    scaling, notes = model.rope_scaling, []
    if scaling is not None and scaling.kind == "longrope":
        notes.append("Megatron-LM does not stretch rotary positions by longrope; the recipe does: ANOTHER MODEL.")
    elif scaling is not None and scaling.kind == "yarn":
        notes.append("Megatron-LM stretches rotary positions by YaRN for multi-latent attention only; the recipe does: ANOTHER MODEL.")
    elif scaling is not None and scaling.kind == "linear":
        notes.append(
            f"Megatron-LM before {LINEAR_SINCE} reads --rotary-seq-len-interpolation-factor and computes without: ANOTHER MODEL there."
        )
        if scaling.factor != round(scaling.factor):
            notes.append(f"It takes whole numbers only, and is left out; the recipe says {scaling.factor:g}: ANOTHER MODEL.")
    elif scaling is not None:
        fixed = {"factor": LLAMA3_FACTOR} | LLAMA3_NUMBERS
        other = ", ".join(f"{key} {getattr(scaling, key):g}" for key, value in fixed.items() if getattr(scaling, key) != value)
        if other:
            notes.append(f"Megatron-LM's --use-rope-scaling computes with 8, 1, 4 and 8192 only; the recipe says {other}: ANOTHER MODEL.")
    if model.rope_base != round(model.rope_base):
        notes.append(f"--rotary-base takes whole numbers only; the recipe says {model.rope_base}.")
    return notes
