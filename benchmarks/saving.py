"""How long training stands still for a checkpoint: written synchronously and asynchronously, in one run of this program.

    python benchmarks/saving.py [--ranks 1] [--steps 12] [--every 3]

A model of about 10 million parameters (fp32 weights and Adam: 12 bytes each) is trained twice through `codemix train`,
with the same recipe but for `checkpoint.asynchronous`; the last save of a run is always waited for and not counted.
`stall_seconds` is what the training loop stood still for, planning and copying and finishing together;
`slower_steps_seconds` what the steps took longer in all while a thread wrote beside them, per save. The last line is JSON.
`measure` is what other benchmarks call.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tiny_run import RECIPE, Tiny, make_documents

MODEL = {"num_layers": 6, "hidden_size": 384, "num_attention_heads": 6, "num_query_groups": 6, "ffn_hidden_size": 1024}


def main() -> int:
    """Measure both ways, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=1, help="data-parallel ranks (default: 1)")
    parser.add_argument("--steps", type=int, default=12, help="steps of each run (default: 12)")
    parser.add_argument("--every", type=int, default=3, help="steps between saves (default: 3)")
    arguments = parser.parse_args()
    found = measure(arguments.ranks, arguments.steps, arguments.every)
    for way in ("synchronous", "asynchronous"):
        print(f"{way:<13}" + "  ".join(f"{key} {value:.3f}" for key, value in found[way].items()))
    share = found["asynchronous"]["stall_seconds"] / found["synchronous"]["stall_seconds"]
    print(json.dumps({**found, "stall_asynchronous_over_synchronous": share, "target": "<= 0.5", "met": share <= 0.5}))
    return 0


def measure(num_ranks: int = 1, steps: int = 12, every: int = 3) -> dict:
    """Return megabytes of a checkpoint and, for each way of saving, medians over its saves in seconds."""
    with tempfile.TemporaryDirectory(prefix="codemix-saving-") as folder:
        tiny = prepare(Path(folder), steps)
        found = {}
        for way in ("synchronous", "asynchronous"):
            words = [f"parallel.data={num_ranks}", f"checkpoint.every_steps={every}", f"checkpoint.asynchronous={way == 'asynchronous'}"]
            done = tiny.train(way, *words, timeout=900)
            assert done.returncode == 0, done.stderr
            found[way] = figures(tiny, way)
        both = [sum(e["seconds"] for e in tiny.events(way)[1:]) for way in ("synchronous", "asynchronous")]
        saves = len(tiny.events("asynchronous", "checkpoint")) - 1
        found["asynchronous"]["slower_steps_seconds"] = (both[1] - both[0]) / saves
        megabytes = tiny.events("synchronous", "checkpoint")[0]["bytes"] / 1e6
    return {"checkpoint_megabytes": round(megabytes, 1), "ranks": num_ranks, "saves": saves, **found}


def prepare(folder: Path, steps: int) -> Tiny:
    """Make corpora and the recipe."""
    tiny = Tiny(folder)
    make_documents(folder)
    recipe = json.loads(json.dumps(RECIPE))
    recipe["model"] |= MODEL
    recipe["phases"] = [{**recipe["phases"][0], "tokens": steps * 512}]
    tiny.recipe.write_text(yaml.safe_dump(recipe, sort_keys=False))
    done = tiny.codemix("prepare", tiny.recipe)
    assert done.returncode == 0, done.stderr
    return tiny


def figures(tiny: Tiny, run: str) -> dict:
    """Return the medians of one run's saves, the last left out, and of its steps."""
    saves = tiny.events(run, "checkpoint")[:-1]
    return {
        "stall_seconds": statistics.median(e["stall_seconds"] for e in saves),
        "whole_seconds": statistics.median(e["seconds"] for e in saves),
        "step_seconds": statistics.median(e["seconds"] for e in tiny.events(run)[1:]),
    }


if __name__ == "__main__":
    sys.exit(main())
