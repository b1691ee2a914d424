"""Tokenizers behind one small interface: Hugging Face's tokenizer.json, sentencepiece's .model, and training one."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import orjson

from codemix_megatron.corpus.unknown_text import UnknownText
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.records.manifest import TokenizerCard

__all__ = [
    "END_OF_TEXT",
    "SENTINEL_FAMILIES",
    "DocumentTokenizer",
    "HuggingFaceTokenizer",
    "SentencePieceTokenizer",
    "load_gpt2_tokenizer",
    "load_tokenizer",
    "train_tokenizer",
]

END_OF_TEXT = "<|endoftext|>"
# What tokenizers call the token after a document, the most telling first.
END_OF_DOCUMENT_NAMES = (
    END_OF_TEXT, "<|end_of_text|>", "<|endofdocument|>", "<|eod|>", "<|eos|>", "</s>", "<eos>", "<EOS>", "[EOS]", "<|im_end|>",
)  # fmt: skip

END_OF_TURN = "<|im_end|>"  # the last resort among them

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
        """Return the names of the special tokens; met in a document, they are text."""

    @abstractmethod
    def token_id(self, name: str) -> int | None:
        """Return the id of a token by its name, None where the vocabulary has none."""

    def without_ends(self, ids: np.ndarray) -> np.ndarray:
        """Return the ids of a document without the one that ends it."""
        return ids[:-1] if len(ids) and ids[-1] == self.end_of_document_id else ids

    def check_literals(self, end_of_document: str) -> None:
        """Raise CorpusError when the name of the special token, met in a document, would become its id."""
        if self.end_of_document_id in self.encode_batch([f"x{end_of_document} {end_of_document}"])[0]:
            raise CorpusError(
                f"{self.card.path}: a literal {end_of_document!r} in a document would end it, for the tokenizer treats this token as"
                " ordinary text; set tokenizer.end_of_document to a special token"
            )


class HuggingFaceTokenizer(DocumentTokenizer):
    """A tokenizer.json, read by the library `tokenizers`; `model` is its content, where there is no such file.

    With `adds_special_tokens`, texts get what the file's post-processor adds to each, such as a first token.
    """

    def __init__(self, path: Path, end_of_document: str | None = None, *, model: bytes | None = None, adds_special_tokens: bool = False):
        self.adds_special_tokens = adds_special_tokens
        try:
            data = path.read_bytes() if model is None else model
            self.model_bytes = mark_special(data.decode("utf-8"), end_of_document, configured_end(path)).encode()
            self.tokenizer = load_plain(self.model_bytes)
        except OSError as fault:
            raise CorpusError(f"{path}: cannot be read ({fault.strerror}); check the file and its permissions") from None
        except Exception as fault:  # the library raises bare Exceptions
            raise CorpusError(f"{path}: not Hugging Face's tokenizer.json ({fault}); give one, or a sentencepiece .model") from None
        self.unknown = unknown_to(orjson.loads(self.model_bytes))
        name = end_of_document or self.usual_end_of_document(configured_end(path))
        self.card = TokenizerCard(
            type="huggingface",
            path=str(path),
            sha256=hashlib.sha256(data).hexdigest(),
            vocab_size=max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1,
            end_of_document_id=found_id(self.tokenizer.token_to_id(name) if name else None, name, path),
        )
        self.check_literals(str(name))

    def __getstate__(self):
        return {**self.__dict__, "tokenizer": None}

    def __setstate__(self, state):
        self.__dict__ = {**state, "tokenizer": load_plain(state["model_bytes"])}  # its own pickling forgets encode_special_tokens

    def special_names(self) -> list[str]:
        """Return the names of the special tokens."""
        return [token.content for token in self.tokenizer.get_added_tokens_decoder().values()]

    def token_id(self, name: str) -> int | None:
        """Return the id of a token by its name."""
        return self.tokenizer.token_to_id(name)

    def usual_end_of_document(self, configured: str | None) -> str | None:
        """Return the name that tokenizer_config.json gives where it is a usual one, else the first usual one of the vocabulary, else that name.

        A chat model's configuration names what ends a turn, which is no usual end of a document.
        """
        usual = [name for name in END_OF_DOCUMENT_NAMES if self.tokenizer.token_to_id(name) is not None]
        if configured in usual and configured != END_OF_TURN:
            return configured
        return usual[0] if usual else configured

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the int32 ids of each text, without any special token; uses all cores."""
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=self.adds_special_tokens)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def decode(self, ids) -> str:
        """Return the text of ids, special tokens spelled out."""
        return self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=False)


