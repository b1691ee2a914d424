"""Which fused kernels are trusted from which version on, and who says so. A kernel that is only present is not yet one to train with."""

import importlib.metadata
import re
import sys
from dataclasses import dataclass

__all__ = ["FUSIONS", "Fusion", "cross_entropy_kernel", "fusion_lines", "transformer_engine_version", "version_fault"]


@dataclass(frozen=True)
class Fusion:
    """A part of the step, from which version of Transformer Engine on its kernel is taken, what computes it before, and the sources."""

    part: str
    since: tuple[int, ...]
    otherwise: str
    sources: str


LEAST = Fusion(
    "Transformer Engine at all",
    (2, 11),
    "the run refuses to start",
    "2.11 goes with megatron-core 0.16.1 and has the fix of TransformerEngine#2402",
)
CROSS_ENTROPY = Fusion(
    "cross entropy",
    (2, 18),
    "megatron-core's own fusion (in bf16)",
    "switched off for unstable training by Megatron-LM#5115, #5144; gradients rounded on the way, fixed by TransformerEngine#3193;"
    " Megatron-LM#7339 takes it up again",
)
FUSIONS = (LEAST, CROSS_ENTROPY)


def transformer_engine_version() -> tuple[int, ...] | None:
    """Return the version of the installed Transformer Engine, None where there is none or it does not say."""
    try:
        text = importlib.metadata.version("transformer_engine")
    except importlib.metadata.PackageNotFoundError:
        text = getattr(sys.modules.get("transformer_engine"), "__version__", "")
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else None


def is_trusted(fusion: Fusion) -> bool:
    """Say whether the installed Transformer Engine is new enough; one that does not say is not."""
    version = transformer_engine_version()
    return version is not None and version >= fusion.since


def version_fault() -> str | None:
    """Say what is wrong with the version of Transformer Engine."""
    version = transformer_engine_version()
    if version is None or version >= LEAST.since:
        return None
    return f"transformer_engine {dotted(version)} is too old; install {dotted(LEAST.since)} or newer, or remove it ({LEAST.sources})"


def cross_entropy_kernel(on_cuda: bool, has_transformer_engine: bool, precision: str) -> str | None:
    """Return `te` or `native` for the fused cross entropy to take, None for the one in parts.

    megatron-core's own fusion rounds gradients to bf16 whatever the logits are, and is compiled; it is not for fp32 or CPU.
    """
    if not on_cuda:
        return None
    if has_transformer_engine and is_trusted(CROSS_ENTROPY):
        return "te"
    return "native" if precision == "bf16" else None


def fusion_lines() -> list[str]:
    """Return a line for each entry of the table."""
    version = transformer_engine_version()
    there = f"{dotted(version)} is here" if version else "none is here"
    return [f"{f.part}: Transformer Engine from {dotted(f.since)} on ({there}), else {f.otherwise}; {f.sources}" for f in FUSIONS]


def dotted(version: tuple[int, ...]) -> str:
    """Return a version as text."""
    return ".".join(map(str, version))
