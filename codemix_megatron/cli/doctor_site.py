"""codemix doctor --site: a toy run on two nodes of a cluster, by the way every run takes, and what it says of the site."""

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import yaml

from codemix_megatron.errors import CodemixError
from codemix_megatron.launch.slurm.attempts import Attempts
from codemix_megatron.launch.slurm.commands import cancel, job_states
from codemix_megatron.launch.slurm.site import Site, read_site
from codemix_megatron.launch.slurm.training_job import submit_training
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import EndEvent, PreflightEvent, StartEvent, StepEvent, WarningEvent
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["try_site"]

STEPS, LENGTH, VOCABULARY = 4, 64, 512
SLOW_BYTES_PER_SECOND = {"cpu": 0.1e9, "cuda": 5e9}  # below it a network is not what runs on many nodes need
POLL_SECONDS = 2.0
MINUTES = 5


def try_site(path: str, wait_seconds: float, say) -> int:
    """Train a toy on two nodes and say what came of it; return 0 when it worked, 1 when it did not."""
    if wait_seconds <= 0:
        raise CodemixError(f"--wait: found {wait_seconds:g}, must be above 0 seconds")
    site = replace(read_site(path), time_limit_hours=MINUTES / 60, save_seconds=60, max_starts_without_progress=1)
    folder = Path(f"doctor-{datetime.now():%Y%m%d-%H%M%S}").absolute()
    ranks = 2 * site.ranks_on_a_node
    recipe = prepare_toy(folder, ranks)
    job = submit_training(recipe, (), RunFolder(folder / "run"), site, ranks)
    say(f"job {job.id}: two nodes x {site.ranks_on_a_node} ranks, {STEPS} steps of a toy, in {folder}")
    if not wait_for(job.id, wait_seconds, say):
        return 1
    return report_trial(RunFolder(folder / "run"), job.log, site, say)


def prepare_toy(folder: Path, ranks: int) -> Path:
    """Write a recipe over the sources of Python's standard library and prepare its corpus; return the recipe's path."""
    from codemix_megatron.cli.main import dispatch

    folder.mkdir()
    sequences = 2 * ranks
    plain = {
        "name": "doctor",
        "model": {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "ffn_hidden_size": 128, "sequence_length": LENGTH},
        "parallel": {"timeout_seconds": 120, "preflight": "warn"},
        "batch": {"global_sequences": sequences, "micro_sequences": 1},
        "tokenizer": {"path": str(folder / "tokenizer.json"), "train_vocab_size": VOCABULARY},
        "corpora": {"code": {"kind": "code", "documents": ["python:code"], "max_epochs": 1000, "prefix": str(folder / "code")}},
        "phases": [
            {"name": "toy", "tokens": STEPS * sequences * LENGTH, "mixture": {"code": 1.0}, "learning_rate": {"schedule": "constant", "peak": 1e-3}}
        ],
        "evaluation": {"held_out_share": 0.1, "held_out_sequences": 1, "items": 1},
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(plain, sort_keys=False))
    read_recipe(path)
    dispatch(["prepare", str(path)])
    return path


def wait_for(job: str, seconds: float, say) -> bool:
    """Wait until a job has ended, saying why it waits; cancel it and return False when that takes too long."""
    limit, told = time.monotonic() + seconds, ""
    while True:
        state = job_states([job]).get(job)
        if state is None or not state.is_active:
            return True
        now = f"{state.state.lower()}{f' ({state.reason})' if state.reason not in ('', 'None') else ''}"
        if now != told:
            say(f"job {job}: {now}")
            told = now
        if time.monotonic() > limit:
            cancel([job])
            say(f"FAILS  job {job} has not ended within {seconds:.0f} s ({now}) and is cancelled; --wait allows more")
            return False
        time.sleep(POLL_SECONDS)


def report_trial(run: RunFolder, log: Path, site: Site, say) -> int:
    """Say what the run's records mean for the site."""
    events = read_events(run.journal)
    ends = Attempts.of(run).ended
    if not events or not isinstance(events[-1], EndEvent):
        why = ends[-1].why if ends else "it left no record; is the directory on a disk that nodes see?"
        say(f"FAILS  {why}\n       log: {log}")
        return 1
    start, preflight, steps = of_kind(events, StartEvent)[-1], of_kind(events, PreflightEvent)[-1], of_kind(events, StepEvent)
    say(f"ok     {preflight.nodes} nodes x {site.ranks_on_a_node} ranks on {preflight.device or start.device} trained together")
    for what, rates in (("within", preflight.bytes_per_second_within), ("between", preflight.bytes_per_second_between)):
        if rates:
            say(rate_line(what, min(rates.values()), start.device, site))
    median = sorted(step.seconds for step in steps)[len(steps) // 2]
    say(f"ok     a step takes {median:.3f} s; clocks differ by {preflight.clock_seconds or 0} s")
    for event in of_kind(events, WarningEvent):
        say(f"look   {event.text}")
    say(f"what was tried is in {run.path.parent}; remove it when you have seen it")
    return 0


def rate_line(what: str, rate: float, device: str, site: Site) -> str:
    """Return what a rate of data says of the network."""
    words = "ranks of one node exchange" if what == "within" else "nodes exchange"
    if rate >= SLOW_BYTES_PER_SECOND.get(device, 0.0):
        return f"ok     {words} {rate / 1e9:.2f} GB/s"
    advice = (
        f"network_interface is {site.network_interface}; is there a faster one?"
        if site.network_interface
        else "set network_interface to the fast one"
    )
    return f"look   {words} {rate / 1e9:.2f} GB/s, which is slow; {advice} (NCCL_DEBUG=INFO in the site's environment says what NCCL uses)"
