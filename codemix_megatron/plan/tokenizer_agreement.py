"""Whether ids mean the same to the corpora, the recipe's tokenizer and a public model that training starts from."""

import json
from pathlib import Path

from codemix_megatron.corpus.model_first_token import model_first_token
from codemix_megatron.corpus.ranked_tokenizers import tiktoken_ranks
from codemix_megatron.errors import CodemixError, CorpusError
from codemix_megatron.recipe.pretrained import PREFIX, find_tokenizer
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata

__all__ = ["corpus_tokenizer_faults", "first_token_warnings", "pretrained_tokenizer_faults", "refuse_other_ids", "vocabulary_of"]

IDS_NAMED = 3  # in a message


def corpus_tokenizer_faults(recipe: Recipe, manifests: dict[str, CorpusManifest]) -> list[str]:
    """Compare the recipe's tokenizer file, where it is there, with the checksum of the one that corpora were made with."""
    path = Path(recipe.tokenizer.path)
    if not manifests or not path.is_file():
        return []
    ours, faults = file_sha256(path), []
    asked = recipe.tokenizer
    own = special_ids(recipe) if asked.end_of_document or asked.beginning_of_document else None
    for name, manifest in manifests.items():
        metadata = manifest.tokenizer
        if metadata.sha256 != ours:
            faults.append(
                f"corpora.{name}: made with another tokenizer (sha256 {metadata.sha256[:12]}, {metadata.path}) than tokenizer.path {path}"
                f" ({ours[:12]}); name that one, or run `codemix prepare` again"
            )
        elif own and asked.beginning_of_document and own.beginning_of_document_id != metadata.beginning_of_document_id:
            found = "none" if metadata.beginning_of_document_id is None else f"id {metadata.beginning_of_document_id}"
            faults.append(
                f"corpora.{name}: the token its documents begin with is {found}, tokenizer.beginning_of_document {asked.beginning_of_document}"
                f" is id {own.beginning_of_document_id}; run `codemix prepare` again, or leave it out"
            )
        elif own and asked.end_of_document and (end := own.end_of_document_id) != metadata.end_of_document_id:
            faults.append(
                f"corpora.{name}: its documents end in id {metadata.end_of_document_id}, tokenizer.end_of_document"
                f" {recipe.tokenizer.end_of_document} is id {end}; run `codemix prepare` again, or name that one"
            )
    return faults


def special_ids(recipe: Recipe) -> TokenizerMetadata:
    """Return the metadata of the recipe's tokenizer, with the ids of the tokens it begins and ends documents with."""
    from codemix_megatron.corpus.tokenizers import recipe_tokenizer

    return recipe_tokenizer(recipe.tokenizer).metadata


def pretrained_tokenizer_faults(recipe: Recipe, manifests: dict[str, CorpusManifest]) -> list[str]:
    """Compare what ids mean in the corpora and to the public model that training starts from, as long as its folder is there."""
    start = recipe.initial_weights or ""
    if not manifests or not start.startswith(PREFIX) or not Path(start.removeprefix(PREFIX)).is_dir():
        return []
    metadata = next(iter(manifests.values())).tokenizer
    try:
        theirs = find_tokenizer(Path(start.removeprefix(PREFIX)))
        refuse_other_ids(metadata, recipe.tokenizer.path, file_sha256(theirs), str(theirs), "initial_weights")
    except CodemixError as fault:
        return [str(fault)]
    return []


def first_token_warnings(recipe: Recipe, begins: bool) -> list[str]:
    """Warn where texts of a public model begin with a token and documents of the corpora do not (`begins`).

    Its folder may be gone when a run is resumed; nothing is said then.
    """
    start = recipe.initial_weights or ""
    name = model_first_token(Path(start.removeprefix(PREFIX))) if start.startswith(PREFIX) else None
    if name is None or begins:
        return []
    return [
        f"initial_weights: the tokenizer of {start.removeprefix(PREFIX)} puts {name} before each text, and no document of the corpora begins with"
        f" it: the model would train on texts as it has not seen them; set tokenizer.beginning_of_document: {json.dumps(name)} and run"
        " `codemix prepare` again"
    ]


def refuse_other_ids(metadata: TokenizerMetadata, path: str, sha256: str, other_path: str, key: str) -> None:
    """Raise CorpusError when ids of the corpora (`metadata`; its file may be at `path` too) are other tokens to the tokenizer of a model.

    One file is the same by its checksum; two are compared token by token. Tokens the corpora have beyond the model's may be new.
    """
    if metadata.sha256 == sha256:
        return
    ours = next((p for p in (Path(metadata.path), Path(path)) if p.is_file() and file_sha256(p) == metadata.sha256), None)
    there = Path(other_path).is_file() and file_sha256(Path(other_path)) == sha256
    if ours is None or not there:
        missing = other_path if ours is not None else metadata.path
        raise CorpusError(
            f"{key}: the corpora were made with another tokenizer (sha256 {metadata.sha256[:12]}) than the model's ({sha256[:12]}), and they cannot"
            f" be compared, for {missing} is not there as it was; put it back, or prepare the corpora with the model's tokenizer"
        )
    mine, theirs = vocabulary_of(ours), vocabulary_of(other_path)
    different = [number for number in sorted(mine) if number in theirs and mine[number] != theirs[number]]
    if different:
        shown = ", ".join(f"id {n} is {mine[n]!r} here and {theirs[n]!r} there" for n in different[:IDS_NAMED])
        raise CorpusError(
            f"{key}: {len(different)} of {len(mine)} ids of the corpora ({ours}) are other tokens to the model ({other_path}): {shown};"
            " prepare the corpora with the model's tokenizer"
        )


def vocabulary_of(path) -> dict[int, str]:
    """Return id -> token of a tokenizer.json or a sentencepiece model."""
    try:
        if Path(path).suffix == ".model" and tiktoken_ranks(Path(path).read_bytes()) is None:
            from sentencepiece import SentencePieceProcessor

            pieces = SentencePieceProcessor(model_file=str(path))
            return {number: pieces.id_to_piece(number) for number in range(pieces.get_piece_size())}
        from tokenizers import Tokenizer

        from codemix_megatron.corpus.tokenizers import tokenizer_json

        return {
            number: token for token, number in Tokenizer.from_str(tokenizer_json(path).decode()).get_vocab(with_added_tokens=True).items()
        }
    except Exception as fault:  # both libraries raise bare Exceptions
        raise CorpusError(f"{path}: not a tokenizer that can be read ({fault})") from None
