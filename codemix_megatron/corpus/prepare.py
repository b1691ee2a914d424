"""Documents -> PREFIX.bin, PREFIX.idx and PREFIX.manifest.json: whole or not at all, and only when something changed."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.disk import explaining_write_faults
from codemix_megatron.corpus.documents import BadDocument, Document, InputFile, Position
from codemix_megatron.corpus.held_out import HeldOutRule, text_digest
from codemix_megatron.corpus.indexed import IndexedWriter, token_dtype
from codemix_megatron.corpus.inputs import find_inputs, fingerprint_inputs
from codemix_megatron.corpus.tally import DUPLICATE, Tally
from codemix_megatron.corpus.tokenizers import DocumentTokenizer, load_tokenizer, train_tokenizer
from codemix_megatron.corpus.training_sample import sample_texts
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.schema import CorpusSpec, Recipe
from codemix_megatron.records.manifest import CorpusManifest, manifest_path

__all__ = ["MAX_BAD_SHARE", "Progress", "prepare_corpus", "prepare_recipe", "prepare_tokenizer"]

MAX_BAD_SHARE = 0.001
BATCH_DOCUMENTS = 512
BATCH_CHARACTERS = 4 << 20

Progress = Callable[[int, int, str], None]  # bytes read, bytes to read, what
Say = Callable[[str], None]  # told each decision the user may wonder about


def prepare_recipe(
    recipe: Recipe,
    names=None,
    force: bool = False,
    progress: Progress | None = None,
    *,
    max_bad_share: float = MAX_BAD_SHARE,
    say: Say | None = None,
) -> dict[str, CorpusManifest]:
    """Prepare the corpora of a recipe, or those in `names`; train its tokenizer first when that is missing and wanted.

    Returns corpus name -> manifest. Raises CorpusError; corpora finished before it stay.
    """
    names = list(recipe.corpora) if names is None else list(names)
    for name in names:
        if name not in recipe.corpora:
            close = difflib.get_close_matches(name, recipe.corpora, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(recipe.corpora)}"
            raise CorpusError(f"{name}: no such corpus in the recipe; {hint}")
    tokenizer = prepare_tokenizer(recipe, say=say)
    share = recipe.evaluation.held_out_share
    return {
        name: prepare_corpus(name, recipe.corpora[name], tokenizer, share, progress, force, max_bad_share=max_bad_share, say=say)
        for name in names
    }


def prepare_tokenizer(recipe: Recipe, *, say: Say | None = None) -> DocumentTokenizer:
    """Load the tokenizer of a recipe, training it when its file is missing and `train_vocab_size` is given.

    A file that is there is kept whatever its size: corpora and checkpoints may rest on it.
    """
    say = say or silent
    wanted, size = recipe.tokenizer, recipe.tokenizer.train_vocab_size
    there = Path(wanted.path).exists()
    if not there and size:
        corpora = [find_inputs(spec, where=f"corpora.{name}.documents") for name, spec in recipe.corpora.items() if spec.documents]
        say(f"tokenizer: training {size} tokens for {wanted.path}")
        texts = sample_texts(corpora, rule=HeldOutRule(recipe.evaluation.held_out_share), seed=recipe.seed)
        if not texts:
            raise CorpusError(f"{wanted.path}: no documents to train a tokenizer on; name some under corpora.NAME.documents")
        with explaining_write_faults(wanted.path):
            train_tokenizer(texts, size, wanted.path)
    tokenizer = load_tokenizer(wanted.path, wanted.end_of_document)
    if size and tokenizer.vocab_size != size:
        why = "remove the file to train it anew" if there else "the documents hold no more pairs that occur twice"
        say(f"tokenizer: {wanted.path} has {tokenizer.vocab_size} tokens, the recipe asks for {size}; {why}")
    return tokenizer


def prepare_corpus(
    name: str,
    spec: CorpusSpec,
    tokenizer: DocumentTokenizer,
    held_out_share: float,
    progress: Progress | None = None,
    force: bool = False,
    *,
    max_bad_share: float = MAX_BAD_SHARE,
    say: Say | None = None,
) -> CorpusManifest:
    """Tokenize the documents of one corpus and return its manifest; one already prepared from the same is returned as it is.

    Exact duplicates and empty texts are left out and counted. Raises CorpusError when nothing is left, when
    more than `max_bad_share` of the documents are damaged, or when the disk is full; then no file of the
    new corpus remains, and an older one under the same prefix is untouched.
    """
    say = say or silent
    if "://" in str(spec.prefix):
        raise CorpusError(f"corpora.{name}.prefix: {spec.prefix} is remote; prepare into a local prefix and copy the files there")
    if not spec.documents:
        return adopted(name, spec, tokenizer)
    inputs = find_inputs(spec, where=f"corpora.{name}.documents")
    fingerprint = fingerprint_inputs(spec, inputs)
    if not force and manifest_path(spec.prefix).exists():
        manifest, why = prepared_before(spec, tokenizer, held_out_share, fingerprint)
        if manifest is not None:
            say(f"{name}: already prepared, nothing has changed")
            return replace(manifest, name=name)
        say(f"{name}: preparing again, {why}")
    preparation = Preparation(name, spec, inputs, tokenizer, max_bad_share, progress or silent)
    with explaining_write_faults(f"{spec.prefix}.bin", preparation.estimate_bytes):
        manifest = preparation.run(HeldOutRule(held_out_share))
        manifest = replace(manifest, input_fingerprint=fingerprint)
        write_last(manifest)
    return manifest


def write_last(manifest: CorpusManifest) -> None:
    """Write the manifest; where that fails, tokens nobody can account for do not stay."""
    try:
        manifest.write()
    except BaseException:
        for suffix in (".bin", ".idx"):
            Path(manifest.prefix + suffix).unlink(missing_ok=True)
        raise


def adopted(name: str, spec: CorpusSpec, tokenizer: DocumentTokenizer) -> CorpusManifest:
    """Return the manifest of a corpus that names no documents, because it was prepared elsewhere."""
    if not manifest_path(spec.prefix).exists():
        raise CorpusError(f"corpora.{name}.documents: none named, and nothing is prepared at {spec.prefix}; name files, folders or globs")
    manifest = CorpusManifest.read(spec.prefix)
    if not same_tokenizer(manifest, tokenizer):
        raise CorpusError(f"{spec.prefix}: prepared with another tokenizer ({manifest.tokenizer.path}) than {tokenizer.card.path}")
    return replace(manifest, name=name)


def prepared_before(spec: CorpusSpec, tokenizer: DocumentTokenizer, held_out_share: float, fingerprint: str):
    """Return (manifest, "") of a corpus that is still good, else (None, why it is not)."""
    try:
        manifest = CorpusManifest.read(spec.prefix)
    except CorpusError as fault:
        return None, str(fault)
    if not same_tokenizer(manifest, tokenizer):
        return None, "it was made with another tokenizer"
    if manifest.held_out_share != held_out_share:
        return None, f"its held-out share was {manifest.held_out_share:g}, now {held_out_share:g}"
    if manifest.input_fingerprint != fingerprint:
        return None, "its documents or how they are read have changed"
    return manifest, ""


def same_tokenizer(manifest: CorpusManifest, tokenizer: DocumentTokenizer) -> bool:
    """Say whether both would write the same ids."""
    made, card = manifest.tokenizer, tokenizer.card
    return (made.sha256, made.end_of_document_id) == (card.sha256, card.end_of_document_id)


class Preparation:
    """One corpus on its way from documents to files."""

    def __init__(self, name: str, spec: CorpusSpec, inputs: list[InputFile], tokenizer: DocumentTokenizer, max_bad_share: float, progress):
        self.name, self.spec, self.inputs, self.tokenizer = name, spec, inputs, tokenizer
        self.max_bad_share, self.progress = max_bad_share, progress
        self.dtype = token_dtype(tokenizer.vocab_size)
        self.total_bytes = sum(file.num_bytes for file in inputs)
        self.bytes_read = self.bytes_written = 0

    def estimate_bytes(self) -> int:
        """Return the size of the token file, judged by the part that was read."""
        return int(self.bytes_written * max(1.0, self.total_bytes / max(1, self.bytes_read)))

    def run(self, rule: HeldOutRule) -> CorpusManifest:
        """Write .bin and .idx under their names and return the manifest that is still to be written."""
        while True:
            with IndexedWriter(self.spec.prefix, self.dtype) as writer, IndexedWriter(f"{self.spec.prefix}.held_out", self.dtype) as spool:
                tally = self.encode(rule, writer, spool)
                self.check(tally)
                mended = tally.mended_rule(rule)
                if mended is not None:
                    rule = mended
                    continue
                # Trained documents first, so that both sides are one range of tokens.
                writer.absorb(spool)
                writer.seal()
                manifest_path(self.spec.prefix).unlink(missing_ok=True)
                writer.publish()
                tally.write_languages(self.spec.prefix)
                return self.manifest(tally, writer, rule.share)

    def encode(self, rule: HeldOutRule, writer: IndexedWriter, spool: IndexedWriter) -> Tally:
        """Write every document once, with its end-of-document id, to one of both writers."""
        tally, end = Tally(), self.tokenizer.end_of_document_id
        for batch in self.batches(tally):
            for (document, digest, num_bytes), ids in zip(batch, self.tokenizer.encode_batch([d.text for d, _, _ in batch]), strict=True):
                held_out = rule.holds(digest)
                (spool if held_out else writer).add(np.append(ids, end))
                tally.keep(document, digest, held_out, num_bytes, len(ids) + 1)
            self.bytes_written = writer.num_bytes + spool.num_bytes
            self.progress(self.bytes_read, self.total_bytes, self.name)
        self.progress(self.total_bytes, self.total_bytes, self.name)
        return tally

    def batches(self, tally: Tally) -> Iterator[list[tuple[Document, bytes, int]]]:
        """Yield documents met for the first time, as (document, digest, bytes), in lists the tokenizer can share out."""
        batch, characters, seen = [], 0, set()
        for document in self.documents():
            if isinstance(document, BadDocument):
                tally.drop(document)
                continue
            data = document.text.encode()
            digest = text_digest(data)
            if digest in seen:
                tally.drop(BadDocument(document.identity, DUPLICATE, harmless=True))
                continue
            seen.add(digest)
            batch.append((document, digest, len(data)))
            characters += len(document.text)
            if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
        if batch:
            yield batch

    def documents(self) -> Iterator[Document | BadDocument]:
        """Yield what all inputs hold, keeping count of the bytes."""
        finished = 0
        for file in self.inputs:
            position = Position()
            for document in file.read(position):
                self.bytes_read = finished + min(position.bytes_read, file.num_bytes)
                yield document
            finished += file.num_bytes
            self.bytes_read = finished
            self.progress(self.bytes_read, self.total_bytes, self.name)

    def check(self, tally: Tally) -> None:
        """Raise CorpusError when too much is damaged or nothing is left."""
        if tally.bad_share > self.max_bad_share:
            met = tally.num_documents + tally.dropped.total()
            raise CorpusError(
                f"corpora.{self.name}: {tally.bad_documents} of {met} documents are damaged, more than max_bad_share"
                f" {self.max_bad_share:g} allows ({tally.describe_dropped(harmless=False)});"
                f" mend them, or leave them out with --max-bad-share {rounded_up(tally.bad_share)}"
            )
        if not tally.num_documents:
            dropped = f"; left out {tally.describe_dropped(harmless=True)}" if tally.dropped else ""
            raise CorpusError(f"corpora.{self.name}.documents: {len(self.inputs)} files hold no documents{dropped}; check paths and kind")

    def manifest(self, tally: Tally, writer: IndexedWriter, share: float) -> CorpusManifest:
        """Return the manifest of what was written."""
        return CorpusManifest(
            name=self.name,
            kind=self.spec.kind,
            prefix=str(self.spec.prefix),
            dtype=self.dtype.name,
            num_documents=tally.num_documents,
            num_tokens=tally.num_tokens,
            num_bytes=tally.train.num_bytes + tally.held_out.num_bytes,
            train_documents=tally.train.num_documents,
            train_tokens=tally.train.num_tokens,
            train_bytes=tally.train.num_bytes,
            held_out_share=share,
            tokenizer=self.tokenizer.card,
            bin_sha256=writer.bin_sha256,
            idx_sha256=writer.idx_sha256,
            documents=list(self.spec.documents),
            input_fingerprint="",
            dropped=dict(tally.dropped.most_common()),
            dropped_places=tally.places,
            languages=tally.known_languages(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def rounded_up(share: float) -> str:
    """Return a share of two digits that is not below the one given."""
    return next(text for text in (f"{share * factor:.2g}" for factor in (1, 1.05, 1.1)) if float(text) >= share)


def silent(*_) -> None:
    """Tell nobody."""
