"""Keep Hugging Face libraries off the network: what an evaluation needs lies on this disk."""

import os
import sys

__all__ = ["allow_network", "go_offline"]

SWITCHES = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


ALLOWED = "CODEMIX_ALLOW_HUB"  # in the environment, so that ranks started from here see it too


def allow_network() -> None:
    """Leave the network on for the rest of this process: the user asked for it."""
    os.environ[ALLOWED] = "1"


def go_offline() -> None:
    """Turn the network off for huggingface_hub, transformers and datasets, for the rest of this process, unless it was allowed.

    Call it before they are imported. Those that are imported already read their switch once, so theirs is turned too.
    """
    if os.environ.get(ALLOWED):
        return
    os.environ.update(SWITCHES)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a warning at every fork
    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            setattr(sys.modules[name], "HF_HUB_OFFLINE", True)  # noqa: B010 - a module's attribute
