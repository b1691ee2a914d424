"""Ranks read a checkpoint together: each its share, none waits for another one longer than a slice."""

import hashlib
import threading
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS

from codemix_megatron.checkpoint import verifying
from codemix_megatron.checkpoint.metadata import write_metadata
from codemix_megatron.checkpoint.verifying import newest_valid_together, shares

NUM_RANKS = 4


class Together:
    """Ranks that are threads: collectives over a barrier, and how many there were."""

    def __init__(self, monkeypatch):
        self.barrier, self.values, self.meetings = threading.Barrier(NUM_RANKS), [None] * NUM_RANKS, 0
        self.local = threading.local()
        monkeypatch.setattr(verifying, "any_rank", lambda flag, device: any(self.exchange(flag)))
        monkeypatch.setattr(verifying, "gather", lambda ranks, value: self.exchange(value))
        monkeypatch.setattr(verifying, "scatter_from_main", lambda ranks, f: self.exchange(f() if ranks.rank == 0 else None)[0][ranks.rank])
        monkeypatch.setattr(verifying, "on_main", lambda ranks, f: self.exchange(f() if ranks.rank == 0 else None)[0])

    def exchange(self, value):
        self.values[self.local.rank] = value
        if self.barrier.wait(PATIENCE_SECONDS) == 0:
            self.meetings += 1
        seen = list(self.values)
        self.barrier.wait(PATIENCE_SECONDS)
        return seen

    def run(self, folder: Path) -> list:
        found = [None] * NUM_RANKS

        def be(rank: int) -> None:
            self.local.rank = rank
            ranks = type("R", (), {"rank": rank, "size": NUM_RANKS, "device": None})
            found[rank] = newest_valid_together(folder, ranks, lambda: None)

        threads = [threading.Thread(target=be, args=(rank,)) for rank in range(NUM_RANKS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        return found


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints of nine files."""
    for step in (1, 2):
        checkpoint = tmp_path / f"step-{step}"
        checkpoint.mkdir()
        files = {}
        for n in range(9):
            data = bytes([n]) * (1000 * (n + 1))
            (checkpoint / f"__{n}_0.distcp").write_bytes(data)
            files[f"__{n}_0.distcp"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        write_metadata(checkpoint, {"step": step, "files": files})
    return tmp_path


def test_newest_checkpoint_is_found_by_all_ranks(folder, monkeypatch):
    assert Together(monkeypatch).run(folder) == [(folder / "step-2", [])] * NUM_RANKS


def test_byte_that_only_one_rank_read_is_told_to_all(folder, monkeypatch):
    torn = folder / "step-2" / "__3_0.distcp"
    torn.write_bytes(b"\xff" + torn.read_bytes()[1:])
    found = Together(monkeypatch).run(folder)
    assert found == [found[0]] * NUM_RANKS and found[0][0] == folder / "step-1"
    assert found[0][1] == [f"{folder / 'step-2'}: __3_0.distcp has another checksum than card.json says; it is not used"]


def test_ranks_meet_again_after_every_slice(folder, monkeypatch):
    """However much there is to read: nothing depends on the timeout of a collective."""
    monkeypatch.setattr(verifying, "CHUNK_BYTES", 100)  # 450 of them
    whole = Together(monkeypatch)
    assert whole.run(folder)[0][0] == folder / "step-2"
    monkeypatch.setattr(verifying, "SLICE_SECONDS", -1.0)  # over when a chunk is read
    chunk_by_chunk = Together(monkeypatch)
    assert chunk_by_chunk.run(folder)[0][0] == folder / "step-2"
    assert chunk_by_chunk.meetings > 450 / NUM_RANKS > 10 * whole.meetings


def test_files_are_dealt_evenly():
    sizes = {f"__{rank}_{n}.distcp": 1000 + rank for rank in range(16) for n in range(2)} | {".metadata": 10}
    dealt = shares(sizes, 16)
    loads = [sum(sizes[name] for name in names) for names in dealt]
    assert max(loads) < 1.02 * min(loads) and sorted(name for names in dealt for name in names) == sorted(sizes)
    assert len(shares({"one": 5}, 3)[0]) == 1  # more ranks than files
