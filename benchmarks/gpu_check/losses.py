"""Five steps on the device against the CPU's, and twice for bits; FP8 against bf16.

python losses.py torch|transformer-engine|fp8
"""

import json
import sys

from child import SIMULATED, WORK, answer, leave_without, run_worker

BLOCKS = {
    "sequential": {},
    "parallel": {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "logit_scale": 0.25},
}
WIDE = {"hidden_size": 256, "ffn_hidden_size": 512, "precision": "bf16"}  # FP8 products want multiples of 16
# How far losses of five steps may be from the CPU's in fp32. Transformer Engine multiplies fp32 in TF32, its stand-in does not.
ALLOWED = {"fp32": 1e-5 if SIMULATED else 5e-3, "bf16": 2e-2, "fp8": 0.1}


def train(layers: str, jobs: dict, name: str) -> dict:
    """Return losses and norms of jobs; those of the CPU are computed once for all stages."""
    asked, out = WORK / f"{name}-jobs.json", WORK / f"{name}-losses.json"
    if layers == "cpu" and out.exists():
        return json.loads(out.read_text())
    asked.write_text(json.dumps(jobs))
    run_worker("trained.py", layers, asked, out)
    return json.loads(out.read_text())


def apart(one: dict, other: dict) -> float:
    """Return the largest difference of two runs' losses."""
    return max(abs(a - b) for a, b in zip(one["losses"], other["losses"], strict=True))


def against_cpu(layers: str) -> None:
    """Compare both blocks in fp32 and bf16 with the CPU in fp32; each bf16 job is run twice."""
    cpu = train("cpu", {name: {"model": model} for name, model in BLOCKS.items()}, "cpu")
    jobs = {
        f"{name} {precision}": {"model": {**model, "precision": precision}}
        for name, model in BLOCKS.items()
        for precision in ("fp32", "bf16")
    }
    jobs |= {f"{name} again": job for name, job in jobs.items() if name.endswith("bf16")}
    found = train(layers, jobs, layers)
    differences = {name: apart(found[name], cpu[name.split()[0]]) for name in jobs if not name.endswith("again")}
    allowed = {name: ALLOWED[name.split()[1]] for name in differences}
    faults = [
        f"{name}: losses are {value:.1e} from the CPU's, allowed {allowed[name]:.0e}"
        for name, value in differences.items()
        if not value <= allowed[name]
    ]
    same_bits = {name: found[name] == found[f"{name} again"] for name in found if f"{name} again" in found}
    faults += [f"{name}: two runs differ" for name, is_same in same_bits.items() if not is_same]
    answer(
        faults,
        layers,
        largest_differences=differences,
        allowed=allowed,
        same_bits=same_bits,
        losses={name: run["losses"] for name, run in found.items()},
    )


def fp8() -> None:
    """Compare both FP8 recipes with bf16 on the same layers."""
    jobs = {name: {"model": {**model, **WIDE}} for name, model in BLOCKS.items()}
    recipes = {
        f"{name} {recipe}": {"model": {**job["model"], "fp8": recipe}} for name, job in jobs.items() for recipe in ("tensorwise", "delayed")
    }
    found = train("transformer-engine", jobs | recipes, "fp8")
    differences = {name: apart(found[name], found[name.split()[0]]) for name in recipes}
    faults = [f"{name}: losses are {value:.1e} from bf16's" for name, value in differences.items() if not 0 < value <= ALLOWED["fp8"]]
    answer(
        faults,
        "transformer-engine",
        largest_differences=differences,
        allowed=ALLOWED["fp8"],
        losses={name: run["losses"] for name, run in found.items()},
    )


if __name__ == "__main__":
    wanted = sys.argv[1]
    leave_without(wanted)
    fp8() if wanted == "fp8" else against_cpu(wanted)
