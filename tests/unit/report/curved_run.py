"""Run folders of any number of phases and sources, with smooth curves: what a long study looks like."""

import json
import math
from pathlib import Path

import numpy as np
from tiny_run import RECIPE

from codemix_megatron.recipe.reading import build_recipe, write_recipe
from codemix_megatron.records.run_folder import RunFolder

SEQUENCE, BATCH = 64, 16
SOURCES = {"text": "text", "code": "code"}
PHASES = {"balanced": {"text": 0.5, "code": 0.5}, "text": {"text": 0.9, "code": 0.1}, "cooldown": {"text": 0.8, "code": 0.2}}


def whole_sequences(shares: dict[str, float], sequences: int) -> dict[str, int]:
    """Return sequences per source by largest remainder."""
    counts = {source: int(share * sequences) for source, share in shares.items()}
    for source in sorted(shares, key=lambda s: counts[s] - shares[s] * sequences)[: sequences - sum(counts.values())]:
        counts[source] += 1
    return counts


def write_plan(run: RunFolder, sources, phases, steps: int) -> dict:
    """Write plan.json and return it."""
    planned, drawn = [], dict.fromkeys(sources, 0)
    for i, (name, shares) in enumerate(phases.items()):
        counts = whole_sequences(shares, steps * BATCH)
        entries = {}
        for source, sequences in counts.items():
            before, drawn[source] = drawn[source] / 900, drawn[source] + sequences
            entries[source] = {
                "share": shares[source],
                "sequences": sequences,
                "tokens": sequences * SEQUENCE,
                "epochs_before": before,
                "epochs_after": drawn[source] / 900,
            }
        phase = {"name": name, "first_step": i * steps + 1, "steps": steps, "sequences": steps * BATCH, "tokens": steps * BATCH * SEQUENCE}
        planned.append({**phase, "sources": entries})
    plan = {
        "name": run.path.name,
        "steps": steps * len(phases),
        "tokens": steps * len(phases) * BATCH * SEQUENCE,
        "batch_tokens": BATCH * SEQUENCE,
        "sequence_length": SEQUENCE,
        "global_sequences": BATCH,
        "parameters": {"total": 2_410_176, "without_embedding": 1_623_744},
        "flops": {"per_token": 15_630_336, "total": 1e13},
        "layout": {"tensor": 2, "pipeline": 2, "data": 1},
        "phases": planned,
        "sources": {
            source: {"kind": kind, "sequences_per_epoch": 900, "sequences": drawn[source], "tokens": drawn[source] * SEQUENCE}
            for source, kind in sources.items()
        },
    }
    run.plan.write_text(json.dumps(plan))
    return plan


def events_of(plan: dict, sources, last: int):
    """Yield the events of a run up to step `last`."""
    random = np.random.default_rng(1)
    yield {"event": "start", "step": 0, "ranks": 4, "device": "cpu", "at": "2026-03-01T10:00:00+00:00"}
    consumed, step = dict.fromkeys(sources, 0), 0
    for phase in plan["phases"]:
        base = dict(consumed)
        for done in range(1, phase["steps"] + 1):
            step += 1
            if step > last:
                return
            for source, entry in phase["sources"].items():
                consumed[source] = base[source] + entry["sequences"] * done // phase["steps"] * SEQUENCE
            level = 5.5 * math.exp(-step / (0.2 * plan["steps"])) + 2.5
            losses = {source: level + 0.2 * i + 0.1 * random.normal() for i, source in enumerate(phase["sources"])}
            here = {"step": step, "phase": phase["name"], "tokens": step * plan["batch_tokens"]}
            rate = 2e-3 * (1 - step / (plan["steps"] + 1))
            yield {
                "event": "step", **here, "sequences": step * BATCH, "loss": level, "loss_per_source": losses, "learning_rate": rate,
                "tokens_per_source": dict(consumed), "gradient_norm": 0.5 + random.random(), "seconds": 0.4,
            }  # fmt: skip
            if step % max(1, plan["steps"] // 18) == 0:
                bits = {source: (level + 0.2 * i) / (2.4 + 0.3 * i) for i, source in enumerate(sources)}
                yield {"event": "validation", **here, "loss_per_source": {}, "bits_per_byte": bits}
        yield {"event": "phase_end", "step": step, "phase": phase["name"]}
    yield {"event": "end", "step": step, "seconds": 0.4 * step}


def make_curved_run(folder: Path, sources=SOURCES, phases=PHASES, steps: int = 80, last: int | None = None) -> RunFolder:
    """Write a run folder without scores and export; `last` cuts it off."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    plain = {
        **RECIPE,
        "name": folder.name,
        "corpora": {name: {"kind": kind, "documents": [f"{name}.jsonl"]} for name, kind in sources.items()},
        "phases": [
            {"name": name, "tokens": steps * BATCH * SEQUENCE, "mixture": shares, "learning_rate": {"schedule": "constant", "peak": 2e-3}}
            for name, shares in phases.items()
        ],
    }
    run.recipe.write_text(write_recipe(build_recipe(plain, directory=folder)))
    run.environment.write_text(json.dumps({"versions": {"torch": "2.13.0"}, "command": ["codemix", "train"], "ranks": 4}))
    plan = write_plan(run, sources, phases, steps)
    last = plan["steps"] if last is None else last
    run.journal.write_text("".join(json.dumps(event) + "\n" for event in events_of(plan, sources, last)))
    return run
