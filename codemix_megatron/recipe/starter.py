"""A first recipe and study with comments, for a machine, two folders and perhaps a public model."""

from dataclasses import dataclass

import yaml

from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.recipe.quantity import format_tokens

__all__ = ["SIZES", "Start", "recipe_text", "study_text"]


@dataclass(frozen=True)
class Size:
    """A model to begin with: its block of the recipe, tokens of a run, peak of the learning rate, and what fits into one batch."""

    model: str
    tokens: int
    peak: float
    global_sequences: int
    micro_sequences: int
    vocabulary: int


# 20 tokens for each parameter but for `demo`, which is to end in minutes; learning rates are ours, the paper gives none.
SIZES = {
    "demo": Size(
        "{num_layers: 4, hidden_size: 192, num_attention_heads: 4, num_query_groups: 2, ffn_hidden_size: 512, sequence_length: 256}",
        720_000,
        3e-3,
        8,
        4,
        4096,
    ),
    "10m": Size("{shape: 10m}", 200_000_000, 2e-3, 64, 8, 8192),
    "50m": Size("{shape: 50m}", 1_000_000_000, 1.5e-3, 128, 8, 16384),
    "470m": Size("{shape: 470m, precision: bf16}", 9_400_000_000, 6e-4, 64, 2, 64000),
    "2.8b": Size("{shape: 2.8b, precision: bf16}", 56_000_000_000, 3e-4, 128, 1, 64000),
}
PEAK_OF_PUBLIC = 1e-4  # a model that is trained already forgets with more
# Shares of a run's tokens: balanced, text, cooldown; of a public model's: continued, cooldown.
OWN_PARTS, PUBLIC_PARTS = (0.5, 0.33, 0.17), (0.8, 0.2)


@dataclass(frozen=True)
class Start:
    """What was asked for: paths as they will stand in the recipe; `model` is a Hugging Face folder or None."""

    name: str
    text: str
    code: str
    size: str = "demo"
    tokens: int | None = None
    model: str | None = None
    sequence_length: int = 256  # of a public model's training sequences
    ranks: int = 1
    is_on_gpu: bool = False


def quoted(text: str) -> str:
    """Return a value as YAML writes it within a line, whatever it holds."""
    return yaml.safe_dump(text, default_style='"', width=10**6, allow_unicode=True).strip()


def recipe_text(start: Start) -> str:
    """Return recipe.yaml."""
    return "\n".join([*head(start), "", *corpora(start), "", *phases(start), "", *tail(start)]) + "\n"


def head(start: Start) -> list[str]:
    """Return what comes before the corpora: name, model, layout, batch, tokenizer."""
    size, ours = SIZES[start.size], start.model is None
    precision = ", precision: bf16" if start.is_on_gpu else ""
    batch = (
        f"batch: {{global_sequences: {max(size.global_sequences, start.ranks)}, micro_sequences: {size.micro_sequences if ours else 1}}}"
    )
    return [
        "# All keys: codemix doctor --recipe-keys. What it will do: codemix plan recipe.yaml. A key may be changed on the command line: a.b=c.",
        f"name: {quoted(start.name)}",
        "seed: 1234",
        "",
        f"model: {size.model if ours else f'{{sequence_length: {start.sequence_length}{precision}}}'}"
        + ("" if ours else "  # all else is the public model's"),
        f"parallel: {{data: {start.ranks}}}  # copies of the model; tensor and pipeline spread one of them over ranks",
        batch + "  # a micro batch is what one rank computes at once",
        *(
            [f"tokenizer: {{path: tokenizer.json, train_vocab_size: {size.vocabulary}}}  # trained on a sample of the corpora"]
            if ours
            else []
        ),
    ]


def corpora(start: Start) -> list[str]:
    """Return the corpora."""
    return [
        "corpora:  # `documents` are files, folders, globs or URLs; docs/corpora.md has readers and filters",
        f"  text: {{kind: text, documents: [{quoted(start.text)}]}}",
        f"  code: {{kind: code, documents: [{quoted(start.code)}]}}",
    ]


def phases(start: Start) -> list[str]:
    """Return the phases, the paper's where the model is new."""
    total = start.tokens or SIZES[start.size].tokens
    if start.model is not None:
        first, last = (round(total * part) for part in PUBLIC_PARTS)
        return [
            "phases:",
            *phase("continue", first, 0.1, "cosine", PEAK_OF_PUBLIC, PEAK_OF_PUBLIC / 5, start=f"{PREFIX}{start.model}"),
            *phase("cooldown", last, 0.4, "linear", PEAK_OF_PUBLIC / 5, 1e-6),
        ]
    peak = SIZES[start.size].peak
    sizes = [round(total * part) for part in OWN_PARTS]
    return [
        "phases:",
        *phase("balanced", sizes[0], 0.5, "cosine", peak, 0.4 * peak),
        *phase("text", sizes[1], 0.1, "cosine", 0.4 * peak, peak / 4),
        *phase("cooldown", sizes[2], 0.2, "linear", peak / 4, 1e-6),
    ]


def phase(name: str, tokens: int, code: float, schedule: str, peak: float, final: float, start: str | None = None) -> list[str]:
    """Return one phase; the first one warms up over a tenth of its tokens."""
    warm_up = f", warmup_tokens: {format_tokens(tokens // 10)}" if schedule == "cosine" and (start or name == "balanced") else ""
    return [
        f"  - name: {name}",
        *([f"    from: {quoted(start)}"] if start else []),
        f"    tokens: {format_tokens(tokens)}",
        f"    mixture: {{text: {1 - code:g}, code: {code:g}}}",
        f"    learning_rate: {{schedule: {schedule}, peak: {peak:.2g}, final: {final:.2g}{warm_up}}}",
    ]


def tail(start: Start) -> list[str]:
    """Return saving and scoring."""
    return [
        "checkpoint: {every_steps: 100, keep_last: 2}",
        "evaluation: {held_out_share: 0.02, every_steps: 50, held_out_sequences: 32, suites: [bits_per_byte], items: 100}",
    ]


def study_text(start: Start) -> str:
    """Return study.yaml: what the code of the cooldown does, with and without, by three seeds."""
    return f"""# With and without code in the cooldown, three seeds each. What comes before the cooldown is trained once for each seed.
#
#     codemix study plan study.yaml && codemix study run study.yaml && codemix study report runs/{start.name}-code
name: {quoted(start.name + "-code")}
base: recipe.yaml

variants:
  without-code: {{overrides: {{phases.cooldown.mixture: {{text: 1}}}}}}
  with-code: {{}}

axes:
  seed: [1234, 1235, 1236]  # more seeds see smaller differences: codemix study power study.yaml
"""
