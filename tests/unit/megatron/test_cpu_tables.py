"""Each entry of the CPU tables fits the installed megatron-core, and says so when it does not."""

import importlib
import sys
import types

import pytest
import torch

from codemix_megatron.errors import LaunchError
from codemix_megatron.megatron import cpu


@pytest.fixture(scope="module", autouse=True)
def installed():
    """The tables are applied once per process, as in training."""
    if torch.cuda.is_available():
        pytest.skip("the tables are for machines without CUDA")
    cpu.install()


def function_at(module: str, path: str):
    """Return the plain function behind a dotted path."""
    owner = importlib.import_module(module)
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


def strings_in(code) -> set[str]:
    """Return every string constant of a code object, nested ones too."""
    found = set()
    for constant in code.co_consts:
        if isinstance(constant, str):
            found.add(constant)
        elif isinstance(constant, tuple):
            found |= {item for item in constant if isinstance(item, str)}
        elif isinstance(constant, types.CodeType):
            found |= strings_in(constant)
    return found


@pytest.mark.parametrize(("module", "path"), cpu.CONSTANT_SITES, ids=[path for _, path in cpu.CONSTANT_SITES])
def test_function_names_no_cuda_device_any_more(module, path):
    for function in cpu.plain_functions(function_at(module, path)):
        assert not strings_in(function.__code__) & set(cpu.CUDA_TO_CPU)


@pytest.mark.parametrize(("module", "path"), cpu.CONSTANT_SITES, ids=[path for _, path in cpu.CONSTANT_SITES])
def test_entry_that_finds_nothing_to_replace_fails_with_its_name(module, path):
    """After the first pass nothing is left to replace: just what a new megatron-core would look like."""
    with pytest.raises(LaunchError, match=f'{path.split(".")[-1]} no longer names "cuda" in megatron-core'):
        cpu.replace_constants(module, path)


@pytest.mark.parametrize("site", cpu.attribute_sites(), ids=lambda site: f"{site[0].__name__}.{site[1]}")
def test_attribute_is_swapped(site):
    owner, name, replacement = site
    there = getattr(owner, name)
    if isinstance(replacement, (bool, type)):
        assert there is replacement
    else:
        assert there.__module__ in ("codemix_megatron.megatron.cpu", "torch.random")


def test_function_that_is_gone_fails_with_its_name():
    with pytest.raises(LaunchError, match=r"schedules\.gone is no longer there"):
        cpu.replace_constants("megatron.core.pipeline_parallel.schedules", "gone")


def test_nested_code_and_tuples_are_replaced(monkeypatch):
    module = types.ModuleType("fake_megatron")

    def outer():
        def inner(kind):
            return kind in ("torch.cuda.FloatTensor", "other"), "cuda"

        return inner("torch.FloatTensor")

    module.outer = outer
    monkeypatch.setitem(sys.modules, "fake_megatron", module)
    cpu.replace_constants("fake_megatron", "outer")
    assert outer() == (True, "cpu")


def test_dropout_streams_are_forked_on_the_cpu_generator():
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker

    tracker = CudaRNGStatesTracker()
    tracker.add("model-parallel-rng", 5)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with tracker.fork():
        first = torch.rand(3)
    with tracker.fork():
        second = torch.rand(3)
    assert torch.equal(torch.rand(3), expected), "drawing inside a fork moved the outer stream"
    assert not torch.equal(first, second), "the tracked stream did not advance"
    with pytest.raises(KeyError, match="was never added"), tracker.fork("unknown"):
        pass
