"""tools/preprocess_data.py: Megatron's flags, Megatron's bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from codemix_megatron.corpus import encoder_choice
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.megatron_tool import main

TOOL = Path(__file__).resolve().parents[3] / "tools" / "preprocess_data.py"
RECORDS = [
    {"text": "def f():\n    return 1", "title": "one"},
    {"text": "", "title": "two"},
    {"text": "the quick brown fox", "title": "three"},
    {"text": "the quick brown fox", "title": "again"},
]


def run(path, out, tokenizer, *more, kind="HuggingFaceTokenizer") -> int:
    arguments = ["--input", path, "--output-prefix", out, "--tokenizer-type", kind, "--tokenizer-model", tokenizer, "--workers", 1]
    return main([str(argument) for argument in (*arguments, *more)])


def read_bytes(prefix) -> tuple[bytes, bytes]:
    return tuple(Path(f"{prefix}{suffix}").read_bytes() for suffix in (".bin", ".idx"))


def write_with_megatron(path, key, prefix, tokenizer, append_eod: bool) -> None:
    """Do what the loop of Megatron's tool does, with Megatron's tokenizer and builder."""
    megatron = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    builder = megatron.IndexedDatasetBuilder(f"{prefix}.bin", dtype=megatron.DType.optimal_dtype(tokenizer.vocab_size))
    for line in path.read_text().splitlines():
        ids = list(tokenizer.text_to_ids(json.loads(line)[key]))
        if ids and append_eod:
            ids.append(tokenizer.eod)
        builder.add_document(ids, [len(ids)] if ids else [])
    builder.finalize(f"{prefix}.idx")


@pytest.fixture(scope="session")
def tokenizer_folder(tokenizer_path, tmp_path_factory):
    """The tokenizer as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("hf")
    transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_path), eos_token="<|endoftext|>").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("flags", [[], ["--append-eod"]], ids=["bare", "append-eod"])
def test_files_equal_those_of_megatron(tmp_path, write_lines, tokenizer_folder, flags):
    theirs = pytest.importorskip("megatron.core.tokenizers.text.libraries.huggingface_tokenizer")
    path = write_lines(RECORDS)
    assert run(path, tmp_path / "ours", tokenizer_folder, "--json-keys", "text", "title", *flags) == 0
    for key in ("text", "title"):
        write_with_megatron(path, key, tmp_path / f"theirs_{key}", theirs.HuggingFaceTokenizer(str(tokenizer_folder)), bool(flags))
        assert read_bytes(tmp_path / f"ours_{key}_document") == read_bytes(tmp_path / f"theirs_{key}")


def test_files_equal_those_of_megatron_with_a_public_tokenizer(tmp_path, shared_data):
    theirs = pytest.importorskip("megatron.core.tokenizers.text.libraries.huggingface_tokenizer")
    pytest.importorskip("transformers")
    folder = shared_data / "tokenizers/smollm2"
    with open(shared_data / "code/verified_synthetic.jsonl") as lines:
        (tmp_path / "x.jsonl").write_text("".join(line for line, _ in zip(lines, range(100), strict=False)))
    assert run(tmp_path / "x.jsonl", tmp_path / "ours", folder, "--append-eod") == 0
    write_with_megatron(tmp_path / "x.jsonl", "text", tmp_path / "theirs", theirs.HuggingFaceTokenizer(str(folder)), True)
    assert read_bytes(tmp_path / "ours_text_document") == read_bytes(tmp_path / "theirs")


def test_files_equal_those_of_megatron_with_sentencepiece(tmp_path, write_lines, shared_data):
    theirs = pytest.importorskip("megatron.core.tokenizers.text.libraries.sentencepiece_tokenizer")
    path, model = write_lines(RECORDS), shared_data / "tokenizers/mistral/tokenizer.model"
    assert run(path, tmp_path / "ours", model, "--append-eod", kind="SentencePieceTokenizer") == 0
    tokenizer = theirs.SentencePieceTokenizer(str(model))
    write_with_megatron(path, "text", tmp_path / "theirs", tokenizer, True)
    assert read_bytes(tmp_path / "ours_text_document") == read_bytes(tmp_path / "theirs")


def test_files_equal_those_of_megatron_with_gpt2(tmp_path, write_lines, shared_data):
    transformers = pytest.importorskip("transformers")
    vocab, merges = (shared_data / "tokenizers/gpt2" / name for name in ("vocab.json", "merges.txt"))
    path = write_lines([*RECORDS, {"text": " \n", "title": "white space alone"}])
    arguments = ["--input", path, "--output-prefix", tmp_path / "ours", "--tokenizer-type", "GPT2BPETokenizer", "--append-eod"]
    assert main([str(argument) for argument in [*arguments, "--vocab-file", vocab, "--merge-file", merges, "--workers", 2]]) == 0
    theirs = transformers.GPT2TokenizerFast(vocab=str(vocab), merges=str(merges))
    write_with_megatron(path, "text", tmp_path / "theirs", AsMegatron(theirs), True)
    assert read_bytes(tmp_path / "ours_text_document") == read_bytes(tmp_path / "theirs")


