"""Order, content, damage, several commands at once: no document is lost, doubled or taken from elsewhere without a word."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from codemix_megatron.corpus import encoders, parts
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.input_identity import HASHED_WHOLE_BYTES, content_hash
from codemix_megatron.corpus.parts import Shard
from codemix_megatron.corpus.prefix_lock import PrefixLock
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.filtering import FilterSpec
from codemix_megatron.records.manifest import CorpusManifest

HOW = HowToPrepare(held_out_share=0.1)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 2 kB, so that a small file has many."""
    monkeypatch.setattr(parts, "PART_BYTES", 2048)


@pytest.fixture
def two_files(write_lines) -> tuple[Path, Path]:
    """Two files of different documents, four parts each."""
    return tuple(write_lines([{"text": f"{name} document {i} of a file"} for i in range(180)], f"{name}.jsonl") for name in "ab")


def texts_of(prefix, tokenizer) -> list[str]:
    reader = IndexedReader(prefix)
    return [tokenizer.decode(reader.document(i)[:-1]) for i in range(reader.num_documents)]


def test_shards_of_another_order_of_documents_do_not_merge(two_files, spec_for, tokenizer):
    a, b = two_files
    one, other = spec_for(a, b), spec_for(b, a)
    prepare_corpus("x", one, tokenizer, replace(HOW, shard=Shard(0, 2)))
    prepare_corpus("x", other, tokenizer, replace(HOW, shard=Shard(1, 2)))
    for spec in (one, other):
        with pytest.raises(CorpusError, match="parts are not done"):
            prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True))
    prepare_corpus("x", one, tokenizer, replace(HOW, shard=Shard(1, 2)))
    prepare_corpus("x", one, tokenizer, replace(HOW, only_merge=True))
    assert sorted(texts_of(one.prefix, tokenizer)) == sorted(f"{name} document {i} of a file" for name in "ab" for i in range(180))
    said = []
    prepare_corpus("x", other, tokenizer, replace(HOW, say=said.append))
    assert said == ["x: preparing again, its documents, their order or how they are read have changed"]


@pytest.mark.parametrize("size", [1000, HASHED_WHOLE_BYTES + 5000])
def test_another_file_of_the_same_name_size_and_time_is_another_file(tmp_path, spec_for, tokenizer, size, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 20)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        line = json.dumps({"text": f"the text of {name} " + "x " * 100}) + "\n"
        (tmp_path / name / "d.jsonl").write_text((line * (size // len(line) + 1))[:size].rpartition("\n")[0].ljust(size - 1) + "\n")
        os.utime(tmp_path / name / "d.jsonl", ns=(10**18, 10**18))
    assert (tmp_path / "one/d.jsonl").stat().st_size == (tmp_path / "two/d.jsonl").stat().st_size == size
    prepare_corpus("x", spec_for(tmp_path / "one/d.jsonl"), tokenizer, HowToPrepare())
    prepare_corpus("x", spec_for(tmp_path / "two/d.jsonl"), tokenizer, HowToPrepare())
    assert texts_of(tmp_path / "out/corpus", tokenizer)[0].startswith("the text of two")
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "two").rename(tmp_path / "one")  # the same file under another path is the same file
    said = []
    prepare_corpus("x", spec_for(tmp_path / "one/d.jsonl"), tokenizer, HowToPrepare(say=said.append))
    assert said == ["x: already prepared, nothing has changed"]


def test_samples_of_a_large_file_are_hashed_from_its_first_to_its_last_byte(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(bytes(3 << 20))
    hashes = {content_hash(path, 3 << 20)}
    for position in (0, (3 << 20) - 1, (((3 << 20) - (16 << 10)) * 7) // 15):
        data = bytearray(3 << 20)
        data[position] = 1
        path.write_bytes(data)
        hashes.add(content_hash(path, 3 << 20))
    assert len(hashes) == 4


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 30)


def append(path: Path) -> None:
    with open(path, "a") as handle:
        handle.write('{"text": "one more"}\n')


def overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"document 9", b"manuscript"[:8] + b" 9"))
    os.utime(path)


@pytest.mark.parametrize(("change", "workers"), [(cut, 1), (append, 1), (overwrite, 1), (Path.unlink, 1), (cut, 2)])
def test_an_input_that_changes_while_it_is_read_is_named_and_nothing_of_it_is_taken(two_files, spec_for, tokenizer, change, workers):
    a, b = two_files
    spec, kept, changed = spec_for(a, b), b.read_bytes(), []

    def meanwhile(state):
        if not changed:
            changed.append(change(b))

    with pytest.raises(CorpusError, match=rf"{b}: (changed while it was read|cannot be read)") as caught:
        prepare_corpus("x", spec, tokenizer, replace(HOW, progress=meanwhile, workers=workers))
    if "changed" in str(caught.value):
        assert caught.value.exit_code == 1
    assert not Path(f"{spec.prefix}.bin").exists()
    b.write_bytes(kept)
    assert prepare_corpus("x", spec, tokenizer, HOW).num_documents == 360


def zero(path: Path) -> None:
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(20)
    path.write_bytes(data)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def lengthen(path: Path) -> None:
    with open(path, "ab") as handle:
        handle.write(b"0" * 24)


@pytest.fixture
def done_parts(two_files, spec_for, tokenizer):
    """(spec, folder) of a corpus whose parts are all done, filters among them."""
    from codemix_megatron.recipe.filtering import NearDuplicates

    spec = spec_for(*two_files, filters=FilterSpec(near_duplicates=NearDuplicates(similarity=0.99)))
    prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(0, 1)))
    (folder,) = Path(spec.prefix).parent.glob(".corpus.parts-*")
    return spec, folder


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        *((what, zero) for what in ("tokens", "records", "identities", "signatures", "done")),
        ("tokens", shorten), ("records", lengthen), ("signatures", Path.unlink), ("done", shorten), ("done", Path.unlink),
    ],
)  # fmt: skip
def test_a_damaged_part_is_not_done_and_is_made_again(done_parts, spec_for, tokenizer, damage, what):
    spec, folder = done_parts
    wanted = prepare_corpus("x", replace(spec, prefix=f"{spec.prefix}-sound"), tokenizer, HOW)
    damage(folder / f"00002.{what}")
    with pytest.raises(CorpusError, match=r"1 of \d+ parts are not done .such as part 2") as caught:
        prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True))
    gone = what == "done" and damage is Path.unlink
    assert (f"00002.{what} is damaged" in str(caught.value)) != gone
    said = []
    manifest = prepare_corpus("x", spec, tokenizer, replace(HOW, say=said.append))
    assert (manifest.bin_sha256, manifest.idx_sha256, manifest.num_bytes) == (wanted.bin_sha256, wanted.idx_sha256, wanted.num_bytes)
    assert (f"x: part 2 is made again, 00002.{what} is damaged" in said) != gone


