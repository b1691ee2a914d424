"""Whether a recipe and the corpora it names speak of the same thing: what a run says of itself must be what it read.

A corpus is prepared once and trained on later, perhaps elsewhere; the recipe may have changed in between. What the manifest
records of the preparation is compared with what the recipe says now. Paths may differ as far as the project was moved.
"""

from collections.abc import Sequence
from pathlib import Path, PurePath

from codemix_megatron.plan.tokenizer_agreement import corpus_tokenizer_faults, pretrained_tokenizer_faults
from codemix_megatron.recipe.filtering import FilterSpec, with_presets
from codemix_megatron.recipe.reading_documents import how_documents_are_read
from codemix_megatron.recipe.schema import CorpusSpec, Recipe, as_plain
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.manifest import CorpusManifest, manifest_path

__all__ = ["find_disagreements"]

WAY_OUT = "run `codemix prepare` again, or say here what the corpus was prepared with"


def find_disagreements(recipe: Recipe, manifests: dict[str, CorpusManifest]) -> list[str]:
    """Return a line for each setting in which the recipe differs from the manifests of its corpora; nothing when they agree."""
    faults = []
    for name, manifest in manifests.items():
        spec = recipe.corpora[name]
        differences = [
            *kind_difference(spec, manifest),
            *documents_difference(spec, manifest),
            *reading_differences(spec, manifest),
            *held_out_difference(recipe, spec, manifest),
            *filter_differences(spec, manifest),
            *mask_difference(spec, manifest),
            *apart_difference(manifest, {n: m for n, m in manifests.items() if n != name}),
        ]
        faults += [f"corpora.{name}.{line}; {WAY_OUT}" for line in differences]
    faults += corpus_tokenizer_faults(recipe, manifests)
    return faults + pretrained_tokenizer_faults(recipe, manifests)


def kind_difference(spec: CorpusSpec, manifest: CorpusManifest) -> list[str]:
    """Compare which side of the mixture the corpus is on."""
    return [] if spec.kind == manifest.kind else [f"kind: {spec.kind} in the recipe, {manifest.kind} when it was prepared"]


def held_out_difference(recipe: Recipe, spec: CorpusSpec, manifest: CorpusManifest) -> list[str]:
    """Compare the share that is not trained on and whether documents were shuffled; an adopted corpus has its own."""
    ours, theirs = recipe.evaluation.held_out_share, manifest.held_out_share
    if not spec.documents or not manifest.documents:
        return []
    faults = [] if ours == theirs else [f"held_out_share: {ours:g} in the recipe's evaluation, {theirs:g} when it was prepared"]
    if spec.shuffle != (manifest.shuffle_seed is not None):
        faults.append(f"shuffle: {str(spec.shuffle).lower()} in the recipe, {str(not spec.shuffle).lower()} when it was prepared")
    return faults


def mask_difference(spec: CorpusSpec, manifest: CorpusManifest) -> list[str]:
    """Compare whether the corpus says which tokens are learned; one adopted says so by itself."""
    if not spec.documents or (spec.conversations is None) == (not manifest.loss_mask_sha256):
        return []
    wanted, found = ("with", "without") if spec.conversations else ("without", "with")
    return [f"conversations: {wanted} a loss mask in the recipe, {found} one when it was prepared"]


def apart_difference(manifest: CorpusManifest, others: dict[str, CorpusManifest]) -> list[str]:
    """Compare the corpora whose documents were left out with what they are now: one prepared again may hold documents of this one."""
    old, new = roots(original_prefix(manifest), manifest.prefix)
    now = {other.prefix: (name, other.bin_sha256) for name, other in others.items()}
    changed = []
    for prefix, checksum in manifest.apart_from.items():
        moved = new + prefix.removeprefix(old) if old and prefix.startswith(old) else prefix
        name, found = now.get(prefix) or now.get(moved) or ("", checksum)
        changed += [name] if found != checksum else []
    return [f"filters.apart_from: {', '.join(changed)} is another corpus now than when it was prepared"] if changed else []


def documents_difference(spec: CorpusSpec, manifest: CorpusManifest) -> list[str]:
    """Compare the documents by name; a corpus that says none, here or there, makes no claim."""
    if not spec.documents or not manifest.documents:
        return []
    prepared_as = original_prefix(manifest)
    if same_paths(spec.documents, manifest.documents, manifest.prefix, prepared_as):
        return []
    return [f"documents: {', '.join(spec.documents)} in the recipe, {', '.join(manifest.documents)} when it was prepared"]


def reading_differences(spec: CorpusSpec, manifest: CorpusManifest) -> list[str]:
    """Compare how documents are read: keys of records, chat templates, what is learned; older manifests do not say it."""
    ours = how_documents_are_read(spec) if spec.documents else {}
    differing = {key: there for key, there in manifest.reading.items() if key in ours and ours[key] != there}
    if None in (spec.conversations, manifest.reading.get("conversations")):
        differing.pop("conversations", None)  # mask_difference tells it
    return [f"{key}: {shown(ours[key])} in the recipe, {shown(there)} when it was prepared" for key, there in differing.items()]


def original_prefix(manifest: CorpusManifest) -> str:
    """Return the prefix a corpus had when it was prepared; it may have been moved since."""
    if "://" in manifest.prefix:
        return ""
    try:
        return str(read_json(manifest_path(manifest.prefix)).get("prefix", ""))
    except (OSError, ValueError):
        return ""


def same_paths(ours: Sequence[str], theirs: Sequence[str], our_prefix: str, their_prefix: str) -> bool:
    """Say whether two lists of documents name the same, on this machine or on the one the corpus was moved from.

    Where the prefix is as it was, so are they; where it moved, they moved with it, or lie elsewhere under their last names.
    """
    if sorted(ours) == sorted(theirs):
        return True
    if our_prefix == their_prefix or len(ours) != len(theirs):
        return False
    old, new = roots(their_prefix, our_prefix)
    moved = sorted(new + path.removeprefix(old) if old and path.startswith(old) else path for path in theirs)
    return moved == sorted(ours) or sorted(PurePath(p).name for p in ours) == sorted(PurePath(p).name for p in theirs)


def roots(old: str, new: str) -> tuple[str, str]:
    """Return the folders in which two paths are called the same: of /a/x/web and /b/x/web, /a and /b."""
    before, after = list(PurePath(old).parts), list(PurePath(new).parts)
    while before and after and before[-1] == after[-1]:
        before.pop()
        after.pop()
    return str(Path(*before)) if before else "", str(Path(*after)) if after else ""


def filter_differences(spec: CorpusSpec, manifest: CorpusManifest) -> list[str]:
    """Compare each filter's settings, presets filled in; of evaluation sets the names."""
    unset = as_plain(FilterSpec())
    ours = {name: value for name, value in as_plain(with_presets(spec.filters)).items() if value != unset[name]}
    theirs, faults = {name: value for name, value in manifest.filters.items() if name in unset}, []
    for name in dict.fromkeys([*ours, *theirs]):
        here, there = comparable(ours.get(name)), comparable(theirs.get(name))
        if isinstance(here, dict) and isinstance(there, dict):
            there = {key: value for key, value in there.items() if key in here}  # the manifest adds checksums
        if here != there:
            faults.append(f"filters.{name}: {shown(here)} in the recipe, {shown(there)} when it was prepared")
    return faults


def comparable(value):
    """Return a filter's settings with the paths of evaluation sets cut to their last names."""
    if isinstance(value, dict) and "against" in value:
        return {**value, "against": [PurePath(path).name for path in value["against"]]}
    return value


def shown(value) -> str:
    """Return a filter's settings as a message says them."""
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
