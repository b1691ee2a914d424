"""Tokenizers behind one small interface: Hugging Face's tokenizer.json, sentencepiece's .model, and training one."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codemix_megatron.corpus.ranked_tokenizers import tiktoken_ranks, tokenizer_json_of
from codemix_megatron.corpus.special_tokens import configured_end, highest_model_id, mark_special, unknown_to
from codemix_megatron.corpus.unknown_text import UnknownText
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.schema import Tokenizer
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.records.manifest import TokenizerCard

__all__ = [
    "END_OF_TEXT",
    "TOKENIZER_NAMES",
    "SENTINEL_FAMILIES",
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

END_OF_TEXT = "<|endoftext|>"
# What tokenizers call the token after a document, the most telling first.
END_OF_DOCUMENT_NAMES = (
    END_OF_TEXT, "<|end_of_text|>", "<|endofdocument|>", "<|eod|>", "<|eos|>", "</s>", "<eos>", "<EOS>", "[EOS]", "<|im_end|>",
)  # fmt: skip

TOKENIZER_NAMES = ("tokenizer.json", "tokenizer.model", "tekken.json")  # in a folder, the first that is there

# Tokens before prefix, middle and suffix: StarCoder, Qwen, SantaCoder, Code Llama, Codestral.
SENTINEL_FAMILIES = (
    ("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),
    ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    ("<fim-prefix>", "<fim-middle>", "<fim-suffix>"),
    ("▁<PRE>", "▁<MID>", "▁<SUF>"),
    ("[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
)

# Letters with one leading sign, single digits, runs of signs, line ends with the blank lines before them, indentation.
PRE_TOKENS = (
    r"'(?:[sdmt]|ll|ve|re)(?!\p{L})|[^\r\n\p{L}\p{M}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class SpecialTokens:
    """What a recipe asks of the tokens around and inside documents, by name; None and nothing leave it to the tokenizer's files."""

    end_of_document: str | None = None
    beginning_of_document: str | None = None
    in_documents: tuple[str, ...] = ()


NONE_ASKED = SpecialTokens()


