"""The documents that a run has read, for commands that ask where they came from."""

from collections.abc import Iterator

import numpy as np

from codemix_megatron.corpus.document_table import DocumentOrigin, read_origins
from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import StepEvent
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["documents_of_run", "read_by_run"]


def read_by_run(folder: RunFolder) -> dict[str, tuple[CorpusManifest, np.ndarray]]:
    """Return source -> (manifest, whether each training document was read) of a run, as far as its journal goes."""
    from codemix_megatron.mixture.read_documents import documents_read
    from codemix_megatron.mixture.recipe_reader import recipe_packings
    from codemix_megatron.plan.branch import recorded_branch_point
    from codemix_megatron.plan.plan import make_plan, read_manifests
    from codemix_megatron.plan.run_recipe import read_run_recipe

    recipe = read_run_recipe(folder)
    known = read_manifests(recipe)
    plan = make_plan(recipe, known, branch=recorded_branch_point(folder))
    manifests, length = [known[name] for name in plan.sources], recipe.model.sequence_length
    steps = of_kind(read_events(folder.journal), StepEvent)
    packings = recipe_packings(recipe, dict(zip(plan.sources, manifests, strict=True)))
    read = documents_read(plan.mixture(), manifests, length, steps[-1].sequences if steps else 0, packings)
    return {name: (manifest, documents) for name, manifest, documents in zip(plan.sources, manifests, read, strict=True)}


def documents_of_run(folder: RunFolder) -> Iterator[tuple[str, DocumentOrigin]]:
    """Yield (corpus, document) of everything a run has read."""
    for manifest, read in read_by_run(folder).values():
        for document in read_origins(manifest.prefix):
            if document.document < len(read) and read[document.document]:
                yield manifest.prefix, document