class AsMegatron:
    """What Megatron's tool asks of a tokenizer of transformers; it includes special tokens."""

    def __init__(self, tokenizer):
        self.tokenizer, self.vocab_size, self.eod = tokenizer, len(tokenizer), tokenizer.eos_token_id

    def text_to_ids(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids


def test_tokens_that_a_tokenizer_adds_to_each_text_are_written_as_megatron_does(tmp_path, write_lines, tokenizer_path, monkeypatch):
    monkeypatch.setattr(encoder_choice, "SMALLEST_FOR_FAST_BYTES", 0)
    transformers = pytest.importorskip("transformers")
    plain = json.loads(tokenizer_path.read_text())
    plain["added_tokens"].append({**plain["added_tokens"][0], "id": 320, "content": "<begin>"})
    begin = {"id": "<begin>", "ids": [320], "tokens": ["<begin>"]}
    single = [{"SpecialToken": {"id": "<begin>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    plain["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {"<begin>": begin}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    path = write_lines([{"text": f"the quick brown fox {i} "} for i in range(30)])
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="<|endoftext|>")
    assert run(path, tmp_path / "ours", tmp_path, "--append-eod") == 0
    write_with_megatron(path, "text", tmp_path / "theirs", AsMegatron(theirs), True)
    assert read_bytes(tmp_path / "ours_text_document") == read_bytes(tmp_path / "theirs")
    assert IndexedReader(tmp_path / "ours_text_document").document(0)[0] == 320
    assert run(path, tmp_path / "bare", tmp_path, "--tokenizer-hf-no-include-special-tokens") == 0
    assert IndexedReader(tmp_path / "bare_text_document").document(0)[0] != 320


def test_partitions_give_megatrons_order_unless_the_input_s_is_to_be_kept(tmp_path, write_lines, tokenizer, tokenizer_path):
    path = write_lines([{"text": str(i)} for i in range(10)])

    def order(*flags):
        assert run(path, tmp_path / "x", tokenizer_path, "--partitions", 3, *flags) == 0
        reader = IndexedReader(tmp_path / "x_text_document")
        return [int(tokenizer.decode(reader.document(i))) for i in range(len(reader))]

    assert order() == [0, 3, 6, 9, 1, 4, 7, 2, 5, 8]
    assert order("--keep-sequential-samples") == list(range(10))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokenizer-type", "GPT2BPETokenizer"], "--vocab-file: missing; GPT2BPETokenizer needs it"),
        (["--tokenizer-type", "GPT2BPETokenizer", "--vocab-file", "none", "--merge-file", "none"], "none: no such file"),
        (["--tokenizer-type", "HuggingFaceTokenizer"], "--tokenizer-model: missing"),
        (["--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", "x", "--workers", "0"], "--workers: found 0"),
    ],
)
def test_flags_that_do_not_fit_are_told(tmp_path, write_lines, capsys, flags, message):
    assert main(["--input", str(write_lines(RECORDS)), "--output-prefix", str(tmp_path / "x"), *flags]) == 2
    assert message in capsys.readouterr().err


def test_every_document_is_kept_in_order(tmp_path, write_lines, tokenizer, tokenizer_path):
    assert run(write_lines(RECORDS), tmp_path / "x", tokenizer_path) == 0
    reader = IndexedReader(tmp_path / "x_text_document")
    assert [tokenizer.decode(reader.document(i)) for i in range(len(reader))] == [record["text"] for record in RECORDS]


def test_end_of_document_is_the_eos_token_that_the_settings_name(tmp_path, write_lines, tokenizer_path):
    shutil.copy(tokenizer_path, tmp_path / "tokenizer.json")
    plain = json.loads((tmp_path / "tokenizer.json").read_text())
    plain["added_tokens"].append({**plain["added_tokens"][0], "id": 320, "content": "<end>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<end>"}}))
    assert run(write_lines(RECORDS), tmp_path / "x", tmp_path, "--append-eod") == 0
    assert np.asarray(IndexedReader(tmp_path / "x_text_document").document(0))[-1] == 320


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "broken JSON"),
        (b'{"text": null}', "null text"),
        (b'{"other": 1}', "no key 'text'"),
        (b'{"text": "\xff"}', "invalid UTF-8"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
        (b'{"text": ["a", "b"]}', "text is not a string"),
    ],
)
def test_damaged_line_is_told_and_left_out_where_allowed(tmp_path, write_lines, tokenizer_path, capsys, line, reason):
    path = write_lines([*RECORDS, line])
    (tmp_path / "out").mkdir()
    assert run(path, tmp_path / "out/x", tokenizer_path) == 2
    assert f"1 of 5 lines are damaged, more than --max-bad-share 0.001 allows ({reason}: 1 ({path}:5);" in capsys.readouterr().err
    assert [name for name in os.listdir(tmp_path / "out") if name.endswith((".bin", ".idx"))] == []
    assert run(path, tmp_path / "out/x", tokenizer_path, "--max-bad-share", 0.2) == 0
    assert f"left out 1 ({reason}): {path}:5" in capsys.readouterr().out
    assert IndexedReader(tmp_path / "out/x_text_document").num_documents == 4
    assert (tmp_path / "out/x_text_document.damaged.tsv").read_text() == f"{path}:5\t{reason}\n"


def test_tokenizer_type_must_fit_its_file(tmp_path, write_lines, tokenizer_path, capsys):
    assert run(write_lines(RECORDS), tmp_path / "x", tokenizer_path, kind="SentencePieceTokenizer") == 2
    assert "is for huggingface, --tokenizer-type is SentencePieceTokenizer" in capsys.readouterr().err


def test_tool_runs_from_any_folder(tmp_path, write_lines, tokenizer_path):
    command = [sys.executable, TOOL, "--input", write_lines(RECORDS), "--output-prefix", "x", "--append-eod", "--workers", "2"]
    command += ["--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", tokenizer_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("x_text_document.bin: 4 documents, ")
    assert IndexedReader(tmp_path / "x_text_document").num_documents == 4
