"""make check-cuda: the CUDA path without a GPU, in shapes and in values; ends with one line of JSON.

    python check.py [shapes] [memory] [values] [carried] [fp8]       all of them without words; with --quick one rank for each layout

Needs a CUDA build of torch, megatron-core, and TE_SOURCE: the wheel of transformer_engine 2.11, unpacked. No GPU, no driver, no compiled
Transformer Engine. Exit code 1 where anything differs.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORLDS = ((8, 0), (64, 31), (1024, 1023))  # the first rank, one in the middle, the last
LAYOUTS = {
    "data": {},
    "data, no overlap": {"overlap": False},
    "data, whole optimizer": {"distributed_optimizer": False},
    "tensor": {"tensor": 2},
    "tensor, sequence parallel": {"tensor": 4, "sequence_parallel": True},
    "pipeline": {"pipeline": 2},
    "virtual pipeline": {"pipeline": 2, "virtual_pipeline": 2},
    "tensor x pipeline, recomputed": {"tensor": 2, "pipeline": 4, "sequence_parallel": True, "recompute": "full"},
    "tensor x pipeline, recomputed attention": {"tensor": 2, "pipeline": 2, "recompute": "selective"},
}
# What `codemix plan` says of memory is held to these, one for the first or last rank of each layout, at both sizes of the paper.
MEMORY_LAYOUTS = {
    "one rank": (1, 0, {}),
    "one rank, recomputed": (1, 0, {"recompute": "full"}),
    "data 8": (8, 3, {}),
    "data 8, whole optimizer": (8, 3, {"distributed_optimizer": False}),
    "tensor 2, sequence parallel": (8, 3, {"tensor": 2, "sequence_parallel": True}),
    "tensor 4": (8, 3, {"tensor": 4}),
    "pipeline 4, first": (8, 0, {"pipeline": 4}),
    "pipeline 4, last": (8, 7, {"pipeline": 4}),
    "tensor 2 x pipeline 2, first": (8, 0, {"tensor": 2, "pipeline": 2, "sequence_parallel": True}),
    "pipeline 2 x virtual 2, first": (8, 0, {"pipeline": 2, "virtual_pipeline": 2}),
    "pipeline 2 x virtual 2, last": (8, 7, {"pipeline": 2, "virtual_pipeline": 2}),
}
LARGEST_MEMORY_ERROR = 0.05  # of the simulated peak
BLOCKS = {"sequential": {}, "parallel": {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True}}
MODELS = {
    **BLOCKS,
    "parallel rmsnorm": {"block": "parallel"},
    "sequential layernorm": {"normalization": "layernorm"},
    "qk norm": {"qk_norm": True},
    "qk layernorm": {"qk_norm": True, "normalization": "layernorm"},
}
# Where the host may wait for the device in a step, and why.
KNOWN_WAITS = {
    "item megatron/core/optimizer/clip_grads.py": "the gradient norm is a number of Python",
    "cpu train/engine.py": "losses and flags of a step",
    "synchronize train/timing.py": "the end of a step",
    "cpu model/document_attention.py": "borders of documents, once a step",
    "synchronize megatron/core/pipeline_parallel/p2p_communication.py": "megatron-core's batched sends and receives, once for each",
}
LARGEST_DIFFERENCE = 1e-5
FP8_RECIPES = ("tensorwise", "delayed")
WIDE = {"hidden_size": 256, "ffn_hidden_size": 512, "precision": "bf16"}  # FP8 products want multiples of 16
LARGEST_FP8_DIFFERENCE = 0.1  # from bf16's losses


def shape_cases(engine: str) -> list[dict]:
    """Return every layout at three worlds; blocks take turns."""
    cases = []
    for number, (layout, parallel) in enumerate(LAYOUTS.items()):
        block = list(BLOCKS)[number % 2]
        for world, rank in WORLDS[number % 3 :][:1] if "--quick" in sys.argv else WORLDS:
            case = {"name": f"{layout}, {block}, rank {rank} of {world}", "world": world, "rank": rank, "save": True}
            cases.append({**case, "parallel": parallel, "model": BLOCKS[block], "batch": {"micro_batches": 4}})
    cases.append({"name": "one rank", "world": 1, "rank": 0, "save": True})
    documents = {"documents": True, "model": {"sequence_length": 64, "sliding_window": 48}, "batch": {"micro_sequences": 2}}
    cases.append({"name": "documents, rank 3 of 8", "world": 8, "rank": 3, "parallel": {"tensor": 2}, **documents})
    # Recomputed attention carries the kind of its mask through a tensor, and a fake one holds no value: Transformer Engine is given another.
    is_simulated = [engine == "local" or case.get("parallel", {}).get("recompute") != "selective" for case in cases]
    return [case for case, of in zip(cases, is_simulated, strict=True) if of]


def check_shapes(folder: Path) -> dict:
    """Build and step every layout on local layers and on Transformer Engine's."""
    done, faults, waits = 0, [], set()
    for engine in ("local", "transformer engine"):
        cases = shape_cases(engine)
        for found in run_shapes(cases, folder, engine):
            print(f"{engine:<20} {found['name']:<70} {found.get('fault', 'ok')} {found.get('seconds', '')} s", flush=True)
            done += 1
            faults += [f"{engine}, {found['name']}: {found['fault']}"] if "fault" in found else []
            waits |= {wait.rpartition(":")[0] for wait in found.get("waits", {})}
            faults += [f"{engine}, {found['name']}: {what}" for what in found.get("at_build", {}) if "gloo" in what or "mask" in what]
    unknown = sorted(waits - set(KNOWN_WAITS))
    return {"cases": done, "waits": sorted(waits), "faults": faults + [f"a wait that is not known: {wait}" for wait in unknown]}


