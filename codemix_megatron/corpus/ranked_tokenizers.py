"""Tokenizers kept as ranks of byte strings - Meta's tokenizer.model of Llama 3 (tiktoken's form), Mistral's tekken.json - as a tokenizer.json.

The rank of a token is the order in which pairs are joined into it, so that merges follow from the ranks alone. How a text is cut before that
and which special tokens there are stands in tekken.json, and for Llama 3 in Meta's code.
"""

import base64
import binascii
import json
from pathlib import Path

from codemix_megatron.errors import CorpusError

__all__ = ["tiktoken_ranks", "tokenizer_json_of"]

# Meta's llama3/tokenizer.py and llama-models: 128,000 byte strings, then 256 special tokens.
LLAMA_3_TOKENS, LLAMA_3_SPECIAL = 128_000, 256
LLAMA_3_CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_3_NAMES = {0: "<|begin_of_text|>", 1: "<|end_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>", 9: "<|eot_id|>"}
# Of tekken.json before version 7, which lists none: mistral-common's.
TEKKEN_NAMES = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]",
    "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip


def tokenizer_json_of(data: bytes, path: Path) -> bytes | None:
    """Return the content of a tokenizer.json with the same ids; None where the file is of neither form."""
    if path.suffix == ".json":
        plain = read_json(data)
        is_tekken = isinstance(plain, dict) and isinstance(plain.get("vocab"), list) and isinstance(plain.get("config"), dict)
        return tekken(plain, path) if is_tekken else None
    ranks = tiktoken_ranks(data) if path.suffix == ".model" else None
    return None if ranks is None else llama_3(ranks, path)


def read_json(data: bytes):
    """Return what JSON says, None where it is none."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def tiktoken_ranks(data: bytes) -> dict[bytes, int] | None:
    """Return byte string -> rank of tiktoken's form, a line each; None where a file is of another form, such as sentencepiece's."""
    ranks: dict[bytes, int] = {}
    for line in data.splitlines():
        word, _, rank = line.partition(b" ")
        try:
            ranks[base64.b64decode(word, validate=True)] = int(rank)
        except (binascii.Error, ValueError):
            return None
    return ranks or None


def llama_3(ranks: dict[bytes, int], path: Path) -> bytes:
    """Return Llama 3's tokenizer.json; raises CorpusError for another model's ranks, which do not say how text is cut."""
    if len(ranks) != LLAMA_3_TOKENS or sorted(ranks.values()) != list(range(LLAMA_3_TOKENS)):
        raise CorpusError(
            f"{path}: ranks of {len(ranks)} tokens in tiktoken's form, which do not say how text is cut nor which special tokens there are; known"
            f" is Llama 3's with {LLAMA_3_TOKENS}. Give the model's tokenizer.json, as transformers saves it"
        )
    names, reserved = [], 0
    for number in range(LLAMA_3_SPECIAL):
        if number in LLAMA_3_NAMES:
            names.append(LLAMA_3_NAMES[number])
        else:
            names.append(f"<|reserved_special_token_{reserved}|>")
            reserved += 1
    return byte_level(ranks, LLAMA_3_CUT, 0, dict(enumerate(names, LLAMA_3_TOKENS)), path)


def tekken(plain: dict, path: Path) -> bytes:
    """Return tekken.json's tokenizer.json: special tokens have the first ids."""
    try:
        config = plain["config"]
        special, size, cut = config["default_num_special_tokens"], config["default_vocab_size"], config["pattern"]
        entries = plain["vocab"][: size - special]
        ranks = {base64.b64decode(entry["token_bytes"], validate=True): entry["rank"] for entry in entries}
        listed = plain.get("special_tokens")
        names = list(TEKKEN_NAMES) if listed is None else [entry["token_str"] for entry in sorted(listed, key=lambda entry: entry["rank"])]
        names = (names + [f"<SPECIAL_{number}>" for number in range(len(names), special)])[:special]
        if sorted(ranks.values()) != list(range(size - special)) or len(set(names)) != special:
            raise ValueError("ranks or special tokens are not counted through")
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise CorpusError(f"{path}: not a tekken.json ({type(fault).__name__}: {fault}); get it again, or give a tokenizer.json") from None
    return byte_level(ranks, cut, special, dict(enumerate(names)), path)


def byte_level(ranks: dict[bytes, int], cut: str, first: int, special: dict[int, str], path: Path) -> bytes:
    """Return a tokenizer.json of byte-level BPE whose ids are the ranks counted from `first`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    letters = byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    vocabulary = {spelled[token]: rank + first for token, rank in ranks.items()} | {name: number for number, name in special.items()}
    if len(vocabulary) != len(ranks) + len(special):
        raise CorpusError(f"{path}: a special token is spelled as another token; get it again, or give a tokenizer.json")
    merges = [(spelled[left], spelled[right]) for left, right in merges_of(ranks)]
    try:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, fuse_unk=False, ignore_merges=True))
        parts = [pre_tokenizers.Split(Regex(cut), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    except Exception as fault:  # the library raises bare Exceptions
        raise CorpusError(f"{path}: makes no tokenizer ({fault}); get it again, or give a tokenizer.json") from None
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for _, name in sorted(special.items())])
    return tokenizer.to_str().encode()


def merges_of(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return every pair of tokens that makes a token, in the order in which they are joined."""
    merges = []
    for token, _ in sorted(ranks.items(), key=lambda entry: entry[1]):
        pairs = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges


def byte_letters() -> list[str]:
    """Return the letter that byte-level BPE writes for each byte: itself where it can be seen, else one from 256 on (GPT-2's table)."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in seen}
    others = [byte for byte in range(256) if byte not in letters]
    letters |= {byte: chr(256 + number) for number, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]
