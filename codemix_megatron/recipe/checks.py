"""Faults that need more than one key of a recipe to see."""

import math

from codemix_megatron.plugins import find_plugin
from codemix_megatron.recipe.batch_sizes import batch_size_faults
from codemix_megatron.recipe.block_checks import block_faults
from codemix_megatron.recipe.conversations import conversation_faults
from codemix_megatron.recipe.expert_checks import expert_faults, expert_layout_faults
from codemix_megatron.recipe.filtering import filter_faults
from codemix_megatron.recipe.moving_mixture import is_moving, moving_faults
from codemix_megatron.recipe.names import name_fault
from codemix_megatron.recipe.schema import FillInTheMiddle, Parallel, Recipe, as_plain, entry_share
from codemix_megatron.recipe.sources import source_faults
from codemix_megatron.redaction import redact, secret_in
from codemix_megatron.trust import MEANINGS

__all__ = ["find_faults", "layout_faults", "model_faults", "ranks_fault", "share_faults"]

SHARE_TOLERANCE = 1e-6


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


def not_positive(block, prefix: str, names) -> list[str]:
    """Return a fault for each named field below 1."""
    values = ((name, getattr(block, name)) for name in names)
    return [f"{prefix}.{name}: found {value}, must be at least 1" for name, value in values if value is not None and value < 1]


def model_faults(recipe: Recipe) -> list[str]:
    """Check the shape by itself."""
    model = recipe.model
    faults = not_positive(
        model,
        "model",
        [
            "num_layers",
            "hidden_size",
            "num_attention_heads",
            "num_query_groups",
            "ffn_hidden_size",
            "sequence_length",
            "head_dim",
            "sliding_window",
            "full_attention_interval",
            "no_rope_interval",
            "num_experts",
            "experts_per_token",
            "vocab_size",
            "vocab_padding_multiple",
        ],
    )
    if faults:
        return faults
    heads, groups = model.num_attention_heads, model.query_groups
    if model.head_dim is None and model.hidden_size % heads:
        faults.append(f"model.hidden_size: {model.hidden_size} does not divide into {heads} attention heads")
    elif model.head_size % 2:
        key = "hidden_size" if model.head_dim is None else "head_dim"
        faults.append(f"model.{key}: heads of {model.head_size} are odd, rotary positions need an even size")
    if heads % groups:
        faults.append(f"model.num_query_groups: {heads} attention heads do not divide into {groups} groups")
    if not 0 <= model.dropout < 1:
        faults.append(f"model.dropout: found {model.dropout}, must be at least 0 and below 1")
    return faults + block_faults(model) + expert_faults(model)


def layout_faults(recipe: Recipe) -> list[str]:
    """Check that the model divides over the ranks asked for."""
    model, parallel = recipe.model, recipe.parallel
    names = ["tensor", "pipeline", "virtual_pipeline", "context", "data", "threads_per_rank", "timeout_seconds", "heartbeat_seconds"]
    faults = not_positive(parallel, "parallel", names)
    if faults or model.num_attention_heads < 1:
        return faults
    tensor, stages = parallel.tensor, parallel.pipeline * parallel.virtual_pipeline
    for key, value in {
        "num_attention_heads": model.num_attention_heads,
        "num_query_groups": model.query_groups,
        "ffn_hidden_size": model.ffn_size,
        "vocab_padding_multiple": model.vocab_padding_multiple,
    }.items():
        if value % tensor:
            allowed = [t for t in range(1, value + 1) if value % t == 0][:6]
            faults.append(f"parallel.tensor: {tensor} does not divide model.{key} {value}; {allowed} would")
    if model.num_layers % stages:
        what = "pipeline" if parallel.virtual_pipeline == 1 else "pipeline x virtual_pipeline"
        faults.append(f"parallel.pipeline: {what} = {stages} does not divide model.num_layers {model.num_layers}")
    if parallel.virtual_pipeline > 1 and parallel.pipeline == 1:
        faults.append("parallel.virtual_pipeline: needs pipeline of at least 2")
    if parallel.sequence_parallel and model.sequence_length % tensor:
        faults.append(f"parallel.sequence_parallel: tensor {tensor} does not divide model.sequence_length {model.sequence_length}")
    if parallel.sequence_parallel and tensor == 1:
        faults.append("parallel.sequence_parallel: needs tensor of at least 2")
    if parallel.context > 1:
        faults += context_faults(recipe)
    if parallel.overlap and not parallel.distributed_optimizer:
        faults.append("parallel.overlap: needs distributed_optimizer: true")
    return faults


