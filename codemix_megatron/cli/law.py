"""codemix law: what mixtures do to losses, fitted over many runs, and which mixtures to try next."""

import sys
from dataclasses import asdict
from pathlib import Path

from codemix_megatron.errors import CodemixError, CorpusError

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix law runs/sweep-*                                         fit every measured score over the runs, with its held-out error
  codemix law runs/sweep-* --objective "text bits_per_byte" --tokens 400M --output laws/text
  codemix law --ratios ratios.csv --metrics metrics.csv            tables as Olmix has them, or RegMix's pair
  codemix law --ratios train_mixture_1m.csv --metrics train_pile_loss_1m.csv --objective the_pile_pile_cc_val_loss

The law is log-linear, loss = c + exp(k + t . shares), or gradient boosting, whichever does better on runs it has not seen (5-fold).
With --objective (repeatable: their mean, each in units of its spread) the next mixtures are proposed: the best, some for exploring,
and two controls. A run of --tokens reads no corpus more than --max-epochs times. --output writes ratios.csv and metrics.csv as Olmix
reads them, law.json, and proposals.yaml with a mixture block for each."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("runs", metavar="RUN", nargs="*", help="run folders, or folders of them")
    parser.add_argument("--ratios", metavar="CSV", help="shares per run, instead of run folders")
    parser.add_argument("--metrics", metavar="CSV", help="losses or scores per run")
    parser.add_argument("--objective", action="append", metavar="METRIC", help="what to make small (or large with --maximize); repeatable")
    parser.add_argument("--maximize", action="store_true", help="the objective is better when higher, as accuracies are")
    parser.add_argument("--kind", choices=["auto", "log_linear", "boosting"], default="auto", help="which law (default: the better one)")
    parser.add_argument("--tokens", metavar="N", help="tokens of the run to plan, such as 400M, for the epoch bound")
    parser.add_argument("--max-epochs", type=float, default=4.0, metavar="N", help="most passes over a corpus (default: 4)")
    parser.add_argument("--corpus-tokens", action="append", metavar="NAME=N", help="size of a corpus; default: from the runs' plans")
    parser.add_argument("--explore", type=int, default=3, metavar="N", help="mixtures for exploring (default: 3)")
    parser.add_argument("--output", metavar="DIR", help="where the tables, the law and the proposals go")


def run(arguments) -> int:
    """Read, fit, print; propose and write where asked."""
    from codemix_megatron.analysis.law_fitting import KINDS, fit_law, held_out_error

    table, sizes = read(arguments)
    kinds = KINDS if arguments.kind == "auto" else (arguments.kind,)
    metrics = arguments.objective or table.metrics
    errors, laws = {}, {}
    for metric in metrics:
        try:
            errors[metric] = {kind: held_out_error(table, metric, kind) for kind in kinds}
        except CorpusError as fault:
            if arguments.objective or (metric == metrics[-1] and not errors):
                raise
            sys.stderr.write(f"not fitted: {fault}\n")
            continue
        best = min(errors[metric], key=lambda kind: errors[metric][kind].root_mean_square)
        laws[metric] = fit_law(table, metric, best)
    print_errors(table, errors, laws)
    proposals = propose_next(table, laws, arguments, sizes) if arguments.objective else []
    if proposals:
        print_proposals(proposals, arguments.objective)
    if arguments.output:
        write(Path(arguments.output), table, errors, laws, proposals)
    return 0


def read(arguments):
    """Return the table and what is known of the corpora's sizes."""
    from codemix_megatron.analysis.law_runs import find_runs, table_of_runs
    from codemix_megatron.analysis.law_tables import read_tables
    from codemix_megatron.recipe.quantity import parse_tokens

    if bool(arguments.runs) == bool(arguments.ratios or arguments.metrics):
        raise CodemixError("give run folders, or --ratios and --metrics")
    if arguments.runs:
        found = find_runs(arguments.runs)
        table, sizes = table_of_runs(found), plan_sizes(found)
    else:
        if not (arguments.ratios and arguments.metrics):
            raise CodemixError("--ratios and --metrics belong together; give both")
        table, sizes = read_tables(arguments.ratios, arguments.metrics), {}
    for entry in arguments.corpus_tokens or []:
        name, equals, number = entry.partition("=")
        if not equals or name not in table.domains:
            raise CodemixError(f"--corpus-tokens: found {entry!r}, needs NAME=N with NAME one of {', '.join(table.domains)}")
        try:
            sizes[name] = parse_tokens(number)
        except ValueError as fault:
            raise CodemixError(f"--corpus-tokens {entry}: {fault}") from None
    return table, sizes


def plan_sizes(found) -> dict[str, int]:
    """Return the tokens of one pass over each corpus, as the runs planned them."""
    from codemix_megatron.records.atomic import read_json

    sizes = {}
    for run_folder in found:
        plan = read_json(run_folder.plan)
        for name, source in plan.get("sources", {}).items():
            if source.get("sequences_per_epoch") and plan.get("sequence_length"):
                sizes[name] = source["sequences_per_epoch"] * plan["sequence_length"]
    return sizes


