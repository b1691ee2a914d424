"""A Hugging Face sequence classifier in a folder, such as FineWeb-Edu's or Stack-Edu's: a number for each text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from codemix_megatron.errors import EvaluationError
from codemix_megatron.inference.offline import go_offline
from codemix_megatron.inference.quiet import quiet

__all__ = ["SequenceClassifier"]

MOST_POSITIONS = 1 << 13  # of one forward pass
USUAL_LENGTH = 512


class SequenceClassifier:
    """One output is a score as it is (regression), two give the probability of the second, more the expected number of the label."""

    def __init__(self, folder, device: str = "auto"):
        go_offline()
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if not (Path(folder) / "config.json").is_file():
            raise EvaluationError(f"{folder}: no Hugging Face model (no config.json in it)")
        self.device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        try:
            with quiet():
                self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                self.model, loaded = AutoModelForSequenceClassification.from_pretrained(
                    folder, local_files_only=True, output_loading_info=True
                )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as fault:
            raise EvaluationError(f"{folder}: not a readable sequence classifier ({' '.join(str(fault).split())[:300]})") from None
        if loaded["missing_keys"]:  # its head would be random numbers
            raise EvaluationError(f"{folder}: is no trained sequence classifier: it lacks {', '.join(sorted(loaded['missing_keys'])[:3])}")
        self.model.to(self.device).eval()
        positions = getattr(self.model.config, "max_position_embeddings", USUAL_LENGTH)
        self.max_length = min(positions, self.tokenizer.model_max_length, 1 << 15)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.model.config.pad_token_id = self.tokenizer.pad_token_id

    @torch.inference_mode()
    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Return a number for each text, of as much of its beginning as the model sees; float64."""
        ids = [self.tokenizer.encode(text, truncation=True, max_length=self.max_length) for text in texts]
        order, found = sorted(range(len(ids)), key=lambda i: -len(ids[i])), np.zeros(len(ids))
        while order:
            batch = order[: max(1, MOST_POSITIONS // max(1, len(ids[order[0]])))]
            padded = self.tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(self.device)
            found[batch] = expected(self.model(**padded).logits.double().cpu())
            order = order[len(batch) :]
        return found


def expected(logits: torch.Tensor) -> np.ndarray:
    """Return one number for each row of outputs."""
    if logits.shape[1] == 1:
        return logits[:, 0].numpy()
    return (torch.softmax(logits, dim=1) @ torch.arange(logits.shape[1], dtype=logits.dtype)).numpy()
