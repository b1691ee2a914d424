"""Transformer Engine unpickles its extra states by itself: what they name is looked at before, and what FP8 needs is let in."""

import base64
import enum
import io
import os
import pickle
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from codemix_megatron.checkpoint.fp8_states import check_extra_states
from codemix_megatron.checkpoint.loading import load_checkpoint
from codemix_megatron.checkpoint.writing import save_checkpoint
from codemix_megatron.errors import CheckpointError
from codemix_megatron.parallel.ranks import one_rank

RECIPES = "transformer_engine.common.recipe"
ENTRY = "decoder.layers.self_attention.linear_qkv._extra_state"
# As get_extra_state of Transformer Engine 2.11.0 wrote them, with its own recipes; name -> base64.
WRITTEN = Path(__file__).with_name("extra_states.txt")


class Call:
    """Unpickles as a call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def as_bytes(state, protocol: int | None = None) -> torch.Tensor:
    """Return what get_extra_state returns for a state."""
    return torch.frombuffer(bytearray(pickle.dumps(state, protocol)), dtype=torch.uint8)


def as_file(state) -> io.BytesIO:
    """Return what get_extra_state of Transformer Engine 1 returned."""
    torch.save(state, found := io.BytesIO())
    return found


def numbers() -> dict:
    """Return the tensors of delayed scaling."""
    return {f"{name}_{way}": torch.rand(*shape) for way in ("fwd", "bwd") for name, shape in (("scale", (3,)), ("amax_history", (16, 3)))}


@pytest.fixture
def recipes(monkeypatch):
    """A module in the place of Transformer Engine's recipes, whose classes are pickled by the same names."""
    module = types.ModuleType(RECIPES)

    class _FormatHelper(NamedTuple):
        max_fwd: float
        max_bwd: float

    class Format(enum.Enum):
        E4M3 = _FormatHelper(448, 448)
        HYBRID = _FormatHelper(448, 57344)

    @dataclass(frozen=True)
    class MMParams:
        use_split_accumulator: bool = True

    @dataclass
    class DelayedScaling:
        margin: int = 0
        fp8_format: Format = Format.HYBRID
        amax_compute_algo: object = "max"

    @dataclass
    class Float8CurrentScaling:
        fp8_format: Format = Format.HYBRID
        fp8_gemm_fprop: MMParams = field(default_factory=MMParams)

    @dataclass
    class CustomRecipe:
        qfactory: object = None

    for made in (_FormatHelper, Format, MMParams, DelayedScaling, Float8CurrentScaling, CustomRecipe):
        made.__module__, made.__qualname__ = RECIPES, made.__name__
        setattr(module, made.__name__, made)
    for name in ("transformer_engine", "transformer_engine.common"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, RECIPES, module)
    return module


@pytest.fixture(scope="module")
def ranks():
    with one_rank(device="cpu") as group:
        yield group


def loaded(tmp_path, ranks, value):
    """Save a value as an extra state and load it again."""
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.mapping import ShardedObject

    def state():
        weights = ShardedTensor.from_rank_offsets("w", torch.arange(6.0))
        return {"model0": {"w": weights, ENTRY: ShardedObject(ENTRY, value, (1,), (0,))}}

    save_checkpoint(tmp_path / "step-1", state(), {"step": 1}, ranks.device)
    return load_checkpoint(tmp_path / "step-1", state())["model0"][ENTRY]


@pytest.mark.parametrize("line", WRITTEN.read_text().splitlines() if WRITTEN.is_file() else [], ids=lambda line: line.split(" ")[0])
def test_what_transformer_engine_wrote_is_loaded_without_it(tmp_path, ranks, line):
    data = base64.b64decode(line.split(" ")[1])
    found = loaded(tmp_path, ranks, torch.frombuffer(bytearray(data), dtype=torch.uint8))
    assert found.numpy().tobytes() == data


@pytest.mark.parametrize("kind", ["none", "empty", "delayed", "current scaling", "old file"])
def test_extra_states_of_fp8_are_loaded(tmp_path, ranks, recipes, kind):
    extra = {"extra_fp8_variables": {"fp8_checkpoint": True, "num_gemms": 1, "fp8_max_fwd": 448.0, "names": ["a", ("b", 1)]}}
    value = {
        "none": None,
        "empty": torch.empty(0, dtype=torch.uint8),
        "delayed": as_bytes({"recipe": recipes.DelayedScaling(), **numbers(), **extra}),
        "current scaling": as_bytes({"recipe": recipes.Float8CurrentScaling(), **extra}),
        "old file": as_file({**numbers(), **extra}),
    }[kind]
    found = loaded(tmp_path, ranks, value)
    if isinstance(value, torch.Tensor):
        assert torch.equal(found, value)
    else:
        assert type(found) is type(value)


CALLS = {
    "os.system": lambda mark, recipes: Call(os.system, f"touch {mark}"),
    "exec": lambda mark, recipes: Call(exec, f"open({str(mark)!r}, 'w')"),
    "getattr of a module": lambda mark, recipes: Call(getattr, Call(__import__, "os"), "system"),
    "getattr of a recipe": lambda mark, recipes: Call(getattr, recipes.Format, "__class__"),
    "as the algorithm of a recipe": lambda mark, recipes: recipes.DelayedScaling(amax_compute_algo=os.system),
    "a recipe of one's own": lambda mark, recipes: recipes.CustomRecipe(os.system),
    "inside a tensor": lambda mark, recipes: Call(torch.storage._load_from_bytes, pickle.dumps(Call(os.system, f"touch {mark}"))),
    "torch.load": lambda mark, recipes: Call(torch.load, str(mark)),
    "a file": lambda mark, recipes: Call(open, str(mark), "w"),
}


@pytest.mark.parametrize("form", [as_bytes, as_file], ids=["bytes", "file"])
@pytest.mark.parametrize("call", CALLS)
def test_what_an_extra_state_calls_is_not_called(tmp_path, ranks, recipes, call, form):
    mark = tmp_path / "ran"
    state = {"recipe": CALLS[call](mark, recipes), "extra_fp8_variables": {}}
    with pytest.raises(CheckpointError, match="no checkpoint needs"):
        loaded(tmp_path, ranks, form(state))
    assert not mark.exists()


def test_refusal_names_the_entry_and_what_it_asks_for(tmp_path, ranks, recipes):
    with pytest.raises(CheckpointError, match=rf"{ENTRY}/shard_0_1: it names {RECIPES}.CustomRecipe"):
        loaded(tmp_path, ranks, as_bytes({"recipe": recipes.CustomRecipe()}))


@pytest.mark.parametrize("value", [b"", b"\x80", b"\x80\x05.", b"cos\nsystem\n", b"(" * 10_000, b"\x80\x05\x95" + b"\xff" * 8])
def test_bytes_that_are_no_pickle_are_refused(value):
    found = torch.frombuffer(bytearray(value or b"\0"), dtype=torch.uint8)
    with pytest.raises(pickle.UnpicklingError, match="_extra_state"):
        check_extra_states("a._extra_state", found)


def test_extra_state_hidden_deeper_is_looked_at_too():
    hidden = {"model0": [{"layer._extra_state3": as_bytes(Call(os.system, "true"))}]}
    with pytest.raises(pickle.UnpicklingError, match=r"layer._extra_state3: it names \w+.system"):
        check_extra_states("state", hidden)
