"""The paper's grid as one study, and a small one that two CPU cores train with its report; written by tools/write_presets.py."""

from codemix_megatron.recipe.paper import RUNS, PaperPhase, PaperRun
from codemix_megatron.recipe.presets import GENERATED, SCALES, Scale, budget, corpus_line, mini_runs, phase_fields
from codemix_megatron.recipe.quantity import format_tokens

__all__ = ["study_files"]

SMALL, LARGE = "470m", "2.8b"
MINI = (
    "text-only",
    "balanced-only",
    "balanced-to-text",
    "code-to-text",
    "cooldown-without-code",
    "sweep-025",
    "sweep-050",
    "sweep-075",
    "sweep-100",
)
MIXES = {0.0: "text", 0.5: "balanced", 1.0: "code"}
KINDS = {("web_code",): "web", ("web_code", "code_adjacent"): "adjacent", ("web_code", "markup", "synthetic"): "synth"}

PAPER_HEAD = f"""# The grid of "To Code, or Not To Code?" (arXiv:2408.10914v1): the 26 runs that can be named, of the 64 models it counts.
# 19 at 470M: the rows of Table 2, with and without the synthetic code that its models have read; the two cooldown arms of Figure 6;
# the six shares of code of Figure 4; the four kinds of code of Figure 5a. 7 at 2.8B: Table 2's again, of which Figure 3 shows
# balanced-only, balanced-to-text and code-to-text. The paper lists no others. Tokens and shares are the paper's; what it leaves unsaid
# is chosen as ../paper/README.md says.
# {GENERATED}
#
#     codemix study plan examples/studies/paper.yaml --assume-tokens examples/paper/sizes.yaml --figure grid.png
"""
MINI_HEAD = f"""# The runs of the paper that need no more than text and code, with one token for a million of its tokens: two CPU cores train, score and
# compare them in 16 minutes. Documents: the documentation and the sources of this Python.
# {GENERATED}
#
#     codemix study run examples/studies/mini.yaml && codemix study report runs/mini
"""


def study_files() -> dict[str, str]:
    """Return path below examples/ -> text of every study."""
    small, large, mini = SCALES
    return {"studies/paper.yaml": paper_text(small, large), "studies/mini.yaml": mini_text(mini)}


def paper_text(small: Scale, large: Scale) -> str:
    """Return the study of both sizes; what the larger one has no run of is excluded."""
    only_small = [run.name for run in RUNS[SMALL] if run.name not in {other.name for other in RUNS[LARGE]}]
    runs = RUNS[SMALL]
    lines = [
        "name: paper",
        "base: ../paper/470m/balanced-to-text-synth.yaml",
        "device: v5e",
        "",
        "overrides:",
        f"  corpora.code_adjacent: {corpus_line('code_adjacent')}",
        f"  corpora.synthetic: {corpus_line('synthetic', max_epochs=6.5)}  # balanced-only-synth reads it 6.25 times",
        "",
        *phase_lines(runs, small),
        *variant_lines(runs, small),
        "axes:",
        "  size:",
        f"    {SMALL}: {{}}",
        f"    {LARGE}:",
        f"      model: {large.model}",
        f"      parallel: {large.layout}",
        "",
        "exclude:",
        f"  - {{size: {LARGE}, variant: [{', '.join(only_small)}]}}",
        "",
        "score: {suites: [bits_per_byte, paper, small], data_directory: ../evaluation, items: 100000}",
    ]
    return PAPER_HEAD + "\n".join(lines) + "\n"


def mini_text(scale: Scale) -> str:
    """Return the small study, on two tensor parallel ranks."""
    runs = [run for run in mini_runs() if run.name in MINI]
    lines = [
        "name: mini",
        "base: ../mini/balanced-to-text.yaml",
        "",
        "overrides:",
        "  parallel: {tensor: 2, device: cpu, timeout_seconds: 120}",
        "",
        *phase_lines(runs, scale),
        *variant_lines(runs, scale),
        "score: {suites: [bits_per_byte, continuation], items: 100}",
    ]
    return MINI_HEAD + "\n".join(lines) + "\n"


def whole_phases(run: PaperRun) -> list[PaperPhase]:
    """Return a run's phases from scratch: those of its parent before the cooldown, and its own."""
    if run.parent is None:
        return list(run.phases)
    parent = next(other for other in RUNS[SMALL] if other.name == run.parent)
    return [*(phase for phase in parent.phases if phase.name != "cooldown"), *run.phases]


def phase_name(phase: PaperPhase, scale: Scale) -> str:
    """Return what a phase is called in the study: by what it reads and, where two read the same, its tokens."""
    if phase.name != "init":
        return phase.name if phase.code else f"{phase.name}-without-code"
    kind = KINDS.get(tuple(phase.inside)) if phase.code else None
    words = [MIXES.get(phase.code, f"code-{100 * phase.code:g}"), *([kind] if kind else []), format_tokens(budget(phase, scale))]
    return "-".join(words)


def study_phases(run: PaperRun, runs, scale: Scale) -> dict[str, PaperPhase]:
    """Return name -> phase of a whole run, as the runs of this study have them: with their corpora."""
    named = {phase_name(phase, scale): phase for other in runs for phase in other.phases}
    return {(name := phase_name(phase, scale)): named[name] for phase in whole_phases(run)}


def phase_lines(runs, scale: Scale) -> list[str]:
    """Return the phases of all runs, each once."""
    phases = {name: phase for run in runs for name, phase in study_phases(run, runs, scale).items()}
    return ["phases:", *(f"  {name}: {{{', '.join(phase_fields(phase, scale))}}}" for name, phase in phases.items()), ""]


def variant_lines(runs, scale: Scale) -> list[str]:
    """Return the variants, each with the section of the paper it is from."""
    lines = [(f"  {run.name}: {{phases: [{', '.join(study_phases(run, runs, scale))}]}}", run.where) for run in runs]
    return ["variants:", *(f"{line}  # {where}" for line, where in lines), ""]
