"""The commands by what they are for, with a line on each; their modules are imported only when one is asked for."""

import argparse
import importlib
import shutil
import textwrap

__all__ = ["COMMANDS", "GROUPS", "command_list", "declare"]

GROUPS = {
    "first steps": {
        "demo": "every command on the standard library's own sources, in minutes",
        "init": "a first recipe and study with comments, from two folders or a public model",
        "examples": "the recipes, studies and site files that documentation names, listed or copied",
        "doctor": "what this machine has: devices, versions, engines, and whether they work",
        "completion": "a script that completes commands, options and files in bash, zsh or tcsh",
    },
    "corpora": {
        "corpora": "the corpora block of a recipe, from a company's repositories, tickets, wiki and notebooks",
        "prepare": "documents -> Megatron .bin/.idx corpora with manifests",
        "merge": "join the parts that the shards of `codemix prepare --shard` have done",
        "inspect": "what a prepared corpus holds: its manifest, and documents as text",
        "score": "what documents look like, parse, and are worth to a model, as columns beside a corpus",
        "verify-corpus": "read prepared corpora again, all of it, and name what is damaged",
        "remove": "make a corpus without documents of an origin, and name the runs that read them",
        "tokenizer": "train a tokenizer on corpora, compare tokenizers on them",
        "synthesize": "a teacher writes solutions and tests, the sandbox keeps those that agree, as a corpus",
        "verify": "run solutions against their tests in a sandbox, keep those that pass",
    },
    "training": {
        "plan": "show what a recipe will do: sequences, steps, epochs, parameters, memory, FLOPs",
        "train": "train a recipe on any number of ranks; resumes a run folder that is there",
        "watch": "follow a run that trains elsewhere, through the files of its folder alone",
        "audit": "what a run really consumed, recounted per phase, source and language",
        "checkpoints": "list what a run has saved, why each is kept, and whether it is complete",
        "average": "the mean of a run's last checkpoints, as a run to export, score, branch off or train on from",
    },
    "clusters": {
        "launch": "train, prepare or evaluate as Slurm jobs that are requeued after failures",
        "site": "a site file for this cluster, out of what Slurm says of it",
    },
    "models": {
        "import": "Hugging Face folder -> run folder to train on from",
        "export": "checkpoint -> Hugging Face folder, logits checked",
        "evaluate": "score an export: bits per byte, multiple choice through lm-eval",
        "judge": "whose answers a judge prefers: pairwise, both orders, over any OpenAI-compatible endpoint",
    },
    "many runs": {
        "study": "many runs that share parents, described once: plan, run, status, resume, report",
        "swarm": "mixtures drawn, trained, fitted, and the next ones proposed, round after round",
        "law": "what mixtures do to losses, fitted over many runs, and which to try next",
        "report": "runs -> one HTML page with figures",
        "pages": "studies -> static pages with a search, lineage, mixtures, samples of documents and texts",
    },
}

COMMANDS = {name: summary for group in GROUPS.values() for name, summary in group.items()}

MODULES = {"import": "import_", "verify-corpus": "verify_corpus", "study": "study.command"}  # where a command's name cannot be a module's

MARGIN = 17  # columns before the summaries


def command_list() -> str:
    """Return all commands under the headings of their groups, as wide as the terminal."""
    width = max(60, min(shutil.get_terminal_size().columns, 120) - 2)
    return "\n\n".join(
        f"{group}:\n" + "\n".join(entry(name, summary, width) for name, summary in names.items()) for group, names in GROUPS.items()
    )


def entry(name: str, summary: str, width: int) -> str:
    """Return one command with its summary beside it, wrapped."""
    return textwrap.fill(summary, width, initial_indent=f"  {name:<{MARGIN - 2}}", subsequent_indent=" " * MARGIN, break_on_hyphens=False)


def declare(name: str, command: argparse.ArgumentParser) -> None:
    """Import a command's module and let it declare its arguments."""
    module = importlib.import_module(f"codemix_megatron.cli.{MODULES.get(name, name)}")
    command.epilog = getattr(module, "EPILOG", None)
    module.add_arguments(command)
    command.set_defaults(run=module.run)
