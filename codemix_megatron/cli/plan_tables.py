"""What `codemix plan` prints."""

from itertools import zip_longest

from codemix_megatron.plan.difference import WHOLE_RUN
from codemix_megatron.recipe.quantity import format_tokens

__all__ = ["print_difference", "print_plan", "print_suggestions", "size_text", "time_text"]

SUGGESTIONS = 5  # shown

EXACT_FROM_WIDTH = 100  # columns of the terminal; narrower ones get short token counts, plan.json has the exact ones


def print_plan(plan) -> None:
    """Print the tables people read."""
    from codemix_megatron.cli.consoles import Console

    console = Console(markup=True)
    say = lambda text: console.print(text, highlight=False)  # noqa: E731
    say(
        f"[bold]{plan.name}[/]: {format_tokens(plan.parameters['total'])} parameters"
        f" ({format_tokens(plan.parameters['without_embedding'])} without embedding), {plan.steps - plan.first_step:,} steps of"
        f" {batch_sizes(plan)} x {plan.sequence_length} tokens, {format_tokens(plan.tokens)} tokens,"
        f" {plan.flops['total']:.3g} FLOPs"
    )
    if plan.assumed:
        sizes = ", ".join(f"{name} {format_tokens(s['train_tokens'])}" for name, s in plan.sources.items() if s["assumed"])
        say(f"[bold yellow]sizes of corpora are assumed[/]: {sizes}; vocabulary {plan.vocab_size:,}")
    if plan.branch:
        say(
            f"continues from step {plan.branch.step:,} of {plan.branch.run}, {format_tokens(plan.first_token)} tokens in; data read counts these"
        )
    for line in machine_lines(plan):
        say(line)
    for line in plan.warnings:
        say(f"[bold yellow]warning[/]: {line}")
    console.print(phase_table(plan, is_wide=console.width >= EXACT_FROM_WIDTH))


def batch_sizes(plan) -> str:
    """Return the sequences of a global batch, or the smallest and the largest."""
    sizes = [size for _, size in plan.batches]
    return str(sizes[0]) if len(set(sizes)) == 1 else f"{min(sizes)} to {max(sizes)}"


def changing_lines(plan, phase) -> list[str]:
    """Say what changes within a phase or is otherwise than elsewhere: batches, shorter sequences, shares that move."""
    lines = [f"{steps:,} steps of {size:,}" for steps, size in phase.batches] if len(phase.batches) > 1 else []
    if phase.sequence_length != plan.sequence_length:
        lines.append(f"sequences of {phase.sequence_length:,}")
    if phase.stretches:
        lines.append(f"shares move in {len(phase.stretches)} stretches")
    return lines


def machine_lines(plan) -> list[str]:
    """Return layout, memory and hours."""
    layout, memory = plan.layout, plan.memory_bytes_per_rank
    parts = ", ".join(f"{part} {size_text(size)}" for part, size in memory.items())
    ranks = f"{layout['ranks']} rank" + ("s" if layout["ranks"] > 1 else "")
    lines = [
        f"{ranks}: tensor {layout['tensor']} x pipeline {layout['pipeline']} x data {layout['data']};"
        f" about {size_text(sum(memory.values()))} on {fullest_text(plan)} ({parts})"
    ]
    fits = plan.device["fits"] if plan.device else {}
    verdict: dict[bool | None, str] = {True: " (fits)", False: " (does not fit)"}
    choices = [f"{choice} {size_text(size)}{verdict.get(fits.get(choice), '')}" for choice, size in plan.memory_by_recompute.items()]
    lines.append(f"the same by parallel.recompute: {', '.join(choices)}")
    if plan.layers != "local":
        lines.append(f"with Transformer Engine's layers; with local ones {size_text(plan.memory_with_local_layers)}")
    if plan.device:
        device = plan.device
        lines.append(
            f"on {device['name']} ({device['peak_flops_per_second'] / 1e12:g} TFLOP/s, {device['memory_bytes'] / 1e9:g} GB) at"
            f" {100 * device['mfu']:g} % of peak: {time_text(device['device_hours'])} of devices, {time_text(device['hours'])} on {ranks}"
        )
    return lines


