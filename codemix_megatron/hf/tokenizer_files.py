"""The tokenizer beside an exported model, as Hugging Face's own fast class loads it."""

import shutil
from pathlib import Path

from codemix_megatron.errors import ConversionError
from codemix_megatron.records.manifest import TokenizerCard

__all__ = ["write_tokenizer"]


def write_tokenizer(card: TokenizerCard, folder: Path, sequence_length: int) -> None:
    """Write tokenizer.json and its configuration into `folder`; raises ConversionError when the file is gone."""
    from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

    path = Path(card.path)
    if not path.is_file():
        raise ConversionError(f"{path}: the tokenizer of this checkpoint is gone; put it back")
    if card.type == "sentencepiece":
        shutil.copyfile(path, folder / "tokenizer.model")
        tokenizer = LlamaTokenizer.from_pretrained(folder, model_max_length=sequence_length)
    else:
        from tokenizers import Tokenizer

        end = Tokenizer.from_file(str(path)).id_to_token(card.end_of_document_id)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(path),
            eos_token=end,
            bos_token=end,
            pad_token=end,
            model_max_length=sequence_length,
            clean_up_tokenization_spaces=False,
        )
    tokenizer.save_pretrained(folder)
    loaded = AutoTokenizer.from_pretrained(folder)
    if len(loaded) != card.vocab_size:
        raise ConversionError(f"{path}: {len(loaded)} ids after loading with transformers, {card.vocab_size} before")
