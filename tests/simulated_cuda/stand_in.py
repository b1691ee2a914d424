"""Transformer Engine's own Python over kernels in plain torch: its C++ extension needs CUDA's compiler, this needs nothing.

TE_SOURCE is a folder with the wheel of transformer_engine 2.11 unpacked. The kernels compute what their names say on whatever device
their tensors are: values on CPU, shapes on fake CUDA tensors. What is not here raises NotImplementedError by its name.
"""

import collections
import importlib
import importlib.machinery
import os
import re
import sys
import types
from pathlib import Path

import stand_in_attention
import stand_in_fp8
import stand_in_softmax
import torch
from stand_in_fp8 import plain, quantize

CALLS: collections.Counter = collections.Counter()


class AnyEnum:
    """An enumeration whose members are made when they are asked for; each is the same object every time."""

    def __init__(self, name):
        known = stand_in_fp8.NUMBERED.get(name, ())
        self._name, self._members = name, {key: Member(name, key, number) for number, key in enumerate(known)}

    def __getattr__(self, key):
        if key.startswith("__"):
            raise AttributeError(key)
        return self._members.setdefault(key, Member(self._name, key, len(self._members)))

    def __call__(self, *arguments, **named):
        return Member(self._name, "made", 0)


class Member:
    """One member."""

    def __init__(self, of, key, number):
        self.of, self.key, self.number = of, key, number

    def __repr__(self):
        return f"{self.of}.{self.key}"

    def __hash__(self):
        return hash((self.of, self.key))

    def __eq__(self, other):
        return isinstance(other, Member) and (self.of, self.key) == (other.of, other.key)

    def __int__(self):
        return self.number

    __index__ = __int__

    def __getattr__(self, key):
        if key.startswith("__"):
            raise AttributeError(key)
        return lambda *arguments, **named: None


DTYPES = {"kFloat32": torch.float32, "kBFloat16": torch.bfloat16, "kFloat16": torch.float16}


def torch_dtype(of, usual):
    """Return torch's dtype for one of the extension's."""
    return DTYPES.get(getattr(of, "key", None), of if isinstance(of, torch.dtype) else usual)


def generic_gemm(
    a, trans_a, b, trans_b, out, quantizer, dtype, bias, bias_dtype, gelu, gelu_in, grad, workspace, size, accumulate, split, **more
):
    """op(b) @ op(a): the library counts columns first."""
    a, b = plain(a), plain(b)
    dtype = out.dtype if out is not None else torch_dtype(dtype, b.dtype)
    left = b.reshape(-1, b.shape[-1])
    left = left.t() if trans_b else left
    right = a.reshape(-1, a.shape[-1])
    right = right.t() if trans_a else right
    product = (left.float() @ right.float()).to(dtype) if dtype != left.dtype else left @ right
    bias_gradient = None
    if bias is not None and grad:
        bias_gradient = b.reshape(-1, b.shape[-1]).sum(0).to(bias.dtype)
    elif bias is not None:
        product = product + bias
    if out is not None:
        view = out.view(product.shape)
        view.add_(product) if accumulate else view.copy_(product)
        return out, bias_gradient, None, None
    product = product.reshape(product.shape if trans_b else (*b.shape[:-1], product.shape[-1]))
    return product if quantizer is None else quantize(product, quantizer), bias_gradient, None, None


def rmsnorm_fwd(x, weight, epsilon, out, quantizer, dtype, margin, zero_centered):
    """x / sqrt(mean(x^2) + epsilon) * weight, and the inverse root."""
    scale = torch.rsqrt(x.float().pow(2).mean(-1) + epsilon)
    normed = (x.float() * scale[..., None] * (weight.float() + float(zero_centered))).to(torch_dtype(dtype, x.dtype))
    return normed if quantizer is None else quantize(normed, quantizer), None, scale.flatten()


def rmsnorm_bwd(gradient, x, scale, weight, margin, zero_centered):
    """Gradients of x and weight."""
    rows, weight_ = x.reshape(-1, x.shape[-1]).float(), weight.float() + float(zero_centered)
    gradient_ = gradient.reshape(-1, x.shape[-1]).float()
    normed = rows * scale[:, None]
    inner = gradient_ * weight_
    for_x = (inner - normed * (inner * normed).mean(-1, keepdim=True)) * scale[:, None]
    return for_x.to(x.dtype).view(x.shape), (gradient_ * normed).sum(0).to(weight.dtype)


