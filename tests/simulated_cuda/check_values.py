"""Whole steps with values: Transformer Engine over its stand-in, and torch's layers on simulated CUDA, against the same on CPU."""

import json
import re
from pathlib import Path

from models import BLOCKS, KEYS, KINDS, MODELS, WIDE
from processes import run

__all__ = ["check_carried", "check_fp8", "check_keys", "check_values"]

LARGEST_DIFFERENCE = 1e-5
FP8_RECIPES = ("tensorwise", "delayed")
LARGEST_FP8_DIFFERENCE = 0.1  # from bf16's losses
REFUSAL = r"^model\.(\w+): .* computed by torch's layers only, not by Transformer Engine's"
# Fused attention instead of Transformer Engine's own, in fp32, which its asserts do not allow cuDNN: kernels here take it.
FUSED = {"STAND_IN_ATTENTION": "fused", "PYTHONOPTIMIZE": "1"}


def trained(kind: str, ranks: int, jobs: dict, folder: Path, environment: dict[str, str] | None = None) -> dict:
    """Train jobs on so many ranks and return what each gave."""
    asked, out = folder / "jobs.json", folder / "losses.json"
    asked.write_text(json.dumps(jobs))
    run("values.py", [kind, ranks, asked, out], environment or {}, is_simulated=kind != "cpu")
    return json.loads(out.read_text())


def check_values(folder: Path) -> dict:
    """Train every model on local layers and on Transformer Engine over its stand-in, on one rank and on two."""
    one = {name: {"model": model, "steps": 3} for name, model in MODELS.items()}
    two = {f"{name}, pipeline 2": {**job, "parallel": {"pipeline": 2}} for name, job in one.items()}
    two["sequential, data 2, some tokens masked"] = {**one["sequential"], "masked": True}
    two["sequential, tensor 2"] = {**one["sequential"], "parallel": {"tensor": 2, "sequence_parallel": True}}
    differences = {}
    for size, jobs in ((1, one), (2, two)):
        ours, theirs = (trained(kind, size, jobs, folder) for kind in ("cpu", "transformer-engine"))
        differences |= {name: largest(ours[name]["losses"], theirs[name]["losses"]) for name in jobs}
    differences |= in_context(one, folder)
    for name, value in differences.items():
        print(f"losses of 3 steps, Transformer Engine's stand-in against local layers, {name:<50} {value:.1e}", flush=True)
    faults = [f"{name}: losses differ by {value:.1e}" for name, value in differences.items() if value > LARGEST_DIFFERENCE]
    return {"largest_loss_difference": max(differences.values()), "models": len(differences), "faults": faults}


def in_context(one: dict, folder: Path) -> dict[str, float]:
    """Train over two context parallel ranks, by fused attention, and compare with one rank on CPU."""
    jobs = {f"{block}, context 2": {**one[block], "parallel": {"context": 2}} for block in BLOCKS}
    jobs["sequential, context 2, some tokens masked"] = {**one["sequential"], "parallel": {"context": 2}, "masked": True}
    jobs["sequential, context 2, live scoring"] = {
        "model": {"sequence_length": 128, "init_std": 0.2},
        "parallel": {"context": 2},
        "score": True,
    }
    alone = {name: {key: value for key, value in job.items() if key != "parallel"} for name, job in jobs.items()}
    ours, theirs = trained("cpu", 1, alone, folder), trained("transformer-engine", 2, jobs, folder, FUSED)
    fused = trained("transformer-engine", 1, alone, folder, FUSED)
    found = {name: largest(ours[name]["losses"], theirs[name]["losses"]) for name in jobs}
    return found | {f"{name.split(',')[0]}, fused attention": largest(ours[name]["losses"], fused[name]["losses"]) for name in jobs}