def check_memory(folder: Path) -> dict:
    """Compare what the planner says of memory with the peak of a step, for both sizes at each layout, on both kinds of layers."""
    cases = [
        {"name": f"{size}, {name}", "size": size, "world": world, "rank": rank, "parallel": parallel, "vocabulary": 50257}
        | {
            "batch": {
                "micro_sequences": 4 if size == "470m" and "pipeline" not in parallel else 1,
                "micro_batches": 8 if "pipeline" in parallel else 2,
            }
        }
        for size in ("470m", "2.8b")
        for name, (world, rank, parallel) in MEMORY_LAYOUTS.items()
    ]
    errors, faults = {}, []
    for engine in ("local", "transformer engine"):
        for found in run_shapes(cases, folder, engine):
            name = f"{engine}, {found['name']}"
            if "fault" in found:
                faults.append(f"{name}: {found['fault']}")
                continue
            errors[name] = found["plan"] / found["peak"] - 1
            sizes = f"peak {found['peak'] / 2**30:6.2f} GiB, planned {found['plan'] / 2**30:6.2f}"
            print(f"{engine:<20} {found['name']:<40} {sizes}, {100 * errors[name]:+.1f} %", flush=True)
    faults += [f"{name}: the plan is {100 * error:+.1f} % off" for name, error in errors.items() if abs(error) > LARGEST_MEMORY_ERROR]
    return {
        "cases": len(errors),
        "largest_error": max(map(abs, errors.values()), default=None),
        "allowed": LARGEST_MEMORY_ERROR,
        "faults": faults,
    }


def run_shapes(cases: list[dict], folder: Path, engine: str) -> list[dict]:
    """Run cases under the stub libraries and return what each gave."""
    asked = folder / "cases.json"
    asked.write_text(json.dumps(cases))
    stubs = stub_libraries(folder)
    environment = {"LD_LIBRARY_PATH": str(stubs), "LD_PRELOAD": str(stubs / "nocuda.so"), "FAKE_TE": str(int(engine != "local"))}
    lines = run("shapes.py", [asked], environment).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def stub_libraries(folder: Path) -> Path:
    """Compile a CUDA runtime of eight devices that does nothing, and a driver that is not there."""
    for source, library in (("nocuda.c", "nocuda.so"), ("nodriver.c", "libcuda.so.1")):
        if not (folder / library).exists():
            subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / library, HERE / source], check=True)
    return folder


