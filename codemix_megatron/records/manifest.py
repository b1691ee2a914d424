"""CorpusManifest: what stands beside PREFIX.bin and PREFIX.idx, as PREFIX.manifest.json."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import as_written, read_json, write_json
from codemix_megatron.redaction import with_variables

__all__ = ["CorpusManifest", "EncoderMetadata", "TokenizerMetadata", "loss_mask_path", "manifest_path", "read_remote_bytes", "scores_path"]

VERSION = 1
CHECKSUM = "checksum"  # of the manifest itself, in its file


@dataclass(frozen=True, kw_only=True)
class TokenizerMetadata:
    """Which tokenizer made the ids; two corpora mix only when all but type and path are equal."""

    type: str  # huggingface or sentencepiece
    path: str
    sha256: str
    vocab_size: int
    end_of_document_id: int
    beginning_of_document_id: int | None = None  # None writes none
    tokens_in_documents: list[str] = field(default_factory=list)  # added tokens that are not text where a document spells them out

    @property
    def identity(self) -> tuple:
        """What decides ids: equal where two corpora hold the same ids for the same documents."""
        return self.sha256, self.end_of_document_id, self.beginning_of_document_id, tuple(self.tokens_in_documents)


@dataclass(frozen=True, kw_only=True)
class EncoderMetadata:
    """Which library made the ids, and on how much of the corpus its ids were compared with the reference's."""

    library: str  # name and version
    reference: str = ""  # that which defines the ids
    checked_texts: int = 0
    checked_bytes: int = 0
    refused: str = ""  # why the fast library was not used
    differing: list[str] = field(default_factory=list)  # characters that occur and on which the two differ, such as U+180E
    reference_documents: int = 0  # left to the reference, for they hold one of these, or the fast library fails on them


@dataclass(frozen=True, kw_only=True)
class CorpusManifest:
    """Counts, origin and checksums of one prepared corpus.

    Documents stand in the file in this order: those trained on, then the held-out ones; so training
    reads tokens [0, train_tokens) and validation reads [train_tokens, num_tokens). Token counts
    include the end-of-document token of each document; bytes are UTF-8 bytes of the text.
    """

    name: str
    kind: str
    prefix: str
    dtype: str  # uint16 or int32
    num_documents: int
    num_tokens: int
    num_bytes: int
    train_documents: int
    train_tokens: int
    train_bytes: int
    held_out_share: float
    tokenizer: TokenizerMetadata
    bin_sha256: str
    idx_sha256: str
    documents: list[str]  # the specs given: files, folders, globs, python:code
    input_fingerprint: str  # changes when names, sizes or contents of the inputs change
    dropped: dict[str, int] = field(default_factory=dict)  # reason -> documents left out
    dropped_places: dict[str, list[str]] = field(default_factory=dict)  # reason -> first few file:line
    dropped_examples: dict[str, list[str]] = field(default_factory=dict)  # filter -> beginnings of texts it dropped
    rewritten: dict[str, int] = field(default_factory=dict)  # what filters changed -> documents
    redactions: dict[str, dict] = field(default_factory=dict)  # form -> masks, documents, samples [location, text with the mask]
    unknown: dict[str, int] = field(default_factory=dict)  # documents that hold what the tokenizer has no token for; how much is lost
    unknown_places: list[str] = field(default_factory=list)  # the first of them
    filters: dict = field(default_factory=dict)  # their settings
    reading: dict = field(default_factory=dict)  # the recipe's keys that say how documents are read; empty in older manifests
    apart_from: dict[str, str] = field(default_factory=dict)  # prefix -> bin_sha256 of corpora whose documents were left out
    inputs_read: list[list] = field(default_factory=list)  # of each large input [hash of what was read, quick look]
    shuffle_seed: int | None = None  # of the order of documents; None where it is that of the input
    encoder: EncoderMetadata | None = None
    loss_mask_sha256: str = ""  # of PREFIX.loss_mask.bin; empty where there is none and every token is learned
    learned_tokens: int | None = None  # of those trained on, where there is a mask
    scores_sha256: str = ""  # of PREFIX.scores.parquet; empty where documents have no scores
    scores: dict[str, dict] = field(default_factory=dict)  # column -> what it was made by, documents that have it, its mean
    kinds: dict[str, dict[str, int]] = field(default_factory=dict)  # kind -> documents, bytes, tokens
    languages: dict[str, dict[str, int]] = field(default_factory=dict)  # language -> the same
    licences: dict[str, dict[str, int]] = field(default_factory=dict)  # licence -> the same
    created_at: str = ""
    version: int = VERSION

    @property
    def held_out_documents(self) -> int:
        """Documents never trained on."""
        return self.num_documents - self.train_documents

    @property
    def held_out_tokens(self) -> int:
        """Tokens never trained on."""
        return self.num_tokens - self.train_tokens

    @property
    def held_out_bytes(self) -> int:
        """UTF-8 bytes of the held-out documents."""
        return self.num_bytes - self.train_bytes

    def write(self) -> Path:
        """Write the manifest beside its corpus; last, so that a corpus without one is incomplete."""
        path = manifest_path(self.prefix)
        plain = as_written(asdict(self))
        write_json(path, {**plain, CHECKSUM: checksum_of(plain)})
        return path

    @classmethod
    def read(cls, prefix, *, with_files: bool = True) -> "CorpusManifest":
        """Read the manifest of a prepared corpus and check that its files have the promised sizes, unless `with_files` is false."""
        path = f"{prefix}.manifest.json" if "://" in str(prefix) else manifest_path(prefix)
        try:
            plain = read_remote_json(path) if isinstance(path, str) else read_json(path)
            check_checksum(plain)
            plain["tokenizer"] = TokenizerMetadata(**plain["tokenizer"])
            plain["encoder"] = EncoderMetadata(**plain["encoder"]) if plain.get("encoder") else None
            plain["prefix"] = str(prefix)  # a corpus may have been moved
            manifest = cls(**{f.name: plain[f.name] for f in fields(cls) if f.name in plain})
        except FileNotFoundError:
            raise CorpusError(f"{path}: no prepared corpus there; run `codemix prepare RECIPE` first") from None
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise CorpusError(f"{path}: not a readable corpus manifest ({fault}); prepare the corpus again") from None
        check_dtype(manifest, path)
        if with_files and not isinstance(path, str):
            check_sizes(manifest)
        return manifest


