"""The paper's runs as recipe files: at its two sizes, and shrunk until two CPU cores train them in minutes."""

from dataclasses import dataclass, replace
from pathlib import Path

from codemix_megatron.recipe.paper import CORPORA, RUNS, WARMUP_STEPS, PaperPhase, PaperRun, flat_tokens
from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.recipe.shapes import SHAPES

__all__ = ["GENERATED", "SCALES", "Scale", "budget", "corpus_line", "mini_runs", "phase_fields", "preset_files", "write_presets"]

DEFAULT_MAX_EPOCHS = 4.0
GENERATED = "Written by tools/write_presets.py; change recipe/paper.py or recipe/presets.py and run it again."


@dataclass(frozen=True)
class Scale:
    """What one folder of presets has in common."""

    folder: str
    comment: str
    model: str
    layout: str
    batch: str
    batch_tokens: int
    vocab_size: int
    tokens_share: float  # of the paper's budgets
    warmup_steps: int
    peak: float
    final: float
    evaluation: str
    every_steps: int
    runs_folder: str  # where `codemix train` puts runs, seen from this folder


def model_text(shape: str) -> str:
    """Return the model of a shape with its dimensions, in bf16, as YAML on one line; those of the paper are to be seen."""
    words = [f"{key}: {str(value).lower()}" for key, value in SHAPES[shape].items()]
    return "{" + ", ".join([*words, "precision: bf16"]) + "}"


PAPER_BATCH = "{global_sequences: 512, micro_sequences: 1}"
PAPER_EVALUATION = "{held_out_share: 0.001, every_steps: 2000, held_out_sequences: 512}"

SCALES = (
    Scale(
        folder="paper/470m",
        comment="The paper gives no dimensions: width 1024, 16 layers and a tied table of 256,000 rows make 468M.",
        model=model_text("470m"),
        layout="{timeout_seconds: 1800}",
        batch=PAPER_BATCH,
        batch_tokens=512 * 8192,
        vocab_size=256_000,
        tokens_share=1.0,
        warmup_steps=WARMUP_STEPS,
        peak=3e-4,
        final=3e-5,
        evaluation=PAPER_EVALUATION,
        every_steps=1000,
        runs_folder="../../../runs",
    ),
    Scale(
        folder="paper/2.8b",
        comment="The paper gives no dimensions: width 2560, 28 layers and a tied table of 256,000 rows make 2.88B.",
        model=model_text("2.8b"),
        layout="{tensor: 2, sequence_parallel: true, timeout_seconds: 1800}",
        batch=PAPER_BATCH,
        batch_tokens=512 * 8192,
        vocab_size=256_000,
        tokens_share=1.0,
        warmup_steps=WARMUP_STEPS,
        peak=3e-4,
        final=3e-5,
        evaluation=PAPER_EVALUATION,
        every_steps=1000,
        runs_folder="../../../runs",
    ),
    Scale(
        folder="mini",
        comment="One token for a million of the paper's; code is one corpus. Replace `documents` by folders of your own, or keep Python's.",
        model="{num_layers: 4, hidden_size: 128, num_attention_heads: 4, num_query_groups: 2, ffn_hidden_size: 384, sequence_length: 256}",
        layout="{data: 2, device: cpu, timeout_seconds: 120}",
        batch="{global_sequences: 8, micro_sequences: 4}",
        batch_tokens=8 * 256,
        vocab_size=4096,
        tokens_share=1e-6,
        warmup_steps=10,
        peak=4e-3,
        final=4e-4,
        evaluation="{held_out_share: 0.02, every_steps: 50, held_out_sequences: 16, items: 100}",
        every_steps=100,
        runs_folder="../../runs",
    ),
)
MINI_RUNS = ("text-only", "balanced-only", "balanced-to-text", "code-to-text", "cooldown-with-code", "cooldown-without-code")
MINI_CORPORA = {"text": ("text", "python:text"), "code": ("code", "python:code")}


def preset_files() -> dict[str, str]:
    """Return path below examples/ -> text of every preset, of the sizes to plan with, and of the table of runs."""
    files = {"paper/sizes.yaml": sizes_text(), "paper/README.md": readme_text()}
    for scale in SCALES:
        is_mini = scale.folder == "mini"
        for run in mini_runs() if is_mini else RUNS[scale.folder.removeprefix("paper/")]:
            corpora = mini_corpora() if is_mini else paper_corpora(run)
            files[f"{scale.folder}/{run.name}.yaml"] = recipe_text(run, scale, corpora)
    return files


