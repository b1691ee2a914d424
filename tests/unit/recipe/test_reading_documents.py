"""What documents are made of is the same wherever a project lies."""

from codemix_megatron.recipe.conversations import Conversations
from codemix_megatron.recipe.corpora import CorpusSpec
from codemix_megatron.recipe.reading_documents import KEYS, how_documents_are_read


def test_template_counts_by_its_file_and_all_keys_are_there():
    def of(template: str) -> dict:
        conversations = Conversations(template=template)
        return how_documents_are_read(
            CorpusSpec(kind="text", documents=("x.jsonl",), prefix="x", text_key="body", conversations=conversations)
        )

    here, there = of("/home/me/study/chat.jinja"), of("/scratch/chat.jinja")
    assert here == there != of("/scratch/other.jinja")
    assert tuple(here) == KEYS and here["text_key"] == "body" and here["conversations"]["template"] == "chat.jinja"


def test_corpus_without_conversations_has_none():
    assert how_documents_are_read(CorpusSpec(kind="text", documents=("x.jsonl",), prefix="x"))["conversations"] is None