def test_the_files_of_one_part_are_not_those_of_another(done_parts, tokenizer):
    spec, folder = done_parts
    for path in folder.glob("00001.*"):
        shutil.copy(path, folder / path.name.replace("00001", "00002"))
    assert prepare_corpus("x", spec, tokenizer, HOW).num_documents == 360


def test_parts_made_by_another_version_of_a_library_are_not_taken(done_parts, tokenizer, monkeypatch):
    spec, _ = done_parts
    monkeypatch.setattr(encoders, "installed", lambda library: f"{library} 0")
    with pytest.raises(CorpusError, match="parts are not done"):
        prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True))


def test_a_corpus_whose_ids_another_library_defined_is_prepared_again(two_files, spec_for, tokenizer, monkeypatch):
    prepare_corpus("x", spec_for(*two_files), tokenizer, HOW)
    monkeypatch.setattr(encoders, "installed", lambda library: f"{library} 0")
    said = []
    assert prepare_corpus("x", spec_for(*two_files), tokenizer, replace(HOW, say=said.append)).encoder.reference == "tokenizers 0"
    assert len(said) == 1 and said[0].startswith("x: preparing again, its ids are those of tokenizers ")


def test_a_damaged_manifest_is_noticed_and_the_corpus_made_again(two_files, spec_for, tokenizer, tmp_path):
    first = prepare_corpus("x", spec_for(*two_files), tokenizer, HOW)
    path = tmp_path / "out/corpus.manifest.json"
    path.write_text(
        path.read_text().replace(f'"train_documents": {first.train_documents}', f'"train_documents": {first.train_documents - 1}')
    )
    with pytest.raises(CorpusError, match="not a readable corpus manifest .its own checksum"):
        CorpusManifest.read(first.prefix)
    said = []
    again = prepare_corpus("x", spec_for(*two_files), tokenizer, replace(HOW, say=said.append))
    assert (again.bin_sha256, again.train_documents) == (first.bin_sha256, first.train_documents)
    assert len(said) == 1 and "damaged or edited" in said[0]


@pytest.mark.parametrize("is_shard_first", [True, False])
def test_commands_with_other_settings_on_one_prefix_wait_for_each_other(two_files, spec_for, tokenizer, is_shard_first):
    spec = spec_for(*two_files)
    other = replace(spec, filters=FilterSpec(min_characters=2))
    shard, alone = replace(HOW, shard=Shard(0, 2)), HOW
    first, second = (shard, alone) if is_shard_first else (alone, shard)
    refused = []

    def meanwhile(_):
        with pytest.raises(CorpusError, match="another command is writing it") as caught:
            prepare_corpus("x", other, tokenizer, second)
        refused.append(caught.value.exit_code)

    prepare_corpus("x", spec, tokenizer, replace(first, progress=meanwhile))
    assert refused and set(refused) == {1}
    if is_shard_first:
        prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(1, 2)))
        assert prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True)).num_documents == 360
    assert list(Path(spec.prefix).parent.glob(".*")) == []


def test_a_shard_that_fails_removes_nothing_of_one_at_work(two_files, spec_for, tokenizer, monkeypatch):
    spec, failed = spec_for(*two_files), []

    def meanwhile(state):
        def fail(*_):
            raise RuntimeError

        if not failed:
            failed.append(True)
            with pytest.raises(RuntimeError):
                prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(1, 2), progress=fail))

    prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(0, 2), progress=meanwhile))
    prepare_corpus("x", spec, tokenizer, replace(HOW, shard=Shard(1, 2)))
    assert failed and prepare_corpus("x", spec, tokenizer, replace(HOW, only_merge=True)).num_documents == 360


def test_the_lock_of_a_killed_command_is_free(tmp_path):
    code = (
        "import sys, time; from codemix_megatron.corpus.prefix_lock import PrefixLock\n"
        "lock = PrefixLock(sys.argv[1]); lock.acquire(alone=True); print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "c")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    lock = PrefixLock(tmp_path / "c")
    with pytest.raises(CorpusError, match="another command"):
        lock.acquire(alone=False)
    process.kill()
    process.wait()
    lock.acquire(alone=True)
    lock.release()
    assert list(tmp_path.iterdir()) == []
