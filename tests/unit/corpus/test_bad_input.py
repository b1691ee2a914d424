"""Input that breaks other tools: what is left out is counted and located, the rest is whole, and nothing hangs."""

import base64
import gzip
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codemix_megatron.corpus import encoder_choice, parts
from codemix_megatron.corpus.encoders import ReferenceEncoder
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.part_encoding import LONGEST_RUN
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers import json_lines
from codemix_megatron.recipe.conversations import Conversations

HOW = HowToPrepare()
GOOD = [{"text": f"good document {i}"} for i in range(1000)]


def texts_of(manifest, tokenizer) -> list[str]:
    reader = IndexedReader(manifest.prefix)
    return [tokenizer.decode(reader.document(i)[:-1]) for i in range(reader.num_documents)]


@pytest.mark.parametrize(
    ("line", "reason", "damaged"),
    [
        (b'{"text": "cut', "broken JSON", True),
        (b'{"other": "x"}', "no key 'text'", True),
        (b'{"text": null}', "null text", True),
        (b'{"text": 3}', "text is not a string", True),
        (b'["text"]', "not an object", True),
        (b'{"text": "\xff\xfe"}', "invalid UTF-8", True),
        (b'{"text": "a\\ud800b"}', "lone surrogate", True),
        (b'{"text": ""}', "empty text", False),
        (b'{"text": " \\n\\t "}', "empty text", False),
    ],
)
@pytest.mark.parametrize("part_bytes", [1 << 20, 5000], ids=["whole", "in-parts"])
def test_bad_line_is_left_out_counted_and_located(write_lines, spec_for, tokenizer, monkeypatch, line, reason, damaged, part_bytes):
    monkeypatch.setattr(parts, "PART_BYTES", part_bytes)
    path = write_lines([*GOOD[:700], line, *GOOD[700:]])
    manifest = prepare_corpus("x", spec_for(path), tokenizer, HOW)
    assert manifest.dropped == {reason: 1}
    assert manifest.dropped_places == {reason: [f"{path}:701"]}
    assert manifest.num_documents == 1000
    listed = Path(f"{manifest.prefix}.damaged.tsv")
    assert (listed.read_text() if listed.exists() else "") == (f"{path}:701\t{reason}\n" if damaged else "")


def test_locations_with_tabs_and_reasons_of_several_lines_are_listed_each_in_a_line(tmp_path, write_lines, spec_for, tokenizer):
    """A chat template says in its own words why it refuses a conversation; a list of damage with its line ends could not be read again."""
    (tmp_path / "refusing.jinja").write_text("{{ raise_exception('first\\nsecond\\tthird') }}")
    lines = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, b'{"cut']
    path = write_lines(lines, "with\ttab.jsonl")
    with pytest.raises(CorpusError, match="2 of 2 documents are damaged"):
        prepare_corpus("x", spec_for(path, conversations=Conversations(template=str(tmp_path / "refusing.jinja"))), tokenizer, HOW)
    listed = (tmp_path / "out/corpus.damaged.tsv").read_text().split("\n")
    assert [line.rsplit("\t", 1)[0] for line in listed if line] == [f"{path}:1", f"{path}:2"]
    assert listed[0].endswith("refuses it: first\\nsecond third)") and listed[1].endswith("\tbroken JSON")


def test_surrogate_in_another_key_and_numbers_json_does_not_know_do_no_harm(write_lines, spec_for, tokenizer):
    path = write_lines(
        [b'{"text": "a", "title": "\\ud800"}', b'{"text": "b", "score": NaN}', b'{"text": "c", "id": 123456789012345678901234567890}']
    )
    assert texts_of(prepare_corpus("x", spec_for(path), tokenizer, HOW), tokenizer) == ["a", "b", "c"]


def test_line_of_fifty_megabytes_without_white_space_is_left_out_in_moments(tmp_path, spec_for, tokenizer):
    path = tmp_path / "x.jsonl"
    with open(path, "wb") as handle:
        handle.write(b'{"text": "before"}\n{"text": "' + b"a" * 50_000_000 + b'"}\n{"text": "after"}\n')
    manifest = prepare_corpus("x", spec_for(path), tokenizer, HOW)
    path.unlink()
    assert texts_of(manifest, tokenizer) == ["before", "after"]
    assert manifest.dropped == {LONGEST_RUN: 1}
    assert manifest.dropped_places == {LONGEST_RUN: [f"{path}:2"]}


