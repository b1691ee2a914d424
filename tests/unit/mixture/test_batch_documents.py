"""A batch names the documents whose tokens it holds, and an audit counts what was read: both told token by token here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_audit import LENGTH, corpus, languages_of_tokens  # noqa: F401

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.mixture.audit import audit
from codemix_megatron.mixture.batch_documents import documents_at
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import pack
from codemix_megatron.mixture.permutation import half_bits
from codemix_megatron.mixture.remote import cache_folder
from codemix_megatron.mixture.sequence_reader import num_windows


def document_of_tokens(manifest) -> np.ndarray:
    """Return the number of the document that each training token is of."""
    lengths = IndexedReader(manifest.prefix).document_lengths[: manifest.train_documents]
    return np.repeat(np.arange(len(lengths)), lengths)


def tokens_of(sequence: int, packing) -> np.ndarray:
    """Return the positions in the corpus of a sequence's tokens, its last label among them."""
    if packing is None:
        return sequence * LENGTH + np.arange(LENGTH + 1)
    pieces = range(packing.first[sequence], packing.first[sequence + 1])
    return np.concatenate([packing.start[p] + np.arange(packing.length[p]) for p in pieces])


@pytest.mark.parametrize("is_packed", [False, True])
def test_documents_of_a_batch_are_those_its_tokens_are_of(corpus, is_packed):  # noqa: F811
    packing = pack(corpus, LENGTH) if is_packed else None
    epoch = packing.num_sequences if is_packed else num_windows(corpus.train_tokens, LENGTH)
    mixture, document = Mixture(3, ["first", "second"], [epoch, epoch], [[epoch, epoch]]), document_of_tokens(corpus)
    for positions in (np.arange(1), np.arange(7, 12), np.arange(len(mixture))):
        located, expected = mixture.locate(positions), {}
        for source, sequence in zip(located.source.tolist(), located.sequence.tolist(), strict=True):
            expected.setdefault(mixture.sources[source], set()).update(document[tokens_of(sequence, packing)].tolist())
        found = documents_at(mixture, [corpus, corpus], LENGTH, positions, [packing, packing] if is_packed else None)
        assert found == {name: sorted(numbers) for name, numbers in expected.items()}
    assert set(found["first"]) == set(range(corpus.train_documents)), "an epoch holds every training document, and no held-out one"


def test_documents_of_a_corpus_behind_a_url_are_left_out_and_the_others_named(corpus):  # noqa: F811
    mixture = Mixture(3, ["away", "here"], [20, 20], [[20, 20]])
    found = documents_at(mixture, [replace(corpus, prefix="s3://bucket/away"), corpus], LENGTH, np.arange(40))
    assert list(found) == ["here"] and found["here"]


def test_an_audit_counts_no_skipped_position_and_reports_how_far_it_is(corpus):  # noqa: F811
    epoch, seen, told = num_windows(corpus.train_tokens, LENGTH), 50, []
    mixture = Mixture(5, ["code"], [epoch], [[epoch]])
    counted = audit(mixture, [corpus], LENGTH, seen, skipped=[(10, 14), (40, 60)], progress=lambda *at: told.append(at))
    kept = [position for position in range(seen) if not 10 <= position < 14 and position < 40]
    sequences = mixture.locate(np.array(kept)).sequence
    language = languages_of_tokens(corpus)[(sequences[:, None] * LENGTH + np.arange(LENGTH)).ravel()]
    expected = {name: int(n) for name, n in zip(corpus.languages, np.bincount(language, minlength=len(corpus.languages)), strict=True) if n}
    assert counted == [[expected]] and told[-1] == (seen, seen)


def test_an_audit_begins_where_a_branch_does(corpus):  # noqa: F811
    epoch = num_windows(corpus.train_tokens, LENGTH)
    mixture = Mixture(5, ["code"], [epoch], [[30]], first=8, drawn=[8])
    assert sum(audit(mixture, [corpus], LENGTH, 20)[0][0].values()) == 12 * LENGTH


def test_a_corpus_without_languages_is_counted_under_one_name(corpus, tmp_path):  # noqa: F811
    for suffix in (".bin", ".idx"):
        (tmp_path / f"plain{suffix}").symlink_to(f"{corpus.prefix}{suffix}")
    plain = replace(corpus, prefix=str(tmp_path / "plain"), languages={})
    counted = audit(Mixture(5, ["code"], [20], [[20]]), [plain], LENGTH, 20)
    assert list(counted[0][0].values()) == [20 * LENGTH]


def test_windows_of_a_corpus_share_one_token_with_the_next():
    assert [num_windows(tokens, 10) for tokens in (0, 1, 10, 11, 20, 21, 31)] == [0, 0, 0, 1, 1, 2, 3]


def test_halves_of_the_permutations_network_hold_every_position():
    sizes = np.array([1, 2, 4, 5, 16, 17, 64, 65, 1 << 20, (1 << 20) + 1])
    assert half_bits(sizes).tolist() == [1, 1, 1, 2, 2, 3, 3, 4, 10, 11]


def test_fetched_blocks_are_kept_where_the_user_says_else_in_their_cache(monkeypatch):
    monkeypatch.setenv("CODEMIX_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")
    monkeypatch.delenv("CODEMIX_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "codemix_megatron"
