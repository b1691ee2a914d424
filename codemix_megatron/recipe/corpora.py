"""What is read and how it becomes sequences: blocks `tokenizer`, `corpora` and `sequences` of a recipe."""

from dataclasses import dataclass
from typing import Literal, get_args

from codemix_megatron.recipe.conversations import Conversations
from codemix_megatron.recipe.fields import option
from codemix_megatron.recipe.filtering import FilterSpec

__all__ = ["KINDS", "NAMED_READERS", "CorpusSpec", "FillInTheMiddle", "Repositories", "Sequences", "Tokenizer"]

Kind = Literal["text", "code", "markup", "code_adjacent", "synthetic"]
KINDS: tuple[str, ...] = get_args(Kind)
NAMED_READERS = ("git", "issues", "repositories", "stackexchange")  # what may stand before a path of `documents`, with a colon


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """One tokenizer for all corpora of a recipe."""

    path: str = option("tokenizer.json (Hugging Face) or *.model (sentencepiece)")
    train_vocab_size: int | None = option("train a byte-level BPE of this size from the corpora when `path` is missing", None)
    end_of_document: str | None = option("token after each document; default: the tokenizer's own end of text", None)
    beginning_of_document: str | None = option("token before each document, such as <s>; default: none", None)
    tokens_in_documents: tuple[str, ...] = option(
        "added tokens that become their ids where a document spells them out; others are text", ()
    )


@dataclass(frozen=True, kw_only=True)
class FillInTheMiddle:
    """Documents rewritten as prefix, suffix, middle while they are read (Bavarian et al. 2022); the corpus stays as it is."""

    rate: float = option("share of documents that are rewritten", 0.5)
    spm_share: float = option("share of these written suffix, prefix, middle instead of prefix, suffix, middle", 0.5)
    languages: dict[str, float] = option("rate of documents in a language, instead of `rate`", factory=dict, reader="rates")
    cut: Literal["character", "token"] = option("where documents are cut; sentencepiece models need token", "character")
    sentinels: tuple[str, ...] = option(
        "names of the tokens before prefix, middle, suffix; default: those of a family the tokenizer has", ()
    )


@dataclass(frozen=True, kw_only=True)
class Repositories:
    """How the files of a repository become documents; beside `repositories:` in `documents`."""

    order: Literal["imports", "path"] = option("what is imported first, or by path", "imports")
    longest_bytes: int = option("most bytes of text in one document; a longer file is one by itself", 1 << 20)


@dataclass(frozen=True, kw_only=True)
class CorpusSpec:
    """One corpus: documents in, PREFIX.bin and PREFIX.idx out."""

    kind: Kind = option("which side of the mixture it is on", "text")
    documents: tuple[str, ...] = option(
        "files, folders, globs, URLs; git:, repositories:REPOSITORY, issues:FILE, stackexchange:POSTS.XML; python:text,"
        " python:code and python:code-without-docstrings",
        (),
    )
    prefix: str | None = option(
        "where .bin/.idx are; a URL (s3://...) is read through a local cache; default: corpora/NAME beside the recipe", None
    )
    text_key: str = option("key of the text in JSON lines, column of tables", "text")
    language_key: str | None = option("key of the language; default: lang, language, programming_language", None)
    licence_key: str | None = option("key of the licence; default: license, licence and those of The Stack", None)
    origin_key: str | None = option("key of where a document is from; default: source, url, repo_name", None)
    text_documents: Literal["file", "line", "paragraph"] = option(
        "what is one document of a .txt file; blank lines part paragraphs", "file"
    )
    repositories: Repositories = option("files of a repository in one document", factory=Repositories)
    shuffle: bool = option("write documents in an order drawn from the recipe's seed, not that of the input", False)
    conversations: Conversations | None = option("records are conversations, of which answers are learned", None)
    fill_in_the_middle: FillInTheMiddle | None = option("rewrite documents for infilling while they are read", None)
    filters: FilterSpec = option("what is left out or masked", factory=FilterSpec)
    max_epochs: float = option("most passes over its data in the whole recipe", 4.0)
    beyond_max_epochs: Literal["refuse", "warn"] = option(
        "what happens to a plan that reads it more often: refused, or told with its price", "refuse"
    )


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """How documents become sequences."""

    packing: Literal["concatenate", "best_fit"] = option(
        "windows over joined documents, or whole documents packed without cutting", "concatenate"
    )
    attention_within_documents: bool = option("tokens see only their own document", False)
    learn_across_documents: bool = option("learn to write the first token of a document after the end of the one before it", True)
    corpus_share: float = option(
        "each corpus counts as this share of itself, so that a small run repeats it as often as a large one will; see codemix plan --simulate-tokens",
        1.0,
    )
