"""Documents inside sequences: attention that ends at their borders, and packing that does not cut them."""

import json

import numpy as np
import pytest
import torch

from codemix_megatron.conversion.parity import model_recipe
from codemix_megatron.mixture.packing import PackedReader, pack
from codemix_megatron.model.build import build_model
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.recipe.schema import Model
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.train.forward import within_documents

pytestmark = pytest.mark.distributed
END = 0


def test_mask_lets_a_token_see_the_earlier_ones_of_its_document_and_nothing_else():
    mask = within_documents(torch.tensor([[5, 6, END, 7, 8, END]]), END)[0, 0].int()
    expected = torch.tensor(
        [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]
    )
    assert torch.equal(mask, expected.int())


def test_a_document_gets_the_logits_it_would_get_alone():
    """Rotary positions are relative, so a document in mid-sequence needs no position reset."""
    model = Model(num_layers=2, hidden_size=32, num_attention_heads=4, num_query_groups=2, ffn_hidden_size=64, sequence_length=12)
    first, second = [3, 9, 4, 1, END], [8, 2, 7, 7, 5, 6, END]
    with one_rank(device="cpu") as ranks, torch.no_grad():
        gpt = build_model(model_recipe(model), 128, ranks.device)[0].eval()

        def logits(ids, mask=None):
            ids = torch.tensor([ids])
            return gpt(ids, torch.arange(ids.shape[1])[None], mask)[0]

        together = logits(first + second, within_documents(torch.tensor([first + second]), END))
        alone = torch.cat([logits(first), logits(second)])
        leaking = logits(first + second)
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.allclose(leaking[len(first) :], alone[len(first) :], atol=1e-4)


@pytest.mark.parametrize(
    "layout", [[], ["parallel.tensor=2", "parallel.pipeline=2"], ["parallel.data=2"]], ids=["one rank", "TP2 x PP2", "DP2"]
)
def test_packed_documents_with_their_own_attention_train_alike_on_every_layout(tiny, layout):
    run = "packed" + "".join(word[9:11] for word in layout)
    done = tiny.train(run, "sequences.packing=best_fit", "sequences.attention_within_documents=true", *layout)
    assert done.returncode == 0, done.stderr
    losses = tiny.losses(run)
    assert len(losses) == 20
    assert losses == pytest.approx(tiny.losses("packed"), abs=1e-5)
    audited = tiny.codemix_here("audit", tiny.folder / run)  # some documents are longer than a sequence
    assert audited.returncode == 0 and "(empty)" in audited.stdout, audited.stdout
    assert losses != pytest.approx(tiny.losses("single"), abs=1e-2) if tiny.losses("single") else True


def test_answers_alone_are_learned_and_journal_and_audit_count_them(tiny):
    """A cooldown on conversations beside prose, packed, at tensor 2 x data 1; the audit reads every row again."""
    lines = [json.dumps({"prompt": f"what is {i} and {i}", "completion": f"it is {2 * i} because rates differ"}) for i in range(300)]
    (tiny.folder / "chat.jsonl").write_text("\n".join(lines))
    changes = [
        "corpora.snippets={documents: [chat.jsonl], kind: code, prefix: corpora/chat, conversations: {template: plain}}",
        "sequences={packing: best_fit, learn_across_documents: false}", "corpora.snippets.max_epochs=9",
    ]  # fmt: skip
    recipe = tiny.folder / "chat.yaml"
    recipe.write_text(tiny.recipe.read_text())
    assert (done := tiny.codemix_here("prepare", recipe, *changes)).returncode == 0, done.stderr
    done = tiny.codemix("train", recipe, "--folder", tiny.folder / "chat", "parallel.tensor=2", *changes)
    assert done.returncode == 0, done.stderr
    steps, manifest = tiny.events("chat"), CorpusManifest.read(tiny.folder / "corpora" / "chat")
    seen = steps[-1]["tokens_per_source"]
    learned = {name: sum(step["learned_per_source"][name] for step in steps) for name in seen}
    share = manifest.learned_tokens / manifest.train_tokens * pack(manifest, 64).fill  # of positions; some are padding
    assert learned["snippets"] / seen["snippets"] == pytest.approx(share, rel=0.05)
    assert 0.9 * seen["prose"] < learned["prose"] < seen["prose"], "beginnings of documents and padding are not learned"
    assert steps[-1]["loss_per_source"]["snippets"] < steps[0]["loss_per_source"]["snippets"] - 1
    audited = tiny.codemix_here("audit", tiny.folder / "chat", "--output", tiny.folder / "audit.json")
    assert audited.returncode == 0 and "(learned)" in audited.stdout, audited.stdout
    counted = json.loads((tiny.folder / "audit.json").read_text())
    assert sum(phase["snippets"]["(learned)"] for phase in counted.values()) == learned["snippets"]


def test_packed_sequences_hold_every_training_token_once_and_cut_no_document_that_fits(tiny):
    manifest = CorpusManifest.read(tiny.folder / "corpora" / "prose")
    tokens = np.memmap(manifest.prefix + ".bin", dtype=manifest.dtype, mode="r")[: manifest.train_tokens]
    length = 256
    reader = PackedReader([manifest], length)
    packing = reader.packings[0]
    rows = reader.read(np.zeros(packing.num_sequences, dtype=int), np.arange(packing.num_sequences))
    found = np.sort(rows[rows >= 0])
    assert np.array_equal(found, np.sort(tokens.astype(np.int32)))
    assert ((rows >= 0).sum() / rows.size) == pytest.approx(packing.fill)
    end = tokens[-1]
    longest = np.diff(np.flatnonzero(np.concatenate([[end], tokens]) == end)).max()
    assert longest <= length, "this corpus has no long documents, so no sequence may begin in mid-document"
    document_starts = {0, *(np.flatnonzero(tokens == end) + 1).tolist()}
    assert set(packing.start.tolist()) <= document_starts
