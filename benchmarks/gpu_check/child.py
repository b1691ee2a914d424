"""What every stage begins and ends with: the layers it is to compute with, on a GPU or on its simulation, and its result as a line of JSON."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ENGINE", "HERE", "SIMULATED", "WORK", "answer", "leave_without", "prepare", "run_worker"]

HERE = Path(__file__).resolve().parent
SIMULATED = os.environ.get("GPU_CHECK_SIMULATED") == "1"
WORK = Path(os.environ.get("GPU_CHECK_WORK", "."))
ENGINE = ("transformer_engine", "transformer_engine_torch")
OVER = {
    "torch": "with values: CPU tensors stand for CUDA ones (tests/simulated_cuda/on_cpu.py)",
    "transformer-engine": "with values: Transformer Engine's own Python over kernels in plain torch (tests/simulated_cuda/stand_in.py)",
}


def prepare(layers: str) -> None:
    """Make this process one that computes on `cpu`, or on CUDA with layers of `torch` or of `transformer-engine`; before torch is imported."""
    if layers != "transformer-engine":
        sys.modules.update(dict.fromkeys(ENGINE))  # as if it were not installed
    if layers == "cpu" or SIMULATED:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    is_simulated = SIMULATED and layers != "cpu"
    if is_simulated:
        import on_cpu

        on_cpu.install()
        if layers == "transformer-engine":
            import stand_in

            stand_in.install()
    from codemix_megatron.megatron.importing import import_megatron
    from codemix_megatron.megatron.upstream_warnings import hide_upstream_warnings

    hide_upstream_warnings()
    import_megatron()
    if is_simulated:
        on_cpu.patch_megatron()


def leave_without(layers: str) -> None:
    """End this stage as impossible where Transformer Engine is asked for and not here."""
    if layers == "torch":
        return
    if SIMULATED:
        missing = None if os.environ.get("TE_SOURCE") else "TE_SOURCE does not name the unpacked wheel of transformer_engine"
    else:
        missing = None if importlib.util.find_spec(ENGINE[0]) else "transformer_engine is not installed"
    if missing:
        print(json.dumps({"state": "impossible", "why": missing}))
        sys.exit(0)


def run_worker(program: str, *words) -> None:
    """Run another program of this folder; end this stage when it fails, whose output stands above."""
    done = subprocess.run([sys.executable, "-W", "ignore", str(HERE / program), *map(str, words)])
    if done.returncode:
        sys.exit(f"{program} {' '.join(map(str, words))}: exit code {done.returncode}")


def answer(faults: list[str], layers: str | None = None, **figures) -> None:
    """Print this stage's result, and end it."""
    simulated = {"simulated": OVER[layers]} if SIMULATED and layers else {}
    print(json.dumps({"state": "failed" if faults else "ok", "faults": faults, **simulated, **figures}))
    sys.exit(0)
