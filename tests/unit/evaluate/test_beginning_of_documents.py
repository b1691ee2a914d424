"""Models trained with a token before each document are asked with it, and its name is nobody's text. Judge: lm-eval with add_bos_token."""

import json
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_export import make_text, save_export
from tokenizers import Tokenizer

from codemix_megatron.conversion.first_token import begin_texts
from codemix_megatron.corpus.held_out import held_out_token_documents
from codemix_megatron.corpus.indexed import IndexedWriter
from codemix_megatron.corpus.tokenizers import SpecialTokens, load_tokenizer
from codemix_megatron.evaluate import while_training
from codemix_megatron.evaluate.compression import bits_per_byte, bits_per_byte_of
from codemix_megatron.evaluate.harness import at_work, run_definition
from codemix_megatron.evaluate.rolling import rolling_bits_per_byte
from codemix_megatron.inference.exported import load_exported
from codemix_megatron.inference.live import LiveModel
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores

BEGIN = "<|begin|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_file):
    """An export whose tokenizer begins texts, as those of models trained here with such a token do."""
    folder = tmp_path_factory.mktemp("begun")
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.add_special_tokens([BEGIN])
    tokenizer.save(str(folder / "plain.json"))
    save_export(folder / "model", folder / "plain.json")
    config = json.loads((folder / "model" / "tokenizer_config.json").read_text())
    begin = tokenizer.token_to_id(BEGIN)
    config |= begin_texts(folder / "model" / "tokenizer.json", begin, config)
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def model(folder):
    """The export, loaded."""
    return load_exported(folder / "model", "cpu")


def test_a_text_gets_its_first_token_once_even_where_it_spells_it_out(model):
    begin = model.tokenizer.convert_tokens_to_ids(BEGIN)
    plain = model.encode("the word", is_whole=False)
    assert begin not in plain
    assert model.encode("the word") == model.encode(f"{BEGIN}the word") == [begin, *plain]


