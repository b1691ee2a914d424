"""What a recipe may say: one frozen dataclass per block of the YAML file.

The comment beside a field is its documentation: `codemix doctor --recipe-keys` and the docs print it.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Literal, get_args

from codemix_megatron.recipe.batch_sizes import read_batch_sizes
from codemix_megatron.recipe.conversations import Conversations
from codemix_megatron.recipe.fields import says, tokens
from codemix_megatron.recipe.filtering import FilterSpec
from codemix_megatron.recipe.moving_mixture import is_moving
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
    "entry_share",
    "flatten_mixture",
]


Kind = Literal["text", "code", "markup", "code_adjacent", "synthetic"]
KINDS: tuple[str, ...] = get_args(Kind)
NAMED_READERS = ("git", "issues", "repositories", "stackexchange")  # what may stand before a path of `documents`, with a colon


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Rotary frequencies of a model whose context was stretched after its first training."""

    kind: Literal["linear", "llama3", "yarn"] = says("all frequencies divided; only the slow ones, as in Llama 3.1; or by YaRN's ramp")
    factor: float = says("slow frequencies are divided by this")
    low_frequency_factor: float | None = says("llama3 only: slower than original_sequence_length / this is divided", None)
    high_frequency_factor: float | None = says("llama3 only: faster than original_sequence_length / this is kept", None)
    original_sequence_length: int | None = says("llama3 and yarn: context of the first training", None)
    fast_rotations: float | None = says("yarn only: what turns so often in the first context is kept (beta_fast); default: 32", None)
    slow_rotations: float | None = says("yarn only: what turns less often is divided (beta_slow); default: 1", None)
    attention_factor: float | None = says("yarn only: queries and keys are multiplied by this; default: 1 + 0.1 ln(factor)", None)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A decoder with SwiGLU, rotary positions and grouped-query attention; Llama's block, its relatives' or the paper's.

    `shape: 10m`, `50m`, `470m` or `2.8b` stands for all keys of a model of the paper's kind; keys beside it win.
    """

    num_layers: int = says("transformer layers")
    hidden_size: int = says("width of the residual stream")
    num_attention_heads: int = says("query heads")
    sequence_length: int = says("tokens the model sees at once")
    num_query_groups: int | None = says("key/value heads; default: one per query head", None)
    head_dim: int | None = says("width of one attention head; default: hidden / heads", None)
    ffn_hidden_size: int | None = says("inner width of the MLP; default: 8/3 hidden, rounded up to 64", None)
    block: Literal["sequential", "parallel"] = says(
        "attention then MLP, each with its norm, or both side by side on one norm: x + attention(norm(x)) + mlp(norm(x))", "sequential"
    )
    normalization: Literal["rmsnorm", "layernorm", "layernorm_with_bias"] = says(
        "norm of layers and output; layernorm has a weight and no bias", "rmsnorm"
    )
    activation: Literal["swiglu", "gelu"] = says("of the MLP: SwiGLU, or GELU by its tanh form with one matrix before it", "swiglu")
    linear_bias: bool = says("biases on all matrices of attention and MLP (StarCoder2, Granite Code)", False)
    norm_position: Literal["before", "after"] = says(
        "norm of what goes into attention and MLP, or of what comes out of them (OLMo 2: x + norm(attention(x)))", "before"
    )
    qkv_bias: bool = says("biases on query, key and value (Qwen2)", False)
    qk_norm: bool = says("norm on each head of query and key (Qwen3)", False)
    qk_norm_width: Literal["head", "all"] = says("qk_norm over each head by itself, or over all of query and all of key (OLMo 2)", "head")
    sliding_window: int | None = says("tokens a token sees, itself included (Mistral 7B 0.1); default: all before it", None)
    full_attention_interval: int | None = says(
        "every so many-th layer has no sliding window (OLMo 3, Cohere2 4); default: all have it", None
    )
    no_rope_interval: int | None = says("every so many-th layer has no rotary positions (SmolLM3, Cohere2 4); default: all have them", None)
    num_experts: int | None = says(
        "experts of each layer, each an MLP of ffn_hidden_size, of which a router chooses (OLMoE, Qwen3-MoE); default: one MLP for all",
        None,
    )
    experts_per_token: int | None = says("experts that each token goes through", None)
    normalize_experts: bool = says(
        "the weights of a token's experts add up to 1 (Qwen3-MoE), or to what softmax over all leaves them", False
    )
    expert_balance: float = says(
        "added to the loss of training in each layer: this times the experts' share of tokens x their mean probability, 1 when all are equal",
        0.01,
    )
    tie_embeddings: bool = says("share input and output embedding", True)
    logit_scale: float = says("logits are multiplied by this", 1.0)
    embedding_multiplier: float = says("embeddings are multiplied by this (Granite)", 1.0)
    residual_multiplier: float = says("what attention and MLP add to the residual stream is multiplied by this (Granite)", 1.0)
    attention_scale: float | None = says(
        "scores of attention are multiplied by this (Granite); default: 1 / root of the head's width", None
    )
    rope_base: float = says("base of the rotary frequencies", 10000.0)
    rotary_interleaved: bool = says("rotate neighbouring channels (Cohere, GPT-J) instead of halves (Llama)", False)
    rope_scaling: RopeScaling | None = says("stretched rotary frequencies (Llama 3.1)", None)
    normalization_epsilon: float = says("epsilon of the norms", 1e-5)
    init_std: float = says("standard deviation of initial weights", 0.02)
    dropout: float = says("share of activations and attention set to zero while training", 0.0)
    vocab_size: int | None = says("ids the embedding has, where a public model has more than its tokenizer; default: the tokenizer's", None)
    vocab_padding_multiple: int = says("embedding rows are padded to a multiple of this", 128)
    precision: Literal["fp32", "bf16"] = says("dtype of weights in forward and backward", "fp32")
    fp8: Literal["off", "tensorwise", "delayed"] = says("matrix products in FP8, by how they are scaled; needs Transformer Engine", "off")

    @classmethod
    def from_plain(cls, plain: dict) -> "Model":
        """Return the model a checkpoint's card describes; cards of earlier versions lack newer keys."""
        scaling = plain.get("rope_scaling")
        return cls(**{**plain, "rope_scaling": RopeScaling(**scaling) if scaling else None})

    @property
    def query_groups(self) -> int:
        """Key/value heads, default resolved."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def ffn_size(self) -> int:
        """Inner width of the MLP, default resolved."""
        return self.ffn_hidden_size or -(-8 * self.hidden_size // (3 * 64)) * 64

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def mlps_per_token(self) -> int:
        """MLPs that each token goes through: one, or its experts."""
        return self.experts_per_token or 1

    @property
    def first_matrices(self) -> int:
        """Matrices into the MLP: gate and up, or one."""
        return 2 if self.activation == "swiglu" else 1

    def ids(self, tokenizer_ids: int) -> int:
        """Return the ids the embedding has for a tokenizer of so many."""
        return max(tokenizer_ids, self.vocab_size or 0)

    def padded_vocab_size(self, vocab_size: int) -> int:
        """Return the embedding rows for a tokenizer of `vocab_size` ids."""
        return -(-self.ids(vocab_size) // self.vocab_padding_multiple) * self.vocab_padding_multiple


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How the model is spread over ranks."""

    tensor: int = says("tensor parallel ranks", 1)
    pipeline: int = says("pipeline parallel ranks", 1)
    virtual_pipeline: int = says("model chunks per pipeline rank (interleaved schedule)", 1)
    context: int = says("ranks that share every sequence, each with a part of it; needs Transformer Engine", 1)
    data: int | None = says("data parallel ranks; default: whatever ranks are left", None)
    sequence_parallel: bool = says("split norms and dropout over tensor ranks along the sequence", False)
    distributed_optimizer: bool = says("split optimizer state over data parallel ranks", True)
    overlap: bool | None = says(
        "overlap gradient reduction and parameter gathering with compute; default: on CUDA, where there are data parallel ranks", None
    )
    recompute: Literal["none", "selective", "full"] = says("activations computed again in backward", "none")
    device: Literal["auto", "cpu", "cuda"] = says("auto takes CUDA where there is one", "auto")
    threads_per_rank: int | None = says("CPU threads of each rank; default: cores / ranks", None)
    timeout_seconds: int = says("longest wait for another rank before all stop", 600)
    preflight: Literal["warn", "strict", "off"] = says(
        "nodes compared at each start: unequal versions, devices and files refuse; strict: slow nodes and wrong clocks too", "warn"
    )
    heartbeat_seconds: int = says("a rank that makes no progress in a step for so long is hung: stacks are dumped, all ranks end", 300)

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

    global_sequences: int | tuple[tuple[int, int], ...] = says(
        "sequences per optimizer step, over all ranks; or [tokens seen, sequences] from which on a size holds: [[0, 256], [10B, 512]]",
        reader=read_batch_sizes,
    )
    micro_sequences: int = says("sequences per forward pass on one rank", 1)

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

    algorithm: Literal["adamw", "muon"] = says("muon is not there and refused, with the reason", "adamw")

    betas: tuple[float, float] = says("decay of first and second moment", (0.9, 0.95))
    epsilon: float = says("added to the root of the second moment", 1e-8)
    weight_decay: float = says("decoupled weight decay of matrices", 0.1)
    gradient_clip: float = says("largest global gradient norm; 0 turns clipping off", 1.0)
    decay_embeddings: bool = says("decay the embedding and the output layer too, as Megatron-LM does", True)
    average_decay: float | None = says(
        "keep an exponential moving average of the weights with this decay per step; see codemix average --moving", None
    )
    z_loss: float = says("added to the loss: this times the mean square of the logarithm of softmax's denominator (PaLM: 1e-4)", 0.0)
    transfer: Literal["none", "mup"] = says(
        "mup: rates, decay and init_std are those of a model of base_width and are scaled to this one's width", "none"
    )
    base_width: int | None = says("mup only: hidden_size of the model whose rates are given", None)


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """One tokenizer for all corpora of a recipe."""

    path: str = says("tokenizer.json (Hugging Face) or *.model (sentencepiece)")
    train_vocab_size: int | None = says("train a byte-level BPE of this size from the corpora when `path` is missing", None)
    end_of_document: str | None = says("token after each document; default: the tokenizer's own end of text", None)
    beginning_of_document: str | None = says("token before each document, such as <s>; default: none", None)
    tokens_in_documents: tuple[str, ...] = says("added tokens that become their ids where a document spells them out; others are text", ())


