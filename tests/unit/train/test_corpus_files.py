"""A corpus file that was changed in place, its size and even its times as before, is not trained on."""

import os
import shutil

import pytest

from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.manifest import CorpusManifest
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train import corpus_files
from codemix_megatron.train.corpus_files import CorpusFilesCheck, check_corpus_files


@pytest.fixture
def manifest(hundred_texts, spec_for, tokenizer):
    """A prepared corpus."""
    return prepare_corpus("prose", spec_for(hundred_texts), tokenizer, HowToPrepare())


@pytest.fixture
def run(tmp_path) -> RunFolder:
    """A run folder that is there."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    return folder


def test_looking_at_corpora_makes_no_folder(manifest, tmp_path):
    run = RunFolder(tmp_path / "not" / "there")
    check_corpus_files(run, {"prose": manifest})
    assert not run.path.parent.exists()


def alter(path: str) -> None:
    """Change one byte in place, and put the times back."""
    before = os.stat(path)
    with open(path, "r+b") as handle:
        handle.seek(11)
        byte = handle.read(1)[0]
        handle.seek(11)
        handle.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_untouched_corpus_is_taken_without_being_read(manifest, tmp_path):
    check = CorpusFilesCheck(RunFolder(tmp_path / "run"), {"prose": manifest})
    assert check.bytes_left == 0 and check.go_on(0)
    assert set(check.known) == {"prose.bin", "prose.idx"}


@pytest.mark.parametrize("suffix", [".bin", ".idx"])
@pytest.mark.parametrize("has_begun", [False, True], ids=["before the run", "between stop and resume"])
def test_a_file_changed_in_place_is_refused_with_its_name(manifest, run, suffix, has_begun):
    if has_begun:
        check_corpus_files(run, {"prose": manifest})
    alter(manifest.prefix + suffix)
    with pytest.raises(CorpusError, match=rf"corpus\{suffix}: changed since it was prepared") as caught:
        check_corpus_files(run, {"prose": manifest})
    assert "codemix verify-corpus" in str(caught.value)
    alter(manifest.prefix + suffix)  # put back
    check_corpus_files(run, {"prose": manifest})


def test_a_corpus_that_was_moved_is_read_once_and_known_from_then_on(manifest, run, tmp_path, monkeypatch):
    there = tmp_path / "moved"
    check_corpus_files(run, {"prose": manifest})
    shutil.copytree(os.path.dirname(manifest.prefix), there)
    moved = CorpusManifest.read(there / "corpus")
    monkeypatch.setattr(corpus_files, "BLOCK_BYTES", 100)
    check = CorpusFilesCheck(run, {"prose": moved})
    assert check.bytes_left == sum((there / f"corpus{suffix}").stat().st_size for suffix in (".bin", ".idx"))
    assert not check.go_on(0)  # in slices
    while not check.go_on(0.001):
        pass
    assert CorpusFilesCheck(run, {"prose": moved}).bytes_left == 0
