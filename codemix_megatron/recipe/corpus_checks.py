"""Faults in the corpora of a recipe."""

from codemix_megatron.recipe.conversations import conversation_faults
from codemix_megatron.recipe.filtering import filter_faults
from codemix_megatron.recipe.schema import FillInTheMiddle, Recipe

__all__ = ["corpus_faults"]


def corpus_faults(recipe: Recipe) -> list[str]:
    """Check corpora among themselves."""
    faults: list[str] = []
    owners: dict[str | None, str] = {}
    readers: dict[str, str] = {}
    for name, spec in recipe.corpora.items():
        if spec.prefix in owners:
            faults.append(f"corpora.{name}.prefix: {spec.prefix} is also that of corpora.{owners[spec.prefix]}")
        owners[spec.prefix] = name
        for i, document in enumerate(spec.documents):
            if document in readers and readers[document] != name:
                faults.append(
                    f"corpora.{name}.documents[{i}]: {document} is also read by corpora.{readers[document]}; one of them has to go"
                )
            readers.setdefault(document, name)
        if spec.max_epochs <= 0:
            faults.append(f"corpora.{name}.max_epochs: found {spec.max_epochs}, must be above 0")
        faults += middle_faults(spec.fill_in_the_middle, f"corpora.{name}.fill_in_the_middle")
        if spec.repositories.longest_bytes < 1:
            faults.append(f"corpora.{name}.repositories.longest_bytes: found {spec.repositories.longest_bytes}, must be at least 1")
        faults += conversation_faults(spec.conversations, f"corpora.{name}.conversations", rewrites=spec.fill_in_the_middle is not None)
        faults += filter_faults(spec.filters, f"corpora.{name}.filters")
    if not 0 < recipe.sequences.corpus_share <= 1:
        faults.append(f"sequences.corpus_share: found {recipe.sequences.corpus_share}, allowed are above 0 to 1")
    vocab_size = recipe.tokenizer.train_vocab_size
    if vocab_size is not None and not 260 <= vocab_size <= 1_000_000:
        faults.append(f"tokenizer.train_vocab_size: found {vocab_size}, allowed are 260 to 1000000")
    return faults


def middle_faults(spec: FillInTheMiddle | None, path: str) -> list[str]:
    """Check the shares of fill-in-the-middle and the number of its sentinels."""
    if spec is None:
        return []
    rates = {"rate": spec.rate, "spm_share": spec.spm_share, **{f"languages.{name}": rate for name, rate in spec.languages.items()}}
    faults = [f"{path}.{key}: found {rate}, allowed are 0 to 1" for key, rate in rates.items() if not 0 <= rate <= 1]
    if spec.sentinels and len(set(spec.sentinels)) != 3:
        faults.append(f"{path}.sentinels: found {', '.join(spec.sentinels)}; needs three names: before prefix, middle, suffix")
    return faults
