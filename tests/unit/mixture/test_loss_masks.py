"""What is hidden from learning in rows: judged by the mask's bits and by megatron-core's own masks."""

import json

import numpy as np
import pytest
import torch

from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.mixture.audit import count_learned
from codemix_megatron.mixture.loss_masks import PADDING, revealed
from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.mixture.packing import PackedReader, pack
from codemix_megatron.mixture.sequence_reader import SequenceReader, num_windows
from codemix_megatron.recipe.conversations import Conversations
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.records.manifest import loss_mask_path

LENGTH = 24


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A corpus of conversations with a mask, and one of texts without."""
    folder = tmp_path_factory.mktemp("masks")
    draw, words = np.random.default_rng(0), ["alpha", "beta", "gamma", "delta", "1", "2"]
    chats = [
        {"prompt": " ".join(draw.choice(words, 9)) + f" {i}", "completion": " ".join(draw.choice(words, 1 + i % 9))} for i in range(60)
    ]
    texts = [{"text": " ".join(draw.choice(words, 3 + i % 40)) + f" {i}"} for i in range(60)]
    for name, records in {"chat": chats, "text": texts}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    train_tokenizer([json.dumps(record) for record in chats + texts], 320, folder / "tokenizer.json")
    tokenizer, how = load_tokenizer(folder / "tokenizer.json"), HowToPrepare(held_out_share=0.2)
    specs = {
        name: CorpusSpec(documents=(str(folder / f"{name}.jsonl"),), prefix=str(folder / name), conversations=conversations)
        for name, conversations in {"chat": Conversations(), "text": None}.items()
    }
    return [prepare_corpus(name, spec, tokenizer, how) for name, spec in specs.items()]


def bits_of(manifest) -> np.ndarray:
    return np.unpackbits(np.fromfile(loss_mask_path(manifest.prefix), np.uint8), bitorder="little")[: manifest.num_tokens].astype(bool)


def every(reader, source: int, count: int) -> np.ndarray:
    return reader.read(np.full(count, source), np.arange(count))


def test_windows_hide_what_the_mask_does_not_teach_and_keep_every_id(corpora):
    chat, text = corpora
    reader = SequenceReader(corpora, LENGTH)
    count = num_windows(chat.train_tokens, LENGTH)
    rows, tokens, bits = every(reader, 0, count), IndexedReader(chat.prefix).tokens(0, chat.num_tokens), bits_of(chat)
    wanted = np.stack([np.arange(i * LENGTH, (i + 1) * LENGTH + 1) for i in range(count)])
    assert np.array_equal(revealed(rows), tokens[wanted]) and np.array_equal(rows >= 0, bits[wanted])
    assert np.array_equal(revealed(torch.from_numpy(rows)).numpy(), tokens[wanted])
    assert (every(reader, 1, num_windows(text.train_tokens, LENGTH)) >= 0).all()
    held_out = reader.held_out(0, 1000, hides=True)
    first = chat.train_tokens + np.arange(len(held_out))[:, None] * LENGTH + np.arange(LENGTH + 1)
    assert np.array_equal(held_out >= 0, bits[first]) and (reader.held_out(0, 1000) >= 0).all()


def test_packed_conversations_are_whole_and_their_answers_alone_count(corpora):
    chat = corpora[0]
    reader, packing = PackedReader([chat], 64), pack(chat, 64)
    rows, bits = every(reader, 0, packing.num_sequences), bits_of(chat)
    lengths = IndexedReader(chat.prefix).document_lengths[: chat.train_documents]
    starts = np.cumsum(lengths) - lengths
    assert lengths.max() <= 65 and set(packing.start.tolist()) == set(starts.tolist()), "no conversation that fits is cut"
    assert (rows >= 0).sum() == bits[: chat.train_tokens].sum() == chat.learned_tokens
    assert (rows == PADDING).sum() == rows.size - chat.train_tokens


def test_nothing_is_learned_across_documents_as_by_megatron_cores_own_masks(corpora):
    from megatron.core.datasets.gpt_dataset import _get_ltor_masks_and_position_ids

    text = corpora[1]
    count, end = num_windows(text.train_tokens, LENGTH), text.tokenizer.end_of_document_id
    rows = every(SequenceReader([text], LENGTH, learn_across_documents=False), 0, count)
    hidden = 0
    for row in rows:
        tokens = torch.from_numpy(revealed(row))[:-1].long()
        _, theirs, _ = _get_ltor_masks_and_position_ids(tokens, end, False, False, True, False)
        assert np.array_equal(row[1:] >= 0, theirs.numpy().astype(bool))
        hidden += int((theirs == 0).sum())
    assert hidden > 20
    packed = every(PackedReader([text], LENGTH, learn_across_documents=False), 0, pack(text, LENGTH).num_sequences)
    begins = np.flatnonzero(np.concatenate([[True], IndexedReader(text.prefix).tokens(0, text.train_tokens)[:-1] == end]))
    assert (packed >= 0).sum() <= text.train_tokens + 60 and len(begins) == text.train_documents
    assert not (packed[:, 1:][revealed(packed)[:, :-1] == end] >= 0).any()


@pytest.mark.parametrize("reader_of", [SequenceReader, PackedReader])
@pytest.mark.parametrize("across", [True, False])
def test_learned_tokens_are_recounted_per_phase_and_source(corpora, reader_of, across):
    reader = reader_of(corpora, LENGTH, learn_across_documents=across)
    is_packed = reader_of is PackedReader
    epochs = [pack(m, LENGTH).num_sequences if is_packed else num_windows(m.train_tokens, LENGTH) for m in corpora]
    mixture = Mixture(3, ["chat", "text"], epochs, [[10, 5], [epochs[0], 9]])
    counted = count_learned(mixture, reader, len(mixture) - 2, skipped=[(3, 6)])
    positions = np.setdiff1d(np.arange(len(mixture) - 2), [3, 4, 5])
    located = mixture.locate(positions)
    rows = reader.read(located.source, located.sequence)
    expected = np.zeros((2, 2), dtype=int)
    for phase, source, row in zip(located.phase, located.source, rows, strict=True):
        expected[phase, source] += sum(int(i) >= 0 for i in row[1:])
    assert counted == expected.tolist() and all(n > 0 for n in np.ravel(counted))
