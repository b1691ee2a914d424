"""The paper's runs as recipe files: at its two sizes, and shrunk until two CPU cores train them in minutes."""

from dataclasses import dataclass, replace
from pathlib import Path

from codemix_megatron.recipe.paper import CORPORA, RUNS, WARMUP_STEPS, PaperPhase, PaperRun, flat_tokens
from codemix_megatron.recipe.quantity import format_tokens

__all__ = ["preset_files", "write_presets"]

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


PAPER_BATCH = "{global_sequences: 512, micro_sequences: 1}"
PAPER_EVALUATION = "{held_out_share: 0.001, every_steps: 2000, held_out_sequences: 512}"

SCALES = (
    Scale(
        folder="paper/470m",
        comment="The paper gives no dimensions: width 1024, 16 layers and a tied table of 256,000 rows make 468M.",
        model="{num_layers: 16, hidden_size: 1024, num_attention_heads: 16, ffn_hidden_size: 2816, sequence_length: 8192, precision: bf16}",
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
        model="{num_layers: 28, hidden_size: 2560, num_attention_heads: 20, ffn_hidden_size: 6912, sequence_length: 8192, precision: bf16}",
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
        comment="A hundred-billionth of nothing large: 1 token for 1 million of the paper's, on the standard library's sources and documentation.",
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
