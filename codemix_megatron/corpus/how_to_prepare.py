"""How corpora are prepared, beside what each of them says itself; and how far one has come."""

from collections.abc import Callable
from dataclasses import dataclass

from codemix_megatron.corpus.parts import Shard
from codemix_megatron.recipe.schema import Recipe

__all__ = ["MAX_BAD_SHARE", "HowToPrepare", "Progress", "ProgressState", "Say", "silent"]

MAX_BAD_SHARE = 0.001


@dataclass
class ProgressState:
    """How far a corpus has come."""

    name: str
    total_bytes: int
    bytes_read: int = 0
    num_documents: int = 0  # tokenized now; those of parts done before are not counted
    num_tokens: int = 0


Progress = Callable[[ProgressState], None]
Say = Callable[[str], None]  # told each decision the user may wonder about


def silent(*_) -> None:
    """Report nothing."""


@dataclass(frozen=True, kw_only=True)
class HowToPrepare:
    """How the corpora of a recipe are prepared, beside what each of them says itself.

    With `shard`, only its parts are encoded and nothing is published; with `only_merge` nothing is encoded.
    """

    held_out_share: float = 0.0
    seed: int = 0  # of the order of documents, where a corpus wants it shuffled
    max_bad_share: float = MAX_BAD_SHARE
    force: bool = False  # prepare again what is already prepared
    check_inputs: bool = False  # compare every byte of the inputs with what was read, where a quick look would do
    workers: int | None = None  # processes; default: as many as the input is worth
    shard: Shard | None = None
    only_merge: bool = False
    duplicates_by: str = "memory"  # what decides which documents are copies, when all parts are done: see finishing.DECIDERS
    recipe: Recipe | None = None  # what names in `apart_from` are looked up in
    progress: Progress = silent
    say: Say = silent
