"""codemix audit: what a run has really consumed, recounted from the data."""

import sys

from codemix_megatron.cli.audit_buckets import bucket_lines, compare_buckets, recount_buckets
from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.branch import recorded_branch_point
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.records.atomic import write_json
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import SkippedEvent, StepEvent
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.corpus_files import check_corpus_files

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix audit runs/demo
  codemix audit runs/demo --output audit.json
  codemix audit runs/demo --json | jq .agrees

Exit code 1 when the recount and the journal differ."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="run folder, finished or not")
    parser.add_argument("--output", help="write the counts as JSON too")
    add_json_option(parser, "the counts and what differs")


def run(arguments) -> int:
    """Recount, print a table, compare with the journal."""
    folder = RunFolder.existing(arguments.run_folder)
    events = read_events(folder.journal)
    steps = of_kind(events, StepEvent)
    if not steps:
        raise CodemixError(f"{folder.journal}: no step yet, nothing to count")
    recipe = read_run_recipe(folder)
    manifests = read_manifests(recipe)
    check_corpus_files(folder, manifests, (sys.stderr if arguments.json else sys.stdout).write)
    plan = make_plan(recipe, manifests, branch=recorded_branch_point(folder))
    skipped = [(plan.sequences_at(e.step - 1), plan.sequences_at(e.step)) for e in of_kind(events, SkippedEvent)]
    drawn = {name: manifests[name] for name in plan.sources}
    counted = recount(recipe, plan, list(drawn.values()), steps[-1].sequences, skipped)
    learned = recount_learned(recipe, plan, drawn, counted, steps[-1].sequences, skipped)
    buckets = recount_buckets(plan, steps[-1].sequences, skipped)
    wrong, wrong_learned = [*compare(plan, counted, steps[-1]), *compare_buckets(buckets, steps[-1])], compare_learned(learned, steps)
    if arguments.output:
        write_json(arguments.output, with_learned(counted, learned))
    if arguments.json:
        up_to = {"step": steps[-1].step, "steps": plan.steps}
        print_json(
            {
                "agrees": not (wrong or wrong_learned),
                **up_to,
                "differences": wrong + wrong_learned,
                "tokens": with_learned(counted, learned),
                **({"buckets": buckets} if buckets else {}),
            }
        )
    else:
        print_table(counted, learned)
        sys.stdout.write("".join(bucket_lines(plan, buckets)))
        sys.stdout.write(
            f"the journal differs: {'; '.join(wrong)}\n" if wrong else f"the journal agrees, up to step {steps[-1].step} of {plan.steps}\n"
        )
        sys.stdout.write(f"the journal says otherwise: {'; '.join(wrong_learned)}\n" if wrong_learned else "")
    return 1 if wrong or wrong_learned else 0


def recount(recipe, plan, manifests, sequences_seen: int, skipped=()) -> dict:
    """Return phase -> source -> language -> tokens; positions in the `skipped` ranges were not trained on."""
    from codemix_megatron.cli.progress import progress_bar
    from codemix_megatron.mixture.audit import audit
    from codemix_megatron.mixture.recipe_reader import recipe_packings

    length = recipe.model.sequence_length
    packings = recipe_packings(recipe, dict(zip(plan.sources, manifests, strict=True)))
    with progress_bar("sequences") as bar:
        task = bar.add_task("recounting", total=sequences_seen)

        def moved(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        rows = audit(plan.mixture(), manifests, length, sequences_seen, packings, skipped, moved)
    return {phase.name: dict(zip(plan.sources, row, strict=True)) for phase, row in zip(plan.phases, rows, strict=True)}


def recount_learned(recipe, plan, manifests: dict, counted: dict, sequences_seen: int, skipped=()) -> dict[str, dict[str, int]]:
    """Return phase -> source -> tokens that counted in the loss: all that were seen, but where something is hidden from learning."""
    from codemix_megatron.cli.progress import progress_bar
    from codemix_megatron.mixture.audit import EMPTY, count_learned
    from codemix_megatron.mixture.recipe_reader import recipe_reader

    reader = recipe_reader(recipe, manifests, rewrites=False)  # infilling moves no document's end and hides nothing
    if not reader.hiding:
        return {
            phase: {source: sum(n for language, n in languages.items() if language != EMPTY) for source, languages in sources.items()}
            for phase, sources in counted.items()
        }
    with progress_bar("sequences") as bar:
        task = bar.add_task("reading what was learned", total=sequences_seen)

        def moved(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        rows = count_learned(plan.mixture(), reader, sequences_seen, skipped, moved)
    return {phase.name: dict(zip(plan.sources, row, strict=True)) for phase, row in zip(plan.phases, rows, strict=True)}


def with_learned(counted: dict, learned: dict) -> dict:
    """Return the counts with what was learned of each source, where that is not all that was seen."""
    return {
        phase: {
            source: {**languages, **({} if learned[phase][source] == sum(languages.values()) else {"(learned)": learned[phase][source]})}
            for source, languages in sources.items()
        }
        for phase, sources in counted.items()
    }


def print_table(counted: dict, learned: dict) -> None:
    """Print a row for every language of every source of every phase, and how much of a source was learned where it is not all."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    table = Table("phase", "source", "language", "tokens", "share of phase")
    table.columns[3].justify = table.columns[4].justify = "right"
    for phase, sources in counted.items():
        whole = sum(sum(languages.values()) for languages in sources.values())
        for source, languages in sources.items():
            for language, tokens in sorted(languages.items(), key=lambda item: -item[1]):
                table.add_row(phase, source, language, f"{tokens:,}", f"{100 * tokens / whole:.2f} %")
            if (counts := learned[phase][source]) != sum(languages.values()):
                table.add_row(phase, source, "(learned)", f"{counts:,}", f"{100 * counts / whole:.2f} %")
        table.add_section()
    Console().print(table)


def compare(plan, counted: dict, last_step: StepEvent) -> list[str]:
    """Return where the recount of a source differs from the journal, token by token."""
    wrong = []
    for source, journalled in last_step.tokens_per_source.items():
        recounted = sum(sum(sources[source].values()) for sources in counted.values()) + plan.sources[source]["tokens_before"]
        if recounted != journalled:
            wrong.append(f"{source}: {recounted} recounted, {journalled} in the journal")
    return wrong


def compare_learned(learned: dict, steps: list[StepEvent]) -> list[str]:
    """Return where what was learned of a source differs from the sum over the journal's steps; journals of earlier versions do not say it."""
    journalled = [step.learned_per_source for step in steps if step.learned_per_source is not None]
    if len(journalled) < len(steps):
        return []
    wrong = []
    for source in next(iter(learned.values())):
        recounted, logged = sum(sources[source] for sources in learned.values()), sum(of.get(source, 0) for of in journalled)
        if recounted != logged:
            wrong.append(f"{source}: {recounted} tokens learned by the recount, {logged} by the journal")
    return wrong
