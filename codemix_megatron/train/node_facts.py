"""What a rank finds on its node that has to be as on the others: devices, versions, code, corpora, the run folder, the clock."""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.provenance import installed_versions
from codemix_megatron.version import __version__
from codemix_megatron.watch.rank_environment import node_name

__all__ = ["QUESTION", "NodeFacts", "Token", "facts_of_node", "wait_for_text"]

DECIDING = ("python", "torch", "megatron-core", "transformer-engine", "numpy")
QUESTION = "main"  # the main rank's file in the folder of a token
SEEN_WITHIN_SECONDS = 5.0  # what another node wrote; a network file system may be late
PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Token:
    """A file that the main rank wrote into the run folder: one in a folder of its own, where each node answers."""

    folder: Path
    text: str
    written_at: float  # by the main rank's clock

    def answer(self, rank: int) -> Path:
        """Return the file of one node's first rank."""
        return self.folder / f"rank-{rank}"


@dataclass(frozen=True)
class NodeFacts:
    """One node, as its first rank sees it."""

    rank: int
    node: str
    device: str
    versions: dict[str, str]
    corpora: dict[str, str] = field(default_factory=dict)  # file -> bytes, or why they are unknown
    folder_fault: str | None = None


def facts_of_node(recipe: Recipe, ranks: Ranks, token: Token) -> NodeFacts:
    """Return what this rank finds; takes no part in any collective and raises nothing."""
    return NodeFacts(
        rank=ranks.rank,
        node=node_name(),
        device=device_words(ranks.device),
        versions=deciding_versions(),
        corpora={str(path): size_words(path) for path in local_corpora(recipe)},
        folder_fault=answer(token, ranks.rank),
    )


def deciding_versions() -> dict[str, str]:
    """Return the versions of what computes here; that of this package with a checksum, for it is edited in between."""
    there = installed_versions()
    return {name: there[name] for name in DECIDING if name in there} | {"codemix_megatron": f"{__version__} ({digest_of_code()})"}


def device_words(device: torch.device) -> str:
    """Return kind, name, memory and count of the devices here."""
    if device.type != "cuda":
        return device.type
    found = torch.cuda.get_device_properties(device)
    return f"{torch.cuda.device_count()} x {found.name}, {found.total_memory / 2**30:.0f} GiB"


def digest_of_code() -> str:
    """Return the beginning of a checksum of this package's source files."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def local_corpora(recipe: Recipe) -> list[Path]:
    """Return the files of corpora that are not behind a URL."""
    prefixes = [spec.prefix for spec in recipe.corpora.values() if spec.prefix and "://" not in spec.prefix]
    return [Path(f"{prefix}{ending}") for prefix in prefixes for ending in (".bin", ".idx")]


def size_words(path: Path) -> str:
    """Return a file's size, or why it is not known."""
    try:
        return f"{path.stat().st_size} bytes"
    except OSError as fault:
        return (fault.strerror or str(fault)).lower()


def answer(token: Token, rank: int) -> str | None:
    """Read what the main rank wrote and answer beside it; return what is wrong with the run folder here."""
    try:
        if (fault := wait_for_text(token.folder / QUESTION, token.text)) is None:
            token.answer(rank).write_text(token.text)
        return fault
    except OSError as fault:
        return f"cannot be written here ({fault.strerror or fault})"


def wait_for_text(path: Path, text: str) -> str | None:
    """Return what is wrong with a file that another node wrote, once it has had time to come."""
    deadline = time.monotonic() + SEEN_WITHIN_SECONDS
    while True:
        try:
            if path.read_text() == text:
                return None
            fault = "holds something else"
        except OSError as caught:
            fault = (caught.strerror or str(caught)).lower()
        if time.monotonic() > deadline:
            return f"what another node wrote into it is not seen ({path.parent.name}/{path.name}: {fault})"
        time.sleep(0.05)
