"""The arguments with which plain Megatron-LM's pretrain_gpt.py trains one phase of a plan.

Names and meanings are those of Megatron-LM's megatron/training/arguments.py (core_v0.16.1 and main of August 2026).
"""

import math
import os
import shlex
from dataclasses import dataclass, field

from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.megatron_notes import model_notes, phase_notes
from codemix_megatron.plan.megatron_positions import position_arguments
from codemix_megatron.plan.megatron_tokenizer import megatron_tokenizer
from codemix_megatron.plan.phases import PhasePlan
from codemix_megatron.plan.plan import Plan
from codemix_megatron.recipe.schema import Model, Recipe
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["MegatronArguments", "megatron_arguments", "model_arguments"]

SPLIT_DIGITS = 8
WSD_DECAYS = {"linear": "linear", "1-sqrt": "minus_sqrt"}
SCHEDULES = {"constant": "constant", "linear": "linear", "cosine": "cosine", "wsd": "WSD"}


@dataclass(frozen=True)
class MegatronArguments:
    """A list of (flag, values), and what the reader has to know."""

    arguments: list[tuple]
    notes: list[str]
    ranks: int
    preparation: list[str] = field(default_factory=list)  # lines of shell that make what the arguments name

    def as_shell(self) -> str:
        """Return notes as comments, what has to be made first, and one quoted argument a line."""
        # Megatron-LM asks for one connection where computing and communicating must keep their order (tensor ranks, before Blackwell).
        lines = [f"CUDA_DEVICE_MAX_CONNECTIONS=1 torchrun --nproc-per-node {self.ranks} pretrain_gpt.py"]
        lines += ["  " + " ".join([flag, *(shlex.quote(str(value)) for value in values)]) for flag, *values in self.arguments]
        before = "".join(f"# {note}\n" for note in self.notes) + "".join(f"{line}\n" for line in self.preparation)
        return before + " \\\n".join(lines) + "\n"


def megatron_arguments(recipe: Recipe, plan: Plan, corpora: dict, phase_name: str | None = None) -> MegatronArguments:
    """Return the arguments for one phase (default: the first); raises RecipeError when there is no such phase."""
    phase = find_phase(plan, phase_name)
    split, split_notes = safe_split(recipe, phase, corpora)
    tokenizer = megatron_tokenizer(recipe, corpora)
    arguments = [
        *model_arguments(recipe, phase.sequence_length),
        *layout_arguments(recipe, plan),
        *batch_arguments(recipe, plan, phase),
        *learning_rate_arguments(phase, plan),
        *optimizer_arguments(recipe),
        ("--seed", recipe.seed),
        *tokenizer.arguments,
        ("--data-path", *blend(recipe, phase)),
        ("--split", split),
        *([("--reset-attention-mask",)] if recipe.sequences.attention_within_documents else []),
        *([] if recipe.sequences.learn_across_documents else [("--eod-mask-loss",), ("--calculate-per-token-loss",)]),
    ]
    if split == "1,0,0":
        arguments.append(("--eval-iters", 0))
    notes = [*phase_notes(plan, phase), *split_notes, *model_notes(recipe, phase), *tokenizer.notes]
    return MegatronArguments(arguments, notes, plan.layout["ranks"], tokenizer.preparation)


def find_phase(plan: Plan, name: str | None) -> PhasePlan:
    """Return the phase of that name, or the first."""
    phases = {phase.name: phase for phase in plan.phases}
    if name is not None and name not in phases:
        raise RecipeError(f"no phase {name!r}; phases are {', '.join(phases)}", where="--phase")
    return phases[name] if name else plan.phases[0]