def propose_next(table, laws, arguments, sizes_tokens: dict[str, int]):
    """Return proposals for the objective, at the largest size among the runs."""
    import numpy as np

    from codemix_megatron.analysis.law_proposals import largest_shares, propose
    from codemix_megatron.recipe.quantity import parse_tokens

    try:
        tokens = parse_tokens(arguments.tokens) if arguments.tokens else None
    except ValueError as fault:
        raise CodemixError(f"--tokens: {fault}") from None
    if tokens and not sizes_tokens:
        raise CodemixError("--tokens: the sizes of the corpora are not known; give them with --corpus-tokens NAME=N")
    bounds = largest_shares(table.domains, sizes_tokens, tokens, arguments.max_epochs)
    size = None if table.size_values is None else table.size_values.max(axis=0)

    def objective(shares):
        at = None if size is None else np.tile(size, (len(shares), 1))
        if len(laws) == 1:
            return next(iter(laws.values())).predict(shares, at)
        return np.mean(
            [law.predict(shares, at) / np.nanstd(table.values[:, table.metrics.index(name)]) for name, law in laws.items()], axis=0
        )

    known = all(name in sizes_tokens for name in table.domains)
    prior = np.array([sizes_tokens[name] for name in table.domains], dtype=float) if known else table.shares.mean(axis=0)

    def epochs(shares):
        return max(float(s) * tokens / sizes_tokens[n] for n, s in zip(table.domains, shares, strict=True)) if tokens else None

    return propose(
        table.domains,
        objective,
        prior / prior.sum(),
        bounds,
        explore=arguments.explore,
        lower_is_better=not arguments.maximize,
        epochs=epochs,
    )


def print_errors(table, errors: dict, laws: dict) -> None:
    """Print how each law does on runs it has not seen."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(f"{len(table.runs)} runs, {len(table.domains)} domains", highlight=False)
    shown = Table(
        "metric",
        "law",
        "held-out error",
        "of the spread",
        "rank correlation",
        "",
        title="error on runs a law has not seen",
        title_justify="left",
    )
    for column in shown.columns[2:5]:
        column.justify = "right"
    for metric, kinds in errors.items():
        for kind, error in kinds.items():
            words = "no better than the mean" if error.relative >= 1 else "used" if kind == laws[metric].kind else ""
            shown.add_row(
                metric, kind, f"{error.root_mean_square:.4f}", f"{100 * error.relative:.0f} %", f"{error.rank_correlation:.3f}", words
            )
    console.print(shown)


def print_proposals(proposals, objective: list[str]) -> None:
    """Print mixtures to try."""
    from rich.console import Console
    from rich.table import Table

    names = list(proposals[0].shares)
    named = names if len(names) <= 6 else sorted(names, key=lambda name: -max(p.shares[name] for p in proposals))[:6]
    shown = Table("mixture", *named, "predicted", "epochs at most", title=f"next, by {', '.join(objective)}", title_justify="left")
    for column in shown.columns[1:]:
        column.justify = "right"
    for p in proposals:
        epochs = "" if p.most_epochs is None else f"{p.most_epochs:.2f}"
        shown.add_row(p.purpose, *(f"{p.shares[name]:.3f}" for name in named), f"{p.predicted:.4f}", epochs)
    Console(width=None if sys.stdout.isatty() else 130).print(shown)


def write(folder: Path, table, errors: dict, laws: dict, proposals) -> None:
    """Write the tables, what was fitted, and the proposals as mixture blocks."""
    import yaml

    from codemix_megatron.analysis.law_tables import write_tables
    from codemix_megatron.records.atomic import replace_text, write_json

    write_tables(table, folder)
    fitted = {
        metric: {"used": laws[metric].kind, **{kind: asdict(error) for kind, error in kinds.items()}} for metric, kinds in errors.items()
    }
    write_json(folder / "law.json", {"runs": len(table.runs), "domains": table.domains, "sizes": table.sizes, "held_out": fitted})
    if proposals:
        blocks = [
            {"purpose": p.purpose, "predicted": p.predicted, "most_epochs": p.most_epochs, "mixture": rounded(p.shares)} for p in proposals
        ]
        replace_text(folder / "proposals.yaml", yaml.safe_dump(blocks, sort_keys=False))
    sys.stdout.write(f"{folder}\n")


def rounded(shares: dict[str, float]) -> dict[str, float]:
    """Return shares of six digits that add up to 1, without domains that get nothing."""
    kept = {name: round(share, 6) for name, share in shares.items() if share >= 1e-4}
    largest = max(kept, key=lambda name: kept[name])
    kept[largest] = round(kept[largest] + 1 - sum(kept.values()), 6)
    return kept
