"""What `codemix study plan` prints: the tree of runs, and what sharing them saves."""

from codemix_megatron.cli.plan_tables import size_text, time_text
from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.report.wording import plural
from codemix_megatron.study.planning import StudyPlan, code_share
from codemix_megatron.study.segments import Graph

__all__ = ["print_study_plan", "tree_lines"]

WITH_ENDS_FROM, WITH_PHASES_FROM = 100, 120  # columns of the terminal; narrower ones see the names alone, which mostly say the phase


def print_study_plan(name: str, plan: StudyPlan) -> None:
    """Print totals, what is shared, and a row for every run."""
    from rich.markup import escape

    from codemix_megatron.cli.consoles import Console

    console = Console(markup=True)
    say = lambda text: console.print(text, highlight=False, soft_wrap=True)  # noqa: E731
    graph = plan.graph
    say(f"[bold]{escape(name)}[/]: {plural(len(graph.paths), 'variant')} in {plural(len(graph.segments), 'run')} of one phase each")
    if any(p.assumed for p in plan.plans.values()):
        say("[bold yellow]sizes of corpora are assumed[/]")
    for line in dict.fromkeys(line for p in plan.plans.values() for line in p.warnings):
        say(f"[bold yellow]warning[/]: {escape(line)}")
    for line in saving_lines(plan):
        say(line)
    console.print(run_table(plan, console.width))
    say("[dim]a run continues from its parent; variants that end there are listed at its right[/]")


def saving_lines(plan: StudyPlan) -> list[str]:
    """Return tokens, hours and storage, beside those of training every variant alone."""
    shared = {name: s for name, s in plan.graph.segments.items() if len(s.variants) > 1}
    tokens, alone = plan.total(lambda p: p.tokens), plan.alone(lambda p: p.tokens)
    lines = [f"tokens to train: {format_tokens(tokens)}; each variant alone: {format_tokens(alone)}; {saved(tokens, alone)}"]
    if plan.device and plan.mfu:
        hours, hours_alone = plan.total(device_hours), plan.alone(device_hours)
        lines.append(
            f"on {plan.device} at {100 * plan.mfu:g} % of peak: {time_text(hours)} of devices; alone: {time_text(hours_alone)};"
            f" {time_text(hours_alone - hours)} saved"
        )
        unfit = [
            name for name, p in plan.plans.items() if p.device and not p.device["fits"][plan.graph.segments[name].recipe.parallel.recompute]
        ]
        if unfit:
            others = f" and {len(unfit) - 2} more" if len(unfit) > 2 else ""
            lines.append(
                f"[bold yellow]too large for one {plan.device} at the smallest layout of their recipe[/]: {', '.join(unfit[:2])}{others}"
            )
    parameters = sorted({p.parameters["total"] for p in plan.plans.values()})
    listed = " and ".join(format_tokens(count) for count in parameters)
    lines.append(f"models of {listed} parameters; checkpoints that stay: about {size_text(plan.checkpoint_bytes())}")
    lines.append(f"shared by several variants: {', '.join(f'{n} ({len(s.variants)})' for n, s in shared.items()) or 'nothing'}")
    return lines


def device_hours(plan) -> float:
    """Return the hours of one device."""
    return plan.device["device_hours"]


def saved(part: float, whole: float) -> str:
    """Say how much less `part` is."""
    return f"{format_tokens(round(whole - part))} saved ({100 * (1 - part / whole):.0f} %)" if whole > part else "nothing is saved"


def run_table(plan: StudyPlan, width: int):
    """Return a row for every segment, indented under its parent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    phase_seen, ends_seen = width >= WITH_PHASES_FROM, width >= WITH_ENDS_FROM
    table = Table("run", *(["phase"] if phase_seen else []), box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for heading in ("tokens", "code", *(["hours"] if plan.device else []), "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    if ends_seen:
        table.add_column("ends here", overflow="fold")
    for guide, name in tree_lines(plan.graph):
        segment, numbers = plan.graph.segments[name], plan.plans[name]
        hours = [f"{hours:,.0f}" if (hours := device_hours(numbers)) > 100 else f"{hours:.3g}"] if plan.device else []
        shared = f"{len(segment.variants)}" if len(segment.variants) > 1 else ""
        style = "bold" if shared else None
        ends = ", ".join(end for end in segment.ends if end != name) or ("●" if segment.ends else "")
        share = f"{100 * code_share(numbers):.3g} %"
        phase = [segment.phase.name] if phase_seen else []
        table.add_row(
            f"{guide}{name}", *phase, format_tokens(numbers.tokens), share, *hours, shared, *([ends] if ends_seen else []), style=style
        )
    return table


def tree_lines(graph: Graph, parent: str | None = None, guide: str = "") -> list[tuple[str, str]]:
    """Return (guide, segment) of the tree, depth first; the guide is what stands before the name."""
    lines, children = [], graph.children(parent)
    for child in children:
        is_last = child is children[-1]
        branch = "" if parent is None else "└─ " if is_last else "├─ "
        lines.append((guide + branch, child.name))
        lines += tree_lines(graph, child.name, guide + ("" if parent is None else "   " if is_last else "│  "))
    return lines
