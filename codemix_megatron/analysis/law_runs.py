"""Run folders as rows of the mixture table: what each phase consumed, parents included, how large the run is, what it scored."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from codemix_megatron.analysis.law_measurements import Found, columns_of, listed, measurements_of
from codemix_megatron.analysis.law_tables import MixtureTable
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.events import StepEvent
from codemix_megatron.records.journal import read_events, surviving
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["RunRow", "TableOfRuns", "find_runs", "table_of_runs"]

SMALL_PARAMETERS = 15_000_000
BEFORE = "before"  # the phase of a parent whose folder is gone: only its totals are known


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What one run's records say of the step it was measured after: phases of the whole chain in order, each (name, tokens per source)."""

    name: str
    path: Path
    phases: list[tuple[str, dict[str, int]]]
    measured: Found
    parameters: int
    tokens: int
    trunk: str = ""  # folder and step that it goes on from


@dataclass(frozen=True, kw_only=True)
class TableOfRuns:
    """The table, over phases where all runs have as many of them (two or more), and what a reader has to know of it."""

    table: MixtureTable
    notes: list[str] = field(default_factory=list)


def find_runs(folders) -> list[RunFolder]:
    """Return the run folders among those given and directly under them, each once; raises CorpusError where there is none."""
    found: dict[Path, RunFolder] = {}
    for folder in map(Path, folders):
        candidates = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())] if folder.is_dir() else []
        runs = [path for path in candidates if (path / "journal.jsonl").is_file() and (path / "plan.json").is_file()]
        found = {path.resolve(): RunFolder(path) for path in runs} | found
    if not found:
        raise CorpusError(f"{', '.join(map(str, folders))}: no run folders there")
    return [*found.values()]


def table_of_runs(runs: list[RunFolder]) -> TableOfRuns:
    """Return one row per run: realised shares of all tokens, parameters and tokens, and every main score of the newest evaluation.

    Where some run is not evaluated, held-out bits per byte are those that all runs measured while training. Shares, tokens and scores are
    of one step, whatever the run has trained since.
    """
    found = [row_of(run) for run in runs]
    rows = [row for row in found if row is not None]
    if not rows:
        raise CorpusError("none of the runs has both trained and been measured; run `codemix evaluate` on them")
    domains = list(dict.fromkeys(name for row in rows for _, tokens in row.phases for name in tokens))
    names = [row.name for row in rows]
    names = [name if names.count(name) == 1 else str(row.path) for name, row in zip(names, rows, strict=True)]
    columns, notes = columns_of(names, [row.measured for row in rows])
    sizes = np.array([[row.parameters, row.tokens] for row in rows], dtype=float)
    varying = [i for i in range(2) if len(set(sizes[:, i])) > 1]
    phases, shares = phases_and_shares(rows, domains)
    table = MixtureTable(
        runs=names,
        domains=[f"{phase}/{name}" for phase in phases for name in domains] if phases else domains,
        shares=shares,
        metrics=[*columns],
        values=np.array([*columns.values()]).T,
        sizes=tuple(("size_parameters", "size_tokens")[i] for i in varying),
        size_values=sizes[:, varying] if varying else None,
        phases=phases,
        trunks=tuple(row.trunk for row in rows),
    )
    if left_out := [run.path.name for run, row in zip(runs, found, strict=True) if row is None]:
        notes.append(f"{len(left_out)} of {len(runs)} runs have not trained or not been measured and are left out: {listed(left_out)}")
    return TableOfRuns(table=table, notes=[*notes, *notes_on(rows, phases)])


def notes_on(rows: list[RunRow], phases: tuple[str, ...]) -> list[str]:
    """Say what the numbers cannot."""
    notes = []
    counts = sorted({len(row.phases) for row in rows})
    if not phases and len(counts) > 1:
        which = ", ".join(f"{sum(len(row.phases) == n for row in rows)} runs of {n}" for n in counts)
        notes.append(f"runs differ in their number of phases ({which}): the law sees whole runs, and not in which phase a corpus was read")
    if (largest := max(row.parameters for row in rows)) < SMALL_PARAMETERS:
        notes.append(
            f"the largest run has {largest / 1e6:.1f}M parameters: proxies of 15M and more ranked mixtures at 1B with a correlation above 0.89,"
            " those of 1M with 0.73 (as Olmix reports)"
        )
    return notes


def phases_and_shares(rows: list[RunRow], domains: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the phases (none where runs have one, or not as many as each other) and the shares [runs, phases x domains]."""
    count = len(rows[0].phases)
    tokens = [[[tokens.get(name, 0) for name in domains] for _, tokens in row.phases] for row in rows]
    if count < 2 or any(len(row.phases) != count for row in rows):
        totals = np.array([np.sum(row, axis=0) for row in tokens], dtype=float)
        return (), totals / totals.sum(axis=1, keepdims=True)
    named = [{row.phases[i][0] for row in rows} for i in range(count)]
    phases = tuple(found.pop() if len(found) == 1 else f"phase {i}" for i, found in enumerate(named, 1))
    if len(set(phases)) < count:
        phases = tuple(f"phase {i}" for i in range(1, count + 1))
    shares = np.array(tokens, dtype=float).reshape(len(rows), -1)
    return phases, shares / shares.sum(axis=1, keepdims=True)


def row_of(run: RunFolder) -> RunRow | None:
    """Return what one run's records say, None when it has not trained or measured anything."""
    events = read_events(run.journal)
    measured = measurements_of(run, events)
    steps = [event for event in surviving(events, StepEvent) if measured is not None and event.step <= measured.step]
    if measured is None or not measured.found or not steps:
        return None
    plan = read_json(run.plan)
    branch = plan.get("branch")
    return RunRow(
        name=plan.get("name", run.path.name),
        path=run.path,
        phases=phases_of(run, plan, steps),
        measured=measured.found,
        parameters=plan.get("parameters", {}).get("total", 1),
        tokens=steps[-1].tokens,
        trunk=f"{branch['run']}@{branch['step']}" if branch else "",
    )


def phases_of(run: RunFolder, plan: dict, steps: list[StepEvent]) -> list[tuple[str, dict[str, int]]]:
    """Return (name, tokens per source) of the phases trained so far, those of the parents before them."""
    branch = plan.get("branch")
    consumed = {name: count * plan.get("sequence_length", 0) for name, count in branch["consumed"].items()} if branch else {}
    phases = parent_phases(branch, consumed) if branch else []
    ends: dict[str, dict[str, int]] = {}
    for event in steps:
        ends[event.phase] = event.tokens_per_source
    before = consumed
    for name, now in ends.items():
        phases.append((name, {source: more for source, total in now.items() if (more := total - before.get(source, 0))}))
        before = {**before, **now}
    return phases


def parent_phases(branch: dict, consumed: dict[str, int]) -> list[tuple[str, dict[str, int]]]:
    """Return the phases of the parent up to the step that was branched from; one of totals only where its folder is gone."""
    parent = RunFolder(branch["run"])
    steps = [event for event in surviving(read_events(parent.journal), StepEvent) if event.step <= branch["step"]]
    if not steps or not parent.plan.is_file():
        return [(BEFORE, {name: count for name, count in consumed.items() if count})]
    return phases_of(parent, read_json(parent.plan), steps)