@dataclass(frozen=True, kw_only=True)
class FillInTheMiddle:
    """Documents rewritten as prefix, suffix, middle while they are read (Bavarian et al. 2022); the corpus stays as it is."""

    rate: float = says("share of documents that are rewritten", 0.5)
    spm_share: float = says("share of these written suffix, prefix, middle instead of prefix, suffix, middle", 0.5)
    languages: dict[str, float] = says("rate of documents in a language, instead of `rate`", factory=dict, reader="rates")
    cut: Literal["character", "token"] = says("where documents are cut; sentencepiece models need token", "character")
    sentinels: tuple[str, ...] = says("names of the tokens before prefix, middle, suffix; default: those of a family the tokenizer has", ())


@dataclass(frozen=True, kw_only=True)
class Repositories:
    """How the files of a repository become documents; beside `repositories:` in `documents`."""

    order: Literal["imports", "path"] = says("what is imported first, or by path", "imports")
    longest_bytes: int = says("most bytes of text in one document; a longer file is one by itself", 1 << 20)


@dataclass(frozen=True, kw_only=True)
class CorpusSpec:
    """One corpus: documents in, PREFIX.bin and PREFIX.idx out."""

    kind: Kind = says("which side of the mixture it is on", "text")
    documents: tuple[str, ...] = says(
        "files, folders, globs, URLs; git:, repositories:REPOSITORY, issues:FILE, stackexchange:POSTS.XML; python:text and python:code", ()
    )
    prefix: str | None = says(
        "where .bin/.idx are; a URL (s3://...) is read through a local cache; default: corpora/NAME beside the recipe", None
    )
    text_key: str = says("key of the text in JSON lines, column of tables", "text")
    language_key: str | None = says("key of the language; default: lang, language, programming_language", None)
    licence_key: str | None = says("key of the licence; default: license, licence and those of The Stack", None)
    origin_key: str | None = says("key of where a document is from; default: source, url, repo_name", None)
    text_documents: Literal["file", "line", "paragraph"] = says("what is one document of a .txt file; blank lines part paragraphs", "file")
    repositories: Repositories = says("files of a repository in one document", factory=Repositories)
    shuffle: bool = says("write documents in an order drawn from the recipe's seed, not that of the input", False)
    conversations: Conversations | None = says("records are conversations, of which answers are learned", None)
    fill_in_the_middle: FillInTheMiddle | None = says("rewrite documents for infilling while they are read", None)
    filters: FilterSpec = says("what is left out or masked", factory=FilterSpec)
    max_epochs: float = says("most passes over its data in the whole recipe", 4.0)
    beyond_max_epochs: Literal["refuse", "warn"] = says(
        "what happens to a plan that reads it more often: refused, or told with its price", "refuse"
    )


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """How documents become sequences."""

    packing: Literal["concatenate", "best_fit"] = says(
        "windows over joined documents, or whole documents packed without cutting", "concatenate"
    )
    attention_within_documents: bool = says("tokens see only their own document", False)
    learn_across_documents: bool = says("learn to write the first token of a document after the end of the one before it", True)
    corpus_share: float = says(
        "each corpus counts as this share of itself, so that a small run repeats it as often as a large one will; see codemix plan --simulate-tokens",
        1.0,
    )


