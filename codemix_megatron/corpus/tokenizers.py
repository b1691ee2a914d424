"""Tokenizers behind one small interface, loaded from their files: tokenizer.json, sentencepiece's .model, Llama 3's, tekken.json, GPT-2's two.

What they are is in files of their own; here is all that others need of them.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from codemix_megatron.corpus.document_tokenizer import END_OF_TEXT, DocumentTokenizer, SpecialTokens
from codemix_megatron.corpus.huggingface_tokenizer import HuggingFaceTokenizer
from codemix_megatron.corpus.ranked_tokenizers import tiktoken_ranks, tokenizer_json_of
from codemix_megatron.corpus.sentencepiece_tokenizer import SentencePieceTokenizer
from codemix_megatron.corpus.tokenizer_training import train_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.schema import Tokenizer
from codemix_megatron.records.manifest import TokenizerMetadata

__all__ = [
    "END_OF_TEXT",
    "SENTINEL_FAMILIES",
    "TOKENIZER_NAMES",
    "DocumentTokenizer",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "SpecialTokens",
    "load_gpt2_tokenizer",
    "load_tokenizer",
    "recipe_tokenizer",
    "tokenizer_json",
    "tokenizer_of",
    "train_tokenizer",
]

TOKENIZER_NAMES = ("tokenizer.json", "tokenizer.model", "tekken.json")  # in a folder, the first that is there
# Tokens before prefix, middle and suffix: StarCoder, Qwen, SantaCoder, Code Llama, Codestral.
SENTINEL_FAMILIES = (
    ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),
    ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    ("<fim-prefix>", "<fim-middle>", "<fim-suffix>"),
    ("▁<PRE>", "▁<MID>", "▁<SUF>"),
    ("[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
)


def load_tokenizer(path, end_of_document: str | None = None, special: SpecialTokens | None = None) -> DocumentTokenizer:
    """Load tokenizer.json, *.model (sentencepiece or Llama 3's) or tekken.json, or a folder that holds one; raises CorpusError when it is no tokenizer.

    `end_of_document` names the token after each document; default: the eos_token of tokenizer_config.json, else the first usual name,
    such as <|endoftext|>; of a .model its own end of sentence. `special` asks for more.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in TOKENIZER_NAMES if (path / name).is_file()), path)
    if not path.is_file():
        raise CorpusError(f"{path}: no tokenizer there; give a tokenizer.json or a sentencepiece .model, or set tokenizer.train_vocab_size")
    loaders: dict[str, Callable[[Path, SpecialTokens], DocumentTokenizer]] = {
        ".json": HuggingFaceTokenizer,
        ".model": SentencePieceTokenizer,
    }
    if path.suffix not in loaders:
        raise CorpusError(f"{path}: unknown suffix {path.suffix or 'none'!r}; give a tokenizer.json or a sentencepiece .model")
    return (HuggingFaceTokenizer if is_ranked(path) else loaders[path.suffix])(path, special or SpecialTokens(end_of_document))


def is_ranked(path: Path) -> bool:
    """Say whether a .model is of tiktoken's form; one that cannot be read is none, and its reader says so."""
    try:
        return path.suffix == ".model" and tiktoken_ranks(path.read_bytes()) is not None
    except OSError:
        return False


def tokenizer_json(path) -> bytes:
    """Return the content of a tokenizer.json, or of one with the ids of Llama 3's tokenizer.model or of tekken.json."""
    data = Path(path).read_bytes()
    return tokenizer_json_of(data, Path(path)) or data


def load_gpt2_tokenizer(vocabulary, merges) -> DocumentTokenizer:
    """Load GPT-2's byte-level BPE from its vocab.json and merges.txt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    for path in (vocabulary, merges):
        if not Path(path).is_file():
            raise CorpusError(f"{path}: no such file; give GPT-2's vocab.json and merges.txt")
    try:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
    except Exception as fault:  # the library raises bare Exceptions
        raise CorpusError(
            f"{vocabulary}, {merges}: not a vocabulary and its merges ({fault}); give GPT-2's vocab.json and merges.txt"
        ) from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return HuggingFaceTokenizer(Path(vocabulary), SpecialTokens(END_OF_TEXT), model=tokenizer.to_str().encode())


def recipe_tokenizer(wanted: Tokenizer, path=None) -> DocumentTokenizer:
    """Load the tokenizer of a recipe with the special tokens it asks for, from its path or another."""
    asked = SpecialTokens(wanted.end_of_document, wanted.beginning_of_document, wanted.tokens_in_documents)
    return load_tokenizer(path or wanted.path, special=asked)


def tokenizer_of(metadata: TokenizerMetadata) -> DocumentTokenizer:
    """Load the tokenizer a corpus was made with, with the ids that begin and end its documents.

    Raises CorpusError where another file has taken its place: its ids would be other text.
    """
    tokenizer = load_tokenizer(metadata.path, special=SpecialTokens(in_documents=tuple(metadata.tokens_in_documents)))
    if tokenizer.metadata.sha256 != metadata.sha256:
        raise CorpusError(
            f"{metadata.path}: not the file the corpus was made with (sha256 differs); put that back, or name it where a command has --tokenizer"
        )
    tokenizer.metadata = replace(
        tokenizer.metadata, end_of_document_id=metadata.end_of_document_id, beginning_of_document_id=metadata.beginning_of_document_id
    )
    return tokenizer
