"""Any layout, both ways: imported once, loaded and saved at several layouts by real ranks, exported to the same bits."""

import enum
import json
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from family_models import carry, make_model, weights_of
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.checkpoint.torch_dist import ShardReader
from codemix_megatron.conversion.export import ExportOptions, export_run
from codemix_megatron.errors import ConversionError
from codemix_megatron.records.run_folder import RunFolder

pytestmark = pytest.mark.distributed

LAYOUTS = {
    "tensor 2": {"tensor": 2},
    "pipeline 2": {"pipeline": 2},
    "pipeline 2 x virtual 2": {"pipeline": 2, "virtual_pipeline": 2},
}
WITHOUT_PARITY = ExportOptions(parity=False)


@pytest.fixture(scope="module")
def resaved(tmp_path_factory):
    """Two models with a padded vocabulary, each imported, and loaded and saved at every layout by two ranks."""
    folder, jobs = tmp_path_factory.mktemp("layouts"), []
    for name in ("qwen2, tied", "qwen3"):
        make_model(name, folder / name)
        carry(folder / name, folder / f"{name} run", parity=False)
        source = folder / f"{name} run" / "checkpoints" / "step-0"
        for layout, parallel in LAYOUTS.items():
            jobs.append({"from": str(source), "to": str(folder / f"{name} at {layout}" / "checkpoints" / "step-0"), "parallel": parallel})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words = [sys.executable, str(REPOSITORY / "tests" / "resaved_layouts.py"), str(folder / "jobs.json")]
    done = subprocess.run(words, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("name", ["qwen2, tied", "qwen3"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_export_from_any_layout_gives_the_bits_that_were_imported(resaved, name, layout):
    exported = export_run(RunFolder(resaved / f"{name} at {layout}"), options=WITHOUT_PARITY)
    before, after = weights_of(resaved / name), weights_of(exported.folder)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert before["model.embed_tokens.weight"].shape[0] == 259, "padding of the vocabulary was not cut off"


def test_damaged_checkpoint_is_named_and_leaves_nothing(resaved, tmp_path):
    """One bit in a shard, a cut file, and a shard that is gone."""
    run = tmp_path / "run"
    for name, damage in {"flipped": flip_a_bit, "cut": cut_short, "gone": lambda path: path.unlink()}.items():
        shutil.copytree(resaved / "qwen3 at tensor 2", run, dirs_exist_ok=True, ignore=shutil.ignore_patterns("exports"))
        damage(run / "checkpoints" / "step-0" / "__1_0.distcp")
        with pytest.raises((ConversionError, OSError), match="__1_0.distcp") as caught:
            export_run(RunFolder(run), output=tmp_path / name, options=WITHOUT_PARITY)
        assert not list(tmp_path.glob(f"*{name}*")), caught.value


def flip_a_bit(path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_short(path) -> None:
    """Leave the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_metadata_of_a_stranger_runs_none_of_their_code(resaved, tmp_path):
    """A pickle that would write a file when it is read."""
    run = tmp_path / "run"
    shutil.copytree(resaved / "qwen3 at tensor 2", run, ignore=shutil.ignore_patterns("exports"))
    trap = tmp_path / "trap"
    (run / "checkpoints" / "step-0" / ".metadata").write_bytes(b"cbuiltins\nopen\n(S'" + str(trap).encode() + b"'\nS'w'\ntR.")
    with pytest.raises(ConversionError, match=r"it names builtins.open, which no checkpoint needs"):
        export_run(RunFolder(run), options=WITHOUT_PARITY)
    assert not trap.exists()


class PickledAsDebianDoes(pickle.Pickler):
    """Pickles members of enumerations as Python 3.11.2 does (Debian 12's; other patch releases call the class)."""

    def reducer_override(self, value):
        """Return `getattr(class, name)` for a member."""
        return (getattr, (type(value), value.name)) if isinstance(value, enum.Enum) else NotImplemented


def test_checkpoint_saved_by_python_3_11_2_is_read_by_any(resaved, tmp_path):
    checkpoint = resaved / "qwen3 at tensor 2" / "checkpoints" / "step-0"
    with open(tmp_path / ".metadata", "wb") as handle:
        PickledAsDebianDoes(handle).dump(pickle.loads((checkpoint / ".metadata").read_bytes()))
    assert b"getattr" in (tmp_path / ".metadata").read_bytes()
    assert ShardReader(tmp_path).tensors == ShardReader(checkpoint).tensors


def test_checkpoint_with_a_path_of_python_3_13_is_read_by_any(resaved, tmp_path):
    checkpoint = resaved / "qwen3 at tensor 2" / "checkpoints" / "step-0"
    found = pickle.loads((checkpoint / ".metadata").read_bytes())
    found.storage_meta.checkpoint_id = tmp_path  # as torch's own writer leaves it
    content = pickle.dumps(found, protocol=2).replace(b"cpathlib\n", b"cpathlib._local\n")
    assert b"cpathlib._local\nPosixPath\n" in content
    (tmp_path / ".metadata").write_bytes(content)
    assert ShardReader(tmp_path).tensors == ShardReader(checkpoint).tensors
    (tmp_path / ".metadata").write_bytes(b"cpathlib._local\nos\n.")
    with pytest.raises(ConversionError, match=r"it names pathlib.os, which no checkpoint needs"):
        ShardReader(tmp_path)


@pytest.mark.parametrize(
    "asked",
    [
        b"ctorch\nSize\nS'__class__'\n",  # no enumeration
        b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\nS'__class__'\n",  # an enumeration's attribute that is no member
        b"ctorch.distributed.checkpoint.metadata\n_MEM_FORMAT_ENCODING\nS'mro'\n",
        b"cbuiltins\ngetattr\nS'__globals__'\n",
    ],
)
def test_getattr_in_metadata_gives_members_of_enumerations_only(tmp_path, asked):
    (tmp_path / ".metadata").write_bytes(b"cbuiltins\ngetattr\n(" + asked + b"tR.")
    with pytest.raises(ConversionError, match="which no checkpoint needs"):
        ShardReader(tmp_path)


def test_killed_export_leaves_nothing_under_the_final_name_and_the_next_one_is_whole(resaved, tmp_path):
    import os
    import signal
    import time

    run, out = resaved / "qwen3 at tensor 2", tmp_path / "out"
    words = [sys.executable, "-m", "codemix_megatron", "export", str(run), str(out)]
    process = subprocess.Popen(words, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (tmp_path / ".out.partial" / "model.safetensors").exists():
        assert time.monotonic() < deadline and process.poll() is None, process.stdout.read()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not out.exists() and (tmp_path / ".out.partial").exists()
    export_run(RunFolder(run), output=out, options=WITHOUT_PARITY)
    assert (out / "export.json").is_file() and not (tmp_path / ".out.partial").exists()
