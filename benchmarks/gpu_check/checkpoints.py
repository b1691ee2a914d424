"""A CPU checkpoint goes on on the GPU, the GPU's goes on on the CPU; what a save beside training has copied goes on bit for bit.

python checkpoints.py                                  the stage
python checkpoints.py cpu|torch|transformer-engine FOLDER OUT.json     one side of it
"""

import json
import shutil
import sys
from pathlib import Path

from child import WORK, answer, leave_without, prepare, run_worker
from losses import ALLOWED, BLOCKS

STEPS, SAVED = 5, 2


def goes_on(model: dict, folder: Path) -> dict[str, list[float]]:
    """Save beside training after two steps, train to the end, load, and train the rest again: losses of both."""
    import torch
    from carried import engine_for
    from many_layouts import batches

    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.checkpoint.writing import Saving
    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.train.batches import Batch

    with one_rank(device="cuda") as ranks:
        engine = engine_for(model, "cuda", ranks)

        def train(steps) -> list[float]:
            return [
                engine.train_step(Batch(rows, torch.zeros(len(rows), dtype=torch.int64, device=ranks.device)), 1e-2).losses.mean
                for rows in steps
            ]

        steps = torch.from_numpy(batches(STEPS)).to(ranks.device)
        train(steps[:SAVED])
        saving = Saving(folder, engine.sharded_state(), {"step": SAVED}, ranks.device, behind=True)
        straight = train(steps[SAVED:])
        saving.write()
        saving.finish()
        engine.load_state(load_checkpoint(folder, engine.sharded_state(is_loading=True)))
        return {"straight": straight, "resumed": train(steps[SAVED:])}


def one_side(layers: str, folder: Path, out: Path) -> None:
    """Steps 0 and 1 on the CPU; step 2 there and on the device from the CPU's checkpoint, and step 3 on both from the device's."""
    prepare(layers)
    import torch
    from carried import train

    torch.set_num_threads(1)
    found = {}
    for name, model in BLOCKS.items():
        kept_in = folder / name
        if layers != "cpu":
            found[name] = {
                "losses": train(model, "cuda", kept_in, 2, 4),
                **goes_on({**model, "precision": "bf16"}, folder / f"{name}-beside" / "step-2"),
            }
        else:
            found[name] = {
                "losses": train(model, "cpu", kept_in, 3, 4) if (kept_in / "step-3").exists() else train(model, "cpu", kept_in, 0, 3)
            }
    out.write_text(json.dumps(found))


def main() -> None:
    """Carry checkpoints there and back."""
    leave_without("transformer-engine")
    folder, sides = WORK / "carried", []
    shutil.rmtree(folder, ignore_errors=True)
    for layers in ("cpu", "transformer-engine", "cpu"):
        out = WORK / "carried.json"
        run_worker("checkpoints.py", layers, folder, out)
        sides.append(json.loads(out.read_text()))
    faults, there, back, same_bits = [], {}, {}, {}
    for name in BLOCKS:
        here, other, again = (side[name] for side in sides)
        there[name] = abs(here["losses"][2] - other["losses"][0])
        back[name] = abs(other["losses"][1] - again["losses"][0])
        same_bits[name] = other["straight"] == other["resumed"]
        faults += (
            [f"{name}: {there[name]:.1e} there, {back[name]:.1e} back, allowed {ALLOWED['fp32']:.0e}"]
            if not max(there[name], back[name]) <= ALLOWED["fp32"]
            else []
        )
        faults += (
            []
            if same_bits[name]
            else [f"{name}: what was saved beside training goes on differently: {other['straight']}, {other['resumed']}"]
        )
    answer(faults, "transformer-engine", there=there, back=back, allowed=ALLOWED["fp32"], same_bits=same_bits)


if __name__ == "__main__":
    one_side(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])) if len(sys.argv) > 1 else main()
