"""A checkpoint is whole under its name, or it is not there."""

import json
import pickletools
from threading import Thread

import pytest
import torch

from codemix_megatron.checkpoint.loading import clear_partial, find_fault, list_checkpoints, newest_valid, prune, set_aside
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.checkpoint.retention import is_token_mark, why_kept
from codemix_megatron.checkpoint.writing import Saving, save_checkpoint
from codemix_megatron.errors import CheckpointError, LaunchError
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.recipe.schema import CheckpointPolicy


@pytest.fixture(scope="module")
def ranks():
    """A process group of one."""
    with one_rank(device="cpu") as group:
        yield group


def state():
    """One sharded tensor."""
    from megatron.core.dist_checkpointing import ShardedTensor

    return {"w": ShardedTensor.from_rank_offsets("w", torch.arange(6.0))}


def save(ranks, folder, step):
    """Save a toy checkpoint."""
    return save_checkpoint(folder / f"step-{step}", state(), {"step": step}, ranks.device)


def test_metadata_lists_every_file_with_its_checksum(ranks, tmp_path):
    saved, metadata = save(ranks, tmp_path, 1), read_metadata(tmp_path / "step-1")
    files = {p.name for p in (tmp_path / "step-1").iterdir()} - {"card.json"}
    assert set(metadata["files"]) == files and saved.seconds == metadata["seconds"]
    assert saved.bytes == sum((tmp_path / "step-1" / name).stat().st_size for name in files)
    assert find_fault(tmp_path / "step-1") is None


def test_metadata_of_torch_name_no_class_that_versions_of_python_call_differently(ranks, tmp_path):
    save(ranks, tmp_path, 1)
    words = {text for _, text, _ in pickletools.genops((tmp_path / "step-1" / ".metadata").read_bytes()) if isinstance(text, str)}
    assert {word for word in words if word.startswith("torch.")}
    assert not {word for word in words if word.startswith("pathlib")}


def test_folder_without_metadata_is_no_checkpoint(ranks, tmp_path):
    save(ranks, tmp_path, 1)
    (tmp_path / "step-1" / "card.json").unlink()
    assert list_checkpoints(tmp_path) == []
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_metadata(tmp_path / "step-1")


