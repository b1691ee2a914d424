"""Training a byte-level BPE for text and code."""

from collections.abc import Iterable, Sequence

from codemix_megatron.corpus.document_tokenizer import END_OF_TEXT
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import replace_text

__all__ = ["train_tokenizer"]

# Letters with one leading sign, single digits, runs of signs, line ends with the blank lines before them, indentation.
PRE_TOKENS = (
    r"'(?:[sdmt]|ll|ve|re)(?!\p{L})|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, path, *, special_tokens: Sequence[str] = (), show_progress: bool = False
) -> None:
    """Train a byte-level BPE and write it to `path` as tokenizer.json.

    Any text comes back byte for byte; digits are single; runs of spaces and line ends are tokens of their
    own, as code needs. Id 0 is <|endoftext|>, the ids after it are `special_tokens`. The same texts give the same file. The
    vocabulary has `vocab_size` ids unless the texts hold too few pairs that occur twice; raises CorpusError below 257.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    special_tokens = list(dict.fromkeys([END_OF_TEXT, *special_tokens]))
    if vocab_size < 256 + len(special_tokens):
        raise CorpusError(
            f"tokenizer.train_vocab_size: found {vocab_size}, must be at least {256 + len(special_tokens)}"
            f" (256 bytes and {', '.join(special_tokens)})"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PRE_TOKENS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special_tokens,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=show_progress,
    )
    tokenizer.train_from_iterator(texts, trainer)
    replace_text(path, tokenizer.to_str(pretty=True) + "\n")
