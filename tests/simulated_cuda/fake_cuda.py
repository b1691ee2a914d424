"""CUDA without a GPU: shapes, dtypes, devices and memory of the CUDA path on torch's fake tensors, as any rank of any world size.

Needs a CUDA build of torch (a CPU build refuses fake CUDA tensors) under the two stub libraries beside this file; check.py sees to it.
Seen: wrong devices, dtypes and shapes, missing attributes, waits of the host for the device, memory by operation. Not seen: values.
"""

import collections
import contextlib
import functools
import os
import traceback
import weakref

import numpy as np
import torch
import torch.distributed as dist
from on_cpu import Event, Stream, pretend_gpus
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["PLACE", "WAITS", "Memory", "fake_mode", "install"]

WAITS: collections.Counter = collections.Counter()  # file and line -> how often the host waited for the device there
DEVICE, PLACE = [0], [0, 1]
OURS = ("codemix_megatron", "/megatron/", "transformer_engine")


def note(what: str) -> None:
    """Count a wait at the innermost line of this package, megatron-core or Transformer Engine."""
    for frame in reversed(traceback.extract_stack()[:-2]):
        if any(name in frame.filename for name in OURS) and "simulated_cuda" not in frame.filename:
            WAITS[f"{what} {frame.filename.split('site-packages/')[-1].split('/codemix_megatron/')[-1]}:{frame.lineno}"] += 1
            return
    WAITS[f"{what} elsewhere"] += 1


class NotedStream(Stream):
    """A stream whose waits are counted."""

    def synchronize(self):
        note("synchronize")


class NotedEvent(NotedStream, Event):
    """An event of one; made, recorded and waited for."""


class Done:
    """A collective that is over."""

    def wait(self, *arguments):
        return True

    def is_completed(self):
        return True


def fake_mode() -> FakeTensorMode:
    """Return a mode in which every new tensor is fake."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    type(mode).avoid_device_init = property(lambda self: True)
    return mode


def install(rank: int = 0, world: int = 1) -> None:
    """Replace what asks for a GPU or for other ranks, for the rest of the process."""
    PLACE[:] = [rank, world]
    replace_cuda()
    replace_reads()
    replace_groups()
    torch.nn.functional.scaled_dot_product_attention = attention
    torch.nn.Module._apply = apply
    for name in ("tensor", "empty"):
        setattr(torch, name, unpinned(getattr(torch, name)))


def unpinned(make):
    """Return a factory of tensors that pins nothing, for which a driver would be asked."""
    return functools.wraps(make)(lambda *arguments, pin_memory=False, **named: make(*arguments, **named))


def replace_cuda() -> None:
    """A device that does nothing."""
    import torch._subclasses.fake_tensor as fake_tensor

    fake_tensor.init_gpu_context = lambda device: None
    pretend_gpus(NotedEvent, NotedStream)
    cuda = torch.cuda
    cuda.current_device = lambda: DEVICE[0]
    cuda.set_device = lambda device: DEVICE.__setitem__(0, getattr(device, "index", device) or 0)
    cuda.synchronize = lambda device=None: note("synchronize")
    cuda.manual_seed = cuda.manual_seed_all = lambda seed: None
    cuda.get_rng_state = cuda.random.get_rng_state = lambda device=None: torch.zeros(16, dtype=torch.uint8)
    cuda.set_rng_state = cuda.random.set_rng_state = lambda state, device=None: None


def replace_reads() -> None:
    """The host reads what it wrote itself, else ones; each read of a CUDA tensor is a wait."""
    real_cpu = torch.Tensor.cpu

    def value(tensor, how):
        if tensor.device.type == "cuda":
            note(how)
        if tensor.constant is not None:
            return tensor.constant.item()
        return 1.0 if tensor.is_floating_point() else 1

    def ones(shape):
        return [ones(shape[1:]) for _ in range(shape[0])] if shape else 1.0

    FakeTensor.item = lambda tensor: value(tensor, "item")
    FakeTensor.__float__ = lambda tensor: float(value(tensor, "float"))
    FakeTensor.__int__ = lambda tensor: int(value(tensor, "int"))
    FakeTensor.__bool__ = lambda tensor: bool(value(tensor, "bool"))
    FakeTensor.tolist = lambda tensor: (value(tensor, "tolist"), ones(list(tensor.shape)))[1]
    FakeTensor.cpu = lambda tensor, *arguments, **named: (value(tensor, "cpu"), real_cpu(tensor))[1]
    FakeTensor.numpy = lambda tensor, **named: np.zeros(tuple(tensor.shape), dtype=numpy_dtype(tensor.dtype))
    # how many there are depends on values: one in sixteen, and the first
    FakeTensor.nonzero = lambda tensor: torch.zeros(tensor.numel() // 16 + 1, tensor.dim(), dtype=torch.int64, device=tensor.device)
    FakeTensor.__reduce_ex__ = lambda tensor, protocol: (tuple, (tuple(tensor.shape),))  # states of FP8 are pickled
    torch.equal = lambda one, other: (note("equal"), True)[1]


def numpy_dtype(dtype: torch.dtype) -> str:
    """Return numpy's name; bf16, which it lacks, as float32."""
    return "float32" if dtype == torch.bfloat16 else str(dtype).split(".")[-1]