def write_presets(directory, files: dict[str, str]) -> list[Path]:
    """Write presets below `directory` and return their paths."""
    paths = []
    for name, text in files.items():
        path = Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def mini_runs() -> list[PaperRun]:
    """Return the runs that need no more than text and code, with code as one corpus."""
    runs = [run for run in RUNS["470m"] if run.name in MINI_RUNS or run.name.startswith("sweep-")]
    return [replace(run, phases=tuple(replace(p, inside={"code": 1.0}, text="text") for p in run.phases)) for run in runs]


def mini_corpora() -> list[str]:
    """Return the lines of the mini presets' corpora: the same in all, since they share a tokenizer."""
    return [f'  {name}: {{kind: {kind}, documents: ["{documents}"]}}' for name, (kind, documents) in MINI_CORPORA.items()]


def paper_corpora(run: PaperRun) -> list[str]:
    """Return the lines of a run's corpora; text, web code and markup are always there, to be scored on."""
    asked, lines = flat_tokens(run.phases), []
    for name, (_, size, what) in CORPORA.items():
        epochs = asked.get(name, 0.0) / size
        if not epochs and name not in ("text", "web_code", "markup"):
            continue
        limit = None
        lines.append(f"  # {what}: {format_tokens(size)} tokens, {f'read {epochs:.2f} times' if epochs else 'scored on only'}.")
        if epochs > DEFAULT_MAX_EPOCHS:
            limit = -(-epochs * 2 // 1) / 2
            lines.append(f"  # More than {DEFAULT_MAX_EPOCHS:g}, where repetition stops being nearly free; the paper's budget asks for it.")
        lines.append(f"  {name}: {corpus_line(name, limit)}")
    return lines


def corpus_line(name: str, max_epochs: float | None = None) -> str:
    """Return one of the paper's corpora as YAML on one line."""
    limit = f", max_epochs: {max_epochs:g}" if max_epochs else ""
    return f"{{kind: {CORPORA[name][0]}, documents: [../documents/{name}], prefix: ../corpora/{name}{limit}}}"


def recipe_text(run: PaperRun, scale: Scale, corpora: list[str]) -> str:
    """Return the YAML of one run at one scale."""
    size = scale.folder.removeprefix("paper/")
    tokenizer = "tokenizer.json" if size == "mini" else "../tokenizer.json"
    lines = [
        f"# {run.name}: {run.where}, in arXiv:2408.10914v1.",
        f"# {scale.comment}",
        "# Learning rates are ours: the paper gives none but the cooldown's last, 1e-6, and a warm-up of 1325 steps.",
        f"# {GENERATED}",
        f"name: {size}-{run.name}",
        "seed: 1234",
        *parent_lines(run, scale, size),
        "",
        f"model: {scale.model}",
        f"parallel: {scale.layout}",
        f"batch: {scale.batch}",
        f"tokenizer: {{path: {tokenizer}, train_vocab_size: {scale.vocab_size}}}",
        "",
        "corpora:",
        *corpora,
        "",
        "phases:",
        *(line for phase in run.phases for line in phase_lines(phase, scale)),
        "",
        f"checkpoint: {{every_steps: {scale.every_steps}}}",
        f"evaluation: {scale.evaluation}",
    ]
    return "\n".join(lines) + "\n"


def parent_lines(run: PaperRun, scale: Scale, size: str) -> list[str]:
    """Return the branch: where the parent's phase "continue" ends."""
    if run.parent is None:
        return []
    parent = next(other for other in RUNS["470m"] if other.name == run.parent)
    steps = sum(whole_steps(phase, scale) for phase in parent.phases if phase.name != "cooldown")
    return [f"branch: {{run: {scale.runs_folder}/{size}-{run.parent}, step: {steps}}}"]


def whole_steps(phase: PaperPhase, scale: Scale) -> int:
    """Return the steps of a phase, rounded as plans are."""
    return (budget(phase, scale) + scale.batch_tokens // 2) // scale.batch_tokens


def budget(phase: PaperPhase, scale: Scale) -> int:
    """Return the tokens of a phase at a scale."""
    return round(phase.tokens * scale.tokens_share)


def phase_lines(phase: PaperPhase, scale: Scale) -> list[str]:
    """Return the lines of one phase."""
    return [f"  - name: {phase.name}", *(f"    {field}" for field in phase_fields(phase, scale))]


def learning_rate(phase: PaperPhase, scale: Scale) -> str:
    """Return a phase's schedule as YAML: cosine with a warm-up, or linear down to 1e-6."""
    if phase.name == "cooldown":
        return f"{{schedule: linear, peak: {rate_text(scale.final)}, final: 1e-6}}"
    warmup = scale.warmup_steps * scale.batch_tokens
    return f"{{schedule: cosine, peak: {rate_text(scale.peak)}, final: {rate_text(scale.final)}, warmup_tokens: {warmup}}}"


def phase_fields(phase: PaperPhase, scale: Scale) -> list[str]:
    """Return a phase's keys but its name, as YAML."""
    return [
        f"tokens: {format_tokens(budget(phase, scale))}",
        f"mixture: {flow(phase.mixture())}",
        f"learning_rate: {learning_rate(phase, scale)}",
    ]


def rate_text(rate: float) -> str:
    """Return 0.0003 as 3e-4."""
    digits, _, exponent = f"{rate:.6e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"


def flow(value) -> str:
    """Return nested mappings of numbers as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    return f"{value:g}"


def sizes_text() -> str:
    """Return the YAML that `codemix plan --assume-tokens` reads."""
    lines = ["# Training tokens of the paper's corpora (section 2.1).", f"# {GENERATED}"]
    lines += [f"{name}: {format_tokens(size)}  # {what}" for name, (_, size, what) in CORPORA.items()]
    return "\n".join(lines) + "\n"


README_HEAD = f"""# The paper's runs

Recipes for the runs that "To Code, or Not To Code?" (arXiv:2408.10914v1) names, one file each.
{GENERATED}

Plan them before anything is prepared:

    codemix plan examples/paper/470m/balanced-to-text.yaml --assume-tokens examples/paper/sizes.yaml --device v5e --nproc 256
    codemix plan --diff examples/paper/470m/balanced-to-text.yaml examples/paper/470m/balanced-to-text-synth.yaml \\
        --assume-tokens examples/paper/sizes.yaml

To train one, put documents under `examples/paper/documents/CORPUS`, or change `documents`. All share `examples/paper/tokenizer.json`;
where there is none, the recipe prepared first trains it on its own corpora. A cooldown run branches off where
`codemix train` on its parent saved the end of `continue` in `runs/`, with Adam's state and the data order; it is planned from there, so
after its parent has begun. [../studies/paper.yaml](../studies/paper.yaml) is all of them as one study, whose runs share what they have in common
and which `codemix study plan` plans before anything is trained. `examples/mini` holds the runs that need no more than text and code, with one
token for a million of these, for two CPU cores.

## What is not the paper's

- **The block** is the paper's, attention and MLP side by side, SwiGLU, no biases; that its norm is a LayerNorm without bias, on
  rotary positions of neighbouring channels and tied embeddings, is inferred from the authors' other models. `examples/mini` is
  Llama-style: one after the other, RMSNorm.
- **Dimensions.** The paper gives sizes (470M, 2.8B) and a vocabulary of 256,000; layers and widths are chosen to meet these with
  tied embeddings. Whether its sizes count the embedding is not said.
- **Learning rates.** Given are cosine, a warm-up of 1325 steps, and a linear cooldown to 1e-6. The peak, where cosine ends, a fresh
  cosine in continued pre-training, and Adam's moments carried between phases are choices of ours.
- **Synthetic code.** The paper's is not public, and all models of its Table 2 have read it. Runs named `-synth` have it, as a tenth
  of the code of their first phase; their namesakes differ in nothing else.
- **The code in continued pre-training and cooldown** is web code and markup, 4 to 1. **Cooldown data** besides code are named by the
  paper but neither sized nor weighted: here they are one corpus, and fill the whole cooldown where it has no code.
- At 2.8B the paper shows balanced-only, balanced-to-text and code-to-text alone.

The synthetic corpus of 3.2B tokens is read more than 4 times where its share asks for it; such recipes say so with `max_epochs`.

## Tokens per source

In billions, over all phases; phases as `name tokens (share of code)`.
"""


def readme_text() -> str:
    """Return README.md with a table of all runs."""
    head = ["run", "in the paper", "sizes", "phases", *(name.replace("_", " ") for name in CORPORA)]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * 4 + "---:|" * len(CORPORA)]
    for run in RUNS["470m"]:
        sizes = ", ".join(size for size, runs in RUNS.items() if run in runs)
        phases = ", ".join(f"{p.name} {format_tokens(p.tokens)} ({100 * p.code:g} %)" for p in run.phases)
        started = f"from {run.parent}: {phases}" if run.parent else phases
        tokens = flat_tokens(run.phases)
        counts = [f"{tokens[name] / 1e9:g}" if name in tokens else "" for name in CORPORA]
        rows.append("| " + " | ".join([run.name, run.where, sizes, started, *counts]) + " |")
    return README_HEAD + "\n" + "\n".join(rows) + "\n"
