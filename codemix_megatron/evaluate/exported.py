"""ExportedModel: a Hugging Face causal language model read from its folder, ready to score."""

from dataclasses import dataclass
from pathlib import Path

import torch

from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.offline import go_offline
from codemix_megatron.evaluate.quiet import quiet

__all__ = ["ExportedModel", "load_exported"]

LOGITS_BYTES = 2**28  # most memory for the float32 logits of one forward pass


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model in eval mode on its device, with the tokenizer that lies beside it."""

    folder: Path
    model: object  # transformers.PreTrainedModel
    tokenizer: object  # transformers.PreTrainedTokenizerBase
    device: str

    @property
    def max_length(self) -> int:
        """Tokens the model sees at once."""
        return self.model.config.max_position_embeddings

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, padding included."""
        return self.model.config.vocab_size

    def rows_that_fit(self, length: int) -> int:
        """Return how many sequences of `length` tokens to score at once, at least 1."""
        return max(1, LOGITS_BYTES // (4 * self.vocab_size * length))

    def decode(self, ids) -> str:
        """Return the text of token ids exactly, special tokens included; without any prettifying."""
        ids = [int(i) for i in ids]
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def load_exported(folder, device: str = "auto") -> ExportedModel:
    """Read model and tokenizer from a local folder.

    On a CPU weights become float32; on CUDA they keep the dtype they were saved in. `device` is auto, cpu or cuda.
    Raises EvaluationError when the folder holds no causal language model.
    """
    go_offline()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise EvaluationError(f"{folder}: no Hugging Face model (no config.json in it); run `codemix export` first")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else "auto"
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as fault:
        reason = " ".join(str(fault).split())[:300]
        raise EvaluationError(f"{folder}: not a readable Hugging Face model ({reason}); run `codemix export` again") from None
    return ExportedModel(folder=folder, model=model.to(device).eval(), tokenizer=tokenizer, device=device)
