"""A fast encoder whose ids are compared with the reference's for every character that occurs, not only for a sample.

Libraries that agree on common text differ on rare characters: what counts as white space, as a letter, as assigned at all. Of each
character of a part, a text that puts it between letters, digits, signs, spaces and itself goes through both; of characters that
are no letters, digits or signs a longer one, and what stands around their first occurrence in the part. Documents with a character
that the two do not agree on are encoded by the reference.
"""

import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from codemix_megatron.corpus.encoders import Encoder

__all__ = ["CharacterProof", "ProvenEncoder"]

NEIGHBOURS = ("a", "1", ".", " ", "  ", "\n", "'", "\u0301")
ORDINARY = "LNPS"  # classes of characters that stand in words; others are controls, spaces, marks, and what Unicode has not assigned
COMMON = frozenset(map(chr, range(32, 127))) | {"\n", "\t"}  # an encoder that differs on one of these is not used at all
NUM_CODE_POINTS = 0x110000
ASCII = bytes(range(128))
NOT_THE_LIBRARYS = (KeyboardInterrupt, SystemExit, MemoryError)
WINDOW_CHARACTERS = 32  # of a text, on each side of a rare character
MOST_WINDOWS = 256  # of one batch; beyond that many rare characters the made texts alone decide


def probe(character: str) -> str:
    """Return a text in which a character stands where tokenizers are known to differ on it.

    >>> len(probe("é")) < 60 < len(probe("\\u180e"))
    True
    """
    c = character
    if unicodedata.category(c)[0] in ORDINARY:
        return f"a{c}b {c} x{c}\n  {c}\n{c}1{c}.{c}'{c}{c}s\t{c}  {c}{c}e\u0301{c}你{c}"
    sides = (*NEIGHBOURS, c)
    return "".join(f"{before}{c}{after}" for before, after in itertools.product(sides, sides)) + c


class CharacterProof:
    """What is known of each character, in all parts of this process, and which occurred in the current part."""

    def __init__(self) -> None:
        self.known = np.zeros(NUM_CODE_POINTS, dtype=bool)
        self.differing: set[str] = set()
        self.failing: set[str] = set()  # of these, those the fast library refuses, so that they need not be looked for
        self.begin_part()

    def begin_part(self) -> None:
        """Forget what occurred in the part before."""
        self.met = np.zeros(NUM_CODE_POINTS, dtype=bool)
        self.differing_here: set[str] = set()  # what stands around them in this part showed it
        self.arrange()

    def arrange(self) -> None:
        """Prepare the search for characters on which the encoders differ."""
        self.all_differing = self.differing | self.differing_here
        self.silent = pattern_of(self.all_differing - self.failing)
        self.any = pattern_of(self.all_differing)

    def new_characters(self, utf8: Sequence[bytes]) -> list[str]:
        """Return the characters beyond ASCII that this part shows for the first time."""
        beyond = b"".join([data.translate(None, ASCII) for data in utf8 if not data.isascii()])
        points = np.frombuffer(beyond.decode().encode("utf-32-le"), dtype="<u4")
        new = np.unique(points[~self.met[points]])
        self.met[new] = True
        return list(map(chr, new.tolist()))


