"""What megatron-core's own datasets read in a second phase, and what is read here (docs/comparison.md)."""

import numpy as np
import pytest

from codemix_megatron.mixture.mixture import Mixture

LENGTH, SEQUENCES = 16, 2500
FIRST, SECOND = {"text": 1400, "code": 600}, {"text": 200, "code": 800}


@pytest.fixture(scope="module")
def prefixes(tmp_path_factory) -> dict[str, str]:
    """Two corpora in Megatron's files; every token is its own position, so that a sequence says where it was read."""
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    folder = tmp_path_factory.mktemp("corpora")
    found = {}
    for number, name in enumerate(FIRST):
        found[name] = str(folder / name)
        builder = IndexedDatasetBuilder(found[name] + ".bin", dtype=np.int32)
        for document in np.array_split(np.arange(SEQUENCES * LENGTH + 1, dtype=np.int32) + number * 10**6, 500):
            builder.add_document(document, [len(document)])
        builder.finalize(found[name] + ".idx")
    return found


def sequences_of_a_start(prefixes: dict[str, str], counts: dict[str, int]) -> set[tuple[int, ...]]:
    """Return the sequences that a start of Megatron-LM reads with this blend."""
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    class Tokenizer:
        eod, vocab_size, unique_identifiers = -1, 2 * 10**6, {}

        def __getattr__(self, name):
            return -1

    samples = sum(counts.values())
    config = GPTDatasetConfig(
        random_seed=1234, sequence_length=LENGTH, split="1,0,0", tokenizer=Tokenizer(), reset_position_ids=False, reset_attention_mask=False,
        blend=([prefixes[name] for name in counts], [count / samples for count in counts.values()]), eod_mask_loss=False,
        create_attention_mask=False,
    )  # fmt: skip
    train = BlendedMegatronDatasetBuilder(GPTDataset, [samples, 0, 0], lambda: True, config).build()[0]
    found = {tuple(train[index]["tokens"].tolist()) for index in range(samples)}
    assert len(found) == samples, "nothing comes twice within a phase"
    return found


def test_a_second_phase_of_megatron_reads_again_what_the_first_has_read_and_ours_does_not(prefixes, measured):
    again = len(sequences_of_a_start(prefixes, FIRST) & sequences_of_a_start(prefixes, SECOND))
    measured(f"megatron-core: {again} of 1000 sequences of the second phase had been read, with 40 % of the corpora used")
    assert again == 800
    mixture = Mixture(1234, list(FIRST), [SEQUENCES, SEQUENCES], [list(FIRST.values()), list(SECOND.values())])
    ours = mixture.locate(np.arange(3000))
    assert len(set(zip(ours.source.tolist(), ours.sequence.tolist(), strict=True))) == 3000
