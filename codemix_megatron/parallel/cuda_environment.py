"""What CUDA and NCCL read from the environment when they start, where nobody has set it."""

import os
from collections.abc import MutableMapping

from codemix_megatron.recipe.schema import Parallel

__all__ = ["cuda_settings", "set_cuda_environment"]

FLIGHT_RECORDER_ENTRIES = 2000


def cuda_settings(parallel: Parallel, logs: str | None) -> dict[str, str]:
    """Return what a run on CUDA wants in the environment.

    One hardware queue keeps a collective of tensor or context parallel ranks in front of the products that are launched after it,
    which Megatron counts on before Blackwell (NVIDIA/Megatron-LM, `CUDA_DEVICE_MAX_CONNECTIONS`). NCCL's faults end the process
    instead of leaving it in a wait, and the last collectives of every rank are kept and, after a timeout, written to the run's logs.
    """
    settings = {
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "TORCH_FR_BUFFER_SIZE": str(FLIGHT_RECORDER_ENTRIES),
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
    }
    if logs:
        settings["TORCH_FR_DUMP_TEMP_FILE"] = settings["TORCH_NCCL_DEBUG_INFO_TEMP_FILE"] = f"{logs}/nccl-rank-"
    if parallel.tensor > 1 or parallel.context > 1:
        settings["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"
    return settings


def set_cuda_environment(parallel: Parallel, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set it, before CUDA and NCCL are asked anything; what is set already stays."""
    run = environment.get("CODEMIX_RUN")
    for name, value in cuda_settings(parallel, f"{run}/logs" if run else None).items():
        environment.setdefault(name, value)
