"""What has to change in megatron-core so that its CUDA-only code runs on CPU over gloo.

megatron-core names "cuda" outright in about two dozen places. They stand here as two tables: functions
whose string constants are replaced (the code object is rebuilt once, so a call costs nothing more), and
attributes that are swapped. Each entry must find what it replaces, so a megatron-core that no longer
matches fails at start with the entry's name instead of training wrongly.
"""

import contextlib
import importlib
from types import CodeType, FunctionType

import torch

from codemix_megatron.errors import LaunchError
from codemix_megatron.megatron.adam import adam_sites

__all__ = ["CONSTANT_SITES", "SUPPORTED_MEGATRON", "install", "replace_constants"]

SUPPORTED_MEGATRON = "0.16.1"

CUDA_TO_CPU = {
    "cuda": "cpu",
    "torch.cuda.FloatTensor": "torch.FloatTensor",
    "torch.cuda.HalfTensor": "torch.HalfTensor",
    "torch.cuda.BFloat16Tensor": "torch.BFloat16Tensor",
}

CONSTANT_SITES = [
    ("megatron.core.pipeline_parallel.schedules", "forward_backward_no_pipelining"),
    ("megatron.core.pipeline_parallel.schedules", "forward_backward_pipelining_with_interleaving"),
    ("megatron.core.pipeline_parallel.schedules", "forward_backward_pipelining_without_interleaving"),
    ("megatron.core.optimizer.clip_grads", "get_grad_norm_fp32"),
    ("megatron.core.optimizer.clip_grads", "clip_grad_by_total_norm_fp32"),
    ("megatron.core.optimizer.clip_grads", "count_zeros_fp32"),
    ("megatron.core.optimizer.optimizer", "MixedPrecisionOptimizer.__init__"),
    ("megatron.core.optimizer.optimizer", "Float16OptimizerWithFloat16Params.__init__"),
    ("megatron.core.optimizer.optimizer", "FP32Optimizer.__init__"),
    ("megatron.core.optimizer.distrib_optimizer", "DistributedOptimizer._build_model_and_main_param_groups"),
    ("megatron.core.optimizer.distrib_optimizer", "DistributedOptimizer.__init__"),
    ("megatron.core.utils", "local_multi_tensor_l2_norm"),
]


class CpuStream:
    """Stands in for a CUDA stream: on CPU everything is already in order."""

    def wait_stream(self, other) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Do nothing."""


class WeightGradients:
    """Stands in for apex's fused_weight_gradient_mlp_cuda: a weight's gradient is added up by the product that makes it."""

    @staticmethod
    def wgrad_gemm_accum_fp32(inputs: torch.Tensor, gradients: torch.Tensor, total: torch.Tensor) -> None:
        """Add gradients.T @ inputs, of [tokens, out] and [tokens, in], to `total` [out, in]."""
        if inputs.dtype == total.dtype:
            total.addmm_(gradients.t(), inputs)
        else:
            total.add_(gradients.t() @ inputs)


def scale_in_place(chunk_size, noop_flag, tensor_lists, scale) -> None:
    """Multiply the second list from the first; clipping gives one list twice, which megatron-core's own way copies."""
    for source, target in zip(*tensor_lists, strict=True):
        torch.mul(source, scale, out=target)


@contextlib.contextmanager
def fork_on_cpu(tracker, name="model-parallel-rng"):
    """Draw from the tracked stream `name`, then put the CPU generator back."""
    if name not in tracker.states_:
        raise KeyError(f"random stream {name!r} was never added; there are {', '.join(tracker.states_)}")
    before = torch.get_rng_state()
    torch.set_rng_state(tracker.states_[name])
    try:
        yield
    finally:
        tracker.states_[name] = torch.get_rng_state()
        torch.set_rng_state(before)