def manifest_path(prefix) -> Path:
    """Return the manifest's path for a corpus prefix."""
    return Path(f"{prefix}.manifest.json")


def loss_mask_path(prefix) -> str:
    """Return the path, or the URL, of the file that says which tokens are learned."""
    return f"{prefix}.loss_mask.bin"


def scores_path(prefix) -> str:
    """Return the path, or the URL, of the table of scores by document."""
    return f"{prefix}.scores.parquet"


def checksum_of(plain: dict) -> str:
    """Return the checksum of everything else a manifest's file says."""
    rest = {name: value for name, value in plain.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_checksum(plain: dict) -> None:
    """Raise ValueError when a manifest is not what was written; those made before there was a checksum, or by hand, have none."""
    if CHECKSUM in plain and plain[CHECKSUM] != checksum_of(plain):
        raise ValueError(f"its own checksum is {checksum_of(plain)[:12]}..., it says {str(plain[CHECKSUM])[:12]}...: damaged or edited")


def check_dtype(manifest: CorpusManifest, path) -> None:
    """Raise CorpusError when ids of the tokenizer do not fit into the corpus's dtype."""
    largest = {"uint16": 2**16, "int32": 2**31}.get(manifest.dtype, 0)
    if manifest.tokenizer.vocab_size > largest:
        raise CorpusError(f"{path}: {manifest.tokenizer.vocab_size} ids do not fit into {manifest.dtype}; prepare the corpus again")


def read_remote_json(url: str):
    """Return the JSON behind a URL, through fsspec; what its store raises becomes OSError."""
    return json.loads(read_remote_bytes(url))


def read_remote_bytes(url: str) -> bytes:
    """Return what is behind a URL, through fsspec; what its store raises becomes OSError."""
    import fsspec

    try:
        with fsspec.open(with_variables(url), "rb") as handle:
            return handle.read()
    except (OSError, ValueError):
        raise
    except Exception as fault:  # every store has errors of its own
        raise OSError(f"{type(fault).__name__}: {fault}") from fault


def check_sizes(manifest: CorpusManifest) -> None:
    """Raise CorpusError when .bin or .idx are missing or .bin has another length than promised."""
    item_bytes = {"uint16": 2, "int32": 4}[manifest.dtype]
    for suffix in (".bin", ".idx"):
        if not Path(manifest.prefix + suffix).is_file():
            raise CorpusError(f"{manifest.prefix}{suffix}: missing although its manifest is there; prepare the corpus again")
    found, wanted = Path(manifest.prefix + ".bin").stat().st_size, manifest.num_tokens * item_bytes
    if found != wanted:
        raise CorpusError(
            f"{manifest.prefix}.bin: {found} bytes, its manifest promises {wanted}"
            f" ({manifest.num_tokens} tokens of {manifest.dtype}); prepare the corpus again"
        )
    if manifest.loss_mask_sha256:
        mask = Path(loss_mask_path(manifest.prefix))
        found, wanted = mask.stat().st_size if mask.is_file() else -1, -(-manifest.num_tokens // 8)
        if found != wanted:
            there = f"{found} bytes" if found >= 0 else "missing"
            raise CorpusError(f"{mask}: {there}, its manifest promises {wanted} (a bit for each token); prepare the corpus again")