def replace_groups() -> None:
    """Process groups of any size of which only this rank is there."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    begin, new_group = dist.init_process_group, dist.new_group
    dist.init_process_group = lambda backend=None, **named: begin("fake", store=FakeStore(), rank=PLACE[0], world_size=PLACE[1])

    def group(ranks=None, *arguments, **named):
        if named.get("backend") == "gloo":
            WAITS["a gloo group beside NCCL"] += 1
        return new_group(ranks, *arguments, **{**named, "backend": "fake"})

    @contextlib.contextmanager
    def coalescing(*arguments, **named):
        yield Done()

    def collective(*arguments, async_op=False, **named):
        return Done() if async_op else None

    dist.new_group = dist.distributed_c10d.new_group = group
    for name in ("all_gather_into_tensor", "reduce_scatter_tensor", "_all_gather_base", "_reduce_scatter_base", "all_reduce", "broadcast"):
        setattr(dist, name, collective)
    dist.barrier = lambda *arguments, **named: None
    dist.distributed_c10d._coalescing_manager = dist._coalescing_manager = coalescing
    dist.P2POp = lambda *arguments, **named: None
    dist.batch_isend_irecv = lambda operations: [Done()]
    dist.isend = dist.irecv = lambda *arguments, **named: Done()
    dist.all_gather_object = lambda out, value, group=None: out.__setitem__(slice(None), [value] * len(out))
    dist.broadcast_object_list = lambda box, *arguments, **named: None
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    from codemix_megatron.parallel import ranks

    ranks.meet = lambda placement, wait: FakeStore()
    ranks.check_addresses = lambda *arguments: None  # asks the other ranks


def patch_megatron() -> None:
    """What megatron-core has taken over by name before this."""
    import megatron.core.distributed.param_and_grad_buffer as buffers
    from megatron.core.tensor_parallel import layers, random

    random._set_cuda_rng_state = lambda *arguments, **named: None
    random._get_cuda_rng_state = lambda *arguments, **named: torch.zeros(16, dtype=torch.uint8)
    buffers._coalescing_manager = dist._coalescing_manager
    buffers.dist_all_gather_func = layers.dist_all_gather_func = dist.all_gather_into_tensor
    buffers.dist_reduce_scatter_func = layers.dist_reduce_scatter_func = dist.reduce_scatter_tensor


@torch.no_grad()
def apply(self, function, recurse=True):
    """nn.Module._apply, which cannot swap fake tensors; a parameter's own attributes go along, as they do with `.data`."""
    for child in self.children():
        child._apply(function)
    for name, weight in self._parameters.items():
        if weight is not None:
            new = function(weight)
            if new is not weight and (new.device != weight.device or new.dtype != weight.dtype):
                fresh = torch.nn.Parameter(new, weight.requires_grad)
                vars(fresh).update({key: value for key, value in vars(weight).items() if key not in vars(fresh)})
                self._parameters[name] = fresh
    self._buffers.update({name: function(buffer) for name, buffer in self._buffers.items() if buffer is not None})
    return self


def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """What torch takes on Hopper: FlashAttention without a mask, the plain product with one and grouped queries."""
    if attn_mask is None:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
    WAITS["a mask of every token against every other"] += 1
    key, value = (of.repeat_interleave(query.size(1) // of.size(1), 1) for of in (key, value))
    scores = (query @ key.transpose(-1, -2)).masked_fill(~attn_mask, float("-inf"))
    return scores.softmax(-1) @ value


class Memory(TorchDispatchMode):
    """Bytes of live CUDA storages, their peak, and what held them then."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.known: dict[int, tuple[int, str]] = {}
        self.by: collections.Counter = collections.Counter()
        self.at_peak: dict[str, int] = {}
        self.label = "build"

    def __torch_dispatch__(self, func, kinds, arguments=(), named=None):
        made = func(*arguments, **(named or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cuda":
                self.count(tensor.untyped_storage(), f"{self.label}:{func}")
        return made

    def count(self, storage, what: str) -> None:
        """Count a storage as long as it lives, in the allocator's steps of 512 bytes."""
        if storage._cdata in self.known:
            return
        size = -(-storage.nbytes() // 512) * 512
        self.known[storage._cdata] = size, what
        self.live += size
        self.by[what] += size
        weakref.finalize(storage, self.free, storage._cdata)
        if self.live > self.peak:
            self.peak, self.at_peak = self.live, dict(self.by)

    def free(self, key: int) -> None:
        """Count one less."""
        size, what = self.known.pop(key, (0, ""))
        self.live -= size
        self.by[what] -= size
