"""A checkpoint of a stranger runs nothing, whatever its pickles name and however right its metadata is."""

import io
import os
import pickle
import random

import numpy
import pytest
import torch

from codemix_megatron.checkpoint.loading import find_fault, load_checkpoint
from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.checkpoint.torch_dist import ShardReader
from codemix_megatron.checkpoint.writing import save_checkpoint
from codemix_megatron.errors import CheckpointError, ConversionError
from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.records.checksum import file_sha256


class Command:
    """Unpickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def calls(mark) -> dict[str, object]:
    """Return objects whose unpickling makes a file."""
    return {
        "os.system": Command(os.system, f"touch {mark}"),
        "eval": Command(eval, f"open({str(mark)!r}, 'w')"),
        "open": Command(open, str(mark), "w"),
        "getattr": Command(getattr, Command(__import__, "os"), "system"),
        "subprocess": Command(__import__("subprocess").getoutput, f"touch {mark}"),
        "builtin of a class": Command(exec, f"open({str(mark)!r}, 'w')"),
        "in a dictionary": {"state": [Command(os.system, f"touch {mark}")]},
        "pickle in a pickle": Command(pickle.loads, pickle.dumps(Command(os.system, f"touch {mark}"))),
    }


CALLS = sorted(calls("x"))
FILES = (".metadata", "common.pt", "__0_0.distcp")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A whole checkpoint with a tensor and an object, and what loads it."""
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.mapping import ShardedObject

    with one_rank(device="cpu") as ranks:

        def wanted():
            numbers = {"torch": torch.get_rng_state(), "numpy": numpy.random.get_state(), "python": random.getstate()}
            state = {"seed": 1, "numbers": numbers}
            return {"w": ShardedTensor.from_rank_offsets("w", torch.arange(6.0)), "o": ShardedObject("o", state, (1,), (0,)), "step": 1}

        folder = tmp_path_factory.mktemp("saved") / "step-1"
        save_checkpoint(folder, wanted(), {"step": 1}, ranks.device)
        yield folder, wanted


def with_call(folder, to, file: str, call) -> None:
    """Copy a checkpoint, put a call into one of its files, and write metadata that says all is well."""
    import shutil

    shutil.copytree(folder, to)
    (path,) = to.glob(file)
    if file == ".metadata":
        path.write_bytes(pickle.dumps(call))
    elif file == "common.pt":
        torch.save(call, path)
    else:
        found = pickle.loads((to / ".metadata").read_bytes())
        (index,) = [index for index in found.storage_data if index.fqn.startswith("o")]
        torch.save(call, blob := io.BytesIO())
        content = path.read_bytes()
        info = type(found.storage_data[index])(path.name, len(content), len(blob.getvalue()))
        found.storage_data[index] = info
        path.write_bytes(content + blob.getvalue())
        (to / ".metadata").write_bytes(pickle.dumps(found))
    metadata = read_metadata(to)
    metadata["files"] = {p.name: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for p in to.iterdir() if p.name != "card.json"}
    write_metadata(to, metadata)
    assert find_fault(to) is None


def test_a_checkpoint_without_such_calls_is_loaded(saved):
    folder, wanted = saved
    loaded = load_checkpoint(folder, wanted())
    assert loaded["w"].tolist() == [0, 1, 2, 3, 4, 5] and loaded["o"]["seed"] == 1 and loaded["step"] == 1


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("call", CALLS)
def test_what_a_pickle_calls_is_not_called(saved, tmp_path, file, call):
    folder, wanted = saved
    mark = tmp_path / "ran"
    with_call(folder, tmp_path / "step-1", file, calls(mark)[call])
    with pytest.raises(CheckpointError, match="no checkpoint needs"):
        load_checkpoint(tmp_path / "step-1", wanted())
    assert not mark.exists()


@pytest.mark.parametrize("call", CALLS)
def test_export_refuses_the_same_metadata(saved, tmp_path, call):
    mark = tmp_path / "ran"
    with_call(saved[0], tmp_path / "step-1", ".metadata", calls(mark)[call])
    with pytest.raises(ConversionError, match="cannot be read"):
        ShardReader(tmp_path / "step-1")
    assert not mark.exists()


@pytest.mark.parametrize("path", ["../outside.distcp", "/etc/passwd", "sub/__0_0.distcp"])
def test_a_checkpoint_reads_no_file_beside_it(saved, tmp_path, path):
    import shutil

    folder, wanted = saved
    shutil.copytree(folder, tmp_path / "step-1")
    found = pickle.loads((tmp_path / "step-1" / ".metadata").read_bytes())
    for info in found.storage_data.values():
        object.__setattr__(info, "relative_path", path)
    (tmp_path / "step-1" / ".metadata").write_bytes(pickle.dumps(found))
    with pytest.raises(CheckpointError, match="no checkpoint needs"):
        load_checkpoint(tmp_path / "step-1", wanted())