@dataclass(frozen=True, kw_only=True)
class LearningRate:
    """Learning rate of one phase as a function of the tokens seen in it."""

    schedule: Literal["constant", "linear", "cosine", "wsd"] = says("shape after the warm-up", "cosine")
    peak: float = says("highest value, reached after the warm-up")
    final: float = says("value at the end of the phase", 0.0)
    warmup_tokens: int = says("tokens of linear warm-up from `start`", 0, reader="tokens_or_zero")
    start: float = says("value the warm-up begins at", 0.0)
    decay_share: float = says("wsd only: share of the phase that decays", 0.1)
    decay: Literal["linear", "1-sqrt"] = says("wsd only: shape of the decay", "linear")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one mixture and one learning-rate schedule."""

    name: str = says("shown in journal and report")
    tokens: int = tokens("budget; becomes whole global batches")
    mixture: dict = says(
        "corpus -> share or {tokens}; group -> {share or tokens, mixture}; or {proportional: tokens, temperature, corpora};"
        " or {from: MIXTURE, to: MIXTURE, stages: N} for shares that move within the phase, linearly without stages;"
        " or {preset, corpora}: a published one, see codemix doctor --mixtures",
        reader="mixture",
    )
    learning_rate: LearningRate = says("schedule of this phase")
    sequence_length: int | None = says("tokens of a sequence in this phase; divides model.sequence_length, which it is by default", None)
    optimizer_state: Literal["keep", "reset"] = says("carry Adam's moments into this phase or start them at zero", "keep")
    data_seed: int | None = says("another order, from here on, of all that was not read yet; default: that of the run's seed goes on", None)


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A run that continues from a checkpoint of another: weights, Adam's state, steps and data order are carried over."""

    run: str = says("folder of the parent run")
    step: int | None = says("checkpoint of the parent to continue from; default: its last", None)


