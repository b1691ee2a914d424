"""A run folder with records like those of a real run, made from curves."""

import json
import math
from pathlib import Path

import pytest
from tiny_run import RECIPE

from codemix_megatron.recipe.reading import build_recipe, write_recipe
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import BitsPerByte, Scores, TaskScore

STEPS, BATCH = (12, 8), 512
COUNTS = ({"prose": 48 * 64, "snippets": 48 * 64}, {"prose": 51 * 64, "snippets": 13 * 64})


def make_plan() -> dict:
    """Return plan.json's content for two phases."""
    phases, first, epochs = [], 1, {"prose": 0.0, "snippets": 0.0}
    for name, steps, counts in zip(("balanced", "cooldown"), STEPS, COUNTS, strict=True):
        sources = {}
        for source, tokens in counts.items():
            before, epochs[source] = epochs[source], epochs[source] + tokens / 10_000
            share = tokens / sum(counts.values())
            sources[source] = {
                "share": share,
                "sequences": tokens // 64,
                "tokens": tokens,
                "epochs_before": before,
                "epochs_after": epochs[source],
            }
        phases.append(
            {"name": name, "first_step": first, "steps": steps, "sequences": steps * 8, "tokens": steps * BATCH, "sources": sources}
        )
        first += steps
    return {
        "name": "tiny",
        "steps": sum(STEPS),
        "batch_tokens": BATCH,
        "sequence_length": 64,
        "parameters": {"total": 180_000, "without_embedding": 140_000},
        "flops": {"per_token": 1_000_000, "total": 1e10},
        "layout": {"tensor": 2, "pipeline": 2, "data": 1},
        "phases": phases,
        "sources": {name: {"kind": kind} for name, kind in (("prose", "text"), ("snippets", "code"))},
    }


def make_journal(stop_at: int | None, last: int) -> list[dict]:
    """Return the events of a run that was stopped once and resumed, up to step `last`."""
    events = [{"event": "start", "step": 0, "ranks": 4, "at": "2026-03-01T10:00:00+00:00"}]
    consumed = {"prose": 0, "snippets": 0}
    for step in range(1, last + 1):
        phase = 0 if step <= STEPS[0] else 1
        done, of = step - (0 if phase == 0 else STEPS[0]), STEPS[phase]
        base = {"prose": 0, "snippets": 0} if phase == 0 else COUNTS[0]
        consumed = {s: base[s] + COUNTS[phase][s] * done // of for s in COUNTS[phase]}
        loss = 6 * math.exp(-step / 8) + 1
        events.append(
            {
                "event": "step",
                "step": step,
                "phase": ("balanced", "cooldown")[phase],
                "tokens": step * BATCH,
                "sequences": step * 8,
                "loss": loss,
                "loss_per_source": {"prose": loss + 0.1, "snippets": loss - 0.1},
                "tokens_per_source": consumed,
                "learning_rate": 1e-3 * (1 - step / 30),
                "gradient_norm": 1.0,
                "seconds": 0.5,
                "tokens_per_second": 1024.0,
                "model_flops_per_second": 1e9,
            }
        )
        if step % 4 == 0:
            events.append(
                {
                    "event": "validation",
                    "step": step,
                    "phase": "",
                    "tokens": step * BATCH,
                    "loss_per_source": {},
                    "bits_per_byte": {"prose": loss / 2, "snippets": loss / 3},
                }
            )
        if step == stop_at:
            events += [{"event": "stop", "step": step, "reason": "asked to stop"}, {"event": "start", "step": step, "ranks": 4}]
    return events + ([{"event": "end", "step": last}] if last == sum(STEPS) else [])


def make_run(folder: Path, name: str = "tiny", last: int = sum(STEPS), value: float = 2.25, complete: bool = True) -> RunFolder:
    """Write a run folder; without `complete` it has no plan, export or scores."""
    folder.mkdir(parents=True)
    run = RunFolder(folder)
    run.recipe.write_text(write_recipe(build_recipe({**RECIPE, "name": name}, directory=folder)))
    run.journal.write_text("".join(json.dumps(e) + "\n" for e in make_journal(7 if complete else None, last)))
    run.environment.write_text(json.dumps({"versions": {"torch": "2.13.0"}, "command": ["codemix"], "ranks": 4}))
    if complete:
        run.plan.write_text(json.dumps(make_plan()))
        run.export(20).mkdir(parents=True)
        parity = {"largest_logit_difference": 3.1e-6, "tolerance": 1e-4, "tokens_compared": 1536, "compared_on": "held-out documents"}
        (run.export(20) / "export.json").write_text(json.dumps({"step": 20, "tokens": 20 * BATCH, "parity": parity}))
        bits = [
            BitsPerByte(corpus=c, value=v, standard_error=0.031, documents=9, tokens=900, bytes=3100)
            for c, v in (("prose", value), ("snippets", 1.5))
        ]
        tasks = [
            TaskScore(
                suite="continuation", task="continuation_prose", metric="acc", value=0.27, standard_error=0.05, items=80, chance=0.25
            ),
            TaskScore(
                suite="continuation", task="continuation_snippets", metric="acc", value=0.61, standard_error=0.05, items=80, chance=0.25
            ),
        ]
        Scores(model=str(run.export(20)), step=20, tokens=20 * BATCH, bits_per_byte=bits, tasks=tasks).write(run.score_file(20))
    return run


@pytest.fixture
def finished(tmp_path) -> RunFolder:
    """A run that ended, was exported and scored."""
    return make_run(tmp_path / "finished")