def configured_end(path: Path) -> str | None:
    """Return the end token that the tokenizer_config.json beside a tokenizer names, None where there is none."""
    try:
        config = json.loads(path.with_name("tokenizer_config.json").read_text(encoding="utf-8"))
        name = config.get("eos_token")
    except (OSError, ValueError, AttributeError):
        return None
    name = name.get("content") if isinstance(name, dict) else name
    return name if isinstance(name, str) else None


def load_plain(model: bytes):
    """Return the library's tokenizer of a tokenizer.json, which cuts nothing, pads nothing and takes special tokens for text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.decode())
    tokenizer.no_truncation()  # some files carry the settings of their last use
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def unknown_to(plain: dict) -> UnknownText:
    """Return what the model of a tokenizer.json has no token for."""
    model = plain["model"]
    vocabulary = model.get("vocab", {})
    if model.get("byte_fallback"):
        return UnknownText()
    if isinstance(vocabulary, list):  # of a unigram model, pairs of piece and score
        return UnknownText(unknown_id=model.get("unk_id"))
    if model.get("unk_token") in vocabulary:
        return UnknownText(unknown_id=vocabulary[model["unk_token"]])
    if '"ByteLevel"' not in json.dumps(plain.get("pre_tokenizer")):
        return UnknownText()
    return UnknownText(bytes(byte for byte, character in byte_characters().items() if character not in vocabulary))


def byte_characters() -> dict[int, str]:
    """Return the character that stands for each byte in byte-level vocabularies, of the bytes that UTF-8 has (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    return {byte: character for byte, character in table.items() if byte not in (0xC0, 0xC1) and byte < 0xF5}


class SentencePieceTokenizer(DocumentTokenizer):
    """A .model, read by the library `sentencepiece`."""

    def __init__(self, path: Path, end_of_document: str | None = None):
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
        name, number = self.find_end_of_document(end_of_document)
        self.card = TokenizerCard(
            type="sentencepiece",
            path=str(path),
            sha256=hashlib.sha256(data).hexdigest(),
            vocab_size=self.processor.vocab_size(),
            end_of_document_id=found_id(number, name, path),
        )
        self.check_literals(str(name))

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
    return HuggingFaceTokenizer(Path(vocabulary), END_OF_TEXT, model=tokenizer.to_str().encode())


def load_tokenizer(path, end_of_document: str | None = None) -> DocumentTokenizer:
    """Load tokenizer.json or *.model, or a folder that holds one; raises CorpusError when it is no tokenizer.

    `end_of_document` names the token after each document; default: the first usual name, such as <|endoftext|>.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in ("tokenizer.json", "tokenizer.model") if (path / name).is_file()), path)
    if not path.is_file():
        raise CorpusError(f"{path}: no tokenizer there; give a tokenizer.json or a sentencepiece .model, or set tokenizer.train_vocab_size")
    loaders = {".json": HuggingFaceTokenizer, ".model": SentencePieceTokenizer}
    if path.suffix not in loaders:
        raise CorpusError(f"{path}: unknown suffix {path.suffix or 'none'!r}; give a tokenizer.json or a sentencepiece .model")
    return loaders[path.suffix](path, end_of_document)


def found_id(number: int | None, name: str | None, path: Path) -> int:
    """Return the id of the end-of-document token, or raise CorpusError when the vocabulary lacks it."""
    if number is not None:
        return number
    if name is not None:
        raise CorpusError(f"{path}: no token {name!r} in its vocabulary; set tokenizer.end_of_document to one it has")
    usual = ", ".join(END_OF_DOCUMENT_NAMES)
    raise CorpusError(f"{path}: no end-of-document token: none of {usual}; name it in tokenizer.end_of_document")


def mark_special(text: str, end_of_document: str | None, configured: str | None = None) -> str:
    """Return the JSON with the added end-of-document tokens marked special; unmarked ones are matched inside documents."""
    plain = orjson.loads(text)
    names = {end_of_document} if end_of_document else {*END_OF_DOCUMENT_NAMES, configured}
    tokens = [token for token in plain.get("added_tokens", ()) if token["content"] in names and not token["special"]]
    for token in tokens:
        token["special"] = True
    return json.dumps(plain) if tokens else text


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
