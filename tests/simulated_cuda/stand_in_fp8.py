"""Transformer Engine's FP8 casts in plain torch: scales by the largest value now (tensorwise) or by that of earlier steps (delayed).

Values are rounded to FP8 and multiplied in fp32 afterwards, as tensor cores do; sums are not those of the device bit for bit.
"""

import torch

__all__ = ["KERNELS", "NUMBERED", "plain", "quantize"]

FP8 = {"kFloat8E4M3": (torch.float8_e4m3fn, 448.0), "kFloat8E5M2": (torch.float8_e5m2, 57344.0)}
# Enumerations whose members are indices; the extension's header has them in this order.
NUMBERED = {
    "FP8FwdTensors": [f"GEMM{n}_{of}" for n in (1, 2, 3) for of in ("INPUT", "WEIGHT", "OUTPUT")],
    "FP8BwdTensors": [f"{of}{n}" for n in (1, 2, 3) for of in ("GRAD_OUTPUT", "GRAD_INPUT")],
}


def turned(data):
    """[..., columns] -> [columns, ...], the matrix of its rows turned over."""
    return data.reshape(-1, data.shape[-1]).t().contiguous().reshape(data.shape[-1], *data.shape[:-1])


def turned_back(data):
    """[columns, ...] -> [..., columns]."""
    return data.reshape(data.shape[0], -1).t().contiguous().reshape(*data.shape[1:], data.shape[0])


def transpose(data, dtype, out=None):
    """The cached transpose that products on Hopper want."""
    found = turned(data)
    return found if out is None else out.copy_(found)


def scale_of(tensor, quantizer, largest):
    """The factor before the cast: of this tensor's own largest value, or the one that the recipe's state holds."""
    now = tensor.detach().abs().amax().float().reshape(1)
    if not hasattr(quantizer, "use_existing_amax"):  # delayed: remembered for the steps to come
        quantizer.amax.copy_(torch.maximum(quantizer.amax.reshape(1), now).reshape(quantizer.amax.shape))
        return quantizer.scale.reshape(1).float()
    if not quantizer.use_existing_amax:
        quantizer.amax.copy_(now)
    found = largest / quantizer.amax.clamp(min=quantizer.amax_epsilon)
    found = torch.where(torch.isfinite(found), found, torch.ones_like(found))
    quantizer.scale.copy_(torch.exp2(torch.floor(torch.log2(found))) if quantizer.force_pow_2_scales else found)
    return quantizer.scale


def quantize(tensor, quantizer, out=None, noop=None):
    """Cast to FP8; with the transpose where columns are wanted."""
    from transformer_engine.pytorch.tensor.float8_tensor import Float8Tensor
    from transformer_engine.pytorch.tensor.storage.float8_tensor_storage import Float8TensorStorage

    kind, largest = FP8[quantizer.dtype.key]
    factor = scale_of(tensor, quantizer, largest)
    data = (tensor.detach().float() * factor).clamp(-largest, largest).to(kind).view(torch.uint8)
    parts = {
        "data": data if quantizer.rowwise_usage else None,
        "data_transpose": turned(data) if quantizer.columnwise_usage else None,
        "fp8_scale_inv": factor.reciprocal(),
        "fp8_dtype": quantizer.dtype,
    }
    if out is not None:
        return overwritten(out, parts)
    if quantizer.internal:
        return Float8TensorStorage(**parts, quantizer=quantizer)
    return Float8Tensor(shape=list(tensor.shape), dtype=tensor.dtype, **parts, quantizer=quantizer)


def overwritten(out, parts: dict):
    """Put a cast into a tensor that was there before."""
    out._data, out._transpose, out._fp8_dtype = parts["data"], parts["data_transpose"], parts["fp8_dtype"]
    out._scale_inv.copy_(parts["fp8_scale_inv"])
    out._transpose_invalid = out._transpose is None
    return out


def plain(tensor, dtype=torch.float32):
    """The values of a tensor that may be in FP8, from its rows or from their transpose."""
    if not hasattr(tensor, "_fp8_dtype"):
        return tensor
    kind, _ = FP8[tensor._fp8_dtype.key]
    data = tensor._data if tensor._data is not None else turned_back(tensor._transpose)
    return (data.view(kind).float() * tensor._scale_inv).to(dtype)


def dequantize(tensor, dtype):
    """The same, as the extension is called."""
    from stand_in import torch_dtype

    return plain(tensor, torch_dtype(dtype, torch.float32))


def bgrad_quantize(gradient, quantizer):
    """The gradient of a bias, and the cast."""
    return gradient.reshape(-1, gradient.shape[-1]).sum(0), quantize(gradient, quantizer)


def update_scales(buffer, histories, scales, algorithm, dtype, margin):
    """Take each tensor's largest value into its history and its next scale from that, as delayed scaling does after a step."""
    _, largest = FP8[dtype.key]
    first = 0
    for history, factor in zip(histories, scales, strict=True):
        newest = buffer[first : first + factor.numel()]
        first += factor.numel()
        rolled = torch.cat([history[1:], newest[None]])
        amax = newest if algorithm == "most_recent" else rolled.amax(0)
        history.copy_(torch.cat([torch.zeros_like(rolled[:1]), rolled[1:]]))
        found = largest / 2**margin / amax
        factor.copy_(torch.where((amax > 0) & torch.isfinite(amax), found, factor))


KERNELS = {
    "quantize": quantize,
    "dequantize": dequantize,
    "fp8_transpose": transpose,
    "bgrad_quantize": bgrad_quantize,
    "fused_amax_and_scale_update_after_reduction": update_scales,
}