def context_faults(recipe: Recipe) -> list[str]:
    """Check that sequences can be cut over context parallel ranks, which get two parts each, an early and a late one."""
    context, length, faults = recipe.parallel.context, recipe.model.sequence_length, []
    if length % (2 * context):
        faults.append(f"parallel.context: 2 x {context} does not divide model.sequence_length {length}")
    if recipe.sequences.attention_within_documents:
        faults.append("parallel.context: sequences.attention_within_documents is not there with it; set one of them back")
    return faults


def fp8_faults(recipe: Recipe) -> list[str]:
    """Check what FP8 matrix products ask of shapes: widths a multiple of 16 on every rank, tokens one of 8."""
    model, tensor = recipe.model, recipe.parallel.tensor
    if model.fp8 == "off" or tensor < 1:
        return []
    faults = [] if model.precision == "bf16" else [f"model.fp8: {model.fp8} needs model.precision bf16, found {model.precision}"]
    widths = {
        "hidden_size": model.hidden_size,
        "ffn_hidden_size": model.ffn_size,
        "head size x query groups": model.head_size * model.query_groups,
    }
    for name, width in widths.items():
        if width % (16 * tensor):
            faults.append(f"model.fp8: {name} {width} is not a multiple of 16 x parallel.tensor {tensor}")
    tokens = recipe.batch.micro_sequences * model.sequence_length
    if tokens % (8 * tensor * recipe.parallel.context):
        faults.append(
            f"model.fp8: {tokens} tokens of a micro batch are not a multiple of 8 on each of {tensor * recipe.parallel.context} ranks"
        )
    return faults


def batch_faults(recipe: Recipe) -> list[str]:
    """Check that the global batch splits into micro batches on every rank."""
    faults = [*batch_size_faults(recipe.batch.stages), *not_positive(recipe.batch, "batch", ["micro_sequences"])]
    return faults or share_faults(recipe, recipe.parallel.data or 1)


def share_faults(recipe: Recipe, data: int) -> list[str]:
    """Check that each size of the global batch splits into micro batches on each of `data` data-parallel ranks."""
    batch, parallel, faults = recipe.batch, recipe.parallel, []
    for size in batch.sizes:
        if size % (batch.micro_sequences * data):
            faults.append(
                f"batch.global_sequences: {size} is not a multiple of micro_sequences {batch.micro_sequences}"
                f" x data parallel {data} = {batch.micro_sequences * data}"
            )
        micro_batches = size // (batch.micro_sequences * data)
        if parallel.virtual_pipeline > 1 and micro_batches % parallel.pipeline:
            faults.append(
                f"batch.global_sequences: {micro_batches} micro batches are not a multiple of pipeline {parallel.pipeline},"
                " as virtual_pipeline needs"
            )
    return faults


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
    if recipe.initial_weights and recipe.initial_weights.startswith("hf:"):
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


def corpus_faults(recipe: Recipe) -> list[str]:
    """Check corpora among themselves."""
    faults: list[str] = []
    owners: dict[str | None, str] = {}
    readers: dict[str, str] = {}
    for name, spec in recipe.corpora.items():
        if spec.prefix in owners:
            faults.append(f"corpora.{name}.prefix: {spec.prefix} is also that of corpora.{owners[spec.prefix]}")
        owners[spec.prefix] = name
        for i, document in enumerate(spec.documents):
            if document in readers and readers[document] != name:
                faults.append(
                    f"corpora.{name}.documents[{i}]: {document} is also read by corpora.{readers[document]}; one of them has to go"
                )
            readers.setdefault(document, name)
        if spec.max_epochs <= 0:
            faults.append(f"corpora.{name}.max_epochs: found {spec.max_epochs}, must be above 0")
        faults += middle_faults(spec.fill_in_the_middle, f"corpora.{name}.fill_in_the_middle")
        if spec.repositories.longest_bytes < 1:
            faults.append(f"corpora.{name}.repositories.longest_bytes: found {spec.repositories.longest_bytes}, must be at least 1")
        faults += conversation_faults(spec.conversations, f"corpora.{name}.conversations", rewrites=spec.fill_in_the_middle is not None)
        faults += filter_faults(spec.filters, f"corpora.{name}.filters")
    if not 0 < recipe.sequences.corpus_share <= 1:
        faults.append(f"sequences.corpus_share: found {recipe.sequences.corpus_share}, allowed are above 0 to 1")
    vocab_size = recipe.tokenizer.train_vocab_size
    if vocab_size is not None and not 260 <= vocab_size <= 1_000_000:
        faults.append(f"tokenizer.train_vocab_size: found {vocab_size}, allowed are 260 to 1000000")
    return faults


