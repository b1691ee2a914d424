"""A tokenizer of three sentinels, for documents that are cut between tokens."""

from codemix_megatron.records.manifest import TokenizerMetadata


class Ids:
    """All that cutting between tokens asks of a tokenizer; documents begin with an id of their own where one is given."""

    end_of_document_id = 0

    def __init__(self, beginning_of_document_id: int | None = None, **others: int):
        self.ids = {"<p>": 901, "<m>": 902, "<s>": 903, **others}
        self.metadata = TokenizerMetadata(
            type="huggingface", path="", sha256="", vocab_size=1000, end_of_document_id=0, beginning_of_document_id=beginning_of_document_id
        )

    def token_id(self, name: str) -> int | None:
        """Return the id of a sentinel."""
        return self.ids.get(name)
