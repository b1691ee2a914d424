"""Live scoring: texts of odd lengths scored together are each what they are alone, in bf16 and FP8."""

from pathlib import Path
from types import SimpleNamespace

from child import answer, leave_without, prepare
from losses import WIDE

VOCABULARY, LENGTH = 256, 128
LENGTHS = (3, 17, 61, 100, 127)
ALLOWED = {"off": 2e-2, "tensorwise": 0.5, "delayed": 0.5}  # nats of a text of up to 126 tokens' last seven


def texts():
    """Return a query for each length, the last tokens to be scored."""
    import numpy as np

    from codemix_megatron.inference.queries import Query

    draw = np.random.default_rng(0)
    rows = [tuple(map(int, draw.integers(1, VOCABULARY, length))) for length in LENGTHS]
    return [Query(row[: -min(7, len(row) - 1)], (row[-min(7, len(row) - 1) :],)) for row in rows]


def score(fp8: str) -> dict:
    """Return nats of each text beside others, and alone."""
    import torch
    from many_layouts import recipe_of

    from codemix_megatron.inference.live import LiveModel
    from codemix_megatron.model.build import build_model
    from codemix_megatron.model.logits import SpreadLogits
    from codemix_megatron.parallel.ranks import one_rank

    recipe = recipe_of({**WIDE, "sequence_length": LENGTH, "fp8": fp8}, {"device": "cuda"}, {})
    tokenizer = SimpleNamespace(vocab_size=VOCABULARY, end_of_document_id=0)
    with one_rank(device="cuda") as ranks, torch.no_grad():
        model = LiveModel(
            SpreadLogits(build_model(recipe, VOCABULARY, ranks.device), VOCABULARY, ranks.device), tokenizer, LENGTH, Path(".")
        )
        together = [found[0].nats for found in model.score(texts())]
        alone = [model.score([query])[0][0].nats for query in texts()]
    return {"together": together, "alone": alone, "difference": max(abs(a - b) for a, b in zip(together, alone, strict=True))}


def main() -> None:
    """Score with each kind of product."""
    leave_without("transformer-engine")
    prepare("transformer-engine")
    found = {fp8: score(fp8) for fp8 in ALLOWED}
    faults = [
        f"fp8 {fp8}: {run['difference']:.1e} nats apart, allowed {ALLOWED[fp8]}"
        for fp8, run in found.items()
        if not run["difference"] <= ALLOWED[fp8]
    ]
    answer(
        faults,
        "transformer-engine",
        lengths=LENGTHS,
        nats={fp8: run["together"] for fp8, run in found.items()},
        differences={fp8: run["difference"] for fp8, run in found.items()},
    )


if __name__ == "__main__":
    main()
