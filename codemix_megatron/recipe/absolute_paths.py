"""The paths in a recipe, made absolute from the folder it lies in."""

from dataclasses import replace
from pathlib import Path

from codemix_megatron.plugins import find_plugin
from codemix_megatron.recipe.conversations import OF_TOKENIZER, PLAIN, Conversations
from codemix_megatron.recipe.filtering import FilterSpec
from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.recipe.schema import NAMED_READERS, Recipe

__all__ = ["resolve_paths"]


def resolve_paths(recipe: Recipe, directory: Path) -> Recipe:
    """Return the recipe with absolute paths and default prefixes filled in."""

    def absolute(path: str) -> str:
        if path.startswith(PREFIX):
            return PREFIX + absolute(path.removeprefix(PREFIX))
        return path if "://" in path else str((directory / Path(path).expanduser()).absolute())

    def document(path: str) -> str:
        reader, named, rest = path.partition(":")
        if path.startswith("python:"):
            return path
        if named and reader.isidentifier() and reader not in NAMED_READERS and "://" not in path and find_plugin("readers", reader):
            return f"{reader}:{absolute(rest)}" if rest.startswith(("./", "../", "~")) else path
        return f"{reader}:{absolute(rest)}" if named and reader in NAMED_READERS else absolute(path)

    corpora = {
        name: replace(
            spec,
            documents=tuple(document(p) for p in spec.documents),
            prefix=absolute(spec.prefix or f"corpora/{name}"),
            filters=resolve_filters(spec.filters, absolute),
            conversations=resolve_template(spec.conversations, absolute, recipe.tokenizer.path),
        )
        for name, spec in recipe.corpora.items()
    }
    evaluation, asked = recipe.evaluation, recipe.evaluation.while_training
    tasks, data = evaluation.tasks_directory, evaluation.data_directory
    evaluation = replace(
        evaluation,
        tasks_directory=absolute(tasks) if tasks else tasks,
        data_directory=absolute(data) if data else data,
        suites=absolute_suites(evaluation.suites, absolute),
        while_training=asked and replace(asked, suites=absolute_suites(asked.suites, absolute)),
    )
    return replace(
        recipe,
        corpora=corpora,
        evaluation=evaluation,
        tokenizer=replace(recipe.tokenizer, path=absolute(recipe.tokenizer.path)),
        initial_weights=absolute(recipe.initial_weights) if recipe.initial_weights else None,
        branch=replace(recipe.branch, run=absolute(recipe.branch.run)) if recipe.branch else None,
    )


def resolve_template(spec: Conversations | None, absolute, tokenizer: str) -> Conversations | None:
    """Return how conversations are read with the file of their chat template named, be it one beside the tokenizer."""
    if spec is None or spec.template == PLAIN:
        return spec
    return replace(spec, template=absolute(tokenizer if spec.template == OF_TOKENIZER else spec.template))


def absolute_suites(suites: tuple[str, ...], absolute) -> tuple[str, ...]:
    """Return suites with the paths of those that are files made absolute."""
    return tuple(absolute(suite) if suite.endswith((".yaml", ".yml")) else suite for suite in suites)


def resolve_filters(spec: FilterSpec, absolute) -> FilterSpec:
    """Return the filters with the paths of their evaluation sets and of other corpora made absolute."""
    spec = replace(spec, apart_from=tuple(absolute(entry) if "/" in entry else entry for entry in spec.apart_from))
    if spec.decontamination is None:
        return spec
    against = tuple(absolute(path) for path in spec.decontamination.against)
    return replace(spec, decontamination=replace(spec.decontamination, against=against))