def model_arguments(recipe: Recipe, sequence_length: int) -> list[tuple]:
    """Return shape, block and initialisation; sequences may be shorter than the model's."""
    model = recipe.model
    grouped = [("--group-query-attention",), ("--num-query-groups", model.query_groups)]
    return [
        ("--num-layers", model.num_layers),
        ("--hidden-size", model.hidden_size),
        ("--num-attention-heads", model.num_attention_heads),
        *(grouped if model.query_groups != model.num_attention_heads else []),
        ("--ffn-hidden-size", model.ffn_size),
        *([("--kv-channels", model.head_dim)] if model.head_dim else []),
        *([("--add-qkv-bias",)] if model.qkv_bias else []),
        *([("--qk-layernorm",)] if model.qk_norm else []),
        *([("--apply-layernorm-1p",)] if model.zero_centered_norm else []),
        *expert_arguments(model),
        ("--seq-length", sequence_length),
        ("--max-position-embeddings", model.sequence_length),
        *([("--swiglu",)] if model.activation == "swiglu" else []),
        ("--normalization", "RMSNorm" if model.normalization == "rmsnorm" else "LayerNorm"),
        ("--norm-epsilon", plain_number(model.normalization_epsilon)),
        *position_arguments(model),
        *([] if model.linear_bias else [("--disable-bias-linear",)]),
        *([] if model.tie_embeddings else [("--untie-embeddings-and-output-weights",)]),
        ("--hidden-dropout", model.dropout),
        ("--attention-dropout", model.dropout),
        ("--init-method-std", plain_number(model.init_std)),
        # Megatron pads to a multiple of this times the tensor ranks.
        ("--make-vocab-size-divisible-by", model.vocab_padding_multiple // recipe.parallel.tensor),
        *([("--bf16",)] if model.precision == "bf16" else []),
        *([("--fp8-format", "hybrid"), ("--fp8-recipe", model.fp8)] if model.fp8 != "off" else []),
    ]


def expert_arguments(model: Model) -> list[tuple]:
    """Return what makes a mixture of experts."""
    if model.num_experts is None:
        return []
    return [
        ("--num-experts", model.num_experts),
        ("--moe-ffn-hidden-size", model.ffn_size),
        ("--moe-router-topk", model.experts_per_token),
        *([] if model.normalize_experts else [("--moe-router-pre-softmax",)]),
        ("--moe-router-load-balancing-type", "aux_loss" if model.expert_balance else "none"),
        ("--moe-aux-loss-coeff", plain_number(model.expert_balance)),
        ("--moe-router-dtype", "fp32"),
        ("--moe-token-dispatcher-type", "allgather"),
    ]


def layout_arguments(recipe: Recipe, plan: Plan) -> list[tuple]:
    """Return how the model is spread; data parallel ranks are those left over, as here."""
    parallel, layout = recipe.parallel, plan.layout
    arguments: list[tuple] = [("--tensor-model-parallel-size", layout["tensor"]), ("--pipeline-model-parallel-size", layout["pipeline"])]
    if parallel.context > 1:
        arguments.append(("--context-parallel-size", parallel.context))
    if layout["virtual_pipeline"] > 1:
        layers = recipe.model.num_layers // (layout["pipeline"] * layout["virtual_pipeline"])
        arguments.append(("--num-layers-per-virtual-pipeline-stage", layers))
    overlaps = parallel.overlaps(on_cuda=True, ranks=layout["data"] * parallel.context)
    switches = {
        "--sequence-parallel": parallel.sequence_parallel,
        "--use-distributed-optimizer": parallel.distributed_optimizer,
        "--overlap-grad-reduce": overlaps,
        "--overlap-param-gather": overlaps,
    }
    arguments += [(flag,) for flag, is_on in switches.items() if is_on]
    if parallel.recompute == "selective":
        arguments.append(("--recompute-granularity", "selective"))
    if parallel.recompute == "full":
        arguments += [("--recompute-granularity", "full"), ("--recompute-method", "uniform"), ("--recompute-num-layers", 1)]
    return arguments


def batch_arguments(recipe: Recipe, plan: Plan, phase: PhasePlan) -> list[tuple]:
    """Return batch sizes and the length of the phase, in samples as long as the phase's sequences."""
    parts = plan.sequence_length // phase.sequence_length
    return [
        ("--micro-batch-size", recipe.batch.micro_sequences * parts),
        ("--global-batch-size", phase.batches[0][1] * parts),
        ("--train-samples", phase.sequences * parts),
    ]


def learning_rate_arguments(phase: PhasePlan, plan: Plan) -> list[tuple]:
    """Return the phase's schedule in samples."""
    rate, parts = phase.learning_rate, plan.sequence_length // phase.sequence_length
    size = math.gcd(*(size for _, size in phase.batches))  # of one batch, where all are alike
    units, sequences = phase.sequences // size, size * parts
    warmup = min(units, -(-rate["warmup_tokens"] // (size * plan.sequence_length)))
    arguments = [
        ("--lr", plain_number(rate["peak"])),
        ("--min-lr", plain_number(rate["final"] if rate["schedule"] != "constant" else min(rate["final"], rate["peak"]))),
        ("--lr-decay-style", SCHEDULES[rate["schedule"]]),
        ("--lr-decay-samples", phase.sequences * parts),
        ("--lr-warmup-samples", warmup * sequences),
    ]
    if warmup and rate["start"]:
        arguments.append(("--lr-warmup-init", plain_number(rate["start"])))
    if rate["schedule"] == "wsd":
        decay = max(1, round(rate["decay_share"] * units))
        arguments += [("--lr-wsd-decay-style", WSD_DECAYS[rate["decay"]]), ("--lr-wsd-decay-samples", decay * sequences)]
    return arguments


def optimizer_arguments(recipe: Recipe) -> list[tuple]:
    """Return AdamW's numbers."""
    optimizer = recipe.optimizer
    return [
        ("--optimizer", "adam"),
        ("--adam-beta1", optimizer.betas[0]),
        ("--adam-beta2", optimizer.betas[1]),
        ("--adam-eps", plain_number(optimizer.epsilon)),
        ("--weight-decay", optimizer.weight_decay),
        ("--clip-grad", optimizer.gradient_clip),
    ]


def blend(recipe: Recipe, phase: PhasePlan) -> list:
    """Return weight, prefix, weight, prefix, ...; weights are whole sequences, and Megatron takes no weight of 0."""
    drawn = {name: source.sequences for name, source in phase.sources.items() if source.sequences}
    return [word for name, sequences in drawn.items() for word in (sequences, os.path.normpath(recipe.prefix(name)))]


def safe_split(recipe: Recipe, phase: PhasePlan, corpora: dict) -> tuple[str, list[str]]:
    """Return --split such that no held-out document is trained on, and what it costs.

    Held-out documents are the last of each file. Megatron cuts every corpus at round(fraction x documents), with one
    fraction for all, so the smallest training share decides; the others lose a few documents they could train on.
    """
    drawn = {name: corpora[name] for name, source in phase.sources.items() if source.sequences}
    prepared = {name: corpus for name, corpus in drawn.items() if isinstance(corpus, CorpusManifest)}
    notes = []
    unknown = [name for name in drawn if name not in prepared]
    if unknown:
        notes.append(f"--split is a guess from evaluation.held_out_share: {', '.join(unknown)} are not prepared.")
    shares = [(m.train_documents, m.num_documents) for m in prepared.values()]
    scale = 10**SPLIT_DIGITS
    kept = [train * scale // total for train, total in shares] + ([int((1 - recipe.evaluation.held_out_share) * scale)] if notes else [])
    train = min(kept)
    lost = {name: m.train_documents - round(train / scale * m.num_documents) for name, m in prepared.items()}
    inexact = {name: count for name, count in lost.items() if count}
    if inexact:
        listed = ", ".join(f"{name} {count} of {prepared[name].train_documents}" for name, count in inexact.items())
        notes.append(f"--split is one fraction for all corpora: none of our held-out documents is trained on; left out besides: {listed}.")
    elif prepared and not notes:
        notes.append("--split leaves exactly our held-out documents out, for validation.")
    if train == scale:
        return "1,0,0", notes
    return f"{decimal(train)},{decimal(scale - train)},0", notes


def decimal(parts: int) -> str:
    """Return parts of 10^8 without an exponent, which Megatron's reading of --split does not know."""
    return f"{parts / 10**SPLIT_DIGITS:.{SPLIT_DIGITS}f}".rstrip("0").rstrip(".")


def plain_number(value: float) -> str:
    """Return the shortest decimal form of a number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
