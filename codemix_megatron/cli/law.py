"""codemix law: what mixtures do to losses, fitted over many runs, and which mixtures to try next."""

import sys
from pathlib import Path
from typing import Any

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.errors import CodemixError, CorpusError

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix law runs/sweep-*                                         fit every measured score over the runs, with its held-out error
  codemix law runs/sweep-* --objective "text bits_per_byte" --tokens 400M --output laws/text
  codemix law --ratios ratios.csv --metrics metrics.csv            tables as Olmix has them, or RegMix's pair
  codemix law --ratios train_mixture_1m.csv --metrics train_pile_loss_1m.csv --objective the_pile_pile_cc_val_loss

Where all runs have several phases (those of their parents count), the law sees each phase's shares, and beside it one that sees whole
runs. Four forms are fitted: log-linear, quadratic, a Gaussian process, boosted trees; the one that does best on runs it has not seen,
within what was tried and out of it, is used, together with those that cannot be told from it.

With --objective (repeatable: their mean, each in units of its spread) the next mixtures are proposed: the best, some for exploring,
and controls. They stay within the mixtures that were tried, unless --extrapolate. An objective whose law is no better than the mean of the
runs is left out; with none left there is no proposal, and the exit code is 1. A run of --tokens reads no corpus more than --max-epochs
times. --output writes ratios.csv and metrics.csv as Olmix reads them, law.json, and proposals.yaml with a mixture block for each."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    from codemix_megatron.analysis.law_forms import FORMS

    parser.add_argument("runs", metavar="RUN", nargs="*", help="run folders, or folders of them")
    parser.add_argument("--ratios", metavar="CSV", help="shares per run, instead of run folders")
    parser.add_argument("--metrics", metavar="CSV", help="losses or scores per run")
    parser.add_argument("--objective", action="append", metavar="METRIC", help="what to make small (or large with --maximize); repeatable")
    parser.add_argument("--maximize", action="store_true", help="the objective is better when higher, as accuracies are")
    parser.add_argument("--kind", choices=["auto", *FORMS], default="auto", help="which form (default: the best)")
    parser.add_argument("--over", choices=["auto", "phases", "totals"], default="auto", help="shares of each phase, or of whole runs")
    parser.add_argument("--extrapolate", action="store_true", help="propose mixtures beyond those tried too; they are marked")
    parser.add_argument("--at-parameters", metavar="N", help="predict for models of this size, such as 1.4B (default: the largest run)")
    parser.add_argument("--at-tokens", metavar="N", help="predict for runs of this many tokens (default: the longest run)")
    parser.add_argument("--tokens", metavar="N", help="tokens of the run to plan, such as 400M, for the epoch bound")
    parser.add_argument("--max-epochs", type=float, default=4.0, metavar="N", help="most passes over a corpus (default: 4)")
    parser.add_argument("--corpus-tokens", action="append", metavar="NAME=N", help="size of a corpus; default: from the runs' plans")
    parser.add_argument("--explore", type=int, default=3, metavar="N", help="mixtures for exploring (default: 3)")
    parser.add_argument("--output", metavar="DIR", help="where the tables, the law and the proposals go")
    add_json_option(parser, "errors, coefficients and proposals")


def run(arguments) -> int:
    """Read, fit, print; propose and write where asked."""
    from codemix_megatron.analysis.law_forms import USUAL
    from codemix_megatron.analysis.law_views import fit_views
    from codemix_megatron.cli.law_output import block_of, law_as_plain, print_errors, print_proposals, write

    table, notes, sizes = read(arguments)
    kinds = USUAL if arguments.kind == "auto" else (arguments.kind,)
    fits = {}
    metrics = arguments.objective or table.metrics
    for metric in metrics:
        try:
            fits[metric] = fit_views(table, metric, kinds, arguments.over)
        except CorpusError as fault:
            if arguments.objective or (metric == metrics[-1] and not fits):
                raise
            notes.append(f"not fitted: {fault}")
    if not arguments.json:
        print_errors(table, fits)
    notes += list(dict.fromkeys(note for fit in fits.values() for note in fit.notes))
    proposals = propose_next(fits, arguments, sizes, notes) if arguments.objective else []
    for note in notes:
        sys.stderr.write(f"note: {note}\n")
    if arguments.json:
        print_json({**law_as_plain(table, fits), "proposals": [block_of(proposal) for proposal in proposals], "notes": notes})
    elif proposals:
        print_proposals(proposals, arguments.objective)
    if arguments.output:
        write(Path(arguments.output), table, fits, proposals)
    return 1 if arguments.objective and not proposals else 0