def rope(sign):
    """Rotation of [sequence, batch, heads, size], forward or backward."""

    def rotated(t, freqs, starts, layout, interleaved, borders, ranks, rank):
        assert layout.key == "NVTE_SBHD" and ranks == 1, f"only sbhd on one context parallel rank is here, not {layout} on {ranks}"
        cos, sin = freqs[: t.shape[0]].cos().to(t.dtype), sign * freqs[: t.shape[0]].sin().to(t.dtype)
        if interleaved:
            turned = torch.stack([-t[..., 1::2], t[..., ::2]], dim=-1).flatten(-2)
        else:
            turned = torch.cat([-t[..., t.shape[-1] // 2 :], t[..., : t.shape[-1] // 2]], dim=-1)
        return t * cos + turned * sin

    return rotated


def adam(chunk, noop, lists, rate, beta1, beta2, epsilon, step, mode, corrected, decay):
    """AdamW over lists of gradients, weights and moments, as apex's FusedAdam."""
    for gradient, weight, first, second in zip(*lists, strict=True):
        gradient = gradient.float()
        first.mul_(beta1).add_(gradient, alpha=1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        mean, square = first / (1 - beta1**step), second / (1 - beta2**step)
        weight.sub_((rate * (mean / (square.sqrt() + epsilon) + decay * weight.float())).to(weight.dtype))


def l2norm(chunk, noop, lists, per_tensor=False):
    """The norm of all tensors together."""
    total = torch.stack([t.float().pow(2).sum() for t in lists[0]]).sum().sqrt()
    return total.reshape(1), torch.zeros(0)


def scale(chunk, noop, lists, factor):
    """The second list from the first."""
    for source, target in zip(*lists, strict=True):
        torch.mul(source, factor, out=target)


def pad_documents(t, borders, batch, length):
    """[tokens, heads, size] -> [documents, length, heads, size], zeros behind each."""
    padded = t.new_zeros(len(borders) - 1, length, *t.shape[1:])
    for i, (first, last) in enumerate(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)):
        padded[i, : last - first] = t[first:last]
    return padded


def unpad_documents(t, borders, tokens):
    """The way back."""
    return torch.cat(
        [t[i, : last - first] for i, (first, last) in enumerate(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))]
    )


FUSED = AnyEnum("NVTE_Fused_Attn_Backend")
KERNELS = {
    "get_cublasLt_version": lambda: 130000,
    "get_cudnn_version": lambda: 91300,
    "get_num_cublas_streams": lambda: 4,
    "device_supports_multicast": lambda *arguments: False,
    "generic_gemm": generic_gemm,
    "rmsnorm_fwd": rmsnorm_fwd,
    "rmsnorm_bwd": rmsnorm_bwd,
    "fused_rope_forward": rope(1),
    "fused_rope_backward": rope(-1),
    "multi_tensor_adam": adam,
    "multi_tensor_l2norm": l2norm,
    "multi_tensor_scale": scale,
    "convert_thd_to_bshd": pad_documents,
    "convert_bshd_to_thd": unpad_documents,
    **stand_in_attention.kernels(FUSED),
    **stand_in_fp8.KERNELS,
    **stand_in_softmax.KERNELS,
}


class Extension(types.ModuleType):
    """transformer_engine_torch: the kernels above by name, and enumerations of any name."""

    def __getattr__(self, key):
        if key.startswith("__"):
            raise AttributeError(key)
        found = FUSED if key == "NVTE_Fused_Attn_Backend" else AnyEnum(key) if key[0].isupper() else kernel(key)
        setattr(self, key, found)
        return found


def kernel(name):
    """Return a kernel that counts its calls."""

    def called(*arguments, **named):
        CALLS[name] += 1
        if name not in KERNELS:
            raise NotImplementedError(f"transformer_engine_torch.{name} has no stand-in")
        return KERNELS[name](*arguments, **named)

    return called


def install() -> None:
    """Make `import transformer_engine.pytorch` find the unpacked wheel over this extension."""
    source = os.environ["TE_SOURCE"]
    os.environ["NVTE_PROJECT_BUILDING"] = "1"  # it then loads no library at import
    sys.path.insert(0, source)
    extension = sys.modules["transformer_engine_torch"] = Extension("transformer_engine_torch")
    for name in KERNELS:
        getattr(extension, name)
    for path in Path(source, "transformer_engine", "pytorch").rglob("*.py"):
        for name in re.findall(r"\b(?:tex|ext)\.([A-Za-z_0-9]+)", path.read_text()):
            getattr(extension, name)  # `from transformer_engine_torch import *` takes what is there
    package = types.ModuleType("transformer_engine")
    package.__path__, package.__version__ = [f"{source}/transformer_engine"], "2.11.0"
    package.__file__ = f"{source}/transformer_engine/__init__.py"
    package.__spec__ = importlib.machinery.ModuleSpec("transformer_engine", None, origin=package.__file__, is_package=True)
    sys.modules["transformer_engine"] = package
    package.common = importlib.import_module("transformer_engine.common")
    package.common.load_framework_extension = lambda framework: None
    package.pytorch = importlib.import_module("transformer_engine.pytorch")
    from transformer_engine.pytorch import distributed
    from transformer_engine.pytorch.attention.dot_product_attention import utils

    distributed._get_cuda_rng_state = lambda device="cuda", clone=False, graph_safe=True: torch.cuda.get_rng_state()
    distributed._set_cuda_rng_state = lambda state, device=-1, graph_safe=True: torch.cuda.set_rng_state(state)

    choose = utils.get_attention_backend

    def for_plain_tensors(parameters):
        """Let fake tensors count as the tensors they stand for, and fp32, which kernels here take too, as 16 bits."""
        parameters.qkv_type = torch.Tensor
        if os.environ.get("STAND_IN_ATTENTION") == "fused":
            parameters.qkv_dtype = torch.bfloat16
        return choose(parameters)

    utils.get_attention_backend = for_plain_tensors
    from codemix_megatron.parallel import device

    there = device.is_there
    device.is_there = lambda module: module in ("transformer_engine", "transformer_engine_torch") or there(module)