@dataclass(frozen=True, kw_only=True)
class CheckpointPolicy:
    """When to save and what to keep. The end of each phase is always saved and always kept."""

    every_steps: int | None = says("save after this many steps", None)
    keep_last: int = says("newest checkpoints kept beside those kept for ever", 2)
    keep_every_tokens: int | None = tokens("save and keep for ever one checkpoint every so many tokens", None)
    asynchronous: bool = says("continue training while a checkpoint is written; takes host memory for a copy of it", False)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What training bears before it stops. A skipped batch counts as a step; its tokens are not trained on."""

    skip_bad_batches: int = says("most batches in a row to skip because loss or gradients are not finite; one more stops the run", 3)
    spike_nats: float | None = says(
        "roll back when the loss is this far above the median of the last spike_window steps; default: never", None
    )
    spike_window: int = says("steps of the same phase the median is taken over", 50)
    spike_skip_batches: int = says("batches left out after a rollback, up to and including the one with the spike", 1)
    max_rollbacks: int = says("most rollbacks of a run; one more spike stops it", 3)


@dataclass(frozen=True, kw_only=True)
class WhileTraining:
    """Suites scored on the model as it is trained; it costs its time and changes nothing else."""

    suites: tuple[str, ...] = says(
        "bits_per_byte, rolling_bits_per_byte, continuation, small, or paths of your own; none that runs programs", ("bits_per_byte",)
    )
    every_steps: int | None = says("score after this many steps", None)
    at_steps: tuple[int, ...] = says("score after these steps too", ())
    items: int = says("most items per task", 50)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Held-out data and the suites to score."""

    held_out_share: float = says("share of documents never trained on, chosen by hash", 0.01)
    every_steps: int | None = says("held-out loss after this many steps; default: at phase ends only", None)
    held_out_sequences: int = says("most held-out sequences per corpus while training", 64)
    suites: tuple[str, ...] = says(
        "bits_per_byte, rolling_bits_per_byte, continuation, paper, small, languages, or paths of suites of your own",
        ("bits_per_byte", "continuation"),
    )
    data_directory: str | None = says("folder with the data files of the suites paper, small and your own", None)
    items: int = says("most items per task", 200)
    tasks_directory: str | None = says("folder of lm-eval task files of your own", None)
    tasks: tuple[str, ...] = says("lm-eval tasks to run from it", ())
    trust: tuple[str, ...] = says("lines that may be crossed: task-code (Python that task files name), programs (no sandbox)", ())
    while_training: WhileTraining | None = says("suites to score at chosen steps while training", None)


