"""Documents -> PREFIX.bin, PREFIX.idx and PREFIX.manifest.json: complete or absent, and only written when something changed."""

import difflib
from dataclasses import replace

from codemix_megatron.corpus.disk import explaining_write_faults
from codemix_megatron.corpus.how_to_prepare import MAX_BAD_SHARE, HowToPrepare, Progress, ProgressState
from codemix_megatron.corpus.preparation import Preparation, encoding_notes, same_tokenizer
from codemix_megatron.corpus.tokenizers import DocumentTokenizer, recipe_tokenizer
from codemix_megatron.corpus.wanted_tokenizer import prepare_tokenizer
from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.recipe.schema import CorpusSpec, Recipe
from codemix_megatron.records.manifest import CorpusManifest, manifest_path

__all__ = [
    "MAX_BAD_SHARE",
    "HowToPrepare",
    "Progress",
    "ProgressState",
    "UnpreparedError",
    "encoding_notes",
    "prepare_corpus",
    "prepare_recipe",
    "prepare_tokenizer",
]


class UnpreparedError(CorpusError):
    """One or more corpora of a recipe could not be prepared; `finished` holds the manifests of the others."""

    def __init__(self, faults: list[CorpusError], finished: dict[str, CorpusManifest]):
        super().__init__("\n".join(map(str, faults)), exit_code=min(fault.exit_code for fault in faults))
        self.finished = finished


def prepare_recipe(recipe: Recipe, names=None, how: HowToPrepare | None = None) -> dict[str, CorpusManifest]:
    """Prepare the corpora of a recipe, or those in `names`, in its order; train its tokenizer first when that is missing and wanted.

    Returns corpus name -> manifest, without those a shard has only done its parts of. Held-out share and seed are
    the recipe's. Raises UnpreparedError with the faults of all corpora that could not be prepared; the others are, and stay.
    """
    how = replace(how or HowToPrepare(), held_out_share=recipe.evaluation.held_out_share, seed=recipe.seed, recipe=recipe)
    names = list(recipe.corpora) if names is None else list(names)
    for name in names:
        if name not in recipe.corpora:
            close = difflib.get_close_matches(name, recipe.corpora, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(recipe.corpora)}"
            raise CorpusError(f"{name}: no such corpus in the recipe; {hint}")
    names = [name for name in recipe.corpora if name in names]  # what one keeps apart from comes before it, whatever was named first
    if how.shard or how.only_merge:
        tokenizer = recipe_tokenizer(recipe.tokenizer)  # shards would train it all at once
    else:
        tokenizer = prepare_tokenizer(recipe, say=how.say)
    done: dict[str, CorpusManifest] = {}
    faults: list[CorpusError] = []
    for name in names:
        try:
            manifest = prepare_corpus(name, recipe.corpora[name], tokenizer, how)
        except CorpusError as fault:
            faults.append(fault)
            if fault.exit_code == MACHINE_FAULT:
                break  # a full disk is full for the others too
        else:
            done |= {name: manifest} if manifest is not None else {}
    if faults:
        raise UnpreparedError(faults, done)
    return done


def prepare_corpus(name: str, spec: CorpusSpec, tokenizer: DocumentTokenizer, how: HowToPrepare) -> CorpusManifest | None:
    """Tokenize the documents of one corpus and return its manifest; one already prepared from the same is returned as it is.

    Exact duplicates and empty texts are left out and counted. Raises CorpusError when nothing is left, when more than
    `max_bad_share` of the documents are damaged, or when the disk is full; then nothing of the new corpus stands under
    its name, and an older one is untouched. Parts that were done stay in a hidden folder, and the next call takes
    them up. A shard returns None.
    """
    if "://" in str(spec.prefix):
        raise CorpusError(f"corpora.{name}.prefix: {spec.prefix} is remote; prepare into a local prefix and copy the files there")
    if not spec.documents:
        return adopted(name, spec, tokenizer)
    preparation = Preparation(name, spec, find_inputs(spec, where=f"corpora.{name}.documents", say=how.say), tokenizer, how)
    if not how.force and manifest_path(spec.prefix).exists():
        manifest, why = preparation.prepared_before()
        if manifest is not None:
            how.say(f"{name}: already prepared, nothing has changed")
            return replace(manifest, name=name)
        how.say(f"{name}: preparing again, {why}")
    elif not how.force:
        preparation.refuse_to_overwrite()
    with explaining_write_faults(f"{spec.prefix}.bin", preparation.estimate_bytes), preparation.folder.held(alone=how.shard is None):
        if not how.only_merge:
            preparation.encode()
        return None if how.shard else preparation.finish()


def adopted(name: str, spec: CorpusSpec, tokenizer: DocumentTokenizer) -> CorpusManifest:
    """Return the manifest of a corpus that names no documents, because it was prepared elsewhere."""
    if not manifest_path(spec.prefix).exists():
        raise CorpusError(f"corpora.{name}.documents: none named, and nothing is prepared at {spec.prefix}; name files, folders or globs")
    manifest = CorpusManifest.read(spec.prefix)
    if not same_tokenizer(manifest, tokenizer):
        raise CorpusError(f"{spec.prefix}: prepared with another tokenizer ({manifest.tokenizer.path}) than {tokenizer.metadata.path}")
    return replace(manifest, name=name)
