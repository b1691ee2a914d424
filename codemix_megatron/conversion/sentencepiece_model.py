"""A sentencepiece .model as Hugging Face's tokenizer.json, with the same ids.

transformers converts such a file itself when it loads a folder, in another way in each version, and some give runs of
spaces or a space at the beginning other ids. So it is written once, here, and compared with sentencepiece.
"""

from itertools import zip_longest
from typing import Any

from codemix_megatron.conversion.sample_texts import TOKENIZER_TEXTS
from codemix_megatron.errors import ConversionError

__all__ = ["convert_sentencepiece"]

UNIGRAM, BPE = 1, 2  # model_type of sentencepiece_model.proto
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # type of a piece there
SPACE = "▁"


def convert_sentencepiece(model: bytes, where) -> Any:
    """Return a `tokenizers.Tokenizer` that gives every text of TOKENIZER_TEXTS the ids of sentencepiece; else raise ConversionError."""
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

    proto = vars(sentencepiece_model_pb2)["ModelProto"].FromString(model)  # protobuf makes the class when it is imported
    if proto.trainer_spec.model_type not in (UNIGRAM, BPE):
        raise ConversionError(f"{where}: a sentencepiece model of words or characters; only BPE and unigram fit into a tokenizer.json")
    reference, converted = SentencePieceProcessor(model_proto=model), build_tokenizer(proto)
    symbols = [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]
    for text in (*TOKENIZER_TEXTS, *(f"x{symbol}y {symbol} z" for symbol in symbols)):
        expected, found = reference.encode(text), converted.encode(text, add_special_tokens=False).ids
        if expected != found:
            at = next(i for i, (a, b) in enumerate(zip_longest(expected, found)) if a != b)
            raise ConversionError(
                f"{where}: no tokenizer.json gives this sentencepiece model's ids: {text[:40]!r} becomes"
                f" {list(map(reference.id_to_piece, expected[at : at + 4]))} there and"
                f" {list(map(converted.id_to_token, found[at : at + 4]))} here after {at} equal ids; models without byte_fallback are"
                " known to, and normalizers of their own; train with another tokenizer, or put the model's own tokenizer.json beside it"
            )
    return converted


def build_tokenizer(proto) -> Any:
    """Return the tokenizer a sentencepiece model describes: its pieces, merges by score, normalization and decoding."""
    from tokenizers import AddedToken, Tokenizer, decoders

    tokenizer = Tokenizer(merging_model(proto) if proto.trainer_spec.model_type == BPE else unigram_model(proto))
    tokenizer.normalizer = normalizer_of(proto.normalizer_spec)
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*steps, decoders.Strip(content=" ", left=1)] if proto.normalizer_spec.add_dummy_prefix else steps
    )
    added = [piece for piece in proto.pieces if piece.type in (CONTROL, USER_DEFINED) or piece.piece == proto.trainer_spec.unk_piece]
    tokenizer.add_tokens([AddedToken(piece.piece, normalized=False, special=piece.type != USER_DEFINED) for piece in added])
    return tokenizer


def merging_model(proto) -> Any:
    """Return the BPE model: sentencepiece joins the two neighbours whose joint piece scores best, so merges are ordered by that."""
    from tokenizers import models

    ids = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    joinable = {piece.piece for piece in proto.pieces if piece.type in (NORMAL, USER_DEFINED)}
    merges = []
    for piece in proto.pieces:
        if piece.type == NORMAL:
            cuts = ((piece.piece[:at], piece.piece[at:]) for at in range(1, len(piece.piece)))
            merges += [(-piece.score, ids[piece.piece], ids[a], ids[b], a, b) for a, b in cuts if a in joinable and b in joinable]
    spec = proto.trainer_spec
    pairs = [(a, b) for *_, a, b in sorted(merges)]
    return models.BPE(ids, pairs, unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=spec.byte_fallback)


def unigram_model(proto) -> Any:
    """Return the unigram model."""
    from tokenizers import models

    pieces, spec = [(piece.piece, piece.score) for piece in proto.pieces], proto.trainer_spec
    return models.Unigram(pieces, unk_id=spec.unk_id, byte_fallback=spec.byte_fallback)


def normalizer_of(spec) -> Any:
    """Return what sentencepiece does to a text first."""
    from tokenizers import Regex, normalizers

    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex("^ +| +$"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", SPACE)])