def check_keys(folder: Path) -> dict:
    """Train another value of each key, and each kind of family: on simulated CUDA without and with Transformer Engine, or refused by name."""
    jobs = {f"model.{key}": {"model": model, "steps": 2} for key, model in KEYS.items()}
    jobs |= {kind: {"model": model, "steps": 2} for kind, model in KINDS.items()}
    ours, without, on_engine = (trained(kind, 1, jobs, folder) for kind in ("cpu", "cuda", "transformer-engine"))
    differences, refused, faults = [], {}, []
    for name in jobs:
        local, engine = (compared(ours[name], theirs) for theirs in (without[name], on_engine[name]))
        print(f"{name:<40} without Transformer Engine {shown(local)}, with it {shown(engine)}", flush=True)
        faults += [f"{name}: without Transformer Engine {shown(local)}"] if not is_same(local) else []
        if isinstance(engine, str) and (by_name := re.search(REFUSAL, engine)):
            refused[name] = by_name[1]
        elif not is_same(engine):
            faults.append(f"{name}: with Transformer Engine {shown(engine)}")
        differences += [value for value in (local, engine) if isinstance(value, float)]
    return {"largest_loss_difference": max(differences), "models": len(jobs), "refused_with_transformer_engine": refused, "faults": faults}


def compared(ours: dict, theirs: dict) -> float | str:
    """Return how far losses are apart, or why a model was refused."""
    refusal = ours.get("refused") or theirs.get("refused")
    return refusal or largest(ours["losses"], theirs["losses"])


def is_same(found: float | str) -> bool:
    """Say whether losses are the same."""
    return isinstance(found, float) and found <= LARGEST_DIFFERENCE


def shown(found: float | str) -> str:
    """Return it for a reader."""
    return f"{found:.1e}" if isinstance(found, float) else f"refused: {found[:90]}"


def check_carried(folder: Path) -> dict:
    """Carry checkpoints from local layers to Transformer Engine and back, compare their keys, and keep documents apart there."""
    models = folder / "models.json"
    models.write_text(json.dumps(MODELS))
    found = []
    for kind in ("cpu", "transformer-engine", "cpu"):
        run("carried.py", [kind, models, folder / "carried", folder / "carried.json"], {}, is_simulated=kind != "cpu")
        found.append(json.loads((folder / "carried.json").read_text()))
    there, back, documents, faults, keys = {}, {}, {}, [], 0
    for name in MODELS:
        here, other, again = (side[name] for side in found)
        there[name], back[name] = abs(here["losses"][2] - other["losses"][0]), abs(other["losses"][1] - again["losses"][0])
        documents[name] = other["documents"]
        print(f"checkpoint of {name:<22} there {there[name]:.1e}, back {back[name]:.1e}; documents {documents[name]:.1e}", flush=True)
        worst = max(there[name], back[name], documents[name])
        faults += [f"{name}: {worst:.1e}"] if worst > LARGEST_DIFFERENCE else []
        unlike = sorted(set(map(tuple, here["keys"])) ^ set(map(tuple, other["keys"])))
        faults += [f"{name}: keys of checkpoints differ: {unlike[:6]}"] if unlike else []
        keys += len(here["keys"])
    return {
        "there": max(there.values()),
        "back": max(back.values()),
        "documents": max(documents.values()),
        "equal_keys": keys,
        "faults": faults,
    }


def check_fp8(folder: Path) -> dict:
    """Train in FP8 over the stand-in: losses are near those in bf16, and not the same."""
    jobs = {block: {"model": {**model, **WIDE}, "steps": 4} for block, model in BLOCKS.items()}
    jobs |= {
        f"{block} {recipe}": {**jobs[block], "model": {**jobs[block]["model"], "fp8": recipe}} for block in BLOCKS for recipe in FP8_RECIPES
    }
    found = trained("transformer-engine", 1, jobs, folder)
    differences = {name: largest(found[name]["losses"], found[name.split()[0]]["losses"]) for name in jobs if " " in name}
    for name, value in differences.items():
        print(f"losses of 4 steps in FP8 against bf16, {name:<24} {value:.1e}", flush=True)
    faults = [f"{name}: {value:.1e} from bf16's losses" for name, value in differences.items() if not 0 < value <= LARGEST_FP8_DIFFERENCE]
    return {"largest_difference_from_bf16": max(differences.values()), "runs": len(differences), "faults": faults}


def largest(ours: list[float], theirs: list[float]) -> float:
    """Return the largest difference of two lists of losses."""
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