@pytest.mark.parametrize(
    ("there", "instead"),
    [('"step": 2', '"step": 3'), ('"tokens"', '"tokene"'), ('"card_sha256"', '"card_sha257"'), ('{\n  "step"', '[1]\n{"step"')],
)
def test_metadata_that_is_not_as_it_was_written_is_a_fault(ranks, tmp_path, there, instead):
    for step in (1, 2):
        save_checkpoint(tmp_path / f"step-{step}", state(), {"step": step, "tokens": 8, 7: [0.1]}, ranks.device)
    path = tmp_path / "step-2" / "card.json"
    text = path.read_text()
    assert there in text and find_fault(tmp_path / "step-2") is None
    path.write_text(text.replace(there, instead))
    found, complaints = newest_valid(tmp_path)
    assert found == tmp_path / "step-1" and len(complaints) == 1 and "card.json" in complaints[0]


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_damage_is_named_and_the_checkpoint_before_is_taken(ranks, tmp_path, harm):
    for step in (1, 2):
        save(ranks, tmp_path, step)
    shard = next((tmp_path / "step-2").glob("__0_*"))
    content = shard.read_bytes()
    if harm == "remove":
        shard.unlink()
    else:
        shard.write_bytes(content[:-1] if harm == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    found, complaints = newest_valid(tmp_path)
    assert found == tmp_path / "step-1"
    assert len(complaints) == 1 and shard.name in complaints[0]


def test_failed_save_leaves_neither_partial_nor_final_folder(ranks, tmp_path, monkeypatch):
    from codemix_megatron.checkpoint import writing

    def no_space(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_metadata", no_space)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(ranks, tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_what_changes_while_a_copied_save_is_written_is_not_in_it(ranks, tmp_path):
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import ShardedTensor

    weight = torch.arange(6.0)
    state = {"w": ShardedTensor.from_rank_offsets("w", weight)}
    saving = Saving(tmp_path / "step-1", state, {"step": 1}, ranks.device, behind=True)
    weight.zero_()  # training goes on
    thread = Thread(target=saving.write)
    thread.start()
    thread.join()
    assert list_checkpoints(tmp_path) == []  # written, and not yet a checkpoint
    assert saving.finish().bytes > 0 and find_fault(tmp_path / "step-1") is None
    loaded = dist_checkpointing.load({"w": ShardedTensor.from_rank_offsets("w", torch.zeros(6))}, str(tmp_path / "step-1"))
    assert torch.equal(loaded["w"], torch.arange(6.0))


def hundred(step: int) -> int:
    """Return the tokens after a step where each has a hundred."""
    return 100 * step


def test_pruning_keeps_the_newest_and_the_phase_ends(ranks, tmp_path):
    for step in (2, 4, 6, 8, 10):
        save(ranks, tmp_path, step)
    prune(tmp_path, why_kept([2, 4, 6, 8, 10], CheckpointPolicy(keep_last=1), hundred, {4, 10}))
    assert [json.loads((p / "card.json").read_text())["step"] for p in list_checkpoints(tmp_path)] == [4, 8, 10]
    assert len(list(tmp_path.iterdir())) == 3


def test_one_checkpoint_of_every_so_many_tokens_is_kept_for_ever_whenever_one_prunes():
    policy, saved, kept = CheckpointPolicy(keep_last=2, keep_every_tokens=1000), [], {}
    for step in range(3, 100, 3):  # 100 tokens a step: marks at 12, 21, 30, ...
        kept = why_kept([*saved, step], policy, hundred, {50})
        saved = list(kept)
    assert saved == [12, 21, 30, 42, 51, 60, 72, 81, 90, 96, 99]
    assert kept[90] == "every 1000 tokens" and kept[99] == "last 2"
    assert list(why_kept([27, 28, 30, 31, 32, 33], policy, hundred, set(), begun_at=26)) == [30, 32, 33]  # its parent passed the mark at 20
    assert [step for step in range(1, 40) if is_token_mark(step, policy, hundred)] == [10, 20, 30]


def test_links_are_unlinked_and_never_followed_into(tmp_path):
    """Checkpoints moved to another disk, with links in their place, as people make room."""
    run, archive = tmp_path / "checkpoints", tmp_path / "archive"
    for step in (2, 4, 6):
        (archive / f"step-{step}").mkdir(parents=True)
        (archive / f"step-{step}" / "card.json").write_text("{}")
    run.mkdir()
    for step in (2, 4, 6):
        (run / f"step-{step}").symlink_to(archive / f"step-{step}")
    (run / ".step-8.partial").symlink_to(archive)
    assert [p.name for p in prune(run, {4: "last 1", 6: "last 1"})] == ["step-2"]
    assert [p.name for p in clear_partial(run)] == [".step-8.partial"]
    set_aside(run, after=run / "step-4")
    set_aside(run, after=None)
    assert sorted(p.name for p in run.iterdir()) == ["step-4.torn", "step-6.torn"]
    (run / "step-6").symlink_to(archive / "step-6")
    set_aside(run, after=None)  # one of that name was set aside before
    assert sorted(p.name for p in archive.rglob("card.json")) == ["card.json"] * 3


def test_leftovers_of_cut_off_saves_go_and_torn_checkpoints_no_longer_count_as_the_newest(ranks, tmp_path):
    for step in (1, 2):
        save(ranks, tmp_path, step)
    (tmp_path / ".step-3.partial").mkdir()
    next((tmp_path / "step-2").glob("__0_*")).unlink()
    assert [p.name for p in clear_partial(tmp_path)] == [".step-3.partial"]
    found, _ = newest_valid(tmp_path)
    set_aside(tmp_path, after=found)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-1", "step-2.torn"]
    prune(tmp_path, why_kept([1], CheckpointPolicy(keep_last=1), hundred, set()))
    assert list_checkpoints(tmp_path) == [tmp_path / "step-1"]


def test_save_that_may_not_be_committed_any_more_leaves_no_checkpoint(ranks, tmp_path):
    """Another start has taken the run over while this one wrote."""

    def fenced() -> None:
        raise LaunchError("another start has taken this run over")

    saving = Saving(tmp_path / "step-1", state(), {"step": 1}, ranks.device, before_commit=fenced)
    saving.write()
    with pytest.raises(CheckpointError, match="another start has taken this run over"):
        saving.finish()
    assert not list(tmp_path.iterdir())
