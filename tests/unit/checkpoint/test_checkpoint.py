"""A checkpoint is whole under its name, or it is not there."""

import json

import pytest
import torch

from codemix_megatron.checkpoint.loading import find_fault, list_checkpoints, newest_sound, prune, read_card
from codemix_megatron.checkpoint.writing import save_checkpoint
from codemix_megatron.errors import CheckpointError
from codemix_megatron.parallel.ranks import one_rank


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


def test_card_lists_every_file_with_its_checksum(ranks, tmp_path):
    card = save(ranks, tmp_path, 1)
    files = {p.name for p in (tmp_path / "step-1").iterdir()} - {"card.json"}
    assert set(card["files"]) == files and card == read_card(tmp_path / "step-1")
    assert find_fault(tmp_path / "step-1") is None


def test_folder_without_a_card_is_no_checkpoint(ranks, tmp_path):
    save(ranks, tmp_path, 1)
    (tmp_path / "step-1" / "card.json").unlink()
    assert list_checkpoints(tmp_path) == []
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        read_card(tmp_path / "step-1")


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
    found, complaints = newest_sound(tmp_path)
    assert found == tmp_path / "step-1"
    assert len(complaints) == 1 and shard.name in complaints[0]


def test_failed_save_leaves_neither_partial_nor_final_folder(ranks, tmp_path, monkeypatch):
    from codemix_megatron.checkpoint import writing

    def no_space(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_json", no_space)
    with pytest.raises(CheckpointError, match="No space left on device"):
        save(ranks, tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_pruning_keeps_the_newest_and_the_phase_ends(ranks, tmp_path):
    for step in (2, 4, 6, 8, 10):
        save(ranks, tmp_path, step)
    prune(tmp_path, keep_last=1, keep_steps={4, 10})
    assert [json.loads((p / "card.json").read_text())["step"] for p in list_checkpoints(tmp_path)] == [4, 8, 10]