def test_scores_are_those_of_lm_eval_that_is_told_to_add_the_token(model, folder, tmp_path):
    """Choices with and without a context, and the likelihood of whole texts."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    shutil.copytree(folder / "model", tmp_path / "bare")  # as if nobody had told its tokenizer
    shutil.copyfile(folder / "plain.json", tmp_path / "bare" / "tokenizer.json")
    config = json.loads((tmp_path / "bare" / "tokenizer_config.json").read_text())
    (tmp_path / "bare" / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "add_bos_token"}))
    rows = [{"question": make_text(n, 9) if n % 3 else "", "options": ["the word", f"value {n}"], "key": n % 2} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    definition = {
        "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}}, "test_split": "test",
        "output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{options}}", "doc_to_target": "{{key}}",
        "target_delimiter": "", "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    ours = run_definition(model, "choices", definition, items=None, with_bits=True)
    texts = [make_text(seed, 60) for seed in range(3)]
    with at_work(lambda *_: None):
        theirs = HFLM(
            pretrained=model.model, tokenizer=str(tmp_path / "bare"), backend="causal", batch_size=2, add_bos_token=True,
            softmax_dtype="float32",
        )  # fmt: skip
        task = TaskManager(include_defaults=False).load([{**definition, "task": "choices"}])
        samples = lm_eval.evaluate(lm=theirs, task_dict=task, bootstrap_iters=0)["samples"]["choices"]
        whole = theirs.loglikelihood_rolling([lm_eval.api.instance.Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts])
    right = [sample["resps"][row["key"]][0][0] for row, sample in zip(rows, samples, strict=True)]
    sizes = [len(row["options"][row["key"]].encode()) for row in rows]
    bits = [-float(value) / np.log(2) / size for value, size in zip(right, sizes, strict=True)]
    assert ours.metrics["bits_per_byte"].values == pytest.approx(bits, abs=1e-5)
    documents = [np.array([*model.encode(text, is_whole=False), 0]) for text in texts]
    rolled = rolling_bits_per_byte(model, "text", documents, end_of_document_id=0, limit_bytes=10**6)
    assert sorted(rolled.metrics["bits"].values) == pytest.approx(sorted(-np.array(whole) / np.log(2)), abs=1e-3)


def test_a_corpus_s_first_tokens_are_given_and_have_neither_bytes_nor_bits(model, folder, tmp_path):
    """The same documents with and without the token in the file: the same bytes and tokens, for its name is no text."""
    tokenizer = load_tokenizer(folder / "plain.json", special=SpecialTokens(beginning_of_document=BEGIN))
    begin, texts = tokenizer.metadata.beginning_of_document_id, [make_text(seed, 40) for seed in range(5)]
    bare = [np.array([*tokenizer.encode_batch([text])[0], 0], np.uint16) for text in texts]
    with IndexedWriter(tmp_path / "it", np.dtype(np.uint16)) as writer:
        for ids in bare:
            writer.add(np.array([begin, *ids], np.uint16))
        writer.seal()
        writer.publish()
    manifest = StandIn(str(tmp_path / "it"), tokenizer.metadata, sum(map(len, bare)) + len(bare), len(bare))
    found = held_out_token_documents(manifest)
    assert all(np.array_equal(a, b) for a, b in zip(found, bare, strict=True))
    begun, ended = (
        bits_per_byte_of(bits_per_byte(model, "text", found, end_of_document_id=0, beginning_of_document_id=first), "text")
        for first in (begin, None)
    )
    assert begun.bytes == ended.bytes == sum(len(text.encode()) for text in texts) and begun.tokens == ended.tokens
    assert begun.value != ended.value  # what stands before the first token is another


class StandIn:
    """What held-out documents need of a manifest: all of them are held out."""

    train_documents = 0

    def __init__(self, prefix, tokenizer, num_tokens, num_documents):
        self.prefix, self.tokenizer, self.num_tokens, self.num_documents = prefix, tokenizer, num_tokens, num_documents
        self.held_out_documents = num_documents


def test_a_model_on_its_ranks_reads_texts_as_its_export_does(model, folder):
    tokenizer = load_tokenizer(folder / "plain.json", special=SpecialTokens(beginning_of_document=BEGIN))

    class Forward:
        share, shares, gather = 0, 1, None

    live = LiveModel(Forward(), tokenizer, 48, folder, tokenizer.metadata.beginning_of_document_id)
    assert live.encode("the word") == model.encode("the word") and live.prefix_id == model.prefix_id
    assert live.encode(" word", is_whole=False) == model.encode(" word", is_whole=False)
    ids = [*live.encode("the word"), 0]
    assert live.decode_without_end(ids) == model.decode_without_end(ids) == "the word"


@pytest.mark.parametrize(("begin", "origin", "first"), [(BEGIN, None, None), (None, {"first_token_id": 5}, 5), (None, None, None)])
def test_a_model_in_training_is_asked_as_its_checkpoint_is(folder, monkeypatch, begin, origin, first):
    """Without the first token its scores were those of other texts than `codemix evaluate` gives it."""
    tokenizer = load_tokenizer(folder / "plain.json", special=SpecialTokens(beginning_of_document=begin))
    asked = []
    monkeypatch.setattr(while_training, "recipe_tokenizer", lambda _: tokenizer)
    monkeypatch.setattr(while_training, "SpreadLogits", lambda *_: SimpleNamespace(share=0, shares=1, gather=None))
    monkeypatch.setattr(while_training, "kept_random_state", nullcontext)
    monkeypatch.setattr(while_training, "read_corpora", lambda *_: {})
    monkeypatch.setattr(
        while_training, "evaluate_subject", lambda subject, *_, **__: asked.append(subject.load()) or Scores(model="", step=1, tokens=1)
    )
    wanted = SimpleNamespace(suites=("own.yaml",), items=8)
    recipe = SimpleNamespace(
        tokenizer=None, evaluation=SimpleNamespace(while_training=wanted, data_directory=None), model=SimpleNamespace(sequence_length=48)
    )
    while_training.score_while_training(recipe, RunFolder(folder), [], "cpu", 1, 1, lambda *_: None, origin=origin)
    wanted_id = tokenizer.metadata.beginning_of_document_id if begin else first or tokenizer.end_of_document_id
    assert asked[0].prefix_id == wanted_id and (asked[0].encode("the word")[0] == wanted_id) == bool(begin or origin)