def check_values(folder: Path) -> dict:
    """Train every model on local layers and on Transformer Engine over its stand-in, on one rank and on two pipeline stages."""
    one = {name: {"model": model, "steps": 3} for name, model in MODELS.items()}
    two = {f"{name}, pipeline 2": {**job, "parallel": {"pipeline": 2}} for name, job in one.items()}
    two["sequential, data 2, some tokens masked"] = {**one["sequential"], "masked": True}
    two["sequential, tensor 2"] = {**one["sequential"], "parallel": {"tensor": 2, "sequence_parallel": True}}
    differences, faults = {}, []
    for size, jobs in ((1, one), (2, two)):
        asked = folder / f"jobs-{size}.json"
        asked.write_text(json.dumps(jobs))
        for kind in ("cpu", "transformer-engine"):
            run("values.py", [kind, size, asked, folder / f"{kind}-{size}.json"], {})
        ours, theirs = (json.loads((folder / f"{kind}-{size}.json").read_text()) for kind in ("cpu", "transformer-engine"))
        for name in jobs:
            differences[name] = largest(ours[name]["losses"], theirs[name]["losses"])
            print(f"losses of 3 steps, Transformer Engine's stand-in against local layers, {name:<32} {differences[name]:.1e}", flush=True)
    faults = [f"{name}: losses differ by {value:.1e}" for name, value in differences.items() if value > LARGEST_DIFFERENCE]
    return {"largest_loss_difference": max(differences.values()), "models": len(differences), "faults": faults}


def check_carried(folder: Path) -> dict:
    """Carry checkpoints from local layers to Transformer Engine and back, and keep documents apart there."""
    models = folder / "models.json"
    models.write_text(json.dumps(MODELS))
    found = []
    for kind in ("cpu", "transformer-engine", "cpu"):
        run("carried.py", [kind, models, folder / "carried", folder / "carried.json"], {})
        found.append(json.loads((folder / "carried.json").read_text()))
    there, back, documents, faults = {}, {}, {}, []
    for name in MODELS:
        here, other, again = (side[name] for side in found)
        there[name], back[name] = abs(here["losses"][2] - other["losses"][0]), abs(other["losses"][1] - again["losses"][0])
        documents[name] = other["documents"]
        print(f"checkpoint of {name:<22} there {there[name]:.1e}, back {back[name]:.1e}; documents {documents[name]:.1e}", flush=True)
        worst = max(there[name], back[name], documents[name])
        faults += [f"{name}: {worst:.1e}"] if worst > LARGEST_DIFFERENCE else []
    return {"there": max(there.values()), "back": max(back.values()), "documents": max(documents.values()), "faults": faults}


def check_fp8(folder: Path) -> dict:
    """Train in FP8 over the stand-in: losses are near those in bf16, and not the same."""
    jobs = {block: {"model": {**model, **WIDE}, "steps": 4} for block, model in BLOCKS.items()}
    jobs |= {
        f"{block} {recipe}": {**jobs[block], "model": {**jobs[block]["model"], "fp8": recipe}} for block in BLOCKS for recipe in FP8_RECIPES
    }
    asked, out = folder / "fp8.json", folder / "fp8-losses.json"
    asked.write_text(json.dumps(jobs))
    run("values.py", ["transformer-engine", 1, asked, out], {})
    found = json.loads(out.read_text())
    differences = {name: largest(found[name]["losses"], found[name.split()[0]]["losses"]) for name in jobs if " " in name}
    for name, value in differences.items():
        print(f"losses of 4 steps in FP8 against bf16, {name:<24} {value:.1e}", flush=True)
    faults = [f"{name}: {value:.1e} from bf16's losses" for name, value in differences.items() if not 0 < value <= LARGEST_FP8_DIFFERENCE]
    return {"largest_difference_from_bf16": max(differences.values()), "runs": len(differences), "faults": faults}


def largest(ours: list[float], theirs: list[float]) -> float:
    """Return the largest difference of two lists of losses."""
    return max(abs(one - other) for one, other in zip(ours, theirs, strict=True))


def run(program: str, words: list, environment: dict[str, str]) -> str:
    """Run a program of this folder and return its output; what it says goes wrong is shown."""
    repository = HERE.parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{repository}:{HERE.parent}", "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / program), *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode:
        sys.exit(f"{program} {' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    return done.stdout


def main() -> int:
    """Do what is asked; return the exit code."""
    import torch

    parts = {"shapes": check_shapes, "memory": check_memory, "values": check_values, "carried": check_carried, "fp8": check_fp8}
    wanted = [word for word in sys.argv[1:] if word != "--quick"] or list(parts)
    figures: dict = {"check": "cuda", "simulated": True, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            figures[name] = parts[name](Path(folder))
    faults = [fault for name in wanted for fault in figures[name]["faults"]]
    print(json.dumps({**figures, "ok": not faults}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
