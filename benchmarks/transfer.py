"""muP and the standard parametrisation over widths: how large activations are and how far they move, and which learning rate is best.

    make check-transfer        # python benchmarks/transfer.py --figure docs/images/coordinate_check.png

Coordinate check as microsoft/mup makes it: the mean absolute value of each layer's output and of the logits at the start and over some steps on one
batch, over widths 64 to 1,024; and how far each has moved. In muP all of them stay flat but for the logits at the start, which begin as 1 / sqrt(width)
where the output layer begins random, and are flat after a few steps (README of microsoft/mup, "Coord Check"). Sweep: losses of widths 64 and 256 over learning
rates. Made data (random walks); nothing here says what rate a real model wants. Ends with one line of JSON.
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
from codemix_megatron.records.manifest import TokenizerMetadata

VOCABULARY, LENGTH, BASE, LAYERS = 256, 32, 64, 2
WIDTHS, SWEPT = (64, 128, 256, 512, 1024), (64, 256)
RATES = [2.0**power for power in range(-10, -3)]
COORDINATE_STEPS, COORDINATE_RATE = 12, 2**-8
FLAT, GROWS = 0.15, 0.5  # exponents of the width


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

    return Engine(recipe, TokenizerMetadata(type="none", path="", sha256="", vocab_size=VOCABULARY, end_of_document_id=0), 1, ranks)


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


def coordinates(width: int, transfer: str) -> list[dict[str, tuple[float, float]]]:
    """Return, at the start and after each step, the mean absolute value of each layer's output and of the logits, and of its change."""
    with one_rank(device="cpu") as ranks:
        engine, (rows,) = make_engine(recipe_for(width, transfer, rows=4), ranks), walks(1, 4)
        start, found = activations(engine, rows), []
        for step in range(COORDINATE_STEPS + 1):
            if step:
                train_step(engine, rows, COORDINATE_RATE)
            now = activations(engine, rows)
            found.append({name: (now[name].abs().mean().item(), (now[name] - start[name]).abs().mean().item()) for name in now})
    return found


def exponents(of_widths: dict[int, list[dict[str, tuple[float, float]]]]) -> list[dict[str, tuple[float, float]]]:
    """Return, for each step, with which power of the width each size and each change grows; a change at the start is none."""
    widths = np.log(list(of_widths))

    def power(step: int, name: str, which: int) -> float:
        values = [found[step][name][which] for found in of_widths.values()]
        return float(np.polyfit(widths, np.log(values), 1)[0]) if all(values) else math.nan

    first = next(iter(of_widths.values()))
    return [{name: (power(step, name, 0), power(step, name, 1)) for name in first[step]} for step in range(len(first))]


def faults_of(mup: list[dict[str, tuple[float, float]]], standard: list[dict[str, tuple[float, float]]]) -> list[str]:
    """Say where exponents are not those that muP promises, or where the standard parametrisation would pass as well."""
    faults = []
    for step, found in enumerate(mup):
        for name, (size, change) in found.items():
            if name != "logits" and (abs(size) >= FLAT or abs(change) >= FLAT):
                faults.append(f"{name} after {step} steps: size {size:.2f}, change {change:.2f}")
    begin, end = mup[0]["logits"][0], mup[-1]["logits"]
    if not -0.5 - FLAT < begin < -0.5 + FLAT:
        faults.append(f"logits at the start: {begin:.2f}, not -1/2")
    if max(map(abs, end)) >= FLAT:
        faults.append(f"logits after {len(mup) - 1} steps: size {end[0]:.2f}, change {end[1]:.2f}")
    faults += [f"standard {name}: change {change:.2f}" for name, (_, change) in standard[-1].items() if name != "logits" and change < GROWS]
    return faults


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


def draw(sizes: dict[str, dict[int, list[dict[str, tuple[float, float]]]]], path: str) -> None:
    """Draw the coordinate check: a row for each parametrisation; sizes at three moments and the change at the last."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [(0, 0, "size at the start"), (1, 0, "size after 1 step"), (COORDINATE_STEPS, 0, f"size after {COORDINATE_STEPS} steps")]
    shown.append((COORDINATE_STEPS, 1, f"change after {COORDINATE_STEPS} steps"))
    figure, rows = pyplot.subplots(2, len(shown), figsize=(11.5, 5.2), sharex=True, sharey="row", layout="constrained")
    for panels, (transfer, of) in zip(rows, sizes.items(), strict=True):
        for panel, (step, which, title) in zip(panels, shown, strict=True):
            for name in of[WIDTHS[0]][0]:
                panel.plot(list(of), [of[width][step][name][which] for width in of], marker="o", markersize=4, label=name)
            panel.set(xscale="log", yscale="log", title=title)
            panel.set_xticks(list(of), [str(width) for width in of])
            panel.minorticks_off()
        panels[0].set_ylabel({"mup": "transfer: mup", "none": "standard"}[transfer])
    for panel in rows[-1]:
        panel.set_xlabel("hidden size")
    rows[0][0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Check, sweep, draw and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", help="where the coordinate check is drawn")
    parser.add_argument("--steps", type=int, default=40, help="of each run of the sweep")
    parser.add_argument("--without-sweep", action="store_true")
    arguments = parser.parse_args()
    import_megatron()
    sizes = {transfer: {width: coordinates(width, transfer) for width in WIDTHS} for transfer in ("mup", "none")}
    powers = {transfer: exponents(of) for transfer, of in sizes.items()}
    faults = faults_of(powers["mup"], powers["none"])
    for transfer, steps in powers.items():
        for step in (0, 1, COORDINATE_STEPS):
            said = "; ".join(f"{name} {size:.2f}, change {change:.2f}" for name, (size, change) in steps[step].items())
            print(f"{transfer:<5} exponents over widths {WIDTHS[0]} to {WIDTHS[-1]} after {step} steps: {said}", flush=True)
    if arguments.figure:
        draw(sizes, arguments.figure)
    swept = {} if arguments.without_sweep else sweep(arguments.steps)
    best = {transfer: {width: of["best_rate"] for width, of in widths.items()} for transfer, widths in swept.items()}
    print(
        json.dumps(
            {
                "bench": "transfer",
                "exponents": {
                    transfer: {name: [round(v, 3) for v in pair] for name, pair in of[-1].items()} for transfer, of in powers.items()
                },
                "logits_at_the_start": round(powers["mup"][0]["logits"][0], 3),
                "faults": faults,
                "best_rates": best,
                "rates": RATES,
                "sweep": swept,
                "steps": arguments.steps,
                "met": not faults and (not best or best["mup"][SWEPT[0]] == best["mup"][SWEPT[1]]),
            }
        )
    )


if __name__ == "__main__":
    main()
