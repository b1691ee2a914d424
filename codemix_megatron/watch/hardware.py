"""Words by which drivers, kernels and libraries say that a machine, and not what runs on it, is at fault. No torch."""

import re

__all__ = ["hardware_words"]

# CUDA: cudaGetErrorString's texts of errors 46, 79, 214, 220, 226, 709, 713, 715, 719, 800-802 and 999 that no program brings about by itself.
# https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html; Xids: https://docs.nvidia.com/deploy/xid-errors
WORDS = re.compile(
    r"uncorrectable (?:NVLink|ECC) error"
    r"|ECC error"
    r"|\bXid\b"
    r"|hardware stack error"
    r"|CUDA error: unknown error"
    r"|CUDA-capable device\(?s\)? is/are busy or unavailable"
    r"|system not yet initialized"
    r"|fallen off the bus|GPU is lost|GPU requires reset|Unable to determine the device handle"
    r"|device .{0,20}\b(?:is|was) lost"
    r"|IBV_EVENT_|local catastrophic error|Call to ibv_\w+ failed"
    r"|Input/output error|Read-only file system|Stale file handle|Structure needs cleaning"
    r"|Machine check|Hardware Error|Bus error",
    re.IGNORECASE,
)


def hardware_words(text: str) -> str | None:
    """Return the first words of a text that speak of a fault of the machine, or None.

    >>> hardware_words("RuntimeError: CUDA error: uncorrectable ECC error encountered")
    'uncorrectable ECC error'
    >>> hardware_words("RuntimeError: CUDA error: out of memory") is None
    True
    """
    found = WORDS.search(text)
    return found[0] if found else None
