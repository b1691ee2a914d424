"""codemix train on the device: stopped when asked, resumed, and compared with a run that was not stopped.

python stopping.py                          the stage
python stopping.py LAYERS WORDS...          one command of codemix, on this one rank
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from child import SIMULATED, WORK, answer, run_worker
from codemix import lines_of
from measured import layers_here

ALLOWED = 0.0 if SIMULATED else 2e-3  # nats per token


def losses_of(run: Path) -> dict[int, float]:
    """Return step -> loss."""
    from codemix_megatron.records.events import StepEvent
    from codemix_megatron.records.journal import read_events

    return {event.step: event.loss for event in read_events(run / "journal.jsonl") if isinstance(event, StepEvent)}


def make_corpora(folder: Path) -> None:
    """Write documents and a recipe, and prepare them."""
    import tiny_run
    import yaml

    folder.mkdir(exist_ok=True)
    tiny_run.make_documents(folder)
    recipe = {**tiny_run.RECIPE, "parallel": {"device": "cuda", "timeout_seconds": 45}}
    recipe["model"] = {**recipe["model"], "precision": "bf16"}
    recipe["evaluation"] = {"held_out_share": 0.1, "held_out_sequences": 4, "items": 8}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))


def main() -> None:
    """Train a run, and another one in two parts."""
    layers, folder = layers_here(), WORK / "training"
    make_corpora(folder)
    os.chdir(folder)
    subprocess.run([sys.executable, "-m", "codemix_megatron", "prepare", "recipe.yaml"], check=True)
    for run in ("straight", "stopped", "stopped"):
        run_worker("codemix.py", layers, "train", "recipe.yaml", "--folder", run)
    straight, stopped = losses_of(folder / "straight"), losses_of(folder / "stopped")
    stops = [line for line in lines_of(folder / "stopped" / "journal.jsonl") if '"stop' in line]
    faults = [] if stops else ["the run was not stopped before its end"]
    faults += [] if sorted(straight) == sorted(stopped) else [f"steps {sorted(straight)} and {sorted(stopped)}"]
    largest = max((abs(straight[step] - stopped[step]) for step in straight if step in stopped), default=float("nan"))
    faults += [] if largest <= ALLOWED else [f"losses are {largest:.1e} apart, allowed {ALLOWED}"]
    answer(
        faults,
        layers,
        steps=len(straight),
        stopped=[json.loads(line) for line in stops][:2],
        largest_difference=largest,
        same_bits=straight == stopped,
    )


if __name__ == "__main__":
    main()
