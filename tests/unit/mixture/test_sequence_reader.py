"""Windows and packed sequences of real corpus files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemix_megatron.corpus.indexed import IndexedWriter
from codemix_megatron.errors import CorpusError
from codemix_megatron.mixture.audit import read_ranges
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import best_fit, cut_pieces
from codemix_megatron.mixture.read_documents import documents_read
from codemix_megatron.mixture.sequence_reader import SequenceReader, num_windows
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata

METADATA = TokenizerMetadata(type="none", path="", sha256="", vocab_size=50_000, end_of_document_id=0)


@pytest.fixture
def corpus(tmp_path) -> CorpusManifest:
    """Ten documents of 1000, 1001, ... tokens; token i of the file is i; the last two documents are held out."""
    prefix, at = str(tmp_path / "corpus"), 0
    with IndexedWriter(prefix, np.uint16) as writer:
        for length in range(1000, 1010):
            writer.add(np.arange(at, at + length, dtype=np.uint16))
            at += length
        writer.seal()
        writer.publish()
    counts = {"num_documents": 10, "num_tokens": at, "num_bytes": 1, "train_documents": 8, "train_tokens": at - 2017, "train_bytes": 1}
    manifest = CorpusManifest(
        name="corpus", kind="text", prefix=prefix, dtype="uint16", **counts, held_out_share=0.2, tokenizer=METADATA,
        bin_sha256="", idx_sha256="", documents=[], input_fingerprint="",
    )  # fmt: skip
    manifest.write()
    return manifest


def test_windows_overlap_by_one_token_and_cover_the_training_part(corpus):
    reader = SequenceReader([corpus], 64)
    rows = reader.read(np.zeros(125, dtype=int), np.arange(125)).astype(int)
    assert num_windows(corpus.train_tokens, 64) == 125
    assert (np.diff(rows, axis=1) == 1).all()
    assert np.array_equal(rows[:, 0], np.arange(125) * 64) and np.array_equal(rows[1:, 0], rows[:-1, -1])
    assert rows.max() < corpus.train_tokens


def test_documents_read_are_those_that_rows_hold_a_token_of(corpus):
    """At 50 tokens the last token of a row, which is a label alone, is now and then the first of a document."""
    ends, reader = np.cumsum(np.arange(1000, 1008)), SequenceReader([corpus], 50)
    mixture = Mixture(2, ["corpus"], [160], [[160]])
    assert [each.tolist() for each in read_ranges(np.array([19, 3]), 50, None)] == [[950, 150], [51, 51]]
    for seen in range(1, 40):
        rows = reader.read(np.zeros(seen, dtype=int), mixture.locate(np.arange(seen)).sequence).astype(int)
        wanted = np.unique(np.searchsorted(ends, rows.ravel(), side="right"))
        (read,) = documents_read(mixture, [corpus], 50, seen)
        assert np.flatnonzero(read).tolist() == wanted.tolist()


def test_held_out_windows_never_touch_training_tokens_and_spread_over_all_of_them(corpus):
    rows = SequenceReader([corpus], 64).held_out(0, 4).astype(int)
    assert rows.min() >= corpus.train_tokens
    assert rows[-1, 0] - rows[0, 0] > 0.6 * corpus.held_out_tokens
    assert len(SequenceReader([corpus], 64).held_out(0, 10_000)) == num_windows(corpus.held_out_tokens, 64)


def test_a_file_that_got_shorter_is_an_error_not_a_crash(corpus, tmp_path):
    reader = SequenceReader([corpus], 64)
    with open(tmp_path / "corpus.bin", "r+b") as handle:
        handle.truncate(3000)
    with pytest.raises(CorpusError, match=r"corpus\.bin: ends before token"):
        reader.read(np.zeros(1, dtype=int), np.array([100]))


@given(st.lists(st.integers(1, 70), min_size=1, max_size=60), st.integers(4, 40))
def test_pieces_cover_every_document_and_overlap_by_one_token(lengths, sequence_length):
    _, length = cut_pieces(np.array(lengths), sequence_length)
    assert length.max(initial=2) <= sequence_length + 1 and length.min(initial=2) >= 2
    predicted = sum(length - 1)
    assert predicted == sum(n - 1 for n in lengths), "each token but a document's first is predicted once"


@given(st.lists(st.integers(2, 50), min_size=1, max_size=80), st.integers(50, 60))
def test_best_fit_uses_as_many_sequences_as_the_textbook_and_overfills_none(lengths, capacity):
    bins = best_fit(np.array(lengths), capacity)
    fill = np.bincount(bins, weights=lengths)
    assert fill.max() <= capacity and fill.min() > 0
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [r for r in room if r >= length]
        if fitting:
            room.remove(min(fitting))
            room.append(min(fitting) - length)
        else:
            room.append(capacity - length)
    assert len(fill) == len(room)
