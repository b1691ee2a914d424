"""What a recipe may say: one frozen dataclass per block of the YAML file.

The text beside a field is its documentation: `codemix doctor --recipe-keys` and the docs print it. The larger blocks have files of their own,
`model.py`, `corpora.py`, `filtering.py`, `conversations.py` and `sources.py`; whoever uses a block imports it from here.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Literal

from codemix_megatron.recipe.batch_sizes import read_batch_sizes
from codemix_megatron.recipe.corpora import KINDS, NAMED_READERS, CorpusSpec, FillInTheMiddle, Repositories, Sequences, Tokenizer
from codemix_megatron.recipe.fields import option, tokens
from codemix_megatron.recipe.model import Model, RopeScaling
from codemix_megatron.recipe.sources import Source

__all__ = [
    "KINDS",
    "NAMED_READERS",
    "Batch",
    "Branch",
    "CheckpointPolicy",
    "CorpusSpec",
    "Evaluation",
    "Faults",
    "FillInTheMiddle",
    "LearningRate",
    "Model",
    "Observers",
    "Optimizer",
    "Parallel",
    "Phase",
    "Recipe",
    "Repositories",
    "RopeScaling",
    "Sequences",
    "Tokenizer",
    "WhileTraining",
    "as_plain",
]


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How the model is spread over ranks."""

    tensor: int = option("tensor parallel ranks", 1)
    pipeline: int = option("pipeline parallel ranks", 1)
    virtual_pipeline: int = option("model chunks per pipeline rank (interleaved schedule)", 1)
    context: int = option("ranks that share every sequence, each with a part of it; needs Transformer Engine", 1)
    data: int | None = option("data parallel ranks; default: whatever ranks are left", None)
    sequence_parallel: bool = option("split norms and dropout over tensor ranks along the sequence", False)
    distributed_optimizer: bool = option("split optimizer state over data parallel ranks", True)
    overlap: bool | None = option(
        "overlap gradient reduction and parameter gathering with compute; default: on CUDA, where there are data parallel ranks", None
    )
    recompute: Literal["none", "selective", "full"] = option("activations computed again in backward", "none")
    device: Literal["auto", "cpu", "cuda"] = option("auto takes CUDA where there is one", "auto")
    threads_per_rank: int | None = option("CPU threads of each rank; default: cores / ranks", None)
    timeout_seconds: int = option("longest wait for another rank before all stop", 600)
    preflight: Literal["warn", "strict", "off"] = option(
        "nodes compared at each start: unequal versions, devices and files refuse; strict: slow nodes and wrong clocks too", "warn"
    )
    heartbeat_seconds: int = option("a rank that makes no progress in a step for so long is hung: stacks are dumped, all ranks end", 300)

    @property
    def model_ranks(self) -> int:
        """Ranks that hold one copy of the model."""
        return self.tensor * self.pipeline * self.context

    def overlaps(self, on_cuda: bool, ranks: int) -> bool:
        """Say whether gradients and weights travel while others compute; `ranks` share the optimizer's state (data x context)."""
        if self.overlap is not None:
            return self.overlap
        return on_cuda and ranks > 1 and self.distributed_optimizer


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Sizes in sequences of model.sequence_length; a phase of shorter ones has as many tokens in more of them."""

    global_sequences: int | tuple[tuple[int, int], ...] = option(
        "sequences per optimizer step, over all ranks; or [tokens seen, sequences] from which on a size holds: [[0, 256], [10B, 512]]",
        reader=read_batch_sizes,
    )
    micro_sequences: int = option("sequences per forward pass on one rank", 1)

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """(tokens seen, sequences) from which on a global batch has that size; the first from 0 on."""
        return ((0, self.global_sequences),) if isinstance(self.global_sequences, int) else self.global_sequences

    @property
    def sizes(self) -> list[int]:
        """All sizes of a global batch, in the order they come."""
        return list(dict.fromkeys(size for _, size in self.stages))


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW. Matrices are decayed, the embedding and output layer among them unless `decay_embeddings` is false; biases and norm weights are not."""

    algorithm: Literal["adamw", "muon"] = option("muon is not there and refused, with the reason", "adamw")

    betas: tuple[float, float] = option("decay of first and second moment", (0.9, 0.95))
    epsilon: float = option("added to the root of the second moment", 1e-8)
    weight_decay: float = option("decoupled weight decay of matrices", 0.1)
    gradient_clip: float = option("largest global gradient norm; 0 turns clipping off", 1.0)
    decay_embeddings: bool = option("decay the embedding and the output layer too, as Megatron-LM does", True)
    average_decay: float | None = option(
        "keep an exponential moving average of the weights with this decay per step; see codemix average --moving", None
    )
    z_loss: float = option("added to the loss: this times the mean square of the logarithm of softmax's denominator (PaLM: 1e-4)", 0.0)
    transfer: Literal["none", "mup"] = option(
        "mup: rates, decay and init_std are those of a model of base_width and are scaled to this one's width", "none"
    )
    base_width: int | None = option("mup only: hidden_size of the model whose rates are given", None)


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """Learning rate of one phase as a function of the tokens seen in it."""

    schedule: Literal["constant", "linear", "cosine", "wsd"] = option("shape after the warm-up", "cosine")
    peak: float = option("highest value, reached after the warm-up")
    final: float = option("value at the end of the phase", 0.0)
    warmup_tokens: int = option("tokens of linear warm-up from `start`", 0, reader="tokens_or_zero")
    start: float = option("value the warm-up begins at", 0.0)
    decay_share: float = option("wsd only: share of the phase that decays", 0.1)
    decay: Literal["linear", "1-sqrt"] = option("wsd only: shape of the decay", "linear")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one mixture and one learning-rate schedule."""

    name: str = option("shown in journal and report")
    tokens: int = tokens("budget; becomes whole global batches")
    mixture: dict = option(
        "corpus -> share or {tokens}; group -> {share or tokens, mixture}; or {proportional: tokens, temperature, corpora};"
        " or {from: MIXTURE, to: MIXTURE, stages: N} for shares that move within the phase, linearly without stages;"
        " or {preset, corpora}: a published one, see codemix doctor --mixtures",
        reader="mixture",
    )
    learning_rate: LearningRate = option("schedule of this phase")
    sequence_length: int | None = option("tokens of a sequence in this phase; divides model.sequence_length, which it is by default", None)
    optimizer_state: Literal["keep", "reset"] = option("carry Adam's moments into this phase or start them at zero", "keep")
    data_seed: int | None = option(
        "another order, from here on, of all that was not read yet; default: that of the run's seed goes on", None
    )


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A run that continues from a checkpoint of another: weights, Adam's state, steps and data order are carried over."""

    run: str = option("folder of the parent run")
    step: int | None = option("checkpoint of the parent to continue from; default: its last", None)


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """When to save and what to keep. The end of each phase is always saved and always kept."""

    every_steps: int | None = option("save after this many steps", None)
    keep_last: int = option("newest checkpoints kept beside those kept for ever", 2)
    keep_every_tokens: int | None = tokens("save and keep for ever one checkpoint every so many tokens", None)
    asynchronous: bool = option("continue training while a checkpoint is written; takes host memory for a copy of it", False)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What training bears before it stops. A skipped batch counts as a step; its tokens are not trained on."""

    skip_bad_batches: int = option("most batches in a row to skip because loss or gradients are not finite; one more stops the run", 3)
    spike_nats: float | None = option(
        "roll back when the loss is this far above the median of the last spike_window steps; default: never", None
    )
    spike_window: int = option("steps of the same phase the median is taken over", 50)
    spike_skip_batches: int = option("batches left out after a rollback, up to and including the one with the spike", 1)
    max_rollbacks: int = option("most rollbacks of a run; one more spike stops it", 3)


@dataclass(frozen=True, kw_only=True)
class WhileTraining:
    """Suites scored on the model as it is trained; it costs its time and changes nothing else."""

    suites: tuple[str, ...] = option(
        "bits_per_byte, rolling_bits_per_byte, continuation, small, or paths of your own; none that runs programs", ("bits_per_byte",)
    )
    every_steps: int | None = option("score after this many steps", None)
    at_steps: tuple[int, ...] = option("score after these steps too", ())
    items: int = option("most items per task", 50)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out data and the suites to score."""

    held_out_share: float = option("share of documents never trained on, chosen by hash", 0.01)
    every_steps: int | None = option("held-out loss after this many steps; default: at phase ends only", None)
    held_out_sequences: int = option("most held-out sequences per corpus while training", 64)
    suites: tuple[str, ...] = option(
        "bits_per_byte, rolling_bits_per_byte, continuation, paper, small, languages, or paths of suites of your own",
        ("bits_per_byte", "continuation"),
    )
    data_directory: str | None = option("folder with the data files of the suites paper, small and your own", None)
    items: int = option("most items per task", 200)
    tasks_directory: str | None = option("folder of lm-eval task files of your own", None)
    tasks: tuple[str, ...] = option("lm-eval tasks to run from it", ())
    trust: tuple[str, ...] = option("lines that may be crossed: task-code (Python that task files name), programs (no sandbox)", ())
    while_training: WhileTraining | None = option("suites to score at chosen steps while training", None)