def middle_faults(spec: FillInTheMiddle | None, path: str) -> list[str]:
    """Check the shares of fill-in-the-middle and the number of its sentinels."""
    if spec is None:
        return []
    rates = {"rate": spec.rate, "spm_share": spec.spm_share, **{f"languages.{name}": rate for name, rate in spec.languages.items()}}
    faults = [f"{path}.{key}: found {rate}, allowed are 0 to 1" for key, rate in rates.items() if not 0 <= rate <= 1]
    if spec.sentinels and len(set(spec.sentinels)) != 3:
        faults.append(f"{path}.sentinels: found {', '.join(spec.sentinels)}; needs three names: before prefix, middle, suffix")
    return faults


def phase_faults(recipe: Recipe) -> list[str]:
    """Check every phase: names, budgets, shares, learning rates."""
    faults, names = [], set()
    batch_tokens = min(recipe.batch.sizes) * recipe.model.sequence_length
    for i, phase in enumerate(recipe.phases):
        path = f"phases[{i}]"
        if phase.name in names:
            faults.append(f"{path}.name: {phase.name!r} is used twice")
        names.add(phase.name)
        if phase.tokens < batch_tokens:
            faults.append(f"{path}.tokens: {phase.tokens} is less than one global batch of {batch_tokens} tokens")
        faults += phase_length_faults(recipe, phase.sequence_length, f"{path}.sequence_length")
        faults += mixture_faults(phase.mixture, f"{path}.mixture", recipe.corpora, phase.tokens)
        faults += learning_rate_faults(phase, f"{path}.learning_rate")
    return faults