class ProvenEncoder(Encoder):
    """A fast encoder, with the reference for documents on which it is not proved equal."""

    def __init__(self, fast: Encoder, reference: Encoder, missing_bytes: bytes = b""):
        self.fast, self.reference, self.name, self.missing_bytes = fast, reference, fast.name, missing_bytes
        self.proof = CharacterProof()
        self.learn([chr(point) for point in range(128)])
        self.begin_part()

    def begin_part(self) -> None:
        """Begin to count for a part."""
        self.proof.begin_part()
        self.num_by_reference = 0
        self.differing_met: set[str] = set()

    def findings(self) -> tuple[int, list[str]]:
        """Return (documents of this part that the reference encoded, characters of this part on which the two differ)."""
        return self.num_by_reference, sorted(f"U+{ord(character):04X}" for character in self.differing_met)

    def encode_flat(self, texts: Sequence[str], utf8: Sequence[bytes] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all texts end to end, and the number of ids of each text."""
        try:
            encoded = self.fast.encode_flat(texts)
        except NOT_THE_LIBRARYS:
            raise
        except BaseException:  # a library's own errors and Rust's panics, which are no Exceptions
            encoded = None
        new = self.proof.new_characters(utf8 or [text.encode() for text in texts if not text.isascii()])
        if new:
            self.learn(new)
            self.compare_occurrences(new, texts)
        pattern = self.proof.any if encoded is None else self.proof.silent
        doubtful = [pattern.search(text) is not None for text in texts] if pattern else [False] * len(texts)
        self.is_plain = encoded is not None and not any(doubtful)
        return encoded if encoded is not None and self.is_plain else self.encode_apart(texts, doubtful)

    def learn(self, characters: Sequence[str]) -> None:
        """Compare both encoders on texts made of characters that were not compared before."""
        new = [character for character in characters if not self.proof.known[ord(character)]]
        if new:
            differing, failing = self.compare(new, [probe(character) for character in new])
            lossy = {character for character in new if set(character.encode()).intersection(self.missing_bytes)}
            self.proof.differing |= differing | lossy
            self.proof.failing |= failing
            self.proof.known[[ord(character) for character in new]] = True
            self.proof.arrange()

    def compare(self, characters: Sequence[str], texts: Sequence[str]) -> tuple[set[str], set[str]]:
        """Return the characters whose text, one for each, both do not encode alike, and of these those the fast library refuses."""
        found = fast_pieces(self.fast, texts)
        wanted = pieces(self.reference, texts)
        failing = {character for character, ids in zip(characters, found, strict=True) if ids is None}
        differing = {c for c, a, b in zip(characters, found, wanted, strict=True) if a is None or not np.array_equal(a, b)}
        return differing, failing

    def compare_occurrences(self, characters: Sequence[str], texts: Sequence[str]) -> None:
        """Compare both encoders where rare characters stand in this part for the first time."""
        rare = [character for character in characters if unicodedata.category(character)[0] not in ORDINARY][:MOST_WINDOWS]
        if rare:
            self.proof.differing_here |= self.compare(rare, [window(character, texts) for character in rare])[0]
            self.proof.arrange()

    def encode_apart(self, texts: Sequence[str], doubtful: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
        """Encode doubtful texts, and those that the fast library cannot encode, by the reference."""
        trusted = [text for text, is_doubtful in zip(texts, doubtful, strict=True) if not is_doubtful]
        fast = iter(fast_pieces(self.fast, trusted))
        found = [None if is_doubtful else next(fast) for is_doubtful in doubtful]
        missing = [text for text, ids in zip(texts, found, strict=True) if ids is None]
        self.num_by_reference += len(missing)
        self.differing_met |= {character for text in missing for character in self.proof.all_differing.intersection(text)}
        slow = iter(pieces(self.reference, missing))
        whole = [next(slow) if ids is None else ids for ids in found]
        lengths = np.array([len(ids) for ids in whole], dtype=np.int64)
        return np.concatenate([np.empty(0, np.uint32), *(ids.astype(np.uint32) for ids in whole)]), lengths


def pattern_of(characters: set[str]) -> re.Pattern[str] | None:
    """Return an expression that finds any of the characters, None for none."""
    return re.compile(f"[{''.join(map(re.escape, sorted(characters)))}]") if characters else None


def window(character: str, texts: Sequence[str]) -> str:
    """Return what stands around the first occurrence of a character."""
    for text in texts:
        position = text.find(character)
        if position >= 0:
            return text[max(0, position - WINDOW_CHARACTERS) : position + WINDOW_CHARACTERS + 1]
    return character


def pieces(encoder: Encoder, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the ids of each text."""
    if not texts:
        return []
    ids, lengths = encoder.encode_flat(texts)
    return np.split(ids, np.cumsum(lengths)[:-1])


def fast_pieces(encoder: Encoder, texts: Sequence[str], split: Callable = pieces) -> Sequence[np.ndarray | None]:
    """Return the ids of each text, None for one that a fast library cannot encode."""
    try:
        return split(encoder, texts)
    except NOT_THE_LIBRARYS:
        raise
    except BaseException:
        if len(texts) == 1:
            return [None]
        middle = len(texts) // 2
        return [*fast_pieces(encoder, texts[:middle]), *fast_pieces(encoder, texts[middle:])]
