"""Files between commands: whole or absent, and honest about damage."""

import dataclasses
import json

import pytest

from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.errors import CodemixError, CorpusError, EvaluationError
from codemix_megatron.records.atomic import replace_text, writing, writing_folder
from codemix_megatron.records.events import StepEvent
from codemix_megatron.records.journal import Journal, cut_after, read_events
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata
from codemix_megatron.records.run_folder import RunFolder, step_of
from codemix_megatron.records.scores import BitsPerByte, Scores, TaskScore


def test_failed_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    replace_text(path, "old")
    with pytest.raises(RuntimeError), writing(path) as handle:
        handle.write("half")
        raise RuntimeError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_two_that_write_one_file_at_once_each_write_it_whole(tmp_path):
    """The second truncated the first one's file and renamed it away: one of the two failed, and what stayed could be of both."""
    path = tmp_path / "scores.json"
    with writing(path) as first:
        first.write("first, first half; ")
        first.flush()
        with writing(path) as second:
            second.write("second")
        assert path.read_text() == "second"
        first.write("second half")
    assert path.read_text() == "first, first half; second half"
    with pytest.raises(RuntimeError), writing(path) as first:
        first.write("third")
        with writing(path, "wb") as second:
            second.write(b"fourth")
        raise RuntimeError
    assert path.read_text() == "fourth" and [p.name for p in tmp_path.iterdir()] == ["scores.json"]


