"""Mixtures and losses of many runs as two tables, in the files RegMix and Olmix use.

Olmix   ratios.csv: run_id[, name], one column per domain (shares that sum to 1); metrics.csv: run_id[, name], one per metric
RegMix  train_mixture_1m.csv: index, train_DOMAIN...; train_pile_loss_1m.csv: index, metric/DOMAIN_val_loss...
Both are read; Olmix's is written. A column `size_parameters` or `size_tokens` in the ratios is the run's size, not a domain.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import writing

__all__ = ["MixtureTable", "read_tables", "write_tables"]

KEYS = ("run_id", "index", "run")
UNNAMED = ("", "Unnamed: 0")  # the index that pandas writes
MISSING = ("", "na", "nan", "null", "none")
SIZES = ("size_parameters", "size_tokens")
SHARE_TOLERANCE = 0.01  # RegMix rounds shares to three digits


@dataclass(frozen=True, kw_only=True)
class MixtureTable:
    """Shares [runs, domains], sizes [runs, sizes] (0 columns where all are alike) and metrics [runs, metrics]; NaN where not measured.

    With `phases`, a domain is PHASE/NAME and its share that of the run's tokens which the phase read of it, so that a law over phases
    is a law over mixtures like any other.
    """

    runs: list[str]
    domains: list[str]
    shares: np.ndarray
    metrics: list[str]
    values: np.ndarray
    sizes: tuple[str, ...] = ()
    size_values: np.ndarray | None = None
    phases: tuple[str, ...] = ()
    trunks: tuple[str, ...] = ()  # what each run goes on from, "" for nothing; empty where that is not known
    in_one_file: tuple[str, ...] = ()  # runs of which one of the two files has no row

    @property
    def degrees_of_freedom(self) -> int:
        """Shares that can move: all but one, in each phase."""
        return len(self.domains) - max(1, len(self.phases))

    @property
    def described(self) -> str:
        """What its shares are of, in words."""
        if not self.phases:
            return f"{len(self.domains)} domains"
        return f"{len(self.domains) // len(self.phases)} domains in {len(self.phases)} phases"

    def totals(self) -> "MixtureTable":
        """Return the table of whole runs, phases added up."""
        if not self.phases:
            return self
        number = len(self.domains) // len(self.phases)
        names = [name.partition("/")[2] for name in self.domains[:number]]
        shares = self.shares.reshape(len(self.shares), len(self.phases), number).sum(axis=1)
        return replace(self, domains=names, shares=shares, phases=())

    def grouped(self, groups: dict[str, tuple[str, ...]]) -> "MixtureTable":
        """Return the table over groups of domains, in their order; what is in none of them is left out, and shares add up to 1 again."""
        names = self.totals().domains
        columns = self.shares.reshape(len(self.shares), max(1, len(self.phases)), len(names))
        members_of = [[names.index(name) for name in members if name in names] for members in groups.values()]
        summed = np.stack([columns[:, :, indices].sum(axis=2) for indices in members_of], axis=2)
        domains = [f"{phase}/{name}" for phase in self.phases for name in groups] if self.phases else list(groups)
        shares = summed.reshape(len(self.shares), -1)
        return replace(self, domains=domains, shares=shares / shares.sum(axis=1, keepdims=True))

    def of_phases(self, phases: tuple[str, ...]) -> "MixtureTable":
        """Return the table over some of its phases alone, their shares adding up to 1; over one, it is one of whole runs."""
        if not self.phases or tuple(phases) == self.phases:
            return self
        number = len(self.domains) // len(self.phases)
        columns = [self.phases.index(phase) * number + i for phase in phases for i in range(number)]
        shares = self.shares[:, columns]
        kept = replace(
            self, domains=[self.domains[i] for i in columns], shares=shares / shares.sum(axis=1, keepdims=True), phases=tuple(phases)
        )
        return kept.totals() if len(phases) == 1 else kept

    def rows(self, indices) -> "MixtureTable":
        """Return the table with these rows only."""
        indices = np.asarray(indices)
        sizes = None if self.size_values is None else self.size_values[indices]
        trunks = tuple(self.trunks[i] for i in indices) if self.trunks else ()
        return replace(
            self,
            runs=[self.runs[i] for i in indices],
            shares=self.shares[indices],
            values=self.values[indices],
            size_values=sizes,
            trunks=trunks,
        )


def read_tables(ratios, metrics) -> MixtureTable:
    """Read the two files and join them on the run; raises CorpusError naming file, line and fault."""
    ratio_columns, ratio_rows = read_csv(Path(ratios))
    metric_columns, metric_rows = read_csv(Path(metrics))
    runs = [run for run in ratio_rows if run in metric_rows]
    if not runs:
        raise CorpusError(f"{ratios} and {metrics}: no run is in both; they are joined on {' or '.join(KEYS)}")
    sizes = tuple(name for name in SIZES if name in ratio_columns)
    domains = [name for name in ratio_columns if name not in sizes]
    shares = np.array([[ratio_rows[run][name] for name in domains] for run in runs])
    sums = shares.sum(axis=1)
    if wrong := [run for run, total in zip(runs, sums, strict=True) if not abs(total - 1) <= SHARE_TOLERANCE]:
        at = runs.index(wrong[0])
        raise CorpusError(f"{ratios}: shares of run {wrong[0]} add up to {sums[at]:.3f}, not 1 ({len(wrong)} such runs)")
    if (shares < 0).any():
        at, which = map(int, np.argwhere(shares < 0)[0])
        raise CorpusError(f"{ratios}: run {runs[at]} has a share of {shares[at, which]:g} of {domains[which]}; shares are at least 0")
    return MixtureTable(
        runs=runs,
        in_one_file=tuple(sorted(ratio_rows.keys() ^ metric_rows.keys())),
        domains=[name.removeprefix("train_") for name in domains],
        shares=shares / sums[:, None],
        metrics=[name.removeprefix("metric/") for name in metric_columns],
        values=np.array([[metric_rows[run][name] for name in metric_columns] for run in runs]),
        sizes=sizes,
        size_values=np.array([[ratio_rows[run][name] for name in sizes] for run in runs]) if sizes else None,
    )


def read_csv(path: Path) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Return the columns of numbers and run -> column -> value."""
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            lines = list(csv.reader(handle))
    except OSError as fault:
        raise CorpusError(f"{path}: cannot be read ({fault.strerror})") from None
    if len(lines) < 2:
        raise CorpusError(f"{path}: holds no rows")
    header = lines[0]
    key = next((i for i, name in enumerate(header) if name in KEYS), None)
    if key is None:
        raise CorpusError(f"{path}:1: no column {' or '.join(KEYS)}; found {', '.join(header[:5])}")
    columns = {i: name for i, name in enumerate(header) if i != key and name not in ("name", *KEYS, *UNNAMED)}
    rows = {}
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        if len(line) != len(header):
            raise CorpusError(f"{path}:{number}: {len(line)} values under {len(header)} columns")
        if line[key] in rows:
            raise CorpusError(f"{path}:{number}: run {line[key]} is listed twice")
        try:
            rows[line[key]] = {name: np.nan if line[i].strip().lower() in MISSING else float(line[i]) for i, name in columns.items()}
        except ValueError as fault:
            raise CorpusError(f"{path}:{number}: {fault}") from None
    return list(columns.values()), rows


def write_tables(table: MixtureTable, folder) -> tuple[Path, Path]:
    """Write ratios.csv and metrics.csv as Olmix reads them and return their paths."""
    folder = Path(folder)
    sizes = table.size_values if table.size_values is not None else np.empty((len(table.runs), 0))
    ratios = write_csv(folder / "ratios.csv", [*table.domains, *table.sizes], table.runs, np.hstack([table.shares, sizes]))
    return ratios, write_csv(folder / "metrics.csv", table.metrics, table.runs, table.values)


def write_csv(path: Path, columns: list[str], runs: list[str], values: np.ndarray) -> Path:
    """Write one table; an unknown value is left empty."""
    with writing(path) as handle:
        out = csv.writer(handle, lineterminator="\n")
        out.writerow(["run_id", *columns])
        for run, row in zip(runs, values, strict=True):
            out.writerow([run, *("" if np.isnan(value) else repr(float(value)) for value in row)])
    return path
