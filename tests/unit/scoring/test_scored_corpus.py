"""codemix score: columns that pandas and pyarrow read, the same however often it stopped, kept with the corpus they belong to."""

import json
import math
from pathlib import Path

import numpy as np
import pandas
import pytest
from pyarrow import parquet

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.corpus_check import check_corpus
from codemix_megatron.corpus.document_table import read_origins
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.removal import remove_documents
from codemix_megatron.corpus.score_table import read_score, read_scores
from codemix_megatron.corpus.tokenizers import tokenizer_of
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import CorpusManifest, scores_path
from codemix_megatron.scoring.document_bytes import DocumentBytes
from codemix_megatron.scoring.scoring_run import ScoredCorpus, document_languages, score_corpus
from codemix_megatron.scoring.text_shape import CommentShares, TextShape


def texts_in_order(manifest, texts) -> list[str]:
    """The texts as they stand in the corpus, by the lines of the input that each came from."""
    order = {document.document: int(document.location.rsplit(":", 1)[1]) - 1 for document in read_origins(manifest.prefix)}
    return [texts[order[number]][0] for number in range(manifest.num_documents)]


def test_scores_are_columns_that_pandas_reads_in_the_order_of_the_documents(scored_corpus, scored_texts):
    score_corpus(scored_corpus, [TextShape(), CommentShares()])
    manifest = CorpusManifest.read(scored_corpus.prefix)
    table = pandas.read_parquet(scores_path(manifest.prefix))
    assert list(table.columns) == list(manifest.scores) == [*TextShape.columns, *CommentShares.columns]
    texts = texts_in_order(manifest, scored_texts)
    assert table["bytes"].tolist() == [len(text.encode()) for text in texts]
    is_prose = [text.startswith("It was") for text in texts]
    assert table["comments"].isna().tolist() == is_prose and manifest.scores["comments"]["documents"] == len(texts) - 1
    assert parquet.read_schema(scores_path(manifest.prefix)).field("bytes").type == "double"
    assert not check_corpus(manifest.prefix).differences
    assert len(read_score(manifest, "bytes")) == manifest.train_documents < len(table)


def test_documents_by_table_are_what_the_library_decodes(scored_corpus):
    tokenizer, reader = tokenizer_of(scored_corpus.tokenizer), IndexedReader(scored_corpus.prefix)
    ids = [tokenizer.without_ends(reader.document(i)) for i in range(len(reader))]
    decoder = DocumentBytes(tokenizer)
    assert decoder.texts(ids) == [tokenizer.decode(document).encode() for document in ids] and decoder.is_table
    decoder.pool = np.zeros_like(decoder.pool)
    assert decoder.texts(ids) == [tokenizer.decode(document).encode() for document in ids], "a table that is wrong is left"


@pytest.mark.parametrize("name", ["smollm2/tokenizer.json", "mistral/tokenizer.model", "made/wordpiece.json", "made/unigram.json"])
def test_any_tokenizer_is_decoded_as_its_library_does(name, shared_data):
    from codemix_megatron.corpus.tokenizers import load_tokenizer

    path = shared_data / "tokenizers" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    end = "[SEP]" if "wordpiece" in name else None
    tokenizer = load_tokenizer(path, end)
    ids = tokenizer.encode_batch(["def f(x):\n    return x  # ünï 数 \U0001f600\n", "", "a b"])
    assert DocumentBytes(tokenizer).texts(ids) == [tokenizer.decode(document).encode() for document in ids]


def test_a_stop_after_any_chunk_and_processes_change_no_byte(scored_corpus, monkeypatch):
    scorers = [TextShape(), CommentShares()]
    score_corpus(scored_corpus, scorers)
    whole = Path(scores_path(scored_corpus.prefix)).read_bytes()
    num_chunks = ScoredCorpus(scored_corpus, 2000).num_chunks
    assert num_chunks > 5
    for stop in (0, 2):
        seen = []

        def interrupt(tokens, seen=seen, stop=stop):
            seen.append(tokens)
            if len(seen) > stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            score_corpus(CorpusManifest.read(scored_corpus.prefix), [TextShape(), CommentShares()], 1, interrupt, 2000)
        done = []
        monkeypatch.setattr("codemix_megatron.scoring.scoring_run.write_chunk", counted(done))
        written = score_corpus(CorpusManifest.read(scored_corpus.prefix), scorers, 1, lambda tokens: None, 2000)
        monkeypatch.undo()
        assert len(done) == num_chunks - stop - 1, "what was done is not done again"
        assert Path(scores_path(written.prefix)).read_bytes() == whole
    score_corpus(CorpusManifest.read(scored_corpus.prefix), scorers, 2, lambda tokens: None, 2000)
    assert Path(scores_path(scored_corpus.prefix)).read_bytes() == whole
    assert not list(Path(scored_corpus.prefix).parent.glob(".corpus.scores")), "no parts are left"


