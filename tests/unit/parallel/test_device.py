"""What a step computes with is said, and a layout that needs what is not here is refused."""

import pytest
import torch

from codemix_megatron.errors import LaunchError
from codemix_megatron.parallel import device
from codemix_megatron.parallel.ranks import require_transformer_engine
from codemix_megatron.recipe.schema import Parallel

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def installed(monkeypatch):
    """Call it with the modules that are to be found."""

    def pretend(*modules, **broken):
        monkeypatch.setattr(device, "is_there", modules.__contains__)
        monkeypatch.setattr(device, "import_fault", broken.get)

    return pretend


def test_each_module_of_apex_switches_its_own_part(installed):
    installed("fused_weight_gradient_mlp_cuda")
    kernels = device.active_kernels(CUDA)
    assert kernels["weight gradients"] == "added up by apex" and kernels["Adam"] == "torch, fused"
    installed("amp_C")
    assert device.active_kernels(CUDA)["Adam"] == "torch, fused", "apex's Adam is Python around it"
    installed("amp_C", "apex")
    assert device.active_kernels(CUDA)["Adam"] == "apex"
    assert device.active_kernels(CPU)["Adam"] == "torch, fused", "apex computes on CUDA alone"


def test_slow_paths_on_cuda_are_named_and_cpu_has_none(installed):
    installed()
    assert [line.split(" ")[0] for line in device.slow_paths(CUDA)] == ["Transformer", "neither", "neither"]
    assert device.slow_paths(CPU) == []
    installed("transformer_engine", "transformer_engine_torch")
    assert device.slow_paths(CUDA) == []
    assert device.active_kernels(CUDA)["weight gradients"] == "added up by Transformer Engine"


def test_half_installed_transformer_engine_is_named_and_not_used(installed):
    installed("transformer_engine")
    assert not device.active_engines()["transformer_engine"]
    assert "without transformer_engine_torch" in device.transformer_engine_fault()


def test_modules_that_cannot_be_imported_are_named_and_not_used(installed):
    installed("amp_C", "apex", "transformer_engine", "transformer_engine_torch", amp_C="ImportError: undefined symbol")
    assert device.active_engines() == {"transformer_engine": True, **dict.fromkeys(device.APEX_MODULES, False)}
    assert "amp_C is installed and cannot be imported (ImportError: undefined symbol)" in device.slow_paths(CUDA)[0]
    installed("transformer_engine", "transformer_engine_torch", **{"transformer_engine.pytorch": "OSError: libcudart"})
    assert not device.active_engines()["transformer_engine"]
    assert "transformer_engine cannot be imported (OSError: libcudart)" in device.transformer_engine_fault()


def test_norms_that_transformer_engine_does_not_have_are_said_to_be_torchs(installed):
    installed("transformer_engine", "transformer_engine_torch", "fused_weight_gradient_mlp_cuda")
    assert device.active_kernels(CUDA, "layernorm")["norms"] == "torch" and device.active_kernels(CUDA)["norms"] == "Transformer Engine"
    assert "no LayerNorm without bias" in device.slow_paths(CUDA, "layernorm")[0]


def test_context_parallel_without_transformer_engine_is_refused(installed):
    installed()
    with pytest.raises(LaunchError, match=r"parallel\.context: 2 needs Transformer Engine, which computes on CUDA alone"):
        require_transformer_engine(Parallel(context=2), CPU)
    with pytest.raises(LaunchError, match="which is not installed"):
        require_transformer_engine(Parallel(context=2), CUDA)
    installed("transformer_engine", "transformer_engine_torch")
    require_transformer_engine(Parallel(context=2), CUDA)