def phase_length_faults(recipe: Recipe, length: int | None, path: str) -> list[str]:
    """Check a phase's own sequence length: whole parts of the model's, which ranks can share."""
    whole, parallel = recipe.model.sequence_length, recipe.parallel
    if length is None or length == whole or whole < 1:
        return []
    if length < 1 or whole % length:
        allowed = [size for size in range(whole // 2, 0, -1) if whole % size == 0][:4]
        more = "; model.sequence_length is that of the longest sequences, of any phase or branch" if length > whole else ""
        return [f"{path}: found {length}, which does not divide model.sequence_length {whole}; {allowed} would{more}"]
    faults = []
    if recipe.sequences.packing != "concatenate":
        faults.append(f"{path}: {length} would cut the documents that packing {recipe.sequences.packing} keeps whole; set one of them back")
    if parallel.sequence_parallel and parallel.tensor > 0 and length % parallel.tensor:
        faults.append(f"{path}: found {length}, which sequence_parallel cannot split over {parallel.tensor} tensor ranks")
    if parallel.context > 1 and length % (2 * parallel.context):
        faults.append(f"{path}: found {length}, not a multiple of 2 x parallel.context {parallel.context}")
    return faults


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


def mixture_faults(mixture: dict, path: str, corpora, whole_tokens: float) -> list[str]:
    """Check that shares sum to 1 at every level and that every leaf is a corpus."""
    if is_moving(mixture):
        ends = [fault for end in ("from", "to") for fault in mixture_faults(mixture[end], f"{path}.{end}", corpora, whole_tokens)]
        return [*ends, *moving_faults(mixture, path)]
    if "proportional" in mixture:
        return proportional_faults(mixture, path, corpora)
    faults = []
    shares = {name: entry_share(entry, whole_tokens) for name, entry in mixture.items()}
    for name, entry in mixture.items():
        if shares[name] < 0 or not math.isfinite(shares[name]):
            faults.append(f"{path}.{name}: share {shares[name]} is not between 0 and 1")
        if isinstance(entry, dict) and "mixture" in entry:
            faults += mixture_faults(entry["mixture"], f"{path}.{name}.mixture", corpora, shares[name] * whole_tokens)
        elif name not in corpora:
            faults.append(f"{path}.{name}: no such corpus; corpora are {', '.join(corpora)}")
    total = math.fsum(shares.values())
    if not faults and abs(total - 1) > SHARE_TOLERANCE:
        listed = ", ".join(f"{name} {share:.2f}" if round(share, 2) == share else f"{name} {share:.4g}" for name, share in shares.items())
        faults.append(f"{path}: shares add up to {total:.6g}, not 1 ({listed})")
    return faults


def proportional_faults(mixture: dict, path: str, corpora) -> list[str]:
    """Check a mixture that goes by the size of its corpora."""
    names = mixture["corpora"]
    faults = [
        f"{path}.corpora[{i}]: no such corpus {name!r}; corpora are {', '.join(corpora)}"
        for i, name in enumerate(names)
        if name not in corpora
    ]
    faults += [f"{path}.corpora: {name!r} is listed twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if not names:
        faults.append(f"{path}.corpora: empty; list the corpora to share among")
    if not mixture["temperature"] > 0:
        faults.append(f"{path}.temperature: found {mixture['temperature']}, must be above 0")
    return faults


def learning_rate_faults(phase, path: str) -> list[str]:
    """Check that the schedule fits into its phase."""
    rate, faults = phase.learning_rate, []
    if not rate.peak > 0:
        faults.append(f"{path}.peak: found {rate.peak}, must be above 0")
    for name in ("final", "start"):
        if not 0 <= getattr(rate, name):
            faults.append(f"{path}.{name}: found {getattr(rate, name)}, must be at least 0")
    if rate.warmup_tokens > phase.tokens:
        faults.append(f"{path}.warmup_tokens: {rate.warmup_tokens} is more than the phase's {phase.tokens} tokens")
    if not 0 < rate.decay_share <= 1:
        faults.append(f"{path}.decay_share: found {rate.decay_share}, must be above 0 and at most 1")
    return faults


def evaluation_faults(recipe: Recipe) -> list[str]:
    """Check held-out share and step intervals."""
    evaluation, faults = recipe.evaluation, []
    if not 0 <= evaluation.held_out_share < 0.5:
        faults.append(f"evaluation.held_out_share: found {evaluation.held_out_share}, allowed are 0 to 0.5")
    faults += not_positive(evaluation, "evaluation", ["every_steps", "held_out_sequences", "items"])
    faults += not_positive(recipe.checkpoint, "checkpoint", ["every_steps", "keep_last"])
    faults += not_positive(recipe.faults, "faults", ["spike_window", "spike_skip_batches"])
    for name in ("skip_bad_batches", "max_rollbacks", "spike_nats"):
        value = getattr(recipe.faults, name)
        if value is not None and not 0 <= value < math.inf:
            faults.append(f"faults.{name}: found {value}, must be at least 0")
    faults += not_positive(recipe.observers, "observers", ["console_every_steps"])
    if recipe.observers.gradient_norms_every_steps < 0:
        faults.append(
            f"observers.gradient_norms_every_steps: found {recipe.observers.gradient_norms_every_steps}, must be at least 0, which is never"
        )
    if recipe.observers.straggler_every_steps < 0:
        faults.append(
            f"observers.straggler_every_steps: found {recipe.observers.straggler_every_steps}, must be at least 0, which is never"
        )
    if not recipe.observers.straggler_factor > 1:
        faults.append(
            f"observers.straggler_factor: found {recipe.observers.straggler_factor}, must be above 1, which is as fast as the others"
        )
    faults += suite_faults(evaluation.suites, "evaluation.suites")
    if (asked := evaluation.while_training) is not None:
        path = "evaluation.while_training"
        faults += suite_faults(asked.suites, f"{path}.suites")
        faults += not_positive(asked, path, ["every_steps", "items"])
        faults += [f"{path}.at_steps[{i}]: found {step}, must be at least 1" for i, step in enumerate(asked.at_steps) if step < 1]
        if not asked.suites or (asked.every_steps is None and not asked.at_steps):
            faults.append(f"{path}: needs suites, and every_steps or at_steps to say when; found {as_plain(asked)}")
    faults += [
        f"evaluation.trust[{i}]: no line {name!r}; there are {', '.join(sorted(MEANINGS))}"
        for i, name in enumerate(evaluation.trust)
        if name not in MEANINGS
    ]
    if evaluation.tasks and not evaluation.tasks_directory:
        faults.append("evaluation.tasks_directory: missing; it is the folder that holds the files of evaluation.tasks")
    return faults


def suite_faults(suites: tuple[str, ...], path: str) -> list[str]:
    """Check that suites are built in or files."""
    known = ("bits_per_byte", "rolling_bits_per_byte", "continuation", "paper", "small", "languages")
    return [
        f"{path}[{i}]: no suite {suite!r}; built in are {', '.join(known)}, others are paths of YAML files or come with a plugin"
        for i, suite in enumerate(suites)
        if suite not in known and not suite.endswith((".yaml", ".yml")) and find_plugin("suites", suite) is None
    ]


def ranks_fault(parallel: Parallel, num_ranks: int) -> str | None:
    """Say why `num_ranks` do not form the layout, or return None when they do."""
    model_ranks, what = parallel.model_ranks, f"tensor {parallel.tensor} x pipeline {parallel.pipeline}"
    what += f" x context {parallel.context}" if parallel.context > 1 else ""
    if parallel.data is not None and num_ranks != model_ranks * parallel.data:
        wanted = model_ranks * parallel.data
        return (
            f"{num_ranks} ranks asked for, the recipe spreads the model over {wanted} ({what} x data {parallel.data});"
            f" use {wanted} ranks or change parallel.data"
        )
    if num_ranks % model_ranks:
        return f"{num_ranks} ranks do not divide into copies of {model_ranks} ({what}); use a multiple of {model_ranks}"
    return None