def test_many_processes_write_one_file_and_it_is_always_one_of_theirs(tmp_path):
    """Four processes, 60 times each; a reader never sees a part, nor a mixture, and nothing is left behind."""
    import subprocess
    import sys

    path = tmp_path / "file"
    code = (
        "import sys; from codemix_megatron.records.atomic import writing\n"
        "for _ in range(60):\n"
        "    with writing(sys.argv[1]) as handle:\n"
        "        for _ in range(20): handle.write(sys.argv[2] * 1000)\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "abcd"]
    while any(each.poll() is None for each in running):
        if path.is_file():
            text = path.read_text()
            assert len(text) == 20_000 and len(set(text)) == 1
    assert [each.returncode for each in running] == [0, 0, 0, 0] and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_writer_left_is_taken_over(tmp_path):
    (tmp_path / ".file.partial").write_text("what a killed process had written, longer than what follows")
    replace_text(tmp_path / "file", "short")
    assert (tmp_path / "file").read_text() == "short" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_two_that_write_one_folder_at_once_each_write_it_whole(tmp_path):
    """The second removed what the first had written so far, and the first then failed or was published without it."""
    folder, left = tmp_path / "export", tmp_path / ".export.partial"
    left.mkdir()
    (left / "of a killed process").touch()
    with writing_folder(folder, replace=True) as first:
        (first / "first").touch()
        with writing_folder(folder) as second:
            (second / "second").touch()
        assert [p.name for p in folder.iterdir()] == ["second"]
    assert [p.name for p in folder.iterdir()] == ["first"] and [p.name for p in tmp_path.iterdir()] == ["export"]
    with pytest.raises(OSError), writing_folder(folder) as third:
        (third / "third").touch()
    assert [p.name for p in folder.iterdir()] == ["first"] and [p.name for p in tmp_path.iterdir()] == ["export"]


def journal_with(path, *steps):
    """Write step events."""
    journal = Journal(path)
    for step in steps:
        journal.append(StepEvent.from_json({"step": step}))
    journal.close()


def test_events_come_back_in_order_and_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal_with(path, 1, 2)
    with open(path, "a") as handle:
        handle.write('{"event": "step", "st')
    assert [event.step for event in read_events(path)] == [1, 2]


def test_an_event_after_a_torn_line_is_not_glued_to_it(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal_with(path, 1)
    with open(path, "a") as handle:
        handle.write('{"event": "step", "st')
    cut_after(path, 1)  # as every start does
    journal_with(path, 2)
    assert [event.step for event in read_events(path)] == [1, 2]


@pytest.mark.parametrize(("torn", "kept"), [('{"event": "step", "st', []), ('{"event": "step", "step": 7}', [7])])
def test_a_torn_line_is_cut_off_by_who_appends_next(tmp_path, torn, kept):
    """Attempts of a job are cut by no start: after a node's power failed, its job could not be decided any more."""
    path = tmp_path / "attempts.jsonl"
    for before in ("", '{"event": "step", "step": 1}\n'):
        path.write_text(before + torn)
        journal_with(path, 2)
        assert [event.step for event in read_events(path)] == [*([1] if before else []), *kept, 2]


@pytest.mark.parametrize("text", ["http://h/a?key=12345&b=1", "ftp://me:word@host/", "AKIAIOSFODNN7EXAMPLE", "\udc80", "plain"])
def test_what_holds_a_secret_reads_back_as_it_was_written(tmp_path, manifest, text):
    """Beginnings of dropped documents are full of such: the checksum was of the text with it, and no run could read the corpus."""
    dataclasses.replace(manifest, dropped_examples={"min_characters": [f"see {text} there"]}).write()
    (example,) = CorpusManifest.read(manifest.prefix).dropped_examples["min_characters"]
    write_metadata(tmp_path, {"step": 1, "imported_from": f"/models/{text}"})
    assert read_metadata(tmp_path)["imported_from"].removeprefix("/models/") == example.removeprefix("see ").removesuffix(" there")
    assert not any(secret in example for secret in ("12345", "word", "AKIA"))


def test_damage_in_the_middle_is_named_with_its_line(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"event": "step", "step": 1}\nnot json\n{"event": "step", "step": 2}\n')
    with pytest.raises(CodemixError, match="line 2 is not JSON: 'not json'"):
        read_events(path)


def test_cutting_drops_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal_with(path, 1, 2, 3, 4)
    assert cut_after(path, 2) == 2
    assert [event.step for event in read_events(path)] == [1, 2]
    assert cut_after(tmp_path / "absent.jsonl", 0) == 0 and not (tmp_path / "absent.jsonl").exists()


@pytest.fixture
def manifest(tmp_path):
    """A manifest beside files of the right sizes."""
    metadata = TokenizerMetadata(type="huggingface", path="t", sha256="s", vocab_size=9, end_of_document_id=0)
    counts = {"num_documents": 3, "num_tokens": 10, "num_bytes": 30, "train_documents": 2, "train_tokens": 7, "train_bytes": 21}
    origin = {"documents": [], "input_fingerprint": "", "bin_sha256": "", "idx_sha256": "", "held_out_share": 0.3, "tokenizer": metadata}
    made = CorpusManifest(name="c", kind="text", prefix=str(tmp_path / "c"), dtype="uint16", **counts, **origin)
    (tmp_path / "c.bin").write_bytes(b"x" * 20)
    (tmp_path / "c.idx").write_bytes(b"x")
    made.write()
    return made


def test_manifest_reads_back_equal_with_its_held_out_counts(manifest):
    read = CorpusManifest.read(manifest.prefix)
    assert read == manifest
    assert (read.held_out_documents, read.held_out_tokens, read.held_out_bytes) == (1, 3, 9)


def test_corpus_whose_file_has_another_length_is_refused(manifest, tmp_path):
    (tmp_path / "c.bin").write_bytes(b"x" * 18)
    with pytest.raises(CorpusError, match=r"c\.bin: 18 bytes, its manifest promises 20 \(10 tokens of uint16\)"):
        CorpusManifest.read(manifest.prefix)
    (tmp_path / "c.bin").unlink()
    with pytest.raises(CorpusError, match=r"c\.bin: missing although its manifest is there"):
        CorpusManifest.read(manifest.prefix)


def test_vocabulary_larger_than_the_dtype_is_refused(manifest):
    dataclasses.replace(manifest, tokenizer=dataclasses.replace(manifest.tokenizer, vocab_size=70_000)).write()
    with pytest.raises(CorpusError, match="70000 ids do not fit into uint16"):
        CorpusManifest.read(manifest.prefix)


def test_missing_and_damaged_manifests_say_what_to_do(manifest, tmp_path):
    with pytest.raises(CorpusError, match="run `codemix prepare RECIPE` first"):
        CorpusManifest.read(tmp_path / "absent")
    (tmp_path / "c.manifest.json").write_text("{")
    with pytest.raises(CorpusError, match="not a readable corpus manifest"):
        CorpusManifest.read(manifest.prefix)
    (tmp_path / "c.manifest.json").write_text(json.dumps({**dataclasses.asdict(manifest), "num_tokens": None}))
    with pytest.raises((CorpusError, TypeError)):
        CorpusManifest.read(manifest.prefix)


def test_scores_read_back_equal_and_damage_is_told(tmp_path):
    bits = BitsPerByte(corpus="c", value=1.5, standard_error=0.1, documents=2, tokens=3, bytes=4)
    task = TaskScore(suite="s", task="t", metric="acc", value=0.5, standard_error=None, items=4, chance=0.25)
    scores = Scores(model="m", step=3, tokens=9, bits_per_byte=[bits], tasks=[task])
    assert Scores.read(scores.write(tmp_path / "scores.json")) == scores
    (tmp_path / "scores.json").write_text('{"model": 1}')
    with pytest.raises(EvaluationError, match="not a readable scores file"):
        Scores.read(tmp_path / "scores.json")


def test_newest_finished_export_is_found(tmp_path):
    run = RunFolder(tmp_path)
    assert run.latest_export() is None
    for step in (9, 100, 200):
        run.export(step).mkdir(parents=True)
    for step in (9, 100):
        (run.export(step) / "export.json").write_text("{}")
    assert run.latest_export() == run.export(100)
    assert step_of("step-12") == 12 and step_of("step-x") is None and step_of(".step-1.partial") is None
