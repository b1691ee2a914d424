"""Every layout as any rank of any world, and the memory of a step beside what `codemix plan` says."""

import json
import re
import sys
from pathlib import Path

from layouts import memory_cases, shape_cases
from processes import run, stub_libraries

__all__ = ["check_memory", "check_shapes"]

ENGINES = ("local", "transformer engine")
LARGEST_MEMORY_ERROR = 0.05  # of the simulated peak
# Where the host may wait for the device in a step, and why.
KNOWN_WAITS = {
    "item megatron/core/optimizer/clip_grads.py": "the gradient norm is a number of Python",
    "cpu train/engine.py": "losses and flags of a step",
    "synchronize train/timing.py": "the end of a step",
    "cpu model/document_attention.py": "borders of documents, once a step",
    "synchronize megatron/core/pipeline_parallel/p2p_communication.py": "megatron-core's batched sends and receives, once for each",
}


def check_shapes(folder: Path) -> dict:
    """Build and step every layout on local layers and on Transformer Engine's."""
    done, faults, waits = 0, [], set()
    for engine in ENGINES:
        cases = {case["name"]: case for case in shape_cases(engine, "--quick" in sys.argv)}
        for found in run_shapes(list(cases.values()), folder, engine):
            name, fault = f"{engine}, {found['name']}", fault_of(found, cases[found["name"]])
            print(f"{engine:<20} {found['name']:<70} {fault or found.get('refused') or 'ok'} {found.get('seconds', '')} s", flush=True)
            done += 1
            faults += [f"{name}: {fault}"] if fault else []
            waits |= {wait.rpartition(":")[0] for wait in found.get("waits", {})}
            faults += [f"{name}: {what}" for what in found.get("at_build", {}) if "gloo" in what or "mask" in what]
    unknown = sorted(waits - set(KNOWN_WAITS))
    return {"cases": done, "waits": sorted(waits), "faults": faults + [f"a wait that is not known: {wait}" for wait in unknown]}


def fault_of(found: dict, case: dict) -> str | None:
    """Return what is wrong with a result: it failed, or was to be refused and was not."""
    wanted = case.get("refused")
    if wanted is None:
        return found.get("fault")
    if re.search(wanted, found.get("fault", "")):
        found["refused"] = "refused"
        return None
    return f"was to be refused ({wanted}), found {found.get('fault', 'no refusal')}"


def check_memory(folder: Path) -> dict:
    """Compare what the planner says of memory with the peak of a step, for both sizes at each layout, on both kinds of layers."""
    errors, faults = {}, []
    for engine in ENGINES:
        for found in run_shapes(memory_cases(engine), folder, engine):
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