@dataclass(frozen=True, kw_only=True)
class Observers:
    """Where events are logged besides journal.jsonl."""

    console_every_steps: int = option("a line on the terminal after this many steps", 10)
    tensorboard: bool = option("write event files into the run folder", False)
    wandb: Literal["off", "offline", "online"] = option("offline writes into the run folder and asks nothing", "off")
    wandb_project: str = option("project name for wandb", "codemix")
    plugins: tuple[str, ...] = option("observers that installed packages add, by name", ())
    gradient_norms_every_steps: int = option("tell the gradient's norm by kind of weight after this many steps; 0: never", 0)
    straggler_every_steps: int = option("compare how fast ranks are after this many steps, and name one that stays slow; 0: never", 50)
    straggler_factor: float = option("a rank slower than this times the median of the others, three times in a row, is named", 1.3)
    peak_teraflops: float | None = option("peak of one rank's device, for MFU; default: the GPU's data sheet for bf16, none on CPU", None)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All a run needs to know."""

    name: str = option("name of the run")
    seed: int = option("seed of weights and data order", 1234)
    initial_weights: str | None = option(
        "run folder or checkpoint whose weights to start from; Adam's state and the data order start from the beginning", None
    )
    branch: Branch | None = option("parent run and step to continue from; nothing the parent read is read again", None)
    model: Model = option("shape")
    parallel: Parallel = option("layout", factory=Parallel)
    batch: Batch = option("batch sizes")
    optimizer: Optimizer = option("AdamW", factory=Optimizer)
    tokenizer: Tokenizer = option("tokenizer")
    corpora: dict[str, CorpusSpec] = option("name -> corpus", reader="corpora")
    phases: tuple[Phase, ...] = option("in order", reader="phases")
    sources: dict[str, Source] = option("corpus -> how it is drawn on, where not evenly", factory=dict, reader="sources")
    sequences: Sequences = option("documents to sequences", factory=Sequences)
    checkpoint: CheckpointPolicy = option("saving", factory=CheckpointPolicy)
    faults: Faults = option("bad batches and loss spikes", factory=Faults)
    evaluation: Evaluation = option("held-out data and suites", factory=Evaluation)
    observers: Observers = option("journal, console, trackers", factory=Observers)

    def prefix(self, corpus: str) -> str:
        """Return the path of a corpus without .bin/.idx."""
        prefix = self.corpora[corpus].prefix
        assert prefix is not None, "read_recipe gives every corpus a prefix"
        return prefix


def as_plain(value):
    """Return a recipe (or a block of it) as dicts and lists, ready for YAML or JSON."""
    if is_dataclass(value):
        return {f.name: as_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value
