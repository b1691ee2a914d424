"""Corpora of conversations: the block under `corpora.NAME.conversations`."""

from dataclasses import dataclass
from typing import Literal

from codemix_megatron.recipe.fields import option

__all__ = ["OF_TOKENIZER", "PLAIN", "Conversations", "conversation_faults"]

PLAIN, OF_TOKENIZER = "plain", "tokenizer"


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Records are conversations: messages, prompt and completion, or Dolly's and Alpaca's columns."""

    template: str = option(
        "plain; tokenizer: the chat template beside the recipe's tokenizer; or a file that holds one (.jinja, tokenizer_config.json)", PLAIN
    )
    learn: Literal["answers", "everything"] = option("tokens that are learned; answers end with what ends their turn", "answers")
    system: str | None = option("a system message for conversations that have none", None)


def conversation_faults(spec: Conversations | None, path: str, *, rewrites: bool) -> list[str]:
    """Return one line per fault; `rewrites` says whether documents of the corpus are rewritten for infilling."""
    if spec is None or not rewrites:
        return []
    return [f"{path}: {path.rpartition('.')[0]}.fill_in_the_middle would move answers out of their turns; remove one of the two"]