def print_suggestions(found, device: str, ranks: int) -> None:
    """Print the first layouts and the best one as overrides."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    table = Table("tensor", "pipeline", "data", "micro", "recompute", "memory", "step", "waiting", box=SIMPLE_HEAD, pad_edge=False)
    for one in found[:SUGGESTIONS]:
        p, seconds = one.parallel, f"{one.seconds_per_step:.3g} s"
        layout = (p.tensor, p.pipeline, ranks // p.model_ranks, one.micro_sequences)
        table.add_row(*map(str, layout), p.recompute, size_text(one.memory.total), seconds, f"{100 * one.exposed_share:.0f} %")
    console = Console(width=100)
    console.print(f"{ranks} x {device}: {len(found)} layouts fit; estimated, not measured", highlight=False)
    console.print(table)
    console.print("  " + " ".join(found[0].overrides()), highlight=False, soft_wrap=True)


def fullest_text(plan) -> str:
    """Return what the fullest ranks are called."""
    return "each rank" if plan.layout["pipeline"] == 1 else f"ranks of stage {plan.fullest_stage} of the pipeline, the fullest"


def size_text(num_bytes: float) -> str:
    """Return bytes in MiB, or GiB where these are many."""
    if num_bytes >= 4 * 2**40:
        return f"{num_bytes / 2**40:.1f} TiB"
    return f"{num_bytes / 2**20:.0f} MiB" if num_bytes < 4 * 2**30 else f"{num_bytes / 2**30:.1f} GiB"


def time_text(hours: float) -> str:
    """Return hours, or minutes where these are few, or days beside them where they are many."""
    if hours < 1:
        return f"{60 * hours:.2g} minutes"
    return f"{hours:,.1f} hours" if hours < 48 else f"{hours:,.0f} hours ({hours / 24:,.1f} days)"


def phase_table(plan, is_wide: bool):
    """Return a row for every source of every phase; what concerns a whole phase stands in its first column."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("phase", "source", "share", "sequences", "tokens", "data read", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    count = (lambda tokens: f"{tokens:,}") if is_wide else format_tokens
    for phase in plan.phases:
        heads = [
            f"[bold]{phase.name}[/]",
            f"{phase.steps:,} steps",
            f"{count(phase.tokens)} tokens",
            *rounding(phase),
            *changing_lines(plan, phase),
        ]
        sources = [
            (name, f"{s.share:.4g}", f"{s.sequences:,}", count(s.tokens), data_read(s.epochs_after)) for name, s in phase.sources.items()
        ]
        add_section(table, heads, sources)
    if len(plan.phases) > 1:
        totals = [
            (name, f"{s['tokens'] / plan.tokens:.4g}", f"{s['sequences']:,}", count(s["tokens"]), data_read(s["epochs"]))
            for name, s in plan.sources.items()
        ]
        add_section(table, ["[bold]whole run[/]", f"{plan.steps - plan.first_step:,} steps", f"{count(plan.tokens)} tokens"], totals)
    for name, source in plan.sources.items():
        if "buckets" in source:
            add_section(table, [f"[bold]{name}[/], a round", *bucket_head(plan, source, count)], bucket_rows(plan, source, count))
    return table


def bucket_head(plan, source: dict, count) -> list[str]:
    """Return what a round of a source with buckets is."""
    whole = sum(source["buckets"]["round"])
    return [f"{count(whole * plan.sequence_length)} tokens", f"{sum(source['buckets']['drawn']) / whole:.4g} of it drawn"]