def test_line_too_long_for_memory_is_left_out(write_lines, spec_for, tokenizer, monkeypatch):
    monkeypatch.setattr(json_lines, "LONGEST_LINE_BYTES", 5000)
    monkeypatch.setattr(parts, "PART_BYTES", 4096)
    path = write_lines([GOOD[0], {"text": "word " * 4000}, GOOD[1], {"text": "x" * 4900}, GOOD[2]])
    manifest = prepare_corpus("x", spec_for(path), tokenizer, replace(HOW, max_bad_share=0.5))
    assert texts_of(manifest, tokenizer) == [GOOD[0]["text"], GOOD[1]["text"], "x" * 4900, GOOD[2]["text"]]
    assert manifest.dropped_places == {json_lines.LONG_LINE: [f"{path}:2"]}


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "reference"])
def test_minified_code_and_base64_are_encoded_as_the_reference_does(write_lines, spec_for, tokenizer, monkeypatch, fast):
    monkeypatch.setattr(encoder_choice, "SMALLEST_FOR_FAST_BYTES", 0 if fast else 1 << 40)
    generator = random.Random(1)
    minified = "".join(f"function f{i}(a,b){{return a*{generator.random()}+b}};" for i in range(4000))
    blob = base64.b64encode(generator.randbytes(300_000)).decode()
    manifest = prepare_corpus("x", spec_for(write_lines([{"text": minified}, {"text": blob}])), tokenizer, HOW)
    assert manifest.encoder.library.startswith("fastokens" if fast else "tokenizers")
    reader, (wanted, lengths) = IndexedReader(manifest.prefix), ReferenceEncoder(tokenizer).encode_flat([minified, blob])
    assert reader.document_lengths.tolist() == (lengths + 1).tolist()
    assert np.array_equal(reader.document(0)[:-1], wanted[: lengths[0]])
    assert np.array_equal(reader.document(1)[:-1], wanted[lengths[0] :])


def test_blob_above_a_megabyte_is_left_out_and_not_counted_as_damage(write_lines, spec_for, tokenizer):
    blob = base64.b64encode(bytes(1_500_000)).decode()
    manifest = prepare_corpus("x", spec_for(write_lines([GOOD[0], {"text": blob}])), tokenizer, HOW)
    assert manifest.dropped == {LONGEST_RUN: 1}


def test_special_tokens_spelled_out_never_end_a_document(write_lines, spec_for, tokenizer, monkeypatch):
    monkeypatch.setattr(encoder_choice, "SMALLEST_FOR_FAST_BYTES", 0)
    texts = ["<|endoftext|>", "a<|endoftext|>b", "<|endoftext|>" * 3 + " x"]
    manifest = prepare_corpus("x", spec_for(write_lines([{"text": text} for text in texts])), tokenizer, HOW)
    assert manifest.encoder.library.startswith("fastokens")
    assert texts_of(manifest, tokenizer) == texts
    stream = IndexedReader(manifest.prefix).stream
    assert (stream == tokenizer.end_of_document_id).sum() == 3


def test_id_beyond_the_dtype_stops_the_work(hundred_texts, spec_for, tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr(
        ReferenceEncoder, "encode_flat", lambda self, texts, utf8=None: (np.full(len(texts), 70_000), np.ones(len(texts), np.int64))
    )
    with pytest.raises(CorpusError, match=r"token ids 70000 to 70000 do not fit uint16; the tokenizer is damaged"):
        prepare_corpus("x", spec_for(hundred_texts), tokenizer, HOW)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("cut", [200, -8])
def test_truncated_archive_ends_the_command_for_nobody_knows_what_is_missing(tmp_path, spec_for, tokenizer, cut):
    packed = gzip.compress("".join(json.dumps(record) + "\n" for record in GOOD).encode())
    (tmp_path / "x.jsonl.gz").write_bytes(packed[:cut])
    with pytest.raises(CorpusError, match=r"x\.jsonl\.gz: damaged archive .*copy it again") as caught:
        prepare_corpus("x", spec_for(tmp_path / "x.jsonl.gz"), tokenizer, HOW)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "out/corpus.bin").exists()


def peak_of_one_word_documents(count: int, folder: Path, tokenizer_path: Path) -> tuple[int, dict]:
    """Prepare documents of one word each in a process of its own; return its peak memory in bytes and what it printed."""
    with open(folder / "words.jsonl", "w") as handle:
        handle.writelines(f'{{"text":"w{i}"}}\n' for i in range(count))
    code = """
import json, sys
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.recipe.schema import CorpusSpec
spec = CorpusSpec(documents=(sys.argv[1],), prefix=sys.argv[2])
manifest = prepare_corpus("x", spec, load_tokenizer(sys.argv[3]), HowToPrepare(held_out_share=0.01, workers=1))
# Not ru_maxrss: a child starts with that of the process it was forked from.
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": peak, "documents": manifest.num_documents, "dropped": manifest.dropped, "torch": "torch" in sys.modules}))
"""
    command = [sys.executable, "-c", code, str(folder / "words.jsonl"), str(folder / "corpus"), str(tokenizer_path)]
    told = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"}).stdout
    )
    for path in folder.glob("*.*"):
        path.unlink()
    return told["peak"], told


def test_many_one_word_documents_take_little_memory_and_no_torch(tmp_path, tokenizer_path, measured):
    peak, told = peak_of_one_word_documents(200_000, tmp_path, tokenizer_path)
    measured(f"prepare, 200,000 documents of one word: peak {peak / 1e6:.0f} MB")
    assert (told["documents"], told["dropped"], told["torch"]) == (200_000, {}, False)
    assert peak < 400e6


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_million_one_word_documents_stay_under_a_gigabyte(tmp_path, tokenizer_path, measured):
    peak, told = peak_of_one_word_documents(10_000_000, tmp_path, tokenizer_path)
    measured(f"prepare, 10,000,000 documents of one word: peak {peak / 1e6:.0f} MB")
    assert (told["documents"], told["dropped"]) == (10_000_000, {})
    assert peak < 1 << 30
