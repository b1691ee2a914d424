"""Other loops read the sequences that `codemix train` reads, in its order, and go on from one integer."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment
from torch.utils.data import DataLoader, IterableDataset, Subset

from codemix_megatron.errors import CodemixError
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.train.batches import Batches
from codemix_megatron.train.dataset import RunDataset, RunStream, megatron_provider

LONG = ["phases.0.tokens=40000", "phases.1.tokens=27000", "corpora.prose.max_epochs=9", "corpora.snippets.max_epochs=9"]
PACKED = "sequences.packing=best_fit"
MIDDLES = "corpora.snippets.fill_in_the_middle={rate: 0.5, sentinels: [Ā, ā, Ă]}"  # bytes 0, 1, 2, which no document has
NUM = 1000


def rows_of(loader, key: str) -> np.ndarray:
    return np.concatenate([batch[key].numpy() for batch in loader])[:NUM]


@pytest.mark.parametrize("way", [[], [PACKED], [MIDDLES]], ids=["windows", "packed", "fill in the middle"])
def test_rows_are_those_that_training_gets(tiny, way):
    dataset = RunDataset(tiny.recipe, [*LONG, *way])
    assert len(dataset) > NUM
    with one_rank(device="cpu") as ranks:
        batches = Batches(dataset.mixture, dataset.new_reader(), dataset.plan.batch_at, ranks, every_stage=False)
        trained = [batches.at(first) for first in range(0, NUM, 8)]
        batches.close()
    found = rows_of(DataLoader(dataset, batch_size=10), "row")
    assert np.array_equal(found, torch.cat([batch.rows for batch in trained]).numpy())
    sources = torch.cat([batch.sources for batch in trained]).tolist()
    assert [dataset.source_of(i) for i in range(0, NUM, 97)] == [dataset.sources[s] for s in sources[::97]]
    assert ((found < 0).any()) == (way == [PACKED])


def test_plain_loop_goes_on_from_one_integer_with_any_batch_and_workers(tiny):
    dataset = RunDataset(tiny.recipe, LONG)
    whole = rows_of(DataLoader(dataset, batch_size=50), "row")
    first = rows_of(DataLoader(Subset(dataset, range(0, 390)), batch_size=13, num_workers=2), "row")
    rest = rows_of(DataLoader(Subset(dataset, range(390, NUM)), batch_size=61), "row")
    assert np.array_equal(np.concatenate([first, rest]), whole)
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))[7]["row"].numpy(), whole[7])
    with pytest.raises(IndexError, match=f"position {len(dataset)} is outside the run's {len(dataset)} sequences"):
        dataset[len(dataset)]


def test_stream_keeps_its_state_in_one_integer(tiny):
    dataset = RunDataset(tiny.recipe, LONG)
    stream = RunStream(dataset)
    assert isinstance(stream, IterableDataset)
    before = [item["row"] for _, item in zip(range(5), stream, strict=False)]
    state = stream.state_dict()
    again = RunStream(dataset)
    again.load_state_dict(state)
    after = next(iter(again))["row"]
    assert torch.equal(after, dataset[state["position"]]["row"]) and len(before) == 5
    with pytest.raises(CodemixError, match="2 workers would each read the whole stream"):
        next(iter(DataLoader(RunStream(dataset), num_workers=2)))


def test_hugging_face_trainer_trains_on_the_same_sequences(tiny, tmp_path):
    transformers = pytest.importorskip("transformers")
    dataset = RunDataset(tiny.recipe, LONG, form="hugging_face")
    seen, losses = [], []

    class Recording(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **more):
            seen.append(inputs["input_ids"].clone())
            output = model(**inputs)
            losses.append((output.loss.item(), shifted_loss(output.logits, inputs["labels"])))
            return output.loss

    config = transformers.LlamaConfig(
        vocab_size=512, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=65
    )
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=NUM // 50, per_device_train_batch_size=50, train_sampling_strategy="sequential", use_cpu=True,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    Recording(model=transformers.LlamaForCausalLM(config), args=arguments, train_dataset=dataset).train()
    rows = rows_of(DataLoader(RunDataset(tiny.recipe, LONG), batch_size=50), "row")
    assert np.array_equal(torch.cat(seen).numpy(), rows)
    assert all(theirs == pytest.approx(ours, rel=1e-5) for theirs, ours in losses), "all of a row's 64 labels are predicted"


def shifted_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).item()


def test_items_have_the_keys_and_types_of_megatron_cores_own(tiny):
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDatasetConfig, MockGPTDataset

    class Tokenizer:
        eod, vocab_size, unique_identifiers = 0, 512, {}

        def __getattr__(self, name):
            return 0

    config = GPTDatasetConfig(
        random_seed=1, sequence_length=64, split="1,0,0", reset_position_ids=False, reset_attention_mask=False, eod_mask_loss=False,
        tokenizer=Tokenizer(), create_attention_mask=False,
    )  # fmt: skip
    theirs = BlendedMegatronDatasetBuilder(MockGPTDataset, [10, 0, 0], lambda: True, config).build()[0][0]
    provide = megatron_provider(tiny.recipe, LONG)
    dataset, valid, test = provide([NUM, 0, 0])
    assert provide.is_distributed and (valid, test) == (None, None)
    ours = dataset[3]
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {k: (v.shape, v.dtype) for k, v in theirs.items()}
    row = RunDataset(tiny.recipe, LONG)[3]["row"]
    assert torch.equal(ours["tokens"], row[:-1]) and torch.equal(ours["labels"], row[1:]) and ours["loss_mask"].all()
    with pytest.raises(CodemixError, match="100000 samples are asked for"):
        provide([100_000, 0, 0])


def test_places_without_a_token_are_not_predicted(tiny):
    rows, theirs, ours = (RunDataset(tiny.recipe, [*LONG, PACKED], form=form) for form in ("rows", "hugging_face", "megatron"))
    partly = next(i for i in range(NUM) if (rows[i]["row"] < 0).any())
    empty = rows[partly]["row"] < 0
    assert torch.equal(theirs[partly]["labels"] == -100, empty) and (theirs[partly]["input_ids"] >= 0).all()
    assert torch.equal(ours[partly]["loss_mask"] == 0, empty[1:]) and (ours[partly]["tokens"] >= 0).all()


@pytest.mark.slow
@pytest.mark.skipif("MEGATRON_LM" not in os.environ, reason="MEGATRON_LM names no copy of Megatron-LM")
@pytest.mark.parametrize("consumed", [0, 400])
def test_megatron_lms_own_pretrain_gpt_reads_the_same_sequences(tiny, tmp_path, consumed):
    """Its arguments, data loader and get_batch, from the beginning and from samples that were consumed; one start goes through both phases."""
    script = tiny.codemix_here("plan", tiny.recipe, "--megatron-args", *LONG).stdout.replace(
        "--train-samples", f"--train-samples {NUM} #", 1
    )
    script = re.sub(r"--train-samples (\d+) # \d+", r"--train-samples \1", script)
    words = [
        REPOSITORY / "tests" / "megatron_lm_reads.py",
        os.environ["MEGATRON_LM"],
        tiny.recipe,
        tmp_path / "rows.npy",
        str(consumed),
        *LONG,
    ]
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        input=script,
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = np.load(tmp_path / "rows.npy")
    dataset = RunDataset(tiny.recipe, LONG)
    ours = np.stack([dataset[position]["row"].numpy() for position in range(consumed, NUM)])
    assert theirs.shape == ours.shape == (NUM - consumed, 65) and np.array_equal(theirs, ours)
