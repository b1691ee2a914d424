"""What a prepared corpus holds can be seen, and any damage to it is named with its location."""

import json
import shutil

import numpy as np
import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.indexed import HEADER, IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.recipe.schema import CorpusSpec
from codemix_megatron.records.manifest import CorpusManifest

TEXTS = [f"document {i} says: the quick brown fox jumps {i} times\n" for i in range(60)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tokenizer):
    """A corpus of two languages with held-out documents."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = [{"text": text, "lang": "python" if i % 3 else "go"} for i, text in enumerate(TEXTS)]
    rows += [rows[0], {"text": "a\x1b[31mred"}]
    (folder / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = CorpusSpec(kind="code", documents=(str(folder / "documents.jsonl"),), prefix=str(folder / "corpus"))
    prepare_corpus("corpus", spec, tokenizer, HowToPrepare(held_out_share=0.2))
    return folder


@pytest.fixture
def corpus(prepared, tmp_path):
    """A copy to damage."""
    for path in prepared.glob("corpus.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "corpus"


def verify(corpus, capsys, *words) -> tuple[int, str]:
    """Return exit code and output of verify-corpus."""
    code = main(["verify-corpus", str(corpus), *map(str, words)])
    return code, capsys.readouterr().out


def put(path, position: int, value: int, dtype) -> None:
    """Overwrite one number of a file."""
    with open(path, "r+b") as handle:
        handle.seek(position)
        handle.write(np.array([value], dtype).tobytes())


def change_manifest(corpus, **values) -> None:
    """Overwrite keys of the manifest, by hand, without its checksum."""
    path = corpus.with_suffix(".manifest.json")
    plain = json.loads(path.read_text())
    plain.pop("checksum", None)
    path.write_text(json.dumps({**plain, **values}))


def test_a_sound_corpus_is_as_it_should_be(corpus, capsys):
    code, out = verify(corpus, capsys)
    assert (code, "61 documents" in out, "as it should be" in out, "not checked" in out) == (0, True, True, False), out
    assert verify(f"{corpus}.bin", capsys)[0] == 0


def test_damage_is_named_with_its_location(corpus, capsys, tokenizer_path):
    reader = IndexedReader(corpus)
    third = int(reader.document_lengths[:3].sum())  # where document 3 begins
    put(f"{corpus}.bin", 2 * (third + 1), 319, np.uint16)
    code, out = verify(corpus, capsys)
    assert code == 1 and "corpus.bin: sha256: found" in out and "1 differences" in out  # a wrong id like any other

    put(f"{corpus}.bin", 2 * (third + 1), 320, np.uint16)
    code, out = verify(corpus, capsys)
    assert code == 1 and f"1 ids outside the vocabulary; the first at token {third + 1}, document 3: id 320, allowed are 0 to 319" in out

    put(f"{corpus}.bin", 2 * (third + 1), 0, np.uint16)
    put(f"{corpus}.bin", 2 * (third - 1), 5, np.uint16)
    _, out = verify(corpus, capsys)
    assert f"1 documents without an end-of-document id; the first at token {third - 1}, document 2: ends with 5, expected 0" in out
    assert f"1 end-of-document ids inside documents; the first at token {third + 1}, document 3" in out


def test_an_index_that_does_not_fit_is_named(corpus, capsys):
    sequences = IndexedReader(corpus).num_documents
    put(f"{corpus}.idx", HEADER.size + 4 * sequences + 8 * 7, 2, "<i8")
    code, out = verify(corpus, capsys)
    assert code == 1 and f"1 of {sequences} sequences are elsewhere; sequence 7 at byte 2, expected" in out and "idx: sha256" in out


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
def test_a_cut_file_is_named(corpus, capsys, suffix):
    path = corpus.with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:-10])
    code, out = verify(corpus, capsys)
    assert code == 1 and f"corpus{suffix}: " in out and "bytes, its" in out and f"corpus{suffix}: sha256" in out
    path.unlink()
    code, out = verify(corpus, capsys)
    assert code == 1 and f"corpus{suffix}: " in out


def test_counts_that_differ_are_named(corpus, capsys):
    manifest = CorpusManifest.read(corpus)
    assert list(manifest.languages) == ["python", "go", "unknown"]
    languages = {**manifest.languages, "go": {**manifest.languages["go"], "tokens": 3}}
    change_manifest(corpus, languages=languages, train_tokens=manifest.train_tokens + 1)
    code, out = verify(corpus, capsys)
    assert code == 1
    assert f"tokens of all languages together: found {manifest.num_tokens - manifest.languages['go']['tokens'] + 3}" in out
    assert "3 tokens of go, but" in out
    assert f"train_tokens: found {manifest.train_tokens + 1}, expected {manifest.train_tokens}" in out
    change_manifest(
        corpus, languages=manifest.languages, train_tokens=manifest.train_tokens, kinds={"code": {"documents": 1, "bytes": 2, "tokens": 3}}
    )
    assert "documents of all kinds together: found 1, expected 61" in verify(corpus, capsys)[1]
    np.save(f"{corpus}.languages.npy", np.zeros(4, np.uint16))
    assert "corpus.languages.npy: found 4 entries up to 0" in verify(corpus, capsys)[1]


def test_another_tokenizer_is_named(corpus, capsys, tokenizer_path, tmp_path):
    other = tmp_path / "tokenizer.json"
    other.write_text(tokenizer_path.read_text() + " ")
    code, out = verify(corpus, capsys, "--tokenizer", other)
    assert code == 1 and f"{other}: sha256: found" in out
    change_manifest(corpus, tokenizer={**json.loads(corpus.with_suffix(".manifest.json").read_text())["tokenizer"], "path": "gone.json"})
    code, out = verify(corpus, capsys)
    assert code == 0 and "not checked: the tokenizer: gone.json is not there" in out


def test_plain_megatron_files_are_checked_as_far_as_they_tell(corpus, capsys, tokenizer_path):
    corpus.with_suffix(".manifest.json").unlink()
    code, out = verify(corpus, capsys)
    assert code == 0 and "not checked: counts and checksums" in out and "not checked: ids" in out
    assert verify(corpus, capsys, "--tokenizer", tokenizer_path)[0] == 0
    put(f"{corpus}.bin", 0, 400, np.uint16)
    code, out = verify(corpus, capsys, "--tokenizer", tokenizer_path)
    assert code == 1 and "token 0, document 0: id 400" in out
    assert main(["inspect", str(corpus), "--samples", "1"]) == 0
    out = capsys.readouterr().out
    assert "no manifest; its index holds 61 documents" in out and "--- document" in out


def inspected(corpus, capsys, *words) -> str:
    """Return what inspect prints."""
    assert main(["inspect", str(corpus), *map(str, words)]) == 0
    return capsys.readouterr().out


def test_inspect_shows_the_manifest_and_the_documents_themselves(corpus, capsys):
    manifest = CorpusManifest.read(corpus)
    left_out = {
        "dropped": {**manifest.dropped, "0x": 2},
        "dropped_examples": {"0x": ["mask =\n 0xff\x1b"]},
        "filters": {"hexadecimal": True},
    }
    change_manifest(corpus, **left_out, rewritten={"e-mail masked": 3})
    out = inspected(corpus, capsys, "--samples", 61)
    assert all(text in out for text in TEXTS)
    assert f"{manifest.num_documents:,} documents, {manifest.num_bytes:,} bytes, {manifest.num_tokens:,} tokens" in out
    assert manifest.bin_sha256 in out and manifest.tokenizer.sha256 in out and "python" in out
    assert "left out 1: duplicate: " in out and "documents.jsonl:61" in out
    assert (
        "left out 2: 0x" in out and "| mask = 0xff" in out and "hexadecimal: true" in out and "changed in 3 documents: e-mail masked" in out
    )
    assert "a\\x1b[31mred" in out and "\x1b" not in out  # a terminal would obey it
    assert out.count("held out, ") == manifest.held_out_documents


def test_samples_are_drawn_by_the_seed(corpus, capsys):
    first, again, other = (inspected(corpus, capsys, "--seed", seed).partition("--- ")[2] for seed in (1, 1, 2))
    assert first == again != other
    held_out = inspected(corpus, capsys, "--held-out", "--samples", 50)
    assert held_out.count("--- document") == held_out.count("held out, ") == CorpusManifest.read(corpus).held_out_documents
    one = inspected(corpus, capsys, "--document", 2, "--characters", 9, "--ids")
    assert one.count("--- document") == 1 and "document \n..." in one and "more characters" in one


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify-corpus", "gone"], "gone: no corpus there"),
        (["inspect", "gone"], "gone: no corpus there"),
        (["inspect", "corpus", "--document", "61"], "no document 61; there are 61, numbered from 0"),
        (["inspect", "corpus", "--samples", "-1"], "neither may be negative"),
        (["inspect", "corpus", "--tokenizer", "gone.json"], "gone.json: no tokenizer there"),
        (["verify-corpus", "corpus", "--tokenizer", "gone.json"], "gone.json: no tokenizer there"),
    ],
)
def test_bad_arguments_are_named(corpus, monkeypatch, capsys, words, message):
    monkeypatch.chdir(corpus.parent)
    assert main(words) == 2
    assert message in capsys.readouterr().err