def counted(done):
    """Return write_chunk, noting each chunk."""
    from codemix_megatron.scoring.scoring_run import write_chunk

    def write(corpus, scorers, folder, number):
        done.append(number)
        write_chunk(corpus, scorers, folder, number)

    return write


def test_columns_that_are_there_stay_and_a_document_taken_out_takes_its_row(scored_corpus):
    score_corpus(scored_corpus, [TextShape()])
    manifest = score_corpus(CorpusManifest.read(scored_corpus.prefix), [CommentShares()])
    assert list(manifest.scores) == [*TextShape.columns, *CommentShares.columns] and manifest.scores["bytes"]["by"] == "shape"
    before = read_scores(manifest)
    made = remove_documents(manifest.prefix, [1, 4], f"{manifest.prefix}-2")
    kept = np.delete(np.arange(manifest.num_documents), [1, 4])
    for name, values in read_scores(made).items():
        assert np.array_equal(values, before[name][kept], equal_nan=True)
    assert not check_corpus(made.prefix).differences


def test_damage_is_named(scored_corpus):
    manifest = score_corpus(scored_corpus, [TextShape()])
    with pytest.raises(CorpusError, match=r"no column quality; there are bytes, lines, mean_line"):
        read_score(manifest, "quality")
    path = Path(scores_path(manifest.prefix))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorpusError, match=r"corpus\.scores\.parquet: sha256 is .*, its manifest says .*codemix score"):
        read_score(manifest, "bytes")
    assert any("scores.parquet" in line for line in check_corpus(manifest.prefix).differences)
    path.unlink()
    with pytest.raises(CorpusError, match=r"cannot be read"):
        read_score(manifest, "bytes")


def test_a_corpus_that_was_changed_is_not_made_to_look_as_prepared(scored_corpus):
    path = Path(f"{scored_corpus.prefix}.bin")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorpusError, match=r"corpus\.bin: changed since it was prepared"):
        score_corpus(scored_corpus, [TextShape()])


def test_languages_are_those_of_the_input_for_held_out_documents_too(scored_corpus, scored_texts):
    by_text = dict(scored_texts)
    assert document_languages(scored_corpus) == [by_text[text] for text in texts_in_order(scored_corpus, scored_texts)]


def test_perplexity_is_what_transformers_says(scored_corpus, scored_texts, tmp_path):
    import torch

    from codemix_megatron.scoring.perplexity import DocumentPerplexity

    folder = model_folder(tmp_path, scored_corpus.tokenizer.path, "causal")
    scorer = DocumentPerplexity(folder, most_tokens=60)
    columns = scorer.score(ScoredCorpus(scored_corpus).chunk(0))
    for index, text in enumerate(texts_in_order(scored_corpus, scored_texts)):
        ids = scorer.model.tokenizer.encode(text, add_special_tokens=False)[:60]
        inputs = torch.tensor([[scorer.model.prefix_id, *ids]])
        with torch.inference_mode():
            loss = float(scorer.model.model(inputs, labels=inputs).loss)
        assert columns["perplexity"][index] == pytest.approx(math.exp(loss), rel=1e-4)
        size = len(scorer.model.tokenizer.decode(ids).encode())
        assert columns["bits_per_byte"][index] == pytest.approx(loss * len(ids) / math.log(2) / size, rel=1e-4)


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_a_sequence_classifier_says_what_transformers_pipeline_says(outputs, scored_corpus, scored_texts, tmp_path):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from codemix_megatron.scoring.folder_classifier import FolderClassifier

    folder = model_folder(tmp_path, scored_corpus.tokenizer.path, "classifier", outputs)
    found = FolderClassifier(folder, "worth").score(ScoredCorpus(scored_corpus).chunk(0))["worth"]
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for index, text in enumerate(texts_in_order(scored_corpus, scored_texts)):
        with torch.inference_mode():
            logits = model(**tokenizer(text, truncation=True, max_length=64, return_tensors="pt")).logits[0].double()
        wanted = logits[0] if outputs == 1 else sum(number * share for number, share in enumerate(torch.softmax(logits, 0)))
        assert found[index] == pytest.approx(float(wanted), abs=1e-5)


