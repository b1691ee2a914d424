"""Warnings of megatron-core and torch that nobody here can act on."""

import logging
import warnings

__all__ = ["hide_upstream_warnings"]

# Logged at every start by megatron-core 0.19: beginnings of messages, by logger. All else that is logged there is kept.
LOGGED = {
    "megatron.core.models.gpt.gpt_model": "GPTModel IS DEPRECATED",
    "megatron.core.distributed.distributed_data_parallel": "DistributedDataParallel: full_param_layout not provided",
}


def hide_upstream_warnings() -> None:
    """Hide what is said about engines that are not installed and functions that were renamed; `codemix doctor` says what is active."""
    for module in ("megatron", "torch.distributed", "torch.nn.parallel", "torch.autograd"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?")
    for name in LOGGED:
        logging.getLogger(name).addFilter(is_worth_reading)


def is_worth_reading(record: logging.LogRecord) -> bool:
    """Say whether a record is none of those that are hidden."""
    return not record.getMessage().startswith(LOGGED[record.name])
