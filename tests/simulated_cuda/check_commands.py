"""`codemix doctor`, `train` and `evaluate --live` on simulated CUDA, as a user starts them: two ranks, stopped on torch's layers, resumed on
Transformer Engine's."""

import json
import subprocess
import sys
import time
from pathlib import Path

import yaml
from processes import HERE, environment_of

from codemix_megatron.ports import reserve_port

__all__ = ["check_commands"]

RANKS, STOP_AFTER, LONGEST_SECONDS = 2, 6, 1800
LARGEST_DIFFERENCE = 2e-2  # nats, bf16 of one kind of layers beside the other's


def check_commands(folder: Path) -> dict:
    """Run all of them; compare the run that changed its layers with one that did not."""
    import tiny_run

    tiny_run.make_documents(folder)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(tiny_run.RECIPE)))
    command(folder, None, 1, ["prepare", "recipe.yaml"])
    faults = [line for line in command(folder, "transformer-engine", 1, ["doctor"])[0].splitlines() if " FAILS " in line]
    recorded = ["--profile", "3-4", "--memory-snapshot", "3-4"]
    command(folder, "cuda", RANKS, ["train", "recipe.yaml", "--folder", "changed", *recorded], stop=folder / "changed")
    command(folder, "transformer-engine", RANKS, ["train", "recipe.yaml", "--folder", "changed"])
    command(folder, "cuda", RANKS, ["train", "recipe.yaml", "--folder", "straight"])
    live = ["evaluate", "changed", "--live", "--suite", "bits_per_byte", "--items", "4", "--tensor", "2"]
    command(folder, "transformer-engine", RANKS, live)
    changed, straight = (losses_of(folder / run / "journal.jsonl") for run in ("changed", "straight"))
    largest = max((abs(changed[step] - straight[step]) for step in straight if step in changed), default=float("inf"))
    files = sorted(path.relative_to(folder / "changed").as_posix() for path in (folder / "changed" / "profiles").rglob("rank-*"))
    scores = sorted(path.name for path in (folder / "changed" / "scores").glob("step-*.json"))
    print(f"{len(changed)} steps stopped and resumed, {len(straight)} straight, losses {largest:.1e} apart; {files}; {scores}", flush=True)
    faults += [] if changed.keys() == straight.keys() else [f"steps {sorted(changed)} and {sorted(straight)}"]
    faults += [] if largest <= LARGEST_DIFFERENCE else [f"losses are {largest:.1e} apart"]
    faults += [] if len(files) == 2 * RANKS and scores else [f"recorded {files}, scored {scores}"]
    return {"steps": len(changed), "largest_loss_difference": largest, "recorded": len(files), "scored": len(scores), "faults": faults}


def recipe_of(tiny: dict) -> dict:
    """Return a recipe in bf16 with documents apart, asynchronous saves, straggler detection and norms by kind of weight."""
    return {
        **tiny,
        "model": {**tiny["model"], "precision": "bf16"},
        "parallel": {"device": "cuda", "timeout_seconds": 600, "heartbeat_seconds": 600, "preflight": "warn"},
        "sequences": {"attention_within_documents": True},
        "checkpoint": {"every_steps": 5, "asynchronous": True},
        "observers": {"straggler_every_steps": 4, "gradient_norms_every_steps": 4},
    }


def command(folder: Path, kind: str | None, ranks: int, words: list[str], stop: Path | None = None) -> list[str]:
    """Run one command of codemix on so many ranks and return what each printed; `stop` is a run to stop after some steps."""
    program = [str(HERE / "commands.py"), kind] if kind else ["-m", "codemix_megatron"]
    port = reserve_port() if ranks > 1 else None
    started = []
    for rank in range(ranks):
        joined = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        joined |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port.getsockname()[1]} if port else {}
        named = {name: str(value) for name, value in joined.items()} if port else {}
        environment = environment_of(named, is_simulated=kind is not None)
        output = (folder / f"output-{rank}").open("w+")
        started.append(
            (
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", *program, *words], cwd=folder, env=environment, stdout=output, stderr=output
                ),
                output,
            )
        )
    if stop:
        ask_to_stop(stop, [process for process, _ in started])
    try:
        return [ended(process, output, words, folder) for process, output in started]
    finally:
        for process, _ in started:
            process.kill()


def ended(process: subprocess.Popen, output, words: list[str], folder: Path) -> str:
    """Wait for a rank and return what it printed; its failure ends the check, with the logs of ranks."""
    code = process.wait(LONGEST_SECONDS)
    output.seek(0)
    text = output.read()
    if code:
        logs = "".join(f"{path}:\n{path.read_text()[-2500:]}\n" for path in sorted(folder.rglob("logs/rank-*.log")))
        sys.exit(f"codemix {' '.join(words)}: exit code {code}\n{text[-4000:]}\n{logs}")
    return text


def ask_to_stop(run: Path, processes: list[subprocess.Popen]) -> None:
    """Wait for some steps, and ask."""
    while len(losses_of(run / "journal.jsonl")) < STOP_AFTER and all(process.poll() is None for process in processes):
        time.sleep(0.05)
    (run / "stop").touch()


def losses_of(journal: Path) -> dict[int, float]:
    """Return step -> loss, of what is there of a journal."""
    found = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:  # its end is being written
            continue
        if event.get("event") == "step":
            found[event["step"]] = event["loss"]
    return found
