"""What `make check-cuda` is made of: its tables have all that they are to have, and its lines of CUDA branches are those."""

import ast
import sys
from dataclasses import fields

import pytest
from tiny_run import REPOSITORY

from codemix_megatron.recipe.schema import Model

PACKAGE = REPOSITORY / "codemix_megatron"
ELSEWHERE = {"precision", "fp8", "dropout"}  # looked at by other parts; dropout draws other numbers


@pytest.fixture(scope="module", autouse=True)
def programs():
    """The folder of the simulation, which is no package."""
    sys.path.insert(0, str(REPOSITORY / "tests" / "simulated_cuda"))
    yield
    sys.path.remove(str(REPOSITORY / "tests" / "simulated_cuda"))


def test_another_value_of_every_key_of_a_model_is_simulated():
    from models import KEYS

    plain = {field.name: field.default for field in fields(Model)}
    assert KEYS.keys() | ELSEWHERE == plain.keys()
    assert all(key in model and model[key] != plain[key] for key, model in KEYS.items())


@pytest.mark.parametrize("engine", ["local", "transformer engine"])
def test_context_parallel_and_fp8_are_among_the_layouts_and_refused_without_transformer_engine(engine):
    from layouts import shape_cases

    cases = [{"parallel": {}, "model": {}, **case} for case in shape_cases(engine, quick=False)]
    assert {case["world"] for case in cases} == {1, 8, 64, 1024}
    wanted = [case for case in cases if "context" in case["parallel"] or "fp8" in case["model"]]
    assert len(wanted) >= 7 and all(("refused" in case) == (engine == "local") for case in wanted)
    recomputed = {case["parallel"].get("recompute") for case in cases}
    assert recomputed == {None, "full", "selective"}


SOURCE = """
def step(device, rows):
    if device.type == "cuda":
        rows = pinned(rows)
        moved = rows.to(device)
    else:
        moved = rows
    kind = "nccl" if device.type == "cuda" else "gloo"
    for row in moved:
        if device.type != "cuda" or row is None:
            continue
        send(row)
    return kind


def copy(rows):
    return rows
"""


def test_lines_of_cuda_are_bodies_of_conditions_rests_of_blocks_and_named_functions():
    from cuda_lines import CudaLines

    found = CudaLines({"copy"})
    found.visit(ast.parse(SOURCE.removeprefix("\n")))
    assert found.whole == {3, 4, 11, 16} and found.arms == {7}


def test_functions_named_as_cudas_are_still_there_and_every_room_has_some():
    from cuda_lines import CALLED_ON_CUDA, cuda_lines

    for file, names in CALLED_ON_CUDA.items():
        there = {node.name for node in ast.walk(ast.parse((PACKAGE / file).read_text())) if isinstance(node, ast.FunctionDef)}
        assert names <= there, f"{file}: {names - there}"
    rooms = {path.relative_to(PACKAGE).parts[0] for path in cuda_lines(PACKAGE)}
    assert rooms >= {"parallel", "model", "train", "checkpoint", "megatron"}


@pytest.mark.parametrize("left", [None, 2])
def test_attention_in_the_place_of_kernels_is_torchs_own_within_each_stretch(left):
    import flash_on_cpu
    import torch

    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(12, heads, 8, generator=draw, requires_grad=True) for heads in (4, 2, 2))
    gradient = torch.randn(12, 4, 8, generator=draw)
    borders, document = torch.tensor([0, 5, 6, 12]), torch.tensor([0] * 5 + [1] + [2] * 6)
    seen = (document[:, None] == document).tril() & torch.ones(12, 12, dtype=torch.bool).triu(-12 if left is None else -left)
    heads_first = [of.transpose(0, 1)[None] for of in (query, key, value)]
    judge = torch.nn.functional.scaled_dot_product_attention(*heads_first, attn_mask=seen, scale=0.3, enable_gqa=True)[0].transpose(0, 1)
    options = (borders, borders, 6, 6, 0.0, True)
    with torch.no_grad():
        output, logarithms, *state = flash_on_cpu.forward(query, key, value, *options, False, scale=0.3, window_size_left=left)
        found = flash_on_cpu.backward(
            gradient, query, key, value, output, logarithms, *options, *state[:2], scale=0.3, window_size_left=left
        )
    torch.testing.assert_close(output, judge)
    for ours, theirs in zip(found, torch.autograd.grad(judge, (query, key, value), gradient), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