@dataclass(frozen=True, kw_only=True)
class Observers:
    """Where events are logged besides journal.jsonl."""

    console_every_steps: int = says("a line on the terminal after this many steps", 10)
    tensorboard: bool = says("write event files into the run folder", False)
    wandb: Literal["off", "offline", "online"] = says("offline writes into the run folder and asks nothing", "off")
    wandb_project: str = says("project name for wandb", "codemix")
    plugins: tuple[str, ...] = says("observers that installed packages add, by name", ())
    gradient_norms_every_steps: int = says("tell the gradient's norm by kind of weight after this many steps; 0: never", 0)
    straggler_every_steps: int = says("compare how fast ranks are after this many steps, and name one that stays slow; 0: never", 50)
    straggler_factor: float = says("a rank slower than this times the median of the others, three times in a row, is named", 1.3)
    peak_teraflops: float | None = says("peak of one rank's device, for MFU; default: the GPU's data sheet for bf16, none on CPU", None)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All a run needs to know."""

    name: str = says("name of the run")
    seed: int = says("seed of weights and data order", 1234)
    initial_weights: str | None = says(
        "run folder or checkpoint whose weights to start from; Adam's state and the data order start from the beginning", None
    )
    branch: Branch | None = says("parent run and step to continue from; nothing the parent read is read again", None)
    model: Model = says("shape")
    parallel: Parallel = says("layout", factory=Parallel)
    batch: Batch = says("batch sizes")
    optimizer: Optimizer = says("AdamW", factory=Optimizer)
    tokenizer: Tokenizer = says("tokenizer")
    corpora: dict[str, CorpusSpec] = says("name -> corpus", reader="corpora")
    phases: tuple[Phase, ...] = says("in order", reader="phases")
    sources: dict[str, Source] = says("corpus -> how it is drawn on, where not evenly", factory=dict, reader="sources")
    sequences: Sequences = says("documents to sequences", factory=Sequences)
    checkpoint: CheckpointPolicy = says("saving", factory=CheckpointPolicy)
    faults: Faults = says("bad batches and loss spikes", factory=Faults)
    evaluation: Evaluation = says("held-out data and suites", factory=Evaluation)
    observers: Observers = says("journal, console, trackers", factory=Observers)

    def prefix(self, corpus: str) -> str:
        """Return the path of a corpus without .bin/.idx."""
        prefix = self.corpora[corpus].prefix
        assert prefix is not None, "read_recipe gives every corpus a prefix"
        return prefix


def flatten_mixture(mixture: dict, phase_tokens: float, sizes: dict[str, int]) -> dict[str, float]:
    """Return corpus -> share of the phase; groups are multiplied out, shares that move are the mean over the phase.

    `phase_tokens` turns shares given as tokens into shares, `sizes` (corpus -> training tokens) is what
    proportional mixtures go by: a corpus of n tokens gets a share proportional to n ** (1 / temperature).

    >>> flatten_mixture({"text": 0.8, "code": {"share": 0.2, "mixture": {"web": 0.5, "markup": 0.5}}}, 100, {})
    {'text': 0.8, 'web': 0.1, 'markup': 0.1}
    >>> flatten_mixture({"proportional": "tokens", "temperature": 2, "corpora": ["a", "b"]}, 100, {"a": 1, "b": 9})
    {'a': 0.25, 'b': 0.75}
    """
    if is_moving(mixture):
        ends = [flatten_mixture(mixture[end], phase_tokens, sizes) for end in ("from", "to")]
        return {name: sum(end.get(name, 0.0) for end in ends) / 2 for name in dict.fromkeys([*ends[0], *ends[1]])}
    if "proportional" in mixture:
        heights = {name: sizes[name] ** (1 / mixture["temperature"]) for name in mixture["corpora"]}
        return {name: height / sum(heights.values()) for name, height in heights.items()}
    shares: dict[str, float] = {}
    for name, entry in mixture.items():
        share = entry_share(entry, phase_tokens)
        inner = entry.get("mixture") if isinstance(entry, dict) else None
        # Tokens inside a group count against the group's tokens.
        parts = flatten_mixture(inner, share * phase_tokens, sizes) if inner else {name: 1.0}
        for corpus, part in parts.items():
            shares[corpus] = shares.get(corpus, 0.0) + share * part
    return shares


def entry_share(entry, whole_tokens: float) -> float:
    """Return the share of one entry of a mixture: a number, or given as share or tokens."""
    if not isinstance(entry, dict):
        return float(entry)
    return float(entry["share"]) if "share" in entry else entry["tokens"] / whole_tokens if whole_tokens else 0.0


def as_plain(value):
    """Return a recipe (or a block of it) as dicts and lists, ready for YAML or JSON."""
    if is_dataclass(value):
        return {f.name: as_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value
