"""muP and the standard parametrisation over widths: how far activations move, and which learning rate is best.

    python benchmarks/transfer.py [--figure docs/images/coordinate_check.png] [--steps 40]

Coordinate check: the mean absolute change of each layer's output and of the logits after a few steps, over widths 64 to 1,024. Sweep: losses of widths 64
and 256 over learning rates. Made data (random walks); nothing here says what rate a real model wants. Ends with one line of JSON.
"""

import argparse
import json
import math
from dataclasses import replace

import numpy as np
import torch

from codemix_megatron.conversion.parity import model_recipe
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.recipe.schema import Batch, LearningRate, Model, Optimizer, Phase, Recipe
from codemix_megatron.records.manifest import TokenizerCard

VOCABULARY, LENGTH, BASE, LAYERS = 256, 32, 64, 2
WIDTHS, SWEPT = (64, 128, 256, 512, 1024), (64, 256)
RATES = [2.0**power for power in range(-10, -3)]
COORDINATE_STEPS, COORDINATE_RATE = 4, 2**-9


def recipe_for(width: int, transfer: str, rows: int) -> Recipe:
    """Return a model of that width; heads keep their size and become more."""
    model = Model(
        num_layers=LAYERS,
        hidden_size=width,
        num_attention_heads=width // 32,
        ffn_hidden_size=2 * width,
        sequence_length=LENGTH,
        init_std=0.05,
    )
    optimizer = Optimizer(transfer=transfer, base_width=BASE if transfer == "mup" else None, weight_decay=0.0)
    phase = Phase(name="all", tokens=1, mixture={}, learning_rate=LearningRate(peak=1.0))
    return replace(
        model_recipe(model), model=model, optimizer=optimizer, phases=(phase,), batch=Batch(global_sequences=rows, micro_sequences=rows)
    )


def walks(count: int, rows: int, seed: int = 0) -> list[torch.Tensor]:
    """Return batches of random walks through the vocabulary, which a model can learn."""
    draw = np.random.default_rng(seed)
    starts = draw.integers(0, VOCABULARY, (count, rows, 1))
    steps = draw.integers(0, 3, (count, rows, LENGTH)).cumsum(axis=2)
    return list(torch.from_numpy(np.concatenate([starts, starts + steps], axis=2) % VOCABULARY))


def make_engine(recipe: Recipe, ranks):
    """Return an engine for one source."""
    from codemix_megatron.train.engine import Engine

    return Engine(recipe, TokenizerCard(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0), 1, ranks)


def train_step(engine, rows: torch.Tensor, rate: float) -> float:
    """Train once; return the loss."""
    from codemix_megatron.train.batches import Batch as Share

    return engine.train_step(Share(rows, torch.zeros(len(rows), dtype=torch.int64)), rate).losses.mean


def activations(engine, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what layers and logits are for some rows."""
    model, found, handles = engine.chunks[0].module, {}, []
    for number, layer in enumerate(model.decoder.layers):
        handles.append(layer.register_forward_hook(lambda _, __, out, n=number: found.update({f"layer {n}": out[0].detach().clone()})))
    model.eval()
    with torch.no_grad():
        inputs = rows[:, :-1]
        found["logits"] = model(inputs, torch.arange(LENGTH).expand_as(inputs), None).detach().clone()
    for handle in handles:
        handle.remove()
    return found


def coordinates(width: int, transfer: str) -> dict[str, float]:
    """Return the mean absolute change of each layer's output and of the logits over a few steps."""
    with one_rank(device="cpu") as ranks:
        engine, rows = make_engine(recipe_for(width, transfer, rows=4), ranks), walks(COORDINATE_STEPS, 4)
        before = activations(engine, rows[0])
        for batch in rows:
            train_step(engine, batch, COORDINATE_RATE)
        after = activations(engine, rows[0])
    return {name: (after[name] - before[name]).abs().mean().item() for name in before}


def final_loss(width: int, transfer: str, rate: float, steps: int) -> float:
    """Return the mean loss of the last tenth of a run with a linear decay; infinite where it diverged."""
    with one_rank(device="cpu") as ranks:
        engine = make_engine(recipe_for(width, transfer, rows=8), ranks)
        losses = [train_step(engine, rows, rate * (1 - step / steps)) for step, rows in enumerate(walks(steps, 8, seed=1))]
    mean = float(np.mean(losses[-max(1, steps // 10) :]))
    return mean if math.isfinite(mean) else math.inf


def sweep(steps: int) -> dict:
    """Return transfer -> width -> losses over RATES, and the best rate of each."""
    found: dict = {}
    for transfer in ("mup", "none"):
        found[transfer] = {}
        for width in SWEPT:
            losses = [round(final_loss(width, transfer, rate, steps), 4) for rate in RATES]
            found[transfer][width] = {"losses": losses, "best_rate": RATES[int(np.argmin(losses))]}
            print(f"{transfer:<5} width {width:<5} best rate {found[transfer][width]['best_rate']:.5f}  losses {losses}", flush=True)
    return found


def draw(sizes: dict[str, dict[int, dict[str, float]]], path: str) -> None:
    """Draw the coordinate check."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(8.4, 3.2), sharey=True, layout="constrained")
    for panel, (transfer, of) in zip(panels, sizes.items(), strict=True):
        for name in next(iter(of.values())):
            panel.plot(list(of), [of[width][name] for width in of], marker="o", label=name)
        panel.set(xscale="log", yscale="log", xlabel="hidden size", title={"mup": "transfer: mup", "none": "standard"}[transfer])
        panel.set_xticks(list(of), [str(width) for width in of])
        panel.minorticks_off()
    panels[0].set_ylabel(f"mean change after {COORDINATE_STEPS} steps")
    panels[1].legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    """Check, sweep, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", help="where the coordinate check is drawn")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--without-sweep", action="store_true")
    arguments = parser.parse_args()
    import_megatron()
    sizes = {transfer: {width: coordinates(width, transfer) for width in WIDTHS} for transfer in ("mup", "none")}
    slopes = {
        transfer: {n: round(float(np.polyfit(np.log(WIDTHS), [math.log(of[w][n]) for w in WIDTHS], 1)[0]), 3) for n in of[WIDTHS[0]]}
        for transfer, of in sizes.items()
    }
    print(f"exponents of change over widths {WIDTHS}: {slopes}", flush=True)
    if arguments.figure:
        draw(sizes, arguments.figure)
    if arguments.without_sweep:
        return
    swept = sweep(arguments.steps)
    best = {transfer: {width: of["best_rate"] for width, of in widths.items()} for transfer, widths in swept.items()}
    layers = [abs(slope) for name, slope in slopes["mup"].items() if name != "logits"]
    met = max(layers) < 0.15 and slopes["mup"]["logits"] < 0.15 and best["mup"][64] == best["mup"][256]
    print(
        json.dumps(
            {
                "bench": "transfer",
                "exponents": slopes,
                "best_rates": best,
                "rates": RATES,
                "sweep": swept,
                "steps": arguments.steps,
                "met": met,
            }
        )
    )


if __name__ == "__main__":
    main()
