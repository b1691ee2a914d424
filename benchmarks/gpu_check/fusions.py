"""What each fusion brings: 470m at micro batch 2, as it is and with one of them left out.

python fusions.py                      the stage
python fusions.py LAYERS OUT.json      all that can be left out of layers of torch or transformer-engine
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

from child import SIMULATED, WORK, answer, prepare, run_worker
from measured import Case, layers_here, measure

# What is left out -> the keys of megatron-core's configuration that say so.
LEFT_OUT = {
    "nothing": {},
    "cross entropy": {"cross_entropy_loss_fusion": False},
    "rotary positions": {"apply_rope_fusion": False},
    "weight gradients": {"gradient_accumulation_fusion": False},
    "bias and dropout": {"bias_dropout_fusion": False},
}


def without(changes: dict):
    """Build models with other keys of the configuration."""
    from codemix_megatron.model import build

    made = build.transformer_config

    def changed(recipe, device):
        config = made(recipe, device)
        for key, value in changes.items():
            setattr(config, key, value)
        return config

    return mock.patch.object(build, "transformer_config", changed) if changes else nullcontext()


def one_kind(layers: str, out: Path) -> None:
    """Measure each way."""
    prepare(layers)
    found = {}
    for name, changes in LEFT_OUT.items() if layers != "torch" else list(LEFT_OUT.items())[:2]:
        with without(changes):
            found[name] = measure(Case("470m", 2))
    out.write_text(json.dumps(found))


def main() -> None:
    """Measure layers of Transformer Engine where it is, and torch's."""
    found, faults = {}, []
    for layers in dict.fromkeys([layers_here(), "torch"]):
        out = WORK / f"fusions-{layers}.json"
        run_worker("fusions.py", layers, out)
        found[layers] = json.loads(out.read_text())
        seconds = {name: run.get("seconds_per_step") for name, run in found[layers].items()}
        faults += [f"{layers}: no measure without {name}" for name, value in seconds.items() if value is None]
    slower = {
        layers: {
            name: round(run["seconds_per_step"] / runs["nothing"]["seconds_per_step"], 3)
            for name, run in runs.items()
            if "seconds_per_step" in run
        }
        for layers, runs in found.items()
        if "seconds_per_step" in runs["nothing"]
    }
    losses = {layers: {name: run.get("losses_first_and_last") for name, run in runs.items()} for layers, runs in found.items()}
    toy = {"in_place_of": "470m: a toy; its seconds mean nothing"} if SIMULATED else {}
    answer(faults, layers_here(), times_the_seconds_without=slower, losses=losses, runs=found, **toy)


if __name__ == "__main__":
    one_kind(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main()