def bucket_rows(plan, source: dict, count) -> list[tuple]:
    """Return a row for each bucket that has sequences: its share of the source's draws, what is drawn, and how often it is read."""
    buckets, drawn = source["buckets"], max(1, sum(source["buckets"]["drawn"]))
    columns = (buckets["names"], buckets["drawn"], buckets["sequences"], buckets["realised"])
    return [
        (name, f"{of_bucket / drawn:.4g}", f"{of_bucket:,}", count(of_bucket * plan.sequence_length), data_read(realised))
        for name, of_bucket, sequences, realised in zip(*columns, strict=True)
        if sequences
    ]


def add_section(table, heads: list[str], rows: list[tuple]) -> None:
    """Add rows with lines about all of them in the first column."""
    for head, row in zip_longest(heads, rows):
        table.add_row(head or "", *(row or ()))
    table.add_section()


def rounding(phase) -> list[str]:
    """Say how far whole batches are from the tokens asked for."""
    difference = phase.tokens - phase.asked_tokens
    if not difference:
        return []
    return [f"({'+' if difference > 0 else '-'}{abs(difference):,} rounded)"]


def data_read(epochs: float) -> str:
    """Return the part of a corpus read so far, or how many times it was read."""
    return f"{100 * epochs:.3g} %" if epochs < 1 else f"{epochs:.2f} x"


def print_difference(difference: dict) -> None:
    """Print what differs between two plans; sources of one side alone first and loudest."""
    from codemix_megatron.cli.consoles import Console

    console = Console(markup=True)
    a, b = side_names(difference)
    say = lambda text: console.print(text, highlight=False, soft_wrap=True)  # noqa: E731
    say(f"A is [bold]{difference['a']}[/], B is [bold]{difference['b']}[/]; difference is B - A")
    if difference["assumed"]:
        say("[bold yellow]sizes of corpora are assumed[/]")
    for key, side in (("only_in_a", a), ("only_in_b", b)):
        if difference[key]:
            say(f"[bold white on red] ONLY IN {side} [/] [bold red]{', '.join(difference[key])}[/]")
    if difference["other_data"]:
        say(f"[bold white on red] OTHER DATA UNDER THE SAME NAME [/] [bold red]{', '.join(difference['other_data'])}[/]")
    console.print(difference_table(difference, is_wide=console.width >= EXACT_FROM_WIDTH))
    if difference["settings"]:
        console.print(settings_table(difference))
    elif all(row["difference"] == 0 for row in difference["rows"]) and not difference["other_data"]:
        say("no difference")


def side_names(difference: dict) -> tuple[str, str]:
    """Return A and B, with the names of the plans where these differ."""
    if difference["a"] == difference["b"]:
        return "A", "B"
    return f"A ({difference['a']})", f"B ({difference['b']})"


def difference_table(difference: dict, is_wide: bool):
    """Return a row for every source of every phase and of the whole run."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("phase", "source", "A", "B", "B - A", "share A", "share B", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    count = (lambda tokens: f"{tokens:,}") if is_wide else format_tokens
    alone = {*difference["only_in_a"], *difference["only_in_b"]}
    before = None
    for row in difference["rows"]:
        is_first = row["phase"] != before
        if is_first and before is not None:
            table.add_section()
        before = row["phase"]
        style = "bold red" if row["source"] in alone else "bold" if row["phase"] == WHOLE_RUN else None
        sign = "+" if row["difference"] > 0 else "-" if row["difference"] else ""
        shares = [f"{100 * row[key]:.3g} %" for key in ("share_a", "share_b")]
        tokens = [count(row[key]) if row[key] else "none" for key in ("tokens_a", "tokens_b")]
        tokens.append(f"{sign}{count(abs(row['difference']))}")
        table.add_row(row["phase"] if is_first else "", row["source"], *tokens, *shares, style=style)
    return table


def settings_table(difference: dict):
    """Return a row for every other setting that differs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table("setting", "A", "B", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[1].overflow = table.columns[2].overflow = "fold"
    for row in difference["settings"]:
        table.add_row(row["setting"], *("none" if row[key] is None else str(row[key]) for key in ("a", "b")))
    return table
