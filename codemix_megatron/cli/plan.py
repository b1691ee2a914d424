"""codemix plan: show what a recipe will do before it does it."""

from pathlib import Path

from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.atomic import write_json

__all__ = ["add_arguments", "print_plan", "run"]

EPILOG = """examples:
  codemix plan recipe.yaml
  codemix plan recipe.yaml phases.1.tokens=2B parallel.tensor=4 --output plan.json
  codemix plan recipe.yaml --nproc 8"""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", help="YAML recipe; its corpora must be prepared")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe, as a.b=c")
    parser.add_argument("--nproc", type=int, help="ranks to plan for; default: the smallest layout")
    parser.add_argument("--output", default="plan.json", help="where the plan is written (default: plan.json)")


def run(arguments) -> int:
    """Plan, print, write plan.json."""
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    plan = make_plan(recipe, read_manifests(recipe), arguments.nproc)
    print_plan(plan)
    write_json(Path(arguments.output), plan.as_json())
    print(f"\nwritten to {arguments.output}")
    return 0


def print_plan(plan) -> None:
    """Print the tables people read."""
    from rich.console import Console

    console = Console()
    parameters, layout = plan.parameters, plan.layout
    console.print(
        f"[bold]{plan.name}[/]: {format_tokens(parameters['total'])} parameters"
        f" ({format_tokens(parameters['without_embedding'])} without embedding), {plan.steps} steps of"
        f" {plan.global_sequences} x {plan.sequence_length} tokens, {format_tokens(plan.tokens)} tokens,"
        f" {plan.flops['total']:.3g} FLOPs",
        highlight=False,
    )
    memory = plan.memory_bytes_per_rank
    parts = ", ".join(f"{part} {size / 2**20:.0f}" for part, size in memory.items())
    console.print(
        f"{layout['ranks']} ranks: tensor {layout['tensor']} x pipeline {layout['pipeline']} x data {layout['data']};"
        f" about {sum(memory.values()) / 2**20:.0f} MiB on the fullest ({parts})",
        highlight=False,
    )
    console.print(phase_table(plan))


def phase_table(plan):
    """Return a row for every source of every phase."""
    from rich.table import Table

    table = Table("phase", "steps", "tokens", "source", "share", "sequences", "tokens of source", "epochs after")
    for column in table.columns[1:3] + table.columns[4:]:
        column.justify = "right"
    for phase in plan.phases:
        rounded = "" if phase.tokens == phase.asked_tokens else f" ({phase.tokens - phase.asked_tokens:+d})"
        for i, (name, source) in enumerate(phase.sources.items()):
            last = i == len(phase.sources) - 1
            head = (phase.name, str(phase.steps), f"{phase.tokens}{rounded}") if i == 0 else ("", "", "")
            row = (name, f"{source.share:.4g}", str(source.sequences), str(source.tokens), f"{source.epochs_after:.3f}")
            table.add_row(*head, *row, end_section=last)
    return table