def test_a_causal_model_is_no_classifier(scored_corpus, tmp_path):
    from codemix_megatron.errors import EvaluationError
    from codemix_megatron.scoring.folder_classifier import FolderClassifier

    with pytest.raises(EvaluationError, match=r"no trained sequence classifier: it lacks score\.weight"):
        FolderClassifier(model_folder(tmp_path, scored_corpus.tokenizer.path, "causal"))


def model_folder(folder, tokenizer_file, kind: str, outputs: int = 2) -> Path:
    """Save a random Llama that sees 64 tokens, to write or to classify."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

    path = folder / f"{kind}-{outputs}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file), eos_token="<|endoftext|>", pad_token="<|endoftext|>", model_max_length=64
    )
    tokenizer.save_pretrained(path)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64,
        initializer_range=0.3, num_labels=outputs, pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    (LlamaForCausalLM if kind == "causal" else LlamaForSequenceClassification)(config).save_pretrained(path)
    return path


def test_the_command_scores_trains_and_classifies(scored_corpus, scored_texts, tmp_path, capsys):
    prefix = scored_corpus.prefix
    assert main(["score", f"{prefix}.bin", "--workers", "1"]) == 0
    assert "mean_line" in capsys.readouterr().out
    labels = [{"text": f"def add_{i}(a, b):\n    return a + b\n", "label": 5} for i in range(12)]
    labels += [{"text": f"0x{i} 0xff 0x7f 0x00", "label": 0} for i in range(12)] + [{"document": 0, "label": 4}]
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(label) + "\n" for label in labels))
    assert main(["score", prefix, "--labels", str(path), "--train", str(tmp_path / "quality.npz")]) == 0
    assert "25 labels, 13 from 3 on; area under the curve" in capsys.readouterr().out
    assert main(["score", prefix, "--classifier", str(tmp_path / "quality.npz"), "--workers", "1"]) == 0
    manifest = CorpusManifest.read(prefix)
    quality = read_scores(manifest)["quality"]
    assert ((quality > 0) & (quality < 1)).all() and manifest.scores["quality"]["labels"] == 25
    assert "lines" in manifest.scores, "columns that were there stay"
    again = sklearn_probabilities(tmp_path / "quality.npz", texts_in_order(manifest, scored_texts))
    assert quality == pytest.approx(again, abs=1e-6)


def sklearn_probabilities(path, texts) -> np.ndarray:
    """What scikit-learn's own LogisticRegression says with these weights."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    stored, regression = np.load(path), LogisticRegression()
    regression.classes_, regression.coef_ = np.array([0, 1]), stored["weights"][None].astype(np.float64)
    regression.intercept_ = np.array([float(stored["intercept"])])
    hashing = HashingVectorizer(n_features=1 << 18, ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", lowercase=False)
    return regression.predict_proba(hashing.transform([text[:20_000] for text in texts]))[:, 1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scores", "shape,tests"], "--scores: found tests; there are shape, comments, lint, parse, complexity"),
        (["--train", "x.npz"], "--label and --train: name one corpus, and --labels FILE.jsonl"),
        (["--label", "5", "--labels", "l.jsonl"], "--label: name the teacher: --endpoint URL --model NAME"),
        (["--workers", "0"], "--workers: found 0, must be at least 1"),
        (["--classifier", "nowhere.npz"], "nowhere.npz: no classifier that `codemix score --train` wrote"),
        (["--column", "a b"], "--column: found 'a b', needs letters, digits and underscores"),
    ],
)
def test_what_does_not_go_together_is_said(words, said, scored_corpus, capsys):
    assert main(["score", scored_corpus.prefix, *words]) == 2
    assert said in capsys.readouterr().err


def test_labels_that_are_none_are_named_by_their_line(scored_corpus, tmp_path, capsys):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"document": 0, "label": 4}\n{"document": 999, "label": 1}\n')
    assert main(["score", scored_corpus.prefix, "--labels", str(path), "--train", str(tmp_path / "q.npz")]) == 2
    assert "labels.jsonl:2: no label" in capsys.readouterr().err
    path.write_text('{"document": 0, "label": 4}\n')
    assert main(["score", scored_corpus.prefix, "--labels", str(path), "--train", str(tmp_path / "q.npz")]) == 2
    assert "1 documents above the threshold and 0 below; at least 10 of each" in capsys.readouterr().err