def read(arguments) -> tuple[Any, list[str], dict[str, int]]:
    """Return the table, what a reader has to know of it, and what is known of the corpora's sizes."""
    from codemix_megatron.analysis.law_measurements import listed
    from codemix_megatron.analysis.law_runs import find_runs, table_of_runs
    from codemix_megatron.analysis.law_tables import read_tables

    if bool(arguments.runs) == bool(arguments.ratios or arguments.metrics):
        raise CodemixError("give run folders, or --ratios and --metrics")
    notes: list[str] = []
    sizes: dict[str, int] = {}
    if arguments.runs:
        found = find_runs(arguments.runs)
        of_runs = table_of_runs(found)
        table, notes, sizes = of_runs.table, of_runs.notes, plan_sizes(found)
    else:
        if not (arguments.ratios and arguments.metrics):
            raise CodemixError("--ratios and --metrics belong together; give both")
        table = read_tables(arguments.ratios, arguments.metrics)
        if alone := table.in_one_file:
            notes.append(f"{len(alone)} runs are in one of the two files alone and are left out: {listed(alone)}")
    domains = table.totals().domains
    for entry in arguments.corpus_tokens or []:
        name, equals, number = entry.partition("=")
        if not equals or name not in domains:
            raise CodemixError(f"--corpus-tokens: found {entry!r}, needs NAME=N with NAME one of {', '.join(domains)}")
        sizes[name] = quantity(f"--corpus-tokens {entry}", number)
    return table, notes, sizes


def quantity(option: str, text: str) -> int:
    """Return a number such as 400M; raises CodemixError naming the option."""
    from codemix_megatron.recipe.quantity import parse_tokens

    try:
        return parse_tokens(text)
    except ValueError as fault:
        raise CodemixError(f"{option}: {fault}") from None


def plan_sizes(found) -> dict[str, int]:
    """Return the tokens of one pass over each corpus, as the runs planned them."""
    from codemix_megatron.records.atomic import read_json

    sizes = {}
    for run_folder in found:
        plan = read_json(run_folder.plan)
        for name, source in plan.get("sources", {}).items():
            if source.get("sequences_per_epoch") and plan.get("sequence_length"):
                sizes[name] = source.get("stored_sequences", source["sequences_per_epoch"]) * plan["sequence_length"]
    return sizes


def propose_next(fits: dict, arguments, sizes_tokens: dict[str, int], notes: list[str]) -> list:
    """Return proposals for the objectives whose law knows something, at the size asked for; note those that are left out."""
    from codemix_megatron.analysis.law_views import Wish, propose_mixtures

    useless = [metric for metric, fit in fits.items() if fit.law.is_useless]
    for metric in useless:
        error = fits[metric].law.forms[0].error.relative
        notes.append(f"{metric}: no form predicts it better than the mean of the runs (error {100 * error:.0f} % of the spread); left out")
    laws = [fit for metric, fit in fits.items() if metric not in useless]
    if not laws:
        notes.append("no objective is left, so no mixture is proposed; train more mixtures, or more seeds of them")
        return []
    tokens = quantity("--tokens", arguments.tokens) if arguments.tokens else None
    if tokens and not sizes_tokens:
        raise CodemixError("--tokens: the sizes of the corpora are not known; give them with --corpus-tokens NAME=N")
    at = {"size_parameters": arguments.at_parameters, "size_tokens": arguments.at_tokens}
    wish = Wish(
        corpus_tokens=sizes_tokens,
        tokens=tokens,
        max_epochs=arguments.max_epochs,
        explore=arguments.explore,
        maximize=arguments.maximize,
        extrapolate=arguments.extrapolate,
        at_sizes={name: quantity("--at-" + name.removeprefix("size_"), text) for name, text in at.items() if text},
    )
    return propose_mixtures(laws, wish, notes)
