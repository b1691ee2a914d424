"""The tokenizer a recipe asks for: loaded, or trained on its documents where it is missing."""

from pathlib import Path

from codemix_megatron.corpus.disk import explaining_write_faults
from codemix_megatron.corpus.held_out import HeldOutRule
from codemix_megatron.corpus.how_to_prepare import Say, silent
from codemix_megatron.corpus.special_tokens import configured_end
from codemix_megatron.corpus.tokenizers import END_OF_TEXT, SENTINEL_FAMILIES, DocumentTokenizer, recipe_tokenizer, train_tokenizer
from codemix_megatron.corpus.training_sample import sample_texts
from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.filters import filtered_inputs
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.recipe.schema import Recipe, Tokenizer

__all__ = ["prepare_tokenizer", "say_end"]

# Ends of turns of chats, as instruction-tuned models have them.
ENDS_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|END_OF_TURN_TOKEN|>", "<|end|>")


def prepare_tokenizer(recipe: Recipe, *, say: Say | None = None) -> DocumentTokenizer:
    """Load the tokenizer of a recipe, training it when its file is missing and `train_vocab_size` is given.

    A file that is there is kept whatever its size: corpora and checkpoints may rest on it.
    """
    say = say or silent
    wanted, size = recipe.tokenizer, recipe.tokenizer.train_vocab_size
    there = Path(wanted.path).exists()
    if not there and size:
        named = {name: spec for name, spec in recipe.corpora.items() if spec.documents}
        corpora = [filtered_inputs(find_inputs(spec, where=f"corpora.{name}.documents"), spec.filters) for name, spec in named.items()]
        say(f"tokenizer: training {size} tokens for {wanted.path}")
        texts = sample_texts(corpora, rule=HeldOutRule(recipe.evaluation.held_out_share), seed=recipe.seed)
        if not texts:
            raise CorpusError(f"{wanted.path}: no documents to train a tokenizer on; name some under corpora.NAME.documents")
        with explaining_write_faults(wanted.path):
            train_tokenizer(texts, size, wanted.path, special_tokens=sentinel_names(recipe))
    tokenizer = recipe_tokenizer(wanted)
    say_end(tokenizer, wanted, say)
    if size and tokenizer.vocab_size != size:
        why = "remove the file to train it again" if there else "the documents hold no more pairs that occur twice"
        say(f"tokenizer: {wanted.path} has {tokenizer.vocab_size} tokens, the recipe asks for {size}; {why}")
    return tokenizer


def say_end(tokenizer: DocumentTokenizer, wanted: Tokenizer, say: Say) -> None:
    """Say where documents end with what ends a turn of a chat, because the tokenizer's settings name it, and it has another end of text."""
    configured = None if wanted.end_of_document else configured_end(Path(tokenizer.metadata.path))
    if configured in ENDS_OF_TURN and tokenizer.token_id(END_OF_TEXT) not in (None, tokenizer.end_of_document_id):
        say(
            f"tokenizer: documents end with {configured}, which the settings beside {tokenizer.metadata.path} name as end of text and which ends a"
            f" turn of a chat; tokenizer.end_of_document: {END_OF_TEXT!r} ends them with that instead"
        )


def sentinel_names(recipe: Recipe) -> list[str]:
    """Return the tokens that fill-in-the-middle needs, where a corpus asks for it."""
    asked = [spec.fill_in_the_middle for spec in recipe.corpora.values() if spec.fill_in_the_middle]
    return [name for spec in asked for name in spec.sentinels or SENTINEL_FAMILIES[0]]
