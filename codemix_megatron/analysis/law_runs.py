"""Run folders as rows of the mixture table: what each consumed, how large it is, what it scored."""

from pathlib import Path

import numpy as np

from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.journal import read_journal
from codemix_megatron.records.run_folder import RunFolder, saved_step, step_of
from codemix_megatron.records.scores import Scores

__all__ = ["find_runs", "table_of_runs"]


def find_runs(folders) -> list[RunFolder]:
    """Return the run folders among those given and directly under them; raises CorpusError where there is none."""
    found = []
    for folder in map(Path, folders):
        candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
        found += [RunFolder(path) for path in candidates if (path / "journal.jsonl").is_file() and (path / "plan.json").is_file()]
    if not found:
        raise CorpusError(f"{', '.join(map(str, folders))}: no run folders there")
    return found


def table_of_runs(runs: list[RunFolder]) -> MixtureTable:
    """Return one row per run: realised shares of all tokens, parameters and tokens, and every main score of the newest evaluation.

    Where a run has no scores, its last held-out bits per byte while training stand in.
    """
    rows = [row for row in map(row_of, runs) if row is not None]
    if not rows:
        raise CorpusError("none of the runs has both trained and been measured; run `codemix evaluate` on them")
    domains = list(dict.fromkeys(name for row in rows for name in row["shares"]))
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    names = [row["name"] for row in rows]
    sizes = np.array([[row["parameters"], row["tokens"]] for row in rows], dtype=float)
    varying = [i for i in range(2) if len(set(sizes[:, i])) > 1]
    return MixtureTable(
        runs=[name if names.count(name) == 1 else str(row["path"]) for name, row in zip(names, rows, strict=True)],
        domains=domains,
        shares=np.array([[row["shares"].get(name, 0.0) for name in domains] for row in rows]),
        metrics=metrics,
        values=np.array([[row["metrics"].get(name, np.nan) for name in metrics] for row in rows]),
        sizes=tuple(("size_parameters", "size_tokens")[i] for i in varying),
        size_values=sizes[:, varying] if varying else None,
    )


def row_of(run: RunFolder) -> dict | None:
    """Return what one run's records say, None when it has not trained or measured anything."""
    events = read_journal(run.journal)
    steps = [event for event in events if event.get("event") == "step"]
    if not steps:
        return None
    tokens = {name: count for name, count in steps[-1]["tokens_per_source"].items() if count}
    metrics = metrics_of(run, events)
    if not metrics:
        return None
    plan = read_json(run.plan)
    return {
        "name": plan.get("name", run.path.name),
        "path": run.path,
        "shares": {name: count / sum(tokens.values()) for name, count in tokens.items()},
        "metrics": metrics,
        "parameters": plan.get("parameters", {}).get("total", 1),
        "tokens": steps[-1]["tokens"],
    }


def metrics_of(run: RunFolder, events: list[dict]) -> dict[str, float]:
    """Return the newest scores by name."""
    files = sorted((p for p in run.scores.glob("step-*.json") if step_of(p.stem) is not None), key=lambda p: saved_step(p.stem))
    if files:
        scores = Scores.read(files[-1])
        found = {f"{b.corpus} bits_per_byte": b.value for b in scores.bits_per_byte}
        found |= {f"{a.suite} {a.name}": a.value for a in scores.aggregates}
        return found | {f"{t.task} {t.metric}": t.value for t in scores.tasks if t.is_main}
    validations = [event for event in events if event.get("event") == "validation"]
    return {f"{name} bits_per_byte": value for name, value in validations[-1]["bits_per_byte"].items()} if validations else {}
