"""One corpus on its way from documents to .bin, .idx and manifest: parts encoded, then joined, published last of all."""

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from codemix_megatron.corpus.companion_files import write_documents, write_languages, write_loss_mask
from codemix_megatron.corpus.damage_list import write_damaged
from codemix_megatron.corpus.encoder_choice import choose_encoder, sample_for_proof
from codemix_megatron.corpus.encoders import library_versions
from codemix_megatron.corpus.finishing import Finishing
from codemix_megatron.corpus.held_out import HeldOutRule
from codemix_megatron.corpus.how_to_prepare import HowToPrepare, ProgressState
from codemix_megatron.corpus.indexed import IndexedWriter, token_dtype
from codemix_megatron.corpus.input_contents import finished_parts, inputs_fault, read_inputs
from codemix_megatron.corpus.input_identity import fingerprint_inputs
from codemix_megatron.corpus.other_corpora import checksums_of, other_corpora
from codemix_megatron.corpus.part_encoding import PartEncoding
from codemix_megatron.corpus.parts import PartsFolder, cut_into_parts
from codemix_megatron.corpus.redactions import Redactions
from codemix_megatron.corpus.tokenizers import DocumentTokenizer
from codemix_megatron.corpus.turn_encoding import TurnEncoding
from codemix_megatron.corpus.workers import encode_parts, worthwhile_workers
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.filters import load_filters
from codemix_megatron.readers.documents import InputFile
from codemix_megatron.recipe.reading_documents import how_documents_are_read
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.records.manifest import CorpusManifest, manifest_path

__all__ = ["Preparation", "encoding_notes", "same_tokenizer"]

PUBLISHED_SUFFIXES = (
    ".bin", ".idx", ".languages.npy", ".documents.npy", ".documents.tsv.zst", ".signatures.npy", ".loss_mask.bin", ".scores.parquet",
)  # fmt: skip


