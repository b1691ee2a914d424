"""codemix study power: how many seeds see a difference, before money is spent on them."""

import sys
from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cli.plan import assumed_vocab
from codemix_megatron.cli.study.plan import add_size_arguments
from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.assumed import read_sizes
from codemix_megatron.plan.plan import find_corpora
from codemix_megatron.report.wording import plural
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.planning import StudyPlan, plan_study, remember_corpora
from codemix_megatron.study.power import POWER, MeasurePower, Question, StudyPower, power_of_study
from codemix_megatron.study.schema import Study
from codemix_megatron.study.segments import build_graph
from codemix_megatron.study.study_file import read_study

__all__ = ["add_power_arguments"]


def add_power_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("study", help="YAML study")
    parser.add_argument("--detect", type=float, default=1.0, metavar="POINTS", help="difference to see, in points of 100 (default: 1)")
    parser.add_argument("--detect-bits", type=float, default=0.01, metavar="BITS", help="and in bits per byte (default: 0.01)")
    parser.add_argument("--most-seeds", type=int, default=10, metavar="N", help="most seeds that can be paid for (default: 10)")
    family = "comparisons that Holm's correction is over (default: every variant by every measure)"
    parser.add_argument("--comparisons", type=int, metavar="N", help=family)
    parser.add_argument("--directory", metavar="DIR", help="the study's folder, whose seeds give the noise (default: runs/NAME)")
    add_size_arguments(parser)
    add_json_option(parser, "the power")
    parser.set_defaults(act=show_power)


def show_power(arguments) -> None:
    """Print for every measure how many seeds it takes, and what they cost."""
    question = Question(
        points=arguments.detect, bits=arguments.detect_bits, most_seeds=arguments.most_seeds, comparisons=arguments.comparisons
    )
    study = read_study(arguments.study)
    folder = StudyFolder(arguments.directory or Path("runs") / study.name)
    plan = plan_if_possible(study, arguments)
    parameters = max(p.parameters["total"] for p in plan.plans.values()) if plan else None
    found = power_of_study(study, question, folder, parameters)
    hours = plan.total(lambda p: (p.device or {}).get("device_hours", 0.0)) / found.seeds if plan and plan.device else None
    if arguments.json:
        print_json({"name": study.name, "device_hours_per_seed": hours, **found.as_json()})
        return
    print_power(study.name, found, question, hours, plan)


def plan_if_possible(study: Study, arguments) -> StudyPlan | None:
    """Return the study's plan, None where its corpora are neither there nor assumed."""
    sizes, vocab = read_sizes(arguments.assume_tokens, study.corpora), assumed_vocab(arguments)

    def find(recipe):
        return find_corpora(recipe, {name: tokens for name, tokens in sizes.items() if name in recipe.corpora}, vocab)

    try:
        return plan_study(
            build_graph(study), remember_corpora(find), Path("runs") / study.name / "runs", arguments.device or study.device, arguments.mfu
        )
    except CodemixError:
        if sizes:
            raise
        return None


def print_power(name: str, found: StudyPower, question: Question, hours: float | None, plan: StudyPlan | None) -> None:
    """Print the table and what it means."""
    from codemix_megatron.cli.consoles import Console

    console = Console(markup=True) if sys.stdout.isatty() else Console(markup=True, width=150)
    say = lambda text: console.print(text, highlight=False, soft_wrap=True)  # noqa: E731
    say(
        f"[bold]{name}[/]: {plural(found.variants, 'variant')}, {found.seeds:.3g} seeds each as it stands; a verdict has to pass Holm's"
        f" correction over {plural(found.comparisons, 'comparison')}"
    )
    known = [row for row in found.measures if row.deviation is not None]
    if known:
        console.print(power_table(known, question, hours))
    if hopeless := [row.measure for row in known if row.seeds is None]:
        say(f"not to be decided with {question.most_seeds} seeds: {', '.join(hopeless)}")
    if unknown := [row.measure for row in found.measures if row.deviation is None]:
        say(f"no noise known, repeat a variant by seed first: {', '.join(unknown)}")
    if not hours:
        say(f"device hours: {'name a --device' if plan else 'corpora are not prepared: give --assume-tokens, and a --device'}")


def power_table(rows: list[MeasurePower], question: Question, hours: float | None):
    """Return a row for every measure whose noise is known."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    counts = sorted({count for row in rows for count in row.power})
    headings = ["measure", "to see", "noise", *(f"{count} seeds" for count in counts), f"seeds for {POWER:.0%}"]
    table = Table(*headings, *(["device hours"] if hours else []), "noise from", box=SIMPLE_HEAD)
    for row in rows:
        unit = "" if row.unit == "points" else " bits"
        needed = f"over {question.most_seeds}" if row.seeds is None else str(row.seeds)
        cost = [] if not hours else [f"{hours * row.seeds:,.0f}" if row.seeds else "-"]
        powers = [f"{row.power[count]:.0%}" for count in counts]
        table.add_row(row.measure, f"{row.difference:g}{unit}", f"{row.deviation:.3g}{unit}", *powers, needed, *cost, row.source)
    return table
