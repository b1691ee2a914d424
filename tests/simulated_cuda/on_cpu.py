"""A CUDA device that is the CPU: code that names "cuda" gets CPU tensors with their values, so that whole steps of the CUDA path run.

Every function of torch that is given a CUDA device is given the CPU instead; tensors say that they are on CUDA where they are asked.
"""

import contextlib
import functools
import types
from pathlib import Path

import torch
import torch.distributed as dist
from flash_on_cpu import register_flash_attention
from torch.overrides import TorchFunctionMode

PROPERTIES = types.SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=85_000_000_000, major=9, minor=0, multi_processor_count=132)

IS_CUDA = torch.Tensor.is_cuda.__get__


class CpuForCuda(TorchFunctionMode):
    """Turns CUDA devices in arguments into the CPU."""

    def __torch_function__(self, func, kinds, arguments=(), named=None):
        named = named or {}
        if func == IS_CUDA:
            return True
        if func is torch.Tensor.type and len(arguments) == 1 and not named:
            return func(*arguments).replace("torch.", "torch.cuda.")
        if func is torch.device:
            return func(*arguments, **named)
        named = {name: on_cpu(value) for name, value in named.items() if name != "pin_memory"}
        if isinstance(named.get("device"), int):  # a CUDA device by its number
            named["device"] = torch.device("cpu")
        return func(*map(on_cpu, arguments), **named)


def on_cpu(value):
    """Return the CPU for a CUDA device however it is said."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return "cpu" if isinstance(value, str) and value.split(":")[0] == "cuda" else value


class Stream:
    """A stream in which everything is done at once."""

    device, cuda_stream, stream_id = torch.device("cuda", 0), 0, 0

    def __init__(self, *arguments, **named):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def record_event(self, event=None):
        return event or Event()

    def wait_stream(self, other):
        pass

    wait_event = wait_stream

    def synchronize(self):
        pass


class Event(Stream):
    """A moment that is over."""

    def record(self, *arguments):
        pass

    def elapsed_time(self, other):
        return 1.0

    def query(self):
        return True

    def wait(self, *arguments):
        pass


class WaitedOnce:
    """A send or receive that may be waited for again, as NCCL's may; gloo's would wait for another message."""

    def __init__(self, work):
        self.work = work

    def wait(self, *arguments):
        work, self.work = self.work, None
        return work.wait(*arguments) if work is not None else True

    def is_completed(self):
        return self.work is None or self.work.is_completed()


def pretend_gpus(event: type, stream: type) -> None:
    """Have torch.cuda say that eight GPUs are there, with these events and streams, and that they hold nothing."""
    cuda = torch.cuda
    for name in ("is_available", "is_initialized"):  # a function for each: dynamo wants one rule for one object
        setattr(cuda, name, lambda: True)
    cuda._lazy_init = lambda: None
    cuda.device_count = lambda: 8
    cuda.Event, cuda.Stream = event, stream
    for name in ("current_stream", "default_stream"):
        setattr(cuda, name, lambda device=None: stream())
    cuda.stream = lambda stream: contextlib.nullcontext()
    for name in ("memory_allocated", "max_memory_allocated", "memory_reserved"):
        setattr(cuda, name, lambda device=None: 0)
    cuda.get_device_capability = lambda device=None: (9, 0)
    cuda.get_device_name = lambda device=None: PROPERTIES.name
    cuda.get_device_properties = lambda device=None: PROPERTIES
    cuda.can_device_access_peer = lambda device, peer: True
    cuda.is_current_stream_capturing = lambda: False
    cuda.memory._record_memory_history = lambda *arguments, **named: None
    cuda.memory._dump_snapshot = lambda path: Path(path).write_bytes(b"no allocations: simulated")
    if hasattr(torch, "accelerator"):  # a CUDA build finds one without a driver, and asks it for its stream
        torch.accelerator.current_accelerator = lambda check_available=False: None
    torch.Tensor.pin_memory = lambda tensor, *arguments: tensor


def install() -> None:
    """Replace what asks for a GPU, for the rest of the process."""
    pretend_gpus(Event, Stream)
    cuda = torch.cuda
    cuda.current_device = lambda: 0
    for name in ("set_device", "synchronize", "empty_cache"):
        setattr(cuda, name, lambda device=None: None)
    cuda.manual_seed = torch.default_generator.manual_seed
    cuda.manual_seed_all = lambda seed: None  # torch.manual_seed calls it
    cuda.get_rng_state = cuda.random.get_rng_state = lambda device=None: torch.get_rng_state()
    cuda.set_rng_state = cuda.random.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    begin = dist.init_process_group
    dist.init_process_group = lambda backend=None, **named: begin("gloo", **named)
    exchange = dist.batch_isend_irecv
    dist.batch_isend_irecv = lambda operations: [WaitedOnce(work) for work in exchange(operations)]
    torch.Tensor.cuda = lambda tensor, *arguments, **named: tensor
    for name in FACTORIES:  # modes are not heard in backward
        setattr(torch, name, made_on_cpu(getattr(torch, name)))
    torch.profiler.profile = profile_of_cpu
    KEPT.append(register_flash_attention())
    CpuForCuda().__enter__()


def profile_of_cpu(activities=(), *, profile=torch.profiler.profile, **named):
    """Return a profile without CUDA's events, for each of which a driver would be asked."""
    return profile(activities=[one for one in activities if one != torch.profiler.ProfilerActivity.CUDA], **named)


KEPT: list[torch.library.Library] = []  # kernels stay as long as these do
FACTORIES = ("empty", "zeros", "ones", "full", "tensor", "arange", "empty_like", "zeros_like", "ones_like", "empty_strided")


def made_on_cpu(make):
    """Return a factory of tensors that takes the CPU for a CUDA device."""

    @functools.wraps(make)
    def made(*arguments, device=None, **named):
        named.pop("pin_memory", None)
        device = "cpu" if isinstance(device, int) else on_cpu(device)
        return make(*arguments, **named, **({} if device is None else {"device": device}))

    return made


def patch_megatron() -> None:
    """Let the streams of dropout be the CPU generator's, after megatron-core is imported."""
    from megatron.core.tensor_parallel import random

    random._set_cuda_rng_state = lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)
    random._get_cuda_rng_state = lambda device="cuda", clone=False, graph_safe=False: torch.get_rng_state()