class DocumentTokenizer(ABC):
    """Text to ids and back. Whatever stands in a document is text: it never becomes a special token."""

    card: TokenizerCard
    model_bytes: bytes  # what a faster library of the same ids can be made from
    unknown: UnknownText  # what it has no token for

    @property
    def vocab_size(self) -> int:
        """Ids are below this."""
        return self.card.vocab_size

    @property
    def end_of_document_id(self) -> int:
        """The id written after each document."""
        return self.card.end_of_document_id

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the int32 ids of each text, without any special token; uses all cores."""

    @abstractmethod
    def decode(self, ids) -> str:
        """Return the text of ids, special tokens spelled out where the library can."""

    @abstractmethod
    def special_names(self) -> list[str]:
        """Return the names of the special tokens; in a document, they are text."""

    @abstractmethod
    def token_id(self, name: str) -> int | None:
        """Return the id of a token by its name, None where the vocabulary has none."""

    def without_ends(self, ids: np.ndarray) -> np.ndarray:
        """Return the ids of a document without those that begin and end it."""
        if len(ids) and ids[0] == self.card.beginning_of_document_id:
            ids = ids[1:]
        return ids[:-1] if len(ids) and ids[-1] == self.end_of_document_id else ids

    def beginning_id(self, name: str | None, path: Path) -> int | None:
        """Return the id of the token before each document, None where none is asked for; raises CorpusError when it is missing."""
        number = None if name is None else self.token_id(name)
        if name is not None and number is None:
            raise CorpusError(f"{path}: no token {name!r} in its vocabulary; set tokenizer.beginning_of_document to one it has")
        return number

    def check_literals(self, end: str | None, beginning: str | None) -> None:
        """Raise CorpusError when the name of the token that ends or begins documents would become its id when a document contains it."""
        of_documents = (("end", end, self.end_of_document_id), ("begin", beginning, self.card.beginning_of_document_id))
        for what, name, number in of_documents:
            if name is not None and number in self.encode_batch([f"x{name} {name}"])[0]:
                key = f"tokenizer.{'end' if what == 'end' else 'beginning'}_of_document"
                others = [other for other in self.special_names() if other != name]
                advice = (
                    f"set {key} to a special token, such as {', '.join(others[:3])}" if others else "add a special token to it for that"
                )
                raise CorpusError(
                    f"{self.card.path}: a literal {name!r} in a document would {what} it, for the tokenizer treats this token as"
                    f" ordinary text; {advice}"
                )


class HuggingFaceTokenizer(DocumentTokenizer):
    """A tokenizer.json, read by the library `tokenizers`; `model` is its content, where there is no such file.

    With `adds_special_tokens`, texts get what the file's post-processor adds to each, such as a first token.
    """

    def __init__(
        self, path: Path, special: SpecialTokens = NONE_ASKED, *, model: bytes | None = None, adds_special_tokens: bool = False
    ):  # fmt: skip
        self.adds_special_tokens = adds_special_tokens
        try:
            data = path.read_bytes() if model is None else model
            stored = data if model is not None else tokenizer_json_of(data, path) or data
            self.model_bytes, plain = mark_special(stored, special.in_documents, path)
            self.tokenizer = load_plain(self.model_bytes)
        except OSError as fault:
            raise CorpusError(f"{path}: cannot be read ({fault.strerror}); check the file and its permissions") from None
        except CorpusError:
            raise
        except Exception as fault:  # the library raises bare Exceptions
            raise CorpusError(f"{path}: not Hugging Face's tokenizer.json ({fault}); give one, or a sentencepiece .model") from None
        self.unknown = unknown_to(plain)
        name = special.end_of_document or self.end_of_settings(path) or self.usual_end_of_document()
        self.card = TokenizerCard(
            type="huggingface",
            path=str(path),
            sha256=hashlib.sha256(data).hexdigest(),
            vocab_size=1 + max([highest_model_id(plain), *self.tokenizer.get_added_tokens_decoder()]),
            end_of_document_id=found_id(self.tokenizer.token_to_id(name) if name else None, name, path),
            beginning_of_document_id=self.beginning_id(special.beginning_of_document, path),
            tokens_in_documents=list(special.in_documents),
        )
        self.check_literals(name, special.beginning_of_document)

    def __getstate__(self):
        return {**self.__dict__, "tokenizer": None}

    def __setstate__(self, state):
        self.__dict__ = {**state, "tokenizer": load_plain(state["model_bytes"])}  # its own pickling forgets encode_special_tokens

    def special_names(self) -> list[str]:
        """Return the names of the special tokens."""
        return [token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special]

    def token_id(self, name: str) -> int | None:
        """Return the id of a token by its name."""
        return self.tokenizer.token_to_id(name)

    def end_of_settings(self, path: Path) -> str | None:
        """Return the end token that the settings beside the file name, as Megatron takes it; raises CorpusError when it has no such token."""
        name = configured_end(path)
        if name is not None and self.tokenizer.token_to_id(name) is None:
            raise CorpusError(
                f"{path}: the settings beside it name {name!r} as eos_token, which its vocabulary lacks; correct eos_token there, or name"
                " another end in tokenizer.end_of_document"
            )
        return name

    def usual_end_of_document(self) -> str | None:
        """Return the first usual name that the vocabulary has."""
        return next((name for name in END_OF_DOCUMENT_NAMES if self.tokenizer.token_to_id(name) is not None), None)

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the int32 ids of each text, without any special token; uses all cores."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=self.adds_special_tokens)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def decode(self, ids) -> str:
        """Return the text of ids, special tokens spelled out."""
        return self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


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


def load_plain(model: bytes):
    """Return the library's tokenizer of a tokenizer.json, which cuts nothing, pads nothing and takes special tokens for text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(model)
    tokenizer.no_truncation()  # some files carry the settings of their last use
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