class Preparation:
    """One corpus on its way from documents to files: parts encoded by any number of processes and shards, then finished."""

    def __init__(self, name: str, spec: CorpusSpec, inputs: list[InputFile], tokenizer: DocumentTokenizer, how: HowToPrepare):
        self.name, self.spec, self.how, self.tokenizer = name, spec, how, tokenizer
        self.shuffle_seed = how.seed if spec.shuffle else None
        self.dtype = token_dtype(tokenizer.vocab_size)
        self.parts = cut_into_parts(inputs)
        self.inputs = inputs
        self.state = ProgressState(name, total_bytes=sum(file.num_bytes for file in inputs))
        self.fingerprint = fingerprint_inputs(spec, inputs)
        self.filters = load_filters(spec.filters)
        self.others = other_corpora(name, spec.filters.apart_from, how.recipe)
        self.settings = json.loads(json.dumps(self.filters.settings()))  # as the manifest gives them back
        metadata = tokenizer.metadata
        decisive = [self.fingerprint, metadata.identity, len(self.parts), self.settings, library_versions(tokenizer)]
        self.folder = PartsFolder(spec.prefix, json.dumps(decisive, sort_keys=True), self.dtype)

    def refuse_to_overwrite(self) -> None:
        """Raise CorpusError when files that no unfinished preparation can have left stand under the corpus's name."""
        there = [f"{self.spec.prefix}{suffix}" for suffix in (".bin", ".idx") if Path(f"{self.spec.prefix}{suffix}").exists()]
        if there and not self.folder.siblings():
            raise CorpusError(
                f"corpora.{self.name}.prefix: {' and '.join(there)} exist without a manifest, so `codemix prepare` did not finish them;"
                " set another prefix, or overwrite them with --force"
            )

    def prepared_before(self) -> tuple[CorpusManifest | None, str]:
        """Return (manifest, "") of a corpus that is still good, else (None, why it is not)."""
        try:
            manifest = CorpusManifest.read(self.spec.prefix)
        except CorpusError as fault:
            return None, str(fault)
        share = self.how.held_out_share
        if not same_tokenizer(manifest, self.tokenizer):
            return None, "it was made with another tokenizer"
        if manifest.held_out_share != share:
            return None, f"its held-out share was {manifest.held_out_share:g}, now {share:g}"
        if manifest.shuffle_seed != self.shuffle_seed:
            return None, f"the seed of its order was {manifest.shuffle_seed}, now {self.shuffle_seed}"
        if manifest.filters != self.settings:
            return None, "its filters have changed"
        if manifest.apart_from != checksums_of(self.others, f"corpora.{self.name}"):
            return None, "corpora it keeps apart from have changed"
        if manifest.input_fingerprint != self.fingerprint:
            return None, "its documents, their order or how they are read have changed"
        made, now = manifest.encoder.reference if manifest.encoder else "", library_versions(self.tokenizer)[0]
        if made != now:
            return None, f"its ids are those of {made or 'another library'}, now {now}"
        changed = inputs_fault(manifest, self.parts, thorough=self.how.check_inputs)
        return (None, changed) if changed else (manifest, "")

    def estimate_bytes(self) -> int:
        """Return the bytes this corpus takes while it is made, judged by the part that was read: tokens of all parts, and once more."""
        written = self.state.num_tokens * self.dtype.itemsize
        return int(2 * written * max(1.0, self.state.total_bytes / max(1, self.state.bytes_read)))

    def encode(self) -> None:
        """Do the parts that are not done: all, or those of this shard."""
        mine = self.how.shard.numbers(len(self.parts)) if self.how.shard else range(len(self.parts))
        done = finished_parts(self.folder, self.parts, mine, thorough=self.how.check_inputs)
        missing = [number for number in mine if number not in done]
        self.state.total_bytes = sum(file.num_bytes for number in mine for file in self.parts[number])
        self.advance(sum(file.num_bytes for number in done for file in self.parts[number]), 0, 0)
        if done:
            self.how.say(f"{self.name}: {len(done)} of {len(mine)} parts were done before")
        for number, fault in self.folder.faults.items():
            self.how.say(f"{self.name}: part {number} is made again, {fault}")
        if missing:
            for line in self.filters.notes():
                self.how.say(f"{self.name}: {line}")
            num_bytes = sum(file.num_bytes for number in missing for file in self.parts[number])
            encode_parts(self.work(), missing, self.how.workers or worthwhile_workers(num_bytes), self.advance)

    def advance(self, num_bytes: int, documents: int, tokens: int) -> None:
        """Tell how far the work has come."""
        self.state.bytes_read += num_bytes
        self.state.num_documents += documents
        self.state.num_tokens += tokens
        self.how.progress(replace(self.state))

    def work(self) -> PartEncoding:
        """Return what the parts have in common; every shard comes to the same encoder, for all look at the same sample."""
        encoder, encoder_metadata = choose_encoder(self.tokenizer, sample_for_proof(self.inputs))
        if encoder_metadata.refused:
            self.how.say(f"{self.name}: slow tokenizer {encoder_metadata.library}, for {encoder_metadata.refused}")
        return PartEncoding(
            self.folder, self.parts, encoder, self.tokenizer.end_of_document_id, self.spec.kind,
            self.filters, self.spec.filters.near_duplicates, encoder_metadata=encoder_metadata, unknown=self.tokenizer.unknown,
            beginning_of_document_id=self.tokenizer.metadata.beginning_of_document_id,
            turns=TurnEncoding.of(self.tokenizer) if has_turns(self.spec) else None, has_loss_mask=self.spec.conversations is not None,
        )  # fmt: skip

    def finish(self) -> CorpusManifest:
        """Write .bin, .idx and the manifest under their names; raises CorpusError when too much is damaged or nothing is left."""
        thorough = self.how.check_inputs and self.how.only_merge  # else they have just been looked at
        finished = finished_parts(self.folder, self.parts, range(len(self.parts)), thorough=thorough)
        self.check_all_done(finished)
        assert self.spec.prefix is not None
        apart_from = checksums_of(self.others, f"corpora.{self.name}")
        finishing = Finishing(
            self.folder, [finished[number] for number in range(len(self.parts))], self.parts,
            near_duplicates=self.spec.filters.near_duplicates, others=self.others, duplicates_by=self.how.duplicates_by,
        )  # fmt: skip
        finishing.decide(HeldOutRule(self.how.held_out_share))
        self.check(finishing)
        with IndexedWriter(self.spec.prefix, self.dtype) as writer:
            finishing.write(writer, self.shuffle_seed)
            writer.seal()
            manifest_path(self.spec.prefix).unlink(missing_ok=True)
            writer.publish()
        manifest = replace(self.manifest(finishing, writer), apart_from=apart_from)
        for line in encoding_notes(manifest):
            self.how.say(f"{self.name}: {line}")
        with unfinished_without(self.spec.prefix):
            write_languages(finishing, self.spec.prefix)
            write_documents(finishing, self.spec.prefix)
            manifest = replace(manifest, **write_loss_mask(finishing, self.spec.prefix))
            write_last(manifest)
        self.folder.remove_all()
        return manifest

    def check_all_done(self, finished: dict) -> None:
        """Raise CorpusError when parts are missing, naming the shards that should have done them."""
        missing = [number for number in range(len(self.parts)) if number not in finished]
        if missing:
            why = f", {self.folder.faults[missing[0]]}" if missing[0] in self.folder.faults else ""
            raise CorpusError(
                f"corpora.{self.name}: {len(missing)} of {len(self.parts)} parts are not done (such as part {missing[0]}{why}); run the shards that"
                f" are missing again, or `codemix prepare` without --shard, which does the rest; finished parts are in {self.folder.path}"
            )

    def check(self, finishing: Finishing) -> None:
        """Raise CorpusError when too much is damaged or nothing is left."""
        dropped, num_documents = finishing.dropped, int(finishing.counts.total[0])
        met = num_documents + dropped.counts.total()
        bad_share = dropped.num_damaged / max(1, met)
        listed = Path(f"{self.spec.prefix}.damaged.tsv")
        write_damaged(finishing, listed)
        if bad_share > self.how.max_bad_share:
            raise CorpusError(
                f"corpora.{self.name}: {dropped.num_damaged} of {met} documents are damaged, more than max_bad_share"
                f" {self.how.max_bad_share:g} allows ({dropped.describe(harmless=False)}; all in {listed});"
                f" fix them, or leave them out with --max-bad-share {rounded_up(bad_share)}"
            )
        if not num_documents:
            self.folder.remove_all()
            why = f"; left out {dropped.describe(harmless=True)}" if dropped.counts else ""
            raise CorpusError(
                f"corpora.{self.name}.documents: {len(self.inputs)} files hold no documents{why}; check paths, kind and filters"
            )

    def manifest(self, finishing: Finishing, writer: IndexedWriter) -> CorpusManifest:
        """Return the manifest of what was written."""
        dropped, counts = finishing.dropped, finishing.counts
        num_documents, num_bytes, num_tokens = map(int, counts.total)
        train_documents, train_bytes, train_tokens = map(int, counts.train)
        unknown, unknown_locations = finishing.unknown
        return CorpusManifest(
            name=self.name,
            kind=self.spec.kind,
            prefix=str(self.spec.prefix),
            dtype=self.dtype.name,
            num_documents=num_documents,
            num_tokens=num_tokens,
            num_bytes=num_bytes,
            train_documents=train_documents,
            train_tokens=train_tokens,
            train_bytes=train_bytes,
            held_out_share=self.how.held_out_share,
            tokenizer=self.tokenizer.metadata,
            encoder=finishing.encoder,
            bin_sha256=writer.bin_sha256,
            idx_sha256=writer.idx_sha256,
            documents=list(self.spec.documents),
            input_fingerprint=self.fingerprint,
            inputs_read=read_inputs(finishing.parts),
            filters=self.settings,
            reading=how_documents_are_read(self.spec),
            shuffle_seed=self.shuffle_seed,
            dropped=dict(dropped.counts.most_common()),
            dropped_places=dropped.locations,
            dropped_examples=dropped.examples,
            rewritten=dict(finishing.rewritten),
            redactions=Redactions.of_parts(part.redactions for part in finishing.parts).as_plain(),
            unknown=unknown,
            unknown_places=unknown_locations,
            kinds=counts.by(0),
            languages=counts.by(1),
            licences=counts.by(2),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def write_last(manifest: CorpusManifest) -> None:
    """Write the manifest; a corpus without one is incomplete."""
    manifest.write()


@contextmanager
def unfinished_without(prefix: str):
    """Remove what was published when the block fails: tokens nobody can account for do not stay."""
    try:
        yield
    except BaseException:
        for suffix in PUBLISHED_SUFFIXES:
            Path(f"{prefix}{suffix}").unlink(missing_ok=True)
        raise


def same_tokenizer(manifest: CorpusManifest, tokenizer: DocumentTokenizer) -> bool:
    """Say whether both would write the same ids."""
    return manifest.tokenizer.identity == tokenizer.metadata.identity


def has_turns(spec: CorpusSpec) -> bool:
    """Say whether documents of a corpus may be made of turns: conversations, and repositories with their separators."""
    return spec.conversations is not None or any(named.startswith("repositories:") for named in spec.documents)


def encoding_notes(manifest: CorpusManifest) -> list[str]:
    """Return what the user should know of the ids: what the tokenizer loses, what the fast library was not trusted with."""
    notes, encoder = [], manifest.encoder
    if lost := manifest.unknown:
        notes.append(
            f"{lost['lost']:,} bytes or words of {lost['documents']:,} documents have no token in {manifest.tokenizer.path} and are lost"
            f" ({', '.join(manifest.unknown_places[:3])})"
        )
    if encoder and encoder.reference_documents:
        differing = f", for {encoder.library} differs on {', '.join(encoder.differing[:8])}" if encoder.differing else ""
        notes.append(f"{encoder.reference_documents:,} documents encoded by {encoder.reference}{differing}")
    return notes


def rounded_up(share: float) -> str:
    """Return a share of two digits that is not below the one given."""
    return next(text for text in (f"{share * factor:.2g}" for factor in (1, 1.05, 1.1)) if float(text) >= share)
