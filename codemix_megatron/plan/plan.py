"""Recipe + manifests -> Plan: every number of a run before it starts. No torch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.mixture.budget import plan_batches
from codemix_megatron.mixture.interleave import MOST_SEQUENCES
from codemix_megatron.mixture.mixture import DATA_ORDER, Mixture
from codemix_megatron.mixture.packing import pack
from codemix_megatron.mixture.sequence_reader import num_windows
from codemix_megatron.plan.agreement import find_disagreements
from codemix_megatron.plan.assumed import AssumedCorpus, assume_corpora
from codemix_megatron.plan.batches import BatchShape, Run, position_after
from codemix_megatron.plan.branch import BranchPoint, data_order, find_branch_point
from codemix_megatron.plan.bucket_limits import unread_buckets
from codemix_megatron.plan.buckets import distinct_sequences, plan_buckets
from codemix_megatron.plan.cost import count_parameters, training_flops_per_token
from codemix_megatron.plan.memory import fullest_stage, layers_of, memory_by_recompute
from codemix_megatron.plan.phases import PhasePlan, first_position, plan_phases
from codemix_megatron.plan.rates import learning_rate_curve
from codemix_megatron.plan.repetition import read_again_by_longer
from codemix_megatron.plan.sources import guard_epochs, plan_sources
from codemix_megatron.plan.tokenizer_agreement import first_token_warnings
from codemix_megatron.recipe.layout_checks import share_faults
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.records.manifest import CorpusManifest

__all__ = ["Plan", "find_corpora", "make_plan", "read_manifests"]


@dataclass(frozen=True)
class Plan:
    """All phases, sources and costs of a run. Steps of a branch are counted on from its parent's; tokens and costs are its own."""

    name: str
    seed: int
    steps: int
    tokens: int
    sequence_length: int  # the model's: positions, sequences and epochs are counted in these
    global_sequences: int  # of the first step
    batch_tokens: int
    vocab_size: int
    parameters: dict[str, int]
    flops: dict[str, float]
    memory_bytes_per_rank: dict[str, int]
    layout: dict[str, int]
    phases: list[PhasePlan]
    sources: dict[str, dict]
    assumed: bool = False  # sizes of some corpora were assumed, not read from manifests
    model: dict = field(default_factory=dict)
    initial_weights: str | None = None
    branch: BranchPoint | None = None
    learning_rate_curve: list = field(default_factory=list)  # [tokens after the step, rate of the step]
    fullest_stage: int = 0  # the pipeline stage that memory_bytes_per_rank is of
    layers: str = "local"  # whose layers memory is planned for: transformer_engine or local
    memory_by_recompute: dict[str, int] = field(default_factory=dict)  # recompute choice -> bytes on the fullest rank
    memory_with_local_layers: int = 0  # bytes on the fullest rank without Transformer Engine
    device: dict | None = None  # hours and fit, when a device was asked about
    data_order: int = DATA_ORDER  # version of what comes at a position
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict:
        """Return plan.json's content."""
        return asdict(self)

    def mixture(self) -> Mixture:
        """Return the data order this plan describes."""
        return data_order(self.as_json())

    @property
    def first_step(self) -> int:
        """Steps done before this run began: 0, or the step it branches off at."""
        return self.branch.step if self.branch else 0

    @property
    def first_token(self) -> int:
        """Tokens trained on before this run began."""
        return self.tokens_at(self.first_step)

    def sequences_at(self, step: int) -> int:
        """Return the sequences seen after a step, those of parents included, whose global batches may have been others."""
        begun = self.branch.position(self.global_sequences) if self.branch else 0
        return position_after(step, self.first_step, begun, self.batches)

    @property
    def batches(self) -> list[Run]:
        """[steps, sequences in each] of all phases, in order."""
        return [run for phase in self.phases for run in phase.batches]

    def batch_at(self, position: int) -> BatchShape:
        """Return the shape of the global batch that begins at a position."""
        start = self.sequences_at(self.first_step)
        for phase in self.phases:
            for steps, size in phase.batches:
                start += steps * size
                if position < start:
                    return BatchShape(size, self.sequence_length // phase.sequence_length)
        raise IndexError(f"position {position} is beyond the run's {start} sequences")

    def tokens_at(self, step: int) -> int:
        """Return the tokens seen after a step, those of parents included."""
        return self.sequences_at(step) * self.sequence_length

    def phase_at(self, step: int) -> PhasePlan:
        """Return the phase that step `step` (from 1) belongs to."""
        return next(p for p in self.phases if step < p.first_step + p.steps)


def read_manifests(recipe: Recipe, names=None) -> dict[str, CorpusManifest]:
    """Read the manifest of every corpus, or of those in `names`; all that are missing or not what the recipe says are reported at once."""
    manifests, faults = {}, []
    for name in recipe.corpora if names is None else names:
        try:
            manifests[name] = CorpusManifest.read(recipe.corpora[name].prefix)
        except CorpusError as fault:
            faults.append(f"corpora.{name}: {fault}")
    tokenizers = {m.tokenizer.identity: name for name, m in manifests.items()}
    if len(tokenizers) > 1:
        faults.append(f"corpora: made with different tokenizers ({', '.join(tokenizers.values())}); prepare them again with one")
    if faults := faults or find_disagreements(recipe, manifests):
        raise CorpusError("\n".join(faults))
    return manifests


def find_corpora(recipe: Recipe, sizes: dict[str, int], vocab_size: int | None = None) -> dict[str, CorpusManifest | AssumedCorpus]:
    """Return corpora of assumed `sizes` (name -> training tokens) where given, and the manifests of the rest."""
    manifests = read_manifests(recipe, [name for name in recipe.corpora if name not in sizes])
    return assume_corpora(recipe, sizes, vocab_size, manifests)


def make_plan(
    recipe: Recipe,
    manifests: Mapping[str, CorpusManifest | AssumedCorpus],
    num_ranks: int | None = None,
    branch: BranchPoint | None = None,
) -> Plan:
    """Plan a run on `num_ranks` ranks (default: the smallest layout). Raises RecipeError when data or the batch do not suffice.

    A recipe that branches off reads its parent's plan.json, unless `branch` is given.
    """
    vocab_size = next(iter(manifests.values())).tokenizer.vocab_size
    data = (num_ranks or recipe.parallel.model_ranks * (recipe.parallel.data or 1)) // recipe.parallel.model_ranks
    if faults := share_faults(recipe, data):
        raise RecipeError(f"{'; '.join(faults)}; use another number of ranks or change the batch")
    buckets = plan_buckets(recipe, manifests)
    stored = {n: distinct_sequences(buckets[n], "stored") if n in buckets else sequences_per_epoch(recipe, m) for n, m in manifests.items()}
    per_epoch = {name: math.ceil(count * recipe.sequences.corpus_share) for name, count in stored.items()}
    per_epoch |= {name: distinct_sequences(of_source) for name, of_source in buckets.items()}
    sizes = {name: m.train_tokens for name, m in manifests.items()}
    branch = branch or find_branch_point(recipe, manifests, per_epoch, buckets)
    refuse_endless(recipe, branch)
    phases = plan_phases(recipe, per_epoch, sizes, branch, vocab_size)
    sources = plan_sources(recipe, manifests, phases, per_epoch, stored, buckets, branch)
    length, batch = recipe.model.sequence_length, phases[0].batches[0][1]
    return Plan(
        name=recipe.name,
        seed=recipe.seed,
        steps=phases[-1].first_step - 1 + phases[-1].steps,
        tokens=sum(p.tokens for p in phases),
        sequence_length=length,
        global_sequences=batch,
        batch_tokens=batch * length,
        vocab_size=vocab_size,
        layers=layers_of(recipe),
        layout=layout_of(recipe, data),
        phases=phases,
        sources=sources,
        assumed=any(source["assumed"] for source in sources.values()),
        model=as_plain(recipe.model),
        initial_weights=recipe.initial_weights,
        branch=branch,
        learning_rate_curve=learning_rate_curve(phases, length, first_position(recipe, branch)),
        warnings=warnings_of(recipe, manifests, phases, sources, branch),
        **compute_of(recipe, vocab_size, phases),
        **memory_of(recipe, vocab_size, data),
    )


def warnings_of(
    recipe: Recipe,
    manifests: Mapping[str, CorpusManifest | AssumedCorpus],
    phases: list[PhasePlan],
    sources: dict[str, dict],
    branch: BranchPoint | None,
) -> list[str]:
    """Refuse sources that do not suffice; return what is allowed and seldom meant: of epochs, unread buckets, sequences of another length, first tokens."""
    return [
        *guard_epochs(recipe, sources, phases),
        *unread_buckets(sources),
        *read_again_by_longer(branch, sources, recipe.model.sequence_length),
        *first_token_warnings(recipe, documents_begin(recipe, manifests)),
    ]


def layout_of(recipe: Recipe, data: int) -> dict[str, Any]:
    """Return how the model and `data` copies of it are spread over ranks."""
    parallel = recipe.parallel
    shape = {name: getattr(parallel, name) for name in ("tensor", "pipeline", "virtual_pipeline", "context")}
    return {**shape, "data": data, "ranks": data * parallel.model_ranks}


def compute_of(recipe: Recipe, vocab_size: int, phases: list[PhasePlan]) -> dict[str, Any]:
    """Return the fields of a plan that say how large the model is and what training it computes."""
    parameters = count_parameters(recipe.model, vocab_size)
    per_token = training_flops_per_token(recipe.model, vocab_size)
    return {
        "parameters": {"total": parameters.total, "without_embedding": parameters.without_embedding},
        "flops": {"per_token": per_token, "total": sum(p.flops_per_token * p.tokens for p in phases)},
    }


def memory_of(recipe: Recipe, vocab_size: int, data: int) -> dict[str, Any]:
    """Return the fields of a plan that say what memory the fullest pipeline stage takes, and would take otherwise."""
    fullest = fullest_stage(recipe, vocab_size, data)
    return {
        "memory_bytes_per_rank": fullest.parts(),
        "fullest_stage": fullest.stage,
        "memory_by_recompute": memory_by_recompute(recipe, vocab_size, data),
        "memory_with_local_layers": fullest_stage(recipe, vocab_size, data, "local").total,
    }


def documents_begin(recipe: Recipe, manifests: Mapping[str, CorpusManifest | AssumedCorpus]) -> bool:
    """Say whether documents begin with a token: those of prepared corpora, else what the recipe says."""
    prepared = [m.tokenizer for m in manifests.values() if isinstance(m, CorpusManifest)]
    asked = recipe.tokenizer is not None and recipe.tokenizer.beginning_of_document is not None
    return any(metadata.beginning_of_document_id is not None for metadata in prepared) if prepared else asked


def sequences_per_epoch(recipe: Recipe, manifest) -> int:
    """Return the sequences one pass over a corpus gives, by the recipe's way of making them."""
    length = recipe.model.sequence_length
    if recipe.sequences.packing == "best_fit" and not isinstance(manifest, AssumedCorpus):
        return pack(manifest, length).num_sequences
    return num_windows(manifest.train_tokens, length)


def refuse_endless(recipe: Recipe, branch: BranchPoint | None) -> None:
    """Raise RecipeError when a run is so long that its positions or tokens would not be counted exactly."""
    length, position = recipe.model.sequence_length, first_position(recipe, branch)
    for phase in recipe.phases:
        position += sum(steps * size for steps, size in plan_batches(recipe.batch.stages, position, phase.tokens, length))
    most = min(MOST_SEQUENCES, 2**62 // length)
    if position > most:
        raise RecipeError(
            f"phases: {position} sequences of {length} tokens in all; data order and counts are exact up to {most} of them."
            " Ask for fewer tokens"
        )
