"""ExportedModel: a Hugging Face causal language model read from its folder, ready to score."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codemix_megatron.errors import EvaluationError
from codemix_megatron.inference.generation import CachedDecoder
from codemix_megatron.inference.offline import go_offline
from codemix_megatron.inference.queries import Likelihood, Query
from codemix_megatron.inference.quiet import quiet
from codemix_megatron.inference.rows import Rows, lay_out, read_logits

__all__ = ["ExportedModel", "load_exported"]

LOGITS_BYTES = 2**28  # most memory for the float32 logits of one forward pass
MOST_POSITIONS = {"cpu": 2**13, "cuda": 2**16}  # of one forward pass; more brings no speed


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model in eval mode on its device, with the tokenizer that lies beside it."""

    folder: Path
    model: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    device: str
    share: int = 0
    shares: int = 1

    @property
    def max_length(self) -> int:
        """Tokens the model sees at once; not more than a sliding window, which the mask of branches does not know."""
        config = self.model.config
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        return min(config.max_position_embeddings, window or config.max_position_embeddings)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, padding included."""
        return self.model.config.vocab_size

    @property
    def prefix_id(self) -> int:
        """The token to begin with where nothing stands before."""
        first = self.tokenizer.bos_token_id
        return self.end_id if first is None else first

    @property
    def end_id(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.eos_token_id

    def cost(self, query: Query) -> tuple[int, int]:
        """Return the positions and the rows of logits a query takes."""
        branches = sum(len(c) - 1 for c in query.continuations)
        return len(query.context) + branches, branches + 1

    def room_for(self, positions: int, logits: int) -> int:
        """Return how many queries to score at once, at least 1."""
        by_logits = LOGITS_BYTES // (4 * self.vocab_size * logits)
        return max(1, min(by_logits, MOST_POSITIONS.get(self.device, 2**13) // positions))

    def gather(self, values) -> list:
        """Return what every copy of the model holds; every copy calls this."""
        if self.shares == 1:
            return [values]
        every: list[Any] = [None] * self.shares
        torch.distributed.all_gather_object(every, values)
        return every

    @torch.inference_mode()
    def score(self, queries: list[Query]) -> list[list[Likelihood]]:
        """Score continuations, reading each context once: its continuations are branches that do not see each other."""
        rows: Rows = lay_out(queries, self.model.dtype)
        options: dict[str, Any] = {} if rows.mask is None else {"attention_mask": rows.mask.to(self.device)}
        if rows.logits_kept < rows.inputs.shape[1]:
            options["logits_to_keep"] = rows.logits_kept
        output = self.model(input_ids=rows.inputs.to(self.device), position_ids=rows.positions.to(self.device), use_cache=False, **options)
        return read_logits(output.logits, rows)

    def decoder(self, prompts: list[list[int]]) -> CachedDecoder:
        """Return what continues prompts token by token."""
        return CachedDecoder(self.model, prompts, self.device)

    def encode(self, text: str, is_whole: bool = True) -> list[int]:
        """Return the token ids of a text; of a whole one with the first token that some tokenizers put there, unless it spells it out.

        So does lm-eval: a chat template that writes the first token itself is not to get two.
        """
        first = self.tokenizer.bos_token
        is_begun = bool(first) and text.startswith(first)
        return self.tokenizer.encode(text, **({} if is_whole and not is_begun else {"add_special_tokens": False}))

    def decode_without_end(self, ids) -> str:
        """Return the text of generated ids as a reader wants it: without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def decode(self, ids) -> str:
        """Return the text of token ids exactly, special tokens included; without any prettifying."""
        ids = [int(i) for i in ids]
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def load_exported(folder, device: str = "auto", share: int = 0, shares: int = 1) -> ExportedModel:
    """Read model and tokenizer from a local folder.

    On a CPU weights become float32; on CUDA they keep the dtype they were saved in. `device` is auto, cpu or cuda.
    This process scores the `share`-th of `shares` parts of the work; the others are in torch's default process group.
    Raises EvaluationError when the folder holds no causal language model.
    """
    go_offline()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise EvaluationError(f"{folder}: no Hugging Face model (no config.json in it); run `codemix export` first")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and shares > 1:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dtype = torch.float32 if device == "cpu" else "auto"
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as fault:
        reason = " ".join(str(fault).split())[:300]
        raise EvaluationError(f"{folder}: not a readable Hugging Face model ({reason}); run `codemix export` again") from None
    return ExportedModel(folder=folder, model=model, tokenizer=tokenizer, device=device, share=share, shares=shares)