class SentencePieceTokenizer(DocumentTokenizer):
    """A .model, read by the library `sentencepiece`."""

    def __init__(self, path: Path, special: SpecialTokens = NONE_ASKED):
        from sentencepiece import SentencePieceProcessor

        try:
            data = self.model_bytes = path.read_bytes()
            self.processor = SentencePieceProcessor(model_proto=data or b"empty")  # it takes no bytes for no model yet
        except OSError as fault:
            raise CorpusError(f"{path}: cannot be read ({fault.strerror}); check the file and its permissions") from None
        except (RuntimeError, ValueError) as fault:
            raise CorpusError(f"{path}: not a sentencepiece model ({fault}); give a .model or a tokenizer.json") from None
        by_bytes = self.processor.piece_to_id("<0x00>") != self.processor.unk_id()
        self.unknown = UnknownText() if by_bytes else UnknownText(unknown_id=self.processor.unk_id())
        if special.in_documents:
            raise CorpusError(
                f"tokenizer.tokens_in_documents: {path} is a sentencepiece model, whose own symbols stand in documents as they are"
            )
        name, number = self.find_end_of_document(special.end_of_document)
        self.card = TokenizerCard(
            type="sentencepiece",
            path=str(path),
            sha256=hashlib.sha256(data).hexdigest(),
            vocab_size=self.processor.vocab_size(),
            end_of_document_id=found_id(number, name, path),
            beginning_of_document_id=self.beginning_id(special.beginning_of_document, path),
        )
        self.check_literals(name, special.beginning_of_document)

    def special_names(self) -> list[str]:
        """Return the names of the control tokens."""
        return [self.processor.id_to_piece(i) for i in range(self.vocab_size) if self.processor.is_control(i)]

    def token_id(self, name: str) -> int | None:
        """Return the id of a piece by its name."""
        number = self.processor.piece_to_id(name)
        return None if number == self.processor.unk_id() else number

    def find_end_of_document(self, asked: str | None) -> tuple[str | None, int | None]:
        """Return name and id of the piece asked for, else of the model's end of sentence or a usual name."""
        eos = self.processor.eos_id()
        if asked is None and eos >= 0:
            return self.processor.id_to_piece(eos), eos
        for name in [asked] if asked else END_OF_DOCUMENT_NAMES:
            number = self.processor.piece_to_id(name)
            if self.processor.id_to_piece(number) == name:
                return name, number
        return asked, None

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the int32 ids of each text, without any special token; uses all cores."""
        return [np.array(ids, dtype=np.int32) for ids in self.processor.encode(list(texts), num_threads=-1)]

    def decode(self, ids) -> str:
        """Return the text of ids; sentencepiece leaves control tokens out."""
        return self.processor.decode([int(i) for i in ids])


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


def recipe_tokenizer(wanted: Tokenizer, path=None) -> DocumentTokenizer:
    """Load the tokenizer of a recipe with the special tokens it asks for, from its path or another."""
    asked = SpecialTokens(wanted.end_of_document, wanted.beginning_of_document, wanted.tokens_in_documents)
    return load_tokenizer(path or wanted.path, special=asked)


def tokenizer_of(card: TokenizerCard) -> DocumentTokenizer:
    """Load the tokenizer a corpus was made with, with the ids that begin and end its documents.

    Raises CorpusError where another file has taken its place: its ids would be other text.
    """
    tokenizer = load_tokenizer(card.path, special=SpecialTokens(in_documents=tuple(card.tokens_in_documents)))
    if tokenizer.card.sha256 != card.sha256:
        raise CorpusError(
            f"{card.path}: not the file the corpus was made with (sha256 differs); put that back, or name it where a command has --tokenizer"
        )
    tokenizer.card = replace(
        tokenizer.card, end_of_document_id=card.end_of_document_id, beginning_of_document_id=card.beginning_of_document_id
    )
    return tokenizer


def found_id(number: int | None, name: str | None, path: Path) -> int:
    """Return the id of the end-of-document token, or raise CorpusError when the vocabulary lacks it."""
    if number is not None:
        return number
    if name is not None:
        raise CorpusError(f"{path}: no token {name!r} in its vocabulary; set tokenizer.end_of_document to one it has")
    usual = ", ".join(END_OF_DOCUMENT_NAMES)
    raise CorpusError(f"{path}: no end-of-document token: none of {usual}; name it in tokenizer.end_of_document")


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