def attribute_sites():
    """Return (owner, attribute, replacement) for everything that is swapped whole."""
    core = importlib.import_module
    random = core("megatron.core.tensor_parallel.random")
    layers, clipping = core("megatron.core.tensor_parallel.layers"), core("megatron.core.optimizer.clip_grads")
    vars(layers).setdefault("fused_weight_gradient_mlp_cuda", None)  # a failed import leaves no name
    return [
        (layers, "fused_weight_gradient_mlp_cuda", WeightGradients),
        (layers, "_grad_accum_fusion_available", True),
        (clipping, "multi_tensor_scale_impl", scale_in_place),
        (torch.cuda, "current_device", lambda: torch.device("cpu")),
        (torch.cuda, "synchronize", lambda device=None: None),
        (torch.cuda, "current_stream", lambda device=None: CpuStream()),
        (torch.cuda, "manual_seed", torch.manual_seed),
        (torch.cuda, "get_rng_state", lambda device=None: torch.get_rng_state()),
        (torch.Tensor, "cuda", lambda tensor, *args, **kwargs: tensor),
        (random, "_get_cuda_rng_state", lambda device="cpu", clone=False, graph_safe=False: torch.get_rng_state()),
        (random, "_set_cuda_rng_state", lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)),
        (random.CudaRNGStatesTracker, "fork", fork_on_cpu),
        # torch's AdamW keeps `step` per parameter, which the distributed optimizer of 0.16.1 and 0.19.2
        # saves and loads wrongly (see adam.py); ours keeps it in the parameter group as FusedAdam does.
        *adam_sites(),
    ]


def install() -> None:
    """Apply both tables, once per process. Raises LaunchError naming the first entry that does not match."""
    if getattr(torch.cuda, "_codemix_cpu", False):
        return
    for module, path in CONSTANT_SITES:
        replace_constants(module, path)
    for owner, name, replacement in attribute_sites():
        if not hasattr(owner, name):
            raise mismatch(f"{owner.__name__}.{name}", "is no longer there")
        setattr(owner, name, replacement)
    setattr(torch.cuda, "_codemix_cpu", True)  # noqa: B010 - an attribute of ours


def replace_constants(module: str, path: str) -> None:
    """Rebuild one function with "cuda" constants turned to "cpu"; it must hold at least one."""
    owner = importlib.import_module(module)
    try:
        for part in path.split("."):
            owner = getattr(owner, part)
    except AttributeError:
        raise mismatch(f"{module}.{path}", "is no longer there") from None
    changed = False
    for function in plain_functions(owner):
        code = on_cpu(function.__code__)
        changed |= code is not function.__code__
        function.__code__ = code
    if not changed:
        raise mismatch(f"{module}.{path}", 'no longer names "cuda"')


def plain_functions(function) -> list[FunctionType]:
    """Return the function and those it wraps (decorators, class methods)."""
    found = []
    while function is not None:
        function = getattr(function, "__func__", function)
        found.append(function)
        function = getattr(function, "__wrapped__", None)
    return found


def on_cpu(code: CodeType) -> CodeType:
    """Return the code object with constants replaced, or the same object when there are none."""
    constants = tuple(constant_on_cpu(constant) for constant in code.co_consts)
    same = all(new is old for new, old in zip(constants, code.co_consts, strict=True))
    return code if same else code.replace(co_consts=constants)


def constant_on_cpu(constant):
    """Replace one constant: text, a tuple of texts, or nested code."""
    if isinstance(constant, str):
        return CUDA_TO_CPU.get(constant, constant)
    if isinstance(constant, tuple):
        replaced = tuple(constant_on_cpu(item) for item in constant)
        return replaced if any(new is not old for new, old in zip(replaced, constant, strict=True)) else constant
    if isinstance(constant, CodeType):
        return on_cpu(constant)
    return constant


def mismatch(site: str, what: str) -> LaunchError:
    """Return the error for a megatron-core that the tables do not fit."""
    import megatron.core

    return LaunchError(
        f"megatron/cpu.py: {site} {what} in megatron-core {megatron.core.__version__}; the CPU tables fit {SUPPORTED_MEGATRON}."
        f" Install megatron-core=={SUPPORTED_MEGATRON} or train on CUDA"
    )
